package token

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/closing"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/secret"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/workload"
)

const (
	ci    = "https://ci.example"
	agent = "https://agents.example/research" // the workload's own key is an issuer of its own
)

// rig is a token endpoint over an estate whose research-agent may be vouched for by ci, by its own key, and by W0 keys, and
// whose support-agent by ci and W0 keys only, not by the authority alone.
type rig struct {
	*estatetest.Estate
	*Endpoint
	url    string
	ci     *ecdsa.PrivateKey
	own    ed25519.PrivateKey
	closed []closing.Closed

	mu      sync.Mutex
	used    map[[32]byte]bool
	entries []entry.Entry
	refused []entry.Entry
	broken  error
}

func newRig(t testing.TB) *rig {
	t.Helper()
	r := &rig{used: map[[32]byte]bool{}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	r.url = "http://" + l.Addr().String()
	r.ci, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	_, r.own, err = ed25519.GenerateKey(rand.Reader)
	must(t, err)
	r.Estate = estatetest.New(t, estatetest.Service("token", "a1"), estatetest.Edit(func(p *estate.Plan) {
		p.Charter.Authority.Issuer = r.url
		p.Charter.Issuers = []statement.Issuer{
			{ID: "ci", Issuer: ci, JWKS: keySet(t, r.ci.Public()), Algorithms: []string{"ES256"}},
			{ID: "own", Issuer: agent, JWKS: keySet(t, r.own.Public()), Algorithms: []string{"EdDSA"}},
		}
		for i := range p.Charter.Workloads {
			w := &p.Charter.Workloads[i]
			w.Identities = append(w.Identities, statement.Identity{Issuer: "ci", Audience: r.url, Subject: "repo:acme/" + w.Unit},
				statement.Identity{Issuer: "ci", Audience: "http://127.0.0.1:7800", Subject: "repo:acme/" + w.Unit})
			if w.Unit == "research" {
				w.Identities = append(w.Identities, statement.Identity{Issuer: "own", Audience: r.url, Subject: agent}, statement.Identity{Issuer: statement.IssuerAuthority})
			}
		}
	}))
	tokens, err := workload.NewTokens(r.Set, nil, nil)
	must(t, err)
	key, err := ParseKey(secret.New([]byte(r.Signer("token", "a1"))))
	must(t, err)
	r.Endpoint = &Endpoint{Config{
		Authority: "a1", Key: func() Key { return key }, Clock: time.Now, Log: slog.New(slog.DiscardHandler),
		View: func() *View {
			r.mu.Lock()
			defer r.mu.Unlock()
			return &View{Set: r.Set, Tokens: tokens, Keys: r.Workloads(), Closed: closing.NewState(1, slices.Clone(r.closed))}
		},
		Once: func(id [32]byte, _ time.Time) (bool, error) {
			r.mu.Lock()
			defer r.mu.Unlock()
			first := !r.used[id]
			r.used[id] = true
			return first, r.broken
		},
		Enter: func(e *entry.Entry) (string, error) {
			r.mu.Lock()
			defer r.mu.Unlock()
			if r.broken != nil {
				return "", r.broken
			}
			r.entries = append(r.entries, *e)
			return "v1.receipt", nil
		},
		Refused: func(e *entry.Entry) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.refused = append(r.refused, *e)
		},
		Close: func(jti, _ string) error {
			r.close("token", jti)
			return nil
		},
	}}
	mux := http.NewServeMux()
	for pattern, handle := range r.Routes() {
		mux.HandleFunc(pattern, handle)
	}
	srv := &httptest.Server{Listener: l, Config: &http.Server{Handler: mux}}
	srv.Start()
	t.Cleanup(srv.Close)
	return r
}

func (r *rig) close(kind, id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = append(r.closed, closing.Closed{Target: statement.Target{Kind: kind, ID: id}, Reason: "test", By: "ada", Time: time.Now()})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func keySet(t testing.TB, public crypto.PublicKey) string {
	t.Helper()
	b, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: public, KeyID: "k1", Use: "sig"}}})
	must(t, err)
	return string(b)
}

type claims map[string]any

// jwt signs claims; a nil value takes a claim away.
func jwt(t testing.TB, key crypto.Signer, more claims, header map[string]any) string {
	t.Helper()
	c := claims{"iat": time.Now().Unix(), "exp": time.Now().Add(5 * time.Minute).Unix(), "jti": rand.Text()}
	maps.Copy(c, more)
	maps.DeleteFunc(c, func(_ string, v any) bool { return v == nil })
	payload, err := json.Marshal(c)
	must(t, err)
	alg := jose.ES256
	if _, ok := key.(ed25519.PrivateKey); ok {
		alg = jose.EdDSA
	}
	o := (&jose.SignerOptions{}).WithHeader("kid", "k1")
	for name, v := range header {
		o = o.WithHeader(jose.HeaderKey(name), v)
	}
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, o)
	must(t, err)
	jws, err := s.Sign(payload)
	must(t, err)
	text, err := jws.CompactSerialize()
	must(t, err)
	return text
}

