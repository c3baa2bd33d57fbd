package statement_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/statement"
)

const (
	caep = "https://schemas.openid.net/secevent/caep/event-type/"
	risc = "https://schemas.openid.net/secevent/risc/event-type/"
)

// provider is an identity provider.
type provider struct {
	key ed25519.PrivateKey
}

func newProvider(t *testing.T) *provider {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &provider{key}
}

func (p *provider) signal(t *testing.T) statement.Signal {
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: p.key.Public(), KeyID: "k1", Algorithm: "EdDSA"}}})
	if err != nil {
		t.Fatal(err)
	}
	return statement.Signal{ID: "idp", Issuer: "https://idp.example", Audience: "https://reeve.example/v1/signals", JWKS: string(set), Algorithms: []string{"EdDSA"},
		Events: []string{"session-revoked", "credential-change", "account-disabled"}, SCIM: true,
		Subjects: []statement.SignalSubject{{Subject: "u-1", Kind: "person", ID: "ada"}, {Subject: "bot@example.com", Kind: "workload", ID: "research-agent"}, {Subject: "u-1", Kind: "agent", ID: "planner"}}}
}

func (p *provider) sign(t *testing.T, typ string, claims map[string]any) string {
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: p.key}, (&jose.SignerOptions{}).WithType(jose.ContentType(typ)).WithHeader("kid", "k1"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	jws, err := s.Sign(b)
	if err != nil {
		t.Fatal(err)
	}
	text, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func claims(now time.Time, edit func(map[string]any)) map[string]any {
	m := map[string]any{"iss": "https://idp.example", "aud": "https://reeve.example/v1/signals", "jti": "j-1", "iat": now.Unix(),
		"sub_id": map[string]any{"format": "iss_sub", "iss": "https://idp.example", "sub": "u-1"},
		"events": map[string]any{caep + "session-revoked": map[string]any{}}}
	if edit != nil {
		edit(m)
	}
	return m
}

// TestSignals: a provider's signed events close what the charter says, and what anybody else says closes nothing.
func TestSignals(t *testing.T) {
	p, mallory := newProvider(t), newProvider(t)
	directory := p.signal(t) // by SCIM alone
	directory.ID, directory.JWKS = "directory", ""
	e := estatetest.New(t, estatetest.Edit(func(plan *estate.Plan) { plan.Charter.Signals = []statement.Signal{p.signal(t), directory} }))
	now := e.Now
	person := []statement.Target{{Kind: "person", ID: "ada"}, {Kind: "agent", ID: "planner"}}
	set := func(name string, v any) func(map[string]any) { return func(m map[string]any) { m[name] = v } }
	events := func(uri string, v map[string]any) func(map[string]any) {
		return set("events", map[string]any{uri: v})
	}
	for name, c := range map[string]struct {
		by    *provider
		typ   string
		edit  func(map[string]any)
		close []statement.Target
		ok    bool
	}{
		"session revoked":                 {p, "secevent+jwt", nil, person, true},
		"with the media type spelled out": {p, "application/secevent+jwt", nil, person, true},
		"an opaque subject":               {p, "secevent+jwt", set("sub_id", map[string]any{"format": "opaque", "id": "u-1"}), person, true},
		"a workload by e-mail":            {p, "secevent+jwt", set("sub_id", map[string]any{"format": "email", "email": "bot@example.com"}), []statement.Target{{Kind: "workload", ID: "research-agent"}}, true},
		"the user of a complex subject":   {p, "secevent+jwt", set("sub_id", map[string]any{"format": "complex", "user": map[string]any{"format": "opaque", "id": "u-1"}}), person, true},
		"a subject inside of the event": {p, "secevent+jwt", func(m map[string]any) {
			delete(m, "sub_id")
			events(caep+"session-revoked", map[string]any{"subject": map[string]any{"format": "opaque", "id": "u-1"}})(m)
		}, person, true},
		"account disabled":                  {p, "secevent+jwt", events(risc+"account-disabled", nil), person, true},
		"credential taken away":             {p, "secevent+jwt", events(caep+"credential-change", map[string]any{"change_type": "revoke"}), person, true},
		"credential added":                  {p, "secevent+jwt", events(caep+"credential-change", map[string]any{"change_type": "create"}), nil, true},
		"an event that the charter has not": {p, "secevent+jwt", events(caep+"token-claims-change", nil), nil, true},
		"a test of the stream":              {p, "secevent+jwt", events("https://schemas.openid.net/secevent/ssf/event-type/verification", nil), nil, true},
		"somebody whom the charter has not": {p, "secevent+jwt", set("sub_id", map[string]any{"format": "opaque", "id": "u-2"}), nil, true},
		"a subject of another issuer":       {p, "secevent+jwt", set("sub_id", map[string]any{"format": "iss_sub", "iss": "https://other.example", "sub": "u-1"}), nil, true},
		"signed by somebody else":           {mallory, "secevent+jwt", nil, nil, false},
		"an access token":                   {p, "at+jwt", nil, nil, false},
		"another issuer":                    {p, "secevent+jwt", set("iss", "https://other.example"), nil, false},
		"for another audience":              {p, "secevent+jwt", set("aud", []string{"https://other.example"}), nil, false},
		"from the future":                   {p, "secevent+jwt", set("iat", now.Add(6*time.Minute).Unix()), nil, false},
		"without a name":                    {p, "secevent+jwt", set("jti", ""), nil, false},
		"without events":                    {p, "secevent+jwt", set("events", map[string]any{}), nil, false},
	} {
		token := c.by.sign(t, c.typ, claims(now, c.edit))
		env, err := estate.Seal("signal", statement.SignalRecord{Estate: "demo", Signal: "idp", Token: token})
		if err != nil {
			t.Fatal(err)
		}
		got, err := e.Set.OpenSignal(env, now)
		if (err == nil) != c.ok || err != nil && !errors.Is(err, statement.ErrRefused) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err == nil {
			if diff := cmp.Diff(c.close, got.Targets); diff != "" {
				t.Errorf("%s closes (-want +got):\n%s", name, diff)
			}
		}
	}
	good := p.sign(t, "secevent+jwt", claims(now, nil))
	for name, r := range map[string]statement.SignalRecord{
		"another estate": {Estate: "other", Signal: "idp", Token: good},
		"another issuer": {Estate: "demo", Signal: "other", Token: good},
		"one byte more":  {Estate: "demo", Signal: "idp", Token: good + "A"},
		"no algorithm":   {Estate: "demo", Signal: "idp", Token: "eyJhbGciOiJub25lIiwidHlwIjoic2VjZXZlbnQrand0In0." + strings.Split(good, ".")[1] + "."},
		"nothing":        {Estate: "demo", Signal: "idp"},
		"without end":    {Estate: "demo", Signal: "idp", Token: strings.Repeat("A", 9<<10)},
	} {
		env, err := estate.Seal("signal", r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.Set.OpenSignal(env, now); !errors.Is(err, statement.ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
	env, err := estate.Seal("signal", statement.SignalRecord{Estate: "demo", Signal: "directory", Token: good})
	if err != nil {
		t.Fatal(err)
	}
	refused := new(statement.Error)
	if _, err := e.Set.OpenSignal(env, now); !errors.As(err, &refused) || refused.Rule != "reference" { // before its token is looked at
		t.Errorf("a provider without keys: %v", err)
	}
}

// TestSignalsInTheCharter: what a charter may say of signals.
func TestSignalsInTheCharter(t *testing.T) {
	p := newProvider(t)
	for name, edit := range map[string]func(*statement.Signal){
		"an unknown person":   func(s *statement.Signal) { s.Subjects[0].ID = "eve" },
		"an unknown workload": func(s *statement.Signal) { s.Subjects[1].ID = "other" },
		"a credential": func(s *statement.Signal) {
			s.Subjects[0] = statement.SignalSubject{Subject: "x", Kind: "credential", ID: "research-openai"}
		},
		"everything":            func(s *statement.Signal) { s.Subjects[0] = statement.SignalSubject{Subject: "x", Kind: "everything"} },
		"no subject":            func(s *statement.Signal) { s.Subjects[0].Subject = "" },
		"keys without audience": func(s *statement.Signal) { s.Audience = "" },
		"keys without events":   func(s *statement.Signal) { s.Events = nil },
		"an unknown event":      func(s *statement.Signal) { s.Events = []string{"hello"} },
		"a shared secret":       func(s *statement.Signal) { s.Algorithms = []string{"HS256"} },
		"keys that are none":    func(s *statement.Signal) { s.JWKS = "{}" },
		"neither keys nor SCIM": func(s *statement.Signal) { s.JWKS, s.SCIM = "", false },
	} {
		_, err := estatetest.Try(t, estatetest.Edit(func(plan *estate.Plan) {
			s := p.signal(t)
			edit(&s)
			plan.Charter.Signals = []statement.Signal{s}
		}))
		if !errors.Is(err, statement.ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSignalHasOneSpelling: a token with breaks inside of its base64 is the same event in another record, and is refused.
func TestSignalHasOneSpelling(t *testing.T) {
	p := newProvider(t)
	e := estatetest.New(t, estatetest.Edit(func(plan *estate.Plan) { plan.Charter.Signals = []statement.Signal{p.signal(t)} }))
	token := p.sign(t, "secevent+jwt", claims(e.Now, nil))
	for _, at := range []int{1, len(token) / 2, len(token) - 1} {
		for _, gap := range []string{"\n", "\r", "="} {
			env, err := estate.Seal("signal", statement.SignalRecord{Estate: "demo", Signal: "idp", Token: token[:at] + gap + token[at:]})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := e.Set.OpenSignal(env, e.Now); !errors.Is(err, statement.ErrRefused) {
				t.Errorf("%q at %d: %v", gap, at, err)
			}
		}
	}
}
