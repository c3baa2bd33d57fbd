// Package sidecar stands beside a workload and proves each of its requests: it holds the workload's key, gets its token, signs the
// request (docs/formats/proof.md) and passes the answer on as it comes, so that SDKs that know nothing of it get level W2.
//
// It is a client of the gateway like any other: what it proves, the custodian verifies. It is no boundary within the machine
// beyond its listener: who reaches that as the workload's user is the workload.
package sidecar

import (
	"cmp"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/reevehq/reeve/internal/pop"
)

// Parts are what a Sidecar is made of besides its configuration.
type Parts struct {
	Door *Door
	// SVID opens an X.509-SVID source, and JWT fetches of a JWT-SVID, of a Workload API; needed where the configuration says spiffe.
	SVID func(SPIFFE) (Source, error)
	JWT  func(SPIFFE) (Fetch, error)

	Log *slog.Logger
	Now func() time.Time
}

// Sidecar is an http.Handler that proves requests and passes them on.
type Sidecar struct {
	Parts
	cfg    *Config
	source Source
	base   *url.URL // Config.Gateway
	way    http.RoundTripper
	lent   atomic.Int64 // bytes of bodies that are held

	mu     sync.Mutex        // guards nonces
	nonces map[string]string // the newest of each custodian

	me atomic.Pointer[me]
}

// New returns a sidecar.
func New(cfg *Config, p Parts) (*Sidecar, error) {
	base, err := url.Parse(cfg.Gateway)
	if err != nil {
		return nil, err
	}
	way, err := transport(cfg.CA, cfg.Connect)
	if err != nil {
		return nil, err
	}
	s := &Sidecar{Parts: p, cfg: cfg, base: base, way: way, nonces: map[string]string{}}
	s.source, err = s.open()
	return s, err
}

// transport is a way to one server: over TLS by the system's roots and those of ca, to its own address or to another one. It takes
// no proxy from the environment, and what it sends it sends once.
func transport(ca, connect string) (http.RoundTripper, error) {
	t := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64, IdleConnTimeout: 60 * time.Second, TLSHandshakeTimeout: 10 * time.Second, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}}
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	t.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if connect != "" {
			addr = connect
		}
		return dialer.DialContext(ctx, network, addr)
	}
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return nil, fmt.Errorf("reading the roots: %w", err)
		}
		roots, err := x509.SystemCertPool()
		if err != nil {
			roots = x509.NewCertPool()
		}
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate in PEM", ca)
		}
		t.TLSClientConfig.RootCAs = roots
	}
	return t, nil
}

// open makes the source that the configuration names.
func (s *Sidecar) open() (Source, error) {
	if s.cfg.x509() {
		return s.SVID(*s.cfg.Token.SPIFFE)
	}
	var key crypto.Signer
	var signer *pop.Signer
	if s.cfg.Key != "" {
		var err error
		if key, err = ReadKey(s.cfg.Key); err != nil {
			return nil, err
		}
		if signer, err = pop.NewSigner(key); err != nil {
			return nil, err
		}
	}
	fetch, err := s.fetch(key)
	if err != nil {
		return nil, err
	}
	if a := s.cfg.Authority; a.URL != "" {
		way, err := transport(a.CA, "")
		if err != nil {
			return nil, err
		}
		e := &exchange{endpoint: a.Issuer + "/v1/token", url: a.URL + "/v1/token", inner: fetch, own: s.cfg.Token.Own != nil, key: key, client: way, now: s.Now}
		return newHeld(e.fetch, signer, s.Now), nil
	}
	if s.cfg.Token.File != "" {
		return file{s.cfg.Token.File, signer}, nil
	}
	return newHeld(fetch, signer, s.Now), nil
}

// fetch is where the token comes from before the authority.
func (s *Sidecar) fetch(key crypto.Signer) (Fetch, error) {
	t := &s.cfg.Token
	switch {
	case t.Own != nil:
		audience := t.Own.Audience
		if s.cfg.Authority.URL != "" {
			audience = s.cfg.Authority.Issuer
		}
		return own(key, t.Own.Issuer, audience, s.Now), nil
	case t.File != "":
		return func(context.Context) (string, error) { return readToken(t.File) }, nil
	case t.SPIFFE != nil:
		return s.JWT(*t.SPIFFE)
	}
	return command(t.Command), nil
}

