package oauth

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/reevehq/reeve/internal/custodian/source"
	tokens "github.com/reevehq/reeve/internal/custodian/source/oauth"
	"github.com/reevehq/reeve/internal/custodian/source/sourcetest"
	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/internal/need"
	"github.com/reevehq/reeve/internal/secret"
	"github.com/reevehq/reeve/internal/statement"
)

// clientSecret shows whether both sides encode alike.
const clientSecret = "demo secret:of+a%client/1"

// idp is a real OpenID provider, oidc-provider, as a token endpoint.
type idp struct {
	URL     string
	Refresh []string

	t       *testing.T
	ca      string
	client  *http.Client
	durable ledger.Durable
}

// identity is a key with a certificate that it signed itself.
func identity(t *testing.T) (key *rsa.PrivateKey, keyPEM, certPEM string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "demo"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	text, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	return key, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: text})), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func startIDP(t *testing.T, public any, certificate string) *idp {
	t.Helper()
	need.Part(t, "node")
	if _, err := os.Stat("node/node_modules/oidc-provider"); err != nil {
		t.Fatal("the Node packages are missing: run npm ci in e2e/oauth/node")
	}
	_, key, cert := identity(t)
	given, err := json.Marshal(map[string]any{
		"key": key, "cert": cert, "jwk": jose.JSONWebKey{Key: public, KeyID: "k1", Use: "sig"}, "certificate": certificate, "secret": clientSecret,
	})
	must(t, err)
	cmd := exec.Command("node", "provider.mjs")
	cmd.Dir, cmd.Stdin = "node", bytes.NewReader(given)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("the provider said: %s", &stderr)
		}
	})
	p := &idp{t: t, ca: cert, durable: sourcetest.Durable(t)}
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	if err != nil || json.Unmarshal(line, p) != nil {
		t.Fatalf("the provider did not start: %v %s", err, line)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(cert))
	p.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	t.Cleanup(p.client.CloseIdleConnections)
	return p
}

// source makes one, with a State of its own or that of an earlier one.
func (p *idp) source(root map[string]string, state source.State, words map[string]string) source.Source {
	p.t.Helper()
	s, err := tokens.New(p.config(root, state, words))
	must(p.t, err)
	p.t.Cleanup(s.Close)
	return s
}

func (p *idp) config(root map[string]string, state source.State, words map[string]string) source.Config {
	p.t.Helper()
	text, err := json.Marshal(root)
	must(p.t, err)
	c := statement.Credential{
		ID: "research-crm", Source: "oauth", Inject: statement.Inject{As: "bearer"},
		Destination: statement.Destination{Origin: "https://api.example", Methods: []string{"GET"}, Paths: []string{"/v1/*"}},
		From: statement.From{URL: p.URL + "/token", CA: p.ca, Networks: []string{"127.0.0.1/32"},
			Parameters: map[string]string{"grant": "client_credentials", "revocation": "/token/revocation"}},
	}
	for name, v := range words {
		c.From.Parameters[name] = v
	}
	if c.From.Parameters["grant"] == "refresh_token" {
		c.From.Home = "c1"
	}
	return source.Config{Custodian: "c1", Record: c, State: state, Clock: time.Now,
		Root: func(ledger.Durable) (secret.Value, error) { return secret.New(bytes.Clone(text)), nil }}
}

func (p *idp) fetch(s source.Source) *source.Secret {
	p.t.Helper()
	got, err := s.Fetch(context.Background(), p.durable, source.Ask{})
	must(p.t, err)
	return got
}

// introspect asks the provider about a token (RFC 7662).
func (p *idp) introspect(token string) (got struct {
	Active   bool   `json:"active"`
	ClientID string `json:"client_id"`
	Scope    string `json:"scope"`
	Audience string `json:"aud"`
	Expires  int64  `json:"exp"`
}) {
	p.t.Helper()
	resp, err := p.client.PostForm(p.URL+"/token/introspection", url.Values{"token": {token}, "client_id": {"post"}, "client_secret": {clientSecret}})
	must(p.t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	must(p.t, err)
	if resp.StatusCode != 200 || json.Unmarshal(b, &got) != nil {
		p.t.Fatalf("introspection: %s %s", resp.Status, b)
	}
	return got
}

// memory is a State.
type memory struct {
	mu sync.Mutex
	b  []byte
}

func (m *memory) Load() (secret.Value, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return secret.New(bytes.Clone(m.b)), nil
}

func (m *memory) Save(v secret.Value) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.b = bytes.Clone(v.Reveal())
	return nil
}

