package custodian

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/closing"
	"github.com/reevehq/reeve/internal/custodian/egress"
	"github.com/reevehq/reeve/internal/custodian/sigv4"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/statement"
)

// clientKey makes a private key and its certificate, which is valid until then, in one text of PEM.
func clientKey(t *testing.T, serial int64, until time.Time) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(serial), NotAfter: until, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}},
		&x509.Certificate{}, &key.PublicKey, key)
	must(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})) + string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// mutual is a world whose research-openai is a client certificate, and an upstream that asks for one.
type mutual struct {
	*world
	serials chan int64 // of the certificates that the upstream saw
	answer  func(w http.ResponseWriter, r *http.Request)
	pools   int
}

func newMutual(t *testing.T) *mutual {
	m := &mutual{serials: make(chan int64, 16), answer: func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"ok":true}`) }}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.serials <- r.TLS.PeerCertificates[0].SerialNumber.Int64()
		w.Header().Set("Content-Type", "application/json")
		m.answer(w, r)
	}))
	s.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	s.StartTLS()
	t.Cleanup(s.Close)
	m.world = newWorld(t, estatetest.Upstream(s.URL, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))),
		estatetest.Edit(func(p *estate.Plan) { p.Custody["research"].Credentials[0].Inject = statement.Inject{As: "tls"} }))
	m.Dial = func(d statement.Destination, c *tls.Certificate) (Connections, error) {
		if c != nil {
			m.pools++
		}
		return egress.New(egress.Config{Destination: d, Certificate: c})
	}
	return m
}

// TestClientCertificate: the certificate is the credential: shown to the upstream, replaced in a moment by the next, and over with its own end.
func TestClientCertificate(t *testing.T) {
	m := newMutual(t)
	m.handover("research-openai", 1, clientKey(t, 1, time.Now().Add(time.Hour)))
	use := func(serial int64) {
		t.Helper()
		if a := m.do(m.chat()); a.refusal != nil || !a.ended {
			t.Fatalf("%+v", a)
		}
		if got := <-m.serials; got != serial {
			t.Errorf("the upstream saw the certificate %d, want %d", got, serial)
		}
	}
	use(1)
	use(1)
	if m.pools != 1 {
		t.Errorf("%d pools for one certificate", m.pools)
	}

	// A stream that began with the first goes on when the second comes.
	release := make(chan struct{})
	m.answer = func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"ok":`)
		w.(http.Flusher).Flush()
		<-release
		fmt.Fprint(w, `true}`)
	}
	streaming := &answer{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.Serve(context.Background(), g1, m.chat(), streaming)
	}()
	eventually(t, "the stream begins", func() bool { _, body, _, _ := streaming.snapshot(); return body != "" })
	if got := <-m.serials; got != 1 {
		t.Error(got)
	}
	second := clientKey(t, 2, time.Now().Add(time.Hour))
	m.handover("research-openai", 2, second)
	m.answer = func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"ok":true}`) }
	use(2)
	close(release)
	<-done
	if _, body, broken, ended := streaming.snapshot(); !ended || body != `{"ok":true}` {
		t.Errorf("the stream of the certificate before: %q %q", body, broken)
	}

	// What cannot be used is refused, and what was there goes on.
	env, ciphertext := m.sealedTo(m.estate.Identity.Recipient(), "research-openai", 3, strings.Replace(second, "BEGIN CERT", "BEGIN DIRT", 1), m.estate.Cora)
	if err := m.Receive(env, ciphertext); err == nil || strings.Contains(err.Error(), "PRIVATE") {
		t.Errorf("a text that is no key and certificate: %v", err)
	}
	use(2)

	// An upstream that has the key does not get it through.
	key, _ := pem.Decode([]byte(second))
	m.answer = func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, `{"key":"%x"}`, key.Bytes) }
	a := m.do(m.chat())
	if <-m.serials; strings.Contains(a.body.String(), hex.EncodeToString(key.Bytes[len(key.Bytes)-40:])) || a.broken == "" {
		t.Errorf("the key came back: %q", a.body.String())
	}
	m.answer = func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"ok":true}`) }

	// A closing ends the connections of the certificate too.
	m.hangUp(statement.Target{Kind: closing.Everything})
	use(2)
	if m.pools != 3 {
		t.Errorf("%d pools: that of the certificate was not closed", m.pools)
	}

	m.handover("research-openai", 4, clientKey(t, 4, time.Now().Add(time.Hour)))
	m.now.Store(int64(2 * time.Hour))
	if a := m.do(m.chat()); a.refusal == nil || a.refusal.Sent || len(m.serials) != 0 {
		t.Errorf("a certificate that has expired: %+v", a.refusal)
	}
	if all := fmt.Sprint(m.ledger.all) + m.logs.String(); strings.Contains(all, "PRIVATE") {
		t.Error("the ledger or the log holds a key")
	}
}

