package workload_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/pop"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/workload"
	"github.com/reevehq/reeve/internal/workload/jwks"
)

const (
	kubernetes = "https://kubernetes.example"
	github     = "https://token.actions.githubusercontent.com"
	endpoint   = "https://authority.example"
)

// world is an estate with issuers of every shape, and an authority.
type world struct {
	*estatetest.Estate
	cluster, actions, domain *estatetest.Issuer
	verifier                 *workload.Verifier
}

func newWorld(t testing.TB) *world {
	w := &world{cluster: estatetest.NewIssuer(t), actions: estatetest.NewIssuer(t), domain: estatetest.NewIssuer(t)}
	_, token, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	w.Estate = estatetest.New(t, estatetest.Edit(func(p *estate.Plan) {
		c := &p.Charter
		c.Authority.Issuer = endpoint
		c.Issuers = []statement.Issuer{w.cluster.Charter("cluster", kubernetes), w.actions.Charter("actions", github), w.domain.Charter("mesh", "spiffe://acme.example")}
		c.Issuers[1].Algorithms = []string{"RS256"}
		c.ServiceKeys = append(c.ServiceKeys, statement.ServiceKey{Use: "token", Process: "a1", Key: estate.NoteKey("reeve/demo/token/a1", 1, token.Public().(ed25519.PublicKey)),
			NotBefore: c.ServiceKeys[0].NotBefore, NotAfter: c.ServiceKeys[0].NotAfter})
		c.Workloads[0].Identities = append(c.Workloads[0].Identities,
			statement.Identity{Issuer: "cluster", Audience: "reeve", Subject: "system:serviceaccount:research:agent"},
			statement.Identity{Issuer: "cluster", Audience: endpoint, Subject: "system:serviceaccount:research:agent"},
			statement.Identity{Issuer: "actions", Audience: "reeve", Subject: "repo:acme/agents:ref:refs/heads/*"},
			statement.Identity{Issuer: "mesh", Audience: "reeve", Subject: "spiffe://acme.example/ns/research/sa/*"})
		c.Workloads[1].Identities = append(c.Workloads[1].Identities,
			statement.Identity{Issuer: "authority"},
			statement.Identity{Issuer: "cluster", Audience: "other", Subject: "system:serviceaccount:research:agent"},
			statement.Identity{Issuer: "mesh", Audience: "reeve", Subject: "spiffe://acme.example/ns/support/sa/agent"})
	}))
	w.Service["token a1"] = token
	tokens, err := workload.NewTokens(w.Set, nil, open)
	if err != nil {
		t.Fatal(err)
	}
	w.verifier = &workload.Verifier{Keys: w.Workloads(), Tokens: tokens}
	return w
}

// open stands for the custodian's key: what begins with "sealed:" opens.
func open(b []byte) ([]byte, error) {
	text, ok := bytes.CutPrefix(b, []byte("sealed:"))
	if !ok {
		return nil, errors.New("not for this custodian")
	}
	return bytes.Clone(text), nil
}

func seal(token []byte) string {
	return base64.RawURLEncoding.EncodeToString(append([]byte("sealed:"), token...))
}

// claims are those of a service account's token, changed.
func (w *world) claims(change map[string]any) map[string]any {
	c := map[string]any{
		"iss": kubernetes, "sub": "system:serviceaccount:research:agent", "aud": []string{"reeve"},
		"exp": w.Now.Add(time.Hour).Unix(), "iat": w.Now.Unix(), "nbf": w.Now.Unix(), "jti": "jti-1",
		"kubernetes.io": map[string]any{"namespace": "research"},
	}
	for k, v := range change {
		if c[k] = v; v == nil {
			delete(c, k)
		}
	}
	return c
}

type anyMap = map[string]any

