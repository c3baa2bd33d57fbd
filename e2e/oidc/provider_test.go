// Package oidc holds reeve's token verification against a real OpenID provider.
package oidc

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/op"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/workload"
	"github.com/reevehq/reeve/internal/workload/issuer"
)

// serviceUser and serviceSecret are those of the provider's own example.
const serviceUser, serviceSecret = "sid1", "verysecret"

// jwtStorage has service users get their access tokens as JWTs.
type jwtStorage struct{ *storage.Storage }

func (s jwtStorage) ClientCredentials(ctx context.Context, id, secret string) (op.Client, error) {
	c, err := s.Storage.ClientCredentials(ctx, id, secret)
	return jwtClient{c}, err
}

type jwtClient struct{ op.Client }

func (jwtClient) AccessTokenType() op.AccessTokenType { return op.AccessTokenTypeJWT }

// provider starts the provider on a loopback address.
func provider(t *testing.T) *httptest.Server {
	server := httptest.NewUnstartedServer(nil)
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	s := jwtStorage{storage.NewStorage(storage.NewUserStore(server.URL))}
	server.Config.Handler = exampleop.SetupServer(server.URL, s, slog.New(slog.DiscardHandler), false)
	return server
}

// token gets an access token by the client credentials grant.
func token(t *testing.T, p *httptest.Server) []byte {
	r, err := http.NewRequest(http.MethodPost, p.URL+"/oauth/token", strings.NewReader(url.Values{"grant_type": {"client_credentials"}, "scope": {"openid"}}.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth(serviceUser, serviceSecret)
	resp, err := p.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	var got struct {
		Token string `json:"access_token"`
	}
	if err != nil || json.Unmarshal(b, &got) != nil || strings.Count(got.Token, ".") != 2 {
		t.Fatalf("the provider answered %s %s (%v)", resp.Status, b, err)
	}
	return []byte(got.Token)
}

// A workload is who the provider says, by keys that the provider publishes, for the audience and subject that the charter names.
func TestRealProvider(t *testing.T) {
	p, other := provider(t), provider(t)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate().Raw})
	set := func(audience, subject string) *statement.Set {
		return estatetest.New(t, estatetest.Edit(func(plan *estate.Plan) {
			plan.Charter.Issuers = []statement.Issuer{{ID: "idp", Issuer: p.URL, Discovery: true, CA: string(ca), Networks: []string{"127.0.0.1/32"}, Algorithms: []string{"RS256"}}}
			plan.Charter.Workloads[0].Identities = []statement.Identity{{Issuer: "idp", Audience: audience, Subject: subject}}
		})).Set
	}
	book := issuer.NewBook(issuer.Config{Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	defer book.Close()
	for _, c := range []struct {
		name, audience, subject string
		token                   []byte
		err                     error
	}{
		{"as it is", serviceUser, serviceUser, token(t, p), nil},
		{"another audience", "reeve", serviceUser, token(t, p), workload.ErrUnknown},
		{"another subject", serviceUser, "sid2", token(t, p), workload.ErrUnknown},
		{"another provider", serviceUser, serviceUser, token(t, other), workload.ErrUnknown},
	} {
		s := set(c.audience, c.subject)
		if err := book.Use(s); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(20 * time.Second); book.Keys("idp", "") == nil; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("the provider's keys never came")
			}
		}
		tokens, err := workload.NewTokens(s, book.Keys, nil)
		if err != nil {
			t.Fatal(err)
		}
		who, err := tokens.Verify(c.token, time.Now())
		if !errors.Is(err, c.err) || c.err == nil && (err != nil || who.Workload != "research-agent" || who.Issuer != "idp" || who.Level != 1) {
			t.Errorf("%s: %+v, %v", c.name, who, err)
		}
	}
}
