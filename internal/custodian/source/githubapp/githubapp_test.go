package githubapp

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/internal/custodian/source"
	"github.com/reevehq/reeve/internal/custodian/source/sourcetest"
	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/internal/secret"
	"github.com/reevehq/reeve/internal/statement"
)

const app = "Iv23demoClientID"

// hub is a double of GitHub's API, as far as an app's installation goes. It takes what GitHub documents, and nothing else.
type hub struct {
	base string // path before /app
	body string // that is asked with
	key  *rsa.PublicKey

	mu    sync.Mutex
	given int
	alive map[string]bool
	apps  []string // the app's own tokens
}

func (h *hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	want := http.Header{"Accept": {"application/vnd.github+json"}, "X-Github-Api-Version": {"2022-11-28"}, "User-Agent": {"reeve"}, "Accept-Encoding": {"identity"},
		"Authorization": {"Bearer " + token}}
	if len(body) > 0 {
		want["Content-Type"] = []string{"application/json"}
	}
	if r.Method == "POST" {
		want["Content-Length"] = []string{fmt.Sprint(len(body))}
	}
	if diff := cmp.Diff(want, r.Header); diff != "" {
		refuse(w, 400, "Problems parsing headers")
		return
	}
	switch r.Method + " " + r.RequestURI {
	case "POST " + h.base + "/app/installations/42/access_tokens":
		h.create(w, token, string(body))
	case "DELETE " + h.base + "/installation/token":
		if len(body) > 0 || !h.alive[token] {
			refuse(w, 401, "Bad credentials")
			return
		}
		h.alive[token] = false
		w.WriteHeader(204)
	default:
		refuse(w, 404, "Not Found")
	}
}

// create is https://docs.github.com/en/rest/apps/apps#create-an-installation-access-token-for-an-app.
func (h *hub) create(w http.ResponseWriter, token, body string) {
	h.apps = append(h.apps, token)
	if why := h.app(token); why != "" {
		refuse(w, 401, why)
		return
	}
	if body != h.body {
		refuse(w, 422, "Validation Failed")
		return
	}
	h.given++
	installation := fmt.Sprintf("ghs_demo%d%s", h.given, rand.Text())
	h.alive[installation] = true
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(201)
	fmt.Fprintf(w, `{"token":%q,"expires_at":%q,"permissions":{"contents":"read","metadata":"read"},"repository_selection":"selected","repositories":[{"id":1,"name":"one","owner":{"login":"octo"}}]}`,
		installation, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
}

// app judges the app's own token, with nothing but the standard library.
func (h *hub) app(token string) string {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return "A JSON web token could not be decoded"
	}
	var b [3][]byte
	for i := range parts {
		b[i], _ = base64.RawURLEncoding.DecodeString(parts[i])
	}
	var claims map[string]any
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if string(b[0]) != `{"alg":"RS256","typ":"JWT"}` || json.Unmarshal(b[1], &claims) != nil || rsa.VerifyPKCS1v15(h.key, crypto.SHA256, sum[:], b[2]) != nil {
		return "A JSON web token could not be decoded"
	}
	now := float64(time.Now().Unix())
	iat, _ := claims["iat"].(float64)
	exp, _ := claims["exp"].(float64)
	switch {
	case len(claims) != 3 || claims["iss"] != app:
		return "'Issuer' claim ('iss') must be the app"
	case iat > now-30:
		return "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued, a minute early"
	case exp <= now || exp > now+600:
		return "'Expiration time' claim ('exp') is too far in the future"
	}
	return ""
}

