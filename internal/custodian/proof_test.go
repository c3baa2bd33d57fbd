package custodian

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/closing"
	"github.com/reevehq/reeve/internal/custodian/egress"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/hop"
	"github.com/reevehq/reeve/internal/pop"
	"github.com/reevehq/reeve/internal/replay"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/workload"
)

const gatewayURL = "http://127.0.0.1:7800"

// signing is a world whose research agent has tokens of an issuer, and a key that they are bound to.
type signing struct {
	*world
	issuer *estatetest.Issuer
	signer *pop.Signer
	token  ed25519.PrivateKey // the authority's
}

func newSigning(t testing.TB, opts ...estatetest.Option) *signing {
	s := &signing{issuer: estatetest.NewIssuer(t)}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	s.signer, err = pop.NewSigner(key)
	must(t, err)
	_, s.token, err = ed25519.GenerateKey(rand.Reader)
	must(t, err)
	s.world = newWorld(t, append(opts, estatetest.Edit(func(p *estate.Plan) {
		c := &p.Charter
		c.Authority.Issuer = "https://authority.example"
		c.Issuers = append(c.Issuers, s.issuer.Charter("cluster", "https://kubernetes.example"))
		c.Workloads[0].Identities = append(c.Workloads[0].Identities, statement.Identity{Issuer: "cluster", Audience: "reeve", Subject: "system:serviceaccount:research:agent"},
			statement.Identity{Issuer: statement.IssuerAuthority})
		c.ServiceKeys = append(c.ServiceKeys, statement.ServiceKey{Use: "token", Process: "a1", Key: estate.NoteKey("reeve/demo/token/a1", 1, s.token.Public().(ed25519.PublicKey)),
			NotBefore: c.ServiceKeys[0].NotBefore, NotAfter: c.ServiceKeys[0].NotAfter})
	}))...)
	return s
}

// jwt is the agent's token, bound to its key or not.
func (s *signing) jwt(bound bool) []byte {
	claims := map[string]any{"iss": "https://kubernetes.example", "sub": "system:serviceaccount:research:agent", "aud": "reeve", "exp": s.Clock().Add(time.Hour).Unix(), "jti": "jti-1"}
	if bound {
		claims["cnf"] = map[string]any{"jkt": s.signer.KeyID()}
	}
	return s.issuer.Sign(jose.ES256, claims, nil)
}

// access is an access token by the authority alone.
func (s *signing) access(change func(*workload.Access)) []byte {
	id, err := workload.AccessKeyID(s.token.Public().(ed25519.PublicKey))
	must(s.t, err)
	now := s.Clock().Unix()
	a := workload.Access{Issuer: "https://authority.example", Audience: workload.AccessAudience("demo"), Subject: "research-agent", ClientID: "research-agent", IssuedAt: now, Expiry: now + 600, ID: "at-1"}
	if change != nil {
		change(&a)
	}
	return estatetest.SignToken(s.t, jose.EdDSA, jose.JSONWebKey{Key: s.token, KeyID: id}, a, map[jose.HeaderKey]any{"typ": "at+jwt"})
}

// bearing is chat with a token.
func (s *signing) bearing(token []byte) *hop.Open {
	o := s.chat()
	o.URL = gatewayURL + o.Path
	o.Proof = workload.Proof{Kind: workload.Token, Value: token}
	return o
}

// terms are good ones.
func (s *signing) terms() pop.Terms {
	return pop.Terms{Credential: "research-openai", Audience: "c1", Nonce: s.Replay.Nonce(s.Clock())}
}

// signed signs an open as the agent does, and leaves it as a gateway passes it on.
func (s *signing) signed(o *hop.Open, t pop.Terms, cover ...string) *hop.Open {
	s.t.Helper()
	header := http.Header{}
	for _, f := range o.Header {
		header.Add(f.Name, f.Value)
	}
	header.Set("Authorization", "Bearer "+string(o.Proof.Value))
	must(s.t, s.signer.Sign(&pop.Request{Method: o.Method, URL: o.URL, Header: header.Values, Body: o.Body}, t, cover, s.Clock(), header.Set))
	header.Del("Authorization")
	o.Header = nil
	for name := range header {
		o.Header = append(o.Header, hop.Field{Name: name, Value: header.Get(name)})
	}
	o.Proof.Kind = workload.Pop
	return o
}

func field(fields []hop.Field, name string) string {
	for _, f := range fields {
		if strings.EqualFold(f.Name, name) {
			return f.Value
		}
	}
	return ""
}