// vouched is a token of ci for a unit's agent, for the token endpoint.
func (r *rig) vouched(t testing.TB, unit string, more claims) string {
	c := claims{"iss": ci, "sub": "repo:acme/" + unit, "aud": r.url}
	maps.Copy(c, more)
	return jwt(t, r.ci, c, nil)
}

// assertion is the research-agent's own word.
func (r *rig) assertion(t testing.TB, more claims) string {
	c := claims{"iss": agent, "sub": agent, "aud": r.url}
	maps.Copy(c, more)
	return jwt(t, r.own, c, nil)
}

func (r *rig) proof(t testing.TB, key crypto.Signer, more claims) string {
	c := claims{"htm": "POST", "htu": r.url + Path, "exp": nil}
	maps.Copy(c, more)
	return jwt(t, key, c, map[string]any{"typ": "dpop+jwt", "jwk": jose.JSONWebKey{Key: key.Public()}})
}

func thumbprint(t testing.TB, key crypto.Signer) string {
	b, err := (&jose.JSONWebKey{Key: key.Public()}).Thumbprint(crypto.SHA256)
	must(t, err)
	return strings.TrimRight(strings.NewReplacer("+", "-", "/", "_").Replace(string(mustJSON(t, b))), "=")
}

func mustJSON(t testing.TB, b []byte) string {
	var s string
	raw, err := json.Marshal(b)
	must(t, err)
	must(t, json.Unmarshal(raw, &s))
	return s
}

// answer is what came back.
type answer struct {
	status      int
	Token       string `json:"access_token"`
	Issued      string `json:"issued_token_type"`
	Type        string `json:"token_type"`
	Expires     int64  `json:"expires_in"`
	Err         string `json:"error"`
	Description string `json:"error_description"`
	Active      bool
	Sub         string
	header      http.Header
}

func (r *rig) post(t testing.TB, path string, dpop string, params ...string) answer {
	t.Helper()
	f := url.Values{}
	for i := 0; i < len(params); i += 2 {
		f.Add(params[i], params[i+1])
	}
	req, err := http.NewRequestWithContext(t.Context(), "POST", r.url+path, strings.NewReader(f.Encode()))
	must(t, err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if dpop != "" {
		req.Header.Set("DPoP", dpop)
	}
	resp, err := http.DefaultClient.Do(req)
	must(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	must(t, err)
	a := answer{status: resp.StatusCode, header: resp.Header}
	if len(b) > 0 {
		must(t, json.Unmarshal(b, &a))
	}
	if resp.Header.Get("Cache-Control") != "no-store" {
		t.Error("an answer of the endpoint may be stored")
	}
	return a
}

func (r *rig) exchange(t testing.TB, dpop string, params ...string) answer {
	t.Helper()
	return r.post(t, Path, dpop, append([]string{"grant_type", grantExchange}, params...)...)
}

// custodian verifies a token as a custodian does.
func (r *rig) custodian(t testing.TB, token string) (workload.Identity, error) {
	t.Helper()
	tokens, err := workload.NewTokens(r.Set, nil, func(sealed []byte) ([]byte, error) {
		plain, err := age.Decrypt(bytes.NewReader(sealed), r.Identity)
		if err != nil {
			return nil, err
		}
		return io.ReadAll(plain)
	})
	must(t, err)
	return tokens.Verify([]byte(token), time.Now())
}

func payload(t testing.TB, token string) (c workload.Access) {
	t.Helper()
	jws, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.EdDSA})
	must(t, err)
	if kind := jws.Signatures[0].Protected.ExtraHeaders[jose.HeaderType]; kind != "at+jwt" {
		t.Errorf("typ %v", kind)
	}
	must(t, json.Unmarshal(jws.UnsafePayloadWithoutVerification(), &c))
	return c
}

// Each grant's token is one that a custodian takes for the same workload, and has its entry.
func TestGrants(t *testing.T) {
	r := newRig(t)
	for name, c := range map[string]struct {
		params []string
		kind   entry.Type
		level  string
		issuer string
	}{
		"exchange": {[]string{"grant_type", grantExchange, "subject_token", r.vouched(t, "research", nil), "subject_token_type", typeJWT}, entry.Exchange, "W1", "ci"},
		"exchange of an id token": {[]string{"grant_type", grantExchange, "subject_token", r.vouched(t, "research", nil), "subject_token_type", typeID,
			"requested_token_type", typeAccess, "audience", "reeve:demo"}, entry.Exchange, "W1", "ci"},
		"exchange of a W0 key": {[]string{"grant_type", grantExchange, "subject_token", string(r.Keys["research-agent"].Reveal()), "subject_token_type", typeKey},
			entry.Exchange, "W0", statement.IssuerAuthority},
		"assertion": {[]string{"grant_type", grantBearer, "assertion", r.vouched(t, "research", nil)}, entry.Issue, "W1", "ci"},
		"client credentials": {[]string{"grant_type", grantClient, "client_assertion_type", assertionJWT, "client_assertion", r.assertion(t, nil), "client_id", agent},
			entry.Issue, "W1", "own"},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(r.entries)
			a := r.post(t, Path, "", c.params...)
			if a.status != 200 || a.Type != "Bearer" || (a.Issued == typeAccess) != (c.kind == entry.Exchange) || a.header.Get("Reeve-Receipt") == "" {
				t.Fatalf("%+v", a)
			}
			who, err := r.custodian(t, a.Token)
			if err != nil || who.Workload != "research-agent" || who.Issuer != c.issuer || fmt.Sprintf("W%d", who.Level) != c.level {
				t.Errorf("a custodian sees %+v, %v", who, err)
			}
			if asserted := c.issuer == statement.IssuerAuthority; who.AuthorityAsserted != asserted {
				t.Errorf("asserted by the authority: %v", who.AuthorityAsserted)
			}
			claims := payload(t, a.Token)
			if claims.Expiry-claims.IssuedAt > 300 && c.level == "W1" || claims.Expiry-claims.IssuedAt > 900 || a.Expires != claims.Expiry-claims.IssuedAt {
				t.Errorf("lives %d s, says %d", claims.Expiry-claims.IssuedAt, a.Expires)
			}
			if len(r.entries) != before+1 {
				t.Fatal("not one entry")
			}
			e := r.entries[before]
			if e.Type != c.kind || e.Workload != "research-agent" || e.Unit != "research" || e.Tenant == "" || e.Level != c.level || e.Lease != claims.ID || e.Estate == "" {
				t.Errorf("entered %+v", e)
			}
		})
	}
}

