package blast

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/reevehq/reeve/internal/custody"
	"github.com/reevehq/reeve/internal/statement"
)

// account finds whose the row is as of the start of the window: in the first set of it that has the credential.
func (r *radius) account(d *draft) {
	at := r.from
	for _, s := range r.spans {
		if s.From.After(at) {
			at = s.From
		}
		for _, k := range keepers(s.Set, d.Credential) {
			d.keepers[k] = true
		}
		c, owning, ok := s.Credential(d.Credential)
		if !ok || d.Owning != "" {
			continue
		}
		d.Owning, d.Destination = owning.ID, c.Destination.Origin
		if full, err := custody.Read(*c); err == nil { // with what its template says
			d.Destination = full.Destination.Origin
		}
		if u := r.unit(s, d.Unit); u != nil {
			d.Tenant = u.Tenant
		}
		for _, u := range []string{d.Unit, owning.ID} {
			d.Accountable.Policy = union(d.Accountable.Policy, s.Charter.Roles.Units[u].Policy)
		}
		if p, live := s.Owner(d.Credential, at); live && p.Live(at) {
			d.Accountable.Lifecycle = p.ID
		}
		for _, g := range s.Operations.Gateways {
			if slices.Contains(d.Gateways, g.ID) || g.ID == r.component.ID {
				d.Accountable.Operations = insert(d.Accountable.Operations, g.Owners.Operations)
			}
		}
	}
	if o := r.component.Owners.Operations; o != "" { // it answers for containment
		d.Accountable.Operations = insert(d.Accountable.Operations, o)
	}
}

// classify says what happened, the most serious first, and why.
func (r *radius) classify(d *draft) {
	incomplete := r.incomplete(d)
	d.Complete = incomplete == ""
	whys := map[Class]string{}
	if len(d.held) > 0 {
		whys[Read] = d.held[0].why + more(len(d.held)-1)
	}
	if len(d.strays) > 0 {
		var n int64
		for _, s := range d.strays {
			n += s.Count
		}
		whys[OutOfBand] = fmt.Sprintf("%s shows %s that no ledger has: %s", d.strays[0].Provider, plural(int(n), "use"), d.strays[0].Why)
	}
	if d.asserted > 0 {
		whys[UsedAsserted] = fmt.Sprintf("%s by %s, for which only %s vouched", plural(int(d.asserted), "use"), strings.Join(d.Workloads, ", "), r.vouched(d))
	}
	if d.proven > 0 {
		whys[UsedProven] = fmt.Sprintf("%s by %s, each with the workload's own signature over the request, which the custodian verified", plural(int(d.proven), "use"), strings.Join(d.Workloads, ", "))
	}
	if len(whys) == 0 {
		d.idle(whys, incomplete, r.gap, r.subject.ID)
	}
	d.Classes = slices.DeleteFunc(slices.Clone(Classes), func(c Class) bool { _, is := whys[c]; return !is })
	d.Class = d.Classes[0]
	d.Why = whys[d.Class]
	if d.Unknown > 0 {
		d.Why += fmt.Sprintf("; the outcome of %d is unknown", d.Unknown)
	}
	d.Why += "."
}

// idle judges a row without any use. gap is why not all statements of the window are known.
func (d *draft) idle(whys map[Class]string, incomplete, gap, subject string) {
	switch {
	case d.open:
		whys[Reachable] = "permitted by " + strings.Join(d.Policies, ", ") + "; no entry says that it was used"
	case d.glass:
		whys[Reachable] = "opened by break-glass; no entry says that it was used"
	case d.served:
		whys[Reachable] = subject + " serves it and needs no policy to use it; no entry says that it was used"
	case gap != "":
		whys[Reachable] = "no policy that is known permitted it, but not all of the window's are: " + gap
	case incomplete != "":
		whys[Reachable] = "no policy permitted it, but whether it was used cannot be known: " + incomplete
		return
	case d.closed != nil:
		whys[Excluded] = fmt.Sprintf("policy would have permitted it, but %s was closed by %s since %s, and the ledgers are complete", d.target, d.closed.By, stamp(d.closed.At))
	default:
		whys[Excluded] = "no policy in force permitted it, and the ledgers of its custodians are complete"
		if d.Denied > 0 {
			whys[Excluded] = fmt.Sprintf("each of %d tries was refused, no policy in force permitted it, and the ledgers of its custodians are complete", d.Denied)
		}
	}
	if incomplete != "" {
		whys[Reachable] += ", though the ledgers are not complete: " + incomplete
	}
}

// incomplete says what is missing in the ledgers of the credential's custodians, or nothing. One that serves it no more may still hold it.
func (r *radius) incomplete(d *draft) string {
	var why []string
	all := maps.Clone(d.keepers)
	for _, v := range r.versions[d.Credential] {
		all[r.ledgers.process[v.Log]] = true
	}
	for _, k := range slices.Sorted(maps.Keys(all)) {
		if l := r.ledgers.judge(k); !l.Complete {
			why = append(why, l.Why)
		}
	}
	return strings.Join(why, "; ")
}

// vouched says who vouched for the uses that nothing proves.
func (r *radius) vouched(d *draft) string {
	var by []string
	for _, proof := range slices.Sorted(maps.Keys(d.Proofs)) {
		switch {
		case strings.HasSuffix(proof, "bearer"):
			by = insert(by, "a key that the gateway saw")
		case strings.HasSuffix(proof, "token"):
			by = insert(by, "a token that the gateway saw")
		case r.power.proven != nil:
			by = insert(by, r.subject.ID+" itself")
		}
	}
	if len(by) == 0 {
		return "nobody"
	}
	return strings.Join(by, ", or ")
}

// more says that there were others.
func more(n int) string {
	if n < 1 {
		return ""
	}
	return fmt.Sprintf(", and %d more", n)
}

// keepers are the custodians that serve a credential.
func keepers(s *statement.Set, credential string) (ids []string) {
	c, u, ok := s.Credential(credential)
	switch {
	case !ok:
		return nil
	case len(c.Custodians) > 0:
		return c.Custodians
	}
	for _, k := range s.Custody[u.ID].Custodians {
		ids = append(ids, k.ID)
	}
	return ids
}
