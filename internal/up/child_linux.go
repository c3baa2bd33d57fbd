package up

import "syscall"

// attributes puts a child into a process group of its own, stops it when the spawner's thread ends, and drops to uid and the
// group of the same number, with no others, unless uid is negative.
func attributes(uid int) *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if uid >= 0 {
		a.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid), Groups: []uint32{}}
	}
	return a
}
