package estate

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/reevehq/reeve/internal/statement"
)

// InForce is the newest published set, also when it has expired; nil when nothing is published.
func (d Dir) InForce(pin statement.Pin) (*statement.Set, error) {
	newest, err := statement.Newest(d.Store(), "lock")
	if err != nil || newest == 0 {
		return nil, err
	}
	raw, err := d.Store().ReadFile(fmt.Sprintf("lock/%d/manifest.json", newest))
	if err != nil {
		return nil, err
	}
	var m statement.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, err
	}
	return statement.Load(d.Store(), pin, nil, m.Created)
}

// Changes lists what the owners' files have otherwise than the set in force; nothing before the first is published. Both sets
// come with it, the first one nil when there is none.
func (d Dir) Changes(pin statement.Pin) (before, after *statement.Set, list []statement.Change, err error) {
	if after, err = d.Check(); err != nil {
		return nil, nil, nil, err
	}
	if before, err = d.InForce(pin); err != nil || before == nil {
		return nil, after, nil, err
	}
	return before, after, statement.Compare(before, after), nil
}

// Wanted is a signature that a statement needs besides those of its approvers, for the sake of an item.
type Wanted struct {
	Change statement.Change
	Owner  statement.Owner
	From   []string // the people any one of whom may give it
}

// Wants lists the signatures that the next version of a statement needs at t for the items that it changes.
func (d Dir) Wants(pin statement.Pin, name string, t time.Time) (list []Wanted, err error) {
	before, after, changes, err := d.Changes(pin)
	for _, ch := range changes {
		if ch.Statement != name {
			continue
		}
		for _, o := range ch.Needs {
			from := after.Signers(o, t)
			if len(from) == 0 {
				from = before.Signers(o, t)
			}
			if len(from) > 0 {
				list = append(list, Wanted{ch, o, from})
			}
		}
	}
	return list, err
}

// WantedFrom reports whether one of the signatures is the person's to give.
func WantedFrom(list []Wanted, person string) bool {
	return slices.ContainsFunc(list, func(w Wanted) bool { return slices.Contains(w.From, person) })
}
