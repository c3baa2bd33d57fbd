package inventory_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/books"
	"github.com/reevehq/reeve/internal/audit/control"
	"github.com/reevehq/reeve/internal/audit/history"
	"github.com/reevehq/reeve/internal/audit/index"
	"github.com/reevehq/reeve/internal/audit/inventory"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/statement"
)

const day = 24 * time.Hour

// TestList: owner, life and last use are those of the time that is asked about.
func TestList(t *testing.T) {
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	begun := now.Add(-20 * day)
	e := estatetest.New(t, estatetest.At(begun), estatetest.Lives(estate.Lives{Statements: 300 * day, Lock: 300 * day}), estatetest.Edit(func(p *estate.Plan) {
		p.Custody["research"].Credentials[0].MaxLifetime = statement.Duration(time.Hour)
		for i := range p.Charter.People {
			if p.Charter.People[i].ID == "cora" {
				p.Charter.People[i].Left = now.Add(-day)
			}
		}
	}))
	const log = "0123456789abcdef"
	m := index.NewMemory(index.Log{ID: log, Process: "c1", Origin: "reeve/demo/c1"})
	seq := int64(0)
	add := func(at time.Time, x entry.Entry) {
		x.V, x.Log, x.Seq, x.TimeNS = 1, log, seq, at.UnixNano()
		if err := m.Add(&x); err != nil {
			t.Fatal(err)
		}
		seq++
	}
	ends := begun.Add(10 * day).Unix()
	add(begun, entry.Entry{Type: entry.Version, Credential: "research-openai", Unit: "research", Lease: "1", State: "active", Expires: begun.Add(time.Hour).Unix()})
	add(begun, entry.Entry{Type: entry.Version, Credential: "gone", Unit: "research", Lease: "1", State: "active", Expires: ends})
	add(begun.Add(day), entry.Entry{Type: entry.Intent, Credential: "research-openai", Unit: "research", Workload: "research-agent", Decision: "allow"})
	add(now.Add(-time.Hour), entry.Entry{Type: entry.Intent, Credential: "support-openai", Unit: "support", Workload: "support-agent", Decision: "allow"})
	b := &books.Books{Index: m, History: history.New(e.Set), Now: now}
	ask := func(at time.Time) (list []inventory.Row) {
		v, err := inventory.List(t.Context(), b, at, 7*day)
		if err != nil || !v.Since.Equal(begun) {
			t.Fatalf("%+v, %v", v, err)
		}
		return v.Credentials
	}
	row := func(id, unit string) inventory.Row {
		return inventory.Row{Credential: id, Unit: unit, Named: "cora", Class: "normal", Source: "sealed", Static: true, Stale: true}
	}
	ro, ra, so, sa := row("research-openai", "research"), row("research-anthropic", "research"), row("support-openai", "support"), row("support-anthropic", "support")
	ro.Static = false
	early := []inventory.Row{ro, ra, so, sa, {Credential: "gone", Orphaned: true, Static: true, Stale: true, Live: 1, Oldest: begun, Refs: []control.Ref{{Log: log, Seq: 1}}}}
	for i := range early[:4] {
		early[i].Owner = "cora"
	}
	early[0].LastUse, early[0].Uses, early[0].Stale, early[0].Refs = begun.Add(day), 1, false, []control.Ref{{Log: log, Seq: 2}}
	if d := cmp.Diff(early, ask(begun.Add(5*day))); d != "" {
		t.Errorf("five days on: %s", d)
	}
	late := []inventory.Row{ro, ra, so, sa}
	for i := range late {
		late[i].Orphaned = true
	}
	late[0].LastUse, late[0].Uses, late[0].Refs = begun.Add(day), 1, []control.Ref{{Log: log, Seq: 2}}
	late[2].LastUse, late[2].Uses, late[2].Stale, late[2].Refs = now.Add(-time.Hour), 1, false, []control.Ref{{Log: log, Seq: 3}}
	if d := cmp.Diff(late, ask(now)); d != "" {
		t.Errorf("now: %s", d)
	}
	if _, err := inventory.List(t.Context(), b, begun.Add(-day), day); !errors.Is(err, history.ErrBefore) {
		t.Errorf("before the estate: %v", err)
	}
}
