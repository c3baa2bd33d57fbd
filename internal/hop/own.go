package hop

import (
	"net"
	"os"
)

// Own returns a listener that lets in, from a Unix socket, only processes of this process's user and of root, as the kernel
// names them.
func Own(ln net.Listener) net.Listener { return own{ln} }

type own struct{ net.Listener }

func (l own) Accept() (net.Conn, error) {
	for {
		nc, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if unix, ok := nc.(*net.UnixConn); ok {
			if peer, err := identify(unix); err == nil && (peer.UID == os.Getuid() || peer.UID == 0) {
				return nc, nil
			}
		}
		nc.Close()
	}
}
