package gateway

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/hop"
	"github.com/reevehq/reeve/internal/pop"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/workload"
)

// provers is a rig whose gateway verifies proofs by an estate with an issuer.
type provers struct {
	*rig
	issuer *estatetest.Issuer
	signer *pop.Signer
}

func newProvers(t *testing.T, script hop.Handler) *provers {
	p := &provers{issuer: estatetest.NewIssuer(t)}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if p.signer, err = pop.NewSigner(key); err != nil {
		t.Fatal(err)
	}
	edit := func(e *estate.Plan) {
		e.Charter.Issuers = append(e.Charter.Issuers, p.issuer.Charter("cluster", "https://kubernetes.example"))
		e.Charter.Workloads[0].Identities = append(e.Charter.Workloads[0].Identities, statement.Identity{Issuer: "cluster", Audience: "reeve", Subject: "system:serviceaccount:research:agent"})
	}
	p.rig = newRig(t, script, func(r *rig) {
		r.estate = estatetest.New(t, estatetest.Edit(plan), estatetest.Edit(edit))
		records := NewRecords(nil)
		if err := records.Use(r.estate.Set); err != nil {
			t.Fatal(err)
		}
		envs, err := estate.ReadRecords(r.estate.Dir.Store(), "workload-key")
		if err != nil {
			t.Fatal(err)
		}
		for _, env := range envs {
			if err := records.Take(&statement.Record{Kind: "workload-key", Envelope: env}); err != nil {
				t.Fatal(err)
			}
		}
		r.parts.Proofs = records
	})
	return p
}

func (p *provers) token(claims map[string]any) string {
	all := map[string]any{"iss": "https://kubernetes.example", "sub": "system:serviceaccount:research:agent", "aud": "reeve", "exp": time.Now().Add(time.Hour).Unix()}
	for k, v := range claims {
		all[k] = v
	}
	return string(p.issuer.Sign(jose.ES256, all, nil))
}

func (p *provers) bound() string {
	return p.token(map[string]any{"cnf": map[string]any{"jkt": p.signer.KeyID()}})
}

