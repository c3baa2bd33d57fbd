package state

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestPrivate(t *testing.T) {
	for _, tt := range []struct {
		mode os.FileMode
		ok   bool
	}{{0o700, true}, {0o500, true}, {0o750, false}, {0o701, false}, {0o777, false}, {0o702, false}} {
		dir := filepath.Join(t.TempDir(), "state")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, tt.mode); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir); (err == nil) != tt.ok || err != nil && !errors.Is(err, ErrExposed) {
			t.Errorf("mode %o: %v", tt.mode, err)
		}
	}
}

func TestReplace(t *testing.T) {
	d, err := Open(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	if b, err := d.Read("none"); b != nil || err != nil {
		t.Errorf("a file that is not there: %q, %v", b, err)
	}
	for _, text := range []string{"one", "two"} {
		if err := d.Replace("file", []byte(text)); err != nil {
			t.Fatal(err)
		}
		if b, err := d.Read("file"); string(b) != text || err != nil {
			t.Errorf("reads %q, %v", b, err)
		}
	}
	if info, err := os.Stat(d.Path("file")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	names, err := os.ReadDir(string(d))
	if err != nil || len(names) != 1 {
		t.Errorf("left behind: %v, %v", names, err)
	}
	// Room that was made ahead is no part of the content.
	if err := d.Ahead("file", 100); err != nil {
		t.Fatal(err)
	}
	if err := d.Replace("file", []byte("two")); err != nil {
		t.Fatal(err)
	}
	if b, err := d.Read("file"); string(b) != "two" || err != nil {
		t.Errorf("reads %q, %v", b, err)
	}
	// What cannot be written leaves the old content.
	if err := os.Mkdir(d.Path(".file.new"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := d.Replace("file", []byte("three")); err == nil {
		t.Error("written through a directory")
	}
	if b, _ := d.Read("file"); string(b) != "two" {
		t.Errorf("reads %q", b)
	}
}
