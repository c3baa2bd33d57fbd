package control

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/audit/register"
)

// reconciled is how old a reconciliation may be.
const reconciled = 35 * day // a month, and the days until its export is there

// outOfBand judges RV-16: of every credential that was used, the provider's own record has no use that the ledgers do not have.
func outOfBand(ctx context.Context, f *facts, t *tally) error {
	t.of = "credentials that were used"
	uses, err := f.uses(ctx)
	if err != nil {
		return err
	}
	used, spans := map[string]bool{}, map[string][][2]time.Time{}
	var order []string
	for i := range uses {
		c := uses[i].Credential
		if spans[c] = append(spans[c], [2]time.Time{time.Unix(0, uses[i].First), time.Unix(0, uses[i].Last)}); !used[c] {
			used[c], order = true, append(order, c)
		}
	}
	by := map[string][]*Reconciliation{}
	for i := range f.evidence.Reconciliations {
		r := &f.evidence.Reconciliations[i]
		if r.To.After(f.asOf) || f.asOf.Sub(r.To) > reconciled && r.Strays == 0 || r.To.Before(f.from) {
			continue
		}
		if by[r.Credential] = append(by[r.Credential], r); !used[r.Credential] {
			used[r.Credential], order = true, append(order, r.Credential)
		}
	}
	missing := map[string][]string{}
	for _, c := range order {
		finding := Finding{Subject: "credential:" + c, Unit: f.home(c), Owner: f.ownerOf(c)}
		for _, r := range by[c] {
			if r.Strays > 0 {
				if finding.Refs, err = f.vouched(ctx, r.Record); err != nil {
					return err
				}
				finding.What = fmt.Sprintf("%s has %d uses from %s to %s that no ledger has: %s", r.Source, r.Strays, r.From.UTC().Format(time.DateOnly), r.To.UTC().Format(time.DateOnly), r.Detail)
			}
		}
		switch {
		case finding.What != "":
			t.fail(finding)
		case compared(by[c], spans[c]):
			t.pass(finding.Unit, 1)
		default:
			missing[finding.Unit] = append(missing[finding.Unit], c)
		}
	}
	for unit, list := range missing {
		slices.Sort(list)
		t.unknown(Finding{Subject: "unit:" + unit, Unit: unit, Owner: f.ownerOf(list[0]),
			What: fmt.Sprintf("the provider's own record was not compared for %d credentials: %s", len(list), some(list))})
	}
	return nil
}

// compared reports whether the comparisons leave out no use of the month before the end of the newest: later uses' export is not there yet.
func compared(list []*Reconciliation, uses [][2]time.Time) bool {
	if len(list) == 0 {
		return false
	}
	slices.SortFunc(list, func(a, b *Reconciliation) int { return a.From.Compare(b.From) })
	end := slices.MaxFunc(list, func(a, b *Reconciliation) int { return a.To.Compare(b.To) }).To.Add(-28 * day)
	for _, r := range list {
		for _, u := range uses {
			if r.From.After(end) && u[0].Before(r.From) && u[1].After(end) { // some of it may lie before it, or between two
				return false
			}
		}
		if r.To.After(end) {
			end = r.To
		}
	}
	return true
}

// vendors judges RV-18: a probe's verdict holds for every vendor's gateway, and one credential that it reaches was revoked and proven dead.
func vendors(ctx context.Context, f *facts, t *tally) error {
	t.of = "vendor gateways"
	list, err := f.components(t, register.Vendor)
	if err != nil {
		return err
	}
	if t.vacuous = f.searched(); len(list) == 0 && !t.vacuous && f.books.Register != nil {
		t.unknown(Finding{Subject: "estate", Owner: f.operator(), What: "no vendor's gateway is registered, and nobody has searched for one in 90 days"})
	}
	versions, err := f.bound(ctx)
	if err != nil {
		return err
	}
	for _, c := range list {
		unit := ""
		if len(c.Units) == 1 {
			unit = c.Units[0]
		}
		finding := Finding{Subject: "gateway:" + c.ID, Unit: unit, Owner: c.Owners.Contract}
		if finding.Owner == "" && f.span != nil {
			finding.Owner = f.operator()
		}
		var wrong []string
		switch {
		case c.Probed.IsZero():
			wrong = append(wrong, "was never probed, and counts as able to do everything")
		case !c.Probed.After(f.asOf):
			wrong = append(wrong, "was probed, and that verdict ran out on "+c.Probed.UTC().Format(time.DateOnly))
		}
		proven := false
		for i := range versions {
			v := &versions[i]
			if slices.Contains(c.Credentials, v.Credential) && (v.State == "revoked-proven" || v.State == "destroyed") {
				proven = true
				finding.Refs = []Ref{{v.Log, v.StateSeq}}
			}
		}
		if !proven {
			wrong = append(wrong, fmt.Sprintf("nothing that it reaches was revoked and proven dead in %s", span(f.opts.Window)))
		}
		if len(wrong) == 0 {
			t.pass(unit, 1)
			continue
		}
		finding.What = "it " + strings.Join(wrong, ", and ")
		t.fail(finding)
	}
	return nil
}

// unregistered judges RV-19: whatever a search has found, and whatever the ledgers name, stands in the register.
func unregistered(ctx context.Context, f *facts, t *tally) error {
	t.of = "gateways and configurations that were found"
	all, err := f.components(t, register.Kinds...)
	if err != nil || f.books.Register == nil {
		return err
	}
	known := map[string]bool{}
	for _, c := range all {
		known[c.ID] = true
	}
	uses, err := f.uses(ctx)
	if err != nil {
		return err
	}
	named := map[string]bool{}
	for i := range uses {
		u := &uses[i]
		if u.Gateway == "" || named[u.Gateway] {
			continue
		}
		named[u.Gateway] = true
		if s := f.books.History.Of(u.Estate); s != nil {
			if _, ok := s.Gateway(u.Gateway); ok || known[u.Gateway] {
				t.pass("", 1)
				continue
			}
		}
		t.fail(Finding{Subject: "gateway:" + u.Gateway, Unit: u.Unit, Owner: f.operator(), Refs: refs(u), What: "the ledger names it, and neither the statements nor the register do"})
	}
	for _, d := range f.evidence.Discoveries {
		if d.Time.After(f.asOf) || f.asOf.Sub(d.Time) > fresh {
			continue
		}
		for _, x := range d.Found {
			if known[x.Component] {
				t.pass("", 1)
				continue
			}
			at, err := f.vouched(ctx, d.Record)
			if err != nil {
				return err
			}
			t.fail(Finding{Subject: "component:" + x.Component, Owner: f.operator(), Refs: at, What: fmt.Sprintf("a search of %s found %s at %s, and the register does not have it", d.Where, x.What, x.Place)})
		}
	}
	if !f.searched() {
		t.unknown(Finding{Subject: "estate", Owner: f.operator(), What: "nobody has searched for gateways and keys outside the register in 90 days"})
	}
	return nil
}

// searched reports whether somebody has searched for gateways and keys outside the register in 90 days.
func (f *facts) searched() bool {
	return slices.ContainsFunc(f.evidence.Discoveries, func(d Discovery) bool { return !d.Time.After(f.asOf) && f.asOf.Sub(d.Time) <= fresh })
}
