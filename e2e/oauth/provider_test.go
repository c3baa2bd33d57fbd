package oauth

import (
	"context"
	"encoding/json"
	"encoding/pem"
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
	"github.com/reevehq/reeve/internal/need"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/workload"
)

// serviceUser and serviceSecret are those of the provider's own example.
const serviceUser, serviceSecret = "sid1", "verysecret"

// service has service users get JWTs, for the audience that the test names.
type service struct {
	*storage.Storage
	audience *string
}

func (s service) ClientCredentials(ctx context.Context, id, secret string) (op.Client, error) {
	c, err := s.Storage.ClientCredentials(ctx, id, secret)
	return jwtClient{c}, err
}

func (s service) ClientCredentialsTokenRequest(ctx context.Context, id string, scopes []string) (op.TokenRequest, error) {
	r, err := s.Storage.ClientCredentialsTokenRequest(ctx, id, scopes)
	return request{r, *s.audience}, err
}

type jwtClient struct{ op.Client }

func (jwtClient) AccessTokenType() op.AccessTokenType { return op.AccessTokenTypeJWT }

type request struct {
	op.TokenRequest
	audience string
}

func (r request) GetAudience() []string { return []string{r.audience} }

// postForm posts a form and decodes what comes back.
func postForm(t *testing.T, client *http.Client, to string, auth bool, form url.Values, into any) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, to, strings.NewReader(form.Encode()))
	must(t, err)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if auth {
		r.SetBasicAuth(serviceUser, serviceSecret)
	}
	resp, err := client.Do(r)
	must(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	must(t, err)
	if err := json.Unmarshal(b, into); err != nil {
		t.Fatalf("%s answered %s: %s", to, resp.Status, b)
	}
	return resp.StatusCode
}

// A token of a real OpenID provider, whose keys the authority fetches by discovery, is exchanged when it was made for the endpoint.
func TestRealProviderIsExchanged(t *testing.T) {
	need.Real(t)
	audience := ""
	p := httptest.NewUnstartedServer(nil)
	p.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	p.StartTLS()
	t.Cleanup(p.Close)
	p.Config.Handler = exampleop.SetupServer(p.URL, service{storage.NewStorage(storage.NewUserStore(p.URL)), &audience}, slog.New(slog.DiscardHandler), false)
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate().Raw}))
	s := start(t, func(s *site, plan *estate.Plan) {
		plan.Charter.Issuers = append(plan.Charter.Issuers, statement.Issuer{ID: "idp", Issuer: p.URL, Discovery: true, CA: ca, Networks: []string{"127.0.0.1/32"}, Algorithms: []string{"RS256"}})
		w := &plan.Charter.Workloads[0]
		w.Identities = append(w.Identities, statement.Identity{Issuer: "idp", Audience: s.url, Subject: serviceUser},
			statement.Identity{Issuer: "idp", Audience: "https://gateway.example", Subject: serviceUser})
	})
	exchange := func(aud string) (token string, status int, code string) {
		t.Helper()
		audience = aud
		var subject, got struct {
			Token string `json:"access_token"`
			Error string
		}
		postForm(t, p.Client(), p.URL+"/oauth/token", true, url.Values{"grant_type": {"client_credentials"}, "scope": {"openid"}}, &subject)
		status = postForm(t, http.DefaultClient, s.url+"/v1/token", false, url.Values{
			"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "subject_token": {subject.Token}, "subject_token_type": {"urn:ietf:params:oauth:token-type:access_token"},
		}, &got)
		return got.Token, status, got.Error
	}
	token, status, code := exchange(s.url)
	for end := time.Now().Add(20 * time.Second); status != 200 && time.Now().Before(end); time.Sleep(50 * time.Millisecond) { // until the keys are there
		token, status, code = exchange(s.url)
	}
	if status != 200 {
		t.Fatalf("the endpoint answered %d %s", status, code)
	}
	tokens, err := workload.NewTokens(s.Set, nil, nil) // as a gateway: the provider's keys are the custodian's to know
	must(t, err)
	if who, err := tokens.Verify([]byte(token), time.Now()); err != nil || who.Workload != "research-agent" {
		t.Errorf("a gateway sees %+v, %v", who, err)
	}
	if _, status, code := exchange("https://gateway.example"); status != 400 || code != "invalid_request" {
		t.Errorf("a token for a gateway: %d %s", status, code)
	}
}
