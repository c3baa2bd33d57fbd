package index

import (
	"errors"
	"os"
	"syscall"
)

// lock takes a file's lock, which ends with the process, or returns ErrKept.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
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
