// Package federation gets secrets from providers that exchange a token which the custodian signed for a short-lived secret: nothing
// of the provider's is at rest here. One code path; what providers do differently stands in internal/custody as data.
package federation

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/reevehq/reeve/internal/custodian/source"
	"github.com/reevehq/reeve/internal/custody"
	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/internal/secret"
)

// Source exchanges tokens for one credential.
type Source struct {
	cfg      source.Config
	exchange custody.Exchange
	first    *source.Client
	second   *source.Client // nil for one step
	words    map[string]string
	lifetime time.Duration
}

// New checks the record and returns a source without connections.
func New(cfg source.Config) (source.Source, error) {
	from := cfg.Record.From
	e, ok := custody.FindExchange(from.Parameters["exchange"])
	if !ok {
		return nil, fmt.Errorf("%w: credential %s: there is no exchange %q", custody.ErrRecord, cfg.Record.ID, from.Parameters["exchange"])
	}
	s := &Source{cfg: cfg, exchange: e, words: from.Parameters, lifetime: time.Duration(from.Lifetime)}
	if s.lifetime == 0 {
		s.lifetime = e.Lifetime
	}
	var err error
	if s.first, err = source.NewClient(from, cfg.Resolve); err != nil {
		return nil, err
	}
	if e.Then != nil && s.words[e.Then.If] != "" {
		if from.URL, err = e.Then.Endpoint(s.words); err != nil {
			return nil, fmt.Errorf("credential %s: %w", cfg.Record.ID, err)
		}
		if s.second, err = source.NewClient(from, cfg.Resolve); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *Source) word(name, otherwise string) string {
	if w := s.words[name]; w != "" {
		return w
	}
	return otherwise
}

// Fetch signs a token, good for as long as the secret is to live, and exchanges it. The secret's lease is the token's id, which the
// provider's log has too.
func (s *Source) Fetch(ctx context.Context, d ledger.Durable, ask source.Ask) (*source.Secret, error) {
	if !d.Valid() {
		return nil, source.ErrNotDurable
	}
	if s.cfg.Sign == nil {
		return nil, source.ErrIdentity
	}
	now := s.cfg.Clock()
	t := source.Token{
		Credential: s.cfg.Record.ID, Workload: ask.Workload, Audience: s.word("audience", s.exchange.Audience), Algorithm: s.word("algorithm", s.exchange.Algorithm),
		ID: rand.Text(), Issued: now, Expires: now.Add(min(s.lifetime, longest)), Sealed: s.cfg.Record.Class == "high",
	}
	token, err := s.cfg.Sign(ctx, t)
	if err != nil {
		return nil, err
	}
	defer token.Wipe()
	got, err := s.ask(ctx, s.first, step{s.exchange.Form, s.exchange.Header, s.exchange.Fields, s.exchange.Answer}, token, secret.Value{}, ask)
	if err == nil && s.second != nil {
		then := s.exchange.Then
		bearer := got.Value
		got, err = s.ask(ctx, s.second, step{then.Form, nil, then.Fields, then.Answer}, token, bearer, ask)
		bearer.Wipe()
	}
	if err != nil {
		return nil, fmt.Errorf("exchanging a token for %s (%s): %w", s.cfg.Record.ID, s.exchange.Name, err)
	}
	got.Lease, got.Issued = t.ID, now
	return got, nil
}

// longest is how long a token of ours lives at most, however long the secret is to live: it is exchanged at once.
const longest = 15 * time.Minute

// Revoke returns ErrCannotRevoke: what was exchanged lives to its end at every one of these providers.
func (s *Source) Revoke(context.Context, ledger.Durable, *source.Secret) error {
	return fmt.Errorf("%w: take the trust away there (%s); what was given out lives to its end", source.ErrCannotRevoke, s.exchange.Name)
}

// Close ends the connections.
func (s *Source) Close() {
	s.first.Close()
	if s.second != nil {
		s.second.Close()
	}
}