func TestTokens(t *testing.T) {
	w := newWorld(t)
	git := func(sub string) anyMap { return anyMap{"iss": github, "sub": sub, "aud": "reeve"} }
	for _, c := range []struct {
		name   string
		alg    jose.SignatureAlgorithm
		by     *estatetest.Issuer
		claims anyMap
		header map[jose.HeaderKey]any
		want   string // workload by issuer
		err    error
	}{
		{name: "a service account", want: "research-agent by cluster"},
		{name: "ES256", alg: jose.ES256, want: "research-agent by cluster"},
		{name: "ES384", alg: jose.ES384, want: "research-agent by cluster"},
		{name: "EdDSA", alg: jose.EdDSA, want: "research-agent by cluster"},
		{name: "PS256", alg: jose.PS256, want: "research-agent by cluster"},
		{name: "one audience as a string", claims: anyMap{"aud": "reeve"}, want: "research-agent by cluster"},
		{name: "several audiences", claims: anyMap{"aud": []string{"x", "reeve"}}, want: "research-agent by cluster"},
		{name: "another audience, another workload", claims: anyMap{"aud": "other"}, want: "support-agent by cluster"},
		{name: "times with fractions", claims: anyMap{"exp": float64(w.Now.Add(time.Hour).Unix()) + .5}, want: "research-agent by cluster"},
		{name: "GitHub", by: w.actions, claims: git("repo:acme/agents:ref:refs/heads/main"), header: map[jose.HeaderKey]any{"typ": "JWT"}, want: "research-agent by actions"},
		{name: "a JWT-SVID", by: w.domain, alg: jose.ES256, claims: anyMap{"iss": nil, "sub": "spiffe://acme.example/ns/research/sa/x", "aud": "reeve"}, want: "research-agent by mesh"},
		{name: "a JWT-SVID with iss", by: w.domain, alg: jose.ES256, claims: anyMap{"iss": "spiffe://acme.example", "sub": "spiffe://acme.example/ns/support/sa/agent", "aud": "reeve"}, want: "support-agent by mesh"},
		{name: "a clock a little behind", claims: anyMap{"nbf": w.Now.Add(9 * time.Second).Unix(), "iat": w.Now.Add(9 * time.Second).Unix()}, want: "research-agent by cluster"},
		{name: "just expired", claims: anyMap{"exp": w.Now.Add(-9 * time.Second).Unix()}, want: "research-agent by cluster"},

		{name: "GitHub's other algorithm", by: w.actions, alg: jose.ES256, claims: git("repo:acme/agents:ref:refs/heads/main"), err: workload.ErrSignature},
		{name: "another repository", by: w.actions, claims: git("repo:acme/agents2:ref:refs/heads/main"), err: workload.ErrUnknown},
		{name: "another owner", by: w.actions, claims: git("repo:evil/agents:ref:refs/heads/main"), err: workload.ErrUnknown},
		{name: "a pull request", by: w.actions, claims: git("repo:acme/agents:pull_request"), err: workload.ErrUnknown},
		{name: "another trust domain", by: w.domain, alg: jose.ES256, claims: anyMap{"iss": "spiffe://acme.example", "sub": "spiffe://evil.example/ns/research/sa/x"}, err: workload.ErrUnknown},
		{name: "the trust domain of somebody else", by: w.domain, alg: jose.ES256, claims: anyMap{"iss": nil, "sub": "spiffe://evil.example/ns/research/sa/x"}, err: workload.ErrUnknown},
		{name: "another's issuer", by: w.actions, err: workload.ErrSignature},
		{name: "an unknown issuer", claims: anyMap{"iss": "https://evil.example"}, err: workload.ErrUnknown},
		{name: "an issuer with a slash more", claims: anyMap{"iss": kubernetes + "/"}, err: workload.ErrUnknown},
		{name: "no issuer", claims: anyMap{"iss": nil}, err: workload.ErrUnknown},
		{name: "another audience", claims: anyMap{"aud": "elsewhere"}, err: workload.ErrUnknown},
		{name: "no audience", claims: anyMap{"aud": nil}, err: workload.ErrUnknown},
		{name: "audiences of two workloads", claims: anyMap{"aud": []string{"reeve", "other"}}, err: workload.ErrProof},
		{name: "the token endpoint's audience", claims: anyMap{"aud": endpoint}, err: workload.ErrProof},
		{name: "the token endpoint's among others", claims: anyMap{"aud": []string{"reeve", endpoint}}, err: workload.ErrProof},
		{name: "another subject", claims: anyMap{"sub": "system:serviceaccount:research:agent2"}, err: workload.ErrUnknown},
		{name: "no subject", claims: anyMap{"sub": nil}, err: workload.ErrUnknown},
		{name: "no end", claims: anyMap{"exp": nil}, err: workload.ErrProof},
		{name: "a negative time", claims: anyMap{"nbf": -1}, err: workload.ErrProof},
		{name: "an absurd time", claims: anyMap{"exp": 1e300}, err: workload.ErrProof},
		{name: "a time as text", claims: anyMap{"exp": "9999999999"}, err: workload.ErrProof},
		{name: "expired", claims: anyMap{"exp": w.Now.Add(-10 * time.Second).Unix()}, err: workload.ErrExpired},
		{name: "not yet", claims: anyMap{"nbf": w.Now.Add(11 * time.Second).Unix()}, err: workload.ErrExpired},
		{name: "issued later", claims: anyMap{"iat": w.Now.Add(11 * time.Second).Unix()}, err: workload.ErrExpired},
		{name: "bound to a key", claims: anyMap{"cnf": anyMap{"jkt": "x"}}, err: workload.ErrBound},
		{name: "bound to a certificate", claims: anyMap{"cnf": anyMap{"x5t#S256": "x"}}, err: workload.ErrBound},
		{name: "a DPoP proof", header: map[jose.HeaderKey]any{"typ": "dpop+jwt"}, err: workload.ErrProof},
		{name: "a security event", header: map[jose.HeaderKey]any{"typ": "secevent+jwt"}, err: workload.ErrProof},
		{name: "a key id of nobody", header: map[jose.HeaderKey]any{"kid": "x"}, err: workload.ErrSignature},
		{name: "the issuer poses as the authority", claims: anyMap{"iss": endpoint}, header: map[jose.HeaderKey]any{"typ": "at+jwt"}, err: workload.ErrProof},
		{name: "the issuer poses as the authority, in its algorithm", alg: jose.EdDSA, claims: anyMap{"iss": endpoint}, header: map[jose.HeaderKey]any{"typ": "at+jwt"}, err: workload.ErrSignature},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.alg == "" {
				c.alg = jose.RS256
			}
			if c.by == nil {
				c.by = w.cluster
			}
			token := c.by.Sign(c.alg, w.claims(c.claims), c.header)
			for range 2 { // the second time from memory
				who, err := w.verifier.Verify(workload.Proof{Kind: workload.Token, Value: token}, nil, w.Now)
				if !errors.Is(err, c.err) || c.err == nil && err != nil {
					t.Fatalf("got %v, want %v", err, c.err)
				}
				if c.err == nil && (who.Workload+" by "+who.Issuer != c.want || who.Level != 1 || who.Proof != "token" || who.AuthorityAsserted || who.Token != [2]string{who.SHA256, "jti-1"} || who.Unit == "" || who.Tenant != "acme" || who.NotAfter.Before(w.Now.Add(-time.Minute))) {
					t.Errorf("%+v", who)
				}
			}
		})
	}
}

