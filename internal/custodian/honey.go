package custodian

import (
	"sync"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/closing"
	"github.com/reevehq/reeve/internal/statement"
)

// Notice is what people are told at the URLs that the charter has for them.
type Notice struct {
	Event      string    `json:"event"` // break_glass, recovery or honey
	Record     string    `json:"record,omitempty"`
	Credential string    `json:"credential"`
	Workload   string    `json:"workload,omitempty"`
	Gateway    string    `json:"gateway,omitempty"`
	Waive      []string  `json:"waive,omitempty"`
	Recipient  string    `json:"recipient,omitempty"`
	Signers    []string  `json:"signers,omitempty"`
	Reason     string    `json:"reason"`
	Until      time.Time `json:"until,omitzero"`
}

// traps are when a workload last took bait, so that it tells people once a minute.
type traps struct {
	mu   sync.Mutex
	last map[[2]string]time.Time // by workload and credential: names of statements
}

// first reports whether it is the first time in a minute.
func (t *traps) first(u *use) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.last == nil {
		t.last = map[[2]string]time.Time{}
	}
	key := [2]string{u.Workload, u.Credential}
	if at, ok := t.last[key]; ok && u.start.Sub(at) < time.Minute {
		return false
	}
	t.last[key] = u.start
	return true
}

// bait refuses every use of a honey credential, in the words of policy: whoever took it learns nothing. Its own entry says honey, the
// first in a minute is an alarm, and its owner is told.
func (c *Custodian) bait(u *use) *refusal {
	if u.credential.Honey == "" {
		return nil
	}
	if c.traps.first(u) {
		c.alarm(u.entry(entry.Alarm), "honey")
		if owner, live := u.view.set.Owner(u.Credential, u.start); live {
			c.Notify(Notice{Event: "honey", Credential: u.Credential, Workload: u.Workload, Gateway: u.Gateway, Reason: "nobody has a reason to use it"}, []*statement.Person{owner})
		}
	}
	if u.credential.Honey == "freeze" && c.Gate.State().Of(&u.Use) == nil {
		c.Close(closing.Closed{Target: statement.Target{Kind: closing.Workload, ID: u.Workload}, Reason: "no permit", By: "custodian", Time: u.start})
	}
	no := refusePolicy("no_permit")
	no.reason = "honey"
	return no
}
