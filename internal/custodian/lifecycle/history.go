package lifecycle

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/custodian/source"
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
	coming      bool      // the entry that binds it is being written
	busy        bool      // one about its state is: until then it does not expire
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

// expect remembers a version before the entry that binds it, so that no crash leaves one that only the ledger knows. It returns nil when it is known already.
func (k *Keeper) expect(h *Held) (*version, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.version(h.Lease, h.Workload) != nil {
		return nil, nil
	}
	v := &version{Lease: h.Lease, Workload: h.Workload, Fingerprint: h.Fingerprint, State: Active, Issued: h.Issued, Expires: h.Expires, Origin: k.origin, coming: true}
	k.versions = slices.Insert(k.versions, 0, v)
	if err := k.save(); err != nil {
		k.drop(v)
		return nil, fmt.Errorf("keeping which versions there are: %w", err)
	}
	return v, nil
}

// unbound is what becomes of a version that was expected and not bound: nothing, when its source has ended it. Otherwise it is ended as one that was rotated.
func (k *Keeper) unbound(v *version, ended bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if v.coming, v.State = false, Overlapping; ended {
		k.drop(v)
	}
	k.keepFile()
}

// drop needs mu.
func (k *Keeper) drop(v *version) {
	k.versions = slices.DeleteFunc(k.versions, func(o *version) bool { return o == v })
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
	v.coming = false
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
			k.drop(v)
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
	if !v.Over.IsZero() { // it has expired meanwhile
		k.mu.Unlock()
		return nil
	}
	v.busy = true
	e := k.tell(v, reason)
	k.mu.Unlock()
	e.State = state
	_, err := k.Append(e)
	k.mu.Lock()
	defer k.mu.Unlock()
	v.busy = false
	if err != nil {
		return fmt.Errorf("writing to the ledger what has become of %s: %w", v.Lease, err)
	}
	k.turn(v, state)
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

// pass lets versions go that nothing uses any more. It needs mu.
func (k *Keeper) pass(now time.Time) {
	_, copies := k.Source.(source.Copier)
	changed := false
	for _, v := range k.versions {
		if v.held != nil {
			k.Uses.count(v.held, now)
		}
		expired := !v.Expires.IsZero() && !now.Before(v.Expires)
		if v.coming || v.busy || !v.Over.IsZero() {
			if expired && v.State == Unproven && !v.busy { // its source was told when it was rotated
				changed = true
				k.become(v, Destroyed, "expired")
			}
			continue
		}
		if v.State == Active && k.Source != nil && !k.inForce(v) && (v.held != nil || now.After(k.born.Add(cached))) {
			k.become(v, Overlapping, "unused")
			changed = true
		}
		switch {
		case expired:
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
	if k.conclude(now) || changed {
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