func TestForgedTokens(t *testing.T) {
	w := newWorld(t)
	good := string(w.cluster.Sign(jose.RS256, w.claims(nil), nil))
	parts := strings.Split(good, ".")
	enc := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	public := w.cluster.JWKS()
	for name, token := range map[string]string{
		"none":                      enc(`{"alg":"none"}`) + "." + parts[1] + ".",
		"None":                      enc(`{"alg":"None","kid":"RS256"}`) + "." + parts[1] + "." + parts[2],
		"a shared key":              string(estatetest.SignToken(t, jose.HS256, jose.JSONWebKey{Key: []byte(public), KeyID: "RS256"}, w.claims(nil), nil)),
		"no signature":              parts[0] + "." + parts[1] + ".",
		"other claims":              parts[0] + "." + enc(`{"iss":"`+kubernetes+`","sub":"system:serviceaccount:research:agent","aud":"reeve","exp":99999999999}`) + "." + parts[2],
		"claims twice":              string(estatetest.SignToken(t, jose.EdDSA, w.Service["token a1"], nil, nil)),
		"two tokens":                good + "." + good,
		"JSON":                      `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`,
		"a space":                   good[:20] + " " + good[20:],
		"padding":                   good + "=",
		"huge":                      parts[0] + "." + strings.Repeat("A", 16<<10) + "." + parts[2],
		"empty":                     "",
		"an encrypted token":        enc(`{"alg":"dir","enc":"A256GCM"}`) + "..AAAA.AAAA.AAAA",
		"a critical header":         enc(`{"alg":"RS256","kid":"RS256","crit":["x"],"x":1}`) + "." + parts[1] + "." + parts[2],
		"a key of its own":          string(estatetest.SignToken(t, jose.EdDSA, w.Service["token a1"], w.claims(nil), map[jose.HeaderKey]any{"jwk": nil})),
		"an algorithm too many":     string(w.actions.Sign(jose.ES256, w.claims(anyMap{"iss": github, "sub": "repo:acme/agents:ref:refs/heads/main", "aud": "reeve"}), nil)),
		"an access token of nobody": string(estatetest.SignToken(t, jose.EdDSA, w.Service["feed a1"], anyMap{"iss": endpoint}, map[jose.HeaderKey]any{"typ": "at+jwt"})),
	} {
		if who, err := w.verifier.Verify(workload.Proof{Kind: workload.Token, Value: []byte(token)}, nil, w.Now); err == nil {
			t.Errorf("%s: %+v", name, who)
		}
	}
	for i := range good { // of every byte none can change
		b := []byte(good)
		b[i] ^= 1
		if _, err := w.verifier.Verify(workload.Proof{Kind: workload.Token, Value: b}, nil, w.Now); err == nil {
			t.Fatalf("byte %d can change", i)
		}
	}
}