// Nothing is issued without its entry.
func TestNoTokenWithoutItsEntry(t *testing.T) {
	r := newRig(t)
	r.broken = fmt.Errorf("%w: the disk is full", ErrAway)
	a := r.exchange(t, "", "subject_token", r.vouched(t, "research", nil), "subject_token_type", typeJWT)
	if a.status != 503 || a.Err != "temporarily_unavailable" || a.Token != "" || a.header.Get("Retry-After") == "" {
		t.Errorf("%+v", a)
	}
}

// A subject token goes along so that only custodians can read it.
func TestSubjectTokenIsSealed(t *testing.T) {
	r := newRig(t)
	subject := r.vouched(t, "research", nil)
	a := r.exchange(t, "", "subject_token", subject, "subject_token_type", typeJWT)
	c := payload(t, a.Token)
	if c.SubjectToken == "" || strings.Contains(a.Token, subject) {
		t.Fatalf("%+v", c)
	}
	tokens, err := workload.NewTokens(r.Set, nil, func([]byte) ([]byte, error) { return nil, age.ErrIncorrectIdentity })
	must(t, err)
	if _, err := tokens.Verify([]byte(a.Token), time.Now()); err == nil {
		t.Error("taken by who could not open it")
	}
}

func TestRefusals(t *testing.T) {
	r := newRig(t)
	_, other, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	again := r.assertion(t, nil)
	client := func(assertion string) []string {
		return []string{"grant_type", grantClient, "client_assertion_type", assertionJWT, "client_assertion", assertion}
	}
	subject := func(token string, more ...string) []string {
		return append([]string{"grant_type", grantExchange, "subject_token", token, "subject_token_type", typeJWT}, more...)
	}
	if a := r.post(t, Path, "", client(again)...); a.status != 200 {
		t.Fatalf("%+v", a)
	}
	seen := r.post(t, Path, "", subject(r.vouched(t, "research", nil))...).Token // what a gateway sees
	for name, c := range map[string]struct {
		params []string
		status int
		err    string
		why    string
	}{
		"no grant":                     {nil, 400, "invalid_request", "grant_type"},
		"another grant":                {[]string{"grant_type", "password"}, 400, "unsupported_grant_type", ""},
		"a parameter twice":            {[]string{"grant_type", grantClient, "grant_type", grantClient}, 400, "invalid_request", "more than once"},
		"a client secret":              {[]string{"grant_type", grantClient, "client_id", "x", "client_secret", "demo-word"}, 401, "invalid_client", "private_key_jwt"},
		"no assertion":                 {[]string{"grant_type", grantClient}, 401, "invalid_client", ""},
		"an assertion twice":           {client(again), 401, "invalid_client", "before"},
		"an assertion without jti":     {client(r.assertion(t, claims{"jti": nil})), 401, "invalid_client", "jti"},
		"a foreign key":                {client(jwt(t, other, claims{"iss": agent, "sub": agent, "aud": r.url}, nil)), 401, "invalid_client", ""},
		"an assertion for another":     {client(r.assertion(t, claims{"aud": "https://other.example"})), 401, "invalid_client", ""},
		"an assertion for two":         {client(r.assertion(t, claims{"aud": []string{r.url, "https://other.example"}})), 401, "invalid_client", ""},
		"an expired assertion":         {client(r.assertion(t, claims{"exp": time.Now().Add(-time.Minute).Unix()})), 401, "invalid_client", "expired"},
		"an assertion by ci":           {client(r.vouched(t, "research", nil)), 401, "invalid_client", "one client"},
		"another client id":            {append(client(r.assertion(t, nil)), "client_id", "https://agents.example/support"), 401, "invalid_client", "client_id"},
		"no subject":                   {[]string{"grant_type", grantExchange}, 400, "invalid_request", "subject_token"},
		"a subject of no type":         {[]string{"grant_type", grantExchange, "subject_token", "x"}, 400, "invalid_request", "type"},
		"a SAML subject":               {[]string{"grant_type", grantExchange, "subject_token", "x", "subject_token_type", "urn:ietf:params:oauth:token-type:saml2"}, 400, "invalid_request", "type"},
		"a subject of nobody":          {subject(jwt(t, r.ci, claims{"iss": "https://evil.example", "sub": "repo:acme/research", "aud": r.url}, nil)), 400, "invalid_request", ""},
		"another's subject":            {subject(jwt(t, r.ci, claims{"iss": ci, "sub": "repo:acme/other", "aud": r.url}, nil)), 400, "invalid_request", ""},
		"ci in the agent's name":       {subject(jwt(t, r.ci, claims{"iss": agent, "sub": agent, "aud": r.url}, nil)), 400, "invalid_request", ""},
		"a token for the gateway":      {subject(r.vouched(t, "research", claims{"aud": "http://127.0.0.1:7800"})), 400, "invalid_request", ""},
		"a token for gateway and here": {subject(r.vouched(t, "research", claims{"aud": []string{r.url, "http://127.0.0.1:7800"}})), 400, "invalid_request", ""},
		"a bearer token that a gateway saw": {[]string{"grant_type", grantExchange, "subject_token", seen, "subject_token_type", typeAccess}, 400, "invalid_request",
			"gateways see"},
		"that as an assertion":    {[]string{"grant_type", grantBearer, "assertion", seen}, 400, "invalid_grant", ""},
		"that as a client":        {client(seen), 401, "invalid_client", ""},
		"audience of a gateway":   {subject(r.vouched(t, "research", nil), "audience", "http://127.0.0.1:7800"), 400, "invalid_target", "never for a gateway"},
		"resource of a gateway":   {subject(r.vouched(t, "research", nil), "resource", "http://127.0.0.1:7800"), 400, "invalid_target", ""},
		"a scope":                 {subject(r.vouched(t, "research", nil), "scope", "all"), 400, "invalid_scope", ""},
		"a refresh token":         {subject(r.vouched(t, "research", nil), "requested_token_type", "urn:ietf:params:oauth:token-type:refresh_token"), 400, "invalid_request", ""},
		"details that are none":   {subject(r.vouched(t, "research", nil), "authorization_details", "{}"), 400, "invalid_authorization_details", ""},
		"details of another type": {subject(r.vouched(t, "research", nil), "authorization_details", `[{"type":"payment"}]`), 400, "invalid_authorization_details", ""},
		"details with more":       {subject(r.vouched(t, "research", nil), "authorization_details", `[{"type":"reeve","level":3}]`), 400, "invalid_authorization_details", ""},
		"no details":              {subject(r.vouched(t, "research", nil), "authorization_details", `[]`), 400, "invalid_authorization_details", ""},
		"an unknown W0 key":       {[]string{"grant_type", grantExchange, "subject_token", "rv_" + strings.Repeat("a", 58), "subject_token_type", typeKey}, 400, "invalid_request", ""},
		"a W0 key the authority alone would vouch for": {[]string{"grant_type", grantExchange, "subject_token", string(r.Keys["support-agent"].Reveal()), "subject_token_type", typeKey},
			400, "invalid_request", "alone vouch"},
		"an actor of no type": {subject(r.vouched(t, "research", nil), "actor_token", "x"), 400, "invalid_request", "actor_token"},
		"an actor of nobody":  {subject(r.vouched(t, "research", nil), "actor_token", "x", "actor_token_type", typeJWT), 400, "invalid_request", "actor_token"},
	} {
		t.Run(name, func(t *testing.T) {
			a := r.post(t, Path, "", c.params...)
			if a.status != c.status || a.Err != c.err || !strings.Contains(a.Description, c.why) || a.Token != "" {
				t.Errorf("%+v, want %d %s %q", a, c.status, c.err, c.why)
			}
		})
	}
	for _, e := range r.refused {
		if e.Type != entry.Deny || e.Decision != "deny" || e.Reason == "" || (e.Workload == "") == (e.Count == 0) {
			t.Errorf("a refusal entered as %+v", e)
		}
	}
	if len(r.entries) != 2 {
		t.Errorf("%d tokens were entered, two were issued", len(r.entries))
	}
	resp, err := http.Post(r.url+Path, "application/json", strings.NewReader("{}"))
	if err != nil || resp.StatusCode != 415 {
		t.Errorf("a request in JSON: %v %v", resp, err)
	}
	req, _ := http.NewRequest("POST", r.url+Path, strings.NewReader("grant_type=client_credentials"))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth("client", "demo-word")
	if resp, err := http.DefaultClient.Do(req); err != nil || resp.StatusCode != 401 || resp.Header.Get("WWW-Authenticate") == "" {
		t.Errorf("a client secret by Basic: %v %v", resp, err)
	}
}

