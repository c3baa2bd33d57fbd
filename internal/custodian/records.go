package custodian

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/closing"
	"github.com/reevehq/reeve/internal/custodian/closed"
	"github.com/reevehq/reeve/internal/custodian/lifecycle"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/workload"
)

// The bounds that an extension lengthens.
const (
	witnessFuse = "witness"
	feedBound   = "feed"
)

// extensions are the bounds that two owners lengthened, until when.
type extensions struct {
	mu    sync.Mutex
	until map[string]time.Time
}

func (x *extensions) holds(what string, now time.Time) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return now.Before(x.until[what])
}

// Extended is until when the witness fuse and the feed bound are lengthened.
func (c *Custodian) Extended() map[string]time.Time {
	c.extra.mu.Lock()
	defer c.extra.mu.Unlock()
	return maps.Clone(c.extra.until)
}

// Adopt puts a set in force. It is in force for new uses first, then every open use is decided again and cut when it is not
// allowed any more.
func (c *Custodian) Adopt(set *statement.Set) error {
	c.changing.Lock()
	defer c.changing.Unlock()
	old := c.view.Load()
	v, err := c.compile(set, old)
	if err != nil {
		return err
	}
	n := c.use(v)
	c.end(v)
	if old == nil {
		return nil
	}
	for id, cr := range old.credentials {
		if next := v.credentials[id]; next == nil || next.link != cr.link {
			c.redial(cr, Connections.Retire)
		}
		if next := v.credentials[id]; cr.keeper != nil && (next == nil || next.keeper != cr.keeper) {
			go cr.keeper.Close()
		}
	}
	c.Log.Info("set in force", "lock", set.Lock.Version, "cut", n)
	return nil
}

// use puts a view in force, with its set read as if the people who are closed had left, and cuts the uses that it does not allow
// any more. It returns how many. Callers hold changing.
func (c *Custodian) use(v *view) int {
	v.set = v.signed.Without(c.Gate.State().People()...)
	v.who = &workload.Verifier{Keys: c.keys(v.set), Tokens: v.tokens}
	c.newKeys = false
	c.view.Store(v)
	return c.Gate.Cut(func(u *closing.Use) error {
		use := u.Of.(*use)
		if use.view.set == v.set {
			return nil
		}
		if no := c.again(use, v); no != nil {
			return fmt.Errorf("%w: the statements in force do not allow this use any more (%s)", closing.ErrCut, no.word())
		}
		return nil
	})
}

// reread puts the set in force once more, because a person was closed or opened.
func (c *Custodian) reread() {
	c.changing.Lock()
	defer c.changing.Unlock()
	if old := c.view.Load(); old != nil {
		v := *old
		c.use(&v)
	}
}

// keys opens every workload key record with the set, and drops those that are over. One whose signer the set no longer knows is left out.
func (c *Custodian) keys(set *statement.Set) *workload.Keys {
	records := make([]*statement.WorkloadKey, 0, len(c.keyRecords))
	now := c.Clock()
	c.keyRecords = slices.DeleteFunc(c.keyRecords, func(env *statement.Envelope) bool {
		r, err := set.OpenWorkloadKey(env, now)
		if err != nil {
			return false
		}
		records = append(records, r)
		return now.After(r.NotAfter)
	})
	return workload.NewKeys(set, records)
}

// Rekey makes the workload keys that came since the last time known.
func (c *Custodian) Rekey() {
	c.changing.Lock()
	defer c.changing.Unlock()
	if old := c.view.Load(); old != nil && c.newKeys {
		v := *old
		v.who = &workload.Verifier{Keys: c.keys(v.set), Tokens: v.tokens}
		c.view.Store(&v)
		c.newKeys = false
	}
}

// Take takes a record that the follower verified.
func (c *Custodian) Take(r *statement.Record) error {
	v := c.view.Load()
	if v == nil {
		return errors.New("there is no set yet")
	}
	switch r.Kind {
	case "revocation":
		return c.revoke(v, r)
	case "workload-key":
		c.changing.Lock()
		defer c.changing.Unlock()
		c.keyRecords, c.newKeys = append(c.keyRecords, r.Envelope), true
	case "signal", "scim":
		return c.signal(v, r)
	case "break-glass":
		return c.breakGlass(v, r)
	case "break-glass-review":
		return c.review(v, r)
	case "extension":
		x, err := v.set.OpenExtension(r.Envelope, c.ID, c.Clock())
		if err != nil {
			return err
		}
		return c.extend(x, r)
	case "recovery": // public in this ledger too
		c.Alarm("recovery_announced")
	}
	return nil
}

