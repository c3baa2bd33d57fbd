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
