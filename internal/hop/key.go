package hop

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/reevehq/reeve/internal/secret"
)

// A certificate of the hop is made for one connection. Its dates leave room for clocks that differ.
const (
	certificateSkew = 5 * time.Minute
	certificateLife = time.Hour
)

// Key is a process's key on the hop between machines: Ed25519, in a file of its own.
type Key struct {
	private ed25519.PrivateKey
	peer    string
	machine string
}

// NewKey makes a key and returns the text of its file: PKCS #8 (RFC 5958) in PEM (RFC 7468).
func NewKey() (peer string, file []byte, err error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return "", nil, err
	}
	peer, err = peerKey(public)
	return peer, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), err
}

// ReadKey reads a key's file, which only its owner may read.
func ReadKey(path string) (*Key, error) {
	text, err := secret.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the hop's key: %w; reeve host key makes one", err)
	}
	block, _ := pem.Decode(text.Reveal())
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, fmt.Errorf("%s is no private key in PEM; reeve host key makes one", path)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s holds no key that can be read: %w", path, err)
	}
	private, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s holds a %T; the hop uses Ed25519; reeve host key makes one", path, parsed)
	}
	k := &Key{private: private, machine: machine()}
	k.peer, err = peerKey(private.Public())
	return k, err
}

// Peer is the public half as statements have it.
func (k *Key) Peer() string { return k.peer }

func peerKey(public any) (string, error) {
	spki, err := x509.MarshalPKIXPublicKey(public)
	return peerOf(spki), err
}

// peerOf names a key: "sha256:" and the hex SHA-256 of its SubjectPublicKeyInfo.
func peerOf(spki []byte) string {
	sum := sha256.Sum256(spki)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// certificate is for one connection. Its common name is the mark of this machine.
func (k *Key) certificate() (*tls.Certificate, error) {
	now := time.Now()
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: k.machine},
		NotBefore: now.Add(-certificateSkew), NotAfter: now.Add(certificateLife)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, k.private.Public(), k.private)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: k.private}, err
}

// ClientTLS is a gateway's end of mutual TLS 1.3: it shows its key and talks only to the custodian whose key is peer.
func ClientTLS(k *Key, peer string) *tls.Config {
	c := k.config(func(s *tls.ConnectionState) error {
		if got := peerOf(s.PeerCertificates[0].RawSubjectPublicKeyInfo); got != peer {
			return fmt.Errorf("the custodian's key is %s and the custody statement has %s: this is another process, or its key was changed", got, peer)
		}
		return nil
	})
	c.InsecureSkipVerify = true // VerifyConnection takes the place of name and issuer
	return c
}

// ServerTLS is a custodian's end: the peer has to prove that it holds a key. Whether that key is a gateway's is decided by
// ServerConfig.Peers.
func ServerTLS(k *Key) *tls.Config {
	c := k.config(func(*tls.ConnectionState) error { return nil })
	c.ClientAuth = tls.RequireAnyClientCert
	return c
}

// config is what both ends have. Every connection shows its certificate: there are no session tickets.
func (k *Key) config(verify func(*tls.ConnectionState) error) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{protocol},
		SessionTicketsDisabled: true,
		GetCertificate:         func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return k.certificate() },
		GetClientCertificate:   func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return k.certificate() },
		VerifyConnection: func(s tls.ConnectionState) error {
			if s.NegotiatedProtocol != protocol || len(s.PeerCertificates) == 0 {
				return violation("a TLS peer without ALPN %s or without a certificate", protocol)
			}
			if cert, now := s.PeerCertificates[0], time.Now(); now.Before(cert.NotBefore) || now.After(cert.NotAfter) {
				return errors.New("the peer's certificate is not valid now: it was made for another connection, or a clock is wrong")
			}
			return verify(&s)
		},
	}
}