// TestUnaskedCertificate: to an upstream that does not ask who calls nothing is sent.
func TestUnaskedCertificate(t *testing.T) {
	called := false
	s := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called = true }))
	defer s.Close()
	w := newWorld(t, estatetest.Upstream(s.URL, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))),
		estatetest.Edit(func(p *estate.Plan) { p.Custody["research"].Credentials[0].Inject = statement.Inject{As: "tls"} }))
	w.Dial = func(d statement.Destination, c *tls.Certificate) (Connections, error) {
		return egress.New(egress.Config{Destination: d, Certificate: c})
	}
	w.handover("research-openai", 1, clientKey(t, 1, time.Now().Add(time.Hour)))
	if a := w.do(w.chat()); a.refusal == nil || a.refusal.Sent || called {
		t.Errorf("%+v", a.refusal)
	}
}

// TestCertificatesOfBefore: the connections of a certificate that nobody uses any more are let go.
func TestCertificatesOfBefore(t *testing.T) {
	w := newWorld(t)
	cr := w.view.Load().credentials["research-openai"]
	first, second := new(tls.Certificate), new(tls.Certificate)
	for _, step := range []struct {
		certificate *tls.Certificate
		after       time.Duration
		pools       int
		retired     int64
	}{{first, 0, 1, 0}, {second, 30 * time.Second, 2, 0}, {first, 20 * time.Second, 2, 0}, {second, 50 * time.Second, 2, 0}, {second, 20 * time.Second, 1, 1}} {
		w.now.Add(int64(step.after))
		before := w.wire.retired.Load()
		if _, err := w.connections(cr, step.certificate); err != nil {
			t.Fatal(err)
		}
		w.Keep()
		if n := w.wire.retired.Load() - before; len(cr.link.own) != step.pools || n != step.retired {
			t.Errorf("%+v: %d pools, %d retired", step, len(cr.link.own), n)
		}
	}
	w.now.Add(int64(2 * time.Minute)) // what nobody asks for any more goes too
	if w.Keep(); len(cr.link.own) != 0 {
		t.Error("the last certificate's connections stay")
	}
}

// TestSigV4: the request is signed as it is sent, and neither part of the key goes out or comes back.
func TestSigV4(t *testing.T) {
	const id, key = "AKIDDEMO0001", "demo/upstream+key/of/research/0001"
	w := newWorld(t, estatetest.Edit(func(p *estate.Plan) {
		c := &p.Custody["research"].Credentials[0]
		c.Inject = statement.Inject{As: "sigv4", Name: "bedrock", Region: "eu-central-1"}
		c.Destination.Origin = "https://bedrock-runtime.eu-central-1.amazonaws.com"
	}))
	w.handover("research-openai", 1, id+":"+key)
	w.wire.answer = func(_ context.Context, r *egress.Request) (*egress.Response, error) {
		// The request must be whole while it is sent: the wire signs it once more.
		sum := sha256.Sum256(r.Body)
		again := &sigv4.Request{Method: r.Method, Target: string(r.Target), Body: sum, Fields: []sigv4.Field{{Name: "host", Value: []byte("bedrock-runtime.eu-central-1.amazonaws.com")}}}
		var at time.Time
		for _, f := range r.Header {
			switch f.Name {
			case "X-Amz-Date":
				at, _ = time.Parse(sigv4.Time, f.Value)
			case "Content-Type":
			case "X-Amz-Content-Sha256":
				if f.Value != hex.EncodeToString(sum[:]) {
					t.Error("the body has another digest")
				}
			default:
				continue
			}
			again.Fields = append(again.Fields, sigv4.Field{Name: strings.ToLower(f.Name), Value: []byte(f.Value)})
		}
		want := sigv4.Scope{Region: "eu-central-1", Service: "bedrock"}.Authorization(again, id, []byte(key), at)
		if got := r.Secrets[0]; got.Name != "Authorization" || !bytes.Equal(got.Value, want) || time.Since(at).Abs() > time.Minute {
			t.Errorf("%s: %s, want %s", got.Name, got.Value, want)
		}
		return reply(200, `{"ok":true}`), nil
	}
	if a := w.do(w.chat()); a.refusal != nil {
		t.Fatal(a.refusal)
	}
	if len(w.wire.sent) != 1 || bytes.Contains(w.wire.sent[0].Target, []byte(key)) {
		t.Fatal("not sent, or with the key")
	}
	w.wire.answer = func(context.Context, *egress.Request) (*egress.Response, error) {
		return reply(200, `{"got":"`+key+`"}`), nil
	}
	if a := w.do(w.chat()); a.broken == "" || strings.Contains(a.body.String(), key) {
		t.Errorf("the key came back: %s", a.body.String())
	}
	for _, e := range w.ledger.of(entry.Intent) {
		if strings.Contains(fmt.Sprint(e), key) {
			t.Error("the ledger holds the key")
		}
	}
	env, ciphertext := w.sealedTo(w.estate.Identity.Recipient(), "research-openai", 2, "demo-upstream-key-without-its-id", w.estate.Cora)
	if err := w.Receive(env, ciphertext); err == nil {
		t.Error("a key without its id was taken")
	}
}