// revoke closes or opens what a record says. Who is closed himself may still close what is his: that a closing is withheld until
// its signer is closed must not undo it. He opens nothing.
func (c *Custodian) revoke(v *view, from *statement.Record) error {
	r, err := v.signed.Revocation(from, c.Clock())
	if err == nil && r.Open {
		r, err = v.set.OpenRevocation(from.Envelope, c.Clock())
	}
	if err != nil {
		return err
	}
	change := closed.Change{
		Closed: closing.Closed{Target: r.Target, Reason: r.Reason, By: r.Signer, Time: r.Time}, Type: entry.Revoke, Record: from.SHA256, Channel: from.Channel,
	}
	if r.Open {
		change.Type = entry.Unfreeze
	}
	err = c.apply(change)
	if r.End && err == nil { // frozen by now
		c.ends.mu.Lock()
		if r.Time.After(c.ends.last[r.Target.ID].asked) {
			if c.ends.last == nil {
				c.ends.last = map[string]ended{}
			}
			c.ends.last[r.Target.ID] = ended{from.SHA256, r.Time}
		}
		c.ends.mu.Unlock()
		c.end(c.view.Load())
	}
	return err
}

// ends are the newest records that end a credential's secrets, by its id.
type ends struct {
	mu   sync.Mutex
	last map[string]ended
}

type ended struct {
	record string
	asked  time.Time
}

// end has the keepers of a view hear of them. One that came just now, or whose credential could not be used before, does not know all.
func (c *Custodian) end(v *view) {
	c.ends.mu.Lock()
	last := maps.Clone(c.ends.last)
	c.ends.mu.Unlock()
	for id, e := range last {
		if cr := v.credentials[id]; cr != nil && cr.keeper != nil {
			cr.keeper.End(e.record, e.asked)
		}
	}
}

// signal closes what a provider of the charter says. It opens nothing.
func (c *Custodian) signal(v *view, from *statement.Record) error {
	s, err := v.signed.OpenSignal(from.Envelope, c.Clock())
	if err != nil {
		return err
	}
	for _, t := range s.Targets {
		change := closed.Change{Closed: closing.Closed{Target: t, Reason: s.Reason, By: "signal:" + s.Signal, Time: s.Time}, Type: entry.Revoke,
			Record: from.SHA256, Channel: from.Channel, Once: s.Once}
		err = errors.Join(err, c.apply(change))
	}
	return err
}

// apply closes or opens what a record asks for.
func (c *Custodian) apply(change closed.Change) error {
	changed, err := c.Gate.Apply(change)
	if err != nil {
		return err
	}
	if changed {
		c.changed(change.Target, change.Type != entry.Unfreeze)
		c.Log.Warn("record", "type", change.Type, "target", change.Target.Kind, "id", change.Target.ID, "by", change.By, "reason", change.Reason, "channel", change.Channel)
	}
	go c.Tell() // ends at once when there is nothing to tell
	c.saveSoon()
	return nil
}

// changed does what the gate leaves to do.
func (c *Custodian) changed(t statement.Target, closes bool) {
	if t.Kind == closing.Person {
		c.reread()
	}
	if closes {
		c.hangUp(t)
	}
}

// Close closes a target now. An error means that it is in force but not on disk yet.
func (c *Custodian) Close(cl closing.Closed) (changed bool, err error) {
	if changed = c.Gate.Close(cl); changed {
		c.changed(cl.Target, true)
		c.Log.Warn("freeze", "target", cl.Target.Kind, "id", cl.Target.ID, "by", cl.By, "reason", cl.Reason)
		go c.Tell()
	}
	return changed, c.save()
}

// saveSoon saves without anybody waiting: a disk that hangs holds up no closing that comes after.
func (c *Custodian) saveSoon() {
	if c.unsaved.Add(1) > 1 {
		return // whoever saves now saves once more
	}
	go func() {
		for {
			n := c.unsaved.Load()
			c.save()
			if c.unsaved.CompareAndSwap(n, 0) {
				return
			}
		}
	}()
}

// save puts on disk what is closed. It comes last: nothing that closes waits for it.
func (c *Custodian) save() error {
	err := c.Gate.Flush()
	if err != nil {
		c.Log.Error("a closing is in force and not on disk", "error", err)
	}
	return err
}

// hangUp closes the connections of every credential that a target stands for. The streams were cut by the gate.
func (c *Custodian) hangUp(t statement.Target) {
	v := c.view.Load()
	if v == nil {
		return
	}
	for _, cr := range v.credentials {
		if t == (statement.Target{Kind: closing.Everything}) || t == (statement.Target{Kind: closing.Credential, ID: cr.ID}) ||
			t == (statement.Target{Kind: closing.Unit, ID: cr.unit.ID}) || t == (statement.Target{Kind: closing.Tenant, ID: cr.unit.Tenant}) {
			c.redial(cr, Connections.Close)
		}
	}
}