// me is what the sidecar reads of the gateway's answer to GET /v1/reeve/me.
type me struct {
	Workload    string `json:"workload"`
	Level       string `json:"level"`
	Expires     string `json:"expires"`
	Credentials []struct {
		Name       string   `json:"name"`
		Dialect    string   `json:"dialect"`
		Custodians []string `json:"custodians"`
	} `json:"credentials"`
	Limits struct {
		BodyBytes int64 `json:"body_bytes"`
	} `json:"limits"`
}

// mePath is where a gateway says whom it takes the caller for, and what the caller may use.
const mePath = "/v1/reeve/me"

// Ask asks the gateway whom it takes the workload for: that the sidecar's proof holds, and which custodians there are.
func (s *Sidecar) Ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	r := &request{method: http.MethodGet, uri: mePath, header: http.Header{"Accept": {"application/json"}}, terms: pop.Terms{Credential: "me", Audience: "me", Nonce: noNonce}}
	resp, err := s.send(ctx, r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return fmt.Errorf("asking %s who this is: %w", s.cfg.Gateway, err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s does not take this sidecar's proof (%d): %s", s.cfg.Gateway, resp.StatusCode, message(b))
	}
	var got me
	if err := json.Unmarshal(b, &got); err != nil || got.Workload == "" {
		return fmt.Errorf("%s does not answer %s as a gateway does; is the URL right?", s.cfg.Gateway, mePath)
	}
	s.me.Store(&got)
	return nil
}

// message is the text of an error's body, or nothing.
func message(body []byte) string {
	var e struct {
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	_ = json.Unmarshal(body, &e) // what is no error's body has no message
	return fmt.Sprintf("%.500q", e.Error.Message)
}

// Who is the workload and its level, as the gateway said last; empty before.
func (s *Sidecar) Who() (workload, level string) {
	if m := s.me.Load(); m != nil {
		return m.Workload, m.Level
	}
	return "", ""
}

// Watch asks the gateway until ctx ends, so that tokens are renewed ahead and custodians known, and tells how it went: nil, or why not.
func (s *Sidecar) Watch(ctx context.Context, tell func(error)) {
	for ctx.Err() == nil {
		err := s.Ask(ctx)
		if ctx.Err() != nil {
			return
		}
		tell(err)
		wait := 30 * time.Second
		if err != nil {
			wait = 2 * time.Second
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// noNonce is sent where no nonce of the custodian is known: its refusal brings one.
const noNonce = "none"

func (s *Sidecar) nonce(audience string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.nonces[audience]; n != "" {
		return n
	}
	return noNonce
}

// learn keeps a nonce that came with an answer.
func (s *Sidecar) learn(audience, nonce string) {
	if nonce == "" || len(nonce) > 256 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nonces[audience] = nonce
}

// terms are what a request is signed for. name is the credential or model that it names, or empty.
func (s *Sidecar) terms(ctx context.Context, path, name string) (pop.Terms, error) {
	t := pop.Terms{Credential: name, Audience: s.cfg.Audience, Fallbacks: s.cfg.Fallbacks}
	m := s.me.Load()
	if m == nil {
		if err := s.Ask(ctx); err != nil {
			return t, err
		}
		m = s.me.Load()
	}
	dialect := "openai"
	if strings.HasPrefix(path, "/anthropic/") || strings.HasPrefix(path, "/v1/messages") {
		dialect = "anthropic"
	}
	t.Audience = cmp.Or(t.Audience, m.find(name, dialect), nothing)
	t.Credential = cmp.Or(t.Credential, nothing) // never what the gateway says
	return t, nil
}

// nothing stands where a request has no credential or custodian: the gateway answers what needs none, such as the list of models,
// and refuses the rest.
const nothing = "none"

// find returns the custodian of the credential that is named, or else of one of the dialect, or of any.
func (m *me) find(name, dialect string) (custodian string) {
	best := 0
	for _, c := range m.Credentials {
		rank := 1
		if c.Dialect == dialect {
			rank = 2
		}
		if c.Name == name {
			rank = 3
		}
		if rank > best && len(c.Custodians) > 0 {
			best, custodian = rank, c.Custodians[0]
		}
	}
	return custodian
}
