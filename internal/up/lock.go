package up

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"syscall"
)

// Running is who runs an estate's processes on this machine: the content of DIR/lock while `reeve up` lives.
type Running struct {
	PID      int            `json:"pid"`      // of reeve up
	Children map[string]int `json:"children"` // name to pid
}

// ErrRunning means that another `reeve up` has the directory.
var ErrRunning = errors.New("already running")

// Lock is held as long as the file is open: the kernel frees it however the process ends.
type Lock struct{ file *os.File }

// takeLock takes the lock file, or returns ErrRunning.
func takeLock(path string) (*Lock, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the lock: %w", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		f.Close()
		return nil, ErrRunning
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("locking %s: %w", path, err)
	}
	l := &Lock{f}
	return l, l.write(Running{PID: os.Getpid()})
}

func (l *Lock) write(r Running) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := l.file.Truncate(0); err != nil {
		return fmt.Errorf("writing the lock: %w", err)
	}
	_, err = l.file.WriteAt(append(b, '\n'), 0)
	return err
}

func (l *Lock) release() error {
	l.file.Truncate(0)
	return l.file.Close()
}

// running reads who holds the lock; false when nobody does.
func running(path string) (Running, bool) {
	var r Running
	l, err := takeProbe(path)
	if err == nil {
		l.Close()
		return r, false
	}
	b, err := os.ReadFile(path)
	if err != nil || json.Unmarshal(b, &r) != nil {
		return r, false
	}
	return r, r.PID != 0
}

// takeProbe tries the lock without leaving a trace.
func takeProbe(path string) (*os.File, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return os.Open(os.DevNull)
	}
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
