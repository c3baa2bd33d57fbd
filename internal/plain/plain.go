// Package plain opens files in folders that belong to somebody else, and puts files there: root's commands work in the folders of the processes' users, and who has
// taken one of those processes over can put there what leads elsewhere.
package plain

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// ErrOther means that there is something else than a regular file of one name: a link to another file, a pipe, a device.
var ErrOther = errors.New("not a regular file of its own: somebody who can write to its folder put a link or something else there; see what it is, and remove it")

// ErrLong means that a file has more bytes than one of its kind ever has.
var ErrLong = errors.New("longer than such a file ever is: see who wrote it")

// Open is os.OpenFile for a regular file of one name: it follows no link in the last element of the path, and waits for nobody. Do not truncate
// with it: that would come before the look.
func Open(path string, flag int, mode fs.FileMode) (*os.File, error) {
	f, err := os.OpenFile(path, flag|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, mode)
	return regular(f, err, path)
}

// regular takes what was opened when it is a regular file of one name.
func regular(f *os.File, err error, path string) (*os.File, error) {
	if errors.Is(err, syscall.ELOOP) || errors.Is(err, syscall.ENXIO) { // a symbolic link; a pipe that nobody reads
		err = fmt.Errorf("%s: %w", path, ErrOther)
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && (!info.Mode().IsRegular() || info.Sys().(*syscall.Stat_t).Nlink > 1) {
		err = fmt.Errorf("%s: %w", path, ErrOther)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Folder opens a folder out of which no link leads, the folder itself among them. What is above its parent is trusted.
func Folder(path string) (*os.Root, error) {
	parent, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	return parent.OpenRoot(filepath.Base(path))
}

// FolderIn opens a folder in an open one, and makes it for whom that one belongs to where it is not there.
func FolderIn(parent *os.Root, name string, mode fs.FileMode) (*os.Root, error) {
	made := parent.Mkdir(name, mode)
	if made != nil && !errors.Is(made, fs.ErrExist) {
		return nil, made
	}
	root, err := parent.OpenRoot(name)
	if err != nil || made != nil {
		return root, err
	}
	f, err := root.Open(".")
	if err == nil {
		err = errors.Join(Owned(parent, f), f.Close())
	}
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return root, nil
}

// Owned gives a file to whom the folder belongs to, when root runs this: what root leaves in a process's folder is the process's.
func Owned(folder *os.Root, f *os.File) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := folder.Stat(".")
	if err != nil {
		return err
	}
	owner := info.Sys().(*syscall.Stat_t)
	return f.Chown(int(owner.Uid), int(owner.Gid))
}

// OpenIn opens a regular file of one name below an open folder. No link leads out of the folder. Do not truncate with it.
func OpenIn(root *os.Root, name string, flag int) (*os.File, error) {
	f, err := root.OpenFile(name, flag|syscall.O_NONBLOCK, 0)
	return regular(f, err, filepath.Join(root.Name(), name))
}

// ReadIn reads a regular file of one name below an open folder, of at most that many bytes. No link leads out of the folder.
func ReadIn(root *os.Root, name string, most int64) ([]byte, error) {
	f, err := OpenIn(root, name, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(b)) > most {
		err = fmt.Errorf("%s: %w", f.Name(), ErrLong)
	}
	return b, err
}

// Replace puts a file into an open folder, over what was there, in one step: a crash leaves the old content or the new. It is the folder's
// owner's, as Owned says, and on disk when Replace returns.
func Replace(root *os.Root, name string, content []byte, mode fs.FileMode) error {
	return place(root, root.Rename, name, content, mode)
}

// Create is Replace where nothing may be under the name yet: what is there stays, and the error is fs.ErrExist.
func Create(root *os.Root, name string, content []byte, mode fs.FileMode) error {
	return place(root, root.Link, name, content, mode)
}

func place(root *os.Root, move func(from, to string) error, name string, content []byte, mode fs.FileMode) error {
	passing := ".new-" + rand.Text()
	f, err := root.OpenFile(passing, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer root.Remove(passing)
	_, err = f.Write(content)
	if err == nil {
		err = errors.Join(Owned(root, f), f.Chmod(mode), f.Sync()) // the umask does not decide
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := move(passing, name); err != nil {
		return err
	}
	folder, err := root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