func set(o *hop.Open, name, value string) {
	o.Header = append(slices.DeleteFunc(o.Header, func(f hop.Field) bool { return strings.EqualFold(f.Name, name) }), hop.Field{Name: name, Value: value})
}

// Each level is written down as what it is, and answers to who could sign carry a nonce.
func TestLevels(t *testing.T) {
	s := newSigning(t)
	for _, c := range []struct {
		name, level, proof, actor string
		open                      func() *hop.Open
		nonce                     bool
	}{
		{"a key", "W0", "bearer", "key:", s.chat, false},
		{"a token", "W1", "token", "token: issuer:cluster", func() *hop.Open { return s.bearing(s.jwt(false)) }, true},
		{"the authority's token", "W1", "token", "token: issuer:authority act:planner act:front", func() *hop.Open {
			return s.bearing(s.access(func(a *workload.Access) {
				a.Actor = &workload.Actor{Subject: "planner", Actor: &workload.Actor{Subject: "front"}}
			}))
		}, true},
		{"a signed request", "W2", "pop", "key: issuer:cluster", func() *hop.Open { return s.signed(s.bearing(s.jwt(true)), s.terms()) }, true},
		{"signed for a model", "W2", "pop", "key: issuer:cluster", func() *hop.Open {
			terms := s.terms()
			terms.Credential = "openai/demo-small"
			return s.signed(s.bearing(s.jwt(true)), terms)
		}, true},
		{"signed with a fallback", "W2", "pop", "key: issuer:cluster", func() *hop.Open {
			terms := s.terms()
			terms.Credential, terms.Fallbacks = "research-anthropic", []string{"research-openai"}
			return s.signed(s.bearing(s.jwt(true)), terms)
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := len(s.ledger.of(entry.Intent))
			a := s.do(c.open())
			if a.refusal != nil || a.status != 200 {
				t.Fatalf("%+v", a.refusal)
			}
			e := s.ledger.of(entry.Intent)[before]
			who := slices.Clone(e.Actor)
			kind, id, _ := strings.Cut(who[0], ":")
			who[0] = kind + ":"
			if e.Level != c.level || e.Proof != c.proof || strings.Join(who, " ") != c.actor || len(id) != 16 {
				t.Errorf("the entry has %s %s %q", e.Level, e.Proof, e.Actor)
			}
			if nonce := field(a.header, "Reeve-Nonce"); (nonce != "") != c.nonce || c.nonce && !s.Replay.Fresh(nonce, s.Clock()) {
				t.Errorf("nonce %q", nonce)
			}
		})
	}
}

