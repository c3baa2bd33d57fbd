package oauth

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/internal/custodian/source"
	"github.com/reevehq/reeve/internal/custodian/source/sourcetest"
	"github.com/reevehq/reeve/internal/statement"
)

const (
	client       = "reeve client/1" // form-encoding shows
	clientSecret = "demo-client-secret:with+signs%"
	pair         = "reeve+client%2F1:demo-client-secret%3Awith%2Bsigns%25"
	seed         = "demo-refresh-token-0"
)

// double is a double of a token endpoint and its revocation endpoint. It takes the bytes that the RFCs document, and nothing else.
type double struct {
	words  map[string]string // of the record
	public *ecdsa.PublicKey  // of the client, for private_key_jwt
	again  bool              // it answers the same for a spent refresh token, until the next one is used (RFC 9700, section 4.14.2)
	keeps  bool              // it gives no next refresh token

	mu     sync.Mutex
	origin string
	given  int // access tokens
	alive  map[string]bool
	jti    map[string]bool
	next   string // the refresh token that is good
	last   string // the one before
	before []byte // its answer
	reused int    // refresh tokens that came once more, and were taken for stolen
}

func newDouble(words map[string]string) *double {
	return &double{words: words, next: seed, alive: map[string]bool{}, jti: map[string]bool{}}
}

func (e *double) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	form, err := url.ParseQuery(string(body))
	if err != nil || r.Method != "POST" || r.URL.RawQuery != "" {
		e.refuse(w, "invalid_request")
		return
	}
	switch {
	case r.URL.Path == "/oauth/token" && form.Get("grant_type") == e.words["grant"]:
		e.token(w, r, string(body), form)
	case r.URL.Path == e.words["revocation"]:
		e.revoke(w, r, string(body), form)
	default:
		e.refuse(w, "invalid_request")
	}
}

// token is RFC 6749, sections 4.4.2 and 6.
func (e *double) token(w http.ResponseWriter, r *http.Request, body string, form url.Values) {
	want := "grant_type=" + e.words["grant"] + e.asked()
	token := form.Get("refresh_token")
	if e.words["grant"] == "refresh_token" {
		want += "&refresh_token=" + url.QueryEscape(token)
	}
	if !e.client(w, r, body, want, form) {
		return
	}
	if e.words["grant"] != "refresh_token" {
		w.Write(e.answer(""))
		return
	}
	switch {
	case token == "":
		e.refuse(w, "invalid_request")
	case token == e.next:
		if !e.keeps {
			e.last, e.next = e.next, fmt.Sprintf("demo-refresh-token-%d", e.given+1)
			e.before = e.answer(e.next)
			w.Write(e.before)
			return
		}
		w.Write(e.answer(""))
	case token == e.last && e.again:
		w.Write(e.before)
	default: // stolen: all that came of it ends
		e.reused++
		e.next = ""
		clear(e.alive)
		e.refuse(w, "invalid_grant")
	}
}

func (e *double) asked() string {
	switch {
	case e.words["scope"] != "":
		return "&scope=read+write%3Aall&audience=https%3A%2F%2Fapi.example&resource=https%3A%2F%2Fa.example%2Fx&resource=urn%3Ab"
	}
	return ""
}

// answer is RFC 6749, section 5.1, or what Slack documents.
func (e *double) answer(refresh string) []byte {
	e.given++
	token := fmt.Sprintf("demo-access-token-%d-%s", e.given, rand.Text())
	e.alive[token] = true
	a := map[string]any{"access_token": token, "token_type": "Bearer", "expires_in": 3600, "scope": "read"}
	if e.words["provider"] == "slack" {
		a["ok"], a["token_type"], a["app_id"], a["team"] = true, "bot", "A1", map[string]string{"id": "T1"}
	}
	if refresh != "" {
		a["refresh_token"] = refresh
	}
	b, _ := json.Marshal(a)
	return b
}