func refuse(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"message":%q,"documentation_url":"https://docs.github.com/rest","status":"%d"}`, message, status)
}

func newKey(t *testing.T) (*rsa.PrivateKey, string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}) // as GitHub gives it
	return key, strings.TrimSpace(string(text))
}

func record(url string, words map[string]string) statement.Credential {
	c := statement.Credential{
		ID: "research-github", Source: "github-app", Inject: statement.Inject{As: "bearer"},
		Destination: statement.Destination{Origin: "https://api.github.com", Methods: []string{"GET"}, Paths: []string{"/repos/**"}},
		From:        statement.From{URL: url, Parameters: map[string]string{"app": app}},
	}
	for name, v := range words {
		c.From.Parameters[name] = v
	}
	return c
}

func TestConformance(t *testing.T) {
	key, root := newKey(t)
	for _, tt := range []struct {
		name, base, body string
		words            map[string]string
	}{
		{"all of the installation", "", "", nil},
		{"some of it", "", `{"repositories":["one","two"],"permissions":{"contents":"read","issues":"write"}}`,
			map[string]string{"repositories": "one two", "permissions": "issues:write contents:read"}},
		{"an enterprise server", "/api/v3", `{"permissions":{"contents":"read"}}`, map[string]string{"permissions": "contents:read"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sourcetest.Run(t, sourcetest.Harness{
				New: New,
				Record: func(origin string) statement.Credential {
					return record(origin+tt.base+"/app/installations/42/access_tokens", tt.words)
				},
				Double: func(string) sourcetest.Double {
					h := &hub{base: tt.base, body: tt.body, key: &key.PublicKey, alive: map[string]bool{}}
					return sourcetest.Double{
						Handler: h,
						Secrets: func() []string { h.mu.Lock(); defer h.mu.Unlock(); return h.apps },
						Alive: func(s *source.Secret) bool {
							h.mu.Lock()
							defer h.mu.Unlock()
							return h.alive[string(s.Value.Reveal())]
						},
					}
				},
				Root: root, Life: time.Hour,
				Malformed: []string{`{"token":"ghs_demo0123456789","expires_at":"2100-01-01T00:00:00Z"}`}, // GitHub says 201
			})
		})
	}
}

// TestRefusals say what to do.
func TestRefusals(t *testing.T) {
	key, good := newKey(t)
	_, other := newKey(t)
	for _, tt := range []struct {
		name, root string
		status     int
		header     [2]string
		want       error
		words      string
	}{
		{"another key", other, 0, [2]string{}, source.ErrRefused, "reeve credential put"},
		{"no such installation", good, 404, [2]string{}, source.ErrRefused, "from.url"},
		{"too much asked", good, 422, [2]string{}, source.ErrRefused, "from.parameters.repositories"},
		{"too many requests", good, 403, [2]string{"X-RateLimit-Remaining", "0"}, source.ErrDown, "too many"},
		{"too many at once", good, 403, [2]string{"Retry-After", "60"}, source.ErrDown, "too many"},
		{"no key", "demo-private-key-0001", 0, [2]string{}, source.ErrNoRoot, "PEM"},
		{"in the past", good, 201, [2]string{}, source.ErrMalformed, "expires_at"},
	} {
		h := &hub{key: &key.PublicKey, alive: map[string]bool{}}
		server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case tt.status == 201:
				w.WriteHeader(201)
				io.WriteString(w, `{"token":"ghs_demo0123456789","expires_at":"2016-07-11T22:14:10Z"}`)
			case tt.status != 0:
				w.Header().Set(tt.header[0], tt.header[1])
				refuse(w, tt.status, "demo-message")
			default:
				h.ServeHTTP(w, r)
			}
		}))
		c := record(server.URL+"/app/installations/42/access_tokens", nil)
		c.From.Networks = []string{"127.0.0.1/32"}
		c.From.CA = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
		s, err := New(source.Config{Record: c, Clock: time.Now, Root: func(ledger.Durable) (secret.Value, error) { return secret.New([]byte(tt.root)), nil }})
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Fetch(context.Background(), sourcetest.Durable(t), source.Ask{})
		if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.words) || strings.Contains(err.Error(), "demo-") {
			t.Errorf("%s: %v", tt.name, err)
		}
		if err := s.Revoke(context.Background(), sourcetest.Durable(t), &source.Secret{Lease: "of-before-a-restart"}); !errors.Is(err, source.ErrCannotRevoke) {
			t.Errorf("%s: revoking what is held no more: %v", tt.name, err)
		}
		s.Close()
		server.Close()
	}
}
