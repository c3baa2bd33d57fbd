package control

import (
	"iter"

	"github.com/reevehq/reeve/internal/statement"
)

// credentials are those of a set, each with the unit that owns it, in the order of the statements.
func credentials(set *statement.Set) iter.Seq2[string, *statement.Credential] {
	return func(yield func(string, *statement.Credential) bool) {
		for _, u := range set.Charter.Units {
			cu := set.Custody[u.ID]
			if cu == nil {
				continue
			}
			for i := range cu.Credentials {
				if !yield(u.ID, &cu.Credentials[i]) {
					return
				}
			}
		}
	}
}

// ofCredential is a finding about a credential: its unit's, for whoever answers for it.
func (f *facts) ofCredential(id string) Finding {
	return Finding{Subject: "credential:" + id, Unit: f.home(id), Owner: f.ownerOf(id)}
}

// ofWorkload is a finding about a workload: its unit's, for whoever answers for its policy.
func (f *facts) ofWorkload(w *statement.Workload) Finding {
	return Finding{Subject: "workload:" + w.ID, Unit: w.Unit, Owner: f.policyOwner(w.Unit)}
}

// who acts for a person at asOf, or empty.
func (f *facts) who(id string) string {
	if p := f.span.Charter.Acting(id, f.asOf); p != nil {
		return p.ID
	}
	return ""
}

// firstOf is the first of some people who is live, or has a deputy who is.
func (f *facts) firstOf(people ...string) string {
	for _, id := range people {
		if who := f.who(id); who != "" {
			return who
		}
	}
	return ""
}

// escalate names who has to act where nobody answers: the unit's lifecycle owners, its policy owners, then the root quorum.
func (f *facts) escalate(unit string) string {
	r := f.span.Charter.Roles
	u := r.Units[unit]
	return f.firstOf(append(append(append([]string{}, u.Lifecycle...), u.Policy...), r.Root...)...)
}

// operator is who answers for the estate's operations, or empty.
func (f *facts) operator() string {
	if f.span == nil {
		return ""
	}
	return f.firstOf(append(append([]string{}, f.span.Charter.Roles.Operations...), f.span.Charter.Roles.Root...)...)
}

// ownerOf is who answers for a credential, or who has to find somebody.
func (f *facts) ownerOf(credential string) string {
	if f.span == nil {
		return ""
	}
	if p, ok := f.span.Owner(credential, f.asOf); ok {
		return p.ID
	}
	if _, u, ok := f.span.Credential(credential); ok {
		return f.escalate(u.ID)
	}
	return f.operator()
}

// policyOwner is who answers for the policy of a unit.
func (f *facts) policyOwner(unit string) string {
	if f.span == nil {
		return ""
	}
	if who := f.firstOf(f.span.Charter.Roles.Units[unit].Policy...); who != "" {
		return who
	}
	return f.escalate(unit)
}

// home is the unit that owns a credential, or empty.
func (f *facts) home(credential string) string {
	if f.span != nil {
		if _, u, ok := f.span.Credential(credential); ok {
			return u.ID
		}
	}
	return ""
}
