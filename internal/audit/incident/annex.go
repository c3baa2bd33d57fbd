package incident

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/audit/blast"
	"github.com/reevehq/reeve/internal/custody"
	"github.com/reevehq/reeve/internal/statement"
)

// account says who answered for what.
func (m *maker) account() {
	for _, r := range m.rows() {
		if r.Class == blast.Excluded {
			continue
		}
		d := Duty{Of: r.Credential + " for " + r.Unit, Policy: r.Accountable.Policy, Operations: r.Accountable.Operations, Lifecycle: some(r.Accountable.Lifecycle), Approvers: r.Accountable.Approvers}
		m.Accountable = append(m.Accountable, d)
		for _, ids := range [][]string{d.Policy, d.Operations, d.Lifecycle, d.Approvers} {
			for _, id := range ids {
				m.people[id] = true
			}
		}
	}
}

// credentials fills the credential annex: whatever was read, used or reached.
func (m *maker) credentials() {
	at := map[string]int{}
	for _, r := range m.rows() { // the most serious first
		if r.Class == blast.Excluded {
			continue
		}
		i, ok := at[r.Credential]
		if !ok {
			i, at[r.Credential] = len(m.Credentials), len(m.Credentials)
			m.Credentials = append(m.Credentials, m.credential(&r))
		}
		c := &m.Credentials[i]
		for _, f := range r.Fingerprints {
			c.Fingerprints = add(c.Fingerprints, f)
		}
		c.Uses += r.Uses
		if r.Last.After(c.LastUse) {
			c.LastUse = r.Last
		}
	}
}

func (m *maker) credential(r *blast.Row) Credential {
	c := Credential{ID: r.Credential, Unit: r.Owning, Owner: r.Accountable.Lifecycle, Class: r.Class, Fingerprints: []string{}, Destination: r.Destination, Scope: []string{},
		State: r.State, Live: r.Live, LiveUntil: r.LiveUntil, Probe: "not ended, so not probed"}
	if x, _, ok := m.span.Set.Credential(r.Credential); ok {
		filled, err := custody.Read(*x)
		if err != nil {
			filled = *x
		}
		c.Destination = cmp.Or(c.Destination, filled.Destination.Origin)
		c.Scope = append([]string{strings.Join(filled.Destination.Methods, ", ")}, filled.Destination.Paths...)
		c.Lifetime = time.Duration(filled.MaxLifetime).String()
	}
	for _, o := range m.Containment.Outcomes {
		for _, d := range slices.Concat(o.Dead, o.Unproven) {
			if d.Credential == r.Credential {
				c.Probe = fmt.Sprintf("%s: %s (entry %d of log %s)", d.Custodian, d.Why, d.Entry.Seq, d.Entry.Log)
			}
		}
	}
	return c
}

// units fills the annexes: each has what concerns the unit, and nothing of others but what they used of its.
func (m *maker) units() {
	by := map[string]*Unit{}
	for _, r := range m.rows() {
		if r.Class == blast.Excluded {
			continue
		}
		for _, id := range slices.Compact([]string{r.Unit, r.Owning}) {
			u := by[id]
			if u == nil {
				u = &Unit{Unit: id, Rows: []blast.Row{}, Accountable: []Duty{}}
				if i := slices.IndexFunc(m.span.Charter.Units, func(x statement.Unit) bool { return x.ID == id }); i >= 0 {
					u.Tenant = m.span.Charter.Units[i].Tenant
				}
				by[id] = u
			}
			u.Rows = append(u.Rows, r)
			u.Accountable = append(u.Accountable, Duty{Of: r.Credential + " for " + r.Unit, Policy: r.Accountable.Policy, Operations: r.Accountable.Operations, Lifecycle: some(r.Accountable.Lifecycle), Approvers: r.Accountable.Approvers})
		}
	}
	for _, id := range slices.Sorted(maps.Keys(by)) {
		m.Units = append(m.Units, *by[id])
	}
}
