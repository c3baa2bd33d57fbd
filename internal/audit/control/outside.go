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
	type why struct{ unit, what string }
	dark := map[why][]string{}
	for _, c := range order {
		finding := f.ofCredential(c)
		for _, r := range by[c] {
			if r.Strays > 0 {
				finding.Refs = f.vouched(r.Record)
				finding.What = fmt.Sprintf("%s has %d uses from %s to %s that no ledger has: %s", r.Source, r.Strays, r.From.UTC().Format(time.DateOnly), r.To.UTC().Format(time.DateOnly), r.Detail)
			}
		}
		switch {
		case finding.What != "":
			t.fail(finding)
		case f.compared(by[c], spans[c]):
			t.pass(finding.Unit, 1)
		default:
			w := why{finding.Unit, f.undecided(by[c])}
			dark[w] = append(dark[w], c)
		}
	}
	for w, list := range dark {
		slices.Sort(list)
		t.unknown(Finding{Subject: "unit:" + w.unit, Unit: w.unit, Owner: f.ownerOf(list[0]), What: fmt.Sprintf("%s: %d credentials: %s", w.what, len(list), some(list))})
	}
	return nil
}

// undecided says why comparisons do not show that nothing is out of band.
func (f *facts) undecided(list []*Reconciliation) string {
	what := "the provider's own record was not compared (reeve reconcile), or not for all of the last month that it covers"
	for _, r := range list {
		switch {
		case r.Undecided != "":
			what = r.Source + " was compared, and it could not be decided: " + r.Undecided
		case !f.anchored(r.Record):
			return "the provider's own record was compared, and no ledger has that somebody signed for it (reeve audit anchor)"
		}
	}
	return what
}

// compared reports whether the comparisons that decided, and that a ledger knows of, leave out no use of the month before the end of the newest: later
// uses' export is not there yet.
func (f *facts) compared(all []*Reconciliation, uses [][2]time.Time) bool {
	var list []*Reconciliation
	for _, r := range all {
		if r.Undecided == "" && f.anchored(r.Record) {
			list = append(list, r)
		}
	}
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
		t.unknown(Finding{Subject: "estate", Owner: f.operator(), What: "no vendor's gateway is registered, and " + f.unsearched()})
	}
	versions, err := f.bound(ctx)
	if err != nil {
		return err
	}
	answers, err := f.answers(ctx)
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
			wrong = append(wrong, fmt.Sprintf("was never probed, and counts as able to do everything (reeve probe %s decides)", c.ID))
		case !c.Probed.After(f.asOf):
			wrong = append(wrong, fmt.Sprintf("was probed, and that verdict ran out on %s (reeve probe %s decides)", c.Probed.UTC().Format(time.DateOnly), c.ID))
		}
		proven := false
		for i := range versions {
			v := &versions[i]
			if slices.Contains(c.Credentials, v.Credential) && !answers.proven(v, 0).IsZero() {
				proven = true
				finding.Refs = []Ref{{v.Log, v.StateSeq}}
			}
		}
		if !proven {
			wrong = append(wrong, fmt.Sprintf("nothing that it reaches was revoked and proven dead in %s (name what it reaches with reeve component add %s --credential, and contain one)", span(f.opts.Window), c.ID))
		}
		unseen := c.Unseen(f.asOf)
		switch {
		case len(unseen) == 0:
		case len(wrong) == 0:
			finding.What = fmt.Sprintf("its probe could not see whether it can %s, and it counts as able to (reeve probe %s says what was missing)", flagged(unseen), c.ID)
			t.unknown(finding)
			continue
		default:
			wrong = append(wrong, "was probed, and whether it can "+flagged(unseen)+" was not seen")
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

func flagged(list []register.Flag) string {
	var words []string
	for _, f := range list {
		words = append(words, string(f))
	}
	return strings.Join(words, ", ")
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
		if !f.recent(d) {
			continue
		}
		for _, x := range d.Found {
			if known[x.Component] {
				t.pass("", 1)
				continue
			}
			t.fail(Finding{Subject: "component:" + x.Component, Owner: f.operator(), Refs: f.vouched(d.Record), What: fmt.Sprintf("a search of %s found %s at %s, and the register does not have it", d.Where, x.What, x.Place)})
		}
	}
	if !f.searched() {
		t.unknown(Finding{Subject: "estate", Owner: f.operator(), What: f.unsearched()})
	}
	return nil
}

// searched reports whether somebody has searched for gateways and keys outside the register in 90 days, and a ledger has that.
func (f *facts) searched() bool {
	return slices.ContainsFunc(f.evidence.Discoveries, func(d Discovery) bool { return f.recent(d) && f.anchored(d.Record) })
}

func (f *facts) recent(d Discovery) bool { return !d.Time.After(f.asOf) && f.asOf.Sub(d.Time) <= fresh }

// unsearched says what would decide.
func (f *facts) unsearched() string {
	if slices.ContainsFunc(f.evidence.Discoveries, f.recent) {
		return "a search was signed for, and no ledger has that yet: run reeve audit anchor"
	}
	return "nobody has searched for gateways and keys outside the register in 90 days: what is found goes into it with reeve component add ID --discovered WHERE, and that a search found nothing else is said with reeve controls record (docs/formats/evidence.md)"
}
