// Package githubapp gets installation access tokens of a GitHub App, and revokes them.
package githubapp

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/custodian/egress"
	"github.com/reevehq/reeve/internal/custodian/source"
	"github.com/reevehq/reeve/internal/custodian/source/jwt"
	"github.com/reevehq/reeve/internal/custody"
	"github.com/reevehq/reeve/internal/hop"
	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/internal/scan"
	"github.com/reevehq/reeve/internal/seal"
	"github.com/reevehq/reeve/internal/secret"
)

const (
	// version is that of GitHub's API: https://docs.github.com/en/rest/about-the-rest-api/api-versions.
	version = "2022-11-28"
	// early and late are how far the app's own token reaches to both sides of now, for clocks that differ. GitHub takes ten minutes at most.
	// https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app/generating-a-json-web-token-jwt-for-a-github-app
	early = time.Minute
	late  = 5 * time.Minute
)

// Source is one installation of one app, as far as the record asks for it.
type Source struct {
	cfg    source.Config
	client *source.Client
	ask    []byte // body of the request for a token; nil asks for all that the installation has
	revoke string // path
}

// New checks the record and returns a source without connections.
func New(cfg source.Config) (source.Source, error) {
	if err := custody.Check(cfg.Record); err != nil {
		return nil, err
	}
	u, err := url.Parse(cfg.Record.From.URL)
	if err != nil {
		return nil, fmt.Errorf("from.url: %w", err)
	}
	base, _, _ := strings.Cut(u.EscapedPath(), "/app/installations/")
	s := &Source{cfg: cfg, revoke: base + "/installation/token"}
	if s.ask, err = ask(cfg.Record.From.Parameters); err != nil {
		return nil, err
	}
	if s.client, err = source.NewClient(cfg.Record.From, cfg.Resolve); err != nil {
		return nil, err
	}
	return s, nil
}

// ask is the body that narrows a token: https://docs.github.com/en/rest/apps/apps#create-an-installation-access-token-for-an-app.
func ask(parameters map[string]string) ([]byte, error) {
	var body struct {
		Repositories []string          `json:"repositories,omitempty"`
		Permissions  map[string]string `json:"permissions,omitempty"`
	}
	body.Repositories = strings.Fields(parameters["repositories"])
	for one := range strings.FieldsSeq(parameters["permissions"]) {
		if body.Permissions == nil {
			body.Permissions = map[string]string{}
		}
		name, level, _ := strings.Cut(one, ":")
		body.Permissions[name] = level
	}
	if len(body.Repositories) == 0 && len(body.Permissions) == 0 {
		return nil, nil
	}
	return json.Marshal(body)
}

// Fetch gets a token. GitHub gives each an hour.
func (s *Source) Fetch(ctx context.Context, d ledger.Durable, _ source.Ask) (*source.Secret, error) {
	if !d.Valid() {
		return nil, source.ErrNotDurable
	}
	now := s.cfg.Clock()
	app, err := s.app(d, now)
	if err != nil {
		return nil, s.says(err)
	}
	defer clear(app)
	a, err := s.send(ctx, source.Request{Method: "POST", Body: s.ask}, app)
	if err != nil {
		return nil, err
	}
	defer clear(a.Body)
	if err := judge(a, 201); err != nil {
		return nil, s.says(err)
	}
	got, err := read(a.Body, now)
	if err != nil {
		return nil, s.says(err)
	}
	return got, nil
}

// app is the app's own token: good for a few minutes, for the app as a whole.
func (s *Source) app(d ledger.Durable, now time.Time) ([]byte, error) {
	v, err := s.cfg.Root(d)
	if err != nil {
		return nil, err
	}
	key, err := jwt.Key(v.Reveal())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", source.ErrNoRoot, err)
	}
	claims := map[string]any{"iss": s.cfg.Record.From.Parameters["app"], "iat": now.Add(-early).Unix(), "exp": now.Add(late).Unix()}
	token, err := jwt.Sign(key, "RS256", "", claims)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", source.ErrNoRoot, err)
	}
	return token, nil
}

