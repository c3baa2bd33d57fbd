package control

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/audit/register"
	"github.com/reevehq/reeve/internal/statement"
)

// owners judges RV-01: every credential has one live owner, and every live secret is one of a credential.
func owners(ctx context.Context, f *facts, t *tally) error {
	t.of = "credentials"
	set, ok := f.statements(t)
	if !ok {
		return nil
	}
	for unit, c := range credentials(set) {
		if _, ok := set.Owner(c.ID, f.asOf); ok {
			t.pass(unit, 1)
			continue
		}
		t.fail(f.ofCredential(c.ID).saying(fmt.Sprintf("nobody answers for it: its owner %s %s, and no deputy of his is live", c.Owner, gone(set, c.Owner, f.asOf))))
	}
	versions, err := f.bound(ctx)
	if err != nil {
		return err
	}
	for i := range versions {
		v := &versions[i]
		if _, _, known := set.Credential(v.Credential); !known && f.live(v) {
			t.fail(Finding{Subject: "credential:" + v.Credential, Unit: v.Unit, Owner: f.escalate(v.Unit), Refs: []Ref{{v.Log, v.StateSeq}},
				What: fmt.Sprintf("version %s of its secret lives, and no statement in force names the credential: nobody answers for it", v.Lease)})
		}
	}
	return nil
}

// gone says why a person is not live.
func gone(set *statement.Set, id string, at time.Time) string {
	p, ok := set.Person(id)
	switch {
	case !ok:
		return "is no person of the charter"
	case !p.Left.IsZero() && !at.Before(p.Left):
		return "left on " + p.Left.UTC().Format(time.DateOnly)
	}
	return "is attested until " + p.AttestedUntil.UTC().Format(time.DateOnly) + " only"
}

// gatewayOwners judges RV-02: three different live people for every gateway, also for those of other teams and of vendors.
func gatewayOwners(_ context.Context, f *facts, t *tally) error {
	t.of = "gateways"
	set, ok := f.statements(t)
	if !ok {
		return nil
	}
	for _, g := range set.Operations.Gateways {
		f.three(t, "gateway:"+g.ID, [3]string{g.Owners.Policy, g.Owners.Operations, g.Owners.Lifecycle})
	}
	others, err := f.components(t, register.Foreign, register.Vendor)
	for _, c := range others {
		f.three(t, "gateway:"+c.ID, [3]string{c.Owners.Policy, c.Owners.Operations, c.Owners.Lifecycle})
	}
	return err
}

func (f *facts) three(t *tally, subject string, owners [3]string) {
	roles, acting := [3]string{"policy", "operations", "lifecycle"}, [3]string{}
	var wrong []string
	for i, id := range owners {
		acting[i] = f.who(id)
		switch {
		case id == "":
			wrong = append(wrong, "nobody owns its "+roles[i])
		case acting[i] == "":
			wrong = append(wrong, fmt.Sprintf("%s, who owns its %s, is not live and has no deputy", id, roles[i]))
		}
		for j := range i {
			if acting[i] != "" && acting[i] == acting[j] {
				wrong = append(wrong, fmt.Sprintf("%s answers for %s and %s", acting[i], roles[j], roles[i]))
			}
		}
	}
	if len(wrong) == 0 {
		t.pass("", 1)
		return
	}
	t.fail(Finding{Subject: subject, Owner: f.firstOf(slices.Concat([]string{owners[1], owners[0], owners[2]}, f.span.Charter.Roles.Root)...), What: strings.Join(wrong, "; ")})
}

