package hop

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
)

// protocol is the ALPN name, so that no other TLS service can stand in.
const protocol = "reeve-hop/1"

// Peer is who is at the other end of a connection, as the kernel or TLS says.
type Peer struct {
	UID, PID int    // of a Unix socket (PID 0 where the kernel does not tell); -1 for TLS
	Key      string // Pin of a TLS peer's key; empty for a Unix socket
	Name     string // gateway id from the server's configuration
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
		s := nc.ConnectionState()
		if s.NegotiatedProtocol != protocol || len(s.PeerCertificates) == 0 {
			return p, violation("a TLS peer without ALPN %s or without a certificate", protocol)
		}
		return Peer{UID: -1, PID: -1, Key: Pin(s.PeerCertificates[0])}, nil
	}
	return p, fmt.Errorf("a %T does not tell who the peer is", nc)
}

// Pin names a certificate's key: "sha256:" and the hex SHA-256 of its SubjectPublicKeyInfo. The key is what is trusted;
// issuer, names and dates of the certificate are not looked at, because the signed statements say how long a pin holds.
func Pin(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// ClientTLS is a gateway's end of mutual TLS 1.3: it shows cert and talks only to the custodian whose key has that pin.
func ClientTLS(cert tls.Certificate, pin string) *tls.Config {
	c := ServerTLS(cert)
	c.InsecureSkipVerify = true // VerifyConnection replaces the verification by name and issuer
	c.VerifyConnection = func(s tls.ConnectionState) error {
		if got := Pin(s.PeerCertificates[0]); got != pin || s.NegotiatedProtocol != protocol {
			return fmt.Errorf("the custodian's key is %s and %s is pinned: this is another process, or its key was changed", got, pin)
		}
		return nil
	}
	return c
}

// ServerTLS is a custodian's end: it asks for a client certificate and proves that the peer holds its key. Whether that
// key is a gateway's is decided by ServerConfig.Peers.
func ServerTLS(cert tls.Certificate) *tls.Config {
	return &tls.Config{
		Certificates:           []tls.Certificate{cert},
		ClientAuth:             tls.RequireAnyClientCert,
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{protocol},
		SessionTicketsDisabled: true, // every connection shows its certificate
	}
}
