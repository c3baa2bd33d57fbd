package pin

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"math/rand"
	"net/url"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/reevehq/reeve/internal/custodian/egress"
	"github.com/reevehq/reeve/internal/custodian/guard"
	"github.com/reevehq/reeve/internal/custodian/sigv4"
	"github.com/reevehq/reeve/internal/custodian/source"
	"github.com/reevehq/reeve/internal/hop"
	"github.com/reevehq/reeve/internal/secret"
	"github.com/reevehq/reeve/internal/statement"
)

func compiled(t testing.TB, c statement.Credential) *Pin {
	t.Helper()
	p, err := Compile(c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func explicit(paths ...string) statement.Credential {
	return statement.Credential{
		ID:          "demo",
		Destination: statement.Destination{Origin: "https://api.example.com", Methods: []string{"GET", "POST"}, Paths: paths},
		Inject:      statement.Inject{As: "bearer"},
	}
}

func TestTarget(t *testing.T) {
	openai := compiled(t, statement.Credential{ID: "o", Template: "openai", Source: "sealed"})
	anthropic := compiled(t, statement.Credential{ID: "a", Template: "anthropic", Source: "sealed"})
	router := compiled(t, statement.Credential{ID: "r", Template: "openai-compatible", Source: "sealed",
		Destination: statement.Destination{Origin: "https://router.example.com", Prefix: "/api"}})
	wide := compiled(t, explicit("/v1/**"))
	star := compiled(t, explicit("/v1/*/x"))
	query := explicit("/v1/things")
	query.Inject = statement.Inject{As: "query", Name: "sub_key"}
	inQuery := compiled(t, query)

	tests := []struct {
		pin            *Pin
		method, public string
		want           string // empty for a refusal
	}{
		{openai, "POST", "/v1/chat/completions", "/v1/chat/completions"},
		{openai, "POST", "/openai/v1/chat/completions", "/v1/chat/completions"},
		{openai, "POST", "/credentials/o/v1/chat/completions", "/v1/chat/completions"},
		{router, "POST", "/credentials/r/v1/chat/completions", "/api/v1/chat/completions"},
		{openai, "POST", "/credentials/r/v1/chat/completions", ""},
		{openai, "POST", "/credentials/o", ""},
		{openai, "POST", "/credentials/o/openai/v1/chat/completions", ""},
		{openai, "POST", "/credentials//v1/chat/completions", ""},
		{openai, "POST", "/openai/openai/v1/chat/completions", ""},
		{openai, "GET", "/v1/chat/completions", ""},
		{openai, "post", "/v1/chat/completions", ""},
		{openai, "OPTIONS", "/v1/chat/completions", ""},
		{openai, "CONNECT", "/v1/chat/completions", ""},
		{openai, "GET", "/v1/responses/resp_1?include=a&include=b", "/v1/responses/resp_1?include=a&include=b"},
		{openai, "DELETE", "/v1/responses/resp_1", "/v1/responses/resp_1"},
		{openai, "POST", "/v1/responses/resp_1/cancel", "/v1/responses/resp_1/cancel"},
		{openai, "GET", "/v1/responses/resp_1/input_items", "/v1/responses/resp_1/input_items"},
		{openai, "DELETE", "/v1/models/ft:demo", ""},
		{openai, "GET", "/v1/models/ft:demo:x", "/v1/models/ft:demo:x"},
		{openai, "GET", "/v1/models/ft%3Ademo", "/v1/models/ft%3Ademo"},
		{openai, "GET", "/v1/models/vendor/model", "/v1/models/vendor/model"},
		{openai, "GET", "/v1/models", "/v1/models"},
		{openai, "GET", "/v1/models/", ""},
		{openai, "POST", "/v1/files", ""},
		{openai, "GET", "/V1/models", ""},
		{anthropic, "POST", "/anthropic/v1/messages?beta=true", "/v1/messages?beta=true"},
		{anthropic, "POST", "/v1/messages/count_tokens", "/v1/messages/count_tokens"},
		{anthropic, "POST", "/v1/messages/batches", ""},
		{anthropic, "GET", "/v1/models?limit=1000", "/v1/models?limit=1000"},
		{router, "POST", "/openai/v1/embeddings", "/api/v1/embeddings"},
		{router, "POST", "/api/v1/embeddings", ""},
		{star, "GET", "/v1/a/x", "/v1/a/x"},
		{star, "GET", "/v1/a/b/x", ""},
		{star, "GET", "/v1/x", ""},
		{star, "GET", "/v1/a/x/y", ""},

		// What servers read differently.
		{wide, "GET", "/v1/a", "/v1/a"},
		{wide, "GET", "/v1", ""},
		{wide, "GET", "/v1/../v2", ""},
		{wide, "GET", "/v1/./a", ""},
		{wide, "GET", "/v1/.../a", ""},
		{wide, "GET", "/v1/a/..", ""},
		{wide, "GET", "/v1/%2e%2e/a", ""},
		{wide, "GET", "/v1/.%2E/a", ""},
		{wide, "GET", "/v1/a%2fb", ""},
		{wide, "GET", "/v1/a%5cb", ""},
		{wide, "GET", `/v1/a\b`, ""},
		{wide, "GET", "/v1/a%00", ""},
		{wide, "GET", "/v1/a%252fb", ""},
		{wide, "GET", "/v1/%61", ""},
		{wide, "GET", "/v1/a%20b", ""},
		{wide, "GET", "/v1/a%c0%af", ""},
		{wide, "GET", "/v1/a%", ""},
		{wide, "GET", "/v1/a%3", ""},
		{wide, "GET", "/v1/a;x=1/b", ""},
		{wide, "GET", "/v1//a", ""},
		{wide, "GET", "//v1/a", ""},
		{wide, "GET", "/v1/a b", ""},
		{wide, "GET", "/v1/a\tb", ""},
		{wide, "GET", "/v1/a\r\nX: y", ""},
		{wide, "GET", "/v1/é", ""},
		{wide, "GET", "/v1/a#b", ""},
		{wide, "GET", "/v1/a?b#c", ""},
		{wide, "GET", "/v1/a?b=c d", ""},
		{wide, "GET", "/v1/a?b=%zz", ""},
		{wide, "GET", "/v1/a?b=%2", ""},
		{wide, "GET", "https://evil.example/v1/a", ""},
		{wide, "GET", "*", ""},
		{wide, "GET", "", ""},
		{wide, "GET", "/v1/" + strings.Repeat("a", MaxTarget), ""},

		// What issues secrets.
		{wide, "GET", "/v1/organization/admin_api_keys", ""},
		{wide, "POST", "/v1/organizations/x", ""},
		{wide, "POST", "/v1/Organization/x", ""},
		{wide, "POST", "/v1/realtime/client_secrets", ""},
		{wide, "POST", "/v1/realtime/translations/client-secrets", ""},
		{wide, "POST", "/v1/realtime/sessions", ""},
		{wide, "POST", "/v1/realtime/sessions/x", ""},
		{wide, "POST", "/v1/sessions", "/v1/sessions"},
		{wide, "POST", "/v1/chatkit/sessions", ""},
		{wide, "POST", "/v1/oauth/token", ""},
		{wide, "POST", "/v1/auth_tokens", ""},
		{wide, "POST", "/v1/authTokens", ""},
		{wide, "POST", "/v1/keys", ""},
		{wide, "POST", "/v1/accounts/a:generateAccessToken", ""},
		{wide, "POST", "/v1/accounts/a%3agenerateAccessToken", ""},

		// Parameters that authenticate.
		{wide, "GET", "/v1/a?key=x", ""},
		{wide, "GET", "/v1/a?b=1&api%5Fkey=x", ""},
		{wide, "GET", "/v1/a?b=1;access_token=x", ""},
		{wide, "GET", "/v1/a?keys=x", "/v1/a?keys=x"},
		{inQuery, "GET", "/v1/things", "/v1/things"},
		{inQuery, "GET", "/v1/things?a=1", "/v1/things?a=1"},
		{inQuery, "GET", "/v1/things?sub_key=1", ""},
		{inQuery, "GET", "/v1/things?SUB_KEY=1", ""},
		{inQuery, "GET", "/v1/things?sub_ke%79=1", ""},
		{inQuery, "GET", "/v1/things?sub_ke%2579=1", ""},
		{inQuery, "GET", "/v1/things?sub_key[]=1", ""},
		{inQuery, "GET", "/v1/things?sub_key%5B%5D=1", ""},
		{inQuery, "GET", "/v1/things?+sub.key=1", ""},
		{inQuery, "GET", "/v1/things?a;sub_key", ""},
	}
	for _, tt := range tests {
		got, err := tt.pin.Target(tt.method, tt.public)
		if got != tt.want || (err == nil) != (tt.want != "") || err != nil && !errors.Is(err, ErrRefused) {
			t.Errorf("%s %q: got %q, %v; want %q", tt.method, tt.public, got, err, tt.want)
		}
	}
}

func TestCompile(t *testing.T) {
	change := func(f func(*statement.Credential)) statement.Credential {
		c := explicit("/v1/a")
		f(&c)
		return c
	}
	for name, c := range map[string]statement.Credential{
		"unknown template": {Template: "azure"},
		"no origin":        {Template: "openai-compatible"},
		"http":             change(func(c *statement.Credential) { c.Destination.Origin = "http://a.example" }),
		"origin with path": change(func(c *statement.Credential) { c.Destination.Origin = "https://a.example/" }),
		"origin with user": change(func(c *statement.Credential) { c.Destination.Origin = "https://u@a.example" }),
		"prefix slash":     change(func(c *statement.Credential) { c.Destination.Prefix = "/api/" }),
		"no methods":       change(func(c *statement.Credential) { c.Destination.Methods = nil }),
		"trace":            change(func(c *statement.Credential) { c.Destination.Methods = []string{"TRACE"} }),
		"lower case":       change(func(c *statement.Credential) { c.Destination.Methods = []string{"get"} }),
		"no paths":         change(func(c *statement.Credential) { c.Destination.Paths = nil }),
		"everything":       explicit("/**"),
		"inner rest":       explicit("/v1/**/a"),
		"partial star":     explicit("/v1/a*"),
		"relative":         explicit("v1/a"),
		"dots":             explicit("/v1/../a"),
		"semicolon":        explicit("/v1/a;b"),
		"foreign method":   explicit("DELETE /v1/a"),
		"issuing":          explicit("/v1/organization/**"),
		"issuing by star":  explicit("/v1/oauth/*"),
		"no injection":     change(func(c *statement.Credential) { c.Inject = statement.Inject{} }),
		"named bearer":     change(func(c *statement.Credential) { c.Inject.Name = "X" }),
		"header host":      change(func(c *statement.Credential) { c.Inject = statement.Inject{As: "header", Name: "Host"} }),
		"header space":     change(func(c *statement.Credential) { c.Inject = statement.Inject{As: "header", Name: "X Y"} }),
		"header type":      change(func(c *statement.Credential) { c.Inject = statement.Inject{As: "header", Name: "Content_Type"} }),
		"query ampersand":  change(func(c *statement.Credential) { c.Inject = statement.Inject{As: "query", Name: "a&b"} }),
		"beside no value":  change(func(c *statement.Credential) { c.Inject.With = []string{"X-Version"} }),
		"beside a secret":  change(func(c *statement.Credential) { c.Inject.With = []string{"x-api-key: a"} }),
		"beside twice":     change(func(c *statement.Credential) { c.Inject.With = []string{"anthropic-version: a"} }),
		"probe of secrets": change(func(c *statement.Credential) {
			c.Probe = statement.Probe{Method: "GET", Path: "/v1/api_keys", Status: 401}
		}),
		"probe with a key": change(func(c *statement.Credential) {
			c.Probe = statement.Probe{Method: "GET", Path: "/v1/a?key=a", Status: 401}
		}),
		"query no name": change(func(c *statement.Credential) { c.Inject = statement.Inject{As: "query"} }),
	} {
		if _, err := Compile(c); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
	p := compiled(t, statement.Credential{Template: "openai", Source: "sealed", Destination: statement.Destination{Methods: []string{"GET"}}})
	if _, err := p.Target("POST", "/v1/chat/completions"); err == nil {
		t.Error("a method that the record left out came back with the template")
	}
}

// fields pairs names and values.
func fields(s ...string) (f []hop.Field) {
	for i := 0; i < len(s); i += 2 {
		f = append(f, hop.Field{Name: s[i], Value: s[i+1]})
	}
	return f
}

func TestHeader(t *testing.T) {
	c := explicit("/v1/a")
	c.Inject = statement.Inject{As: "header", Name: "X-Demo-Pass", With: []string{"anthropic-beta: oauth-2025-04-20"}}
	p := compiled(t, c)
	got, err := p.Header(fields(
		"Content-Type", `application/json; charset="UTF-8"`, "anthropic-beta", "a", "anthropic-beta", "b", "User-Agent", "demo",
		"Authorization", "Bearer x", "proxy-authorization", "x", "X-Api-Key", "x", "x_api_key", "x", "api-key", "x",
		"x-goog-api-key", "x", "X-Amz-Security-Token", "x", "X-Demo-Pass", "x", "x_demo_pass", "x", "Cookie", "a=b",
		"Host", "evil", "Connection", "close, X-Gone", "X-Gone", "x", "Keep-Alive", "1", "TE", "trailers", "Trailer", "x",
		"Transfer-Encoding", "chunked", "Upgrade", "websocket", "Expect", "100-continue", "Content-Length", "3",
		"Accept-Encoding", "gzip", "Accept-Charset", "utf-16", "Range", "bytes=0-9", "If-Range", "x", "Forwarded", "for=x", "X-Forwarded-For", "x", "Via", "x", "Reeve-Receipt", "x",
		"X-HTTP-Method-Override", "DELETE", "X-Original-URL", "/admin",
	))
	want := fields(
		"Content-Type", `application/json; charset="UTF-8"`, "anthropic-beta", "a", "anthropic-beta", "b", "User-Agent", "demo", "anthropic-beta", "oauth-2025-04-20",
		"Accept-Encoding", "identity",
	)
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Error(err, diff)
	}
	for _, bad := range [][]string{
		{"A B", "x"}, {"", "x"}, {"A:", "x"}, {"A", "x\r\nB: y"}, {"A", "x\x00"}, {"É", "x"},
		{"Content-Type", "application/json", "content_type", "application/json"},
		{"Content-Type", "application/x-www-form-urlencoded"}, {"Content-Type", "multipart/form-data; boundary=x"}, {"Content-Type", ""},
		{"Content-Type", "application/json; charset=utf-8; charset=utf-7"},
		{"Content-Encoding", "gzip"},
		{"Content-Type", "application/json; charset=utf-7"},
		{"Content-Type", "application/json; Charset = \"utf-16\""},
	} {
		if _, err := p.Header(fields(bad...)); !errors.Is(err, ErrRefused) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestResponse(t *testing.T) {
	got := Response(fields(
		"Content-Type", "text/event-stream", "openai-processing-ms", "3", "Set-Cookie", "a=b", "Connection", "X-Gone", "x-gone", "1",
		"Transfer-Encoding", "chunked", "Content-Length", "3", "Location", "https://evil.example", "Alt-Svc", "h3", "Reeve-Receipt", "forged",
		"Retry-After", "1", "bad name", "x", "X", "a\nb",
	))
	want := fields("Content-Type", "text/event-stream", "openai-processing-ms", "3", "Retry-After", "1")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestInject(t *testing.T) {
	of := func(text string) *source.Secret { return &source.Secret{Value: secret.New([]byte(text))} }
	v := of("demo+key/1")
	tests := []struct {
		inject        statement.Inject
		target, field string
	}{
		{statement.Inject{As: "bearer"}, "/v1/a?b=1", "Authorization: Bearer demo+key/1"},
		{statement.Inject{As: "header", Name: "X-Key"}, "/v1/a?b=1", "X-Key: demo+key/1"},
		{statement.Inject{As: "query", Name: "key"}, "/v1/a?b=1&key=demo%2Bkey%2F1", ": "},
	}
	for _, tt := range tests {
		c := explicit("/v1/a")
		c.Inject = tt.inject
		p := compiled(t, c)
		parts, err := p.Open(v)
		if err != nil || parts.Certificate != nil {
			t.Fatal(err)
		}
		r := &egress.Request{Method: "GET"}
		p.Inject(r, "/v1/a?b=1", v, time.Now())
		if string(r.Target) != tt.target {
			t.Errorf("%+v: target %q", tt.inject, r.Target)
		}
		if s := r.Secrets[0]; s.Name+": "+string(s.Value) != tt.field || r.Secrets[1].Name != "" {
			t.Errorf("%+v: fields %s", tt.inject, r.Secrets)
		}
		r.Wipe()
		if !v.Value.Equal([]byte("demo+key/1")) || bytes.ContainsAny(append(r.Target, r.Secrets[0].Value...), "demo") {
			t.Errorf("%+v: wiped %q, and left %q %q", tt.inject, v.Value.Reveal(), r.Target, r.Secrets[0].Value)
		}
		guards(t, parts, "demo+key/1")
		for _, bad := range []string{"", "demo\r\nX: y", "demo\x00", " demo", "demo ", "dé"} {
			if _, err := p.Open(of(bad)); !errors.Is(err, ErrRefused) {
				t.Errorf("%+v: %q accepted", tt.inject, bad)
			}
		}
		if _, err := p.Open(of("Basic demo")); (err == nil) != (tt.inject.As == "header") {
			t.Errorf("%+v: inner space: %v", tt.inject, err)
		}
	}
}

// guards holds that a text would not pass in an answer, and others would.
func guards(t *testing.T, parts *Parts, text string) {
	t.Helper()
	for _, form := range []string{text, hex.EncodeToString([]byte(text)), base64.StdEncoding.EncodeToString([]byte("x" + text + "x"))} {
		if err := parts.Patterns.Header([]hop.Field{{Name: "X", Value: form}}); !errors.Is(err, guard.ErrReflected) {
			t.Errorf("%.20q would come back", form)
		}
	}
	if err := parts.Patterns.Header([]hop.Field{{Name: "X", Value: text[1:]}}); err != nil {
		t.Error("what is no secret would not come back")
	}
}

func TestInjectKinds(t *testing.T) {
	for _, tt := range []struct {
		in statement.Inject
		ok bool
	}{
		{statement.Inject{As: "sigv4", Name: "bedrock", Region: "eu-central-1"}, true},
		{statement.Inject{As: "sigv4", Name: "bedrock"}, false},
		{statement.Inject{As: "sigv4", Region: "eu-central-1"}, false},
		{statement.Inject{As: "sigv4", Name: "s3", Region: "eu-central-1"}, false}, // signs paths by another rule
		{statement.Inject{As: "sigv4", Name: "bed/rock", Region: "eu-central-1"}, false},
		{statement.Inject{As: "sigv4", Name: "bedrock", Region: "eu/1"}, false},
		{statement.Inject{As: "tls"}, true},
		{statement.Inject{As: "tls", Name: "x"}, false},
		{statement.Inject{As: "tls", Region: "eu-central-1"}, false},
		{statement.Inject{As: "bearer", Region: "eu-central-1"}, false},
		{statement.Inject{As: "cookie", Name: "x"}, false},
		{statement.Inject{As: "basic"}, false},
	} {
		c := explicit("/v1/a")
		c.Inject = tt.in
		if _, err := Compile(c); (err == nil) != tt.ok || err != nil && !errors.Is(err, ErrRefused) {
			t.Errorf("%+v: %v", tt.in, err)
		}
	}
}

func TestSigns(t *testing.T) {
	c := explicit("/v1/*/invoke")
	c.Inject = statement.Inject{As: "sigv4", Name: "bedrock", Region: "eu-central-1", With: []string{"X-Amz-Extra: 1"}}
	p := compiled(t, c)
	header, err := p.Header([]hop.Field{
		{Name: "Content-Type", Value: "application/json"}, {Name: "X-Amz-Date", Value: "20000101T000000Z"}, {Name: "X-Amz-Security-Token", Value: "the client's"},
		{Name: "X_Amz_Content_Sha256", Value: "UNSIGNED-PAYLOAD"}, {Name: "Authorization", Value: "AWS4-HMAC-SHA256 Credential=the client's"}, {Name: "Date", Value: "today"}, {Name: "X-A", Value: "1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	sum := sha256.Sum256([]byte("{}"))
	for _, s := range []*source.Secret{
		{Value: secret.New([]byte("demosecretaccesskey/0001+demo")), Public: "AKIDDEMO0001", Session: secret.New([]byte("demo-session-token-0001"))},
		{Value: secret.New([]byte("AKIDDEMO0001:demosecretaccesskey/0001+demo"))}, // as an owner hands it over
	} {
		parts, err := p.Open(s)
		if err != nil {
			t.Fatal(err)
		}
		r := &egress.Request{Method: "POST", Header: header, Body: []byte("{}")}
		p.Inject(r, "/v1/a%3A0/invoke", s, now)
		want := []hop.Field{{Name: "Content-Type", Value: "application/json"}, {Name: "X-A", Value: "1"}, {Name: "X-Amz-Extra", Value: "1"}, {Name: "Accept-Encoding", Value: "identity"},
			{Name: "X-Amz-Date", Value: "20260102T030405Z"}, {Name: "X-Amz-Content-Sha256", Value: hex.EncodeToString(sum[:])}}
		if d := cmp.Diff(want, r.Header); d != "" {
			t.Error(d)
		}
		signed := &sigv4.Request{Method: "POST", Target: "/v1/a%3A0/invoke", Body: sum, Fields: []sigv4.Field{{Name: "host", Value: []byte("api.example.com")},
			{Name: "content-type", Value: []byte("application/json")}, {Name: "x-amz-extra", Value: []byte("1")}, {Name: "x-amz-date", Value: []byte("20260102T030405Z")},
			{Name: "x-amz-content-sha256", Value: []byte(hex.EncodeToString(sum[:]))}}}
		if !s.Session.Empty() {
			signed.Fields = append(signed.Fields, sigv4.Field{Name: "x-amz-security-token", Value: []byte("demo-session-token-0001")})
			if r.Secrets[1].Name != "X-Amz-Security-Token" || string(r.Secrets[1].Value) != "demo-session-token-0001" {
				t.Errorf("%s", r.Secrets[1])
			}
		}
		auth := sigv4.Scope{Region: "eu-central-1", Service: "bedrock"}.Authorization(signed, "AKIDDEMO0001", []byte("demosecretaccesskey/0001+demo"), now)
		if r.Secrets[0].Name != "Authorization" || string(r.Secrets[0].Value) != string(auth) || string(r.Target) != "/v1/a%3A0/invoke" {
			t.Errorf("%s, want %s", r.Secrets[0].Value, auth)
		}
		if len(header) != 4 {
			t.Error("the use's own fields were changed")
		}
		guards(t, parts, "demosecretaccesskey/0001+demo")
		if !s.Session.Empty() {
			guards(t, parts, "demo-session-token-0001")
		}
	}
	for _, bad := range []*source.Secret{
		{}, {Value: secret.New([]byte("demosecretaccesskey/0001+demo"))}, {Value: secret.New([]byte(":demosecretaccesskey/0001+demo"))}, {Value: secret.New([]byte("AKIDDEMO0001:short"))},
		{Public: "AKID/DEMO01", Value: secret.New([]byte("demosecretaccesskey/0001+demo"))}, {Public: "AKIDDEMO0001", Value: secret.New([]byte("demosecretaccesskey/0001\ndemo"))},
		{Public: "AKIDDEMO0001", Value: secret.New([]byte("demosecretaccesskey/0001+demo")), Session: secret.New([]byte("a\r\nb"))},
	} {
		if _, err := p.Open(bad); !errors.Is(err, ErrRefused) || strings.Contains(err.Error(), "demosecret") {
			t.Errorf("%q: %v", bad.Public, err)
		}
	}
}

// readings are what servers and proxies make of a path: each is a way in which one could see another path than was matched.
func readings(p string) map[string]string {
	decode := func(s string) string {
		if d, err := url.PathUnescape(s); err == nil {
			return d
		}
		return s
	}
	noParams := func(s string) string {
		parts := strings.Split(s, "/")
		for i := range parts {
			parts[i], _, _ = strings.Cut(parts[i], ";")
		}
		return strings.Join(parts, "/")
	}
	collapse := func(s string) string {
		for strings.Contains(s, "//") {
			s = strings.ReplaceAll(s, "//", "/")
		}
		return s
	}
	nul := func(s string) string { s, _, _ = strings.Cut(s, "\x00"); return s }
	return map[string]string{
		"as sent":                p,
		"clean":                  path.Clean(p),
		"decoded":                decode(p),
		"decoded, clean":         path.Clean(decode(p)),
		"decoded twice":          decode(decode(p)),
		"decoded twice, clean":   path.Clean(decode(decode(p))),
		"without parameters":     path.Clean(noParams(p)),
		"decoded, no parameters": path.Clean(noParams(decode(p))),
		"backslashes":            path.Clean(strings.ReplaceAll(decode(p), `\`, "/")),
		"collapsed":              collapse(decode(p)),
		"cut at NUL":             path.Clean(nul(decode(p))),
		"trailing slash":         strings.TrimSuffix(decode(p), "/"),
		"cut at ?":               strings.SplitN(decode(decode(p)), "?", 2)[0],
		"cut at #":               strings.SplitN(decode(decode(p)), "#", 2)[0],
	}
}

// within is the plain meaning of a pattern, written without the code under test.
func within(pattern, p string) bool {
	want, got := strings.Split(pattern, "/"), strings.Split(p, "/")
	for i, w := range want {
		if w == "**" {
			return len(got) > i
		}
		if i >= len(got) || w != "*" && w != got[i] {
			return false
		}
	}
	return len(want) == len(got)
}

func checkEscape(t *testing.T, p *Pin, public string) {
	t.Helper()
	target, err := p.Target("GET", public)
	if err != nil {
		return
	}
	sent, _, _ := strings.Cut(target, "?")
	for _, pattern := range p.Credential.Destination.Paths {
		all := true
		for _, r := range readings(sent) {
			all = all && within(pattern, r)
		}
		if all {
			return // one and the same pattern holds under every reading
		}
	}
	t.Fatalf("%q: %q escapes its pattern: %q", public, sent, readings(sent))
}

func TestNoEscape(t *testing.T) {
	seed := time.Now().UnixNano()
	r := rand.New(rand.NewSource(seed))
	t.Logf("seed %d", seed)
	p := compiled(t, explicit("/v1/a", "/v1/models/*", "/v1/x/*/y", "/v1/deep/**"))
	atoms := []string{"/", "/", "/", "v1", "a", "models", "x", "y", "deep", ".", "..", "%2e", "%2E%2e", "%2f", "%5c", `\`, ";", "%3b", "%25", "%252f", "%00",
		"%3A", "%40", ":", "@", "?", "%3f", "#", "%23", "//", "é", "%c3%a9", "%61", "*", "~", " ", "%20", "%"}
	accepted := 0
	for range 200000 {
		var b strings.Builder
		b.WriteString([]string{"", "/v1/models", "/v1/deep", "/v1/x/", "/openai/v1"}[r.Intn(5)])
		for range r.Intn(6) {
			b.WriteString(atoms[r.Intn(len(atoms))])
		}
		if _, err := p.Target("GET", b.String()); err == nil {
			accepted++
		}
		checkEscape(t, p, b.String())
	}
	if accepted < 300 {
		t.Errorf("only %d paths accepted: the property was hardly tried", accepted)
	}
}

func FuzzTarget(f *testing.F) {
	p := compiled(f, explicit("/v1/a", "/v1/models/*", "/v1/x/*/y", "/v1/deep/**"))
	for _, s := range []string{"/v1/a", "/v1/models/a%3Ab", "/v1/deep/a/../b", "/v1/x/%2e/y?a=b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, public string) { checkEscape(t, p, public) })
}

func BenchmarkTarget(b *testing.B) {
	p := compiled(b, statement.Credential{Template: "openai", Source: "sealed"})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Target("POST", "/openai/v1/chat/completions"); err != nil {
			b.Fatal(err)
		}
	}
}
