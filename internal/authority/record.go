package authority

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/authority/store"
	"github.com/reevehq/reeve/internal/feed"
	"github.com/reevehq/reeve/internal/statement"
)

var (
	// ErrNoSet is returned while there is no verified set to judge a record by.
	ErrNoSet = errors.New("the authority has no verified statement set yet; see its /readyz")
	// ErrOther is returned for a handover whose version was handed over before with other content.
	ErrOther = errors.New("this version was handed over before with other content; give the secret the next version")
)

// Take verifies a record that came by channel ("post"), keeps it, writes its ledger entry and publishes it. It returns the
// entry's receipt, empty when the record was published before or, for what closes, when the ledger failed or the record was
// left to the authority that holds the lease.
func (a *Authority) Take(frame *feed.Frame, channel string) (receipt string, err error) {
	a.admit.Lock()
	defer a.admit.Unlock()
	r, err := a.take(frame, channel)
	if err != nil {
		a.count.refused.Inc()
		return "", err
	}
	return r.receipt, nil
}

// take is Take for who holds admit.
func (a *Authority) take(frame *feed.Frame, channel string) (*record, error) {
	env, kind, err := feed.ParseRecord(frame.Record)
	if err != nil {
		return nil, err
	}
	sum, set := env.ID(), a.Set()
	if r := a.published(sum); r != nil {
		return r, nil
	}
	if set == nil {
		return nil, ErrNoSet
	}
	if kind == "evidence" && a.entered[sum] { // all that there is to do with it
		return new(record), nil
	}
	if channel != "folder" {
		if err := set.Admit(env); err != nil {
			return nil, err
		}
	}
	v, custodian, err := feed.Open(set, &statement.Record{Kind: kind, Envelope: env, Channel: channel}, a.clock(), a.gone()...)
	if err != nil {
		return nil, err
	}
	if feed.Over(env, kind, a.clock()) { // it opens nothing; what was published of it stays in the ledger
		if channel != "folder" {
			return nil, fmt.Errorf("the key's time is over; issue another: %w", statement.ErrRefused)
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		a.records[sum] = new(record)
		return a.records[sum], nil
	}
	r := &record{line: frame.Encode()}
	if kind == "revocation" {
		r.closing = env
	}
	if h, ok := v.(*statement.Handover); ok {
		if sealed := sha256.Sum256(frame.Sealed); hex.EncodeToString(sealed[:]) != h.SHA256 {
			return nil, fmt.Errorf("%w: the ciphertext is not the one that was handed over", feed.ErrFrame)
		}
		r.custodian, r.path, r.sealed, r.of = custodian, feed.SealedPath(h), h.SHA256, h
	}
	e := describe(set, v)
	closing, evidence := e.Type == entry.Revoke, e.Type == entry.Attest
	if !closing && !evidence && a.Status().Records >= feed.MaxRecords {
		return nil, fmt.Errorf("the estate has %d records, which is the limit for what closes nothing: %w", feed.MaxRecords, feed.ErrFrame)
	}
	if channel != "folder" && !evidence {
		left, err := a.keep(r, frame, sum, closing)
		if err != nil {
			return nil, err
		}
		if left {
			return new(record), nil
		}
	}
	e.Estate, e.Proof = hex.EncodeToString(set.LockHash[:]), channel
	e.Record = hex.EncodeToString(sum[:])
	if !evidence {
		e.Reason = kind + " sha256:" + e.Record
	}
	e.Actor = signers(&set.Charter, env)
	if r, ok := v.(*statement.Revocation); ok && len(e.Actor) == 0 { // an authority that closes a token
		e.Actor = []string{r.Signer}
	}
	if a.epoch() == 0 && !a.entered[sum] { // its holder enters it
		return nil, ErrStandby
	}
	if r.receipt, err = a.enter(sum, e, frame.Record, closing); err != nil {
		return nil, err
	}
	a.mu.Lock()
	a.records[sum] = r
	var over []id
	if evidence { // it is for the ledger, and published to nobody
		r.line = nil
	} else if r.custodian == "" {
		a.sums.Add(sha256.Sum256(frame.Record))
	} else {
		a.handed[r.path] = r.sealed
		over = a.supersede(sum, r.of)
	}
	a.judgeBy(env, v)
	if r.line != nil {
		a.broadcast(r.line, r.custodian)
	}
	a.count.published.Inc()
	a.mu.Unlock()
	if closing {
		clear(a.refused) // who acts for a person who left may have signed some of them
	}
	for _, sum := range over {
		a.forget(sum)
	}
	return r, nil
}

// supersede ends the older of two versions of a handover. Their custodian refuses it, and nobody else can open it. Callers hold mu.
func (a *Authority) supersede(sum id, h *statement.Handover) (over []id) {
	to := h.Credential + " " + h.Custodian
	last := a.latest[to]
	if old := a.records[last]; old == nil || old.of.Version <= h.Version {
		a.latest[to] = sum
	} else {
		last = sum
	}
	if r := a.records[last]; r != nil && last != a.latest[to] {
		r.line, over = nil, append(over, last)
	}
	return over
}

// forget takes the body of a record that is over out of the journal. What was entered stays entered, in a later line: no number is given again.
func (a *Authority) forget(sum id) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	epoch := a.epoch()
	if epoch == 0 {
		return // the holder's to do
	}
	if err := a.store.Forget(ctx, epoch, sum); err != nil {
		a.log.Warn("a handover that is over stays in the database until the next start", "error", err)
	}
}

