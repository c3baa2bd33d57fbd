package authority

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"mime"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/internal/authority/token"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/feed"
	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/internal/secret"
	"github.com/reevehq/reeve/internal/statement"
)

// schema is a JSON Schema, as far as the description uses it.
type schema map[string]any

// document is the description.
type document struct {
	OpenAPI    string
	Paths      map[string]map[string]operation
	Components struct {
		Responses map[string]response
		Schemas   map[string]schema
	}
}

type operation struct{ Responses map[string]response }

type response struct {
	Ref     string `json:"$ref"`
	Headers map[string]any
	Content map[string]struct{ Schema schema }
}

func (d *document) resolve(r response) response {
	if name, ok := strings.CutPrefix(r.Ref, "#/components/responses/"); ok {
		return d.Components.Responses[name]
	}
	return r
}

// check holds a value against a schema.
func (d *document) check(at string, s schema, v any) error {
	if ref, ok := s["$ref"].(string); ok {
		target, known := d.Components.Schemas[strings.TrimPrefix(ref, "#/components/schemas/")]
		if !known {
			return fmt.Errorf("%s: no schema %s", at, ref)
		}
		return d.check(at, target, v)
	}
	if want, ok := s["const"]; ok && want != v {
		return fmt.Errorf("%s is %v, not %v", at, v, want)
	}
	if list, ok := s["enum"].([]any); ok && !slices.Contains(list, v) {
		return fmt.Errorf("%s is %v, none of %v", at, v, list)
	}
	switch v := v.(type) {
	case map[string]any:
		properties, _ := s["properties"].(map[string]any)
		for _, name := range list(s["required"]) {
			if _, ok := v[name]; !ok {
				return fmt.Errorf("%s has no %s", at, name)
			}
		}
		for name, x := range v {
			p, known := properties[name].(map[string]any)
			if !known && s["additionalProperties"] == false {
				return fmt.Errorf("%s has %s, which is not described", at, name)
			}
			if err := d.check(at+"."+name, p, x); err != nil {
				return err
			}
		}
		return kind(at, s, "object")
	case []any:
		items, _ := s["items"].(map[string]any)
		for i, x := range v {
			if err := d.check(fmt.Sprintf("%s[%d]", at, i), items, x); err != nil {
				return err
			}
		}
		return kind(at, s, "array")
	case string:
		if p, ok := s["pattern"].(string); ok && !regexp.MustCompile(p).MatchString(v) {
			return fmt.Errorf("%s is %q, not %s", at, v, p)
		}
		return kind(at, s, "string")
	case float64:
		if most, ok := s["maximum"].(float64); ok && v > most || v != float64(int64(v)) {
			return fmt.Errorf("%s is %v", at, v)
		}
		return kind(at, s, "integer")
	case bool:
		return kind(at, s, "boolean")
	}
	return fmt.Errorf("%s is %v", at, v)
}

func list(v any) (names []string) {
	all, _ := v.([]any)
	for _, x := range all {
		names = append(names, x.(string))
	}
	return names
}

func kind(at string, s schema, is string) error {
	if want, ok := s["type"]; ok && want != is {
		return fmt.Errorf("%s is of type %s, not %s", at, is, want)
	}
	return nil
}

// prober asks an authority and holds every answer against the description.
type prober struct {
	testing.TB
	doc    *document
	header http.Header     // of each request
	seen   map[string]bool // "POST /v1/token 200 application/json"
}

