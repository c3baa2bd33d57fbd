// Package closings says what custodians kept closed when, by the entries of their own ledgers alone: whoever closed or opened it, by a signed record or
// at the custodian's own socket.
package closings

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/control"
	"github.com/reevehq/reeve/internal/audit/index"
	"github.com/reevehq/reeve/internal/closing"
	"github.com/reevehq/reeve/internal/statement"
)

// Closings is what was closed and opened, in time.
type Closings struct {
	changes map[string]map[statement.Target][]Change // by process
}

// Change is one closing or opening.
type Change struct {
	At     time.Time
	Closes bool
	By     string // person, or what closed it: "admin", "ceiling", "guard"
	Record string // hex; empty where no signed record asked for it
	Entry  control.Ref
}

// Read reads what was closed and opened before a time. process is whose each log is, by its id.
func Read(ctx context.Context, x index.Reader, process map[string]string, until time.Time) (*Closings, error) {
	events, err := x.Events(ctx, index.Filter{To: until, Types: []entry.Type{entry.Revoke, entry.Freeze, entry.Unfreeze}})
	if err != nil {
		return nil, fmt.Errorf("what custodians closed and opened: %w", err)
	}
	c := &Closings{changes: map[string]map[statement.Target][]Change{}}
	for _, e := range events {
		p, of := process[e.Log], target(&e)
		if of.Kind == "" {
			continue
		}
		if c.changes[p] == nil {
			c.changes[p] = map[statement.Target][]Change{}
		}
		one := Change{At: time.Unix(0, e.Time).UTC(), Closes: e.Type != entry.Unfreeze, Record: e.Record, Entry: control.Ref{Log: e.Log, Seq: e.Seq}}
		if len(e.Actor) > 0 {
			one.By = e.Actor[0]
		}
		c.changes[p][of] = append(c.changes[p][of], one)
	}
	return c, nil
}

// target is what a custodian's entry closes or opens. Its unit and tenant stand there for other targets too, to put the entry into a sequence.
func target(e *index.Event) statement.Target {
	if len(e.Actor) > 1 {
		kind, id, ok := strings.Cut(e.Actor[1], ":")
		if ok {
			return statement.Target{Kind: kind, ID: id}
		}
	}
	for _, t := range []statement.Target{{Kind: closing.Credential, ID: e.Credential}, {Kind: closing.Workload, ID: e.Workload}, {Kind: closing.Gateway, ID: e.Gateway},
		{Kind: closing.Unit, ID: e.Unit}, {Kind: closing.Tenant, ID: e.Tenant}} {
		if t.ID != "" {
			return t
		}
	}
	if strings.HasPrefix(e.Reason, "everything") {
		return statement.Target{Kind: closing.Everything}
	}
	return statement.Target{}
}

// written is how entries have a target: of a key they have the start of its hash.
func written(t statement.Target) statement.Target {
	most := len(t.ID)
	switch t.Kind {
	case closing.Key:
		most = 16
	case closing.Agent, closing.Person, closing.Token:
		most = 64
	}
	t.ID = t.ID[:min(len(t.ID), most)]
	return t
}

// All returns the closing that was in force at a process from one time to another without a break, or nil.
func (c *Closings) All(process string, t statement.Target, from, to time.Time) *Change {
	var in *Change
	list := c.changes[process][written(t)]
	for i, x := range list {
		switch {
		case x.At.After(to):
			return in
		case !x.Closes && x.At.Before(from):
			in = nil
		case !x.Closes:
			return nil
		case in == nil && !x.At.After(from):
			in = &list[i]
		}
	}
	return in
}

// Every returns a closing of one of the targets that held at each of the processes for the whole time, or nil.
func (c *Closings) Every(processes []string, targets []statement.Target, from, to time.Time) (first *Change, of statement.Target) {
	for _, p := range processes {
		if len(c.changes[p]) == 0 {
			return nil, of
		}
		found := false
		for _, t := range targets {
			if x := c.All(p, t, from, to); x != nil {
				if found = true; first == nil {
					first, of = x, t
				}
				break
			}
		}
		if !found {
			return nil, of
		}
	}
	return first, of
}

// Place is a target at a process.
type Place struct {
	Process string
	Target  statement.Target
}

// Time is one in which all of some places were closed, until the first of them was opened again.
type Time struct {
	From   time.Time
	Place  Place // that was opened
	Opened Change
}

// First is when the first of the places was closed; zero when none ever was.
func (c *Closings) First(places []Place) (at time.Time) {
	for _, p := range places {
		for _, x := range c.changes[p.Process][written(p.Target)] {
			if x.Closes && (at.IsZero() || x.At.Before(at)) {
				at = x.At
			}
		}
	}
	return at
}

// Together are the times that are over in which all of the places were closed, in order.
func (c *Closings) Together(places []Place) (list []Time) {
	type change struct {
		Change
		place int
	}
	var all []change
	for i, p := range places {
		for _, x := range c.changes[p.Process][written(p.Target)] {
			all = append(all, change{x, i})
		}
	}
	slices.SortStableFunc(all, func(x, y change) int { return x.At.Compare(y.At) })
	closed := map[int]bool{}
	var from time.Time
	for _, x := range all {
		whole := len(closed) == len(places)
		if x.Closes {
			closed[x.place] = true
		} else {
			delete(closed, x.place)
		}
		switch now := len(closed) == len(places); {
		case now && !whole:
			from = x.At
		case whole && !now:
			list = append(list, Time{From: from, Place: places[x.place], Opened: x.Change})
		}
	}
	return list
}

// Opened returns the newest opening at a process before a time, or nil when the target was not opened since it was last closed.
func (c *Closings) Opened(process string, t statement.Target, before time.Time) (opened *Change) {
	list := c.changes[process][written(t)]
	for i, x := range list {
		if x.At.After(before) {
			break
		}
		if opened = nil; !x.Closes {
			opened = &list[i]
		}
	}
	return opened
}