// A token that is remembered ends with its time, with its issuer's keys, and with the set.
func TestRemembered(t *testing.T) {
	w := newWorld(t)
	i := estatetest.NewIssuer(t)
	set, err := jwks.Parse([]byte(i.JWKS()))
	if err != nil {
		t.Fatal(err)
	}
	keys, asked := set, 0
	w.Republish(t, func(p *estate.Plan) {
		p.Charter.Issuers[0].JWKS, p.Charter.Issuers[0].Discovery = "", true
	}, "charter")
	tokens, err := workload.NewTokens(w.Set, func(_, _ string) *jwks.Set { asked++; return keys }, open)
	if err != nil {
		t.Fatal(err)
	}
	token := i.Sign(jose.ES256, w.claims(nil), nil)
	verify := func(at time.Time) error { _, err := tokens.Verify(token, at); return err }
	for _, c := range []struct {
		at   time.Duration
		keys *jwks.Set
		err  error
	}{
		{0, set, nil}, {time.Minute, set, nil}, {time.Hour + 10*time.Second, set, workload.ErrExpired}, {-11 * time.Second, set, workload.ErrExpired}, {0, set, nil},
		{0, nil, workload.ErrKeys}, {0, set, nil}, {0, &jwks.Set{Keys: set.Keys[:1]}, workload.ErrSignature},
	} {
		keys = c.keys
		if len(keysOf(c.keys)) == 1 && keys.Keys[0].ID == "ES256" {
			keys.Keys = set.Keys[1:2]
		}
		if err := verify(w.Now.Add(c.at)); !errors.Is(err, c.err) || c.err == nil && err != nil {
			t.Errorf("%+v: got %v", c, err)
		}
	}
	if asked < 8 {
		t.Errorf("the keys were looked at %d times", asked)
	}
}

func keysOf(s *jwks.Set) []jwks.Key {
	if s == nil {
		return nil
	}
	return s.Keys
}

