package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestReplaceAndCreate(t *testing.T) {
	for _, c := range []struct {
		name   string
		write  func(path string, content []byte, mode fs.FileMode) error
		mode   fs.FileMode
		folder fs.FileMode
		over   error // where there is a file already
	}{
		{"replace for the owner", Replace, 0o600, 0o700, nil},
		{"replace for all", Replace, 0o644, 0o755, nil},
		{"replace for the group", Replace, 0o640, 0o750, nil},
		{"create", Create, 0o600, 0o700, fs.ErrExist},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "a", "b")
			path := filepath.Join(dir, "file")
			if c.over != nil {
				if err := c.write(path, nil, c.mode); !errors.Is(err, fs.ErrNotExist) {
					t.Fatalf("without a folder: %v", err)
				}
				if err := os.MkdirAll(dir, c.folder); err != nil {
					t.Fatal(err)
				}
			}
			if err := c.write(path, []byte("old"), c.mode); err != nil {
				t.Fatal(err)
			}
			holds(t, path, "old", c.mode)
			if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != c.folder {
				t.Errorf("the folder: %v, %v", info.Mode(), err)
			}
			if err := c.write(path, []byte("new, and longer"), c.mode); !errors.Is(err, c.over) {
				t.Fatalf("over the old file: %v", err)
			}
			want := "new, and longer"
			if c.over != nil {
				want = "old"
			}
			holds(t, path, want, c.mode)
			alone(t, dir)
		})
	}
}

// What goes wrong before the file has its name leaves the old one, and nothing else.
func TestFailureLeavesTheOld(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := Replace(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	full := errors.New("the disk is full")
	later := false
	err := Put(path, []byte("new"), 0o600, func(*os.File) error { return full }, func(*os.File) error { later = true; return nil })
	if !errors.Is(err, full) || later {
		t.Errorf("%v, next step done: %v", err, later)
	}
	holds(t, path, "old", 0o600)
	alone(t, dir)
}

// Steps see the whole content under another name.
func TestStepsComeBeforeTheName(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	err := Put(path, []byte("content"), 0o640, func(f *os.File) error {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Error("the file has its name already")
		}
		holds(t, f.Name(), "content", 0o640)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	holds(t, path, "content", 0o640)
}

// A link at the path is replaced, not followed.
func TestLinkIsNotFollowed(t *testing.T) {
	dir := t.TempDir()
	aim, path := filepath.Join(dir, "aim"), filepath.Join(dir, "link")
	if err := errors.Join(os.WriteFile(aim, []byte("untouched"), 0o600), os.Symlink(aim, path)); err != nil {
		t.Fatal(err)
	}
	if err := Replace(path, []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	holds(t, aim, "untouched", 0o600)
	holds(t, path, "new", 0o600)
}

func TestAppendAfterATornLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lines")
	for _, line := range []string{"one", "two\n"} {
		if err := Append(path, []byte(line)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Truncate(path, 9); err != nil { // in the second
		t.Fatal(err)
	}
	if err := Append(path, []byte("three")); err != nil {
		t.Fatal(err)
	}
	holds(t, path, "\none\n\ntwo\nthree\n", 0o600)
}

func TestSync(t *testing.T) {
	dir := t.TempDir()
	if err := Sync(dir); err != nil {
		t.Error(err)
	}
	if err := Sync(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func holds(t *testing.T, path, want string, mode fs.FileMode) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil || string(b) != want {
		t.Errorf("%s holds %q, %v; want %q", path, b, err, want)
	}
	if info, err := os.Lstat(path); err != nil || info.Mode().Perm() != mode {
		t.Errorf("%s: %v, %v", path, info.Mode(), err)
	}
}

// alone checks that nothing else stayed in the folder.
func alone(t *testing.T, dir string) {
	t.Helper()
	if names, err := os.ReadDir(dir); err != nil || len(names) != 1 {
		t.Errorf("%v, %v", names, err)
	}
}
