package blast

import (
	"context"
	"strings"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/index"
	"github.com/reevehq/reeve/internal/closing"
	"github.com/reevehq/reeve/internal/statement"
)

// closings are what custodians closed and opened, as their own ledgers say, in time.
type closings struct {
	changes map[string]map[statement.Target][]change // by process
}

type change struct {
	at     time.Time
	closes bool
	by     string
}

// readClosings reads what was closed and opened before a time.
func readClosings(ctx context.Context, x index.Reader, process map[string]string, until time.Time) (*closings, error) {
	events, err := x.Events(ctx, index.Filter{To: until, Types: []entry.Type{entry.Revoke, entry.Freeze, entry.Unfreeze}})
	if err != nil {
		return nil, err
	}
	c := &closings{changes: map[string]map[statement.Target][]change{}}
	for _, e := range events {
		p, of := process[e.Log], target(&e)
		if of.Kind == "" {
			continue
		}
		if c.changes[p] == nil {
			c.changes[p] = map[statement.Target][]change{}
		}
		one := change{at: time.Unix(0, e.Time), closes: e.Type != entry.Unfreeze}
		if len(e.Actor) > 0 {
			one.by = e.Actor[0]
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

// all returns the closing that was in force at a custodian from one time to another without a break, or nil.
func (c *closings) all(process string, t statement.Target, from, to time.Time) *change {
	var in *change
	for i, x := range c.changes[process][t] {
		switch {
		case x.at.After(to):
			return in
		case !x.closes && x.at.Before(from):
			in = nil
		case !x.closes:
			return nil
		case in == nil && !x.at.After(from):
			in = &c.changes[process][t][i]
		}
	}
	return in
}

// every returns a closing of one of the targets that held at each of the custodians for the whole time, or nil.
func (c *closings) every(processes []string, targets []statement.Target, from, to time.Time) (first *change, of statement.Target) {
	for _, p := range processes {
		if len(c.changes[p]) == 0 {
			return nil, of
		}
		found := false
		for _, t := range targets {
			if x := c.all(p, t, from, to); x != nil {
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
