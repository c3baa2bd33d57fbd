package sourcetest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
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

// calls counts the calls of a fetch by a new source, and returns what the double answered.
func calls(h *Harness, d ledger.Durable) (answers []answer, err error) {
	w := newWorld(h, d)
	s, err := w.source()
	if err == nil {
		_, err = w.fetch(s)
	}
	answers = w.answered()
	if err == nil && len(answers) == 0 {
		err = errors.New("a fetch made no call at the double")
	}
	return answers, w.end(err)
}

// failing lets each call of a fetch fail in every way.
func failing(h *Harness, d ledger.Durable) error {
	answers, err := calls(h, d)
	if err != nil {
		return err
	}
	var all []error
	for from := range answers {
		list := failures()
		if from == len(answers)-1 {
			for i, body := range h.Malformed {
				list = append(list, instead(fmt.Sprintf("Malformed[%d]", i), "application/json", body))
			}
		}
		for _, f := range list {
			if err := fails(h, d, from, f); err != nil {
				all = append(all, fmt.Errorf("call %d, %s: %w", from+1, f.name, err))
			}
		}
	}
	return errors.Join(all...)
}

func fails(h *Harness, d ledger.Durable, from int, f *failure) error {
	w := newWorld(h, d)
	s, err := w.source()
	if err != nil {
		return w.end(err)
	}
	w.fail(from, f)
	got, err := w.fetch(s)
	switch {
	case f.want == nil && err != nil:
		return w.end(fmt.Errorf("it should do: %w", err))
	case f.want == nil:
		return w.end(sane(got, time.Now()))
	case !errors.Is(err, f.want):
		return w.end(fmt.Errorf("%v; want one that wraps: %w", err, f.want))
	}
	return w.end(typed(err))
}

// typed refuses an error that means two things.
func typed(err error) error {
	var is []error
	for _, sentinel := range []error{source.ErrDown, source.ErrRefused, source.ErrMalformed, source.ErrNoRoot, source.ErrNotDurable, source.ErrCannotRevoke} {
		if errors.Is(err, sentinel) {
			is = append(is, sentinel)
		}
	}
	if len(is) != 1 {
		return fmt.Errorf("%v: wraps %d of the errors of source, want one: %v", err, len(is), is)
	}
	return nil
}

// changed changes one member after another of each answer: what comes of it is a whole secret or a refusal.
func changed(h *Harness, d ledger.Durable) error {
	answers, err := calls(h, d)
	if err != nil {
		return err
	}
	var all []error
	for i, a := range answers {
		for _, m := range mutations(a.body) {
			f := &failure{spoil: func(w http.ResponseWriter, a answer) { a.write(w, m.body) }}
			if err := survives(h, d, i, f); err != nil {
				all = append(all, fmt.Errorf("answer %d with %s: %w", i+1, m.name, err))
			}
		}
	}
	return errors.Join(all...)
}

func survives(h *Harness, d ledger.Durable, at int, f *failure) error {
	w := newWorld(h, d)
	s, err := w.source()
	if err != nil {
		return w.end(err)
	}
	w.failOnce(at, f)
	begun := time.Now()
	got, err := w.fetch(s)
	switch {
	case err == nil:
		return w.end(sane(got, begun))
	case errors.Is(err, source.ErrMalformed), errors.Is(err, source.ErrRefused) && len(w.answered()) > at+1: // the double refused what came next
		return w.end(nil)
	}
	return w.end(fmt.Errorf("%w; want a whole secret or ErrMalformed", err))
}

func endsWithContext(w *world) error {
	s, err := w.source()
	if err != nil {
		return err
	}
	reached := w.hang()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-reached:
		case <-w.ended:
		}
		cancel()
	}()
	_, err = w.fetchFor(ctx, s, w.durable, "research-agent")
	if !errors.Is(err, source.ErrDown) && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("the provider hangs and the context ends: %v, want ErrDown or the context's", err)
	}
	before := w.count()
	if _, err = w.fetchFor(ctx, s, w.durable, "research-agent"); err == nil {
		return errors.New("a fetch with an ended context")
	}
	if n := w.count(); n != before {
		return errors.New("a call was made with an ended context")
	}
	return nil
}

func closeEnds(w *world) error {
	s, err := w.source()
	if err != nil {
		return err
	}
	reached := w.hang()
	go func() {
		select {
		case <-reached:
		case <-w.ended:
		}
		s.Close()
	}()
	if _, err := w.fetch(s); err == nil {
		return errors.New("a fetch that was closed came back with a secret")
	}
	before := w.count()
	s.Close()
	if _, err := w.fetch(s); err == nil {
		return errors.New("a fetch after Close")
	}
	if n := w.count(); n != before {
		return errors.New("a call was made after Close")
	}
	return nil
}

