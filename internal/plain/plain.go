// Package plain opens files in folders that belong to somebody else: root's commands work in the folders of the processes' users, and who has
// taken one of those processes over can put there what leads elsewhere.
package plain

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// ErrOther means that there is something else than a regular file of one name: a link to another file, a pipe, a device.
var ErrOther = errors.New("not a regular file of its own: somebody who can write to its folder put a link or something else there; see what it is, and remove it")

// Open is os.OpenFile for a regular file of one name: it follows no link in the last element of the path, and waits for nobody. Do not truncate
// with it: that would come before the look.
func Open(path string, flag int, mode fs.FileMode) (*os.File, error) {
	f, err := os.OpenFile(path, flag|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, mode)
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
