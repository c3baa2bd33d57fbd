package oauth

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/reevehq/reeve/internal/custodian/egress"
	"github.com/reevehq/reeve/internal/custodian/source"
	"github.com/reevehq/reeve/internal/custodian/source/oauth/endpoint"
	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/internal/secret"
)

// kept is what State holds: the refresh token that is to be spent next.
type kept struct {
	seed  string // hex SHA-256 of the refresh token that was handed over, from which this one descends
	begun int64  // Unix seconds: it may be spent, an exchange was begun then and its answer is not known; 0 for none
	token []byte // empty: revoked
}

// lineage is the exchanges of refresh tokens, one after another.
type lineage struct {
	turn   chan struct{} // held by who reads or writes State
	marked int64         // the mark in State that is this source's own; under turn

	mu      sync.Mutex
	running chan result // an exchange that is under way, or whose token nobody has taken yet; nil for none

	unsaved *kept // what an endpoint gave and the disk refused; under turn
}

type result struct {
	secret *source.Secret
	err    error
}

func newLineage() lineage { return lineage{turn: make(chan struct{}, 1)} }

// next returns the access token of the exchange that is under way, or of a new one. An exchange does not end with ctx: what it brings can
// be had once.
func (s *Source) next(ctx context.Context, d ledger.Durable) (*source.Secret, error) {
	for ctx.Err() == nil && s.end.Err() == nil {
		running := s.begin(d)
		select {
		case got, ok := <-running:
			s.taken(running)
			if ok && (got.err != nil || got.secret.Expires.IsZero() || got.secret.Expires.After(s.cfg.Clock())) {
				return got.secret, got.err
			}
		case <-ctx.Done():
		case <-s.end.Done():
		}
	}
	return nil, s.at.Says(fmt.Errorf("%w: it was not waited for", source.ErrDown))
}

func (s *Source) begin(d ledger.Durable) chan result {
	l := &s.lineage
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.running == nil {
		running := make(chan result, 1)
		l.running = running
		go func() {
			defer close(running)
			got, err := s.rotate(d)
			if err != nil { // is for those who wait now
				s.taken(running)
			}
			running <- result{got, err}
		}()
	}
	return l.running
}

func (s *Source) taken(running chan result) {
	s.lineage.mu.Lock()
	defer s.lineage.mu.Unlock()
	if s.lineage.running == running {
		s.lineage.running = nil
	}
}

