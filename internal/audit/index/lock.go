package index

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"

	"github.com/reevehq/reeve/internal/plain"
)

// lock takes a file's lock, which ends with the process, or returns ErrKept.
func lock(path string) (unlock func(), err error) {
	f, err := private(path)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = ErrKept
		}
		return nil, errors.Join(err, f.Close())
	}
	return func() { f.Close() }, nil
}

// private opens a file, made with mode 0600 when it is not there. One that root makes is its folder's owner's: an auditor's that has a user
// of its own.
func private(path string) (*os.File, error) {
	f, err := plain.Open(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	folder, err := os.OpenRoot(filepath.Dir(path))
	if err == nil {
		err = errors.Join(plain.Owned(folder, f), folder.Close())
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