// A key is bound only where the subject is bound to it already, and a bound subject is nothing without its key.
func TestBinding(t *testing.T) {
	r := newRig(t)
	_, mine, _ := ed25519.GenerateKey(rand.Reader)
	theirs, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	bound := claims{"cnf": claims{"jkt": thumbprint(t, mine)}}
	subject := func(more claims) []string {
		return []string{"subject_token", r.vouched(t, "research", more), "subject_token_type", typeJWT}
	}
	a := r.exchange(t, r.proof(t, mine, nil), subject(bound)...)
	if a.status != 200 || a.Type != "DPoP" || payload(t, a.Token).Confirmation.JKT != thumbprint(t, mine) {
		t.Fatalf("%+v", a)
	}
	if who, err := r.custodian(t, a.Token); err != nil || who.Bound != thumbprint(t, mine) {
		t.Errorf("a custodian sees %+v %v", who, err)
	}
	// The same by the workload's own word, where the key is another one than it signs with.
	b := r.post(t, Path, r.proof(t, theirs, nil), "grant_type", grantClient, "client_assertion_type", assertionJWT,
		"client_assertion", r.assertion(t, claims{"cnf": claims{"jkt": thumbprint(t, theirs)}}))
	if who, err := r.custodian(t, b.Token); b.status != 200 || err != nil || who.Bound != thumbprint(t, theirs) {
		t.Errorf("%+v, a custodian sees %+v %v", b, who, err)
	}
	replayed := r.proof(t, mine, nil)
	if a := r.exchange(t, replayed, subject(bound)...); a.status != 200 {
		t.Fatalf("%+v", a)
	}
	old := time.Now().Add(-2 * proofLife).Unix()
	for name, c := range map[string]struct {
		proof  string
		params []string
	}{
		"a new key for a bearer":       {r.proof(t, mine, nil), subject(nil)},
		"a bound subject, no proof":    {"", subject(bound)},
		"another's proof":              {r.proof(t, theirs, nil), subject(bound)},
		"a proof used before":          {replayed, subject(bound)},
		"an old proof":                 {r.proof(t, mine, claims{"iat": old}), subject(bound)},
		"a proof of the future":        {r.proof(t, mine, claims{"iat": time.Now().Add(2 * proofLife).Unix()}), subject(bound)},
		"a proof for another URL":      {r.proof(t, mine, claims{"htu": "https://other.example/v1/token"}), subject(bound)},
		"a proof for another method":   {r.proof(t, mine, claims{"htm": "GET"}), subject(bound)},
		"a proof without jti":          {r.proof(t, mine, claims{"jti": nil}), subject(bound)},
		"not a proof":                  {"x", subject(bound)},
		"a token as proof":             {r.vouched(t, "research", nil), subject(bound)},
		"a proof that shows a private": {jwt(t, mine, claims{"htm": "POST", "htu": r.url + Path}, map[string]any{"typ": "dpop+jwt", "jwk": jose.JSONWebKey{Key: mine}}), subject(bound)},
		"a proof by another key than it shows": {jwt(t, theirs, claims{"htm": "POST", "htu": r.url + Path},
			map[string]any{"typ": "dpop+jwt", "jwk": jose.JSONWebKey{Key: mine.Public()}}), subject(bound)},
		"a W0 key": {r.proof(t, mine, nil), []string{"subject_token", string(r.Keys["research-agent"].Reveal()), "subject_token_type", typeKey}},
	} {
		if a := r.exchange(t, c.proof, c.params...); a.status != 400 || a.Err != "invalid_dpop_proof" {
			t.Errorf("%s: %+v", name, a)
		}
	}
}

