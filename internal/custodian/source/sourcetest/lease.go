package sourcetest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/reevehq/reeve/internal/custodian/source"
	"github.com/reevehq/reeve/internal/ledger"
)

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
