package process

import (
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A kernel's timer slack unless somebody chose another, and this package's: PR_SET_TIMERSLACK in prctl(2), in nanoseconds.
const (
	kernelSlack = 50 * time.Microsecond
	ownSlack    = 500 * time.Microsecond
)

// slacken lets the kernel fire this process's timers up to 0.5 ms late. While goroutines come and go, Go's runtime wakes a
// thread of its own after every 20 µs and the slack: a tenth of a busy gateway's CPU, a fifth of one with 500 requests/s, at
// the kernel's own slack. Go's timers are no finer than 1 ms on Linux, so they lose little. The slack comes with the thread
// that makes a thread, and the runtime has made that one by now: the process executes itself once more.
func slacken() {
	path, err := os.Executable()
	if err != nil {
		return
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if SlackenThread() {
		_ = syscall.Exec(path, os.Args, os.Environ()) // where it returns, the process is as it was: slower, nothing worse
	}
}

// SlackenThread sets the slack of the calling thread, to which the caller is locked, and so of the processes that it starts:
// they need not execute themselves once more. It is false when somebody has chosen one, which stays.
func SlackenThread() bool {
	now, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	return err == nil && time.Duration(now) == kernelSlack && unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(ownSlack), 0, 0, 0) == nil
}
