package gateway

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/hop"
	"github.com/reevehq/reeve/internal/serve"
	"github.com/reevehq/reeve/internal/statement"
)

// TestLimitsFollowTheSet: header and idle limits of a new set hold without a restart, and an answer that streams is not broken by it.
func TestLimitsFollowTheSet(t *testing.T) {
	begun, release := make(chan struct{}), make(chan struct{})
	p := start(t, func(ctx context.Context, peer hop.Peer, o *hop.Open, w *hop.Writer) {
		if !strings.Contains(string(o.Body), `"user":"stream"`) {
			answerJSON(ctx, peer, o, w)
			return
		}
		w.Head(200, []hop.Field{{Name: "Content-Type", Value: "application/json"}})
		w.Write([]byte(`{"a":`))
		close(begun)
		<-release
		w.Write([]byte(`1}`))
		w.End(nil)
	}, nil).serving()
	long := func() int {
		req, err := http.NewRequest("GET", p.url+"/v1/models", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Long", strings.Repeat("x", 20<<10))
		req.Header.Set("x-api-key", string(p.estate.Keys["research-agent"].Reveal()))
		req.Close = true
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	if status := long(); status != 200 {
		t.Fatalf("20 KiB of header: %d", status)
	}
	idle := dialIdle(t, p)
	type got struct {
		body string
		err  error
	}
	meanwhile := make(chan got, 1)
	go func() {
		b, err := io.ReadAll(p.post("/v1/chat/completions", `{"model":"openai/small","user":"stream"}`).Body)
		meanwhile <- got{string(b), err}
	}()
	finish := sync.OnceFunc(func() { close(release) })
	defer finish()
	<-begun
	p.estate.Republish(t, func(e *estate.Plan) {
		e.Operations.Limits.HeaderBytes, e.Operations.Limits.IdleTimeout = 8<<10, statement.Duration(50*time.Millisecond)
	}, "operations")
	eventually(t, "20 KiB of header are too many", func() bool { return long() == 431 })
	closed(t, idle, "a connection that was idle when the limits changed")
	closed(t, dialIdle(t, p), "a connection that is idle for longer than the new limit")
	finish()
	if g := <-meanwhile; g.body != `{"a":1}` || g.err != nil {
		t.Errorf("what was under way meanwhile: %q, %v", g.body, g.err)
	}
}

// dialIdle makes a request and leaves the connection open.
func dialIdle(t *testing.T, p *proc) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	io.WriteString(c, "HEAD / HTTP/1.1\r\nHost: g\r\n\r\n")
	if _, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: "HEAD"}); err != nil {
		t.Fatal(err)
	}
	return c
}

// closed fails the test unless the gateway closes the connection.
func closed(t *testing.T, c net.Conn, what string) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("%s is not closed: %v", what, err)
	}
}

// pair writes a self-signed certificate with that serial number, and its key.
func pair(t *testing.T, files serve.TLS, serial int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{files.Cert: {Type: "CERTIFICATE", Bytes: der}, files.Key: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestTLSListener: clients come over TLS 1.2 or later. A new certificate is shown to new connections and breaks none; one that cannot
// be used changes nothing.
func TestTLSListener(t *testing.T) {
	dir := t.TempDir()
	files := serve.TLS{Cert: filepath.Join(dir, "cert"), Key: filepath.Join(dir, "key")}
	pair(t, files, 1)
	p := start(t, answerJSON, func(c *Config) { c.TLS = files }).serving()
	address := strings.TrimPrefix(p.url, "http://")
	dial := func(change func(*tls.Config)) (*tls.Conn, error) {
		c := &tls.Config{InsecureSkipVerify: true}
		if change != nil {
			change(c)
		}
		return tls.Dial("tcp", address, c)
	}
	ask := func(c net.Conn) error {
		if _, err := io.WriteString(c, "HEAD / HTTP/1.1\r\nHost: g\r\n\r\n"); err != nil {
			return err
		}
		_, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: "HEAD"})
		return err
	}
	serial := func() int64 {
		c, err := dial(nil)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := ask(c); err != nil {
			t.Fatal(err)
		}
		return c.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	if _, err := dial(func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS11, tls.VersionTLS11 }); err == nil {
		t.Error("TLS 1.1 was taken")
	}
	kept, err := dial(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()
	if err := ask(kept); err != nil || serial() != 1 {
		t.Errorf("the first certificate: %d, %v", serial(), err)
	}
	pair(t, files, 2)
	p.reload <- &p.cfg
	eventually(t, "new connections see the new certificate", func() bool { return serial() == 2 })
	if err := ask(kept); err != nil {
		t.Errorf("the connection from before: %v", err)
	}
	if err := os.WriteFile(files.Cert, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.reload <- &p.cfg
	eventually(t, "the refusal is logged", func() bool { return strings.Contains(p.rig.logs.String(), "the one before stays") })
	if got := serial(); got != 2 {
		t.Errorf("after a certificate that cannot be used: %d", got)
	}
}