// access is an access token of the authority, changed.
func (w *world) access(t testing.TB, change func(*workload.Access)) []byte {
	key := w.Service["token a1"]
	id, err := workload.AccessKeyID(key.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	a := workload.Access{
		Issuer: endpoint, Audience: workload.AccessAudience("demo"), Subject: "support-agent", ClientID: "support-agent",
		IssuedAt: w.Now.Unix(), Expiry: w.Now.Add(10 * time.Minute).Unix(), ID: "at-1",
	}
	if change != nil {
		change(&a)
	}
	return estatetest.SignToken(t, jose.EdDSA, jose.JSONWebKey{Key: key, KeyID: id}, a, map[jose.HeaderKey]any{"typ": "at+jwt"})
}

// key is the hex SHA-256 of a workload's key of reeve.
func (w *world) key(name string) string {
	sum := sha256.Sum256(w.Proof(name).Value)
	return hex.EncodeToString(sum[:])
}

// A token that a W0 key was exchanged for has the key's networks and ends with it, however it ends.
func TestExchangedKeyKeepsItsBounds(t *testing.T) {
	w := newWorld(t)
	record := &statement.WorkloadKey{Workload: "support-agent", SHA256: w.key("support-agent"), NotBefore: w.Now.Add(-time.Hour),
		NotAfter: w.Now.Add(time.Minute), Networks: []string{"10.0.0.0/8"}}
	proof := workload.Proof{Kind: workload.Token, Value: w.access(t, func(a *workload.Access) { a.Key = record.SHA256 })}
	v := &workload.Verifier{Keys: workload.NewKeys(w.Set, []*statement.WorkloadKey{record}), Tokens: w.verifier.Tokens}
	who, err := v.Verify(proof, nil, w.Now)
	if err != nil || len(who.Networks) != 1 || who.Networks[0].String() != "10.0.0.0/8" || !who.NotAfter.Equal(record.NotAfter) {
		t.Errorf("%+v %v", who, err)
	}
	if _, err := v.Verify(proof, nil, record.NotAfter); !errors.Is(err, workload.ErrExpired) {
		t.Errorf("after the key's end: %v", err)
	}
	v.Keys = workload.NewKeys(w.Set, nil) // who signed it has left
	if _, err := v.Again(proof, &who, w.Now); !errors.Is(err, workload.ErrUnknown) {
		t.Errorf("of a key that is not known any more: %v", err)
	}
}

func TestAccessTokens(t *testing.T) {
	w := newWorld(t)
	subject := func(change anyMap) string {
		c := anyMap{"aud": endpoint, "jti": "sub-1"}
		for k, v := range change {
			c[k] = v
		}
		return seal(w.cluster.Sign(jose.RS256, w.claims(c), nil))
	}
	research := func(token string) func(*workload.Access) {
		return func(a *workload.Access) { a.Subject, a.SubjectToken = "research-agent", token }
	}
	for _, c := range []struct {
		name   string
		change func(*workload.Access)
		check  func(workload.Identity) bool
		err    error
	}{
		{"by the authority alone", nil, func(i workload.Identity) bool {
			return i.Workload == "support-agent" && i.AuthorityAsserted && i.Issuer == "authority" && i.Token[1] == "at-1"
		}, nil},
		{"with its subject's token", research(subject(nil)), func(i workload.Identity) bool {
			return i.Workload == "research-agent" && !i.AuthorityAsserted && i.Issuer == "cluster" && i.Token[1] == "at-1" && i.Subject[1] == "sub-1" && len(i.Subject[0]) == 64
		}, nil},
		{"no longer than its subject's", research(subject(anyMap{"exp": w.Now.Add(time.Minute).Unix()})), func(i workload.Identity) bool { return i.NotAfter.Equal(w.Now.Add(time.Minute)) }, nil},
		{"actors", func(a *workload.Access) {
			a.Actor = &workload.Actor{Subject: "planner", Actor: &workload.Actor{Subject: "front"}}
		}, func(i workload.Identity) bool { return cmp.Equal(i.Actor, []string{"planner", "front"}) }, nil},
		{"narrowed", func(a *workload.Access) {
			a.Grants = []workload.Grant{{Type: "reeve", Credentials: []string{"support-openai"}}}
		}, func(i workload.Identity) bool {
			return len(i.Grants) == 1 && i.Grants[0].Credentials[0] == "support-openai"
		}, nil},
		{"for a W0 key", func(a *workload.Access) { a.Key = w.key("support-agent") }, func(i workload.Identity) bool {
			return i.Level == 0 && i.SHA256 == w.key("support-agent") && i.AuthorityAsserted && i.Token[1] == "at-1" && len(i.Token[0]) == 64
		}, nil},

		{"for a W0 key that nobody has", func(a *workload.Access) { a.Key = strings.Repeat("0a", 32) }, nil, workload.ErrUnknown},
		{"for another's W0 key", func(a *workload.Access) { a.Key = w.key("research-agent") }, nil, workload.ErrUnknown},
		{"for a W0 key that is none", func(a *workload.Access) { a.Key = "0a" }, nil, workload.ErrProof},
		{"for a W0 key and a subject token", func(a *workload.Access) {
			research(subject(nil))(a)
			a.Key = strings.Repeat("0a", 32)
		}, nil, workload.ErrProof},
		{"a workload of another issuer", func(a *workload.Access) { a.Subject = "research-agent" }, nil, workload.ErrUnknown},
		{"another's subject token", func(a *workload.Access) { a.SubjectToken = subject(nil) }, nil, workload.ErrUnknown},
		{"a subject token that has expired", research(subject(anyMap{"exp": w.Now.Add(-time.Minute).Unix()})), nil, workload.ErrExpired},
		{"a subject token that is a gateway's", research(subject(anyMap{"aud": "reeve"})), nil, workload.ErrProof},
		{"a subject token for others too", research(subject(anyMap{"aud": []string{endpoint, "reeve"}})), nil, workload.ErrProof},
		{"a subject token that is bound, made free", research(subject(anyMap{"cnf": anyMap{"jkt": "k"}})), nil, workload.ErrBound},
		{"a subject token that is free, bound", func(a *workload.Access) {
			research(subject(nil))(a)
			a.Confirmation = &workload.Confirmation{JKT: "k"}
		}, nil, workload.ErrBound},
		{"a subject token of the authority", research(seal(w.access(t, nil))), nil, workload.ErrProof},
		{"a subject token that is a secret", research(seal([]byte("a secret of somebody"))), nil, workload.ErrProof},
		{"a subject token for another custodian", research(base64.RawURLEncoding.EncodeToString([]byte("x"))), nil, workload.ErrProof},
		{"a subject token in the clear", research(string(w.cluster.Sign(jose.RS256, w.claims(anyMap{"aud": endpoint}), nil))), nil, workload.ErrProof},
		{"a workload of nobody", func(a *workload.Access) { a.Subject = "x" }, nil, workload.ErrUnknown},
		{"another estate's", func(a *workload.Access) { a.Audience = "reeve:other" }, nil, workload.ErrUnknown},
		{"a gateway's", func(a *workload.Access) { a.Audience = "http://127.0.0.1:7800" }, nil, workload.ErrUnknown},
		{"another issuer's", func(a *workload.Access) { a.Issuer = endpoint + "/" }, nil, workload.ErrUnknown},
		{"very long", func(a *workload.Access) { a.Expiry = a.IssuedAt + workload.AccessLife + 1 }, nil, workload.ErrProof},
		{"no id", func(a *workload.Access) { a.ID = "" }, nil, workload.ErrProof},
		{"expired", func(a *workload.Access) { a.IssuedAt -= 700; a.Expiry -= 700 }, nil, workload.ErrExpired},
		{"bound to a key", func(a *workload.Access) { a.Confirmation = &workload.Confirmation{JKT: "k"} }, nil, workload.ErrBound},
		{"a confirmation of nothing", func(a *workload.Access) { a.Confirmation = new(workload.Confirmation) }, nil, workload.ErrProof},
		{"other authorization", func(a *workload.Access) { a.Grants = []workload.Grant{{Type: "payment"}} }, nil, workload.ErrProof},
		{"of parents", func(a *workload.Access) { a.Parents = []string{"jti-0", strings.Repeat("0a", 32)} }, func(i workload.Identity) bool {
			return cmp.Equal(i.Parents, []string{"jti-0", strings.Repeat("0a", 32)})
		}, nil},
		{"a parent without a name", func(a *workload.Access) { a.Parents = []string{""} }, nil, workload.ErrProof},
		{"very many parents", func(a *workload.Access) { a.Parents = slices.Repeat([]string{"p"}, workload.MaxParents+1) }, nil, workload.ErrProof},
		{"an actor without a name", func(a *workload.Access) { a.Actor = &workload.Actor{Subject: "a b"} }, nil, workload.ErrProof},
		{"very many actors", func(a *workload.Access) {
			for range 9 {
				a.Actor = &workload.Actor{Subject: "a", Actor: a.Actor}
			}
		}, nil, workload.ErrProof},
	} {
		t.Run(c.name, func(t *testing.T) {
			token := w.access(t, c.change)
			for range 2 {
				who, err := w.verifier.Verify(workload.Proof{Kind: workload.Token, Value: token}, nil, w.Now)
				if !errors.Is(err, c.err) || c.err == nil && err != nil {
					t.Fatalf("got %v, want %v", err, c.err)
				}
				if c.check != nil && !c.check(who) {
					t.Errorf("%+v", who)
				}
			}
		})
	}
	more := estatetest.SignToken(t, jose.EdDSA, w.Service["token a1"], anyMap{"iss": endpoint, "x": 1}, map[jose.HeaderKey]any{"typ": "at+jwt"})
	if _, err := w.verifier.Tokens.Verify(more, w.Now); err == nil {
		t.Error("an access token without kid, with a member more")
	}
	leak := research(seal([]byte("a secret of somebody")))
	if _, err := w.verifier.Tokens.Verify(w.access(t, leak), w.Now); strings.Contains(err.Error(), "secret") {
		t.Errorf("what was sealed shows in %v", err)
	}
}

// What an authority that was taken over can do with a genuine subject token that it was shown: with one that is bound to a key, nothing
// at all. One that is bound to none it can pass on to anybody, without narrowing and with any actor, until the token expires; what
// comes of it never reaches level 2.
func TestGenuineSubjectInAForgedToken(t *testing.T) {
	w := newWorld(t)
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	attacker, err := pop.NewSigner(key)
	if err != nil {
		t.Fatal(err)
	}
	subject := func(change anyMap) string {
		c := anyMap{"aud": endpoint, "jti": "sub-1", "exp": w.Now.Add(2 * time.Minute).Unix()}
		for k, v := range change {
			c[k] = v
		}
		return seal(w.cluster.Sign(jose.RS256, w.claims(c), nil))
	}
	free, bound := subject(nil), subject(anyMap{"cnf": anyMap{"jkt": "the-workload's"}})
	for _, c := range []struct {
		name, subject, jkt string
		sign               bool
		err                error
	}{
		{"free, passed on", free, "", false, nil},
		{"free, with the attacker's key", free, attacker.KeyID(), true, workload.ErrBound},
		{"free, signed by the attacker", free, "", true, workload.ErrBound},
		{"bound, freed", bound, "", false, workload.ErrBound},
		{"bound, as a bearer", bound, "the-workload's", false, workload.ErrBound},
		{"bound, signed by the attacker", bound, "the-workload's", true, workload.ErrBound},
		{"bound, with the attacker's key", bound, attacker.KeyID(), true, workload.ErrBound},
		{"bound, with the attacker's key as a bearer", bound, attacker.KeyID(), false, workload.ErrBound},
	} {
		token := w.access(t, func(a *workload.Access) {
			a.Subject, a.SubjectToken, a.Actor = "research-agent", c.subject, &workload.Actor{Subject: "support-agent"}
			if c.jkt != "" {
				a.Confirmation = &workload.Confirmation{JKT: c.jkt}
			}
		})
		proof, request := workload.Proof{Kind: workload.Token, Value: token}, (*pop.Request)(nil)
		if c.sign {
			var m *message
			proof, m = signed(t, attacker, nil, token, w.Now)
			request = m.request()
		}
		who, err := w.verifier.Verify(proof, request, w.Now)
		if !errors.Is(err, c.err) || c.err == nil && (err != nil || who.Level != 1 || who.NotAfter.After(w.Now.Add(2*time.Minute)) || who.Subject[1] != "sub-1") {
			t.Errorf("%s: %+v %v", c.name, who, err)
		}
	}
}

// message is a request and its signature.
type message struct {
	header http.Header
	body   []byte
}

func (m *message) request() *pop.Request {
	return &pop.Request{Method: "POST", URL: "http://127.0.0.1:7800/v1/chat/completions", Header: m.header.Values, Body: m.body}
}

func signed(t testing.TB, s *pop.Signer, err error, token []byte, now time.Time) (workload.Proof, *message) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	m := &message{http.Header{"Content-Type": {"application/json"}}, []byte(`{"model":"demo-small"}`)}
	if token != nil {
		m.header.Set("Authorization", "Bearer "+string(token))
	}
	if err := s.Sign(m.request(), pop.Terms{Credential: "c", Audience: "c1", Nonce: "n"}, nil, now, m.header.Set); err != nil {
		t.Fatal(err)
	}
	return workload.Proof{Kind: workload.Pop, Value: token}, m
}

