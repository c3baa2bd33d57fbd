package statement_test

import (
	"math/bits"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/statement"
)

// TestWhoClosesWhatAcrossTenants asks every group of people about every target of an estate with two tenants. Its owner
// closes it, or two roles in its own tenant; for what is every tenant's one of the two is the whole estate's. Whose roles are in another
// tenant opens nothing, and nobody opens a key or a token.
func TestWhoClosesWhatAcrossTenants(t *testing.T) {
	var people []*estate.Signer
	for _, id := range []string{"anna", "alan", "otto", "olga"} {
		s, err := estate.NewSigner(id)
		if err != nil {
			t.Fatal(err)
		}
		people = append(people, s)
	}
	e := estatetest.New(t, estatetest.With(people...), estatetest.Edit(func(p *estate.Plan) {
		p.Charter.Tenants = append(p.Charter.Tenants, "other")
		p.Charter.Units[1].Tenant = "other" // support
		for i, unit := range []string{"research", "support"} {
			r := p.Charter.Roles.Units[unit]
			r.Policy, r.Lifecycle = append([]string{people[2*i].Person}, r.Policy...), append([]string{people[2*i+1].Person}, r.Lifecycle...)
			p.Charter.Roles.Units[unit] = r
		}
	}))
	now, hash := e.Now.Add(time.Second), strings.Repeat("ab", 32)
	people = append(people, e.Bea)
	const (
		anna, alan, otto, olga, bea = 1, 2, 4, 8, 16

		acme, other, all = anna | alan, otto | olga, 31
	)
	for _, c := range []struct {
		kind, id string
		alone    []string // who closes it with one signature, of these people
		two      int      // any two of these people have two roles for it
		needs    int      // and one of these is among them
	}{
		{"credential", "research-openai", nil, acme | bea, acme | bea},
		{"credential", "support-openai", nil, other | bea, other | bea},
		{"workload", "research-agent", []string{"anna"}, acme | bea, acme | bea},
		{"agent", "support-agent", []string{"otto"}, other | bea, other | bea},
		{"unit", "research", []string{"anna"}, acme | bea, acme | bea},
		{"unit", "support", []string{"otto"}, other | bea, other | bea},
		{"tenant", "acme", []string{"bea"}, acme | bea, acme | bea},
		{"tenant", "other", []string{"bea"}, other | bea, other | bea},
		{"person", "anna", []string{"anna", "bea"}, acme | bea, acme | bea},
		{"person", "olga", []string{"olga", "bea"}, other | bea, other | bea},
		{"person", "bea", []string{"bea"}, 0, 0},
		{"person", "cora", []string{"bea"}, 0, 0}, // lifecycle owner of both, and root
		{"gateway", "g1", []string{"bea"}, all, bea},
		{"everything", "", nil, all, bea},
		{"agent", "planner@example", []string{"anna", "otto"}, all, bea}, // only its name is known: every policy owner closes it
		{"key", hash, []string{"anna", "otto"}, all, bea},
		{"token", "jti-1", []string{"anna", "otto"}, all, bea},
	} {
		for group := 1; group < 1<<len(people); group++ {
			var by []*estate.Signer
			for i, s := range people {
				if group&(1<<i) != 0 {
					by = append(by, s)
				}
			}
			for _, open := range []bool{false, true} {
				for _, signer := range by {
					r := statement.Revocation{Estate: "demo", Signer: signer.Person, Number: 1, Target: statement.Target{Kind: c.kind, ID: c.id}, Open: open, Reason: "test", Time: e.Now}
					env, err := estate.Seal("revocation", r, by...)
					if err != nil {
						t.Fatal(err)
					}
					_, err = e.Set.OpenRevocation(env, now)
					two := bits.OnesCount(uint(group&c.two)) > 1 && group&c.needs != 0
					alone := slices.Contains(c.alone, signer.Person)
					want := two || alone
					if open {
						want = two && (alone || c.kind == "everything") && c.kind != "key" && c.kind != "token"
					}
					if (err == nil) != want {
						t.Errorf("%s %s, open %v, in the name of %s by %05b: accepted %v, %v", c.kind, c.id, open, signer.Person, group, err == nil, err)
					}
				}
			}
		}
	}
}
