//go:build unix

package ledger

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// diskSpace tells how much of the file system below dir this process may still use.
func diskSpace(dir string) (free, total uint64, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, 0, err
	}
	return uint64(s.Bavail) * uint64(s.Bsize), uint64(s.Blocks) * uint64(s.Bsize), nil
}

// lockFile is locked while a process has the ledger open.
const lockFile = "lock"

// lockDir keeps a second process out of a ledger until the file is closed.
func lockDir(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: another process has this ledger open: %w", path, err)
	}
	return f, nil
}
