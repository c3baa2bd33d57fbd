package hop

import "golang.org/x/sys/unix"

// credentials asks the kernel who opened the other end of a Unix socket. This kernel does not tell the process.
func credentials(fd int) (uid, pid int, err error) {
	c, err := unix.GetsockoptXucred(fd, unix.SOL_LOCAL, unix.LOCAL_PEERCRED)
	if err != nil {
		return 0, 0, err
	}
	return int(c.Uid), 0, nil
}