// TestCarrier: who carries a signed request changes nothing of it, sends it nowhere else and not twice.
func TestCarrier(t *testing.T) {
	s := newSigning(t, estatetest.Edit(func(p *estate.Plan) {
		other := p.Operations.Gateways[0]
		other.ID, other.URL = "g2", "http://127.0.0.1:7900"
		p.Operations.Gateways = append(p.Operations.Gateways, other)
	}))
	sign := func(change func(*hop.Open)) *hop.Open {
		o := s.bearing(s.jwt(true))
		o.Path = "/v1/chat/completions?beta=true"
		o.URL = gatewayURL + o.Path
		o.Header = append(o.Header, hop.Field{Name: "Openai-Project", Value: "p"})
		o = s.signed(o, s.terms(), "Openai-Project")
		if change != nil {
			change(o)
		}
		return o
	}
	if a := s.do(sign(nil)); a.refusal != nil {
		t.Fatalf("as it was signed: %+v", a.refusal)
	}
	for _, c := range []struct {
		name   string
		open   func() *hop.Open
		peer   string
		code   string
		reason string
	}{
		{name: "the method", open: func() *hop.Open { return sign(func(o *hop.Open) { o.Method = "PUT" }) }, reason: "pop_signature"},
		{name: "the path", open: func() *hop.Open {
			return sign(func(o *hop.Open) { o.Path = strings.Replace(o.Path, "chat/completions", "responses", 1) })
		}, reason: "pop_route"},
		{name: "path and URL", open: func() *hop.Open {
			return sign(func(o *hop.Open) {
				o.Path = strings.Replace(o.Path, "chat/completions", "responses", 1)
				o.URL = gatewayURL + o.Path
			})
		}, reason: "pop_signature"},
		{name: "the query", open: func() *hop.Open {
			return sign(func(o *hop.Open) { o.Path += "&a=b"; o.URL = gatewayURL + o.Path })
		}, reason: "pop_signature"},
		{name: "the body", open: func() *hop.Open {
			return sign(func(o *hop.Open) { o.Body = []byte(strings.Replace(string(o.Body), "hello", "howdy", 1)) })
		}, reason: "pop_digest"},
		{name: "the body and its digest", open: func() *hop.Open {
			return sign(func(o *hop.Open) {
				o.Body = []byte(strings.Replace(string(o.Body), "hello", "howdy", 1))
				set(o, pop.FieldDigest, pop.Digest(o.Body))
			})
		}, reason: "pop_signature"},
		{name: "the credential", open: func() *hop.Open { return sign(func(o *hop.Open) { o.Credential = "research-anthropic" }) }, code: "not_signed_for", reason: "pop_credential"},
		{name: "the credential, in both places", open: func() *hop.Open {
			return sign(func(o *hop.Open) {
				o.Credential = "research-anthropic"
				set(o, pop.FieldCredential, o.Credential)
			})
		}, reason: "pop_signature"},
		{name: "a covered field", open: func() *hop.Open { return sign(func(o *hop.Open) { set(o, "Openai-Project", "other") }) }, reason: "pop_signature"},
		{name: "the token", open: func() *hop.Open {
			return sign(func(o *hop.Open) {
				o.Proof.Value = s.access(func(a *workload.Access) { a.Confirmation = &workload.Confirmation{JKT: s.signer.KeyID()} })
			})
		}, reason: "pop_signature"},
		{name: "the kind, to a token", open: func() *hop.Open { return sign(func(o *hop.Open) { o.Proof.Kind = workload.Token }) }, reason: "proof_unbound"},
		{name: "the signature", open: func() *hop.Open { return sign(func(o *hop.Open) { set(o, pop.FieldSignature, "reeve=::") }) }, reason: "pop_malformed"},
		{name: "to another gateway", open: func() *hop.Open { return sign(nil) }, peer: "g2", reason: "pop_route"},
		{name: "for another custodian", open: func() *hop.Open {
			terms := s.terms()
			terms.Audience = "c2"
			return s.signed(s.bearing(s.jwt(true)), terms)
		}, reason: "pop_audience"},
		{name: "with a nonce of nobody", open: func() *hop.Open {
			terms := s.terms()
			terms.Nonce = replay.New(1).Nonce(s.Clock())
			return s.signed(s.bearing(s.jwt(true)), terms)
		}, code: "use_reeve_nonce"},
		{name: "again", open: func() *hop.Open {
			o := sign(nil)
			again := *o
			again.Header, again.Proof.Value, again.Body = slices.Clone(o.Header), slices.Clone(o.Proof.Value), slices.Clone(o.Body)
			if a := s.do(o); a.refusal != nil {
				t.Fatalf("%+v", a.refusal)
			}
			s.wire.n.Store(0)
			return &again
		}, code: "replayed", reason: "replayed"},
		{name: "a minute later", open: func() *hop.Open {
			o := sign(nil)
			s.now.Add(int64(70 * time.Second))
			return o
		}, reason: "pop_time"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.wire.n.Store(0)
			defer s.now.Store(0)
			open := c.open()
			before := len(s.ledger.of(entry.Deny))
			a, peer := &answer{}, g1
			if c.peer != "" {
				peer.Name = c.peer
			}
			s.serve(context.Background(), peer, open, a)
			if c.code == "" {
				c.code = "unauthenticated"
			}
			if a.refusal == nil || a.refusal.Code != c.code || s.wire.n.Load() != 0 || !strings.Contains(a.refusal.Message, "Nothing was sent") {
				t.Fatalf("answered %d %+v, sent %d, want %s", a.status, a.refusal, s.wire.n.Load(), c.code)
			}
			if !s.Replay.Fresh(a.refusal.Nonce, s.Clock()) {
				t.Errorf("the refusal has the nonce %q", a.refusal.Nonce)
			}
			denials := s.ledger.of(entry.Deny)[before:]
			if c.reason == "" {
				if len(denials) != 0 {
					t.Errorf("written: %+v", denials)
				}
				return
			}
			if len(denials) != 1 || denials[0].Reason != c.reason || denials[0].Workload != "research-agent" || a.refusal.Receipt == "" {
				t.Errorf("entries %+v, want one with the reason %s", denials, c.reason)
			}
		})
	}
}

