package feed

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/reevehq/reeve/internal/durable"
	"github.com/reevehq/reeve/internal/statement"
)

// Offer verifies, passes on and keeps a record that came by another channel, such as "admin". One that is refused leaves no
// trace: whoever offers is not believed. What closes is in force when Offer returns; what may wait for a disk is only verified.
func (f *Follower) Offer(file []byte, channel string) error {
	_, err := f.bring(file, channel)
	return err
}

// OfferAndWait is Offer for who wants to know how it ended.
func (f *Follower) OfferAndWait(file []byte, channel string) error {
	u, err := f.bring(file, channel)
	if u == nil {
		return err
	}
	<-u.done
	return u.err
}

func (f *Follower) bring(file []byte, channel string) (*underway, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	env, _, err := ParseRecord(file)
	if err != nil {
		return nil, err
	}
	if set := f.Set(); set != nil {
		if err := set.Admit(env); err != nil {
			return nil, err
		}
	}
	if err := f.accept(&Frame{Record: file}, channel); err != nil {
		return nil, err
	}
	return f.under[env.ID()], nil
}

// take applies one frame that came by a channel.
func (f *Follower) take(frame *Frame, channel string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case frame.Heartbeat != nil:
		if f.waiting != nil && !f.cfg.Clock().Before(f.again) {
			if err := f.renew(f.waiting); errors.Is(err, errResync) {
				return err
			}
		}
		return f.takeHeartbeat(frame.Heartbeat)
	case len(frame.Record) > 0:
		if env, kind, err := ParseRecord(frame.Record); err == nil && kind != "handover" {
			f.seen.add(env, frame.Record)
			f.based.add(env, frame.Record)
		}
		return f.takeRecord(frame, channel)
	case len(frame.Set) > 0:
		f.seenSet = frame.Set.Sum()
		return f.renew(frame)
	}
	return nil
}

// renew takes a set, and asks again for the records that were refused under the one before.
func (f *Follower) renew(set *Frame) error {
	before := f.refused.Len()
	if err := f.offer(set); err != nil {
		return err
	}
	if f.refused.Len() < before {
		return errResync
	}
	return nil
}

func (f *Follower) takeHeartbeat(env *statement.Envelope) error {
	set, now, last := f.Set(), f.cfg.Clock(), f.newest.Load()
	if set == nil {
		return fmt.Errorf("%w: %w", ErrHeartbeat, errNoSet)
	}
	h, err := OpenHeartbeat(env, set.ServiceKeys("feed", now))
	if err != nil {
		return err
	}
	skew := now.Round(0).Sub(h.Time)
	switch {
	case h.Estate != set.Charter.Estate:
		return fmt.Errorf("%w: it is for estate %q", ErrHeartbeat, h.Estate)
	case last != nil && cmp.Or(cmp.Compare(h.Epoch, last.Epoch), cmp.Compare(h.Number, last.Number)) <= 0:
		return fmt.Errorf("%w: epoch %d number %d came after %d %d: a replay, or an authority restored to an earlier state", ErrHeartbeat, h.Epoch, h.Number, last.Epoch, last.Number)
	case skew.Abs() > f.cfg.Skew:
		return fmt.Errorf("%w: its time is %s away: delayed, replayed, or a clock is wrong (compare the clocks of both machines)", ErrHeartbeat, skew.Round(time.Millisecond))
	case h.Sum != f.based.files.Sum() && h.Sum != f.seen.files.Sum():
		return fmt.Errorf("%w: it names %d records that did not all arrive", ErrHeartbeat, h.Records)
	case f.missed.Len() > 0:
		return fmt.Errorf("%w: %d revocations that it names could not be taken", ErrHeartbeat, f.missed.Len())
	case h.LockHash != hex.EncodeToString(set.LockHash[:]) && h.SetSum != f.seenSet:
		return fmt.Errorf("%w: it names lock version %d, whose set did not arrive", ErrHeartbeat, h.Lock)
	}
	f.newest.Store(&beat{*h, now})
	published, withheld := &f.based, 0
	if h.Sum != f.based.files.Sum() {
		published = &f.seen
		f.expire()
	}
	for _, id := range f.closing.ids {
		if !published.records.Has(id) {
			withheld++
		}
	}
	if f.lacking++; withheld == 0 {
		f.lacking = 0
	}
	if f.lacking == patience {
		f.cfg.Log.Error("the authority does not publish revocations that this process holds; they stay in force", "count", withheld)
	}
	f.status.Authority, f.status.Epoch, f.status.Number, f.status.Withheld, f.status.Err = h.Lock, h.Epoch, h.Number, withheld, ""
	return nil
}

