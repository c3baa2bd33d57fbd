// Package closing holds what may not be used now, and cuts the streams that use it. Closing takes effect in memory first and
// is written when it can be; opening needs a record that two people signed.
package closing

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/custodian/state"
	"github.com/reevehq/reeve/internal/statement"
)

// The kinds of target, as in statement.Target.
const (
	Workload   = "workload"
	Unit       = "unit"
	Credential = "credential"
	Gateway    = "gateway"
	Key        = "key"
	Everything = "everything"
)

// ErrCut is wrapped by the cause of every context that a closing cancelled.
var ErrCut = errors.New("cut")

// ErrOpen refuses a record that would open what it cannot.
var ErrOpen = errors.New("cannot reopen")

// Closed is one thing that is closed, and why.
type Closed struct {
	Target statement.Target `json:"target"`
	Reason string           `json:"reason"`
	By     string           `json:"by"`   // a person, or what closed it: "admin", "ceiling", "guard"
	Time   time.Time        `json:"time"` // when it was signed or asked for
}

func (c *Closed) Error() string {
	return fmt.Sprintf("%s is closed by %s: %s", name(c.Target), c.By, c.Reason)
}

// Unwrap makes every Closed an ErrCut.
func (c *Closed) Unwrap() error { return ErrCut }

// Change is a closing or an opening that the ledger has to tell of.
type Change struct {
	Closed
	Type entry.Type `json:"type"` // freeze, revoke or unfreeze
}

// Use is one request while it lasts, by everything that can be closed about it.
type Use struct {
	Workload   string
	Units      [2]string // the workload's and the credential's
	Credential string
	Gateway    string
	Key        string                  // hex SHA-256 of the workload's key
	Cut        context.CancelCauseFunc // ends the request's stream
	Of         any                     // the request itself, for the caller of Gate.Cut
}

// targets calls f with everything that the use stands or falls with, until f returns false.
func (u *Use) targets(f func(statement.Target) bool) {
	_ = f(statement.Target{Kind: Everything}) &&
		f(statement.Target{Kind: Credential, ID: u.Credential}) &&
		f(statement.Target{Kind: Workload, ID: u.Workload}) &&
		f(statement.Target{Kind: Key, ID: u.Key}) &&
		f(statement.Target{Kind: Unit, ID: u.Units[0]}) &&
		f(statement.Target{Kind: Unit, ID: u.Units[1]}) &&
		f(statement.Target{Kind: Gateway, ID: u.Gateway})
}

// State is what is closed at one instant. It is immutable.
type State struct {
	// Generation rises with every change.
	Generation int64
	closed     map[statement.Target]*Closed
}

// Of returns what closes the use, or nil.
func (s *State) Of(u *Use) (found *Closed) {
	if len(s.closed) == 0 {
		return nil
	}
	u.targets(func(t statement.Target) bool {
		found = s.closed[t]
		return found == nil
	})
	return found
}

// List returns what is closed, sorted by target.
func (s *State) List() []Closed {
	list := make([]Closed, 0, len(s.closed))
	for _, c := range s.closed {
		list = append(list, *c)
	}
	sort.Slice(list, func(i, j int) bool { return name(list[i].Target) < name(list[j].Target) })
	return list
}

// Gate is the state in force, its file, and the streams that are open. Safe for concurrent use.
type Gate struct {
	state atomic.Pointer[State]
	live  [16]shard
	next  atomic.Uint32 // spreads uses over the shards

	dir    state.Dir
	mu     sync.Mutex      // spans changes of state, and the fields below
	seen   map[string]bool // the records that were taken, by their hash
	owed   []Change        // whose entries are not known to be durable, oldest first
	newest int64           // counts the changes

	saving sync.Mutex // spans writing the file, so that no change waits for the disk
	saved  int64      // the newest change that the file has
}

type shard struct {
	mu   sync.Mutex
	uses map[*Use]struct{}
}

// State returns what is closed now.
func (g *Gate) State() *State { return g.state.Load() }

// Enter registers a use that may be cut, until the function that it returns is called. Enter first and look at State
// after: then a closing either is seen there or finds the use here.
func (g *Gate) Enter(u *Use) (leave func()) {
	s := &g.live[g.next.Add(1)%uint32(len(g.live))]
	s.mu.Lock()
	s.uses[u] = struct{}{}
	s.mu.Unlock()
	return func() {
		s.mu.Lock()
		delete(s.uses, u)
		s.mu.Unlock()
	}
}