// Whoever makes a key makes proofs without end: none is remembered for who gets no token by it.
func TestProofOfNobodyIsNotRemembered(t *testing.T) {
	r := newRig(t)
	_, key, _ := ed25519.GenerateKey(rand.Reader)
	for name, params := range map[string][]string{
		"no grant": nil, "no subject": {"grant_type", grantExchange}, "no assertion": {"grant_type", grantClient},
		"a subject of nobody":        {"grant_type", grantExchange, "subject_token", "a.b.c", "subject_token_type", typeJWT},
		"a subject not bound to it":  {"grant_type", grantExchange, "subject_token", r.vouched(t, "research", nil), "subject_token_type", typeJWT},
		"a subject bound to another": {"grant_type", grantExchange, "subject_token", r.vouched(t, "research", claims{"cnf": claims{"jkt": "x"}}), "subject_token_type", typeJWT},
	} {
		if a := r.post(t, Path, r.proof(t, key, nil), params...); a.status < 400 || a.status >= 500 {
			t.Errorf("%s: %+v", name, a)
		}
	}
	if len(r.used) != 0 {
		t.Errorf("%d proofs were remembered", len(r.used))
	}
}

// Only custodians that may serve the subject's unit can open its token.
func TestSubjectTokenIsForItsOwn(t *testing.T) {
	set, identity := &statement.Set{Custody: map[string]*statement.CustodyStatement{}}, map[string]*age.X25519Identity{}
	for _, unit := range []string{"research", "lender", "support", "foreign"} {
		i, err := age.GenerateX25519Identity()
		must(t, err)
		identity[unit] = i
		c := statement.CustodyStatement{Unit: unit, Custodians: []statement.Custodian{{ID: unit, Recipient: i.Recipient().String()}}}
		if unit == "lender" {
			c.Grants = []statement.Grant{{Credential: "x", Unit: "support"}, {Credential: "x", Unit: "research"}}
		}
		set.Custody[unit] = &c
	}
	text, err := sealed(set, "research", []byte("subject"))
	must(t, err)
	b, err := base64.RawURLEncoding.DecodeString(text)
	must(t, err)
	for unit, i := range identity {
		_, err := age.Decrypt(bytes.NewReader(b), i)
		if want := unit == "research" || unit == "lender"; (err == nil) != want {
			t.Errorf("the custodian of %s: %v", unit, err)
		}
	}
}

