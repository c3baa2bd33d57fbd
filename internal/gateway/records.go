package gateway

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/workload"
)

// Records are the workload keys that policy owners registered, and those that were revoked. The custodian has the same from
// its own feed and decides by them; here they keep strangers from the hop. The zero Records knows no key.
type Records struct {
	mu      sync.Mutex // guards what follows
	set     *statement.Set
	keys    []*statement.Envelope
	revoked map[string]*statement.Revocation // the newest for each key, by the beginning of its hash

	now   atomic.Pointer[snapshot]
	stale atomic.Bool // now is older than the records
}

type snapshot struct {
	keys    *workload.Keys
	revoked map[string]bool
}

// Use verifies the records by a new set from now on: keys that it does not allow end.
func (r *Records) Use(set *statement.Set) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.set = set
	r.stale.Store(true)
}

// Take takes a record that the feed has verified. Kinds that say nothing about keys are passed over.
func (r *Records) Take(kind string, env *statement.Envelope) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch kind {
	case "workload-key":
		r.keys = append(r.keys, env)
	case "revocation":
		v, err := r.set.OpenRevocation(env, time.Now())
		if err != nil {
			return err
		}
		id := keyID(v.Target.ID)
		if last := r.revoked[id]; v.Target.Kind != "key" || last != nil && last.Time.After(v.Time) {
			return nil
		}
		if r.revoked == nil {
			r.revoked = map[string]*statement.Revocation{}
		}
		r.revoked[id] = v
	}
	r.stale.Store(true)
	return nil
}

// keyID is the beginning of a key's hash, as workload.Identity.KeyID has it.
func keyID(sha256 string) string { return sha256[:min(16, len(sha256))] }

// Verify returns who presents the proof.
func (r *Records) Verify(p workload.Proof, now time.Time) (workload.Identity, error) {
	if r.stale.Load() {
		r.refresh(now)
	}
	s := r.now.Load()
	if s == nil {
		return workload.Identity{}, workload.ErrUnknown
	}
	who, err := s.keys.Verify(p, now)
	if err == nil && s.revoked[who.KeyID] {
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
	records := make([]*statement.WorkloadKey, 0, len(r.keys))
	for _, env := range r.keys {
		if k, err := r.set.OpenWorkloadKey(env, now); err == nil {
			records = append(records, k)
		}
	}
	s := &snapshot{keys: workload.NewKeys(r.set, records), revoked: map[string]bool{}}
	for id, v := range r.revoked {
		s.revoked[id] = !v.Open
	}
	r.now.Store(s)
	r.stale.Store(false) // last: until here whoever asks waits for it
}
