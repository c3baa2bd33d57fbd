// Package state is the custodian's directory: what it must not lose, readable by nobody else.
package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/reevehq/reeve/internal/durable"
)

// ErrExposed refuses a file or directory that others could read or change.
var ErrExposed = errors.New("readable or writable by others")

// Dir is a directory of mode 0700 that belongs to this process's user.
type Dir string

// Open makes the directory where it is not there, and refuses one that others could read or change.
func Open(path string) (Dir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return "", fmt.Errorf("making the state directory: %w", err)
	}
	return Dir(path), Private(path)
}

// Private refuses a path that belongs to another user than this process's or root, or that others may read or write.
func Private(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("%s has mode %#o: %w; run: chmod go= %s", path, mode, ErrExposed, path)
	}
	if uid, ok := owner(info); ok && uid != os.Getuid() && uid != 0 {
		return fmt.Errorf("%s belongs to uid %d: %w; run: chown %d %s", path, uid, ErrExposed, os.Getuid(), path)
	}
	return nil
}

// Sub returns a directory below d, making it where it is not there.
func (d Dir) Sub(name string) (Dir, error) { return Open(d.Path(name)) }

// Path returns where a file of d is.
func (d Dir) Path(name string) string { return filepath.Join(string(d), name) }

// Read returns a file's content, or nil where there is no such file.
func (d Dir) Read(name string) ([]byte, error) {
	b, err := os.ReadFile(d.Path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

// Replace puts content in place of the file in one step: after a crash there is the old content or the new, on disk when
// Replace returns.
func (d Dir) Replace(name string, content []byte) (err error) {
	tmp := d.next(name)
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Truncate(int64(len(content))) // more may have been there: see Ahead
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp, d.Path(name))
	}
	if err != nil {
		os.Remove(tmp)
		return fmt.Errorf("writing %s: %w", d.Path(name), err)
	}
	return durable.Sync(string(d))
}

// Ahead takes up size bytes for the next Replace of a file, so that it works on a disk that is full by then.
func (d Dir) Ahead(name string, size int) error {
	f, err := os.OpenFile(d.next(name), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, size))
	return errors.Join(err, f.Close())
}

// next is the file that takes another's place.
func (d Dir) next(name string) string { return d.Path("." + name + ".new") }