// attestations judges RV-04: whoever holds a role was attested within the time, and signed what is in force at AAL2 (SP 800-63B-4) or better.
func attestations(_ context.Context, f *facts, t *tally) error {
	t.of = "people"
	set, ok := f.statements(t)
	if !ok {
		return nil
	}
	weak := map[string][]string{} // statements that a person signed below AAL2
	for name, approvals := range set.Approvals {
		best := map[string]int{}
		for _, a := range approvals {
			best[a.Person] = max(best[a.Person], a.AAL)
		}
		for person, aal := range best {
			if aal < 2 {
				weak[person] = append(weak[person], name)
			}
		}
	}
	if len(set.Approvals) == 0 {
		t.unknown(Finding{Subject: "estate", What: "the signatures of what is in force are not there"})
	}
	for person, names := range f.holders() {
		p, ok := set.Person(person)
		var wrong []string
		switch since := f.attestedSince(person); {
		case !ok || !p.Live(f.asOf):
			wrong = append(wrong, gone(set, person, f.asOf))
		case f.asOf.Sub(since) > f.opts.Attested:
			wrong = append(wrong, fmt.Sprintf("was attested on %s, %d days ago; %d are allowed", since.UTC().Format(time.DateOnly), int(f.asOf.Sub(since)/day), int(f.opts.Attested/day)))
		}
		if w := weak[person]; len(w) > 0 {
			slices.Sort(w)
			wrong = append(wrong, fmt.Sprintf("signed %s with a key whose holder no authenticator verified (AAL1)", strings.Join(w, ", ")))
		}
		if len(wrong) == 0 {
			t.pass("", 1)
			continue
		}
		t.fail(Finding{Subject: "person:" + person, Owner: f.other(person), What: fmt.Sprintf("%s, who holds %s, %s", person, strings.Join(names, ", "), strings.Join(wrong, ", and "))})
	}
	return nil
}

// holders are the people who are named for a role, with the roles.
func (f *facts) holders() map[string][]string {
	r, all := f.span.Charter.Roles, map[string][]string{}
	add := func(role string, people []string) {
		for _, p := range people {
			if !slices.Contains(all[p], role) {
				all[p] = append(all[p], role)
			}
		}
	}
	add("root", r.Root)
	add("operations", r.Operations)
	for _, u := range f.span.Charter.Units {
		add("policy of "+u.ID, r.Units[u.ID].Policy)
		add("lifecycle of "+u.ID, r.Units[u.ID].Lifecycle)
	}
	return all
}

// attestedSince is when the attestation in force was made: since when the charter has it.
func (f *facts) attestedSince(person string) (since time.Time) {
	now, _ := f.span.Person(person)
	since = f.span.From
	for _, s := range f.books.History.In(time.Time{}, f.end()) {
		if p, ok := s.Person(person); ok && now != nil && p.AttestedUntil.Equal(now.AttestedUntil) && p.AttestedBy == now.AttestedBy && s.From.Before(since) {
			since = s.From
		}
	}
	return since
}

// other is somebody of the root quorum who is not that person: what is wrong with him is theirs to put right.
func (f *facts) other(person string) string {
	return f.firstOf(slices.DeleteFunc(slices.Clone(f.span.Charter.Roles.Root), func(id string) bool { return id == person })...)
}

// scoping judges RV-20: of every use it is certain which unit used whose credential, and who answered for it then.
func scoping(ctx context.Context, f *facts, t *tally) error {
	t.of = "uses"
	uses, err := f.uses(ctx)
	if err != nil {
		return err
	}
	for i := range uses {
		u := &uses[i]
		finding := Finding{Subject: "credential:" + u.Credential, Unit: u.Unit, Refs: refs(u), Owner: f.ownerOf(u.Credential)}
		s := f.books.History.Of(u.Estate)
		if s == nil {
			finding.What = fmt.Sprintf("%d uses by %s were decided under a set that the store does not have: whose they were cannot be said", u.Count, u.Workload)
			t.unknown(finding)
			continue
		}
		_, home, known := s.Workload(u.Workload)
		_, _, held := s.Credential(u.Credential)
		_, live := s.Owner(u.Credential, time.Unix(0, u.First))
		switch {
		case !known || home.ID != u.Unit || home.Tenant != u.Tenant:
			finding.What = fmt.Sprintf("%d uses say that %s is of %s, tenant %s, and the set in force did not", u.Count, u.Workload, u.Unit, u.Tenant)
		case !held:
			finding.What = fmt.Sprintf("%d uses by %s are of a credential that the set in force did not have: no unit owns it", u.Count, u.Workload)
		case !live:
			finding.What = fmt.Sprintf("%d uses by %s while nobody live answered for it", u.Count, u.Workload)
		default:
			t.pass(u.Unit, int(u.Count))
			continue
		}
		t.fail(finding)
	}
	return nil
}