// rotate spends the refresh token that is kept. In State it is marked before it is sent; the next one is in State before its access token
// is used.
func (s *Source) rotate(d ledger.Durable) (*source.Secret, error) {
	s.lineage.turn <- struct{}{}
	defer func() { <-s.lineage.turn }()
	r, err := s.at.Root(d)
	if err != nil {
		return nil, err
	}
	defer r.Wipe()
	k, err := s.load(r)
	if err != nil {
		return nil, err
	}
	defer func() { clear(k.token) }()
	before := k.begun
	if before == 0 {
		k.begun = s.cfg.Clock().Unix()
		if err := s.save(k); err != nil {
			return nil, err
		}
		s.lineage.marked = k.begun
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	a, err := s.at.Token(ctx, r, k.token)
	if err == nil {
		defer a.Wipe()
		return s.keep(k, a)
	}
	if errors.Is(err, endpoint.ErrGrant) && before != 0 {
		err = fmt.Errorf("%w; an exchange begun at %s was cut off, and its answer may have held the next one", err, time.Unix(before, 0).UTC().Format(time.RFC3339))
	} else if errors.Is(err, source.ErrRefused) || errors.Is(err, egress.ErrNotSent) {
		k.begun = before // nothing was spent
		if before == 0 {
			s.save(k) // at worst the mark stays, which only says that it may be
		}
	}
	return nil, err
}

// keep stores the next refresh token, whatever else the answer holds, and returns the access token.
func (s *Source) keep(k *kept, a *endpoint.Answer) (*source.Secret, error) {
	token, err := a.Refresh()
	if err != nil {
		return nil, err
	}
	if token != nil {
		clear(k.token)
		k.token = token
	}
	k.begun = 0
	if err := s.save(k); err != nil {
		s.lineage.unsaved = &kept{k.seed, 0, bytes.Clone(k.token)} // saved before anything else is done
		return nil, err
	}
	return a.Secret()
}

// End revokes the refresh token, with which most providers end its access tokens (RFC 7009, section 2.1), and forgets it. At a provider that
// revokes access tokens alone it is forgotten.
func (s *Source) End(ctx context.Context, d ledger.Durable) error {
	switch {
	case !d.Valid():
		return source.ErrNotDurable
	case !s.at.Rotates() || !s.at.Revokes():
		return source.ErrCannotRevoke
	}
	if err := s.wait(ctx); err != nil {
		return err
	}
	defer func() { <-s.lineage.turn }()
	r, err := s.at.Root(d)
	if err != nil {
		return err
	}
	defer r.Wipe()
	k, err := s.load(r)
	if errors.Is(err, errEnded) {
		return nil
	} else if err != nil {
		return err
	}
	defer clear(k.token)
	ctx, stop := s.until(ctx)
	defer stop()
	if err := s.at.Revoke(ctx, r, "refresh_token", k.token); err != nil {
		return err
	}
	return s.save(&kept{seed: k.seed})
}

// wait takes the turn.
func (s *Source) wait(ctx context.Context) error {
	select {
	case s.lineage.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return s.at.Says(fmt.Errorf("%w: an exchange is under way: %w", source.ErrDown, ctx.Err()))
	}
}

// ended reports whether State says that the lineage was ended.
func (s *Source) ended(ctx context.Context) bool {
	if s.wait(ctx) != nil {
		return false
	}
	defer func() { <-s.lineage.turn }()
	v, err := s.cfg.State.Load()
	if err != nil {
		return false
	}
	defer v.Wipe()
	k, ok := parse(v.Reveal())
	if ok {
		clear(k.token)
	}
	return ok && len(k.token) == 0
}

// errEnded says that the lineage was revoked here.
var errEnded = errors.New("its refresh token was revoked here; authorize the client anew and hand over what comes: reeve credential put")

// load returns the refresh token to spend: the one in State, or the one handed over if that begins a lineage. Only its home has one.
func (s *Source) load(r *endpoint.Root) (*kept, error) {
	me, home := s.cfg.Custodian, s.cfg.Record.From.Home
	if home != me {
		return nil, fmt.Errorf("%w: for %s it is %s, and nobody else spends the refresh token", source.ErrHome, s.cfg.Record.ID, home)
	}
	if u := s.lineage.unsaved; u != nil {
		if err := s.save(u); err != nil {
			return nil, err
		}
		clear(u.token)
		s.lineage.unsaved = nil
	}
	v, err := s.cfg.State.Load()
	if err != nil {
		return nil, fmt.Errorf("reading the refresh token kept for %s: %w", s.cfg.Record.ID, err)
	}
	defer v.Wipe()
	sum := sha256.Sum256(r.Refresh.Reveal())
	seed, here := hex.EncodeToString(sum[:]), r.Home == me
	if v.Empty() || here && !descends(v.Reveal(), seed) {
		if !here {
			return nil, fmt.Errorf("%w: the refresh token for %s was handed over for another one; authorize the client anew and hand it over with home %s: reeve credential put", source.ErrHome, s.cfg.Record.ID, me)
		}
		return &kept{seed: seed, token: bytes.Clone(r.Refresh.Reveal())}, nil
	}
	k, ok := parse(v.Reveal())
	switch {
	case !ok:
		return nil, fmt.Errorf("the refresh token kept for %s cannot be read; authorize the client anew and hand over what comes: reeve credential put", s.cfg.Record.ID)
	case k.begun != s.lineage.marked && s.since(k.begun) < fence:
		clear(k.token)
		return nil, s.at.Says(fmt.Errorf("%w: an exchange that another process or the record before began may still be answered", source.ErrDown))
	case len(k.token) == 0:
		return nil, s.at.Says(fmt.Errorf("%w: %w", source.ErrRefused, errEnded))
	}
	return k, nil
}

// since is how long ago a mark was set; more than any fence for none, and for one that is still to come: the clock was set back.
func (s *Source) since(begun int64) time.Duration {
	if d := s.cfg.Clock().Sub(time.Unix(begun, 0)); begun != 0 && d >= 0 {
		return d
	}
	return 2 * fence
}

func (s *Source) save(k *kept) error {
	head := k.seed + "\n" + strconv.FormatInt(k.begun, 10) + "\n"
	b := append(append(make([]byte, 0, len(head)+len(k.token)), head...), k.token...)
	defer clear(b)
	if err := s.cfg.State.Save(secret.New(b)); err != nil {
		return fmt.Errorf("keeping the refresh token for %s: %w; until it is kept nothing is fetched", s.cfg.Record.ID, err)
	}
	return nil
}

// descends reports whether what State holds came from the seed.
func descends(state []byte, seed string) bool { return bytes.HasPrefix(state, []byte(seed+"\n")) }

func parse(state []byte) (*kept, bool) {
	lines := bytes.SplitN(state, []byte("\n"), 3)
	if len(lines) != 3 || len(lines[0]) != hex.EncodedLen(sha256.Size) || len(lines[2]) > 0 && !endpoint.Visible(lines[2]) {
		return nil, false
	}
	begun, err := strconv.ParseInt(string(lines[1]), 10, 64)
	return &kept{string(lines[0]), begun, bytes.Clone(lines[2])}, err == nil
}