// client holds a request to what shows the client.
func (e *double) client(w http.ResponseWriter, r *http.Request, body, want string, form url.Values) bool {
	header := map[string][]string{"Content-Type": {"application/x-www-form-urlencoded"}, "Accept": {"application/json"}, "Accept-Encoding": {"identity"},
		"Content-Length": {fmt.Sprint(len(body))}}
	switch e.words["authentication"] {
	case "", "client_secret_basic":
		header["Authorization"] = []string{"Basic " + base64.StdEncoding.EncodeToString([]byte(pair))}
	case "client_secret_post":
		want += "&client_id=reeve+client%2F1&client_secret=demo-client-secret%3Awith%2Bsigns%25"
	case "private_key_jwt":
		assertion := form.Get("client_assertion")
		want += "&client_id=reeve+client%2F1&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer&client_assertion=" + assertion
		if !e.verify(assertion) {
			e.refuse(w, "invalid_client")
			return false
		}
	default:
		want += "&client_id=reeve+client%2F1"
	}
	if e.words["authentication"] == "tls_client_auth" && (len(r.TLS.PeerCertificates) != 1 || !e.public.Equal(r.TLS.PeerCertificates[0].PublicKey)) {
		e.refuse(w, "invalid_client")
		return false
	}
	if body != want || !cmp.Equal(map[string][]string(r.Header), header) {
		e.refuse(w, "invalid_request")
		return false
	}
	return true
}

// verify is RFC 7523, section 3, with nothing but the standard library.
func (e *double) verify(assertion string) bool {
	parts := strings.Split(assertion, ".")
	if len(parts) != 3 {
		return false
	}
	var b [3][]byte
	for i := range parts {
		b[i], _ = base64.RawURLEncoding.DecodeString(parts[i])
	}
	var c struct {
		Iss, Sub, Aud, Jti string
		Iat, Exp           int64
	}
	sum, now := sha256.Sum256([]byte(parts[0]+"."+parts[1])), time.Now().Unix()
	if string(b[0]) != `{"alg":"ES256","kid":"k1","typ":"JWT"}` || len(b[2]) != 64 || json.Unmarshal(b[1], &c) != nil ||
		!ecdsa.Verify(e.public, sum[:], new(big.Int).SetBytes(b[2][:32]), new(big.Int).SetBytes(b[2][32:])) {
		return false
	}
	ok := c.Iss == client && c.Sub == client && c.Aud == e.origin+"/oauth/token" && c.Exp > now && c.Exp-c.Iat == 60 && c.Iat <= now+5 && c.Jti != "" && !e.jti[c.Jti]
	e.jti[c.Jti] = true
	return ok
}

// revoke is RFC 7009, section 2, or Slack's auth.revoke.
func (e *double) revoke(w http.ResponseWriter, r *http.Request, body string, form url.Values) {
	token, hint := form.Get("token"), form.Get("token_type_hint")
	if e.words["provider"] == "slack" {
		token = strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		switch {
		case body != "" || token == "":
			e.refuse(w, "not_authed")
		case !e.alive[token]:
			e.refuse(w, "token_revoked")
		default:
			e.alive[token] = false
			io.WriteString(w, `{"ok":true,"revoked":true}`)
		}
		return
	}
	if !e.client(w, r, body, "token="+url.QueryEscape(token)+"&token_type_hint="+hint, form) {
		return
	}
	switch {
	case token == "" || hint != "access_token" && hint != "refresh_token":
		e.refuse(w, "invalid_request")
	case token == e.next:
		e.next = ""
		clear(e.alive)
	default:
		e.alive[token] = false
	}
}