func nobodyListens(w *world) error {
	w.server.Listener.Close()
	s, err := w.source()
	if err != nil {
		return err
	}
	if _, err := w.fetch(s); !errors.Is(err, source.ErrDown) {
		return fmt.Errorf("nobody listens: %v, want ErrDown", err)
	}
	return nil
}

func privateAddress(w *world) error {
	w.record.From.Networks = nil
	s, err := w.source()
	if err != nil {
		return err
	}
	if _, err := w.fetch(s); err == nil {
		return errors.New("its host leads to a private address, and it fetched from there")
	}
	if n := w.count(); n != 0 {
		return fmt.Errorf("its host leads to a private address, and %d calls went there", n)
	}
	return nil
}

func revokes(w *world) error {
	s, err := w.source()
	if err != nil {
		return err
	}
	old, err := w.fetch(s)
	if err != nil {
		return err
	}
	next, err := w.fetch(s)
	if err != nil {
		return err
	}
	err = w.revoke(s, w.durable, old)
	if errors.Is(err, source.ErrCannotRevoke) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("calling Revoke: %w", err)
	}
	if err := w.lives(old, false); err != nil {
		return fmt.Errorf("after Revoke: %w", err)
	}
	if err := w.revoke(s, w.durable, old); err != nil {
		return fmt.Errorf("revoking what is gone: %w", err)
	}
	if w.h.Static || next.Lease == old.Lease {
		return nil
	}
	if err := w.lives(next, true); err != nil {
		return fmt.Errorf("after another was revoked: %w", err)
	}
	return nil
}

// revokingFails lets each call of a revocation fail. 400 and 404 may mean that the secret is gone.
func revokingFails(h *Harness, d ledger.Durable) error {
	var all []error
	for _, f := range failures() {
		if f.name == "400" || f.want != source.ErrDown && f.want != source.ErrRefused || f.name == "breaks off" {
			continue // a revocation's answer says nothing but its status
		}
		w := newWorld(h, d)
		if err := w.end(revokingFailsBy(w, f)); err != nil {
			all = append(all, fmt.Errorf("%s: %w", f.name, err))
		}
	}
	return errors.Join(all...)
}

func revokingFailsBy(w *world, f *failure) error {
	s, err := w.source()
	if err != nil {
		return err
	}
	old, err := w.fetch(s)
	if err != nil {
		return err
	}
	w.fail(0, f)
	if err := w.revoke(s, w.durable, old); !errors.Is(err, f.want) && !errors.Is(err, source.ErrCannotRevoke) {
		return fmt.Errorf("calling Revoke: %v; want one that wraps: %w", err, f.want)
	}
	return nil
}

func renews(w *world) error {
	s, err := w.source()
	if err != nil {
		return err
	}
	r, ok := s.(source.Renewer)
	if !ok {
		return nil
	}
	old, err := w.fetch(s)
	if err != nil {
		return err
	}
	got, err := r.Renew(context.Background(), w.durable, old)
	if err != nil {
		return fmt.Errorf("calling Renew: %w", w.hear(err))
	}
	w.keep(got)
	switch {
	case got.Lease != old.Lease || !got.Value.Equal(old.Value.Reveal()):
		return errors.New("calling Renew returned another secret")
	case got.Expires.Before(old.Expires.Add(-time.Second)):
		return fmt.Errorf("renewed, it ends at %v, before it did at %v", got.Expires, old.Expires)
	}
	w.fail(0, status(503, source.ErrDown))
	if _, err := r.Renew(context.Background(), w.durable, got); !errors.Is(w.hear(err), source.ErrDown) {
		return fmt.Errorf("calling Renew when the provider is down: %v, want ErrDown", err)
	}
	return nil
}

func sweeps(w *world) error {
	s, err := w.source()
	if err != nil {
		return err
	}
	if _, ok := s.(source.Sweeper); !ok {
		return nil
	}
	lost, err := w.fetch(s)
	if err != nil {
		return err
	}
	kept, err := w.fetch(s)
	if err != nil {
		return err
	}
	next, err := w.source() // after a crash nothing but State is remembered
	if err != nil {
		return err
	}
	r := next.(source.Sweeper)
	deleted, err := r.Sweep(context.Background(), w.durable, []string{kept.Lease})
	if err != nil || len(deleted) != 1 || deleted[0] != lost.Lease {
		return fmt.Errorf("calling Sweep deleted %q with error %v, want %q", deleted, w.hear(err), lost.Lease)
	}
	if err := errors.Join(w.lives(lost, false), w.lives(kept, true)); err != nil {
		return fmt.Errorf("after Sweep: %w", err)
	}
	w.fail(0, status(503, source.ErrDown))
	if _, err := r.Sweep(context.Background(), w.durable, nil); !errors.Is(w.hear(err), source.ErrDown) {
		return fmt.Errorf("calling Sweep when the provider is down: %v, want ErrDown", err)
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
