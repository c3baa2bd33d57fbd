package offline

import (
	"os"
	"path/filepath"
	"testing"
)

// TestRequestGoesNowhereElse: who has a process taken over makes its ledger's folder a link, and root leaves nothing behind it.
func TestRequestGoesNowhereElse(t *testing.T) {
	dir, elsewhere := filepath.Join(t.TempDir(), "ledger"), t.TempDir()
	if err := os.Symlink(elsewhere, dir); err != nil {
		t.Fatal(err)
	}
	if err := RequestRotation(dir); err == nil {
		t.Error("a request was left through a link")
	}
	if err := RequestRetirement(dir, []byte("{}")); err == nil {
		t.Error("a retirement was left through a link")
	}
	if names, err := os.ReadDir(elsewhere); err != nil || len(names) > 0 {
		t.Errorf("behind the link: %v, %v", names, err)
	}
}
