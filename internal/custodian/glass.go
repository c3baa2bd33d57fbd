package custodian

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/closing"
	"github.com/reevehq/reeve/internal/custodian/glass"
	"github.com/reevehq/reeve/internal/seal"
	"github.com/reevehq/reeve/internal/statement"
)

// glassReason is the reason of a use that policy does not permit and a break-glass does.
const glassReason = "break_glass"

// broken is the break-glass that waives what for the use at now, or nil. Its record is added to rests, where there is one.
func (c *Custodian) broken(u *use, what string, now time.Time, rests *[]string) *glass.Case {
	k := c.Glass.Waives(what, u.Workload, u.Credential, now)
	if k != nil && rests != nil {
		*rests = append(*rests, k.Record)
	}
	return k
}

// breakGlass puts a break-glass in force: its entry is durable first. One that is known, over or of another custodian's credential
// changes nothing.
func (c *Custodian) breakGlass(v *view, r *statement.Record) error {
	b, by, err := v.set.OpenBreakGlass(r.Envelope, c.Clock())
	if err != nil {
		return err
	}
	if c.Glass.Find(r.SHA256) != nil || !v.set.Serves(c.ID, b.Credential) || !c.Clock().Before(b.Until) {
		return nil
	}
	k := &glass.Case{BreakGlass: *b, Record: r.SHA256, Signers: by}
	_, unit, _ := v.set.Credential(b.Credential) // OpenBreakGlass has found it
	held := c.Secrets.Of(unit, b.Credential)
	if b.Recovers() && held == nil {
		return fmt.Errorf("this custodian holds no secret of %s that could be recovered", b.Credential)
	}
	word := "open"
	if b.Recovers() {
		word = "recover"
	}
	d, err := c.Ledger.Append(c.glassEntry(k, word, b.Reason, by, r), nil)
	if err != nil {
		return fmt.Errorf("writing the break-glass to the ledger, without which it does not begin: %w", err)
	}
	// What closes did not wait for that: who was closed meanwhile breaks no glass.
	if _, _, err := c.view.Load().set.OpenBreakGlass(r.Envelope, c.Clock()); err != nil {
		return err
	}
	if b.Recovers() {
		value, err := held.Fetch(d)
		if err != nil {
			return err
		}
		to, ok := v.set.Person(b.Recipient)
		if !ok {
			return errors.New("the recipient is not in the charter") // OpenBreakGlass has seen him
		}
		ciphertext, err := seal.Encrypt(value.Reveal(), to.Recipient)
		if err != nil {
			return fmt.Errorf("encrypting the secret of %s to %s: %w", b.Credential, to.ID, err)
		}
		k.Recovered, k.Ended = &glass.Secret{Version: held.Version, Ciphertext: ciphertext}, true
	}
	if err := c.Glass.Begin(k); err != nil {
		return err
	}
	c.Log.Warn("break-glass", "act", word, "credential", b.Credential, "workload", b.Workload, "waives", b.Waive, "until", b.Until, "by", by, "reason", b.Reason)
	for _, p := range v.set.Owners(b.Credential, c.Clock()) { // one entry for each who has to know
		c.alarm(c.glassEntry(k, "", "", []string{p.ID}, r), "break_glass_"+word)
	}
	n := Notice{Event: "break_glass", Record: k.Record, Credential: k.Credential, Workload: k.Workload, Waive: k.Waive, Recipient: k.Recipient, Signers: k.Signers, Reason: k.Reason, Until: k.Until}
	if k.Recovers() {
		n.Event = "recovery"
	}
	c.Notify(n, v.set.Owners(b.Credential, c.Clock()))
	return nil
}

// glassEntry is an entry about a case.
func (c *Custodian) glassEntry(k *glass.Case, word, text string, by []string, r *statement.Record) *entry.Entry {
	e := (&use{view: c.view.Load(), age: c.News()}).entry(entry.BreakGlass)
	e.Credential, e.Workload, e.Actor, e.Policies, e.Record = k.Credential, k.Workload, by, k.Waive, k.Record
	if e.Reason = word; text != "" {
		e.Reason += ": " + clip(text, maxName)
	}
	if r != nil {
		e.Proof = r.Channel
	}
	c.settle(e)
	if word == "" {
		e.Type = entry.Alarm
	}
	return e
}

// review closes a case.
func (c *Custodian) review(v *view, r *statement.Record) error {
	rev, by, err := v.set.OpenReview(r.Envelope, c.Clock())
	if err != nil {
		return err
	}
	k, err := c.Glass.Reviewed(rev, r.SHA256, by)
	if errors.Is(err, glass.ErrUnknown) {
		return nil // another custodian's
	}
	if err != nil {
		return err
	}
	if old := c.Glass.Find(k.Record); old.Review != nil {
		return nil
	}
	e := c.glassEntry(k, "reviewed", rev.Finding, by, r)
	e.Record = r.SHA256
	if _, err := c.Ledger.Append(e, nil); err != nil {
		return fmt.Errorf("writing the review to the ledger: %w", err)
	}
	if err := c.Glass.Put(k); err != nil {
		c.Log.Error("break-glass review", "error", err)
	}
	return nil
}

// Expire ends what a break-glass opened when its time is over, closes a credential whose secret was recovered and not rotated in
// time, and cuts every use for which the news of revocations is older than its class bears. It is called every now and then.
func (c *Custodian) Expire() {
	now := c.Clock()
	defer c.Gate.Cut(func(u *closing.Use) error {
		if no := c.fresh(u.Of.(*use), c.News(), now, nil); no != nil {
			return fmt.Errorf("%w: the news of revocations is too old for this use to go on (%s)", closing.ErrCut, no.word())
		}
		return nil
	})
	for _, k := range c.Glass.List() {
		next := *k
		switch s := k.Recovered; {
		case !k.Ended && !now.Before(k.Until):
			next.Ended = true
			c.keep(&next)
			c.Gate.Cut(func(u *closing.Use) error {
				if !slices.Contains(u.Of.(*use).waivers, k.Record) {
					return nil
				}
				return fmt.Errorf("%w: the break-glass that permitted this use is over", closing.ErrCut)
			})
			c.note(c.glassEntry(k, "ended", "", k.Signers, nil))
		case s == nil || s.Rotated:
		case c.rotated(k):
			c.recovered(&next)
		case now.After(k.Created.Add(glass.Rotation)):
			c.Close(closing.Closed{Target: statement.Target{Kind: closing.Credential, ID: k.Credential},
				Reason: "its secret was recovered by break-glass and not rotated within a day", By: "break-glass", Time: now})
			c.recovered(&next)
		}
	}
}

// rotated reports whether a newer secret than the one recovered is held.
func (c *Custodian) rotated(k *glass.Case) bool {
	held := c.Secrets.Get(k.Credential)
	return held != nil && held.Version > k.Recovered.Version
}

// recovered marks that nothing is due any more for a recovered secret, and forgets its ciphertext.
func (c *Custodian) recovered(k *glass.Case) {
	s := *k.Recovered
	s.Rotated, s.Ciphertext, k.Recovered = true, nil, &s
	c.keep(k)
}

func (c *Custodian) keep(k *glass.Case) {
	if err := c.Glass.Put(k); err != nil {
		c.Log.Error("break-glass", "error", err)
	}
}

// Unreviewed is how many break-glasses wait for their review, and the age of the oldest.
func (c *Custodian) Unreviewed() (n int, oldest time.Duration) {
	for _, k := range c.Glass.List() {
		if k.Review == nil {
			n++
			oldest = max(oldest, c.Clock().Sub(k.Created))
		}
	}
	return n, oldest
}
