package hop

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
)

// protocol is the ALPN name, so that no other TLS service can stand in.
const protocol = "reeve-hop/1"

// Peer is who is at the other end of a connection, as the kernel or TLS says.
type Peer struct {
	UID, PID int    // of a Unix socket (PID 0 where the kernel does not tell); -1 for TLS
	Key      string // a TLS peer's key, as statements have it ("sha256:…"); empty for a Unix socket
	Apart    bool   // a TLS peer that is on another machine, as far as can be told
	Name     string // gateway id, from ServerConfig.Peers
}

// identify asks the kernel or TLS who is at the other end.
func identify(nc net.Conn) (p Peer, err error) {
	switch nc := nc.(type) {
	case *net.UnixConn:
		raw, err := nc.SyscallConn()
		if err != nil {
			return p, err
		}
		var failed error
		err = raw.Control(func(fd uintptr) { p.UID, p.PID, failed = credentials(int(fd)) })
		return p, errors.Join(err, failed)
	case *tls.Conn:
		if err := nc.Handshake(); err != nil {
			return p, err
		}
		cert := nc.ConnectionState().PeerCertificates[0] // ServerTLS refuses a peer without
		return Peer{UID: -1, PID: -1, Key: peerOf(cert.RawSubjectPublicKeyInfo), Apart: apart(nc.RemoteAddr(), machine(), cert.Subject.CommonName)}, nil
	}
	return p, fmt.Errorf("a %T does not tell who the peer is", nc)
}