// A child is never more than its parent.
func TestChildIsWithinParent(t *testing.T) {
	r := newRig(t)
	details := func(s string) []string { return []string{"authorization_details", s} }
	parent := r.exchange(t, "", append(details(`[{"type":"reeve","credentials":["research-openai"],"models":["openai/demo-small","fast"]}]`),
		"subject_token", r.vouched(t, "research", claims{"exp": time.Now().Add(100 * time.Second).Unix()}), "subject_token_type", typeJWT, "audience", r.url)...)
	if parent.status != 200 {
		t.Fatalf("%+v", parent)
	}
	if _, err := r.custodian(t, parent.Token); err == nil {
		t.Error("a token for exchange was taken for use")
	}
	child := func(token string, more ...string) answer {
		return r.exchange(t, "", append([]string{"subject_token", token, "subject_token_type", typeAccess}, more...)...)
	}
	for name, c := range map[string]struct {
		more []string
		want []workload.Grant
	}{
		"the same by default": {nil, []workload.Grant{{Type: "reeve", Credentials: []string{"research-openai"}, Models: []string{"openai/demo-small", "fast"}}}},
		"less":                {details(`[{"type":"reeve","credentials":["research-openai"],"models":["fast"]}]`), []workload.Grant{{Type: "reeve", Credentials: []string{"research-openai"}, Models: []string{"fast"}}}},
		"another credential":  {details(`[{"type":"reeve","credentials":["research-anthropic"],"models":["fast"]}]`), nil},
		"one more credential": {details(`[{"type":"reeve","credentials":["research-openai","research-anthropic"],"models":["fast"]}]`), nil},
		"every model":         {details(`[{"type":"reeve","credentials":["research-openai"]}]`), nil},
		"everything":          {details(`[{"type":"reeve"}]`), nil},
		"less and more":       {details(`[{"type":"reeve","credentials":["research-openai"],"models":["fast"]},{"type":"reeve"}]`), nil},
	} {
		a := child(parent.Token, c.more...)
		if c.want == nil {
			if a.status != 400 || a.Err != "invalid_authorization_details" {
				t.Errorf("%s: %+v", name, a)
			}
			continue
		}
		claims := payload(t, a.Token)
		if diff := cmp.Diff(c.want, claims.Grants); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if p := payload(t, parent.Token); claims.Expiry > p.Expiry || claims.Subject != p.Subject {
			t.Errorf("%s: lives until %d, its parent until %d", name, claims.Expiry, p.Expiry)
		}
		if who, err := r.custodian(t, a.Token); err != nil || who.Issuer != "ci" {
			t.Errorf("%s: a custodian sees %+v %v", name, who, err)
		}
	}
}

// The chain of who acts for whom grows outwards and is in the entry.
func TestDelegation(t *testing.T) {
	r := newRig(t)
	actor := func() []string {
		return []string{"actor_token", r.vouched(t, "support", claims{"exp": time.Now().Add(50 * time.Second).Unix()}), "actor_token_type", typeJWT}
	}
	first := r.exchange(t, "", append(actor(), "subject_token", r.vouched(t, "research", nil), "subject_token_type", typeJWT, "audience", r.url)...)
	if first.status != 200 || first.Expires > 50 {
		t.Fatalf("%+v", first)
	}
	second := r.exchange(t, "", "subject_token", first.Token, "subject_token_type", typeAccess,
		"actor_token", r.vouched(t, "research", nil), "actor_token_type", typeJWT)
	if second.status != 200 || second.Expires > 50 {
		t.Fatalf("%+v", second)
	}
	want := []string{"research-agent", "support-agent"}
	who, err := r.custodian(t, second.Token)
	if err != nil || who.Workload != "research-agent" || !slices.Equal(who.Actor, want) {
		t.Errorf("a custodian sees %+v %v", who, err)
	}
	if c := payload(t, second.Token); c.ClientID != "research-agent" || c.Subject != "research-agent" || !slices.Equal(r.entries[1].Actor, want) {
		t.Errorf("%+v, entered %v", c, r.entries[1].Actor)
	}
	// An actor comes with a token of its own, not as somebody for whom another acts.
	if a := r.exchange(t, "", "subject_token", r.vouched(t, "research", nil), "subject_token_type", typeJWT, "actor_token", first.Token, "actor_token_type", typeAccess); a.Err != "invalid_request" {
		t.Errorf("%+v", a)
	}
	r.close("workload", "support-agent")
	if a := r.exchange(t, "", append(actor(), "subject_token", r.vouched(t, "research", nil), "subject_token_type", typeJWT)...); a.Err != "invalid_request" {
		t.Errorf("a closed actor: %+v", a)
	}
	if a := r.exchange(t, "", "subject_token", first.Token, "subject_token_type", typeAccess); a.Err != "invalid_request" {
		t.Errorf("a chain with a closed actor: %+v", a)
	}
}