// Requests that only claim to be a workload's cannot fill the ledger, and are not held against it.
func TestClaimedFlood(t *testing.T) {
	s := newSigning(t, estatetest.Edit(func(p *estate.Plan) {
		p.Policies["research"].Limits = []statement.WorkloadLimit{{Workload: "*", DenialsPerMinute: 3, OnExcess: "freeze"}}
	}))
	token := s.jwt(true) // seen by somebody who has not its key
	for range 500 {
		if a := s.do(s.bearing(slices.Clone(token))); a.refusal == nil {
			t.Fatal("taken")
		}
	}
	s.Flush()
	denials, counted := s.ledger.of(entry.Deny), int64(0)
	for _, d := range denials {
		counted += max(d.Count, 1)
	}
	if len(denials) > 500/2 || counted != 500 {
		t.Errorf("%d entries stand for %d refusals", len(denials), counted)
	}
	if a := s.do(s.signed(s.bearing(s.jwt(true)), s.terms())); a.refusal != nil {
		t.Errorf("the workload itself is shut out: %+v", a.refusal)
	}
}

// What is not covered by the signature does not go upstream.
func TestOnlyCoveredFields(t *testing.T) {
	s := newSigning(t)
	o := s.bearing(s.jwt(true))
	o.Header = append(o.Header, hop.Field{Name: "Openai-Project", Value: "p"})
	o = s.signed(o, s.terms(), "Openai-Project")
	o.Header = append(o.Header, hop.Field{Name: "Openai-Beta", Value: "assistants=v2"}, hop.Field{Name: "Idempotency-Key", Value: "x"})
	if a := s.do(o); a.refusal != nil {
		t.Fatalf("%+v", a.refusal)
	}
	var names []string
	for _, f := range s.wire.sent[len(s.wire.sent)-1].Header {
		names = append(names, strings.ToLower(f.Name))
	}
	slices.Sort(names)
	if got := strings.Join(names, " "); got != "accept-encoding content-type openai-project" {
		t.Errorf("went upstream: %s", got)
	}
}

// A narrowed token reaches what it says, whatever policy permits.
func TestNarrowedTokens(t *testing.T) {
	s := newSigning(t)
	for _, c := range []struct {
		name   string
		grants []workload.Grant
		body   string
		reason string
	}{
		{"the credential", []workload.Grant{{Type: "reeve", Credentials: []string{"research-openai"}}}, "", ""},
		{"the model", []workload.Grant{{Type: "reeve", Models: []string{"openai/demo-small"}}}, "", ""},
		{"the model, by its bare name", []workload.Grant{{Type: "reeve", Models: []string{"openai/demo-small"}}}, `{"model":"demo-small"}`, ""},
		{"one of two", []workload.Grant{{Type: "reeve", Credentials: []string{"x"}}, {Type: "reeve", Credentials: []string{"research-openai"}, Models: []string{"demo-small"}}}, "", ""},
		{"another credential", []workload.Grant{{Type: "reeve", Credentials: []string{"research-anthropic"}}}, "", "not_granted_credential"},
		{"another model", []workload.Grant{{Type: "reeve", Models: []string{"openai/demo-large"}}}, "", "not_granted_model"},
		{"no model", []workload.Grant{{Type: "reeve", Models: []string{"openai/demo-small"}}}, `{}`, "not_granted_model"},
		{"the halves of two", []workload.Grant{{Type: "reeve", Credentials: []string{"research-openai"}, Models: []string{"x"}}, {Type: "reeve", Credentials: []string{"x"}, Models: []string{"openai/demo-small"}}}, "", "not_granted_model"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := s.bearing(s.access(func(a *workload.Access) { a.Grants = c.grants }))
			if c.body != "" {
				o.Body = []byte(c.body)
			}
			before := len(s.ledger.of(entry.Deny))
			a := s.do(o)
			denials := s.ledger.of(entry.Deny)[before:]
			if c.reason == "" && a.refusal != nil || c.reason != "" && (len(denials) != 1 || denials[0].Reason != c.reason) {
				t.Errorf("answered %+v, entries %+v", a.refusal, denials)
			}
		})
	}
}

// Policy sees the level, the proof, and whether the authority alone vouches.
func TestPolicySeesTheProof(t *testing.T) {
	for _, c := range []struct{ cedar, allows string }{
		{`forbid (principal, action, resource) when { context.level < 2 };`, "signed"},
		{`forbid (principal, action, resource) when { context.proof != "token" };`, "token authority"},
		{`forbid (principal, action, resource) when { context.authority_asserted };`, "key token signed"},
	} {
		s := newSigning(t, estatetest.Edit(func(p *estate.Plan) { p.Cedar["research"]["use.cedar"] += "\n" + c.cedar }))
		var allowed []string
		for _, x := range []struct {
			name string
			open *hop.Open
		}{{"key", s.chat()}, {"token", s.bearing(s.jwt(false))}, {"authority", s.bearing(s.access(nil))}, {"signed", s.signed(s.bearing(s.jwt(true)), s.terms())}} {
			if a := s.do(x.open); a.refusal == nil {
				allowed = append(allowed, x.name)
			} else if a.refusal.Code != "policy_denied" {
				t.Errorf("%s: %+v", x.name, a.refusal)
			}
		}
		if got := strings.Join(allowed, " "); got != c.allows {
			t.Errorf("%s allows %q, want %q", c.cedar, got, c.allows)
		}
	}
}

