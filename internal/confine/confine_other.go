//go:build !linux

package confine

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Harden sets the core limit to zero; this system offers no more.
func Harden() (Report, error) {
	r := Report{Missing: "this system has neither Landlock nor seccomp"}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return r, fmt.Errorf("setting the core-dump limit to zero: %w: a crash could write secrets to disk", err)
	}
	r.NoCore = true
	return r, nil
}

// Restrict reports that nothing is restricted; it is an error only where the profile requires something.
func Restrict(p Profile, r Report) (Report, error) { return r, r.Check(p.Require) }