// What is closed gets no token.
func TestClosed(t *testing.T) {
	key := func(r *rig) string {
		s := sha256.Sum256(r.Keys["research-agent"].Reveal())
		return hex.EncodeToString(s[:])
	}
	for _, c := range []struct {
		kind string
		id   func(r *rig, subject string) string
		w0   bool
	}{
		{"workload", func(*rig, string) string { return "research-agent" }, true},
		{"unit", func(*rig, string) string { return "research" }, true},
		{"tenant", func(*rig, string) string { return "acme" }, true},
		{"everything", func(*rig, string) string { return "" }, true},
		{"key", func(r *rig, _ string) string { return key(r) }, true},
		{"token", func(_ *rig, s string) string {
			h := sha256.Sum256([]byte(s[:strings.LastIndex(s, ".")]))
			return hex.EncodeToString(h[:])
		}, false},
	} {
		r := newRig(t)
		subject := r.vouched(t, "research", nil)
		params := []string{"subject_token", subject, "subject_token_type", typeJWT}
		if c.kind == "key" {
			params = []string{"subject_token", string(r.Keys["research-agent"].Reveal()), "subject_token_type", typeKey}
		}
		if a := r.exchange(t, "", params...); a.status != 200 {
			t.Fatalf("%s: %+v", c.kind, a)
		}
		r.close(c.kind, c.id(r, subject))
		if a := r.exchange(t, "", params...); a.status != 400 || a.Err != "invalid_request" || !strings.Contains(a.Description, "closed") {
			t.Errorf("%s: %+v", c.kind, a)
		}
		if n := len(r.refused); n != 1 || r.refused[0].Workload != "research-agent" {
			t.Errorf("%s: refusals %+v", c.kind, r.refused)
		}
	}
}

