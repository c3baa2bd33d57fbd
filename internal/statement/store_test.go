package statement

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// A folder is listed whole or not at all.
func TestListIsWhole(t *testing.T) {
	dir := t.TempDir()
	for i := range 5 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if names, err := Dir(dir).list(".", 5); err != nil || len(names) != 5 {
		t.Errorf("%v, %v", names, err)
	}
	var e *Error
	if names, err := Dir(dir).list(".", 4); !errors.As(err, &e) || e.Rule != "size" || names != nil {
		t.Errorf("%v, %v", names, err)
	}
}
