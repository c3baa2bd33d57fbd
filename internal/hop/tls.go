package hop

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
)

// protocol is the ALPN name, so that no other TLS service can stand in.
const protocol = "reeve-hop/1"

// Pin names a certificate's key: "sha256:" and the hex SHA-256 of its SubjectPublicKeyInfo. The key is what is trusted;
// issuer, names and dates of the certificate are not looked at, because the signed statements say how long a pin holds.
func Pin(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// ClientTLS is a gateway's end of mutual TLS 1.3: it shows cert and talks only to the custodian whose key has that pin.
func ClientTLS(cert tls.Certificate, pin string) *tls.Config {
	c := baseTLS(cert)
	c.InsecureSkipVerify = true // VerifyConnection replaces the verification by name and issuer
	c.VerifyConnection = func(s tls.ConnectionState) error {
		if got := Pin(s.PeerCertificates[0]); got != pin {
			return fmt.Errorf("the custodian's key is %s and %s is pinned: this is another process, or its key was changed", got, pin)
		}
		return nil
	}
	return c
}

// ServerTLS is a custodian's end: it asks for a client certificate and proves that the peer holds its key. Whether that
// key is a gateway's is decided by ServerConfig.Peers.
func ServerTLS(cert tls.Certificate) *tls.Config {
	c := baseTLS(cert)
	c.ClientAuth = tls.RequireAnyClientCert
	return c
}

func baseTLS(cert tls.Certificate) *tls.Config {
	return &tls.Config{
		Certificates:           []tls.Certificate{cert},
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{protocol},
		SessionTicketsDisabled: true, // every connection shows its certificate
	}
}