// A token that was exchanged is closed with each one that it came from, and with no other.
func TestClosedWithItsParents(t *testing.T) {
	s := newSigning(t)
	child := func(parents ...string) *hop.Open {
		return s.bearing(s.access(func(a *workload.Access) { a.ID, a.Parents = "child", parents }))
	}
	for _, id := range []string{"grandparent", "parent"} {
		if a := s.do(child("grandparent", "parent")); a.refusal != nil {
			t.Fatalf("%+v", a.refusal)
		}
		target := statement.Target{Kind: closing.Token, ID: id}
		s.Close(closing.Closed{Target: target, Reason: "stolen", By: "ada", Time: s.Clock()})
		before := len(s.ledger.of(entry.Deny))
		if a := s.do(child("grandparent", "parent")); a.refusal == nil || a.refusal.Code != "frozen" {
			t.Errorf("%s closed: %+v", id, a.refusal)
		}
		if denials := s.ledger.of(entry.Deny)[before:]; len(denials) != 1 || denials[0].Reason != "closed_token" {
			t.Errorf("%s closed: entries %+v", id, denials)
		}
		if a := s.do(child("aunt")); a.refusal != nil {
			t.Errorf("%s closed: a token of another: %+v", id, a.refusal)
		}
		s.Gate.Open(target)
	}
}

// A key that is bound to networks is used from there, as far as the gateway says where that is.
func TestKeyNetworks(t *testing.T) {
	s := newWorld(t)
	key, env, err := estate.NewKey("demo", "research-agent", s.estate.Now.Add(-time.Minute), time.Hour, s.estate.Ada, "10.0.0.0/8", "2001:db8::/32")
	must(t, err)
	must(t, s.Take(&statement.Record{Kind: "workload-key", Envelope: env}))
	s.Rekey()
	for ip, want := range map[string]string{"10.1.2.3": "", "::ffff:10.1.2.3": "", "2001:db8::1": "", "192.0.2.1": "network_refused", "": "network_refused", "x": "network_refused"} {
		o := s.chat()
		o.Proof.Value = slices.Clone(key.Reveal())
		if ip != "" {
			o.Asserted = []hop.Field{{Name: "client_ip", Value: ip}}
		}
		a := s.do(o)
		if code := refusalCode(a); code != want {
			t.Errorf("from %q: %q, want %q", ip, code, want)
		}
	}
}

func refusalCode(a *answer) string {
	if a.refusal == nil {
		return ""
	}
	return a.refusal.Code
}

// until is a body without an end of its own.
type until struct{ ctx context.Context }

func (u until) Read([]byte) (int, error) {
	<-u.ctx.Done()
	return 0, u.ctx.Err()
}

// Statements that take an issuer away end what its tokens are doing; what was signed once is not spent twice by that.
func TestTokensEndWithTheirIssuer(t *testing.T) {
	s := newSigning(t)
	for _, signed := range []bool{false, true} {
		s.wire.answer = func(ctx context.Context, _ *egress.Request) (*egress.Response, error) {
			resp := reply(200, "")
			resp.Body = io.NopCloser(until{ctx})
			return resp, nil
		}
		o := s.bearing(s.jwt(signed))
		if signed {
			o = s.signed(o, s.terms())
		}
		done := make(chan *answer)
		go func() { done <- s.do(o) }()
		eventually(t, "the stream is open", func() bool { return s.Gate.Live() == 1 })
		s.estate.Republish(t, nil, "operations")
		must(t, s.Adopt(s.estate.Set))
		if s.Gate.Live() != 1 {
			t.Fatal("a new set that changes nothing cut it")
		}
		s.estate.Republish(t, func(p *estate.Plan) {
			p.Charter.Workloads[0].Identities[1].Audience = "another"
		}, "charter")
		must(t, s.Adopt(s.estate.Set))
		if a := <-done; a.refusal == nil && a.broken == "" {
			t.Errorf("signed %v: the stream went on", signed)
		}
		s.estate.Republish(t, func(p *estate.Plan) { p.Charter.Workloads[0].Identities[1].Audience = "reeve" }, "charter")
		must(t, s.Adopt(s.estate.Set))
	}
}