func (p *prober) ask(base, method, path, content, body string) *http.Response {
	p.Helper()
	req, err := http.NewRequestWithContext(p.Context(), method, base+path, strings.NewReader(body))
	if err != nil {
		p.Fatal(err)
	}
	maps.Copy(req.Header, p.header)
	req.Header.Set("Content-Type", content)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		p.Fatal(err)
	}
	p.Cleanup(func() { resp.Body.Close() })
	media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if path, _, _ = strings.Cut(path, "?"); strings.HasPrefix(path, "/scim/v2/Users/") {
		path = "/scim/v2/Users/{id}"
	}
	what := fmt.Sprintf("%s %s %d %s", method, path, resp.StatusCode, media)
	described, ok := p.doc.Paths[path][strings.ToLower(method)].Responses[fmt.Sprint(resp.StatusCode)]
	described = p.doc.resolve(described)
	inner, typed := described.Content[media]
	if !ok || typed == (media == "") || media == "" && len(described.Content) > 0 {
		p.Errorf("%s is not described", what)
	}
	for name := range described.Headers {
		if name != "Reeve-Receipt" && resp.Header.Get(name) == "" { // the tests' ledger gives none
			p.Errorf("%s came without %s", what, name)
		}
	}
	p.seen[what] = true
	if media != "application/json" && media != "application/scim+json" {
		return resp
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		p.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		p.Errorf("%s: %v", what, err)
	} else if err := p.doc.check("the answer", inner.Schema, v); err != nil {
		p.Errorf("%s: %v: %s", what, err, b)
	}
	resp.Body = io.NopCloser(bytes.NewReader(b))
	return resp
}

// post sends a form.
func (p *prober) form(base, path string, params ...string) *http.Response {
	p.Helper()
	f := url.Values{}
	for i := 0; i < len(params); i += 2 {
		f.Set(params[i], params[i+1])
	}
	return p.ask(base, "POST", path, "application/x-www-form-urlencoded", f.Encode())
}

