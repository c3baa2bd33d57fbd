package confine

import (
	"github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/sys/unix"
)

// allowed returns what a Go network server with files uses; everything else answers EPERM. Not in it, on purpose: execve,
// fork, ptrace, process_vm_readv, pidfd_getfd, mount, unshare, setns, bpf, perf_event_open, io_uring, userfaultfd, keyctl,
// open_by_handle_at, kill. Names that an architecture lacks are left out there.
func allowed() []string {
	return []string{
		// memory and threads
		"brk", "mmap", "munmap", "mprotect", "mremap", "madvise", "mincore", "mlock", "munlock", "memfd_secret",
		"futex", "set_robust_list", "set_tid_address", "rseq", "sched_yield", "sched_getaffinity", "arch_prctl",
		"gettid", "getpid", "getppid", "getuid", "geteuid", "getgid", "getegid", "getgroups", "tgkill", "exit", "exit_group",
		"rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "rt_sigtimedwait", "sigaltstack", "restart_syscall",
		"timer_create", "timer_settime", "timer_delete", "setitimer",
		// time and randomness
		"clock_gettime", "clock_getres", "clock_nanosleep", "nanosleep", "gettimeofday", "time", "getrandom",
		// files
		"read", "write", "pread64", "pwrite64", "readv", "writev", "preadv", "pwritev", "lseek", "close", "close_range",
		"open", "openat", "openat2", "creat", "stat", "fstat", "lstat", "newfstatat", "statx", "statfs", "fstatfs",
		"access", "faccessat", "faccessat2", "readlink", "readlinkat", "getdents64", "getcwd",
		"rename", "renameat", "renameat2", "mkdir", "mkdirat", "rmdir", "unlink", "unlinkat", "link", "linkat", "symlink", "symlinkat",
		"chmod", "fchmod", "fchmodat", "fchmodat2", "chown", "fchown", "fchownat", "lchown", "utimensat", "umask",
		"truncate", "ftruncate", "fallocate", "fadvise64", "fsync", "fdatasync", "sync_file_range",
		"flock", "fcntl", "dup", "dup2", "dup3", "copy_file_range", "sendfile", "splice", "pipe", "pipe2", "ioctl",
		// network and waiting
		"connect", "bind", "listen", "accept", "accept4", "shutdown", "getsockname", "getpeername", "socketpair",
		"setsockopt", "getsockopt", "sendto", "sendmsg", "sendmmsg", "recvfrom", "recvmsg", "recvmmsg",
		"poll", "ppoll", "select", "pselect6",
		"epoll_create", "epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait", "epoll_pwait2", "eventfd2",
		// the process about itself
		"uname", "sysinfo", "getrlimit", "getrusage", "prctl",
	}
}

// systemCalls is the filter. Datagram and netlink sockets are let through only where name resolution needs them; Multipath TCP
// never, because Landlock's port rules do not reach it.
func systemCalls(datagrams bool) seccomp.Policy {
	group := seccomp.SyscallGroup{Action: seccomp.ActionAllow}
	known := map[string]int{}
	if info, err := arch.GetInfo(""); err == nil {
		known = info.SyscallNames
	}
	for _, name := range allowed() {
		if _, ok := known[name]; ok {
			group.Names = append(group.Names, name)
		}
	}
	group.NamesWithCondtions = append(socketRules(datagrams),
		// A thread is a clone with CLONE_THREAD; without it, it is a fork.
		rule("clone", seccomp.Condition{Argument: 0, Operation: seccomp.BitsSet, Value: unix.CLONE_THREAD}),
		// Process 0 is the caller itself: limits of other processes are out of reach.
		rule("prlimit64", seccomp.Condition{Argument: 0, Operation: seccomp.Equal, Value: 0}),
	)
	return seccomp.Policy{DefaultAction: seccomp.ActionErrno, Syscalls: []seccomp.SyscallGroup{group}}
}

func socketRules(datagrams bool) []seccomp.NameWithConditions {
	// SOCK_STREAM is 1; SOCK_DGRAM (2) and SOCK_RAW (3) have the second bit.
	stream := seccomp.Condition{Argument: 1, Operation: seccomp.BitsNotSet, Value: unix.SOCK_DGRAM}
	rules := []seccomp.NameWithConditions{rule("socket", family(unix.AF_UNIX))}
	for _, f := range []uint64{unix.AF_INET, unix.AF_INET6} {
		if datagrams {
			rules = append(rules, rule("socket", family(f), protocol(0)), rule("socket", family(f), protocol(unix.IPPROTO_TCP)),
				rule("socket", family(f), protocol(unix.IPPROTO_UDP)))
			continue
		}
		rules = append(rules, rule("socket", family(f), stream, protocol(0)), rule("socket", family(f), stream, protocol(unix.IPPROTO_TCP)))
	}
	if datagrams {
		rules = append(rules, rule("socket", family(unix.AF_NETLINK)))
	}
	return rules
}

func family(f uint64) seccomp.Condition {
	return seccomp.Condition{Argument: 0, Operation: seccomp.Equal, Value: f}
}

func protocol(p uint64) seccomp.Condition {
	return seccomp.Condition{Argument: 2, Operation: seccomp.Equal, Value: p}
}

func rule(name string, conditions ...seccomp.Condition) seccomp.NameWithConditions {
	return seccomp.NameWithConditions{Name: name, Conditions: conditions}
}
