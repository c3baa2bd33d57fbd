package federation

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/internal/custodian/source"
	"github.com/reevehq/reeve/internal/custodian/source/sourcetest"
	"github.com/reevehq/reeve/internal/custody"
	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/internal/secret"
	"github.com/reevehq/reeve/internal/statement"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var now = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

const (
	token  = "aaaaaaaa.bbbbbbbb-_.cccccccc"
	minted = "demo-exchanged-token-0123456789/+="
)

// double is a provider's endpoint. It answers what handle answers.
type double struct {
	*httptest.Server
	handle func(w http.ResponseWriter, r *http.Request, body string)
	asked  int
}

func newDouble(t testing.TB) *double {
	d := &double{}
	d.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		d.asked++
		d.handle(w, r, string(b))
	}))
	t.Cleanup(d.Close)
	return d
}

func (d *double) record(exchange string, more ...string) statement.Credential {
	p := map[string]string{"exchange": exchange}
	for i := 0; i < len(more); i += 2 {
		p[more[i]] = more[i+1]
	}
	c := record(p)
	c.From.URL, c.From.Networks = d.URL+"/token", []string{"127.0.0.0/8"}
	c.From.CA = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: d.Certificate().Raw}))
	return c
}

func record(parameters map[string]string) statement.Credential {
	return statement.Credential{ID: "research-model", Class: "normal", Source: "federation", Inject: statement.Inject{As: "bearer"},
		Destination: statement.Destination{Origin: "https://api.example", Methods: []string{"POST"}, Paths: []string{"/v1"}},
		From:        statement.From{URL: "https://id.example/token", Parameters: parameters}}
}

// open makes the source; signed receives what it had signed.
func open(t testing.TB, c statement.Credential, signed *source.Token, edit ...func(*source.Config)) source.Source {
	t.Helper()
	must(t, custody.Check(c))
	cfg := source.Config{Record: c, Unit: "research", Clock: func() time.Time { return now }, Sign: func(_ context.Context, k source.Token) (secret.Value, error) {
		*signed = k
		return secret.New([]byte(token)), nil
	}}
	for _, f := range edit {
		f(&cfg)
	}
	s, err := New(cfg)
	must(t, err)
	t.Cleanup(s.Close)
	return s
}

