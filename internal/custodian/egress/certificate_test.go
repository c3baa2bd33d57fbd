package egress

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net/http"
	"testing"
	"time"
)

// client makes a client certificate that signs itself.
func client(t *testing.T) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}},
		&x509.Certificate{}, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func TestClientCertificate(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		mine, other := client(t), client(t)
		seen := make(chan *x509.Certificate, 8)
		u := serve(t, func(_ *upstream, c *tls.Conn, in *bufio.Reader) {
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			io.Copy(io.Discard, r.Body)
			seen <- c.ConnectionState().PeerCertificates[0]
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
		}, func(u *upstream) {
			u.tls.ClientAuth, u.tls.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
			u.tls.ClientCAs.AddCert(mine.Leaf)
			u.tls.MaxVersion = version
		})
		p := pool(t, u, func(c *Config) { c.Certificate = mine })
		for range 3 { // the second connection resumes the first one's session
			sendOK(t, p)
			if got := <-seen; !got.Equal(mine.Leaf) {
				t.Error("the upstream saw another certificate")
			}
		}
		for name, with := range map[string]*tls.Certificate{"none": nil, "another": other} {
			p := pool(t, u, func(c *Config) { c.Certificate = with })
			if _, err := p.Send(context.Background(), post("{}")); err == nil {
				t.Errorf("TLS %x, %s: sent", version, name)
			}
		}
	}
}

// An upstream that does not ask would take the request for anybody's.
func TestClientCertificateUnasked(t *testing.T) {
	u := serve(t, answering(okAnswer))
	p := pool(t, u, func(c *Config) { c.Certificate = client(t) })
	for range 2 {
		if _, err := p.Send(context.Background(), post("{}")); !errors.Is(err, ErrUnasked) || !errors.Is(err, ErrNotSent) {
			t.Errorf("%v", err)
		}
	}
	if u.requests.Load() != 0 {
		t.Error("a request was sent")
	}
}
