package confine

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/elastic/go-seccomp-bpf"
	"github.com/landlock-lsm/go-landlock/landlock"
	llsys "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
)

// landlockABI is the version whose rights the rules name; newer kernels are held to it.
const landlockABI = 7

// Harden makes the process undumpable and sets the core limit to zero. A process that cannot do both must not go on: its
// memory could be had.
func Harden() (Report, error) {
	var r Report
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return r, fmt.Errorf("making the process undumpable: %w", err)
	}
	r.NotDumpable = true
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return r, fmt.Errorf("setting the core-dump limit to zero: %w: a crash could write secrets to disk; start it with a core limit that this user may lower", err)
	}
	r.NoCore = true
	return r, nil
}

// Restrict applies Landlock and seccomp, and with either of them no_new_privs, to all threads, for good. What the kernel lacks is reported in the result; it is an
// error only where the profile requires it. r is what Harden returned.
func Restrict(p Profile, r Report) (Report, error) {
	runtime.LockOSThread() // the filter needs no_new_privs on the thread that loads it
	defer runtime.UnlockOSThread()
	abi, landlockErr := restrictLandlock(p)
	r.Landlock = abi
	seccompErr := seccomp.LoadFilter(seccomp.Filter{NoNewPrivs: true, Flag: seccomp.FilterFlagTSync, Policy: systemCalls(p.Datagrams)})
	r.Seccomp = seccompErr == nil
	r.NoNewPrivs = r.Seccomp || r.Landlock > 0 // both set it on every thread
	if err := errors.Join(landlockErr, seccompErr); err != nil {
		r.Missing = err.Error()
	}
	return r, r.Check(p.Require)
}

// restrictLandlock returns the ABI that is in force, or 0 with the reason.
func restrictLandlock(p Profile) (int, error) {
	abi, err := llsys.LandlockGetABIVersion()
	if err != nil || abi < 1 {
		return 0, fmt.Errorf("landlock: not in this kernel (%v)", err)
	}
	var rules []landlock.Rule
	for _, path := range append(systemReads(), existing(p.ReadOnly)...) {
		rules = append(rules, pathRule(path, landlock.ROFiles, landlock.RODirs))
	}
	for _, path := range existing(p.ReadWrite) {
		rules = append(rules, pathRule(path, landlock.RWFiles, landlock.RWDirs))
	}
	for _, port := range p.Bind {
		rules = append(rules, landlock.BindTCP(port))
	}
	for _, port := range p.Connect {
		rules = append(rules, landlock.ConnectTCP(port))
	}
	handled := landlock.V7
	if p.ConnectAny {
		handled.HandledAccessNet &^= landlock.AccessNetSet(llsys.AccessNetConnectTCP)
	}
	if err := handled.BestEffort().Restrict(rules...); err != nil {
		return 0, fmt.Errorf("landlock: %w", err)
	}
	return min(abi, landlockABI), nil
}

func pathRule(path string, file, dir func(...string) landlock.FSRule) landlock.Rule {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return dir(path)
	}
	return file(path)
}
