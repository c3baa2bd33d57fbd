// Package serve is what the processes that answer workloads and owners over the network have in common: their certificate, and a
// line in the log for each request. The custodian is none of them.
package serve

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"

	"github.com/reevehq/reeve/internal/secret"
)

// TLS is the certificate that a listener shows. The files are read again on SIGHUP. Without both the listener speaks plain HTTP.
type TLS struct {
	Cert string `yaml:"cert"` // file with the certificate and those between it and its root, PEM
	Key  string `yaml:"key"`  // file with its private key, PEM, mode 0600
}

// Check refuses half of a pair.
func (t TLS) Check() error {
	if (t.Cert == "") != (t.Key == "") {
		return errors.New("tls needs both cert and key, or neither")
	}
	return nil
}

// Files are those that are read on SIGHUP.
func (t TLS) Files() []string {
	if t.Cert == "" {
		return nil
	}
	return []string{t.Cert, t.Key}
}

// Certificate is the one in force. The zero Certificate is none. Safe for concurrent use.
type Certificate struct {
	current atomic.Pointer[tls.Certificate]
}

// Load puts the files into force. With an error the certificate before stays.
func (c *Certificate) Load(t TLS) error {
	if t.Cert == "" {
		return nil
	}
	chain, err := os.ReadFile(t.Cert)
	if err != nil {
		return fmt.Errorf("reading the certificate: %w", err)
	}
	key, err := secret.ReadFile(t.Key)
	if err != nil {
		return fmt.Errorf("reading the certificate's key: %w", err)
	}
	pair, err := tls.X509KeyPair(chain, key.Reveal())
	if err != nil {
		return fmt.Errorf("the certificate %s and the key %s: %w", t.Cert, t.Key, err)
	}
	c.current.Store(&pair)
	return nil
}

// Listen wraps a listener: TLS 1.2 or later, HTTP/1.1 only, each new connection with the certificate in force then. Without a
// certificate it returns the listener as it is.
func (c *Certificate) Listen(l net.Listener) net.Listener {
	if c.current.Load() == nil {
		return l
	}
	return tls.NewListener(l, &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current.Load(), nil },
	})
}
