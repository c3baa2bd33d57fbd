package contain

import (
	"strings"
	"testing"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/logs"
)

// What is denied is what the ledgers say last: closed by a record, by hand at a custodian, opened again by a record that this estate's store does not
// have, and closed again.
func TestLook(t *testing.T) {
	gateway := func(e entry.Entry) entry.Entry {
		e.Gateway, e.Actor, e.Proof = "g1", []string{"bea"}, "feed"
		return e
	}
	byHand := func(e entry.Entry) entry.Entry {
		e.Gateway, e.Actor = "g1", []string{"admin"}
		return e
	}
	for _, c := range []struct {
		name                     string
		signed                   bool
		wrote                    []string
		contained, again, waits  bool
		opened, closed, warnings int
	}{
		{name: "nothing", waits: true},
		{name: "signed, not entered", signed: true},
		{name: "closed", signed: true, wrote: []string{"revoke"}, contained: true, closed: 1},
		{name: "closed by hand alone", wrote: []string{"freeze"}, contained: true, waits: true, closed: 1},
		{name: "closed by hand, the record is on its way", signed: true, wrote: []string{"freeze"}, contained: true, closed: 1},
		{name: "opened again", signed: true, wrote: []string{"revoke", "open"}, again: true, waits: true, opened: 1},
		{name: "closed by hand and opened", wrote: []string{"freeze", "open"}, waits: true},
		{name: "opened, and closed by hand", signed: true, wrote: []string{"revoke", "open", "freeze"}, contained: true, closed: 1},
		{name: "another's closing", signed: true, wrote: []string{"other"}},
		{name: "break-glass opens nothing, and is told", signed: true, wrote: []string{"revoke", "glass", "recovery", "foreign"}, contained: true, closed: 1, warnings: 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			record := ""
			if c.signed {
				b.act(t, b.plan(t, "gateway g1", nil), b.Bea, b.Ada)
				if record = b.planAt(t, "gateway g1", nil, b.Now.Add(3*time.Minute)).Steps[0].Record; record == "" {
					t.Fatal("nothing was signed")
				}
			}
			for i, what := range c.wrote {
				e := map[string]entry.Entry{
					"revoke":   gateway(entry.Entry{Type: entry.Revoke, Record: record}),
					"open":     gateway(entry.Entry{Type: entry.Unfreeze, Record: strings.Repeat("0", 64)}),
					"freeze":   byHand(entry.Entry{Type: entry.Freeze}),
					"other":    {Type: entry.Revoke, Gateway: "g2", Actor: []string{"bea"}, Record: strings.Repeat("1", 64)},
					"glass":    {Type: entry.BreakGlass, Credential: "research-openai", Workload: "research-agent", Reason: "opened: night", Actor: []string{"cora", "ada"}},
					"recovery": {Type: entry.BreakGlass, Credential: "research-openai", Reason: "recovered: night", Actor: []string{"cora", "ada"}},
					"foreign":  {Type: entry.BreakGlass, Credential: "another", Reason: "opened: night", Actor: []string{"cora", "ada"}},
				}[what]
				b.addAt(t, 3*time.Minute+time.Duration(i)*time.Second, e)
			}
			now := b.Now.Add(4 * time.Minute)
			p := b.planAt(t, "gateway g1", nil, now)
			p.Steps = p.Steps[:1] // its keys are another step each
			if again := p.Steps[0].Opened != nil; again != c.again || len(p.Steps[0].Opened) != c.opened {
				t.Errorf("opened since: %+v", p.Steps[0].Opened)
			}
			o, err := p.Look(t.Context(), b.Set, b.index, []*logs.Log{{ID: log, Process: "c1"}}, now)
			if err != nil {
				t.Fatal(err)
			}
			if o.Contained != c.contained || (len(o.Waiting) > 0) != c.waits || len(o.Closed) != c.closed || len(o.Warnings) != c.warnings {
				t.Errorf("contained %v, waiting %+v, closed %+v, %q; records %+v", o.Contained, o.Waiting, o.Closed, o.Warnings, o.Records)
			}
		})
	}
}