func bearer(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"access_token":%q,"token_type":"Bearer","expires_in":300,"issued_token_type":"urn:ietf:params:oauth:token-type:access_token","new":[1]}`, minted)
}

// TestRequests: each provider is asked as its documents say, to the byte, and nothing else is sent.
func TestRequests(t *testing.T) {
	const (
		grant = "urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange"
		jwt   = "urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Ajwt"
	)
	d := sourcetest.Durable(t)
	for _, c := range []struct {
		exchange   string
		parameters []string
		kind, body string
		header     string // name: value
		audience   string
		algorithm  string
		life       time.Duration
		workload   string
	}{
		{ // developers.openai.com/api/reference/workload-identity-federation
			exchange: "openai", parameters: []string{"identity_provider_id", "idp_1", "service_account_id", "sa_1"}, kind: "application/json",
			body: `{"grant_type":"urn:ietf:params:oauth:grant-type:token-exchange","subject_token_type":"urn:ietf:params:oauth:token-type:jwt",` +
				`"subject_token":"` + token + `","identity_provider_id":"idp_1","service_account_id":"sa_1"}`,
			audience: "https://api.openai.com/v1", algorithm: "ES256", life: 5 * time.Minute,
		},
		{ // platform.claude.com/docs/en/manage-claude/wif-reference
			exchange: "anthropic", parameters: []string{"federation_rule_id", "fdrl_1", "organization_id", "0-1", "service_account_id", "svac_1", "workspace_id", "default"},
			kind: "application/json", header: "Anthropic-Beta: oidc-federation-2026-04-01",
			body: `{"grant_type":"urn:ietf:params:oauth:grant-type:jwt-bearer","assertion":"` + token + `","federation_rule_id":"fdrl_1",` +
				`"organization_id":"0-1","service_account_id":"svac_1","workspace_id":"default"}`,
			audience: "https://api.anthropic.com", algorithm: "ES256", life: time.Minute,
		},
		{
			exchange: "anthropic", parameters: []string{"federation_rule_id", `a"b`, "organization_id", "0-1", "service_account_id", "svac_1", "audience", "us"},
			kind: "application/json", body: `{"grant_type":"urn:ietf:params:oauth:grant-type:jwt-bearer","assertion":"` + token +
				`","federation_rule_id":"a\"b","organization_id":"0-1","service_account_id":"svac_1"}`,
			audience: "us", algorithm: "ES256", life: time.Minute,
		},
		{ // openrouter.ai/docs/api/api-reference/oauth/exchange-a-workload-identity-token
			exchange: "openrouter", parameters: []string{"federation_policy_id", "4b2f"}, kind: "application/x-www-form-urlencoded",
			body:     "grant_type=" + grant + "&subject_token_type=" + jwt + "&subject_token=" + token + "&federation_policy_id=4b2f",
			audience: "https://openrouter.ai", algorithm: "ES256", life: 5 * time.Minute,
		},
		{ // docs.databricks.com/dev-tools/auth/oauth-federation-exchange
			exchange: "databricks", parameters: []string{"client_id", "sp-1", "audience", "account-1"}, kind: "application/x-www-form-urlencoded",
			body:     "grant_type=" + grant + "&subject_token_type=" + jwt + "&subject_token=" + token + "&scope=all-apis&client_id=sp-1",
			audience: "account-1", algorithm: "ES256", life: 5 * time.Minute,
		},
		{ // learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow
			exchange: "entra", parameters: []string{"client_id", "app-1", "scope", "https://ai.azure.com/.default"}, kind: "application/x-www-form-urlencoded",
			body: "grant_type=client_credentials&client_id=app-1&scope=https%3A%2F%2Fai.azure.com%2F.default" +
				"&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer&client_assertion=" + token,
			audience: "api://AzureADTokenExchange", algorithm: "RS256", life: 5 * time.Minute,
		},
		{ // RFC 8693, section 2.1
			exchange: "generic", parameters: []string{"target", "https://api.example", "audience", "https://as.example"}, kind: "application/x-www-form-urlencoded",
			body:     "grant_type=" + grant + "&subject_token_type=" + jwt + "&subject_token=" + token + "&audience=https%3A%2F%2Fapi.example",
			audience: "https://as.example", algorithm: "ES256", life: 5 * time.Minute, workload: "agent",
		},
	} {
		t.Run(c.exchange, func(t *testing.T) {
			up := newDouble(t)
			up.handle = func(w http.ResponseWriter, r *http.Request, body string) {
				name, value, _ := strings.Cut(c.header, ": ")
				switch {
				case r.Method != "POST" || r.URL.Path != "/token" || r.Header.Get("Content-Type") != c.kind || r.Header.Get("Accept") != "application/json":
					t.Errorf("%s %s %v", r.Method, r.URL, r.Header)
				case name != "" && r.Header.Get(name) != value, r.Header.Get("Authorization") != "", r.Header.Get("Cookie") != "":
					t.Errorf("header %v", r.Header)
				case body != c.body:
					t.Errorf("the body differs:\n%s", cmp.Diff(c.body, body))
				}
				bearer(w)
			}
			var signed source.Token
			got, err := open(t, up.record(c.exchange, c.parameters...), &signed).Fetch(t.Context(), d, source.Ask{Workload: c.workload})
			must(t, err)
			want := source.Token{Credential: "research-model", Workload: c.workload, Audience: c.audience, Algorithm: c.algorithm, ID: signed.ID, Issued: now, Expires: now.Add(c.life)}
			if diff := cmp.Diff(want, signed); diff != "" || len(signed.ID) < 16 {
				t.Errorf("the token's claims: %s", diff)
			}
			if !got.Value.Equal([]byte(minted)) || got.Lease != signed.ID || !got.Expires.Equal(now.Add(5*time.Minute)) || !got.Issued.Equal(now) || !got.Session.Empty() {
				t.Errorf("%+v", got)
			}
		})
	}
}

