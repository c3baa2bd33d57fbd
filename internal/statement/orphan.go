package statement

import (
	"cmp"
	"slices"
	"time"
)

// Until is when the person stops being live: he leaves, or his attestation runs out.
func (p *Person) Until() time.Time {
	if !p.Left.IsZero() && p.Left.Before(p.AttestedUntil) {
		return p.Left
	}
	return p.AttestedUntil
}

// Orphan is an item that nobody will answer for from some time on: neither its owner nor a deputy of his is live then.
type Orphan struct {
	Kind  string    `json:"kind"` // credential or gateway
	ID    string    `json:"id"`
	Role  string    `json:"role"`
	Owner string    `json:"owner"`
	At    time.Time `json:"at"` // from when on it is not used; in the past for what is orphaned now
}

// Orphans lists every credential and gateway with the time at which it is orphaned as things stand, the earliest first.
func (s *Set) Orphans() (list []Orphan) {
	add := func(kind, id, role, owner string) {
		list = append(list, Orphan{kind, id, role, owner, s.Charter.answering(owner)})
	}
	for _, u := range s.Charter.Units {
		for _, c := range s.Custody[u.ID].Credentials {
			add("credential", c.ID, "lifecycle", c.Owner)
		}
	}
	for _, g := range s.Operations.Gateways {
		add("gateway", g.ID, "policy", g.Owners.Policy)
		add("gateway", g.ID, "operations", g.Owners.Operations)
		add("gateway", g.ID, "lifecycle", g.Owners.Lifecycle)
	}
	slices.SortStableFunc(list, func(a, b Orphan) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.ID, b.ID)) })
	return list
}

// answering is until when the person or one of his deputies is live.
func (c *Charter) answering(id string) (until time.Time) {
	p := c.person(id)
	if p == nil {
		return until
	}
	until = p.Until()
	for _, dep := range p.Deputies {
		if d := c.person(dep); d != nil && d.Until().After(until) {
			until = d.Until()
		}
	}
	return until
}