func TestSignedRequests(t *testing.T) {
	w := newWorld(t)
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	mine, err := pop.NewSigner(ed)
	if err != nil {
		t.Fatal(err)
	}
	bound := func(id string) anyMap { return anyMap{"cnf": anyMap{"jkt": id}} }
	agent := "spiffe://acme.example/ns/research/sa/x"
	svid := func(id string, by *estatetest.Issuer, change func(*x509.Certificate)) (*pop.Signer, error) {
		return pop.NewSVIDSigner(p256, []*x509.Certificate{by.SVID(id, p256.Public(), change)})
	}
	for _, c := range []struct {
		name  string
		make  func() (workload.Proof, *message)
		want  string
		known string // whom the token alone names, when the signature fails
		err   error
	}{
		{"a token bound to the key", func() (workload.Proof, *message) {
			return signed(t, mine, nil, w.cluster.Sign(jose.RS256, w.claims(bound(mine.KeyID())), nil), w.Now)
		}, "research-agent", "", nil},
		{"the authority's token", func() (workload.Proof, *message) {
			return signed(t, mine, nil, w.access(t, func(a *workload.Access) { a.Confirmation = &workload.Confirmation{JKT: mine.KeyID()} }), w.Now)
		}, "support-agent", "", nil},
		{"the authority's token with its subject's", func() (workload.Proof, *message) {
			return signed(t, mine, nil, w.access(t, func(a *workload.Access) {
				a.Subject, a.Confirmation = "research-agent", &workload.Confirmation{JKT: mine.KeyID()}
				a.SubjectToken = seal(w.cluster.Sign(jose.RS256, w.claims(anyMap{"aud": endpoint, "cnf": anyMap{"jkt": mine.KeyID()}}), nil))
			}), w.Now)
		}, "research-agent", "", nil},
		{"an SVID alone", func() (workload.Proof, *message) {
			s, err := svid(agent, w.domain, nil)
			return signed(t, s, err, nil, w.Now)
		}, "research-agent", "", nil},
		{"an SVID and its token", func() (workload.Proof, *message) {
			s, err := svid(agent, w.domain, nil)
			return signed(t, s, err, w.domain.Sign(jose.ES256, w.claims(anyMap{"iss": nil, "sub": agent}), nil), w.Now)
		}, "research-agent", "", nil},

		{"a token bound to another key", func() (workload.Proof, *message) {
			return signed(t, mine, nil, w.cluster.Sign(jose.RS256, w.claims(bound("x")), nil), w.Now)
		}, "", "research-agent", workload.ErrBound},
		{"a token bound to none", func() (workload.Proof, *message) {
			return signed(t, mine, nil, w.cluster.Sign(jose.RS256, w.claims(nil), nil), w.Now)
		}, "", "research-agent", workload.ErrBound},
		{"no token", func() (workload.Proof, *message) { return signed(t, mine, nil, nil, w.Now) }, "", "", workload.ErrBound},
		{"a key of reeve's", func() (workload.Proof, *message) {
			return signed(t, mine, nil, w.Proof("research-agent").Value, w.Now)
		}, "", "", workload.ErrProof},
		{"a body that was changed", func() (workload.Proof, *message) {
			p, m := signed(t, mine, nil, w.cluster.Sign(jose.RS256, w.claims(bound(mine.KeyID())), nil), w.Now)
			m.body = []byte("{}")
			return p, m
		}, "", "research-agent", pop.ErrDigest},
		{"a signature taken off", func() (workload.Proof, *message) {
			p, m := signed(t, mine, nil, w.cluster.Sign(jose.RS256, w.claims(bound(mine.KeyID())), nil), w.Now)
			m.header.Del("Signature")
			return p, m
		}, "", "research-agent", pop.ErrMalformed},
		{"an old one", func() (workload.Proof, *message) {
			return signed(t, mine, nil, w.cluster.Sign(jose.RS256, w.claims(bound(mine.KeyID())), nil), w.Now.Add(-2*time.Minute))
		}, "", "research-agent", pop.ErrTime},
		{"an SVID of another root", func() (workload.Proof, *message) {
			s, err := svid(agent, w.cluster, nil)
			return signed(t, s, err, nil, w.Now)
		}, "", "", workload.ErrSignature},
		{"an SVID of another trust domain", func() (workload.Proof, *message) {
			s, err := svid("spiffe://evil.example/ns/research/sa/x", w.domain, nil)
			return signed(t, s, err, nil, w.Now)
		}, "", "", workload.ErrUnknown},
		{"an SVID of nobody", func() (workload.Proof, *message) {
			s, err := svid("spiffe://acme.example/ns/other/sa/x", w.domain, nil)
			return signed(t, s, err, nil, w.Now)
		}, "", "", workload.ErrUnknown},
		{"an SVID that has expired", func() (workload.Proof, *message) {
			s, err := svid(agent, w.domain, func(c *x509.Certificate) { c.NotAfter = w.Now.Add(-time.Second) })
			return signed(t, s, err, nil, w.Now)
		}, "", "", workload.ErrExpired},
		{"an SVID that signs others", func() (workload.Proof, *message) {
			s, err := svid(agent, w.domain, func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true })
			return signed(t, s, err, nil, w.Now)
		}, "", "", workload.ErrProof},
		{"an SVID with two ids", func() (workload.Proof, *message) {
			s, err := svid(agent, w.domain, func(c *x509.Certificate) { c.URIs = append(c.URIs, c.URIs[0]) })
			return signed(t, s, err, nil, w.Now)
		}, "", "", workload.ErrProof},
		{"an SVID for no signatures", func() (workload.Proof, *message) {
			s, err := svid(agent, w.domain, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment })
			return signed(t, s, err, nil, w.Now)
		}, "", "", workload.ErrProof},
		{"an SVID with another's token", func() (workload.Proof, *message) {
			s, err := svid(agent, w.domain, nil)
			return signed(t, s, err, w.domain.Sign(jose.ES256, w.claims(anyMap{"iss": nil, "sub": "spiffe://acme.example/ns/support/sa/agent"}), nil), w.Now)
		}, "", "support-agent", workload.ErrBound},
		{"an SVID with a token of another key", func() (workload.Proof, *message) {
			s, err := svid(agent, w.domain, nil)
			return signed(t, s, err, w.cluster.Sign(jose.RS256, w.claims(bound(mine.KeyID())), nil), w.Now)
		}, "", "research-agent", workload.ErrBound},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, m := c.make()
			who, err := w.verifier.Verify(p, m.request(), w.Now)
			if !errors.Is(err, c.err) || c.err == nil && err != nil {
				t.Fatalf("got %v, want %v", err, c.err)
			}
			if err != nil {
				if who.Workload != c.known || who.Level > 1 || who.Pop != nil {
					t.Errorf("known as %+v", who)
				}
				return
			}
			if who.Workload != c.want || who.Level != 2 || who.Proof != "pop" || who.Pop == nil || who.KeyID != who.SHA256[:16] {
				t.Errorf("%+v", who)
			}
			again, err := w.verifier.Again(p, &who, w.Now)
			if err != nil || again.Workload != who.Workload || again.Level != 2 || again.SHA256 != who.SHA256 {
				t.Errorf("again: %+v, %v", again, err)
			}
			if _, err := w.verifier.Again(p, &who, w.Now.Add(48*time.Hour)); !errors.Is(err, workload.ErrExpired) {
				t.Errorf("again, two days later: %v", err)
			}
			head := &workload.Verifier{Tokens: w.verifier.Tokens, HeadOnly: true}
			m.body = nil
			if _, err := head.Verify(p, m.request(), w.Now); err != nil {
				t.Errorf("without the body: %v", err)
			}
			if p.Kind = workload.Token; len(p.Value) > 0 && who.Bound != "" { // whoever saw it
				if _, err := w.verifier.Verify(p, m.request(), w.Now); !errors.Is(err, workload.ErrBound) {
					t.Errorf("as a bearer token: %v", err)
				}
			}
		})
	}
}