// TestGoogle: the token of the security token service is the bearer of the second step, whose answer is the secret.
func TestGoogle(t *testing.T) {
	d := sourcetest.Durable(t)
	up := newDouble(t)
	up.handle = func(w http.ResponseWriter, r *http.Request, body string) {
		switch r.URL.Path {
		case "/token":
			form, err := url.ParseQuery(body)
			must(t, err)
			want := url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "subject_token_type": {"urn:ietf:params:oauth:token-type:jwt"},
				"subject_token": {token}, "audience": {"//iam.googleapis.com/x"}, "requested_token_type": {"urn:ietf:params:oauth:token-type:access_token"},
				"scope": {"https://www.googleapis.com/auth/cloud-platform"}}
			if diff := cmp.Diff(want, form); diff != "" {
				t.Error(diff)
			}
			fmt.Fprint(w, `{"access_token":"federated-token-0123456789","issued_token_type":"urn:ietf:params:oauth:token-type:access_token","token_type":"Bearer","expires_in":3599}`)
		case "/v1/projects/-/serviceAccounts/a@p.iam.gserviceaccount.com:generateAccessToken":
			if r.Header.Get("Authorization") != "Bearer federated-token-0123456789" || body != `{"scope":["https://www.googleapis.com/auth/cloud-platform"],"lifetime":"600s"}` {
				t.Errorf("%v %s", r.Header, body)
			}
			fmt.Fprintf(w, `{"accessToken":%q,"expireTime":"2026-06-01T12:10:00Z"}`, minted)
		default:
			t.Errorf("%s", r.URL)
		}
	}
	c := up.record("google", "provider", "//iam.googleapis.com/x", "audience", "a", "service_account", "a@p.iam.gserviceaccount.com", "credentials_origin", up.URL)
	c.From.Lifetime = statement.Duration(10 * time.Minute)
	got, err := open(t, c, new(source.Token)).Fetch(t.Context(), d, source.Ask{})
	must(t, err)
	if !got.Value.Equal([]byte(minted)) || !got.Expires.Equal(now.Add(10*time.Minute)) || up.asked != 2 {
		t.Errorf("%+v after %d requests", got, up.asked)
	}
	for _, bad := range []string{"a/../b@x", "a@b:setIamPolicy", "A@b"} {
		c.From.Parameters["service_account"] = bad
		if _, err := New(source.Config{Record: c}); !errors.Is(err, custody.ErrRecord) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

const stsAnswer = `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <AssumeRoleWithWebIdentityResult>
    <SubjectFromWebIdentityToken>spiffe://x</SubjectFromWebIdentityToken>
    <Credentials>
      <SessionToken>session/token+0123456789=</SessionToken>
      <SecretAccessKey>secretaccesskey/0123456789</SecretAccessKey>
      <Expiration>2026-06-01T12:15:00Z</Expiration>
      <AccessKeyId>ASIADEMODEMODEMODEMO</AccessKeyId>
    </Credentials>
  </AssumeRoleWithWebIdentityResult>
  <ResponseMetadata><RequestId>1</RequestId></ResponseMetadata>
</AssumeRoleWithWebIdentityResponse>`

// TestAWS follows the AWS Security Token Service API Reference, AssumeRoleWithWebIdentity.
func TestAWS(t *testing.T) {
	d := sourcetest.Durable(t)
	up := newDouble(t)
	answer := stsAnswer
	up.handle = func(w http.ResponseWriter, r *http.Request, body string) {
		const want = "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fr&RoleSessionName=reeve-research-model%2Cagent&DurationSeconds=900&WebIdentityToken=" + token
		if body != want || r.Header.Get("Accept") != "text/xml" {
			t.Errorf("%v\n%s", r.Header, cmp.Diff(want, body))
		}
		fmt.Fprint(w, answer)
	}
	s := open(t, up.record("aws", "role_arn", "arn:aws:iam::1:role/r"), new(source.Token))
	got, err := s.Fetch(t.Context(), d, source.Ask{Workload: "agent"})
	must(t, err)
	if got.Public != "ASIADEMODEMODEMODEMO" || !got.Value.Equal([]byte("secretaccesskey/0123456789")) || !got.Session.Equal([]byte("session/token+0123456789=")) || !got.Expires.Equal(now.Add(15*time.Minute)) {
		t.Errorf("%+v", got)
	}
	for _, change := range [][2]string{
		{"doc/2011-06-15", "doc/2012"}, {"2026-06-01T12:15", "2026-06-01T11:15"}, {"ASIADEMODEMODEMODEMO", "asia"}, {"secretaccesskey/0123456789", "x y"},
		{"session/token+0123456789=", ""}, {"</Credentials>", ""}, {"<Expiration>", "<Expires>"},
	} {
		answer = strings.Replace(stsAnswer, change[0], change[1], 1)
		if got, err := s.Fetch(t.Context(), d, source.Ask{Workload: "agent"}); !errors.Is(err, source.ErrMalformed) || got != nil {
			t.Errorf("%v: %v", change, err)
		}
	}
}

// TestAnswers: what is not as documented is refused, with the error that says what it means and no word of the body.
func TestAnswers(t *testing.T) {
	d := sourcetest.Durable(t)
	up := newDouble(t)
	s := open(t, up.record("openai", "identity_provider_id", "i", "service_account_id", "s"), new(source.Token))
	const leak = "leaked-secret-0123456789"
	for _, c := range []struct {
		status int
		body   string
		want   error
		says   string
	}{
		{400, `{"error":"invalid_grant","error_description":"` + leak + `"}`, source.ErrRefused, "invalid_grant"},
		{401, leak, source.ErrRefused, "401"},
		{429, leak, source.ErrDown, "429"},
		{500, leak, source.ErrDown, ""},
		{503, leak, source.ErrDown, ""},
		{201, `{"access_token":"` + leak + `","token_type":"Bearer","expires_in":300}`, source.ErrMalformed, ""},
		{307, leak, source.ErrRefused, "elsewhere"},
		{200, leak, source.ErrMalformed, "JSON"},
		{200, `[]`, source.ErrMalformed, ""},
		{200, `null`, source.ErrMalformed, ""},
		{200, `{"access_token":"` + leak + `","token_type":"Bearer"}`, source.ErrMalformed, "expires_in"},
		{200, `{"access_token":"` + leak + `","token_type":"Bearer","expires_in":0}`, source.ErrMalformed, ""},
		{200, `{"access_token":"` + leak + `","token_type":"Bearer","expires_in":-5}`, source.ErrMalformed, ""},
		{200, `{"access_token":"` + leak + `","token_type":"Bearer","expires_in":1e3}`, source.ErrMalformed, ""},
		{200, `{"access_token":"` + leak + `","token_type":"Bearer","expires_in":"300"}`, source.ErrMalformed, ""},
		{200, `{"access_token":"` + leak + `","token_type":"MAC","expires_in":300}`, source.ErrMalformed, "Bearer"},
		{200, `{"access_token":"` + leak + `","expires_in":300}`, source.ErrMalformed, ""},
		{200, `{"access_token":"short","token_type":"Bearer","expires_in":300}`, source.ErrMalformed, ""},
		{200, `{"access_token":"` + leak + `\r\nX: y","token_type":"Bearer","expires_in":300}`, source.ErrMalformed, ""},
		{200, `{"access_token":["` + leak + `"],"token_type":"Bearer","expires_in":300}`, source.ErrMalformed, ""},
		{200, `{"token_type":"Bearer","expires_in":300}`, source.ErrMalformed, ""},
		{200, `{"access_token":"` + leak + `","token_type":"Bearer","expires_in":300}` + leak, source.ErrMalformed, ""},
		{200, `{"access_token":"` + strings.Repeat("x", 9<<10) + `","token_type":"Bearer","expires_in":300}`, source.ErrMalformed, ""},
		{200, `{"pad":"` + strings.Repeat("x", 300<<10) + `"}`, source.ErrMalformed, "bytes"},
	} {
		up.handle = func(w http.ResponseWriter, r *http.Request, _ string) {
			if c.status == 307 {
				w.Header().Set("Location", "https://attacker.invalid/"+leak)
			}
			w.WriteHeader(c.status)
			io.WriteString(w, c.body)
		}
		asked := up.asked
		got, err := s.Fetch(t.Context(), d, source.Ask{})
		if !errors.Is(err, c.want) || got != nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%d %.60s: %v", c.status, c.body, err)
		}
		if err != nil && (strings.Contains(err.Error(), leak) || strings.Contains(err.Error(), token)) {
			t.Errorf("the error quotes what may be secret: %v", err)
		}
		if up.asked != asked+1 {
			t.Errorf("%d %.60s: %d requests", c.status, c.body, up.asked-asked)
		}
	}
	up.handle = func(w http.ResponseWriter, _ *http.Request, _ string) {
		fmt.Fprint(w, `{"access_token":"escaped\/token-0123456789","token_type":"bearer","expires_in":300}`)
	}
	if got, err := s.Fetch(t.Context(), d, source.Ask{}); err != nil || !got.Value.Equal([]byte("escaped/token-0123456789")) {
		t.Errorf("%v, %v", got, err)
	}
}

