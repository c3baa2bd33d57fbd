package register_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/internal/audit/history"
	"github.com/reevehq/reeve/internal/audit/register"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/statement"
)

func find(t *testing.T, list []register.Component, id string) *register.Component {
	t.Helper()
	for i := range list {
		if list[i].ID == id {
			return &list[i]
		}
	}
	t.Fatalf("no component %s in %v", id, list)
	return nil
}

// What the statements name is in the register, with whoever answered then and what it can do by what they say.
func TestEstate(t *testing.T) {
	e := estatetest.New(t, estatetest.Service("token", "a1"), estatetest.Edit(func(p *estate.Plan) {
		c := &p.Custody["research"].Credentials[1]
		c.Inject = statement.Inject{As: "header", Name: "x-api-key"}
		for i := range p.Charter.People { // bea leaves in an hour, and has no deputy
			if q := &p.Charter.People[i]; q.ID == "bea" {
				q.Left = time.Now().Add(time.Hour).UTC().Truncate(time.Second)
			}
		}
	}))
	r := register.New(history.New(e.Set), nil)
	if _, err := r.At(e.Now.Add(-time.Hour), time.Time{}); !errors.Is(err, history.ErrBefore) {
		t.Errorf("before the first statement: %v", err)
	}
	now, err := r.At(e.Now.Add(time.Minute), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	type short struct {
		Kind   register.Kind
		Units  []string
		Owners register.Owners
		Flags  []register.Flag
	}
	got := map[string]short{}
	for _, c := range now {
		got[c.ID] = short{c.Kind, c.Units, c.Owners, c.Effective(e.Now)}
	}
	root := register.Owners{Policy: "ada", Operations: "bea", Lifecycle: "ada"}
	both := []string{"research", "support"}
	want := map[string]short{
		"g1": {register.Gateway, both, register.Owners{Policy: "ada", Operations: "bea", Lifecycle: "cora"}, []register.Flag{register.Transport, register.Invoke}},
		"c1": {register.Custodian, both, register.Owners{Operations: "bea"}, []register.Flag{register.Transport, register.Forward, register.Cache}},
		"a1": {register.Authority, nil, root, []register.Flag{register.Transport, register.Invoke}},
		"w1": {register.Auditor, nil, root, []register.Flag{register.Transport}},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(register.Owners{Policy: "ada", Operations: "bea", Lifecycle: "cora"}, find(t, now, "c1").UnitOwners["research"]); d != "" {
		t.Error(d)
	}
	if g := find(t, now, "g1"); g.Tenant != "acme" || !g.Anchored || g.Record != history.New(e.Set).Newest().Hash {
		t.Errorf("g1 is %+v", g)
	}
	later, err := r.At(e.Now.Add(2*time.Hour), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if g := find(t, later, "g1"); g.Owners.Operations != "" || g.Named.Operations != "bea" {
		t.Errorf("after bea left: %+v", g.Owners)
	}
}
