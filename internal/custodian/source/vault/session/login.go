package session

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/reevehq/reeve/internal/custodian/source"
	"github.com/reevehq/reeve/internal/custodian/source/vault/api"
	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/internal/secret"
)

// vouched is how long a token is good for that is signed for one login.
const vouched = 2 * time.Minute

// method is how the custodian logs in.
type method struct {
	name    string // approle, jwt or kubernetes
	mount   string // of the auth method
	role    string // for approle its role id
	token   string // file with the JWT, in the folder of the platform's tokens; empty for one that the unit's key signs
	wrapped string // the path that made what the owner hands over in a wrapping; empty for no wrapping
	audited bool   // a server that writes no audit log is refused
}

func readMethod(p map[string]string) method {
	m := method{name: p["login"], mount: p["auth_path"], role: p["role"], token: p["token"], wrapped: p["wrapped"], audited: p["audit"] != "unchecked"}
	if m.mount == "" {
		m.mount = m.name
	}
	if m.token == "" && m.name == "kubernetes" {
		m.token = "token" // as its platform calls it
	}
	return m
}

// Login is one login. What was leased under it ends with it.
type Login struct {
	token secret.Value
	life  time.Duration // as first given; 0: without end

	mu        sync.Mutex
	renewable bool
	expires   time.Time // zero: never
}

// Until is when a lease ends that was given at a time for so long.
func (l *Login) Until(from time.Time, life time.Duration) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	end := from.Add(life)
	if !l.expires.IsZero() && l.expires.Before(end) {
		return l.expires
	}
	return end
}

// take reads how long a login lives.
func (l *Login) take(asked time.Time, a *api.Auth) (time.Duration, error) {
	life, err := api.Life(a.LeaseDuration)
	if err != nil {
		return 0, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.renewable, l.expires = a.Renewable, time.Time{}
	if life > 0 {
		l.expires = asked.Add(life)
	}
	return life, nil
}

// login returns a login that has a good part of its life before it; fresh says that it was made just now.
func (s *Session) login(ctx context.Context, d ledger.Durable) (l *Login, fresh bool, err error) {
	if !d.Valid() {
		return nil, false, source.ErrNotDurable
	}
	if err := s.enter(ctx); err != nil {
		return nil, false, err
	}
	defer s.leave()
	now := s.cfg.Clock()
	s.logins = slices.DeleteFunc(s.logins, func(l *Login) bool { return !l.Until(now, api.Farthest).After(now) })
	if n := len(s.logins); n > 0 && s.extend(ctx, s.logins[n-1], now) {
		return s.logins[n-1], false, nil
	}
	if l, err = s.authenticate(ctx, d); err != nil {
		return nil, false, err
	}
	if err := s.audited(ctx, l); err != nil {
		s.logout(ctx, l)
		return nil, false, err
	}
	s.logins = append(s.logins, l)
	return l, true, nil
}

// drop forgets a login that the server refused.
func (s *Session) drop(ctx context.Context, l *Login) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.leave()
	s.logins = slices.DeleteFunc(s.logins, func(x *Login) bool { return x == l })
	return nil
}

// extend renews a login that has lived half of its life, and reports whether it can go on.
func (s *Session) extend(ctx context.Context, l *Login, now time.Time) bool {
	left := l.Until(now, api.Farthest).Sub(now)
	if l.life == 0 || left > l.life/2 {
		return true
	}
	if l.renewable {
		a, err := s.call(ctx, "POST", "auth/token/renew-self", l.token, []byte("{}"), "renew its login")
		if err == nil && a.Auth != nil {
			a.Auth.ClientToken.Wipe()
			l.take(now, a.Auth) // or it stays as it was
		}
	}
	return l.Until(now, l.life).Sub(now) > l.life/4
}

// authenticate makes a login.
func (s *Session) authenticate(ctx context.Context, d ledger.Durable) (*Login, error) {
	proof, err := s.proof(ctx, d)
	if err != nil {
		return nil, err
	}
	defer proof.Wipe()
	names := [2]string{"role", "jwt"}
	if s.method.name == "approle" {
		names = [2]string{"role_id", "secret_id"}
	}
	body, err := api.Object([]byte(names[0]), []byte(s.method.role), []byte(names[1]), proof.Reveal())
	if err != nil {
		return nil, err
	}
	defer clear(body)
	asked := s.cfg.Clock()
	a, err := s.call(ctx, "POST", "auth/"+s.method.mount+"/login", secret.Value{}, body, "log in by "+s.method.name)
	if err != nil {
		return nil, err
	}
	if a.Auth == nil || a.Auth.ClientToken.Empty() || a.Auth.ClientToken.Len() > api.Longest {
		return nil, api.Malformed("a login without token")
	}
	l := &Login{token: a.Auth.ClientToken.Value}
	if l.life, err = l.take(asked, a.Auth); err != nil {
		return nil, err
	}
	if slices.Contains(a.Auth.Policies, "root") {
		return nil, fmt.Errorf("%w: the login may do everything there (policy root): give the custodian a policy of its own", source.ErrRefused)
	}
	return l, nil
}

func (s *Session) logout(ctx context.Context, l *Login) {
	s.api.Call(ctx, "POST", "auth/token/revoke-self", l.token, []byte("{}"), "end a login") // if it fails, the login runs out
	l.token.Wipe()
}

// audited asks whether the server writes down who reads. A login that may not ask is refused unless the record says that nobody checks.
func (s *Session) audited(ctx context.Context, l *Login) error {
	if !s.method.audited {
		return nil
	}
	a, err := s.call(ctx, "GET", "sys/audit", l.token, nil, "list its audit devices (allow read and sudo on sys/audit, or set from.parameters.audit to unchecked)")
	if err == nil && len(a.Data) == 0 {
		err = fmt.Errorf("%w: the vault has no audit device, so nobody could tell who read the secret there: enable one", source.ErrRefused)
	}
	return err
}

// proof returns what a login is made with, for the caller to wipe.
func (s *Session) proof(ctx context.Context, d ledger.Durable) (secret.Value, error) {
	switch {
	case s.method.token != "":
		return s.readToken()
	case s.method.name == "jwt":
		return s.sign(ctx)
	case s.method.wrapped != "":
		return s.unwrapped(ctx, d)
	}
	root, err := s.cfg.Root(d)
	return secret.New(bytes.Clone(root.Reveal())), err
}

// readToken reads the file anew for each login: its platform replaces it before it runs out. The name comes from the record, so links out of
// the folder are not followed.
func (s *Session) readToken() (secret.Value, error) {
	f, err := os.OpenInRoot(s.cfg.Tokens, s.method.token)
	if s.cfg.Tokens == "" || err != nil {
		return secret.Value{}, fmt.Errorf("%w: the token for the login: no file %s that this process may read in its token_dir", source.ErrNoRoot, s.method.token)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, api.Longest))
	if err != nil {
		return secret.Value{}, fmt.Errorf("%w: the token for the login: %w", source.ErrNoRoot, err)
	}
	return secret.New(bytes.TrimSpace(b)), nil
}

// sign has the unit's key vouch for the credential.
func (s *Session) sign(ctx context.Context) (secret.Value, error) {
	if s.cfg.Sign == nil {
		return secret.Value{}, source.ErrIdentity
	}
	c, now := &s.cfg.Record, s.cfg.Clock()
	return s.cfg.Sign(ctx, source.Token{
		Credential: c.ID, Audience: c.From.Parameters["audience"], Algorithm: "ES256", ID: rand.Text(), Issued: now, Expires: now.Add(vouched), Sealed: c.Class == "high",
	})
}
