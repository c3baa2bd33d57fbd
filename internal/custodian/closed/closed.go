// Package closed keeps what is closed at a custodian: in force in memory first, on disk when it can be written, and told to the
// ledger after that. Closing needs one who may; opening needs a record that two people signed.
package closed

import (
	"cmp"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/closing"
	"github.com/reevehq/reeve/internal/custodian/state"
)

// ErrOpen refuses a record that would open what it cannot.
var ErrOpen = errors.New("cannot reopen")

// Change is a closing or an opening that the ledger has to tell of.
type Change struct {
	closing.Closed
	Type    entry.Type `json:"type"`              // freeze, revoke or unfreeze
	Record  string     `json:"record,omitempty"`  // hex, of the signed record's statement.Envelope.ID
	Channel string     `json:"channel,omitempty"` // by which the record came
	Once    string     `json:"once,omitempty"`    // what makes two records the same, where it is not their bytes
}

// Gate is a closing.Gate with its file. Safe for concurrent use.
type Gate struct {
	*closing.Gate

	dir    state.Dir
	mu     sync.Mutex      // spans the rules about changes, and the fields below
	seen   map[string]bool // the records that were taken, by their hash
	owed   []Change        // whose entries are not known to be durable, oldest first
	newest int64           // counts the changes

	saving sync.Mutex // spans writing the file, so that no change waits for the disk
	saved  int64      // the newest change that the file has
}

// Close closes the target now and cuts its streams; Flush puts it on disk. It returns false when it was closed already.
func (g *Gate) Close(c closing.Closed) (changed bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if changed = g.close(c); changed {
		g.owed = append(g.owed, Change{Closed: c, Type: entry.Freeze})
	}
	return changed
}

// Apply takes a change that a verified record asks for: Type is entry.Revoke or entry.Unfreeze. A record that was taken before
// changes nothing, whatever happened since: so a replayed record opens nothing, and a closing that arrives late still closes.
// Opening needs a record that was signed after the closing that it undoes; otherwise the error is ErrOpen. Flush puts it on disk.
func (g *Gate) Apply(c Change) (changed bool, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	id := cmp.Or(c.Once, c.Record) + " " + c.Target.String() // a signal may close several
	if g.seen[id] {
		return false, nil
	}
	if c.Type == entry.Unfreeze {
		if changed, err = g.open(c.Closed); err != nil {
			return false, err
		}
	} else {
		changed = g.close(c.Closed)
	}
	g.owed = append(g.owed, c) // also when it was closed already: who signed it looks for the entry
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
func (g *Gate) close(c closing.Closed) (changed bool) {
	was := g.State().At(c.Target)
	if was != nil && !c.Time.After(was.Time) {
		return false
	}
	g.Gate.Close(c)
	g.newest++
	return was == nil
}

// open needs mu.
func (g *Gate) open(c closing.Closed) (changed bool, err error) {
	was := g.State().At(c.Target)
	switch {
	case was == nil:
		return false, nil
	case !c.Time.After(was.Time):
		return false, fmt.Errorf("%w: %s was closed at %s, after this record was signed at %s; sign a new one to open it",
			ErrOpen, c.Target, was.Time.Format(time.RFC3339), c.Time.Format(time.RFC3339))
	}
	g.Gate.Open(c.Target)
	g.newest++
	return true, nil
}