// TestOrder: nothing is signed, and nothing asked, without a durable entry; and nothing asked when nothing can be signed.
func TestOrder(t *testing.T) {
	up := newDouble(t)
	up.handle = func(w http.ResponseWriter, _ *http.Request, _ string) { bearer(w) }
	c := up.record("openai", "identity_provider_id", "i", "service_account_id", "s")
	var signed source.Token
	s := open(t, c, &signed)
	if _, err := s.Fetch(t.Context(), ledger.Durable{}, source.Ask{}); !errors.Is(err, source.ErrNotDurable) || up.asked > 0 || signed.ID != "" {
		t.Errorf("%v, %d asked, signed %v", err, up.asked, signed)
	}
	d := sourcetest.Durable(t)
	without := open(t, c, &signed, func(cfg *source.Config) { cfg.Sign = nil })
	if _, err := without.Fetch(t.Context(), d, source.Ask{}); !errors.Is(err, source.ErrIdentity) || up.asked > 0 {
		t.Errorf("%v", err)
	}
	if err := s.Revoke(t.Context(), d, &source.Secret{}); !errors.Is(err, source.ErrCannotRevoke) {
		t.Errorf("%v", err)
	}
	s.Close()
	if _, err := s.Fetch(t.Context(), d, source.Ask{}); !errors.Is(err, source.ErrDown) {
		t.Errorf("%v", err)
	}
}

