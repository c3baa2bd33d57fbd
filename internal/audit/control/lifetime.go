package control

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/audit/history"
	"github.com/reevehq/reeve/internal/audit/index"
	"github.com/reevehq/reeve/internal/custody"
	"github.com/reevehq/reeve/internal/reach"
	"github.com/reevehq/reeve/internal/statement"
)

// lifetimes judges RV-10: how long a secret is good for, by the versions that custodians hold, and else by its signed record.
func lifetimes(ctx context.Context, f *facts, t *tally) error {
	t.of = "credentials"
	set, ok := f.statements(t)
	if !ok {
		return nil
	}
	versions, err := f.bound(ctx)
	if err != nil {
		return err
	}
	by := map[string][]*index.Version{}
	for i := range versions {
		if v := &versions[i]; f.live(v) {
			by[v.Credential] = append(by[v.Credential], v)
		}
	}
	for unit, c := range credentials(set) {
		finding := f.ofCredential(c.ID)
		var longest time.Duration // of what custodians hold; -1 for no end
		for _, v := range by[c.ID] {
			life := time.Unix(v.Expires, 0).Sub(time.Unix(0, v.Bound))
			if v.Expires == 0 {
				life = -1
			}
			if longest == 0 || life < 0 || longest >= 0 && life > longest {
				longest, finding.Refs = life, []Ref{{v.Log, v.BoundSeq}}
			}
		}
		signed := time.Duration(c.MaxLifetime)
		switch {
		case standing(c) || longest < 0:
			finding.What = "its secret lives until somebody ends it"
			if signed > 0 {
				finding.What += fmt.Sprintf(", and is replaced within %s", span(signed))
			}
			if signed > 0 && signed <= f.opts.Life && standing(c) {
				t.pass(unit, 1)
				continue
			}
			t.fail(finding)
		case longest > f.opts.Life:
			finding.What = fmt.Sprintf("its secret lives %s; %s are allowed", span(longest), span(f.opts.Life))
			t.fail(finding)
		case longest > 0 || signed > 0 && signed <= f.opts.Life:
			t.pass(unit, 1)
		default:
			finding.What = "no custodian has held a secret of it, and its record sets no lifetime within the limit"
			t.unknown(finding)
		}
	}
	t.note = "the limit is " + span(f.opts.Life)
	return nil
}

// standing reports whether what the owner hands over is itself what is used, and lives on.
func standing(c *statement.Credential) bool {
	k, ok := custody.FindKind(c.Source)
	return ok && k.Standing && k.Root != ""
}

// span writes a duration in days, hours or less.
func span(d time.Duration) string {
	if d >= 2*day {
		return fmt.Sprintf("%d days", d/day)
	}
	return d.Round(time.Second).String()
}

// dormant judges RV-11: what was there 90 days ago and was not used since, and who may use what and did not.
func dormant(ctx context.Context, f *facts, t *tally) error {
	t.of = "credentials"
	set, ok := f.statements(t)
	if !ok {
		return nil
	}
	list, err := f.ledger(ctx, t)
	if err != nil || len(list) == 0 {
		return err
	}
	then := f.spanAt(f.from)
	if then == nil {
		t.unknown(Finding{Subject: "estate", What: fmt.Sprintf("it is younger than %s: too early to say what nobody uses", span(f.opts.Window))})
		return nil
	}
	if first := slices.MinFunc(list, func(a, b index.Log) int { return cmp.Compare(a.First, b.First) }).First; first > f.from.UnixNano() {
		t.unknown(Finding{Subject: "ledger", What: fmt.Sprintf("the ledgers begin on %s: what was used before cannot be said", time.Unix(0, first).UTC().Format(time.DateOnly))})
		return nil
	}
	uses, err := f.uses(ctx)
	if err != nil {
		return err
	}
	used, last := map[[2]string]bool{}, map[string]bool{}
	for i := range uses {
		used[[2]string{uses[i].Workload, uses[i].Credential}], last[uses[i].Credential] = true, true
	}
	home := map[string][]string{} // workloads by unit
	for _, w := range set.Charter.Workloads {
		home[w.Unit] = append(home[w.Unit], w.ID)
	}
	lent := map[string][]string{} // units by credential
	for _, cu := range set.Custody {
		for _, g := range cu.Grants {
			lent[g.Credential] = append(lent[g.Credential], g.Unit)
		}
	}
	for owning, c := range credentials(set) {
		if _, _, old := then.Credential(c.ID); !old || c.Honey != "" { // bait is never used
			continue
		}
		finding := f.ofCredential(c.ID)
		if !last[c.ID] {
			finding.What = fmt.Sprintf("nobody has used it for %s", span(f.opts.Window))
			t.fail(finding)
			continue
		}
		var idle []string
		for _, unit := range append([]string{owning}, lent[c.ID]...) {
			for _, w := range home[unit] {
				if used[[2]string{w, c.ID}] {
					continue
				}
				both, err := f.granted(then, w, c.ID)
				if err != nil {
					return err
				}
				if both {
					idle = append(idle, w)
				}
			}
		}
		if len(idle) == 0 {
			t.pass(owning, 1)
			continue
		}
		finding.What = fmt.Sprintf("%d workloads may use it and have not for %s: %s", len(idle), span(f.opts.Window), some(idle))
		t.fail(finding)
	}
	return nil
}

