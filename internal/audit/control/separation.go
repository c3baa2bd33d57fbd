package control

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/register"
	"github.com/reevehq/reeve/internal/statement"
)

// separation judges RV-03. Who signs policy: policy owners and all their deputies, acting or not. Who can read secrets: lifecycle owners and
// owners of credentials, whose hands they go through, their deputies, whoever has a recipient to recover them to, and who operates a
// custodian or a store: root there reads everything.
func separation(_ context.Context, f *facts, t *tally) error {
	t.of = "people who sign policy"
	set, ok := f.statements(t)
	if !ok {
		return nil
	}
	c := &set.Charter
	signs, reads := map[string][]string{}, map[string][]string{}
	for _, u := range c.Units {
		for _, p := range c.Roles.Units[u.ID].Policy {
			closure(set, signs, p, "signs policy of "+u.ID)
		}
		for _, p := range c.Roles.Units[u.ID].Lifecycle {
			closure(set, reads, p, "hands over the secrets of "+u.ID)
		}
		for _, cr := range set.Custody[u.ID].Credentials {
			closure(set, reads, cr.Owner, "owns credentials of "+u.ID)
		}
	}
	for _, p := range c.People {
		if p.Recipient != "" {
			add(reads, p.ID, "may have secrets recovered to a key of his")
		}
	}
	hosts, err := f.components(t, register.Custodian, register.Store)
	if err != nil {
		return err
	}
	for _, h := range hosts {
		closure(set, reads, h.Owners.Operations, "operates "+h.ID)
	}
	for _, p := range slices.Sorted(maps.Keys(signs)) {
		if len(reads[p]) == 0 {
			t.pass("", 1)
			continue
		}
		t.fail(Finding{Subject: "person:" + p, Owner: f.other(p), What: fmt.Sprintf("%s %s, and %s", p, strings.Join(signs[p], ", "), strings.Join(reads[p], ", "))})
	}
	root := c.Roles.Root
	if len(root) > 0 && !slices.ContainsFunc(root, func(p string) bool { return len(signs[p]) == 0 }) {
		t.fail(Finding{Subject: "role:root", Owner: f.firstOf(root...), What: "everybody of the root quorum signs policy: they can make themselves owners of every secret"})
	}
	return nil
}

// closure adds a person, and every deputy who can come to act for him.
func closure(set *statement.Set, to map[string][]string, person, how string) {
	add(to, person, how)
	if p, ok := set.Person(person); ok {
		for _, d := range p.Deputies { // a deputy's deputy never acts
			add(to, d, how+" as a deputy of "+person)
		}
	}
}

func add(to map[string][]string, person, how string) {
	if person != "" && !slices.Contains(to[person], how) {
		to[person] = append(to[person], how)
	}
}

// brokenGlass judges RV-22: by the entries of the custodians, which say when one began, who signed it, when it ended and who reviewed it.
func brokenGlass(ctx context.Context, f *facts, t *tally) error {
	t.of, t.vacuous = "break-glasses", true
	if _, err := f.ledger(ctx, t); err != nil {
		return err
	}
	events, err := f.events(ctx, 0, entry.BreakGlass)
	if err != nil {
		return err
	}
	type glass struct {
		*Finding
		began    int64
		signers  []string
		ended    bool
		reviewed []string
		recovery bool
	}
	all, order := map[string]*glass{}, []string{}
	for _, e := range events {
		word, _, _ := strings.Cut(e.Reason, ":")
		g := all[e.Log+e.Record]
		switch {
		case word == "open" || word == "recover":
			if g == nil {
				g = &glass{Finding: &Finding{Subject: "credential:" + e.Credential, Unit: e.Unit, Owner: f.ownerOf(e.Credential)}, began: e.Time, signers: e.Actor, recovery: word == "recover"}
				all[e.Log+e.Record], order = g, append(order, e.Log+e.Record)
			}
		case g == nil:
			continue // the authority's own, an extension, or of one that began in a log before
		case word == "ended":
			g.ended = true
		case word == "reviewed":
			g.reviewed = e.Actor
		}
		g.Refs = append(g.Refs, Ref{e.Log, e.Seq})
	}
	for _, id := range order {
		g := all[id]
		people := slices.Compact(slices.Sorted(slices.Values(g.signers)))
		age := f.asOf.UnixNano() - g.began
		var wrong []string
		if len(people) < 2 {
			wrong = append(wrong, fmt.Sprintf("was signed by %s alone", strings.Join(people, ", ")))
		}
		if !g.ended && !g.recovery && age > int64(settled)*5 { // an hour at most, and a quarter to write it down
			wrong = append(wrong, "has no end in the ledger, more than an hour later")
		}
		independent := slices.ContainsFunc(g.reviewed, func(p string) bool { return !slices.Contains(people, p) })
		if age > int64(7*day) && !independent {
			wrong = append(wrong, "was not reviewed within seven days by somebody who did not sign it")
		}
		switch {
		case len(wrong) > 0:
			g.What = "a break-glass " + strings.Join(wrong, ", and ")
			t.fail(*g.Finding)
		case !independent:
			g.What = "a break-glass waits for its review: an owner who did not sign it does that"
			t.unknown(*g.Finding)
		default:
			t.pass(g.Unit, 1)
		}
	}
	return nil
}