// offer takes a set. One that waits for the notice of a recovery is taken again after a while.
func (f *Follower) offer(set *Frame) error {
	err := f.takeSet(set.Set, set.Published)
	var e *statement.Error
	if f.waiting = nil; errors.As(err, &e) && e.Rule == "notice" {
		f.waiting, f.again = set, f.cfg.Clock().Add(catchUp)
	}
	return err
}

// takeSet verifies a set, puts it in force and keeps it. The set in force again is no error. A follower that starts from its pin alone, where
// there are witnesses, wants to see the first one in an authority's cosigned log; from a folder it cannot.
func (f *Follower) takeSet(store statement.Store, published *Publication) error {
	prev := f.Set()
	trace := &Trace{From: store, Read: Files{}}
	set, err := statement.Load(trace, f.cfg.Pin, prev, f.cfg.Clock())
	switch {
	case err != nil:
		return err
	case prev != nil && set.LockHash == prev.LockHash:
		return nil
	case prev != nil && set.Lock.Version <= prev.Lock.Version:
		return fmt.Errorf("another set with lock version %d is in force: %w", prev.Lock.Version, statement.ErrRefused)
	case prev == nil && f.cfg.Pin.LastLock.Version == 0 && len(set.ServiceKeys("witness", f.cfg.Clock())) > 0:
		if err := published.Check(set, f.cfg.Clock()); err != nil && len(f.cfg.URLs) > 0 {
			return fmt.Errorf("lock version %d: %w", set.Lock.Version, err)
		} else if err != nil {
			f.cfg.Log.Warn("the first set comes from a folder, where nothing shows that it was published", "lock", set.Lock.Version)
		}
	}
	if f.cfg.OnSet != nil {
		if err := f.cfg.OnSet(set, trace.Read); err != nil {
			return fmt.Errorf("lock version %d: %w", set.Lock.Version, err)
		}
	}
	f.set.Store(set)
	f.refused = Records{}
	f.cfg.Log.Info("statement set in force", "lock", set.Lock.Version)
	f.pending = slices.DeleteFunc(f.pending, func(kept *Frame) bool { return f.takeRecord(kept, "kept") == nil })
	if f.dir == "" {
		return nil
	}
	dir := f.dir
	if len(f.cfg.URLs) > 0 {
		f.write(func() error {
			return durable.Replace(filepath.Join(dir, "set"), (&Frame{Set: trace.Read}).Encode(), 0o600)
		})
	}
	f.write(func() error { return writeLast(dir, set.Locked()) })
	return nil
}

// takeRecord takes a record, unless it was refused under this set.
func (f *Follower) takeRecord(frame *Frame, channel string) error {
	id := sha256.Sum256(frame.Record)
	if f.refused.Has(id) {
		return nil
	}
	err := f.accept(frame, channel)
	env, kind, unread := ParseRecord(frame.Record)
	switch {
	case err == nil || unread != nil || f.own.Has(env.ID()):
		f.missed.drop(id)
	case closes(kind) && !errors.Is(err, statement.ErrRefused):
		f.missed.Add(id) // it is taken again whenever it comes
	default:
		f.refused.Add(id)
	}
	return err
}

// closes reports whether records of a kind close something. No limit holds for them.
func closes(kind string) bool { return kind == "revocation" || kind == "signal" || kind == "scim" }

