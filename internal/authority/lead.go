package authority

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/authority/store"
)

// lead holds the lease when it can be had, and publishes while it does, until ctx ends. What it did not renew in time is over for
// it before it is for others: heartbeats stop first. Streams stay until another authority is known to have taken over, so
// that a closing still passes while the database is away.
func (a *Authority) lead(ctx context.Context) {
	look := time.NewTicker(store.Life / 4)
	defer look.Stop()
	begun := make(chan error, 1)
	var after time.Time // no try before: this authority could not publish
	for {
		l := a.tryLease(ctx, time.Now().After(after))
		if l.Epoch != 0 && a.own(l) {
			go func() { begun <- a.begin() }()
		}
		select {
		case err := <-begun:
			if err != nil && ctx.Err() == nil {
				a.log.Error("the lease is let go, because this authority cannot publish", "error", err)
				a.resign()
				after = time.Now().Add(2 * store.Life)
			}
		case <-look.C:
		case <-ctx.Done():
			a.resign()
			return
		}
	}
}

// tryLease renews the lease, or takes it when it is free and this authority may.
func (a *Authority) tryLease(ctx context.Context, may bool) store.Lease {
	all := ctx
	ctx, cancel := context.WithTimeout(ctx, store.Life/2)
	defer cancel()
	a.mu.Lock()
	l := a.lease
	a.mu.Unlock()
	now := time.Now()
	var err error
	switch {
	case l.Epoch != 0:
		l, err = a.store.Renew(ctx, l, now)
	case may:
		l, err = a.store.Acquire(ctx, a.holder, now)
	default:
		return l
	}
	away := err != nil && !errors.Is(err, store.ErrHeld) && !errors.Is(err, store.ErrLost) && all.Err() == nil
	a.mu.Lock()
	before := a.away
	a.away = away
	a.mu.Unlock()
	switch {
	case away && !before:
		a.log.Error("the database is away: nothing is published once the lease has run out", "error", err)
	case before && !away:
		a.log.Info("the database is back")
	}
	switch {
	case errors.Is(err, store.ErrHeld):
		a.standBy(err)
		return store.Lease{}
	case errors.Is(err, store.ErrLost):
		a.lose(err)
		return store.Lease{}
	}
	return l
}

// standBy notes who holds the lease.
func (a *Authority) standBy(held error) {
	_, holder, _ := strings.Cut(held.Error(), ": ")
	other, _, _ := strings.Cut(holder, "/")
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.other != other {
		a.log.Info("standing by", "holder", other)
	}
	if a.other = other; other != "" {
		a.turn()
	}
}

// own puts a lease in force and reports whether it is a new one.
func (a *Authority) own(l store.Lease) (fresh bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if fresh = l.Epoch != a.lease.Epoch; fresh {
		a.leading, a.number, a.other = false, 0, ""
	}
	a.lease = l
	return fresh
}

// begin enters and publishes what the authority before left, and then lets heartbeats go out.
func (a *Authority) begin() error {
	a.admit.Lock()
	defer a.admit.Unlock()
	a.mu.Lock()
	set, epoch := a.set, a.lease.Epoch
	a.mu.Unlock()
	if set == nil {
		return ErrNoSet
	}
	if err := a.catchUp(); err != nil {
		return err
	}
	if err := a.enterSet(set); err != nil {
		return err
	}
	if err := a.reload(true); err != nil {
		a.log.Warn("not everything in the store is published", "error", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.lease.Epoch != epoch {
		return store.ErrLost
	}
	a.leading = true
	a.turn()
	a.log.Info("publishing", "epoch", epoch)
	return nil
}

// lose ends what the lease allowed: followers go to who has it.
func (a *Authority) lose(why error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.leading {
		a.log.Info("no longer publishing", "epoch", a.lease.Epoch, "reason", why)
	}
	a.lease, a.leading = store.Lease{}, false
	for f := range a.followers {
		a.drop(f)
	}
}

// resign lets the lease go.
func (a *Authority) resign() {
	a.mu.Lock()
	l := a.lease
	a.mu.Unlock()
	if l.Epoch == 0 {
		return
	}
	a.lose(errors.New("let go"))
	ctx, cancel := context.WithTimeout(context.Background(), store.Life/2)
	defer cancel()
	if err := a.store.Release(ctx, l); err != nil {
		a.log.Warn("another authority has to wait for the lease to run out", "error", err)
	}
}
