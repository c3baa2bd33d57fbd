package control

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go"

	"github.com/reevehq/reeve/internal/audit/index"
	"github.com/reevehq/reeve/internal/reach"
	"github.com/reevehq/reeve/internal/statement"
)

// covered judges RV-07. Every way that something was used is held against the policy that its entries name: by partial evaluation, so that what
// the ledger does not say (model, path, size, time) counts as anything. Where that decides, uses are replayed from what the decision looked at; those that
// were not are not known, because each could have been decided otherwise. A secret in a custodian that no statement names for it is wider than the
// custody statement.
func covered(ctx context.Context, f *facts, t *tally) error {
	t.of = "uses and stores"
	uses, err := f.uses(ctx)
	if err != nil {
		return err
	}
	dark := gaps{}
	var open []*alike
	for i := range uses {
		u := &uses[i]
		s := f.books.History.Of(u.Estate)
		if s == nil {
			dark.add(u, u.Count, "the set that they were decided under is not in the store")
			continue
		}
		p, err := f.policies(s)
		if err != nil {
			return err
		}
		verdict := reach.Alike(p, u.Workload, u.Credential, cedar.RecordMap{
			"gateway": cedar.String(u.Gateway), "level": cedar.Long(level(u.Level)), "proof": cedar.String(u.Proof)})
		switch {
		case verdict == reach.Always:
			t.pass(u.Unit, int(u.Count))
		case verdict == reach.Depends || u.Reason == glass:
			open = append(open, &alike{Uses: u, policies: p})
		default:
			t.fail(Finding{Subject: "credential:" + u.Credential, Unit: u.Unit, Owner: f.policyOwner(u.Unit), Refs: refs(u),
				What: fmt.Sprintf("%d uses by %s at level %s through %s, which the policy then in force does not allow", u.Count, u.Workload, u.Level, u.Gateway)})
		}
	}
	if err := f.replay(ctx, open); err != nil {
		return err
	}
	var all, replayed int64
	for _, a := range open {
		t.pass(a.Unit, int(a.held))
		if n := int64(len(a.denied)); n > 0 {
			t.fail(Finding{Subject: "credential:" + a.Credential, Unit: a.Unit, Owner: f.policyOwner(a.Unit), Refs: a.denied[:min(n, 8)],
				What: fmt.Sprintf("%d uses of %d that were replayed, by %s at level %s through %s, which the policy then in force does not allow", n, n+a.held, a.Workload, a.Level, a.Gateway)})
		}
		for why, n := range a.blocked {
			dark.add(a.Uses, n, why)
		}
		dark.add(a.Uses, a.left(), "they are more than were replayed (reeve controls RV-07 --replay all replays every one)")
		all, replayed = all+a.Count, replayed+a.held+int64(len(a.denied))
	}
	for _, d := range dark {
		d.Owner = f.policyOwner(d.Unit)
		d.What = fmt.Sprintf("%d uses cannot be said to be as policy was: %s", d.count, d.What)
		t.unknown(d.Finding)
	}
	if t.note = "by partial evaluation"; all > 0 {
		t.note = fmt.Sprintf("%d of the %d uses that it leaves open were replayed (%.1f %%), the others by partial evaluation", replayed, all, 100*share(replayed, all))
	}
	return f.stores(ctx, t)
}

// gaps are what is not known of uses, by unit and why.
type gaps map[[2]string]*struct {
	Finding
	count int64
}

func (d gaps) add(u *index.Uses, n int64, why string) {
	if n <= 0 {
		return
	}
	at := [2]string{u.Unit, why}
	if d[at] == nil {
		d[at] = &struct {
			Finding
			count int64
		}{Finding: Finding{Subject: "unit:" + u.Unit, Unit: u.Unit, What: why, Refs: refs(u)}}
	}
	d[at].count += n
}

// level is the number of a level's word.
func level(word string) int { return max(0, slices.Index([]string{"W0", "W1", "W2", "W3"}, word)) }

// stores judges who holds secrets, and who may read them where they come from, against the custody statements.
func (f *facts) stores(ctx context.Context, t *tally) error {
	set, ok := f.statements(t)
	if !ok {
		return nil
	}
	versions, err := f.bound(ctx)
	if err != nil {
		return err
	}
	for i := range versions {
		v := &versions[i]
		custodian, err := f.process(ctx, v.Log)
		if err != nil {
			return err
		}
		if _, _, known := set.Credential(v.Credential); !known || !f.live(v) {
			continue // RV-01 has those of no credential
		}
		if set.Serves(custodian, v.Credential) {
			t.pass(f.home(v.Credential), 1)
			continue
		}
		t.fail(f.ofCredential(v.Credential).saying(fmt.Sprintf("custodian %s holds version %s of its secret, and the custody statement does not name that custodian for it", custodian, v.Lease),
			Ref{v.Log, v.StateSeq}))
	}
	blind := map[string][]string{} // credentials by unit
	for unit, c := range credentials(set) {
		if c.Source != "vault" {
			continue
		}
		newest, wider := f.readers(set, c.ID)
		switch {
		case newest == nil || f.asOf.Sub(newest.Time) > fresh || len(wider) == 0 && !f.anchored(newest.Record):
			blind[unit] = append(blind[unit], c.ID)
		case len(wider) == 0:
			t.pass(unit, 1)
		default:
			t.fail(f.ofCredential(c.ID).saying("its store lets "+strings.Join(wider, ", ")+" read it, and the custody statement does not", f.vouched(newest.Record)...))
		}
	}
	for unit, list := range blind {
		t.unknown(Finding{Subject: "unit:" + unit, Unit: unit, Owner: f.ownerOf(list[0]),
			What: fmt.Sprintf("who may read %d credentials in their store was not looked at in 90 days, or no ledger has that it was: %s", len(list), some(list))})
	}
	return nil
}

