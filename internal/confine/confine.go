// Package confine takes away from a process what it does not need, so that whoever captures it gets less: no core dumps, no
// attaching debugger, no new privileges, files and TCP ports by Landlock, system calls by seccomp.
//
// Harden comes first, before any key is read; Restrict follows once the configuration says which paths and ports are needed.
package confine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// ErrRequired is wrapped when a feature that is required is not there.
var ErrRequired = errors.New("required confinement is missing")

// Profile is what one process may still do after Restrict.
type Profile struct {
	ReadOnly  []string // files and folders, with everything below
	ReadWrite []string // files and folders, with everything below
	Connect   []uint16 // TCP ports that it may connect to
	// ConnectAny allows every TCP port: for the custodian, whose destinations are not fixed at start.
	ConnectAny bool
	Bind       []uint16 // TCP ports that it may bind; 0 stands for a port of the kernel's choosing
	// Datagrams allows UDP and netlink sockets, which name resolution needs.
	Datagrams bool
	// Require names features (landlock, seccomp) without which Restrict fails.
	Require []string
}

// Report says what holds. What is false is printed as NOT HELD, never as fine.
type Report struct {
	NotDumpable bool   `json:"not_dumpable"` // other processes of the same user cannot read its memory or attach
	NoCore      bool   `json:"no_core"`      // the core-dump limit is zero, hard limit included
	NoNewPrivs  bool   `json:"no_new_privs"` // set-uid programs give it nothing
	Landlock    int    `json:"landlock_abi"` // 0: none
	Seccomp     bool   `json:"seccomp"`
	Missing     string `json:"missing,omitempty"` // why, for people
}

// Confined reports whether every layer holds.
func (r Report) Confined() bool {
	return r.NotDumpable && r.NoCore && r.NoNewPrivs && r.Landlock > 0 && r.Seccomp
}

// Check returns an error that names each required feature that does not hold.
func (r Report) Check(require []string) error {
	var missing []string
	for _, feature := range require {
		switch {
		case feature == "landlock" && r.Landlock > 0:
		case feature == "seccomp" && r.Seccomp:
		default:
			missing = append(missing, feature)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s: this system does not offer it (%s); run on a kernel that does, or have the root quorum change require_confinement in the charter",
		ErrRequired, strings.Join(missing, ", "), r.Missing)
}

// Folders are those in which files lie, by their name and, where that is a link, by what it leads to. A rule on a folder still
// holds when a file in it is replaced; one on the file does not, because it is on the file that was there. Everything in
// such a folder can be read: keep in it what the process may read.
func Folders(files ...string) (folders []string) {
	for _, f := range files {
		if f == "" {
			continue
		}
		folders = append(folders, filepath.Dir(f))
		if real, err := filepath.EvalSymlinks(f); err == nil {
			folders = append(folders, filepath.Dir(real))
		}
	}
	return folders
}

// systemReads are what the Go runtime and its resolver read anywhere: trusted roots, name resolution, time zones.
func systemReads() []string {
	return existing([]string{
		"/etc/ssl", "/etc/pki", "/usr/share/ca-certificates", "/usr/local/share/ca-certificates",
		"/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/services", "/etc/protocols", "/etc/localtime",
		"/usr/share/zoneinfo", "/proc/sys/net/core/somaxconn", "/dev/null", "/dev/urandom",
	})
}

// existing follows links, because Landlock rules are on what a path leads to, and drops what is not there.
func existing(paths []string) []string {
	var found []string
	for _, p := range paths {
		real, err := filepath.EvalSymlinks(p)
		if err != nil {
			continue
		}
		if _, err := os.Stat(real); err == nil && !slices.Contains(found, real) {
			found = append(found, real)
		}
	}
	return found
}
