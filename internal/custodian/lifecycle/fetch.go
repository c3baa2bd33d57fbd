package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/custodian/source"
	"github.com/reevehq/reeve/internal/ledger"
)

// run fetches for a slot and tells whoever waits.
func (k *Keeper) run(s *slot, c *call) {
	defer k.running.Done()
	ctx, cancel := context.WithTimeout(k.ctx, limit)
	defer cancel()
	c.err = fmt.Errorf("%w: it met a fault of the custodian's own", source.ErrMalformed) // until it is known better
	defer func() {
		if p := recover(); p != nil { // whatever a source makes of an answer
			k.Log.Error("a source met a fault", "credential", k.Record.ID, "fault", fmt.Sprintf("%T", p))
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		now := k.Clock()
		s.call = nil
		var not *withheld
		switch s.err = c.err; {
		case c.err == nil:
			s.fails, s.retry = 0, time.Time{}
		case errors.As(c.err, &not): // the source was not asked: once the use may be, it is at once
			s.err, s.due = nil, now.Add(10*time.Second)
		default:
			s.fails++
			s.retry, k.unswept = now.Add(pause(s.fails)), true
		}
		close(c.done)
	}()
	if c.err = k.fetch(ctx, s); c.err != nil {
		k.Log.Warn("no new secret", "credential", k.Record.ID, "error", c.err)
	}
}

// withheld is why nothing may be fetched now. It says nothing of the source.
type withheld struct{ error }

func (w *withheld) Unwrap() error { return w.error }

// pause is how long a source is left alone after so many failures: a second, then twice as long each time.
func pause(fails int) time.Duration {
	d := min(time.Second<<min(fails-1, 10), longest)
	return d - time.Duration(rand.Int64N(int64(d/4)))
}

// fetch brings a version into a slot: a longer life for the one that is there, or else a new one.
func (k *Keeper) fetch(ctx context.Context, s *slot) error {
	k.sweep(ctx)
	k.calls.RLock()
	defer k.calls.RUnlock()
	if err := k.May(); err != nil { // once an ending has the lock, this refuses
		return &withheld{err}
	}
	old := s.held.Load()
	if r, ok := k.Source.(source.Renewer); ok && old != nil && !old.last {
		if err := k.get(ctx, s, "renew", func(d ledger.Durable) (*source.Secret, error) { return r.Renew(ctx, d, &old.secret) }); err == nil {
			return nil
		}
	}
	return k.get(ctx, s, "fetch", func(d ledger.Durable) (*source.Secret, error) {
		return k.Source.Fetch(ctx, d, source.Ask{Workload: s.workload})
	})
}

// get is one call that brings a secret. Its intent is durable before it, and what binds the secret to a lease, an end and a fingerprint is durable
// before the secret is used.
func (k *Keeper) get(ctx context.Context, s *slot, how string, call func(ledger.Durable) (*source.Secret, error)) error {
	k.mu.Lock()
	before := k.ending
	k.mu.Unlock()
	d, done, err := k.intend(how, s.workload)
	if err != nil {
		return err
	}
	defer done()
	got, err := call(d)
	if err == nil && got == nil {
		err = source.ErrMalformed
	}
	if err != nil {
		k.failed(d, s.workload, err)
		return err
	}
	h, err := k.ready(s, got)
	var v *version
	if err == nil {
		v, err = k.expect(h)
	}
	if err == nil {
		e := k.outcome(d, s.workload, how+"ed")
		e.CredFP, e.Lease, e.State, e.Expires = h.Fingerprint, h.Lease, Active, seconds(h.Expires)
		if _, err = k.Append(e); err == nil {
			return k.put(s, h, before)
		}
		err = fmt.Errorf("writing to the ledger what binds the secret: %w", err)
	} else {
		k.failed(d, s.workload, err)
	}
	if v != nil || !k.knows(got.Lease) {
		gone := k.Source.Revoke(ctx, d, got) == nil // nobody will use it; what stays is swept, ended later, or expires
		if v != nil {
			k.unbound(v, gone)
		}
	}
	if h == nil {
		wipe(*got)
	}
	return err
}

// intend makes the entry before a call to the source durable. It names what the source was given. done ends the call.
func (k *Keeper) intend(how, workload string) (d ledger.Durable, done func(), err error) {
	e := k.entry(entry.Mint, workload)
	root := k.Root()
	if root != nil {
		e.CredFP, e.Lease = root.Fingerprint, root.Lease
	}
	e.Dest, e.Reason = k.dest, how
	if d, err = k.Append(e); err != nil {
		return d, nil, fmt.Errorf("writing to the ledger, without which nothing is fetched: %w", err)
	}
	return d, func() { runtime.KeepAlive(root) }, nil // its bytes are not wiped while the source has them
}

// entry begins an entry about the credential.
func (k *Keeper) entry(t entry.Type, workload string) *entry.Entry {
	e := k.Entry(t)
	e.Tenant, e.Unit, e.Credential, e.Workload = k.Tenant, k.Unit, k.Record.ID, workload
	return e
}

// outcome begins the outcome of an intent.
func (k *Keeper) outcome(d ledger.Durable, workload, reason string) *entry.Entry {
	e := k.entry(entry.Outcome, workload)
	e.HasIntent, e.IntentSeq, e.IntentLog, e.Reason = true, d.Seq(), d.Log(), reason
	return e
}

func (k *Keeper) failed(d ledger.Durable, workload string, err error) {
	k.Note(k.outcome(d, workload, "failed_"+word(err)))
}

// word is what entries call a failure.
func word(err error) string {
	for _, x := range []struct {
		err  error
		word string
	}{
		{source.ErrNoRoot, "no_root"}, {source.ErrHome, "home"}, {source.ErrDown, "down"}, {source.ErrRefused, "refused"}, {source.ErrMalformed, "malformed"}, {ErrUnfit, "unfit"},
		{source.ErrCannotRevoke, "cannot"}, {context.DeadlineExceeded, "slow"}, {context.Canceled, "stopped"},
	} {
		if errors.Is(err, x.err) {
			return x.word
		}
	}
	return "other"
}

// ready makes a version of what a source gave, unless it cannot be used.
func (k *Keeper) ready(s *slot, got *source.Secret) (*Held, error) {
	now := k.Clock()
	if got.Issued.IsZero() {
		got.Issued = now
	}
	if got.Value.Empty() {
		return nil, fmt.Errorf("%w: it is empty", ErrUnfit)
	}
	parts, err := k.open(got)
	if err != nil {
		return nil, err
	}
	h := &Held{Credential: k.Record.ID, Workload: s.workload, Lease: got.Lease, Issued: got.Issued, Expires: got.Expires}
	h.cut(parts)
	life := lifetime(h.Issued, h.Expires)
	if most := time.Duration(k.Record.MaxLifetime); most > 0 && life > most+leeway {
		return nil, fmt.Errorf("%w: it lives for %s, and the custody record allows %s; ask for less (from.lifetime), or have its owner allow more (max_lifetime)", ErrUnfit, life.Round(time.Second), most)
	}
	if !h.Expires.IsZero() && !now.Before(h.Expires) {
		return nil, fmt.Errorf("%w: it has expired already; compare the clocks", ErrUnfit)
	}
	h.Fingerprint = k.Fingerprint(got.Value.Reveal())
	if old := s.held.Load(); old != nil && old.Fingerprint == h.Fingerprint && old.Lease == h.Lease { // renewed
		h.material = old.material
		parts.Patterns.Wipe()
		h.last = !h.Expires.IsZero() && h.Expires.Sub(now) < old.Expires.Sub(old.Issued)/2
	} else {
		h.material = newMaterial(parts, got, nil)
	}
	h.until, h.end = now.Add(cached), now.Add(endless)
	if !h.Expires.IsZero() {
		h.end = h.Expires
		if h.until.After(h.end) {
			h.until = h.end
		}
	}
	return h, nil
}

// leeway is what a provider's clock may be ahead when a lifetime is held against its bound.
const leeway = time.Minute

// ahead is when a version is to be replaced: with 15 to 30 % of its time left, so that many do not fetch at once.
func ahead(now, until time.Time) time.Time {
	d := until.Sub(now)
	return now.Add(d*7/10 + time.Duration(rand.Int64N(int64(d/7)+1)))
}

// seconds is a time as entries have it.
func seconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}
