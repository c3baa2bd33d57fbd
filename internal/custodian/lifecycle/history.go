package lifecycle

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/admin"
	"github.com/reevehq/reeve/internal/custodian/sealed"
	"github.com/reevehq/reeve/internal/custodian/source"
	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/internal/secret"
)

// version is what is remembered of a version, also after a restart. It holds no secret.
type version struct {
	Lease       string    `json:"lease"`
	Workload    string    `json:"workload,omitempty"`
	Fingerprint string    `json:"fingerprint"`
	State       string    `json:"state"`
	Issued      time.Time `json:"issued"`
	Expires     time.Time `json:"expires,omitzero"`
	Origin      string    `json:"origin"`           // of which source
	Over        time.Time `json:"over,omitzero"`    // since when nothing is to be done about it any more
	Tried       time.Time `json:"tried,omitzero"`   // when its source was asked to end it
	Ending      string    `json:"ending,omitempty"` // the record that ends it
	Probes      int       `json:"probes,omitempty"`
	Probed      time.Time `json:"probed,omitzero"`
	Refused     int       `json:"refused,omitempty"` // probes in a row that were refused
	Dead        time.Time `json:"dead,omitzero"`     // the first of them
	Proven      time.Time `json:"proven,omitzero"`   // the second
	held        *Held     // nil once nothing here can use it
}

const (
	file     = "versions.json"
	history  = 64        // versions that are over and shown
	soon     = time.Hour // what ends by itself by then is not ended at its source when it was rotated
	tryAgain = 10 * time.Minute
)

// originOf tells one source from another, so that none is asked to end what is not its own.
func originOf(c *Config) string {
	text, err := json.Marshal([]any{c.Record.Source, c.Record.From.URL, c.Record.From.Parameters, c.Tenant})
	if err != nil {
		panic("lifecycle: encoding a record: " + err.Error()) // strings and numbers: cannot fail
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}

func (k *Keeper) load() error {
	b, err := k.Dir.Read(file)
	if err != nil || b == nil {
		return err
	}
	var f book
	if err := json.Unmarshal(b, &f); err != nil {
		return fmt.Errorf("reading %s: %w", k.Dir.Path(file), err)
	}
	k.versions, k.ending = f.Versions, f.Ending
	return nil
}

// book is the file.
type book struct {
	Versions []*version `json:"versions"`
	Ending   *ending    `json:"ending,omitempty"`
}

// save needs mu. What is long over is forgotten: the ledger has it.
func (k *Keeper) save() error {
	if k.closed {
		return errClosed
	}
	over := 0
	k.versions = slices.DeleteFunc(k.versions, func(v *version) bool {
		if !v.Over.IsZero() {
			over++
		}
		return over > history && !v.Over.IsZero()
	})
	b, err := json.Marshal(book{k.versions, k.ending})
	if err == nil {
		err = k.Dir.Replace(file, b)
	}
	return err
}

// errClosed keeps a keeper whose record is over from writing over the next one's file.
var errClosed = errors.New("the credential's record has changed")

// keepFile is save where nothing waits for it. It needs mu.
func (k *Keeper) keepFile() {
	if err := k.save(); err != nil {
		k.Log.Error("which versions there are is not kept", "credential", k.Record.ID, "error", err)
	}
}

// put puts a version that is bound into force; the one before overlaps. One whose call began before an ending is ended with the others.
func (k *Keeper) put(s *slot, h *Held, before *ending) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	v := k.version(h.Lease, h.Workload)
	if v != nil && v.Ending != "" {
		return nil // it was handed over before, and ended
	}
	fresh := v == nil
	if fresh {
		v = &version{Lease: h.Lease, Workload: h.Workload, Origin: k.origin}
		k.versions = slices.Insert(k.versions, 0, v)
	} else if v.held != nil {
		k.Uses.count(v.held, k.Clock())
	}
	v.Fingerprint, v.State, v.Issued, v.Expires, v.Over, v.held = h.Fingerprint, Active, h.Issued, h.Expires, time.Time{}, h
	if k.ending != before {
		k.freeze(v)
		return errors.Join(ErrOver, k.save())
	}
	var rotated []*version // in force until now, here or in an earlier process
	for _, o := range k.versions {
		if o != v && o.Workload == h.Workload && o.State == Active {
			o.State = Overlapping
			rotated = append(rotated, o)
		}
	}
	if err := k.save(); err != nil {
		for _, o := range rotated {
			o.State = Active
		}
		if fresh && k.Source == nil { // it comes again; what a source gave is discarded
			k.versions = slices.DeleteFunc(k.versions, func(o *version) bool { return o == v })
		}
		return fmt.Errorf("keeping which versions there are: %w", err)
	}
	h.mark(k.Clock())
	h.helds = append(h.helds, h)
	s.held.Store(h)
	s.due = time.Time{}
	if !h.until.IsZero() {
		s.due = ahead(k.Clock(), h.until)
	}
	for _, o := range rotated {
		k.Note(k.tell(o, "rotated"))
	}
	return nil
}

