// Package durable writes small files so that a reader, and whoever starts after a crash, finds them whole.
package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Replace puts a file at path, over what was there, in one step: a crash leaves the old content or the new. It is on disk when
// Replace returns. Missing folders are made, for those who may read the file.
func Replace(path string, content []byte, mode fs.FileMode) error {
	if err := makeFolder(path, mode); err != nil {
		return err
	}
	return synced(os.Rename, path, content, mode)
}

// Create is Replace where nothing may be at path yet: what is there stays, and the error is fs.ErrExist. The folder must be there.
func Create(path string, content []byte, mode fs.FileMode) error {
	return synced(os.Link, path, content, mode)
}

func synced(move func(from, to string) error, path string, content []byte, mode fs.FileMode) error {
	if err := place(move, path, content, mode, (*os.File).Sync); err != nil {
		return err
	}
	return Sync(filepath.Dir(path))
}

// Put is Replace for those who sync later, or write for others: the steps are done to the file before it has its name. It is
// durable once it and its folder were synced.
func Put(path string, content []byte, mode fs.FileMode, steps ...func(*os.File) error) error {
	if err := makeFolder(path, mode); err != nil {
		return err
	}
	return place(os.Rename, path, content, mode, steps...)
}

func makeFolder(path string, mode fs.FileMode) error {
	return os.MkdirAll(filepath.Dir(path), mode|0o700|mode&0o044>>2)
}

func place(move func(from, to string) error, path string, content []byte, mode fs.FileMode, steps ...func(*os.File) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(content)
	if err == nil {
		err = f.Chmod(mode) // neither the umask nor CreateTemp decides
	}
	for _, step := range steps {
		if err == nil {
			err = step(f)
		}
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return move(f.Name(), path)
}

// Append adds a line to a file of mode 0600. The newline comes first too, so that a line torn by a crash spoils no other: a
// reader skips empty and torn ones.
func Append(path string, line []byte) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	b := append([]byte{'\n'}, line...)
	if b[len(b)-1] != '\n' {
		b = append(b, '\n')
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}

// Sync brings a folder's names, or a file that is not open, to the disk.
func Sync(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
