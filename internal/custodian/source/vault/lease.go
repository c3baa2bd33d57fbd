package vault

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/reevehq/reeve/internal/custodian/source"
	"github.com/reevehq/reeve/internal/custodian/source/vault/api"
	"github.com/reevehq/reeve/internal/custodian/source/vault/session"
	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/internal/secret"
)

// leased gets a secret of its own with each read: database, aws and other engines. A secret ends with the login that got it, if not before,
// because the server revokes a login's leases with it.
type leased struct {
	engine
	mu     sync.Mutex
	leases map[string]*session.Login // of those that can be renewed
}

// Fetch implements source.Source.
func (s *leased) Fetch(ctx context.Context, d ledger.Durable, _ source.Ask) (*source.Secret, error) {
	asked := s.cfg.Clock()
	a, login, err := s.Call(ctx, d, "GET", s.Path(), nil, "read "+s.Path())
	if err != nil {
		return nil, err
	}
	defer a.Wipe()
	life, err := lease(a)
	if err != nil {
		return nil, err
	}
	got := &source.Secret{Lease: a.LeaseID, Issued: asked, Expires: login.Until(asked, life)}
	if err := s.fill(got, a); err != nil {
		return nil, err
	}
	if a.Renewable {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.leases[a.LeaseID] = login
	}
	return got, nil
}

// lease checks what an answer says about its lease, and returns how long that lives.
func lease(a *api.Answer) (time.Duration, error) {
	if a.LeaseID == "" || len(a.LeaseID) > 256 || strings.ContainsFunc(a.LeaseID, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return 0, api.Malformed("it names no lease; for a key-value engine from.parameters.engine is kv2")
	}
	life, err := api.Life(a.LeaseDuration)
	if err == nil && life == 0 {
		err = api.Malformed("a lease of no length")
	}
	return life, err
}

// Renew implements source.Renewer. It asks for from.lifetime, or for what the engine gives. What was got under another login than the one in
// use cannot outlive that, so it is refused.
func (s *leased) Renew(ctx context.Context, d ledger.Durable, old *source.Secret) (*source.Secret, error) {
	asked := s.cfg.Clock()
	a, login, err := s.Call(ctx, d, "POST", "sys/leases/renew", marshal(struct {
		LeaseID   string `json:"lease_id"`
		Increment int64  `json:"increment,omitempty"` // seconds
	}{old.Lease, int64(time.Duration(s.cfg.Record.From.Lifetime) / time.Second)}), "renew a lease")
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	under := s.leases[old.Lease]
	s.mu.Unlock()
	if under != login {
		return nil, fmt.Errorf("%w: the lease ends with the login that got it: fetch another secret", source.ErrRefused)
	}
	life, err := lease(a)
	if err == nil && a.LeaseID != old.Lease {
		err = api.Malformed("it renewed another lease")
	}
	if err != nil {
		return nil, err
	}
	next := *old // with bytes of its own, which may be wiped on their own
	next.Value, next.Session = secret.New(slices.Clone(old.Value.Reveal())), secret.New(slices.Clone(old.Session.Reveal()))
	next.Expires = login.Until(asked, life)
	return &next, nil
}

// Revoke implements source.Source. The server answers when its engine has ended the secret, not before (sync).
func (s *leased) Revoke(ctx context.Context, d ledger.Durable, old *source.Secret) error {
	_, _, err := s.Call(ctx, d, "POST", "sys/leases/revoke", marshal(struct {
		LeaseID string `json:"lease_id"`
		Sync    bool   `json:"sync"`
	}{old.Lease, true}), "revoke a lease (allow update on sys/leases/revoke)")
	if api.Status(err) == 400 { // the answer to an engine that fails; a lease that is gone gets 204
		return fmt.Errorf("%w: the engine behind the vault could not end the secret, and the vault goes on trying: look at it there", source.ErrDown)
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.leases, old.Lease)
	return nil
}

func marshal(v any) []byte {
	b, _ := json.Marshal(v) // a struct of plain members: cannot fail
	return b
}
