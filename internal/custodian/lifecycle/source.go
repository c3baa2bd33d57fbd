package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/custodian/source"
	"github.com/reevehq/reeve/internal/ledger"
)

// swept notes what a source deleted.
func (k *Keeper) swept(lease string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if slices.ContainsFunc(k.versions, func(v *version) bool { return v.Lease == lease }) {
		return // it was over before
	}
	v := &version{Lease: lease, Issued: k.Clock(), Origin: k.origin}
	k.versions = append(k.versions, v)
	k.become(v, Unproven, "swept")
	v.Over = k.Clock()
}

// discard ends a version at its source that was rotated and that nothing uses any more.
func (k *Keeper) discard(v *version) {
	defer k.running.Done()
	ctx, cancel := context.WithTimeout(k.ctx, limit)
	defer cancel()
	if k.May() != nil {
		return
	}
	err := k.revoke(ctx, v)
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case v.State != Overlapping: // an ending has it
	case err == nil:
		k.become(v, Unproven, "rotated")
		k.bury(v.held, k.Clock())
		v.Over, v.held = k.Clock(), nil
	case errors.Is(err, source.ErrCannotRevoke):
		k.bury(v.held, k.Clock())
		v.Tried, v.held = k.Clock().Add(endless), nil
	default:
		k.Log.Warn("a secret that was rotated still lives at its provider", "credential", k.Record.ID, "lease", v.Lease, "error", err)
	}
	k.keepFile()
}

// revoke asks the source to end a version. Of one from before a restart it has the lease only.
func (k *Keeper) revoke(ctx context.Context, v *version) error {
	k.mu.Lock()
	s := source.Secret{Lease: v.Lease, Issued: v.Issued, Expires: v.Expires}
	if v.held != nil {
		s = v.held.secret
		s.Expires = v.Expires
	}
	held := v.held // keeps the bytes
	k.mu.Unlock()
	defer runtime.KeepAlive(held)
	return k.call("revoke", v.Workload, func(d ledger.Durable) error { return k.Source.Revoke(ctx, d, &s) })
}

// call makes a call to the source that brings nothing, between its entries.
func (k *Keeper) call(how, workload string, do func(ledger.Durable) error) error {
	d, done, err := k.intend(how, workload)
	if err != nil {
		return err
	}
	defer done()
	if err := k.safely(func() error { return do(d) }); err != nil {
		k.failed(d, workload, err)
		return err
	}
	k.Note(k.outcome(d, workload, strings.TrimSuffix(how, "e")+"ed"))
	return nil
}

// safely is do, whatever a source makes of an answer.
func (k *Keeper) safely(do func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			k.Log.Error("a source met a fault", "credential", k.Record.ID, "fault", fmt.Sprintf("%T", p))
			err = fmt.Errorf("%w: it met a fault of the custodian's own", source.ErrMalformed)
		}
	}()
	return do()
}

// clean sweeps at the start, also when nothing is used. It needs mu.
func (k *Keeper) clean(now time.Time) {
	if _, ok := k.Source.(source.Sweeper); !ok || !k.unswept || k.sweeping || now.Before(k.shared.retry) {
		return
	}
	k.sweeping = true
	k.running.Add(1)
	go func() {
		defer k.running.Done()
		ctx, cancel := context.WithTimeout(k.ctx, limit)
		defer cancel()
		if k.May() == nil {
			k.sweep(ctx)
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		k.sweeping = false
		if k.unswept {
			k.shared.retry = k.Clock().Add(longest)
		}
	}()
}

// sweep has the source delete what it made and no entry names: at the start, and after failures.
func (k *Keeper) sweep(ctx context.Context) {
	sw, ok := k.Source.(source.Sweeper)
	if !ok || k.May() != nil {
		return
	}
	k.mu.Lock()
	due := k.unswept
	k.unswept = false
	k.mu.Unlock()
	if !due {
		return
	}
	k.calls.Lock()
	defer k.calls.Unlock()
	d, done, err := k.intend("sweep", "")
	var gone []string
	if err == nil {
		defer done()
		if err = k.safely(func() (err error) { gone, err = sw.Sweep(ctx, d, k.leases()); return err }); err == nil {
			e := k.outcome(d, "", "swept")
			e.Count = int64(len(gone))
			k.Note(e)
		} else {
			k.failed(d, "", err)
		}
	}
	for _, lease := range gone {
		k.swept(lease)
	}
	if err != nil {
		k.Log.Warn("what a crash may have left at a provider could not be swept", "credential", k.Record.ID, "error", err)
		k.mu.Lock()
		k.unswept = true
		k.mu.Unlock()
	}
}
