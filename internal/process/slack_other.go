//go:build !linux

package process

func slacken() {}

// SlackenThread does nothing here: timer slack is Linux's.
func SlackenThread() bool { return false }