// TestRebinding: the endpoint's name is looked up for each connection, and each address is held against the record.
func TestRebinding(t *testing.T) {
	up := newDouble(t)
	up.handle = func(w http.ResponseWriter, _ *http.Request, _ string) {
		w.Header().Set("Connection", "close")
		bearer(w)
	}
	u, err := url.Parse(up.URL)
	must(t, err)
	c := up.record("openai", "identity_provider_id", "i", "service_account_id", "s")
	c.From.URL, c.From.Networks = "https://example.com:"+u.Port()+"/token", []string{"127.0.0.1/32"}
	at := "127.0.0.1"
	s := open(t, c, new(source.Token), func(cfg *source.Config) {
		cfg.Resolve = func(context.Context, string) ([]netip.Addr, error) { return []netip.Addr{netip.MustParseAddr(at)}, nil }
	})
	d := sourcetest.Durable(t)
	_, err = s.Fetch(t.Context(), d, source.Ask{})
	must(t, err)
	for _, at = range []string{"127.0.0.2", "10.0.0.1", "169.254.169.254", "::1"} {
		if _, err := s.Fetch(t.Context(), d, source.Ask{}); !errors.Is(err, source.ErrDown) || up.asked != 1 {
			t.Errorf("%s: %v, asked %d", at, err, up.asked)
		}
	}
}

// FuzzAnswer: no answer makes a secret that could end a header field, or a panic.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`{"access_token":"0123456789abcdef","token_type":"Bearer","expires_in":300}`), false)
	f.Add([]byte(stsAnswer), true)
	openai, _ := custody.FindExchange("openai")
	f.Fuzz(func(t *testing.T, body []byte, sts bool) {
		a := openai.Answer
		if sts {
			a = custody.Answer{Form: "sts"}
		}
		got, err := parse(a, body, now)
		if err != nil {
			if got != nil || !errors.Is(err, source.ErrMalformed) {
				t.Fatalf("%v, %v", got, err)
			}
			return
		}
		for _, v := range []secret.Value{got.Value, got.Session} {
			if strings.ContainsAny(string(v.Reveal()), "\r\n\x00 ") || !v.Empty() && v.Len() < 16 {
				t.Fatalf("%q", v.Reveal())
			}
		}
		if !got.Expires.After(now) || got.Value.Empty() {
			t.Fatalf("%+v", got)
		}
	})
}

