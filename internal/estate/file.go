package estate

import (
	"errors"
	"os"
	"path/filepath"
)

// writeNew writes a file that must not exist yet, completely or not at all.
func writeNew(file string, b []byte, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	return place(file, b, mode, os.Link)
}

// replaceFile writes a file atomically, over what was there.
func replaceFile(file string, b []byte, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return place(file, b, mode, os.Rename)
}

func place(file string, b []byte, mode os.FileMode, move func(from, to string) error) error {
	f, err := os.CreateTemp(filepath.Dir(file), ".writing-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return move(f.Name(), file)
}