// granted reports whether policy lets the workload use the credential, now and then.
func (f *facts) granted(then *history.Span, workload, credential string) (bool, error) {
	for _, s := range []*history.Span{f.span, then} {
		p, err := f.policies(s)
		if err != nil {
			return false, err
		}
		if reach.Alike(p, workload, credential, nil) == reach.Never {
			return false, nil
		}
		if f.span.Hash == then.Hash {
			break
		}
	}
	return true, nil
}

// some lists the first few.
func some(list []string) string {
	if len(list) > 5 {
		return strings.Join(list[:5], ", ") + fmt.Sprintf(" and %d more", len(list)-5)
	}
	return strings.Join(list, ", ")
}

// reuse judges RV-12: a fingerprint, which is keyed in each custodian, stands for one secret. It is of one credential, and one workload uses it.
func reuse(ctx context.Context, f *facts, t *tally) error {
	t.of = "fingerprints"
	versions, err := f.bound(ctx)
	if err != nil {
		return err
	}
	uses, err := f.uses(ctx)
	if err != nil {
		return err
	}
	type mark struct{ process, fingerprint string }
	type seen struct {
		credentials, workloads, units []string
		refs                          []Ref
	}
	all, order := map[mark]*seen{}, []mark{}
	at := func(log, fingerprint string) (*seen, error) {
		process, err := f.process(ctx, log)
		m := mark{process, fingerprint}
		if all[m] == nil {
			all[m], order = new(seen), append(order, m)
		}
		return all[m], err
	}
	note := func(to *[]string, s string) bool {
		if s == "" || slices.Contains(*to, s) {
			return false
		}
		*to = append(*to, s)
		return true
	}
	for i := range versions {
		v := &versions[i]
		if v.Fingerprint == "" {
			continue
		}
		s, err := at(v.Log, v.Fingerprint)
		if err != nil {
			return err
		}
		if note(&s.credentials, v.Credential) {
			s.refs = append(s.refs, Ref{v.Log, v.BoundSeq})
		}
	}
	for i := range uses {
		u := &uses[i]
		if u.Fingerprint == "" {
			continue
		}
		s, err := at(u.Log, u.Fingerprint)
		if err != nil {
			return err
		}
		a, b, c := note(&s.credentials, u.Credential), note(&s.workloads, u.Workload), note(&s.units, u.Unit)
		if a || b || c {
			s.refs = append(s.refs, refs(u)...)
		}
	}
	for _, m := range order {
		s := all[m]
		slices.Sort(s.credentials)
		slices.Sort(s.workloads)
		slices.Sort(s.units)
		first := s.credentials[0]
		var wrong []string
		for _, shared := range []struct {
			of   string
			list []string
		}{{"credentials", s.credentials}, {"business units", s.units}, {"workloads", s.workloads}} {
			if len(shared.list) > 1 {
				wrong = append(wrong, fmt.Sprintf("%d %s (%s)", len(shared.list), shared.of, some(shared.list)))
			}
		}
		if len(wrong) == 0 {
			t.pass(f.home(first), 1)
			continue
		}
		t.fail(f.ofCredential(first).saying("one secret of "+m.process+" serves "+strings.Join(wrong, ", "), s.refs...))
	}
	return nil
}
