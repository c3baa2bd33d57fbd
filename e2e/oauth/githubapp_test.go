package oauth

import (
	"context"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/reevehq/reeve/internal/custodian/source"
	"github.com/reevehq/reeve/internal/custodian/source/githubapp"
	"github.com/reevehq/reeve/internal/custodian/source/sourcetest"
	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/internal/secret"
	"github.com/reevehq/reeve/internal/statement"
)

// The app's own token is what GitHub documents, says a library of another make.
func TestAppTokenByAnotherLibrary(t *testing.T) {
	key, text, _ := identity(t)
	var seen error
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var claims jwt.RegisteredClaims
		_, seen = jwt.ParseWithClaims(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "), &claims, func(*jwt.Token) (any, error) { return key.Public(), nil },
			jwt.WithValidMethods([]string{"RS256"}), jwt.WithIssuer("Iv23demoClientID"), jwt.WithIssuedAt(), jwt.WithExpirationRequired(), jwt.WithStrictDecoding())
		if seen == nil && (claims.ExpiresAt.After(time.Now().Add(10*time.Minute)) || claims.IssuedAt.After(time.Now().Add(-time.Minute))) {
			t.Errorf("iat %v, exp %v", claims.IssuedAt, claims.ExpiresAt)
		}
		w.WriteHeader(201)
		io.WriteString(w, `{"token":"ghs_demo0123456789abcdef","expires_at":"`+time.Now().Add(time.Hour).UTC().Format(time.RFC3339)+`"}`)
	}))
	defer server.Close()
	s, err := githubapp.New(source.Config{
		Record: statement.Credential{
			ID: "research-github", Source: "github-app", Inject: statement.Inject{As: "bearer"},
			Destination: statement.Destination{Origin: "https://api.github.com", Methods: []string{"GET"}, Paths: []string{"/repos/**"}},
			From: statement.From{URL: server.URL + "/app/installations/42/access_tokens", Networks: []string{"127.0.0.1/32"},
				CA:         string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})),
				Parameters: map[string]string{"app": "Iv23demoClientID"}},
		},
		Root: func(ledger.Durable) (secret.Value, error) { return secret.New([]byte(text)), nil }, Clock: time.Now,
	})
	must(t, err)
	defer s.Close()
	got, err := s.Fetch(context.Background(), sourcetest.Durable(t), source.Ask{})
	must(t, err)
	if seen != nil || string(got.Value.Reveal()) != "ghs_demo0123456789abcdef" {
		t.Errorf("the library says: %v", seen)
	}
}
