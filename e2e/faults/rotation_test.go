package faults

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/demo"
	"github.com/reevehq/reeve/internal/demo/upstream"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/need"
	"github.com/reevehq/reeve/internal/secret"
	"github.com/reevehq/reeve/internal/statement"
)

// provider is an upstream of the test's own that takes the newest secret that it knows, and the one before.
type provider struct {
	*httptest.Server
	mu     sync.Mutex
	known  []string
	failed atomic.Int64
}

// newProvider serves over TLS; of tells what secret a request shows.
func newProvider(t testing.TB, of func(*http.Request) string, answer string) *provider {
	t.Helper()
	p := &provider{}
	p.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		ok := slices.Contains(p.known[max(0, len(p.known)-2):], of(r))
		p.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		if !ok {
			p.failed.Add(1)
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, `{"error":{"message":"not the newest secret, nor the one before"}}`)
			return
		}
		fmt.Fprint(w, answer)
	}))
	p.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	p.StartTLS()
	t.Cleanup(p.Close)
	return p
}

func (p *provider) learn(secret string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.known = append(p.known, secret)
}

// serve puts a credential at the provider, with its secret as inject says.
func (p *provider) serve(c *statement.Credential, inject statement.Inject) {
	c.Destination.Origin, c.Inject = p.URL, inject
	c.Destination.CA = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate().Raw}))
}

// clientCertificate makes a private key and its certificate, in one text of PEM, and says by what a provider knows it.
func clientCertificate(t testing.TB) (text, serial string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	number := new(big.Int).SetBytes([]byte(rand.Text()))
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: number, NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}},
		&x509.Certificate{}, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})) + string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), number.String()
}

const (
	completion = `{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"demo-small","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"yes"}}]}`
	message    = `{"id":"msg-1","type":"message","role":"assistant","model":"demo-claude","content":[{"type":"text","text":"yes"}],"stop_reason":"end_turn","usage":{"input_tokens":1,"output_tokens":1}}`
)

// rotating is a credential under load.
type rotating struct {
	id    string
	call  func() answer
	next  func() string // a secret that its provider takes from now on
	calls atomic.Int64
}