func (a *Authority) published(sum id) *record {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.records[sum]
}

// keep writes a record that came by POST to the journal, so that a restart and every other authority has it. It reports
// whether the record is left to the authority that holds the lease, which is the way of a closing that comes to another one.
func (a *Authority) keep(r *record, frame *feed.Frame, sum id, closing bool) (left bool, err error) {
	a.mu.Lock()
	old, epoch := a.handed[r.path], a.lease.Epoch
	a.mu.Unlock()
	switch {
	case old != "" && old != r.sealed:
		return false, ErrOther
	case epoch == 0 && !closing:
		return false, ErrStandby
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err = a.store.Append(ctx, epoch, store.Line{Kind: store.Received, ID: sum, Body: frame.Encode()})
	if errors.Is(err, store.ErrLost) && closing {
		err, epoch = a.store.Append(ctx, 0, store.Line{Kind: store.Received, ID: sum, Body: frame.Encode()}), 0
	}
	switch {
	case err == nil:
		return epoch == 0, nil
	case closing && epoch != 0: // closing does not wait for a disk
		a.log.Error("a revocation is published; until the database has it, no other authority does", "error", err)
		a.unkept = append(a.unkept, store.Line{Kind: store.Received, ID: sum, Body: frame.Encode()})
		return false, nil
	}
	return false, fmt.Errorf("keeping the record: %w", err)
}

// keepAgain writes to the journal what it could not take while the database was away: the closings that were published, and what was entered.
func (a *Authority) keepAgain() {
	for len(a.unkept) > 0 {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		err := a.store.Append(ctx, 0, a.unkept[0])
		cancel()
		if err != nil {
			return
		}
		a.unkept = a.unkept[1:]
	}
}

// describe is the ledger entry of a record: what it is about, in the words of the estate.
func describe(set *statement.Set, v any) *entry.Entry {
	e := new(entry.Entry)
	var unit *statement.Unit
	switch v := v.(type) {
	case *statement.Revocation:
		if e.Type = entry.Revoke; v.Open {
			e.Type = entry.Unfreeze
		}
		switch v.Target.Kind {
		case "workload":
			e.Workload = v.Target.ID
			_, unit, _ = set.Workload(v.Target.ID)
		case "credential":
			e.Credential = v.Target.ID
			_, unit, _ = set.Credential(v.Target.ID)
		case "gateway":
			e.Gateway = v.Target.ID
		case "unit":
			if i := slices.IndexFunc(set.Charter.Units, func(u statement.Unit) bool { return u.ID == v.Target.ID }); i >= 0 {
				unit = &set.Charter.Units[i]
			}
		}
	case *statement.WorkloadKey:
		e.Type, e.Workload = entry.Issue, v.Workload
		_, unit, _ = set.Workload(v.Workload)
	case *statement.Handover:
		e.Type, e.Credential, e.Lease = entry.Publish, v.Credential, fmt.Sprint(v.Version)
		_, unit, _ = set.Credential(v.Credential)
	case *statement.Closing:
		e.Type = entry.Revoke
	case *statement.BreakGlass:
		e.Type, e.Credential, e.Workload = entry.BreakGlass, v.Credential, v.Workload
		_, unit, _ = set.Credential(v.Credential)
	case *statement.Review:
		e.Type = entry.BreakGlass
	case *statement.Evidence:
		e.Type, e.Reason = entry.Attest, v.Kind
	case *statement.Extension:
		e.Type = entry.BreakGlass
	default:
		e.Type = entry.Publish
	}
	if unit != nil {
		e.Unit, e.Tenant = unit.ID, unit.Tenant
	}
	return e
}

// signers names the people whose signatures on the record hold, sorted. Who else is named in it counts for nothing.
func signers(c *statement.Charter, env *statement.Envelope) []string {
	var people []string
	for _, a := range c.Approvals(env.PayloadType, env.Payload, env.Signatures) {
		people = append(people, a.Person)
	}
	slices.Sort(people)
	return slices.Compact(people)
}