// accept verifies a record, passes it on and keeps it. A known one is no error. Closing does not wait for the disk: a record that
// cannot be kept is in force and reported. Nor does it wait for other records' callbacks that do: these are done beside, and their errors reported.
func (f *Follower) accept(frame *Frame, channel string) error {
	env, kind, err := ParseRecord(frame.Record)
	if err != nil {
		return err
	}
	id := env.ID()
	if !closes(kind) && max(f.own.Len(), f.handed.Len())-f.closed >= MaxRecords {
		return fmt.Errorf("%w: more than %d records that close nothing", ErrFrame, MaxRecords)
	}
	if f.own.Has(id) || f.handed.Has(id) || f.under[id] != nil {
		return nil
	}
	if kind == "evidence" { // for the authority's ledger alone
		return nil
	}
	if Over(env, kind, f.cfg.Clock()) {
		f.over = f.over || channel == "kept"
		return nil
	}
	fails := func(err error) error { return fmt.Errorf("record %x of kind %s: %w", id[:8], kind, err) }
	record, pass, err := f.open(&statement.Record{Kind: kind, Envelope: env, SHA256: hex.EncodeToString(id[:]), Channel: channel}, frame.Sealed)
	if err != nil {
		return fails(err)
	}
	dir := f.dir // while the own copy is read, nothing is written to it
	if !waits(kind) {
		if err := pass(); err != nil {
			return fails(err)
		}
		f.took(id, kind, record, frame, dir)
		return nil
	}
	u := &underway{done: make(chan struct{})}
	f.under[id] = u
	f.later(&f.slow, func() {
		defer close(u.done)
		if err := pass(); err != nil {
			u.err = fails(err)
			f.report(u.err)
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.under, id)
		switch {
		case u.err == nil:
			f.took(id, kind, record, frame, dir)
		case channel == "kept":
			f.pending = append(f.pending, frame)
		default:
			f.failed = true
		}
	})
	return nil
}

// took notes that a record was passed on, and keeps it. Callers hold mu.
func (f *Follower) took(id [sha256.Size]byte, kind string, record any, frame *Frame, dir string) {
	if kind == "handover" {
		f.handed.Add(id)
		return
	}
	f.own.Add(id)
	f.files.Add(sha256.Sum256(frame.Record))
	if closes(kind) {
		f.closed++
	}
	switch r := record.(type) {
	case *statement.Revocation:
		f.closing.Add(id)
		f.numbers[r.Signer] = append(f.numbers[r.Signer], r.Number)
	case *statement.WorkloadKey:
		f.keys[id] = key{sha256.Sum256(frame.Record), r.NotAfter}
	}
	if dir != "" && len(f.cfg.URLs) > 0 {
		f.write(func() error { return durable.Append(filepath.Join(dir, "records"), frame.Encode()) })
	}
}

// open verifies one record with the set in force, and returns it with what hands it to its callback. What is for another custodian is kept like
// the rest, but for handovers, and given to nobody.
func (f *Follower) open(r *statement.Record, sealed []byte) (record any, pass func() error, err error) {
	set := f.Set()
	if set == nil {
		return nil, nil, errNoSet
	}
	var left []string
	if f.cfg.Left != nil {
		left = f.cfg.Left()
	}
	record, custodian, err := Open(set, r, f.cfg.Clock(), left...)
	if err != nil {
		return nil, nil, err
	}
	if a, ok := record.(*statement.Announcement); ok && f.cfg.Dir != "" {
		f.hear(a.SHA256)
	}
	pass = func() error { return nil }
	if custodian != "" && custodian != f.cfg.Process {
		return record, pass, nil
	}
	h, handover := record.(*statement.Handover)
	switch {
	case handover:
		if sum := sha256.Sum256(sealed); hex.EncodeToString(sum[:]) != h.SHA256 {
			return nil, nil, fmt.Errorf("the ciphertext is not the one that was handed over for %s version %d", h.Credential, h.Version)
		}
		if f.cfg.OnHandover != nil {
			pass = func() error { return f.cfg.OnHandover(r.Envelope, sealed) }
		}
	case f.cfg.OnRecord != nil:
		pass = func() error { return f.cfg.OnRecord(r) }
	}
	return record, pass, nil
}

// gaps lists the revocation numbers that are missing: a signer numbers his revocations from 1 without gaps.
func (f *Follower) gaps() (gaps []Gap) {
	for signer, have := range f.numbers {
		slices.Sort(have)
		last := int64(0)
		for _, n := range have {
			if n > last+1 {
				gaps = append(gaps, Gap{signer, last + 1, n - 1})
			}
			last = n
		}
	}
	return gaps
}
