// Package oauth gets access tokens from an OAuth 2 token endpoint: for the client itself (RFC 6749, section 4.4), or for a refresh token
// (section 6), of which it keeps the next one before anything is used. It revokes both (RFC 7009).
package oauth

import (
	"context"
	"fmt"
	"time"

	"github.com/reevehq/reeve/internal/custodian/source"
	"github.com/reevehq/reeve/internal/custodian/source/oauth/endpoint"
	"github.com/reevehq/reeve/internal/ledger"
)

const (
	patience = 10 * time.Second // for one exchange of a refresh token, whoever waits for it or does not
	fence    = 15 * time.Second // how long a mark in State keeps others from spending what may be spent just now
	parting  = 2 * time.Second  // that Close waits for an exchange
)

// Source is the token endpoint of one credential. The methods of source.Source are safe for concurrent use; refresh tokens are spent
// one after another.
type Source struct {
	cfg     source.Config
	at      *endpoint.Endpoint
	end     context.Context // of the source
	close   context.CancelFunc
	lineage lineage
}

// New checks the record and returns a source without connections.
func New(cfg source.Config) (source.Source, error) {
	at, err := endpoint.New(cfg)
	if err != nil {
		return nil, err
	}
	s := &Source{cfg: cfg, at: at, lineage: newLineage()}
	s.end, s.close = context.WithCancel(context.Background())
	return s, nil
}

// Fetch gets an access token. For a refresh token it returns when ctx ends, and the exchange goes on: its answer is kept for the next Fetch.
func (s *Source) Fetch(ctx context.Context, d ledger.Durable, _ source.Ask) (*source.Secret, error) {
	switch {
	case !d.Valid():
		return nil, source.ErrNotDurable
	case s.at.Rotates():
		return s.next(ctx, d)
	}
	r, err := s.at.Root(d)
	if err != nil {
		return nil, err
	}
	defer r.Wipe()
	ctx, stop := s.until(ctx)
	defer stop()
	a, err := s.at.Token(ctx, r, nil)
	if err != nil {
		return nil, err
	}
	defer a.Wipe()
	return a.Secret()
}

// Revoke revokes an access token (RFC 7009, section 2.1). One that came from a refresh token is revoked after End only: a provider may take all
// that came of it for revoked too, and Slack takes the bot off its channels.
func (s *Source) Revoke(ctx context.Context, d ledger.Durable, old *source.Secret) error {
	switch {
	case !d.Valid():
		return source.ErrNotDurable
	case !s.at.Revokes():
		return source.ErrCannotRevoke
	case old.Value.Empty():
		return fmt.Errorf("%w: it takes the token itself, which is held no more", source.ErrCannotRevoke)
	case s.at.Rotates() && !s.ended(ctx):
		return fmt.Errorf("%w alone: its refresh token may go with it", source.ErrCannotRevoke)
	}
	r, err := s.at.Root(d)
	if err != nil {
		return err
	}
	defer r.Wipe()
	ctx, stop := s.until(ctx)
	defer stop()
	return s.at.Revoke(ctx, r, "access_token", old.Value.Reveal())
}

// until is ctx that ends with the source too.
func (s *Source) until(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.end, cancel)
	return ctx, func() { stop(); cancel() }
}

// Close ends its connections. It waits two seconds for an exchange of a refresh token, which ends in any case and stores what it brings: a
// source with the same State waits for that.
func (s *Source) Close() {
	s.close()
	select {
	case s.lineage.turn <- struct{}{}:
		<-s.lineage.turn
	case <-time.After(parting):
	}
}
