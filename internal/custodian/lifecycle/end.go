package lifecycle

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/custodian/sealed"
	"github.com/reevehq/reeve/internal/custodian/source"
	"github.com/reevehq/reeve/internal/ledger"
)

// ending is the end of every version at its source, as a record asked for it. It outlives a restart.
type ending struct {
	Record   string    `json:"record"` // hex, of the signed record
	Asked    time.Time `json:"asked"`  // when it was signed
	Frozen   time.Time `json:"frozen"`
	Provider time.Time `json:"provider,omitzero"` // when every source had been told, as far as it can be
	Proven   time.Time `json:"proven,omitzero"`
	Note     string    `json:"note,omitempty"`
	next     time.Time // nothing is tried before
	running  bool
}

const (
	apart   = time.Minute // between two probes of a version
	patient = 30          // probes a minute apart; from then on they are further apart
	seldom  = 15 * time.Minute
)

// Answer is what a probe brought.
type Answer struct {
	Status  int
	Refused bool // with the provider's documented authentication error, and nothing else
}

// End ends every version that there is: nothing uses it from now on, its source is told, and two probes prove it where the record names one. A
// record that is not newer than the last changes nothing. What comes after it is not ended.
func (k *Keeper) End(record string, asked time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ending != nil && !asked.After(k.ending.Asked) {
		return
	}
	k.ending = &ending{Record: record, Asked: asked, Frozen: k.Clock()}
	all := []*slot{&k.shared}
	for _, s := range *k.each.Load() {
		all = append(all, s)
	}
	for _, s := range all {
		if h := s.held.Swap(nil); h != nil {
			h.over.Store(true)
		}
	}
	for _, v := range k.versions {
		if v.Over.IsZero() && !v.coming { // what is coming is frozen when it is bound
			k.freeze(v)
		}
	}
	k.keepFile()
}

// freeze needs mu.
func (k *Keeper) freeze(v *version) {
	if v.held != nil {
		v.held.over.Store(true)
	}
	v.Ending, v.Refused, v.Probes, v.Probed = k.ending.Record, 0, 0, time.Time{}
	k.become(v, Frozen, "revoked")
}

// proceed goes on with an ending. It needs mu.
func (k *Keeper) proceed(now time.Time) {
	if e := k.ending; e != nil && !e.running && !now.Before(e.next) && !k.ended() {
		e.running = true
		k.running.Add(1)
		go k.step(e)
	}
}

// ended reports whether nothing is left to be done. It needs mu.
func (k *Keeper) ended() bool {
	return !k.ending.Provider.IsZero() && !slices.ContainsFunc(k.versions, func(v *version) bool {
		return v.Ending == k.ending.Record && v.Over.IsZero() && k.provable(v)
	})
}

// provable needs mu.
func (k *Keeper) provable(v *version) bool {
	return k.Probe().Method != "" && (v.held != nil || k.Source == nil)
}

// step tells the source, or probes once. It comes again until everything is proven, or over.
func (k *Keeper) step(e *ending) {
	defer k.running.Done()
	ctx, cancel := context.WithTimeout(k.ctx, limit)
	defer cancel()
	var note error
	if e.Provider.IsZero() {
		note = k.tellSource(ctx, e)
	}
	probed := k.of(e, Unproven)
	for _, v := range probed {
		note = errors.Join(note, k.prove(ctx, v))
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	wait := apart
	if slices.ContainsFunc(probed, func(v *version) bool { return v.Probes > patient }) {
		wait = seldom
	}
	e.running, e.next, e.Note = false, k.Clock().Add(wait), ""
	if note != nil {
		e.Note = note.Error()
	}
	k.conclude(k.Clock())
	k.keepFile()
}

// conclude notes that every version of the ending is proven dead, or has ended by itself. It needs mu.
func (k *Keeper) conclude(now time.Time) bool {
	e := k.ending
	if e == nil || e.running || e.Provider.IsZero() || !e.Proven.IsZero() ||
		slices.ContainsFunc(k.versions, func(v *version) bool { return v.Ending == e.Record && v.Proven.IsZero() && v.State != Destroyed }) {
		return false
	}
	e.Proven, e.Note = now, ""
	return true
}

// of are the versions of an ending that are in a state.
func (k *Keeper) of(e *ending, state string) (list []*version) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, v := range k.versions {
		if v.Ending == e.Record && v.State == state {
			list = append(list, v)
		}
	}
	return list
}

// tellSource has ended what brings new versions, and then every version: where a provider ends a whole grant with one token, a source revokes
// single ones after that only.
func (k *Keeper) tellSource(ctx context.Context, e *ending) (all error) {
	k.calls.Lock() // a fetch that runs brings its version first
	defer k.calls.Unlock()
	if ender, ok := k.Source.(source.Ender); ok {
		err := k.call("end", "", func(d ledger.Durable) error { return ender.End(ctx, d) })
		if err != nil && !errors.Is(err, source.ErrCannotRevoke) && !errors.Is(err, source.ErrNoRoot) {
			return err
		}
	}
	for _, v := range k.of(e, Frozen) {
		err, word := source.ErrCannotRevoke, "cannot_revoke"
		if k.Source != nil && v.Origin == k.origin { // another source knows nothing of it
			if err = k.revoke(ctx, v); err == nil {
				word = "revoked"
			}
		}
		if err != nil && !errors.Is(err, source.ErrCannotRevoke) {
			all = errors.Join(all, fmt.Errorf("%s lives at its provider: %w", v.Lease, err))
			continue
		}
		all = errors.Join(all, k.establish(v, Unproven, word))
	}
	if all == nil {
		k.mu.Lock()
		e.Provider = k.Clock()
		k.mu.Unlock()
	}
	return all
}

