// Command failsync runs a program whose every fdatasync fails with EIO: failsync PROGRAM ARGUMENT…
package main

import (
	"fmt"
	"os"
	"syscall"

	"github.com/elastic/go-seccomp-bpf"
)

func main() {
	filter := seccomp.Filter{NoNewPrivs: true, Flag: seccomp.FilterFlagTSync, Policy: seccomp.Policy{
		DefaultAction: seccomp.ActionAllow,
		Syscalls:      []seccomp.SyscallGroup{{Action: seccomp.ActionErrno | seccomp.Action(syscall.EIO), Names: []string{"fdatasync"}}},
	}}
	err := seccomp.LoadFilter(filter)
	if err == nil {
		err = syscall.Exec(os.Args[1], os.Args[1:], os.Environ())
	}
	fmt.Fprintln(os.Stderr, "failsync:", err)
	os.Exit(1)
}
