package hop

import "os"

// bootID is random and the same for everything that runs on one kernel since it started, in containers too
// (random(4), /proc/sys/kernel/random/boot_id). Empty when it cannot be read.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return string(b)
}
