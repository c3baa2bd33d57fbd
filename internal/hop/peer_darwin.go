package hop

import (
	"net"

	"golang.org/x/sys/unix"
)

// kernelPeer asks the kernel who opened the other end of a Unix socket.
func kernelPeer(nc *net.UnixConn) (Peer, error) {
	raw, err := nc.SyscallConn()
	if err != nil {
		return Peer{}, err
	}
	var cred *unix.Xucred
	var failed error
	err = raw.Control(func(fd uintptr) {
		cred, failed = unix.GetsockoptXucred(int(fd), unix.SOL_LOCAL, unix.LOCAL_PEERCRED)
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return Peer{}, err
	}
	return Peer{UID: int(cred.Uid)}, nil
}