// TestRecords: what an exchange needs has to be there, and what it does not know is refused.
func TestRecords(t *testing.T) {
	for name, p := range map[string]map[string]string{
		"no exchange": {}, "an unknown one": {"exchange": "acme"}, "too little": {"exchange": "openai", "service_account_id": "s"},
		"another's parameter": {"exchange": "openrouter", "federation_policy_id": "x", "role_arn": "y"}, "no audience": {"exchange": "databricks"},
		"no algorithm": {"exchange": "openai", "identity_provider_id": "i", "service_account_id": "s", "algorithm": "none"},
	} {
		if err := custody.Check(record(p)); !errors.Is(err, custody.ErrRecord) {
			t.Errorf("%s: %v", name, err)
		}
	}
	b, err := json.Marshal(custody.Exchanges())
	must(t, err)
	if !json.Valid(b) {
		t.Error("the table is no data")
	}
}

// TestConformance holds the one code path to the rules of all sources, with one step and with two.
func TestConformance(t *testing.T) {
	for name, parameters := range map[string]map[string]string{
		"openai": {"exchange": "openai", "identity_provider_id": "idp_1", "service_account_id": "sa_1"},
		"google": {"exchange": "google", "provider": "//iam.googleapis.com/x", "audience": "x", "service_account": "a@p.iam.gserviceaccount.com"},
		"aws":    {"exchange": "aws", "role_arn": "arn:aws:iam::1:role/r"},
	} {
		t.Run(name, func(t *testing.T) {
			sourcetest.Run(t, sourcetest.Harness{
				New: func(cfg source.Config) (source.Source, error) {
					cfg.Sign = func(context.Context, source.Token) (secret.Value, error) { return secret.New([]byte(token)), nil }
					return New(cfg)
				},
				Record: func(origin string) statement.Credential {
					c := record(maps.Clone(parameters))
					if c.From.URL = origin + "/token"; name == "google" {
						c.From.Parameters["credentials_origin"] = origin
					}
					return c
				},
				Double: func(string) sourcetest.Double { return honest() },
				Life:   15 * time.Minute,
			})
		})
	}
}

// honest answers each of the three as they do, a new secret each time.
func honest() sourcetest.Double {
	var mu sync.Mutex
	given := []string{token}
	secret := func() string {
		mu.Lock()
		defer mu.Unlock()
		given = append(given, "exchanged-"+rand.Text())
		return given[len(given)-1]
	}
	return sourcetest.Double{
		Secrets: func() []string { mu.Lock(); defer mu.Unlock(); return slices.Clone(given) },
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			until := time.Now().Add(15 * time.Minute).UTC().Format(time.RFC3339)
			switch {
			case strings.HasSuffix(r.URL.Path, ":generateAccessToken") && strings.HasPrefix(r.Header.Get("Authorization"), "Bearer exchanged-"):
				fmt.Fprintf(w, `{"accessToken":%q,"expireTime":%q}`, secret(), until)
			case r.URL.Path == "/token" && strings.HasPrefix(string(body), "Action=AssumeRoleWithWebIdentity&"):
				answer := strings.NewReplacer("2026-06-01T12:15:00Z", until, "secretaccesskey/0123456789", secret(), "session/token+0123456789=", secret()).Replace(stsAnswer)
				w.Header().Set("Content-Type", "text/xml")
				io.WriteString(w, answer)
			case r.URL.Path == "/token" && strings.Contains(string(body), token):
				w.Header().Set("Content-Type", "application/json")
				fmt.Fprintf(w, `{"access_token":%q,"token_type":"Bearer","expires_in":900,"issued_token_type":"urn:ietf:params:oauth:token-type:access_token"}`, secret())
			default:
				http.Error(w, `{"error":"invalid_request"}`, http.StatusBadRequest)
			}
		}),
	}
}