// readers is the newest answer of who may read a credential in its store, and who of them the custody statement does not name; nil for none.
func (f *facts) readers(set *statement.Set, credential string) (newest *Store, wider []string) {
	for i := range f.evidence.Stores {
		if s := &f.evidence.Stores[i]; s.Credential == credential && !s.Time.After(f.asOf) && (newest == nil || s.Time.After(newest.Time)) {
			newest = s
		}
	}
	if newest != nil {
		wider = slices.DeleteFunc(slices.Clone(newest.Readers), func(r string) bool { return set.Serves(r, credential) })
	}
	return newest, wider
}

// authentication judges RV-21: no workload may prove itself by a key that lives on, and every issuer is trusted for one exact audience and subject.
func authentication(ctx context.Context, f *facts, t *tally) error {
	t.of = "workloads"
	set, ok := f.statements(t)
	if !ok {
		return nil
	}
	uses, err := f.uses(ctx)
	if err != nil {
		return err
	}
	static, at := map[string]int64{}, map[string][]Ref{}
	for i := range uses {
		if u := &uses[i]; u.Level == "W0" {
			static[u.Workload] += u.Count
			at[u.Workload] = refs(u)
		}
	}
	for _, w := range set.Charter.Workloads {
		var wrong []string
		for _, id := range w.Identities {
			switch {
			case id.Issuer == "reeve":
				wrong = append(wrong, "may prove itself by a static key")
			case strings.Contains(id.Subject, "*"):
				wrong = append(wrong, fmt.Sprintf("is anybody whom %s calls %s", id.Issuer, id.Subject))
			}
		}
		if n := static[w.ID]; n > 0 {
			wrong = append(wrong, fmt.Sprintf("has done so %d times", n))
		}
		if len(wrong) == 0 {
			t.pass(w.Unit, 1)
			continue
		}
		t.fail(f.ofWorkload(&w).saying("it "+strings.Join(slices.Compact(wrong), ", and "), at[w.ID]...))
	}
	return nil
}

// interactive judges RV-13. A person shows where a workload's identity is a person's: of the charter's people, of those whom an identity provider's
// signals speak of, or by an e-mail address. A key that anybody can type in shows nobody.
func interactive(ctx context.Context, f *facts, t *tally) error {
	t.of = "workloads that used something"
	set, ok := f.statements(t)
	if !ok {
		return nil
	}
	uses, err := f.uses(ctx)
	if err != nil {
		return err
	}
	people := map[string]string{}
	for _, p := range set.Charter.People {
		people[p.ID] = p.ID
	}
	for _, s := range set.Charter.Signals {
		for _, m := range s.Subjects {
			if m.Kind == "person" {
				people[m.Subject] = m.ID
			}
		}
	}
	type use struct {
		count, typed int64
		refs, typist []Ref
	}
	by := map[string]*use{}
	for i := range uses {
		u := &uses[i]
		if by[u.Workload] == nil {
			by[u.Workload] = new(use)
		}
		w := by[u.Workload]
		w.count, w.refs = w.count+u.Count, refs(u)
		if u.Level == "W0" {
			w.typed, w.typist = w.typed+u.Count, refs(u)
		}
	}
	for _, w := range set.Charter.Workloads {
		used := by[w.ID]
		if used == nil {
			continue
		}
		finding := f.ofWorkload(&w).saying("", used.refs...)
		for _, id := range w.Identities {
			who := people[id.Subject]
			if who == "" && strings.Contains(id.Subject, "@") {
				who = id.Subject
			}
			if who != "" {
				finding.What = fmt.Sprintf("%d uses as a workload that %s proves to be as the person %s", used.count, id.Issuer, who)
			}
		}
		switch {
		case finding.What != "":
			t.fail(finding)
		case used.typed > 0:
			finding.What, finding.Refs = fmt.Sprintf("%d uses with a key that anybody who has it can type in: whether a person did cannot be said", used.typed), used.typist
			t.unknown(finding)
		default:
			t.pass(w.Unit, 1)
		}
	}
	return nil
}