// Revoke ends a token, which shows itself for that: https://docs.github.com/en/rest/apps/installations#revoke-an-installation-access-token.
func (s *Source) Revoke(ctx context.Context, d ledger.Durable, old *source.Secret) error {
	if !d.Valid() {
		return source.ErrNotDurable
	}
	if old.Value.Empty() {
		return s.says(fmt.Errorf("%w: it takes the token itself, which is held no more", source.ErrCannotRevoke))
	}
	a, err := s.send(ctx, source.Request{Method: "DELETE", Path: s.revoke}, old.Value.Reveal())
	if err != nil {
		return err
	}
	defer clear(a.Body)
	if a.Status == 401 && bytes.Contains(a.Body, []byte(`"Bad credentials"`)) { // expired or revoked before
		return nil
	}
	if err := judge(a, 204); err != nil {
		return s.says(err)
	}
	return nil
}

// Close ends its connections.
func (s *Source) Close() { s.client.Close() }

func (s *Source) says(err error) error {
	return fmt.Errorf("%w (GitHub, for %s)", err, s.cfg.Record.ID)
}

func (s *Source) send(ctx context.Context, r source.Request, token []byte) (*source.Answer, error) {
	r.Header = []hop.Field{{Name: "Accept", Value: "application/vnd.github+json"}, {Name: "X-GitHub-Api-Version", Value: version}, {Name: "User-Agent", Value: "reeve"}}
	if len(r.Body) > 0 {
		r.Header = append(r.Header, hop.Field{Name: "Content-Type", Value: "application/json"})
	}
	r.Secret = egress.Secret{Name: "Authorization", Value: append([]byte("Bearer "), token...)}
	defer clear(r.Secret.Value)
	return s.client.Do(ctx, r)
}

// judge returns why an answer is not the success that is documented, or nil.
func judge(a *source.Answer, success int) error {
	err := a.Err()
	switch {
	case a.Status == success:
		return nil
	case err == nil:
		return fmt.Errorf("%w: status %d", source.ErrMalformed, a.Status)
	case a.Status == 401:
		return fmt.Errorf("%w: it does not take the app's key, or one of the clocks is wrong; hand over a key that the app has now: reeve credential put", err)
	case a.Status == 403 && limited(a):
		return fmt.Errorf("%w: too many requests", source.ErrDown)
	case a.Status == 403 || a.Status == 404:
		return fmt.Errorf("%w: the app has no such installation, or it is suspended; see from.url and from.parameters.app", err)
	case a.Status == 422:
		return fmt.Errorf("%w: the installation has not all of from.parameters.repositories and permissions", err)
	}
	return err
}

// limited reports whether a refusal is for a while: https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api.
func limited(a *source.Answer) bool {
	for _, f := range a.Header {
		if strings.EqualFold(f.Name, "Retry-After") || strings.EqualFold(f.Name, "X-RateLimit-Remaining") && f.Value == "0" {
			return true
		}
	}
	return false
}

func read(body []byte, now time.Time) (*source.Secret, error) {
	var f [2]scan.Field
	if scan.Top(body, f[:], "token", "expires_at") != nil {
		return nil, fmt.Errorf("%w: not one object of JSON", source.ErrMalformed)
	}
	text, err := f[1].Text(body)
	expires, bad := time.Parse(time.RFC3339, string(text))
	if err != nil || bad != nil || !expires.After(now) {
		return nil, fmt.Errorf("%w: expires_at is no time to come", source.ErrMalformed)
	}
	token, err := f[0].Text(body)
	if err != nil || seal.Check(token) != nil {
		return nil, fmt.Errorf("%w: no token that can be put into a header and kept from leaking back", source.ErrMalformed)
	}
	return &source.Secret{Value: secret.New(bytes.Clone(token)), Lease: rand.Text(), Issued: now, Expires: expires}, nil
}