// prove probes a version that was revoked, unless the last probe was less than a minute ago.
func (k *Keeper) prove(ctx context.Context, v *version) error {
	now := k.Clock()
	k.mu.Lock()
	due := v.State == Unproven && k.provable(v) && !now.Before(v.Probed.Add(apart))
	if v.State == Unproven && !k.provable(v) {
		defer k.mu.Unlock()
		if k.Probe().Method == "" {
			return fmt.Errorf("%s cannot be proven dead: the custody record names no probe%s", v.Lease, until(v))
		}
		return fmt.Errorf("%s cannot be proven dead: its bytes are gone with a restart%s", v.Lease, until(v))
	}
	held := v.held
	k.mu.Unlock()
	if !due {
		return nil
	}
	s, keep, err := k.material(v, held)
	if err != nil {
		return fmt.Errorf("%s cannot be probed: %w", v.Lease, err)
	}
	defer runtime.KeepAlive(keep)
	answer, err := k.probe(ctx, v, s)
	if errors.Is(err, errEntry) {
		return err
	}
	if twice, err := k.weigh(v, answer, err); err != nil || !twice {
		return err
	}
	if err := k.establish(v, Proven, "probed_twice"); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	v.Proven = v.Probed
	k.bury(v.held, k.Clock())
	v.held = nil
	if k.Source == nil {
		if err := k.Destroy(v.number()); err != nil {
			return fmt.Errorf("%s is dead and its ciphertext could not be destroyed: %w", v.Lease, err)
		}
		k.become(v, Destroyed, "proven")
	}
	return nil
}

// until says when a version ends by itself.
func until(v *version) string {
	if v.Expires.IsZero() {
		return "; nothing says when it ends: end it at the provider"
	}
	return "; it ends by itself at " + v.Expires.UTC().Format(time.RFC3339)
}

// weigh counts a probe's answer, and reports whether it was the second in a row that was refused.
func (k *Keeper) weigh(v *version, answer Answer, err error) (twice bool, _ error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	v.Probed = k.Clock()
	v.Probes++
	switch {
	case err != nil:
		v.Refused = 0
		return false, fmt.Errorf("%s: its probe got no answer: %w", v.Lease, err)
	case !answer.Refused:
		v.Refused = 0
		return false, fmt.Errorf("%s: its probe was answered with status %d, which is not the provider's authentication error: it may still work; end it at the provider", v.Lease, answer.Status)
	}
	if v.Refused++; v.Refused == 1 {
		v.Dead = v.Probed
	}
	return v.Refused > 1, nil
}

var errEntry = errors.New("the probe's entry could not be written")

// probe asks once whether a version still works. The entry is durable before, and the outcome follows.
func (k *Keeper) probe(ctx context.Context, v *version, s func(ledger.Durable) (source.Secret, error)) (Answer, error) {
	e := k.entry(entry.Probe, v.Workload)
	path := sha256.Sum256([]byte(strings.SplitN(k.Probe().Path, "?", 2)[0]))
	e.CredFP, e.Lease, e.State, e.Expires, e.Record = v.Fingerprint, v.Lease, v.State, seconds(v.Expires), v.Ending
	e.Dest, e.Method, e.PathHash = k.Record.Destination.Origin, k.Probe().Method, hex.EncodeToString(path[:])
	d, err := k.Append(e)
	if err != nil {
		return Answer{}, fmt.Errorf("%w: %w", errEntry, err)
	}
	var answer Answer
	value, err := s(d)
	if err == nil {
		err = k.safely(func() (err error) { answer, err = k.Try(ctx, value); return err })
	}
	o := k.outcome(d, v.Workload, "works")
	o.Status, o.Lease = answer.Status, v.Lease
	switch {
	case err != nil:
		o.Reason = "no_answer"
	case answer.Refused:
		o.Reason = "refused"
	case answer.Status >= 300:
		o.Reason = "unclear"
	}
	k.Note(o)
	return answer, err
}

// material is how a version's bytes are had for a probe, and what keeps them.
func (k *Keeper) material(v *version, held *Held) (func(ledger.Durable) (source.Secret, error), any, error) {
	if held != nil && held.from == nil {
		return func(ledger.Durable) (source.Secret, error) { return held.secret, nil }, held, nil
	}
	h, err := k.Version(v.number())
	if err != nil {
		return nil, nil, err
	}
	return func(d ledger.Durable) (s source.Secret, err error) {
		s.Lease = v.Lease
		s.Value, err = h.Fetch(d)
		return s, err
	}, h, nil
}

// number is that of a version that was handed over.
func (v *version) number() int64 { return sealed.Number(v.Lease) }