// TestDescription holds the description against the handlers both ways: each route is described, each answer is one that is
// described, and each described path, status and media type is answered.
func TestDescription(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close() // only its name is needed: the charter's issuer is a public URL
	issuer := "http://" + l.Addr().String()
	_, own, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: own.Public(), KeyID: "k"}}})
	if err != nil {
		t.Fatal(err)
	}
	const client = "https://agents.example/support"
	e := estatetest.New(t, estatetest.Service("token", "a1"), estatetest.Edit(func(p *estate.Plan) {
		p.Charter.Authority.Issuer = issuer
		p.Charter.Signals = []statement.Signal{{ID: "idp", Issuer: "https://idp.example", Audience: "reeve", JWKS: string(set), Algorithms: []string{"EdDSA"},
			Events: []string{"session-revoked"}, SCIM: true, Subjects: []statement.SignalSubject{{Subject: "u-1", Kind: "workload", ID: "research-agent"}}}}
		p.Charter.Issuers = []statement.Issuer{{ID: "own", Issuer: client, JWKS: string(set), Algorithms: []string{"EdDSA"}}}
		p.Charter.Workloads[1].Identities = append(p.Charter.Workloads[1].Identities, statement.Identity{Issuer: "own", Audience: issuer, Subject: client})
	}))
	r := newRig(t, e, t.TempDir())
	r.scim = map[string]secret.Value{"idp": secret.New([]byte("a-token-of-the-scim-client"))}
	bare := newRig(t, estatetest.New(t, estatetest.Service("token", "a1")), t.TempDir()) // its charter names no issuer

	p := &prober{TB: t, doc: new(document), seen: map[string]bool{}}
	resp, err := http.Get(r.url + "/v1/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(p.doc); err != nil || p.doc.OpenAPI != "3.1.0" {
		t.Fatal(p.doc.OpenAPI, err)
	}
	var routes, described []string
	for route := range r.routes() {
		routes = append(routes, route)
	}
	for path, methods := range p.doc.Paths {
		for method := range methods {
			described = append(described, strings.ToUpper(method)+" "+path)
		}
	}
	slices.Sort(routes)
	slices.Sort(described)
	if diff := cmp.Diff(routes, described); diff != "" {
		t.Errorf("routes that are described differ: %s", diff)
	}

	// The feed.
	const js = "application/json"
	p.ask(r.url, "GET", "/v1/openapi.json", "", "")
	p.ask(r.url, "GET", "/v1/status", "", "")
	p.ask(r.url, "GET", feed.Path, "", "")
	p.header = http.Header{feed.AskHeader: {r.ask(t, "g1", nil)}}
	p.ask(r.url, "GET", feed.Path, "", "").Body.Close()
	p.ask(r.url, "GET", feed.Path, "", "") // a replay
	mallory, err := estate.NewSigner("ada")
	if err != nil {
		t.Fatal(err)
	}
	forged := statement.Revocation{Estate: "demo", Signer: "ada", Number: 9, Target: statement.Target{Kind: "everything"}, Reason: "x", Time: r.Now}
	p.ask(r.url, "POST", "/v1/records", js, string(r.revocation(t, 1)))
	p.ask(r.url, "POST", "/v1/records", js, "{}")
	p.ask(r.url, "POST", "/v1/records", js, string(r.record(t, "revocation", forged, mallory)))
	p.ask(r.url, "POST", "/v1/records", js, strings.Repeat(" ", feed.MaxRecord+1))
	p.ask(r.url, "POST", "/v1/handovers", js, string(r.handover(t, "one")))
	p.ask(r.url, "POST", "/v1/handovers", js, string(r.handover(t, "two")))
	p.ask(r.url, "POST", "/v1/handovers", js, "{")
	p.ask(r.url, "POST", "/v1/handovers", js, strings.Repeat(" ", 2*(feed.MaxRecord+feed.MaxSealed)+1))
	bad := (&feed.Frame{Record: r.record(t, "handover", statement.Handover{Credential: "x"}, r.Cora)}).Encode()
	p.ask(r.url, "POST", "/v1/handovers", js, string(bad))

	sign := func(typ string, claims map[string]any) string {
		payload, err := json.Marshal(claims)
		if err != nil {
			t.Fatal(err)
		}
		s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: own}, (&jose.SignerOptions{}).WithType(jose.ContentType(typ)).WithHeader("kid", "k"))
		if err != nil {
			t.Fatal(err)
		}
		jws, err := s.Sign(payload)
		if err != nil {
			t.Fatal(err)
		}
		text, err := jws.CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}

	// What identity providers push.
	const secevent, scim = "application/secevent+jwt", "application/scim+json"
	p.ask(r.url, "POST", "/v1/signals", secevent, sign("secevent+jwt", map[string]any{"iss": "https://idp.example", "aud": "reeve", "jti": "1", "iat": r.Now.Unix(),
		"events": map[string]any{"https://schemas.openid.net/secevent/ssf/event-type/verification": map[string]any{}}}))
	p.ask(r.url, "POST", "/v1/signals", secevent, "no token")
	p.ask(r.url, "POST", "/v1/signals", secevent, strings.Repeat("x", feed.MaxRecord))
	for _, path := range []string{"ServiceProviderConfig", "Users", "Users?filter=userName%20eq%20%22u-1%22", "Users/u-1", "Users/u-9"} {
		p.ask(r.url, "GET", "/scim/v2/"+path, "", "")
	}
	p.header = http.Header{"Authorization": {"Bearer a-token-of-the-scim-client"}}
	for _, path := range []string{"ServiceProviderConfig", "Users", "Users?filter=userName%20eq%20%22u-1%22", "Users/u-1", "Users/u-9"} {
		p.ask(r.url, "GET", "/scim/v2/"+path, "", "")
	}
	const on, off = `{"active":true,"Operations":[{"op":"replace","path":"active","value":true}]}`, `{"active":false,"Operations":[{"op":"replace","path":"active","value":false}]}`
	for _, method := range []string{"PATCH", "PUT", "DELETE"} {
		for _, body := range []string{on, off, on, "["} {
			p.ask(r.url, method, "/scim/v2/Users/u-1", scim, body)
		}
		p.ask(r.url, method, "/scim/v2/Users/u-9", scim, off)
		p.header = nil
		p.ask(r.url, method, "/scim/v2/Users/u-1", scim, off)
		p.header = http.Header{"Authorization": {"Bearer a-token-of-the-scim-client"}}
		allowed := r.changes
		r.changes = spent()
		p.ask(r.url, method, "/scim/v2/Users/u-1", scim, off)
		r.changes = allowed
	}
	p.header = nil
	r.signals = spent()
	p.ask(r.url, "POST", "/v1/signals", secevent, "no token")

	// Tokens.
	jwt := func() string {
		now := time.Now()
		return sign("JWT", map[string]any{"iss": client, "sub": client, "aud": issuer, "iat": now.Unix(), "exp": now.Add(time.Minute).Unix(), "jti": rand.Text()})
	}
	auth := func() []string {
		return []string{"client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer", "client_assertion", jwt()}
	}
	grant := func() []string {
		return append(auth(), "grant_type", "client_credentials", "authorization_details", `[{"type":"reeve","models":["fast"]}]`)
	}
	var got struct {
		Token string `json:"access_token"`
	}
	first := p.form(r.url, token.Path, grant()...)
	if text, err := io.ReadAll(first.Body); err != nil || json.Unmarshal(text, &got) != nil || got.Token == "" {
		t.Fatalf("%s %v", text, err)
	}
	p.form(r.url, token.IntrospectPath, append(auth(), "token", got.Token)...)
	p.form(r.url, token.IntrospectPath, append(auth(), "token", "x")...)
	p.form(r.url, token.RevokePath, "token", got.Token)
	p.ask(r.url, "GET", token.KeysPath, "", "")
	p.ask(r.url, "GET", token.MetadataPath, "", "")
	p.ask(bare.url, "GET", token.MetadataPath, "", "")
	for _, path := range []string{token.Path, token.IntrospectPath, token.RevokePath} {
		p.form(bare.url, path, "token", "x")
		p.ask(r.url, "POST", path, js, "{}")
		p.ask(r.url, "POST", path, "application/x-www-form-urlencoded", strings.Repeat("x", 65<<10))
		p.ask(r.url, "POST", path, "application/x-www-form-urlencoded", "a=1&a=2")
		p.form(r.url, path, "grant_type", "client_credentials", "token", "x", "client_assertion", "x")
	}
	req, err := http.NewRequest("POST", r.url+token.RevokePath, strings.NewReader("token=x"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth("a", "b")
	if resp, err := http.DefaultClient.Do(req); err != nil || resp.StatusCode != 401 {
		t.Fatal(resp, err)
	}
	p.seen["POST "+token.RevokePath+" 401 application/json"] = true

	// What an authority answers that stands by, or whose ledger fails.
	var second struct {
		Token string `json:"access_token"`
	}
	if err := json.NewDecoder(p.form(r.url, token.Path, grant()...).Body).Decode(&second); err != nil {
		t.Fatal(err)
	}
	ask, asked := auth(), auth()
	r.lose(nil)
	key := func(n int) string { // a record that opens something
		_, env, err := estate.NewKey("demo", "support-agent", r.Now, time.Hour, r.Ada)
		if err != nil {
			t.Fatal(err)
		}
		b, err := statement.Canonical(env)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	p.header = http.Header{feed.AskHeader: {r.ask(t, "g1", nil)}}
	p.ask(r.url, "GET", feed.Path, "", "")
	p.ask(r.url, "POST", "/v1/records", js, key(1))
	sealed := (&feed.Frame{Record: r.record(t, "handover", statement.Handover{
		Estate: "demo", Credential: "research-anthropic", Version: 1, Custodian: "c1", SHA256: "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae", Created: r.Now,
	}, r.Cora), Sealed: []byte("foo")}).Encode()
	p.ask(r.url, "POST", "/v1/handovers", js, string(sealed))
	p.form(r.url, token.Path, append(ask, "grant_type", "client_credentials")...)
	p.form(r.url, token.IntrospectPath, append(asked, "token", "x")...)
	r.book.mu.Lock()
	r.book.broken = ledger.ErrFull
	r.book.mu.Unlock()
	r.count503(p, second.Token)

	want := map[string]bool{}
	for path, methods := range p.doc.Paths {
		for method, o := range methods {
			for status, resp := range o.Responses {
				resp = p.doc.resolve(resp)
				for media := range resp.Content {
					want[fmt.Sprintf("%s %s %s %s", strings.ToUpper(method), path, status, media)] = true
				}
				if len(resp.Content) == 0 {
					want[fmt.Sprintf("%s %s %s ", strings.ToUpper(method), path, status)] = true
				}
			}
		}
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(p.seen))); diff != "" {
		t.Errorf("what is described and what was answered differ: %s", diff)
	}
}

// count503 asks for a closing when nothing can be kept any more.
func (r *rig) count503(p *prober, access string) {
	r.store.Close()
	p.form(r.url, token.RevokePath, "token", access)
}

// tokenKey is the key of tokens that the estate has.
func tokenKey(t testing.TB, e *estatetest.Estate) token.Key {
	t.Helper()
	key, err := token.ParseKey(secret.New([]byte(e.Signer("token", "a1"))))
	if err != nil {
		t.Fatal(err)
	}
	return key
}