// TestRealRotationUnderLoad: the secrets of all four credentials change about every second, together, and at their providers too, under about 1,000 calls
// a second through the real processes: a bearer, a header, a query parameter, a client certificate. No call fails, and no version is begun with after the
// entry that says it is over.
func TestRealRotationUnderLoad(t *testing.T) {
	need.Real(t)
	query := newProvider(t, func(r *http.Request) string { return r.URL.Query().Get("key") }, completion)
	mutual := newProvider(t, func(r *http.Request) string {
		if len(r.TLS.PeerCertificates) == 0 {
			return ""
		}
		return r.TLS.PeerCertificates[0].SerialNumber.String()
	}, message)
	certificate := func() string {
		text, serial := clientCertificate(t)
		mutual.learn(serial)
		return text
	}
	s := makeSite(t, func(credential string) secret.Value {
		switch key := demo.RandomKey(credential); credential {
		case "support-openai":
			query.learn(string(key.Reveal()))
			return key
		case "support-anthropic":
			return secret.New([]byte(certificate()))
		default:
			return key
		}
	}, func(p *estate.Plan) {
		all := p.Custody["support"].Credentials
		query.serve(&all[0], statement.Inject{As: "query", Name: "key"})
		mutual.serve(&all[1], statement.Inject{As: "tls"})
	})
	s.mustUp()
	path, keys := s.upstreamKeys()
	var demos sync.Mutex // spans keys
	fresh := func(credential, dialect string) func() string {
		return func() string {
			demos.Lock()
			defer demos.Unlock()
			key := demo.RandomKey(credential)
			keys = append(keys, upstream.HashKey(credential, dialect, key.Reveal()))
			s.accept(path, keys)
			return string(key.Reveal())
		}
	}
	chat := func(key string) func() answer {
		return func() answer {
			return s.call(key, http.MethodPost, "/v1/chat/completions", `{"model":"openai/demo-small","messages":[{"role":"user","content":"rotation"}]}`)
		}
	}
	messages := func(key string) func() answer {
		return func() answer {
			return s.call(key, http.MethodPost, "/v1/messages", `{"model":"anthropic/demo-claude","max_tokens":16,"messages":[{"role":"user","content":"rotation"}]}`)
		}
	}
	all := []*rotating{
		{id: "research-openai", call: chat(s.key), next: fresh("research-openai", "openai")},
		{id: "research-anthropic", call: messages(s.key), next: fresh("research-anthropic", "anthropic")},
		{id: "support-openai", call: chat(s.supportKey()), next: func() string {
			key := string(demo.RandomKey("").Reveal())
			query.learn(key)
			return key
		}},
		{id: "support-anthropic", call: messages(s.supportKey()), next: certificate},
	}
	const rotations, callers, rate = 8, 32, 1000
	var calls, failed atomic.Int64
	var first atomic.Pointer[string]
	stop := make(chan struct{})
	var group sync.WaitGroup
	for caller := range callers {
		c := all[caller%len(all)]
		group.Go(func() {
			tick := time.NewTicker(time.Second * callers / rate)
			defer tick.Stop()
			for {
				select {
				case <-stop:
					return
				case <-tick.C:
				}
				a := c.call()
				c.calls.Add(1)
				if calls.Add(1); a.status != http.StatusOK {
					failed.Add(1)
					text := fmt.Sprint(c.id, ": ", a)
					first.CompareAndSwap(nil, &text)
				}
			}
		})
	}
	begun := time.Now()
	for n := range rotations {
		var together sync.WaitGroup
		for _, c := range all {
			together.Go(func() { s.rotate(c.id, secret.New([]byte(c.next()))) }) // its provider knows the new one before it is handed over
		}
		together.Wait()
		time.Sleep(max(0, time.Until(begun.Add(time.Duration(n+1)*time.Second))))
	}
	took := time.Since(begun)
	close(stop)
	group.Wait()
	t.Logf("%d calls in %s (%.0f a second), %d rotations of each of %d credentials", calls.Load(), took.Round(time.Millisecond), float64(calls.Load())/took.Seconds(), rotations, len(all))
	if failed.Load() > 0 {
		t.Errorf("%d of %d calls failed, first: %v", failed.Load(), calls.Load(), *first.Load())
	}
	if n := query.failed.Load() + mutual.failed.Load(); n > 0 {
		t.Errorf("%d requests were sent with a secret that was older than the one before the newest", n)
	}
	s.settled()
	over, used := map[string]bool{}, map[string]map[string]int{}
	for _, log := range s.gather(nil).logs {
		for _, e := range log {
			version := e.Credential + " " + e.Lease
			switch {
			case e.Type == entry.Version && e.State != "active":
				over[version] = true
			case e.Type == entry.Intent:
				if used[e.Credential] == nil {
					used[e.Credential] = map[string]int{}
				}
				if used[e.Credential][e.Lease]++; over[version] {
					t.Fatalf("%s is used in entry %d, after the one that says it is over", version, e.Seq)
				}
			}
		}
	}
	for _, c := range all {
		if len(used[c.id]) != rotations+1 || c.calls.Load() < rate/int64(len(all)) {
			t.Errorf("%s: %d calls, versions used: %v", c.id, c.calls.Load(), used[c.id])
		}
	}
}

// rotate hands a secret over as its owner does.
func (s *site) rotate(credential string, value secret.Value) {
	s.Helper()
	out, status := s.reeveWith(string(value.Reveal()), "credential", "rotate", credential, "--as", "cora")
	if status != 0 {
		s.Errorf("rotating %s: exit status %d: %s", credential, status, out)
	}
}
