package sourcetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/reevehq/reeve/internal/custodian/source"
	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/internal/secret"
)

// check is one rule. It makes its own worlds.
type check struct {
	name string
	run  func(h *Harness, d ledger.Durable) error
}

func checks() []check {
	return []check{
		{"fetches", one(fetches)},
		{"needs a durable entry", one(needsDurable)},
		{"needs its root", one(needsRoot)},
		{"leases differ", one(leasesDiffer)},
		{"failures", failing},
		{"answers changed", changed},
		{"a call ends with its context", one(endsWithContext)},
		{"close ends calls", one(closeEnds)},
		{"nobody listens", one(nobodyListens)},
		{"private addresses", one(privateAddress)},
		{"revokes", one(revokes)},
		{"revoking fails", revokingFails},
		{"renews", one(renews)},
		{"sweeps", one(sweeps)},
		{"concurrent use", one(concurrent)},
		{"survives reopening", one(reopens)},
		{"stores before use", one(storesFirst)},
	}
}

// one runs a check in a world of its own.
func one(f func(w *world) error) func(*Harness, ledger.Durable) error {
	return func(h *Harness, d ledger.Durable) error {
		w := newWorld(h, d)
		return w.end(f(w))
	}
}

func fetches(w *world) error {
	s, err := w.source()
	if err != nil {
		return err
	}
	begun := time.Now()
	got, err := w.fetch(s)
	if err != nil {
		return fmt.Errorf("an honest provider: %w", err)
	}
	if err := sane(got, begun); err != nil {
		return err
	}
	switch life := got.Expires.Sub(begun); {
	case w.h.Life == 0 && !got.Expires.IsZero():
		return fmt.Errorf("the provider tells no end, the source says %v", got.Expires)
	case w.h.Life != 0 && (life < w.h.Life-time.Minute || life > w.h.Life+time.Minute):
		return fmt.Errorf("the secret lives %v by the source, and %v by the provider", life, w.h.Life)
	}
	return w.lives(got, true)
}

// sane holds a secret to what every secret has.
func sane(s *source.Secret, begun time.Time) error {
	switch {
	case s.Value.Empty():
		return errors.New("a secret without a value")
	case s.Lease == "" || len(s.Lease) > 256 || strings.ContainsAny(s.Lease, "\r\n\x00"):
		return fmt.Errorf("lease %.300q: one line of 1 to 256 bytes is needed", s.Lease)
	case s.Issued.Before(begun.Add(-time.Minute)) || s.Issued.After(time.Now().Add(time.Minute)):
		return fmt.Errorf("issued at %v, which is not now", s.Issued)
	case !s.Expires.IsZero() && !s.Expires.After(s.Issued):
		return fmt.Errorf("issued at %v, it expired at %v", s.Issued, s.Expires)
	}
	return nil
}

// lives asks the double whether a secret is taken.
func (w *world) lives(s *source.Secret, want bool) error {
	if w.double.Alive != nil && w.double.Alive(s) != want {
		return fmt.Errorf("the provider takes the secret: %v, want %v", !want, want)
	}
	return nil
}

func needsDurable(w *world) error {
	s, err := w.source()
	if err != nil {
		return err
	}
	no := ledger.Durable{}
	old := &source.Secret{Value: secret.New([]byte("a-value-of-before")), Lease: "lease-1", Issued: time.Now()}
	refused := func(what string, err error) {
		if !errors.Is(w.hear(err), source.ErrNotDurable) {
			w.fault(fmt.Errorf("%s without a durable entry: %v, want ErrNotDurable", what, err))
		}
	}
	_, err = w.fetchFor(context.Background(), s, no, "research-agent")
	refused("Fetch", err)
	if err := w.revoke(s, no, old); !errors.Is(err, source.ErrCannotRevoke) {
		refused("Revoke", err)
	}
	if r, ok := s.(source.Renewer); ok {
		_, err := r.Renew(context.Background(), no, old)
		refused("Renew", err)
	}
	if r, ok := s.(source.Sweeper); ok {
		_, err := r.Sweep(context.Background(), no, nil)
		refused("Sweep", err)
	}
	if n := w.count(); n != 0 {
		return fmt.Errorf("%d calls were made without a durable entry", n)
	}
	return nil
}

func needsRoot(w *world) error {
	if w.h.Root == "" {
		return nil
	}
	s, err := w.source(func(c *source.Config) {
		c.Root = func(ledger.Durable) (secret.Value, error) { return secret.Value{}, source.ErrNoRoot }
	})
	if err != nil {
		return err
	}
	if _, err := w.fetch(s); !errors.Is(err, source.ErrNoRoot) {
		return fmt.Errorf("calling Fetch before the root was handed over: %v, want ErrNoRoot", err)
	}
	if n := w.count(); n != 0 {
		return fmt.Errorf("%d calls were made without the root", n)
	}
	return nil
}

func leasesDiffer(w *world) error {
	s, err := w.source()
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for range 3 {
		got, err := w.fetch(s)
		if err != nil {
			return err
		}
		if seen[got.Lease] && !w.h.Static {
			return fmt.Errorf("two secrets have the lease %q", got.Lease)
		}
		seen[got.Lease] = true
	}
	return nil
}

// concurrent uses a source as a custodian does: one fetch at a time for each workload, and revocations beside them.
func concurrent(w *world) error {
	s, err := w.source()
	if err != nil {
		return err
	}
	fetchers := 1
	if w.record.From.PerWorkload {
		fetchers = 4
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var all []error
	leases := map[string]int{}
	fail := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		all = append(all, err)
	}
	for i := range fetchers {
		wg.Go(func() {
			for range 8 {
				got, err := w.fetchFor(context.Background(), s, w.durable, fmt.Sprintf("agent-%d", i))
				if err != nil {
					fail(err)
					return
				}
				mu.Lock()
				leases[got.Lease]++
				mu.Unlock()
				wg.Go(func() {
					if err := w.revoke(s, w.durable, got); err != nil && !errors.Is(err, source.ErrCannotRevoke) {
						fail(fmt.Errorf("calling Revoke: %w", err))
					}
				})
			}
		})
	}
	wg.Wait()
	for lease, n := range leases {
		if n > 1 && !w.h.Static {
			fail(fmt.Errorf("%d secrets have the lease %q", n, lease))
		}
	}
	return errors.Join(all...)
}

// reopens goes on with a new source and the same State, as after a restart.
func reopens(w *world) error {
	s, err := w.source()
	if err != nil {
		return err
	}
	old, err := w.fetch(s)
	if err != nil {
		return err
	}
	s.Close()
	for range 2 {
		if s, err = w.source(); err != nil {
			return err
		}
		got, err := w.fetch(s)
		if err != nil {
			return fmt.Errorf("after a restart: %w", err)
		}
		if got.Lease == old.Lease && !w.h.Static {
			return fmt.Errorf("after a restart a secret has the lease %q once more", got.Lease)
		}
		if err := w.revoke(s, w.durable, old); err != nil && !errors.Is(err, source.ErrCannotRevoke) {
			return fmt.Errorf("revoking after a restart: %w", err)
		}
		old = got
		s.Close()
	}
	return nil
}

// storesFirst refuses a source that goes on when what it has to remember cannot be stored.
func storesFirst(w *world) error {
	s, err := w.source()
	if err != nil {
		return err
	}
	w.state.full.Store(true)
	_, err = w.fetch(s)
	if err == nil && w.state.refused.Load() {
		return errors.New("its State could not be saved, and it gave a secret all the same")
	}
	return nil
}
