package hop

import "golang.org/x/sys/unix"

// bootID is random and the same for everything that runs on one kernel since it started. Empty when it cannot be read.
func bootID() string {
	id, err := unix.Sysctl("kern.bootsessionuuid")
	if err != nil {
		return ""
	}
	return id
}
