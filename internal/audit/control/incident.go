package control

import (
	"cmp"
	"slices"
)

// courses is how each incident went, by id, as far as that had happened by asOf. When it was opened, answered and closed its journal says, which two
// people signed; how it was contained counts once a ledger has it, and the newest that was looked at.
func (f *facts) courses() (list []Incident) {
	by := map[string]*Incident{}
	for _, i := range f.evidence.Incidents {
		if i.AsOf.IsZero() && !i.Opened.After(f.asOf) {
			if i.Attributed.After(f.asOf) {
				i.Attributed = i.AsOf
			}
			if i.Closed.After(f.asOf) {
				i.Closed = i.AsOf
			}
			by[i.ID] = &i
		}
	}
	for _, i := range f.evidence.Incidents {
		if is := by[i.ID]; is != nil && i.AsOf.After(is.AsOf) && !i.AsOf.After(f.asOf) && f.anchored(i.Record) {
			is.Begun, is.Contained, is.AsOf, is.Dead, is.Unproven, is.NoEnd, is.Residual, is.Record = i.Begun, i.Contained, i.AsOf, i.Dead, i.Unproven, i.NoEnd, i.Residual, i.Record
		}
	}
	for _, i := range by {
		list = append(list, *i)
	}
	slices.SortFunc(list, func(a, b Incident) int { return cmp.Or(a.Opened.Compare(b.Opened), cmp.Compare(a.ID, b.ID)) })
	return list
}

// ofIncident is a finding about an incident.
func (f *facts) ofIncident(i Incident, what string) Finding {
	return Finding{Subject: "incident:" + i.ID, Owner: f.operator(), Refs: f.vouched(i.Record), What: what}
}