// A real provider gives tokens to a client that shows itself in each way, says that they are good, and that they are not once they are revoked.
func TestRealProviderGivesTokens(t *testing.T) {
	need.Real(t, "node")
	key, keyPEM, _ := identity(t)
	_, shownKey, shown := identity(t)
	p := startIDP(t, key.Public(), shown)
	for _, tt := range []struct {
		name  string
		root  map[string]string
		words map[string]string
		wrong map[string]string
	}{
		{"basic", map[string]string{"client_secret": clientSecret}, map[string]string{"client_id": "basic client/1"}, map[string]string{"client_secret": clientSecret + "1"}},
		{"post", map[string]string{"client_secret": clientSecret}, map[string]string{"client_id": "post", "authentication": "client_secret_post"}, map[string]string{"client_secret": clientSecret + "1"}},
		{"private key", map[string]string{"private_key": keyPEM}, map[string]string{"client_id": "signs", "authentication": "private_key_jwt", "key_id": "k1"}, map[string]string{"private_key": shownKey}},
		{"private key, PS256, for the issuer", map[string]string{"private_key": keyPEM},
			map[string]string{"client_id": "signs", "authentication": "private_key_jwt", "algorithm": "PS256", "assertion_audience": p.URL}, map[string]string{"private_key": shownKey}},
		{"certificate", map[string]string{"private_key": shownKey, "certificate": shown}, map[string]string{"client_id": "shows", "authentication": "tls_client_auth"}, nil},
		{"resource and scope", map[string]string{"client_secret": clientSecret}, map[string]string{"client_id": "basic client/1", "resource": "https://api.example/", "scope": "read"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := *p
			p.t = t
			s := p.source(tt.root, nil, tt.words)
			got := p.fetch(s)
			token := string(got.Value.Reveal())
			said := p.introspect(token)
			if !said.Active || said.ClientID != tt.words["client_id"] || said.Scope != tt.words["scope"] || said.Audience != tt.words["resource"] {
				t.Errorf("the provider says %+v", said)
			}
			if d := got.Expires.Sub(time.Unix(said.Expires, 0)); d < -5*time.Second || d > 5*time.Second {
				t.Errorf("expires %v by the source, %v by the provider", got.Expires, time.Unix(said.Expires, 0))
			}
			other := p.fetch(s)
			for range 2 {
				must(t, s.Revoke(context.Background(), p.durable, got))
				if p.introspect(token).Active {
					t.Error("revoked, and active")
				}
			}
			if !p.introspect(string(other.Value.Reveal())).Active {
				t.Error("the other one is not active")
			}
			if tt.wrong == nil {
				return
			}
			_, err := p.source(tt.wrong, nil, tt.words).Fetch(context.Background(), p.durable, source.Ask{})
			if !errors.Is(err, source.ErrRefused) || !strings.Contains(err.Error(), "invalid_client") {
				t.Errorf("with a wrong secret: %v", err)
			}
		})
	}
	_, err := p.source(map[string]string{"client_secret": clientSecret}, nil, map[string]string{"client_id": "basic client/1", "resource": "https://other.example/"}).Fetch(context.Background(), p.durable, source.Ask{})
	if !errors.Is(err, source.ErrRefused) || !strings.Contains(err.Error(), "from.parameters.resource") {
		t.Errorf("another resource: %v", err)
	}
}

// A real provider that takes each refresh token once: none is spent twice over restarts, ending one ends what came of it, and what a crash lost is
// told to the owner.
func TestRealProviderRotatesRefreshTokens(t *testing.T) {
	need.Real(t, "node")
	key, _, cert := identity(t)
	p := startIDP(t, key.Public(), cert)
	words := map[string]string{"grant": "refresh_token", "client_id": "app"}
	root := func(i int) map[string]string {
		return map[string]string{"client_secret": clientSecret, "refresh_token": p.Refresh[i], "home": "c1"}
	}
	state := &memory{}
	s := p.source(root(0), state, words)
	first := p.fetch(s)
	if p.introspect(p.Refresh[0]).Active {
		t.Error("the provider takes a refresh token twice")
	}
	for range 4 {
		s.Close()
		s = p.source(root(0), state, words)
		if got := p.fetch(s); !p.introspect(string(got.Value.Reveal())).Active {
			t.Error("a token that is not active")
		}
	}
	last := p.fetch(s)
	kept := strings.Split(string(state.b), "\n")[2]
	if !p.introspect(kept).Active || !p.introspect(string(first.Value.Reveal())).Active {
		t.Error("the refresh token that is kept, or the first access token, is not active")
	}
	must(t, s.(source.Ender).End(context.Background(), p.durable))
	if p.introspect(kept).Active || p.introspect(string(last.Value.Reveal())).Active {
		t.Error("ended, and active")
	}
	if _, err := s.Fetch(context.Background(), p.durable, source.Ask{}); !errors.Is(err, source.ErrRefused) {
		t.Errorf("after the end: %v", err)
	}
	s.Close()
	s = p.source(root(1), state, words) // authorized anew and handed over
	p.fetch(s)
	s.Close()

	// The answer came, and nothing of it was stored.
	marked := &once{memory: &memory{}}
	s = p.source(root(2), marked, words)
	if _, err := s.Fetch(context.Background(), p.durable, source.Ask{}); err == nil {
		t.Error("used before it was stored")
	}
	s.Close()
	cfg := p.config(root(2), marked.memory, words)
	cfg.Clock = func() time.Time { return time.Now().Add(time.Minute) } // a mark keeps others away for a while
	again, err := tokens.New(cfg)
	must(t, err)
	defer again.Close()
	_, err = again.Fetch(context.Background(), p.durable, source.Ask{})
	if !errors.Is(err, source.ErrRefused) || !strings.Contains(err.Error(), "cut off") {
		t.Errorf("after the crash: %v", err)
	}
}

// once is a State that stores one time.
type once struct {
	*memory
	saved bool
}

func (o *once) Save(v secret.Value) error {
	if o.saved {
		return errors.New("the process is gone")
	}
	o.saved = true
	return o.memory.Save(v)
}