// Cut ends every open use for which reason returns an error, with that error as its cause, and returns how many.
func (g *Gate) Cut(reason func(*Use) error) (n int) {
	var uses []*Use
	for i := range g.live {
		g.live[i].mu.Lock()
		uses = slices.AppendSeq(uses, maps.Keys(g.live[i].uses))
		g.live[i].mu.Unlock()
	}
	for _, u := range uses { // without a lock: reason may take its time, and one that has left is cut in vain
		if err := reason(u); err != nil {
			u.Cut(err)
			n++
		}
	}
	return n
}

// Live returns the number of open uses.
func (g *Gate) Live() (n int) {
	for i := range g.live {
		g.live[i].mu.Lock()
		n += len(g.live[i].uses)
		g.live[i].mu.Unlock()
	}
	return n
}

// Close closes the target now and cuts its streams; Flush puts it on disk. It returns false when it was closed already.
func (g *Gate) Close(c Closed) (changed bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if changed = g.close(c); changed {
		g.owed = append(g.owed, Change{c, entry.Freeze})
	}
	return changed
}

// Apply takes a verified revocation record. A record that was taken before changes nothing, whatever happened since: so a
// replayed record opens nothing, and a closing that arrives late still closes. Opening needs a record that was signed after
// the closing that it undoes; otherwise the error is ErrOpen. Flush puts it on disk.
func (g *Gate) Apply(r *statement.Revocation) (changed bool, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	id := hash(r)
	if g.seen[id] {
		return false, nil
	}
	c := Change{Closed{Target: r.Target, Reason: r.Reason, By: r.Signer, Time: r.Time}, entry.Revoke}
	if r.Open {
		c.Type = entry.Unfreeze
		if changed, err = g.open(c.Closed); err != nil {
			return false, err
		}
	} else {
		changed = g.close(c.Closed)
	}
	if changed {
		g.owed = append(g.owed, c)
	}
	g.seen[id] = true
	g.newest++
	return changed, nil
}

// Owed is the oldest change that the ledger does not tell of yet. The state file has it too: a change that was in force before
// a crash is told after it.
func (g *Gate) Owed() (c Change, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.owed) == 0 {
		return c, false
	}
	return g.owed[0], true
}

// Paid forgets the oldest owed change, because its entry is durable; Flush puts that on disk. A crash before that tells of it
// once more.
func (g *Gate) Paid() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.owed = g.owed[1:]
	g.newest++
}

// close needs mu. A second closing of the same target moves its time, so that a record signed between the two cannot open it.
func (g *Gate) close(c Closed) (changed bool) {
	old := g.State()
	was := old.closed[c.Target]
	if was != nil && !c.Time.After(was.Time) {
		return false
	}
	g.store(old, c.Target, &c)
	g.Cut(func(u *Use) error {
		if closed := g.State().Of(u); closed != nil {
			return closed
		}
		return nil
	})
	return was == nil
}

// open needs mu.
func (g *Gate) open(c Closed) (changed bool, err error) {
	old := g.State()
	was := old.closed[c.Target]
	switch {
	case was == nil:
		return false, nil
	case !c.Time.After(was.Time):
		return false, fmt.Errorf("%w: %s was closed at %s, after this record was signed at %s; sign a new one to open it",
			ErrOpen, name(c.Target), was.Time.Format(time.RFC3339), c.Time.Format(time.RFC3339))
	}
	g.store(old, c.Target, nil)
	return true, nil
}

// store publishes the state that follows old, with the target closed or, for nil, open.
func (g *Gate) store(old *State, t statement.Target, c *Closed) {
	next := &State{Generation: old.Generation + 1, closed: make(map[statement.Target]*Closed, len(old.closed)+1)}
	for k, v := range old.closed {
		next.closed[k] = v
	}
	if next.closed[t] = c; c == nil {
		delete(next.closed, t)
	}
	g.state.Store(next)
	g.newest++
}

// hash names a record by all that it says: two records may have the same number by mistake, and both close.
func hash(r *statement.Revocation) string {
	b, err := json.Marshal(r)
	if err != nil {
		panic("closing: encoding a record: " + err.Error()) // strings, numbers and a time: cannot fail
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func name(t statement.Target) string {
	if t.ID == "" {
		return t.Kind
	}
	return t.Kind + " " + t.ID
}