func TestIntrospectionAndRevocation(t *testing.T) {
	r := newRig(t)
	a := r.exchange(t, "", "subject_token", r.vouched(t, "support", nil), "subject_token_type", typeJWT)
	ask := func(token string) answer {
		t.Helper()
		return r.post(t, IntrospectPath, "", "token", token, "client_assertion_type", assertionJWT, "client_assertion", r.assertion(t, nil))
	}
	if got := ask(a.Token); got.status != 200 || !got.Active || got.Sub != "support-agent" || got.Type != "Bearer" {
		t.Errorf("%+v", got)
	}
	for name, token := range map[string]string{"another's": r.vouched(t, "research", nil), "nonsense": "x", "altered": a.Token[:len(a.Token)-4] + "AAAA"} {
		if got := ask(token); got.status != 200 || got.Active || got.Sub != "" {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if got := r.post(t, IntrospectPath, "", "token", a.Token); got.status != 401 || got.Err != "invalid_client" {
		t.Errorf("asked by nobody: %+v", got)
	}
	if got := r.post(t, RevokePath, "", "token", "x"); got.status != 200 || len(r.closed) != 0 {
		t.Errorf("closing nonsense: %+v", got)
	}
	if got := r.post(t, RevokePath, ""); got.status != 400 {
		t.Errorf("closing nothing: %+v", got)
	}
	if got := r.post(t, RevokePath, "", "token", a.Token, "token_type_hint", "access_token"); got.status != 200 {
		t.Errorf("%+v", got)
	}
	if len(r.closed) != 1 || r.closed[0].Target != (statement.Target{Kind: "token", ID: payload(t, a.Token).ID}) {
		t.Errorf("closed %+v", r.closed)
	}
	if got := ask(a.Token); got.Active {
		t.Errorf("a closed token: %+v", got)
	}
}

// What comes of an exchange is closed with each token that it came from: for custodians, for introspection, for another exchange.
func TestClosedWithItsParents(t *testing.T) {
	name := func(token string) string {
		h := sha256.Sum256([]byte(token[:strings.LastIndex(token, ".")]))
		return hex.EncodeToString(h[:])
	}
	for _, c := range []struct {
		name   string
		id     func(first, second, actor string) string
		closes bool
	}{
		{"the parent's jti", func(_, second, _ string) string { return payload(t, second).ID }, true},
		{"the parent's hash", func(_, second, _ string) string { return name(second) }, true},
		{"the grandparent's jti", func(first, _, _ string) string { return payload(t, first).ID }, true},
		{"the grandparent's hash", func(first, _, _ string) string { return name(first) }, true},
		{"the actor's jti", func(_, _, _ string) string { return "actor-1" }, true},
		{"the actor's hash", func(_, _, actor string) string { return name(actor) }, true},
		{"another's", func(_, _, _ string) string { return "actor-2" }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			again := []string{"subject_token_type", typeAccess, "audience", r.url}
			first := r.exchange(t, "", "subject_token", r.vouched(t, "research", nil), "subject_token_type", typeJWT, "audience", r.url)
			actor := r.vouched(t, "support", claims{"jti": "actor-1"})
			second := r.exchange(t, "", append(again, "subject_token", first.Token, "actor_token", actor, "actor_token_type", typeJWT)...)
			third := r.exchange(t, "", "subject_token_type", typeAccess, "subject_token", second.Token)
			who, err := r.custodian(t, third.Token)
			if err != nil {
				t.Fatalf("%v: %+v %+v %+v", err, first, second, third)
			}
			r.close("token", c.id(first.Token, second.Token, actor))
			use := &closing.Use{Tokens: [4]string{who.Token[0], who.Token[1]}, Parents: who.Parents}
			if closed := r.View().Closed.Of(use); (closed != nil) != c.closes {
				t.Errorf("at a custodian: %v, of parents %q", closed, who.Parents)
			}
			ask := r.post(t, IntrospectPath, "", "token", third.Token, "client_assertion_type", assertionJWT, "client_assertion", r.assertion(t, nil))
			if ask.status != 200 || ask.Active == c.closes {
				t.Errorf("introspected: %+v", ask)
			}
			if a := r.exchange(t, "", append(again, "subject_token", second.Token)...); (a.status == 200) == c.closes {
				t.Errorf("exchanged: %+v", a)
			}
		})
	}
}

// A token has as many parents as custodians look at, and no more.
func TestManyParents(t *testing.T) {
	r := newRig(t)
	a := r.exchange(t, "", "subject_token", r.vouched(t, "research", nil), "subject_token_type", typeJWT, "audience", r.url)
	for n := 0; a.status == 200; n += 2 {
		if got := len(payload(t, a.Token).Parents); got != n || n > workload.MaxParents {
			t.Fatalf("%d names of parents, want %d", got, n)
		}
		a = r.exchange(t, "", "subject_token", a.Token, "subject_token_type", typeAccess, "audience", r.url)
	}
	if a.Err != "invalid_request" || !strings.Contains(a.Description, "too often") {
		t.Errorf("%+v", a)
	}
	long := r.vouched(t, "support", claims{"jti": strings.Repeat("j", 129)})
	if a := r.exchange(t, "", "subject_token", r.vouched(t, "research", nil), "subject_token_type", typeJWT, "actor_token", long, "actor_token_type", typeJWT); a.Err != "invalid_request" {
		t.Errorf("an actor's token with a long jti: %+v", a)
	}
}

func TestMetadataAndKeys(t *testing.T) {
	r := newRig(t)
	get := func(path string, v any) {
		t.Helper()
		resp, err := http.Get(r.url + path)
		must(t, err)
		defer resp.Body.Close()
		if resp.StatusCode != 200 {
			t.Fatalf("%s: %s", path, resp.Status)
		}
		must(t, json.NewDecoder(resp.Body).Decode(v))
	}
	var m map[string]any
	get(MetadataPath, &m)
	if m["issuer"] != r.url || m["token_endpoint"] != r.url+Path || m["jwks_uri"] != r.url+KeysPath || m["response_types_supported"] == nil {
		t.Errorf("%v", m)
	}
	var set jose.JSONWebKeySet
	get(KeysPath, &set)
	a := r.exchange(t, "", "subject_token", r.vouched(t, "research", nil), "subject_token_type", typeJWT)
	jws, err := jose.ParseSignedCompact(a.Token, []jose.SignatureAlgorithm{jose.EdDSA})
	must(t, err)
	if len(set.Keys) != 1 || !set.Keys[0].IsPublic() || set.Keys[0].KeyID != jws.Signatures[0].Protected.KeyID {
		t.Fatalf("%+v", set)
	}
	if _, err := jws.Verify(set.Keys[0]); err != nil {
		t.Error(err)
	}
}

// A key that the charter does not have, or has for another authority, issues nothing.
func TestKeyOfTheCharter(t *testing.T) {
	r := newRig(t)
	r.Authority = "a2"
	a := r.exchange(t, "", "subject_token", r.vouched(t, "research", nil), "subject_token_type", typeJWT)
	if a.status != 503 || !strings.Contains(a.Description, "token key") {
		t.Errorf("%+v", a)
	}
	for _, text := range []string{"", "x", "PRIVATE+KEY+x+00000000+AAAA", r.Set.Charter.ServiceKeys[0].Key} {
		if _, err := ParseKey(secret.New([]byte(text))); err == nil {
			t.Errorf("%q is a key", text)
		}
	}
}

func FuzzRequest(f *testing.F) {
	r := newRig(f)
	for _, seed := range []string{"grant_type=client_credentials", "grant_type=" + url.QueryEscape(grantExchange) + "&subject_token=a.b.c&subject_token_type=" + url.QueryEscape(typeAccess),
		"grant_type=" + url.QueryEscape(grantBearer) + "&assertion=a.e30.c", "authorization_details=[]", "%", "token=x", "DPoP"} {
		f.Add(seed, seed)
	}
	mux := http.NewServeMux()
	for pattern, handle := range r.Routes() {
		mux.HandleFunc(pattern, handle)
	}
	f.Fuzz(func(t *testing.T, body, proof string) {
		for _, path := range []string{Path, RevokePath, IntrospectPath} {
			req := httptest.NewRequest("POST", path, strings.NewReader(body))
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			req.Header["Dpop"] = []string{proof}
			w := httptest.NewRecorder()
			mux.ServeHTTP(w, req)
			if w.Code == 500 || strings.Contains(w.Body.String(), "access_token") || w.Code == 200 && path != RevokePath {
				t.Errorf("%s %q %q: %d %s", path, body, proof, w.Code, w.Body)
			}
		}
	})
}