// request is a call, signed when terms are given. The client signs the gateway's public URL.
func (p *provers) request(method, path, body, token string, terms *pop.Terms, header ...string) *http.Request {
	p.t.Helper()
	r, err := http.NewRequest(method, p.url+path, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	r.Header.Set("Authorization", "Bearer "+token)
	if terms != nil {
		signed := &pop.Request{Method: method, URL: "https://ai.example" + path, Header: r.Header.Values, Body: []byte(body)}
		if err := p.signer.Sign(signed, *terms, nil, time.Now(), r.Header.Set); err != nil {
			p.t.Fatal(err)
		}
	}
	return r
}

func (p *provers) send(r *http.Request) (*http.Response, string) {
	p.t.Helper()
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return resp, string(b)
}

// Whatever a workload shows goes to the custodian as it came; a signed request with all that its signature covers.
func TestProofsAreForwarded(t *testing.T) {
	p := newProvers(t, answerJSON)
	terms := &pop.Terms{Credential: "research-openai", Audience: "c1", Nonce: "n"}
	for name, c := range map[string]struct {
		token, header string
		terms         *pop.Terms
		kind          string
	}{
		"a key":            {string(p.estate.Keys["research-agent"].Reveal()), "", nil, workload.Bearer},
		"a token":          {p.token(nil), "", nil, workload.Token},
		"a signed request": {p.bound(), "", terms, workload.Pop},
	} {
		resp, body := p.send(p.request("POST", "/v1/chat/completions?x=%20y", chat, c.token, c.terms))
		if resp.StatusCode != 200 {
			t.Fatalf("%s: %s %s", name, resp.Status, body)
		}
		o := p.open()
		p.opens = nil
		if o.Proof.Kind != c.kind || string(o.Proof.Value) != c.token || o.URL != "https://ai.example/v1/chat/completions?x=%20y" {
			t.Errorf("%s: forwarded as %s, %s", name, o.Proof.Kind, o.URL)
		}
		if c.terms == nil {
			for _, f := range o.Header {
				if strings.HasPrefix(f.Name, "Reeve-") {
					t.Errorf("%s: %s went on", name, f.Name)
				}
			}
			continue
		}
		header := http.Header{"Authorization": {"Bearer " + c.token}}
		for _, f := range o.Header {
			header.Add(f.Name, f.Value)
		}
		proof, err := pop.Parse(&pop.Request{Method: o.Method, URL: o.URL, Header: header.Values, Body: o.Body})
		if err != nil || proof.Verify(time.Now()) != nil {
			t.Errorf("the signature does not hold at the custodian: %v", err)
		}
	}
}

// What cannot be right does not reach the custodian.
func TestProofsAreRefusedEarly(t *testing.T) {
	p := newProvers(t, answerJSON)
	terms := func() *pop.Terms { return &pop.Terms{Credential: "research-openai", Audience: "c1", Nonce: "n"} }
	for name, r := range map[string]*http.Request{
		"an expired token":           p.request("POST", "/v1/chat/completions", chat, p.token(map[string]any{"exp": time.Now().Add(-time.Minute).Unix()}), nil),
		"another audience":           p.request("POST", "/v1/chat/completions", chat, p.token(map[string]any{"aud": "x"}), nil),
		"a bound token alone":        p.request("POST", "/v1/chat/completions", chat, p.bound(), nil),
		"a signature of another key": p.request("POST", "/v1/chat/completions", chat, p.token(map[string]any{"cnf": map[string]any{"jkt": "x"}}), terms()),
		"a free token, signed":       p.request("POST", "/v1/chat/completions", chat, p.token(nil), terms()),
		"no token":                   p.request("POST", "/v1/chat/completions", chat, "e30.e30.e30", nil),
		"another method": func() *http.Request {
			r := p.request("POST", "/v1/chat/completions", chat, p.bound(), terms())
			r.URL.RawQuery = "x"
			return r
		}(),
	} {
		resp, body := p.send(r)
		if resp.StatusCode != http.StatusUnauthorized || resp.Header.Get(refusalField) != "unauthenticated" {
			t.Errorf("%s: %s %s", name, resp.Status, body)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.opens) != 0 {
		t.Errorf("%d requests reached the custodian", len(p.opens))
	}
}

// The custodian's nonce reaches the client with answers and with refusals.
func TestNonceIsPassedOn(t *testing.T) {
	p := newProvers(t, nil)
	p.script = func(_ context.Context, _ hop.Peer, o *hop.Open, w *hop.Writer) {
		if bytes.Contains(o.Body, []byte("again")) {
			w.Refuse(&hop.Refusal{Code: "use_reeve_nonce", Status: 401, Message: "Sign it again.", Nonce: "n2"})
			return
		}
		w.Head(200, []hop.Field{{Name: "Content-Type", Value: "application/json"}, {Name: "Reeve-Nonce", Value: "n1"}})
		w.Write([]byte("{}"))
		w.End(nil)
	}
	resp, _ := p.send(p.request("POST", "/v1/chat/completions", chat, p.token(nil), nil))
	if resp.Header.Get("Reeve-Nonce") != "n1" {
		t.Errorf("an answer has %q", resp.Header)
	}
	resp, body := p.send(p.request("POST", "/v1/chat/completions", strings.Replace(chat, "hello", "again", 1), p.token(nil), nil))
	if resp.StatusCode != 401 || resp.Header.Get("Reeve-Nonce") != "n2" || resp.Header.Get(refusalField) != "use_reeve_nonce" {
		t.Errorf("a refusal has %s %q %s", resp.Status, resp.Header, body)
	}
}

// An agent asks what it may use, and hears of nobody else.
func TestMe(t *testing.T) {
	p := newProvers(t, answerJSON)
	terms := &pop.Terms{Credential: "none", Audience: "c1", Nonce: "n"}
	for level, r := range map[string]*http.Request{
		"W0": p.request("GET", mePath, "", string(p.estate.Keys["research-agent"].Reveal()), nil),
		"W1": p.request("GET", mePath, "", p.token(nil), nil),
		"W2": p.request("GET", mePath, "", p.bound(), terms),
	} {
		resp, body := p.send(r)
		var got me
		if err := json.Unmarshal([]byte(body), &got); err != nil || resp.StatusCode != 200 || resp.Header.Get("Cache-Control") != "no-store" {
			t.Fatalf("%s: %s %s", level, resp.Status, body)
		}
		if until, err := time.Parse(time.RFC3339, got.Expires); err != nil || !until.After(time.Now()) {
			t.Errorf("%s: expires %s", level, got.Expires)
		}
		proof, issuer := map[string]string{"W0": "bearer", "W1": "token", "W2": "pop"}[level], map[string]string{"W0": "reeve", "W1": "cluster", "W2": "cluster"}[level]
		got.Expires = ""
		want := me{
			Workload: "research-agent", Unit: "research", Tenant: "acme", Level: level, Proof: proof, Issuer: issuer, Actors: []string{},
			Credentials: []meCredential{{"research-anthropic", "anthropic", []string{"c1"}}, {"research-openai", "openai", []string{"c1"}}},
			Models:      []string{"anthropic/claude-large", "anthropic/claude-small", "claude-fast", "fast", "openai/large", "openai/small", "openai/vector"}, Tools: []string{},
			Limits: got.Limits,
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", level, d)
		}
		if got.Limits.BodyBytes != 32<<20 || got.Limits.Ceilings == nil || strings.Contains(body, "support") {
			t.Errorf("%s: %s", level, body)
		}
	}
	resp, body := p.send(p.request("GET", mePath, "", "nobody", nil))
	if resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("nobody: %s %s", resp.Status, body)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.opens) != 0 {
		t.Error("the custodian was asked")
	}
}