func FuzzToken(f *testing.F) {
	w := newWorld(f)
	f.Add([]byte("eyJhbGciOiJFZERTQSJ9.e30.AAAA"))
	f.Add(w.cluster.Sign(jose.ES256, w.claims(anyMap{"exp": 1}), nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if who, err := w.verifier.Tokens.Verify(b, w.Now); err == nil {
			t.Fatalf("%q is %+v", b, who)
		}
	})
}

// cpu is the processor time of this process so far.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkLevels(b *testing.B) {
	w := newWorld(b)
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	run := func(name string, p workload.Proof, r *pop.Request) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			before := cpu(b)
			for b.Loop() {
				if _, err := w.verifier.Verify(p, r, w.Now); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(cpu(b)-before)/float64(b.N), "cpu-ns/op") // on a machine that others load too
		})
	}
	run("W0", w.Proof("research-agent"), nil)
	run("W1/remembered", workload.Proof{Kind: workload.Token, Value: w.cluster.Sign(jose.RS256, w.claims(nil), nil)}, nil)
	mine, err := pop.NewSigner(ed)
	p, m := signed(b, mine, err, w.cluster.Sign(jose.RS256, w.claims(anyMap{"cnf": anyMap{"jkt": mine.KeyID()}}), nil), w.Now)
	run("W2/ed25519", p, m.request())
	other, err := pop.NewSigner(p256)
	p, m = signed(b, other, err, w.cluster.Sign(jose.RS256, w.claims(anyMap{"cnf": anyMap{"jkt": other.KeyID()}}), nil), w.Now)
	run("W2/p256", p, m.request())
	s, err := pop.NewSVIDSigner(p256, []*x509.Certificate{w.domain.SVID("spiffe://acme.example/ns/research/sa/x", p256.Public(), nil)})
	p, m = signed(b, s, err, nil, w.Now)
	run("W2/svid", p, m.request())
}