// Tell writes the entries of closings and openings that the ledger does not have yet, oldest first. Nothing waits for it: they
// are in force. What it cannot write now is written by a later call, after a restart too.
func (c *Custodian) Tell() {
	if !c.told.TryLock() {
		return
	}
	defer c.told.Unlock()
	for {
		change, ok := c.Gate.Owed()
		if !ok {
			return
		}
		if err := c.tell(&change); err != nil {
			c.Log.Error("a closing is in force and not in the ledger yet", "type", change.Type, "target", change.Target, "error", err)
			return
		}
		c.Gate.Paid()
		c.save()
	}
}

func (c *Custodian) tell(cl *closed.Change) error {
	e := (&use{view: c.view.Load(), age: c.News()}).entry(cl.Type)
	e.Actor, e.Reason, e.Record, e.Proof = []string{cl.By}, clip(cl.Reason, maxName), cl.Record, cl.Channel
	switch id := cl.Target.ID; cl.Target.Kind {
	case closing.Workload:
		e.Workload = id
	case closing.Unit:
		e.Unit = id
	case closing.Credential:
		e.Credential = id
		c.mark(e, cl.Type != entry.Unfreeze)
	case closing.Gateway:
		e.Gateway = id
	case closing.Tenant:
		e.Tenant = id
	case closing.Key:
		e.Actor = append(e.Actor, "key:"+clip(id, 16))
	case closing.Agent, closing.Person, closing.Token:
		e.Actor = append(e.Actor, cl.Target.Kind+":"+clip(id, 64))
	case closing.Everything:
		e.Reason = "everything: " + e.Reason
	}
	c.settle(e)
	_, err := c.Ledger.AppendClosing(e)
	return err
}

// settle puts an entry about a unit, a workload or a credential into its tenant's sequence.
func (c *Custodian) settle(e *entry.Entry) {
	set := c.Set()
	if set == nil {
		return
	}
	if _, unit, ok := set.Credential(e.Credential); ok {
		e.Unit = unit.ID
	} else if _, unit, ok := set.Workload(e.Workload); ok {
		e.Unit = unit.ID
	}
	for _, unit := range set.Charter.Units {
		if unit.ID == e.Unit {
			e.Tenant = unit.Tenant
		}
	}
}

// extend lengthens a bound. Its entry is durable first: it is the first of the period.
func (c *Custodian) extend(x *statement.Extension, r *statement.Record) error {
	if !c.Clock().Before(x.Until) {
		return nil // read again after a restart
	}
	e := (&use{view: c.view.Load(), age: c.News()}).entry(entry.BreakGlass)
	e.Actor, e.Reason, e.Record, e.Proof = signers(c.Set(), r.Envelope), "extend_"+x.What, r.SHA256, r.Channel
	if _, err := c.Ledger.Append(e, nil); err != nil {
		return fmt.Errorf("writing the extension to the ledger: %w", err)
	}
	c.extra.mu.Lock()
	defer c.extra.mu.Unlock()
	if c.extra.until == nil {
		c.extra.until = map[string]time.Time{}
	}
	if x.Until.After(c.extra.until[x.What]) {
		c.extra.until[x.What] = x.Until
	}
	c.Log.Warn("a bound is extended", "what", x.What, "until", x.Until, "reason", x.Reason)
	return nil
}

// Receive takes a handover with its ciphertext. The connections that carried the version before end with their requests.
func (c *Custodian) Receive(env *statement.Envelope, ciphertext []byte) error {
	v := c.view.Load()
	if v == nil {
		return errors.New("there is no set yet")
	}
	held, err := c.Secrets.Accept(v.set, env, ciphertext, c.Clock())
	if held == nil || err != nil {
		return err
	}
	c.Log.Info("secret received", "credential", held.Credential, "version", held.Version, "fingerprint", held.Fingerprint)
	e := (&use{view: v, age: c.News()}).entry(entry.Publish)
	e.Credential, e.CredFP, e.Lease, e.Actor, e.Reason = held.Credential, held.Fingerprint, held.Lease, signers(v.set, env), "handover"
	if cr := v.credentials[held.Credential]; cr != nil && cr.keeper != nil {
		if cr.Source == "sealed" {
			if err := cr.keeper.Put(held); err != nil {
				return err
			}
			e.State = lifecycle.Active
			c.redial(cr, Connections.Retire)
		} else {
			cr.keeper.Renew()
		}
	}
	c.settle(e)
	c.note(e)
	return nil
}

// signers are the ids of the keys whose signatures on a record hold. Who else is named in it did not sign.
func signers(set *statement.Set, env *statement.Envelope) (ids []string) {
	for _, a := range set.Charter.Approvals(env.PayloadType, env.Payload, env.Signatures) {
		ids = append(ids, a.KeyID)
	}
	return ids
}
