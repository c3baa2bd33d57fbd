package plain

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestOpen(t *testing.T) {
	for name, c := range map[string]struct {
		put  func(path, elsewhere string) error
		want error
	}{
		"nothing":                    {func(string, string) error { return nil }, nil},
		"a file":                     {func(path, _ string) error { return os.WriteFile(path, nil, 0o600) }, nil},
		"a symbolic link":            {func(path, elsewhere string) error { return os.Symlink(elsewhere, path) }, ErrOther},
		"a symbolic link to nowhere": {func(path, elsewhere string) error { return os.Symlink(elsewhere+"-new", path) }, ErrOther},
		"a second name":              {func(path, elsewhere string) error { return os.Link(elsewhere, path) }, ErrOther},
		"a pipe":                     {func(path, _ string) error { return syscall.Mkfifo(path, 0o600) }, ErrOther},
	} {
		for how, flag := range map[string]int{"append": os.O_APPEND | os.O_CREATE | os.O_WRONLY, "read and write": os.O_CREATE | os.O_RDWR} {
			t.Run(name+", "+how, func(t *testing.T) {
				dir := t.TempDir()
				path, elsewhere := filepath.Join(dir, "file"), filepath.Join(dir, "elsewhere")
				if err := errors.Join(os.WriteFile(elsewhere, []byte("theirs"), 0o600), c.put(path, elsewhere)); err != nil {
					t.Fatal(err)
				}
				f, err := Open(path, flag, 0o600)
				if !errors.Is(err, c.want) {
					t.Fatalf("%v, want %v", err, c.want)
				}
				if f != nil {
					_, err := f.WriteString("ours")
					if err := errors.Join(err, f.Close()); err != nil {
						t.Fatal(err)
					}
				}
				if b, err := os.ReadFile(elsewhere); err != nil || string(b) != "theirs" {
					t.Errorf("the other file: %q, %v", b, err)
				}
				if _, err := os.Stat(elsewhere + "-new"); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("a file was made elsewhere: %v", err)
				}
			})
		}
	}
	if _, err := Open(filepath.Join(t.TempDir(), "none"), os.O_RDONLY, 0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("none: %v", err)
	}
}

// What the user of a folder puts there leads nowhere else.
func TestFolder(t *testing.T) {
	for name, c := range map[string]struct {
		put  func(path, elsewhere string) error
		well bool
	}{
		"a folder":            {func(path, _ string) error { return os.Mkdir(path, 0o700) }, true},
		"nothing":             {func(string, string) error { return nil }, false},
		"a link to elsewhere": {func(path, elsewhere string) error { return os.Symlink(elsewhere, path) }, false},
		"a link upwards":      {func(path, _ string) error { return os.Symlink("../..", path) }, false},
		"a file":              {func(path, _ string) error { return os.WriteFile(path, nil, 0o600) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir, elsewhere := t.TempDir(), t.TempDir()
			path := filepath.Join(dir, "folder")
			if err := c.put(path, elsewhere); err != nil {
				t.Fatal(err)
			}
			root, err := Folder(path)
			if (err == nil) != c.well {
				t.Errorf("%v, want it to open: %v", err, c.well)
			}
			if root != nil {
				root.Close()
			}
			parent, err := os.OpenRoot(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer parent.Close()
			root, err = FolderIn(parent, "folder", 0o750)
			if want := c.well || name == "nothing"; (err == nil) != want {
				t.Errorf("in an open one: %v, want it to open: %v", err, want)
			}
			if root != nil {
				root.Close()
			}
		})
	}
}

func TestReadIn(t *testing.T) {
	dir, elsewhere := t.TempDir(), filepath.Join(t.TempDir(), "secret")
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := errors.Join(os.WriteFile(elsewhere, []byte("theirs"), 0o600), os.WriteFile(at("file"), []byte("four"), 0o600),
		os.Symlink(elsewhere, at("link")), os.Link(elsewhere, at("name")), syscall.Mkfifo(at("pipe"), 0o600)); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if b, err := ReadIn(root, "file", 4); err != nil || string(b) != "four" {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := ReadIn(root, "file", 3); !errors.Is(err, ErrLong) {
		t.Errorf("longer: %v", err)
	}
	if _, err := ReadIn(root, "none", 4); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("none: %v", err)
	}
	for _, name := range []string{"link", "name", "pipe"} {
		if b, err := ReadIn(root, name, 1<<10); err == nil {
			t.Errorf("a %s was read: %q", name, b)
		}
	}
}

// A file is put whole, over what is there or not; a link there is replaced, not followed; nothing else is left.
func TestReplaceAndCreate(t *testing.T) {
	for name, c := range map[string]struct {
		put  func(*os.Root, string, []byte, fs.FileMode) error
		over error
	}{"replace": {Replace, nil}, "create": {Create, fs.ErrExist}} {
		t.Run(name, func(t *testing.T) {
			dir, elsewhere := t.TempDir(), filepath.Join(t.TempDir(), "theirs")
			root, err := os.OpenRoot(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer root.Close()
			if err := errors.Join(os.WriteFile(elsewhere, []byte("theirs"), 0o600), os.Symlink(elsewhere, filepath.Join(dir, "link")), c.put(root, "file", []byte("ours"), 0o640)); err != nil {
				t.Fatal(err)
			}
			if info, err := root.Stat("file"); err != nil || info.Mode().Perm() != 0o640 {
				t.Errorf("%v, %v", info, err)
			}
			for _, at := range []string{"file", "link"} {
				if err := c.put(root, at, []byte("newer"), 0o600); !errors.Is(err, c.over) {
					t.Errorf("over a %s: %v", at, err)
				}
			}
			want := "ours"
			if c.over == nil {
				want = "newer"
			}
			if b, err := ReadIn(root, "file", 100); err != nil || string(b) != want {
				t.Errorf("%q, %v", b, err)
			}
			if b, err := os.ReadFile(elsewhere); err != nil || string(b) != "theirs" {
				t.Errorf("the other file: %q, %v", b, err)
			}
			if names, err := os.ReadDir(dir); err != nil || len(names) != 2 {
				t.Errorf("%v, %v", names, err)
			}
		})
	}
}
