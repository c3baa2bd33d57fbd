package gateway

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/closing"
	"github.com/reevehq/reeve/internal/pop"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/workload"
	"github.com/reevehq/reeve/internal/workload/jwks"
)

// Records are the workload keys that policy owners registered, and what was revoked. The custodian has the same from its own
// feed and decides by them; here they keep strangers from the hop, and end streams should the custodian not.
type Records struct {
	Gate *closing.Gate // what is closed

	mu      sync.Mutex // guards what follows
	set     *statement.Set
	tokens  *workload.Tokens
	keys    []*statement.Envelope
	newest  map[statement.Target]*statement.Revocation
	changes []change // that the ledger has not been told

	issuers func(issuer, kid string) *jwks.Set // published keys, or nil

	now   atomic.Pointer[workload.Verifier]
	stale atomic.Bool // now is older than the records
}

// change is a revocation that changed what is closed.
type change struct {
	*statement.Revocation
	record, channel string
}

// NewRecords returns Records that know no key and close nothing. issuers returns the published keys of an issuer of the charter.
func NewRecords(issuers func(issuer, kid string) *jwks.Set) *Records {
	return &Records{issuers: issuers, Gate: closing.NewGate(closing.NewState(0, nil)), newest: map[statement.Target]*statement.Revocation{}}
}

// Use verifies proofs and records by a new set from now on: keys and tokens that it does not allow end.
func (r *Records) Use(set *statement.Set) error {
	tokens, err := workload.NewTokens(set, r.issuers, nil) // the custodian opens what the authority sealed
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.set, r.tokens = set, tokens
	r.stale.Store(true)
	return nil
}

// Take takes a record that the feed has verified. Kinds that say nothing here are passed over.
func (r *Records) Take(from *statement.Record) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch from.Kind {
	case "workload-key":
		r.keys = append(r.keys, from.Envelope)
		r.stale.Store(true)
	case "revocation":
		v, err := r.set.Revocation(from, time.Now())
		if err != nil {
			return err
		}
		r.apply(change{v, from.SHA256, from.Channel})
	case "signal", "scim":
		s, err := r.set.OpenSignal(from.Envelope, time.Now())
		if err != nil {
			return err
		}
		for _, t := range s.Targets {
			r.apply(change{&statement.Revocation{Signer: "signal:" + s.Signal, Target: t, Reason: s.Reason, Time: s.Time}, from.SHA256, from.Channel})
		}
	}
	return nil
}

// apply lets the newest record about a target hold, and of two that were signed at one time the closing: nothing is remembered
// over a restart, after which records come in any order. Callers hold mu.
func (r *Records) apply(c change) {
	last := r.newest[c.Target]
	if last != nil && (last.Time.After(c.Time) || last.Time.Equal(c.Time) && c.Open) {
		return
	}
	r.newest[c.Target] = c.Revocation
	if c.Open {
		r.Gate.Open(c.Target)
	} else {
		r.Gate.Close(closing.Closed{Target: c.Target, Reason: c.Reason, By: c.Signer, Time: c.Time})
	}
	if c.channel != "kept" { // told by the run that took it
		r.changes = append(r.changes, c)
	}
	r.stale.Store(r.stale.Load() || c.Target.Kind == closing.Person)
}

// flush writes what was closed and opened here to the gateway's own ledger.
func (r *Records) flush(l Ledger) (err error) {
	r.mu.Lock()
	changes := r.changes
	r.changes = nil
	r.mu.Unlock()
	for _, c := range changes {
		e := &entry.Entry{Type: entry.Revoke, Actor: []string{c.Signer, c.Target.String()}, Reason: c.Reason[:min(len(c.Reason), 128)], Record: c.record, Proof: c.channel}
		if c.Open {
			e.Type = entry.Unfreeze
		}
		err = errors.Join(err, l.Enqueue(e, !c.Open))
	}
	return err
}

// Verify returns who presents the proof.
func (r *Records) Verify(p workload.Proof, request *pop.Request, now time.Time) (workload.Identity, error) {
	if r.stale.Load() {
		r.refresh(now)
	}
	verifier := r.now.Load()
	if verifier == nil {
		return workload.Identity{}, workload.ErrUnknown
	}
	who, err := verifier.Verify(p, request, now)
	if err == nil && r.Gate.State().At(statement.Target{Kind: closing.Key, ID: who.SHA256}) != nil {
		return workload.Identity{}, workload.ErrRevoked
	}
	return who, err
}

// refresh makes the snapshot anew. It is made when it is next needed, so that many records that come at once cost one.
func (r *Records) refresh(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.set == nil || !r.stale.Load() {
		return
	}
	set := r.set.Without(r.Gate.State().People()...)
	records := make([]*statement.WorkloadKey, 0, len(r.keys))
	for _, env := range r.keys {
		if k, err := set.OpenWorkloadKey(env, now); err == nil {
			records = append(records, k)
		}
	}
	r.now.Store(&workload.Verifier{Keys: workload.NewKeys(set, records), Tokens: r.tokens, HeadOnly: true})
	r.stale.Store(false) // last: until here whoever asks waits for it
}