// version needs mu.
func (k *Keeper) version(lease, workload string) *version {
	i := slices.IndexFunc(k.versions, func(v *version) bool { return v.Lease == lease && v.Workload == workload })
	if i < 0 {
		return nil
	}
	return k.versions[i]
}

// knows reports whether a lease is that of a version that may be alive.
func (k *Keeper) knows(lease string) bool { return slices.Contains(k.leases(), lease) }

// become gives a version its next state, with an entry. It needs mu.
func (k *Keeper) become(v *version, state, reason string) {
	if v.State != state {
		k.turn(v, state)
		k.Note(k.tell(v, reason))
	}
}

// turn needs mu.
func (k *Keeper) turn(v *version, state string) {
	v.State = state
	if state == Destroyed || state == Proven {
		v.Over = k.Clock()
	}
}

// establish is become with the entry on disk before anybody is told. Its caller does not hold mu.
func (k *Keeper) establish(v *version, state, reason string) error {
	k.mu.Lock()
	e := k.tell(v, reason)
	k.mu.Unlock()
	e.State = state
	if _, err := k.Append(e); err != nil {
		return fmt.Errorf("writing to the ledger what has become of %s: %w", v.Lease, err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if v.Over.IsZero() { // it may have expired meanwhile
		k.turn(v, state)
	}
	return nil
}

// tell is the entry of a version's state.
func (k *Keeper) tell(v *version, reason string) *entry.Entry {
	e := k.entry(entry.Version, v.Workload)
	e.CredFP, e.Lease, e.State, e.Expires, e.Reason = v.Fingerprint, v.Lease, v.State, seconds(v.Expires), reason
	e.Record = v.Ending
	return e
}

// leases are those that may be alive.
func (k *Keeper) leases() (list []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, v := range k.versions {
		if v.Over.IsZero() && v.State != Unproven {
			list = append(list, v.Lease)
		}
	}
	return list
}

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

// take brings the newest secret that was handed over into force.
func (k *Keeper) take() error {
	root := k.Root()
	if root == nil {
		return nil
	}
	return k.Put(root)
}

// retake brings the newest secret that was handed over into force when it is not: its file could not be written when it came, or the record
// changed just then.
func (k *Keeper) retake() {
	root := k.Root()
	if k.Source != nil || root == nil {
		return
	}
	k.mu.Lock()
	held, v := k.shared.held.Load(), k.version(root.Lease, "")
	missing := !k.closed && !k.resting && (held == nil || held.Version < root.Version) && (v == nil || v.Ending == "" && v.Over.IsZero())
	k.mu.Unlock()
	if !missing {
		return
	}
	err := k.Put(root)
	k.mu.Lock()
	defer k.mu.Unlock()
	if err == nil {
		k.Log.Info("what was handed over can be used now", "credential", k.Record.ID, "version", root.Version)
	}
	k.shared.err = err
}

// Put brings a secret that was handed over into force. The one before overlaps for as long as uses go on that began with it.
func (k *Keeper) Put(root *sealed.Held) error {
	h := &Held{Credential: k.Record.ID, Version: root.Version, Lease: root.Lease, Fingerprint: root.Fingerprint, Issued: root.Created}
	err := root.Inspect(func(v secret.Value) error {
		s := &source.Secret{Value: v, Lease: root.Lease}
		parts, err := k.open(s)
		if err == nil {
			h.material = newMaterial(parts, s, root)
		}
		return err
	})
	if err != nil {
		return err
	}
	h.cut(h.parts)
	h.end = h.Expires
	k.mu.Lock()
	before := k.ending
	k.mu.Unlock()
	return k.put(&k.shared, h, before)
}

// pass lets versions go that nothing uses any more. It needs mu.
func (k *Keeper) pass(now time.Time) {
	_, copies := k.Source.(source.Copier)
	changed := false
	for _, v := range k.versions {
		if v.held != nil {
			k.Uses.count(v.held, now)
		}
		if !v.Over.IsZero() {
			continue
		}
		if v.State == Active && k.Source != nil && !k.inForce(v) && (v.held != nil || now.After(k.born.Add(cached))) {
			k.become(v, Overlapping, "unused")
			changed = true
		}
		switch expired := !v.Expires.IsZero() && !now.Before(v.Expires); {
		case expired && v.State != Frozen:
			k.bury(v.held, now)
			v.held, changed = nil, true
			k.become(v, Destroyed, "expired")
		case v.State != Overlapping || v.held != nil && v.held.InUse() > 0:
		case k.Source == nil:
			v.held = nil // the ciphertext stays
		case !copies && v.Origin == k.origin && !v.Tried.Add(tryAgain).After(now) && (v.Expires.IsZero() || v.Expires.After(now.Add(soon))) && (k.fresh(v.Workload) || now.After(k.born.Add(cached))):
			v.Tried = now
			k.running.Add(1)
			go k.discard(v)
		}
	}
	k.wipe(now)
	if changed {
		k.keepFile()
	}
}

// inForce reports whether new uses take the version. It needs mu.
func (k *Keeper) inForce(v *version) bool {
	s := k.find(v.Workload)
	return s != nil && v.held != nil && s.held.Load() == v.held
}

// fresh reports whether a version is in force. After a start only that tells which of those before is not needed, until nobody came for one for
// long. It needs mu.
func (k *Keeper) fresh(workload string) bool {
	s := k.find(workload)
	return s != nil && s.held.Load() != nil
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

// Show fills in what an operator sees.
func (k *Keeper) Show(a *admin.Credential, now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	a.State = Pending
	for _, v := range k.versions {
		x := admin.Version{Lease: v.Lease, Workload: v.Workload, Fingerprint: v.Fingerprint, State: v.State, Issued: v.Issued, Expires: v.Expires,
			Age: int64(now.Sub(v.Issued) / time.Second)}
		if v.held != nil {
			k.Uses.count(v.held, now)
			x.InUse = v.held.InUse()
		}
		switch {
		case v.State != Active:
		case v.held == nil: // of an earlier process; the next that is fetched takes its place
			x.State = Overlapping
		case a.Closed != "":
			a.State, x.State = Frozen, Frozen
		default:
			a.State = Active
		}
		a.Versions = append(a.Versions, x)
	}
	all := []*slot{&k.shared}
	for _, s := range *k.each.Load() {
		all = append(all, s)
	}
	for _, s := range all {
		if s.err != nil {
			a.Error = cmp.Or(a.Error, s.err.Error())
		}
		if s.held.Load() != nil && !s.due.IsZero() && (a.Next.IsZero() || s.due.Before(a.Next)) {
			a.Next = s.due
		}
	}
	a.Ending = k.showEnding()
	a.LastUse, a.Uses = k.Uses.last, k.Uses.show(now)
}

// Active names the version in force that everybody uses; nothing when there is none.
func (k *Keeper) Active() (fingerprint, lease string) {
	if h := k.shared.held.Load(); h != nil {
		return h.Fingerprint, h.Lease
	}
	return "", ""
}