func (e *double) refuse(w http.ResponseWriter, word string) {
	status := 400
	if e.words["provider"] == "slack" {
		status = 200
		if word == "invalid_grant" {
			word = "invalid_refresh_token"
		}
		fmt.Fprintf(w, `{"ok":false,"error":%q}`, word)
		return
	}
	if word == "invalid_client" {
		status = 401
	}
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"error":%q,"error_description":"what a provider says at length"}`, word)
}

func (e *double) secrets() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := []string{clientSecret, pair, seed}
	for i := range e.given {
		all = append(all, fmt.Sprintf("demo-refresh-token-%d", i+1))
	}
	return all
}

// record is a custody record.
func record(origin string, words map[string]string) statement.Credential {
	c := statement.Credential{
		ID: "research-crm", Source: "oauth", Inject: statement.Inject{As: "bearer"},
		Destination: statement.Destination{Origin: "https://api.example", Methods: []string{"GET"}, Paths: []string{"/v1/*"}},
		From:        statement.From{URL: origin + "/oauth/token", Parameters: map[string]string{"client_id": client}},
	}
	for name, v := range words {
		c.From.Parameters[name] = v
	}
	if words["grant"] == "refresh_token" {
		c.From.Home = "c1"
	}
	return c
}

func keyPair(t *testing.T) (*ecdsa.PrivateKey, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return key, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func object(members map[string]string) string {
	b, _ := json.Marshal(members)
	return string(b)
}

// TestConformance holds every way to a token to the suite of all sources.
func TestConformance(t *testing.T) {
	key, text := keyPair(t)
	refresh := object(map[string]string{"client_secret": clientSecret, "refresh_token": seed, "home": "c1"})
	asked := map[string]string{"scope": "read write:all", "audience": "https://api.example", "resource": "https://a.example/x urn:b"}
	for _, tt := range []struct {
		name, root string
		words      map[string]string
	}{
		{"basic", clientSecret, map[string]string{"grant": "client_credentials", "revocation": "/oauth/revoke"}},
		{"asking for less", clientSecret, asked},
		{"post", object(map[string]string{"client_secret": clientSecret}), map[string]string{"grant": "client_credentials", "authentication": "client_secret_post"}},
		{"private key", strings.TrimSpace(text), map[string]string{"grant": "client_credentials", "authentication": "private_key_jwt", "key_id": "k1", "revocation": "/oauth/revoke"}},
		{"refresh token", refresh, map[string]string{"grant": "refresh_token", "revocation": "/oauth/revoke"}},
		{"refresh token of Slack", refresh, map[string]string{"grant": "refresh_token", "provider": "slack", "revocation": "/api/auth.revoke"}},
	} {
		if tt.words["grant"] == "" {
			tt.words["grant"] = "client_credentials"
		}
		t.Run(tt.name, func(t *testing.T) {
			malformed := []string{
				`{"access_token":"demo-access-token-1","token_type":"DPoP","expires_in":60}`, `{"access_token":"demo-access-token-1","token_type":"Bearer","expires_in":"60"}`,
				`{"access_token":"demo-access-token-1","token_type":"Bearer","expires_in":-1}`, `{"access_token":"demo-access-token-1","token_type":"Bearer","expires_in":9007199254740991}`,
				`{"access_token":"demo access\ntoken 1","token_type":"Bearer"}`, `{"access_token":"short","token_type":"Bearer"}`, `{"access_token":"demo-access-token-1"}`,
				`{"access_token":"demo-access-token-1","access_token":"demo-access-token-2","token_type":"Bearer"}`,
			}
			if tt.words["grant"] == "refresh_token" {
				malformed = append(malformed, `{"ok":true,"access_token":"demo-access-token-1","token_type":"Bearer","refresh_token":7}`, `{"ok":true,"access_token":"demo-access-token-1","token_type":"Bearer","refresh_token":"\u0007"}`)
			}
			sourcetest.Run(t, sourcetest.Harness{
				New:    New,
				Record: func(origin string) statement.Credential { return record(origin, tt.words) },
				Double: func(origin string) sourcetest.Double {
					e := newDouble(tt.words)
					e.origin, e.public = origin, &key.PublicKey
					return sourcetest.Double{Handler: e, Secrets: e.secrets, Alive: func(s *source.Secret) bool {
						e.mu.Lock()
						defer e.mu.Unlock()
						return e.alive[string(s.Value.Reveal())]
					}}
				},
				Root: tt.root, Life: time.Hour, Malformed: malformed,
			})
		})
	}
}
