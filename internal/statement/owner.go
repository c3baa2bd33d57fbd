package statement

import (
	"slices"
	"strings"
	"time"
)

// Live reports whether the person is here and attested at t.
func (p *Person) Live(t time.Time) bool {
	return p.here(t) && t.Before(p.AttestedUntil)
}

// here reports whether the person has not left at t.
func (p *Person) here(t time.Time) bool { return p.Left.IsZero() || t.Before(p.Left) }

// person returns the person, or nil.
func (c *Charter) person(id string) *Person {
	if c.people != nil {
		return c.people[id]
	}
	if i := slices.IndexFunc(c.People, func(p Person) bool { return p.ID == id }); i >= 0 {
		return &c.People[i]
	}
	return nil
}

// Acting returns who stands for the person at t: he himself while he is live, else his first live deputy, else nil.
func (c *Charter) Acting(id string, t time.Time) *Person {
	p := c.person(id)
	if p == nil || p.Live(t) {
		return p
	}
	for _, dep := range p.Deputies {
		if d := c.person(dep); d != nil && d.Live(t) {
			return d
		}
	}
	return nil
}

// holds reports whether the person holds the role at t, himself or as acting deputy. Root has no deputies and does not
// need an attestation: the root quorum is who renews them.
func (c *Charter) holds(person string, r role, t time.Time) bool {
	var list []string
	switch r.name {
	case "root":
		p := c.person(person)
		return p != nil && slices.Contains(c.Roles.Root, person) && p.here(t)
	case "operations":
		list = c.Roles.Operations
	case "policy":
		list = c.Roles.Units[r.unit].Policy
	case "lifecycle":
		list = c.Roles.Units[r.unit].Lifecycle
	}
	return slices.ContainsFunc(list, func(id string) bool {
		p := c.Acting(id, t)
		return p != nil && p.ID == person
	})
}

// anyHolds reports whether one of the people holds the role at t.
func (c *Charter) anyHolds(people signers, r role, t time.Time) bool {
	for id := range people {
		if c.holds(id, r, t) {
			return true
		}
	}
	return false
}

// roles returns which of the three owner roles the person holds at t, in the units or, when units is nil, in any.
func (c *Charter) roles(person string, units []string, t time.Time) (held []string) {
	if c.holds(person, role{"operations", ""}, t) {
		held = append(held, "operations")
	}
	for _, name := range []string{"policy", "lifecycle"} {
		for _, u := range c.Units {
			if (units == nil || slices.Contains(units, u.ID)) && c.holds(person, role{name, u.ID}, t) {
				held = append(held, name)
				break
			}
		}
	}
	return held
}

// two reports whether among the people are two distinct ones who hold two different owner roles at t, in the units or, when units
// is nil, in any.
func (c *Charter) two(people signers, units []string, t time.Time) bool {
	var before [][]string // the roles of each person so far
	for id := range people {
		held := c.roles(id, units, t)
		for _, other := range before {
			if len(held) > 0 && len(other) > 0 && (len(held) > 1 || len(other) > 1 || held[0] != other[0]) {
				return true
			}
		}
		before = append(before, held)
	}
	return false
}

// Two reports whether among the people are two who had not left at t and held two different owner roles then.
func (c *Charter) Two(people []string, t time.Time) bool {
	by := signers{}
	for _, id := range people {
		if p := c.person(id); p != nil && p.here(t) {
			by[id] = p
		}
	}
	return c.two(by, nil, t)
}

// twoOver reports whether the people are two for a target whose roles count there.
func (c *Charter) twoOver(people signers, at where, t time.Time) bool {
	if at.estate {
		return c.two(people, nil, t) && (c.anyHolds(people, role{name: "operations"}, t) || c.anyHolds(people, role{name: "root"}, t))
	}
	root := 0
	for id := range people {
		if at.charter && c.holds(id, role{name: "root"}, t) {
			root++
		}
	}
	return root >= c.threshold("root") || c.two(people, at.units, t)
}

// tenant is the units of a tenant, never nil.
func (c *Charter) tenant(id string) []string {
	units := []string{}
	for _, u := range c.Units {
		if u.Tenant == id {
			units = append(units, u.ID)
		}
	}
	return units
}

// home is the units of the one tenant in which the person has roles. Who has roles in none or several, or one of the whole estate, is
// the root holders' alone: no unit's.
func (c *Charter) home(person string) []string {
	tenant := ""
	for _, u := range c.Units {
		if r := c.Roles.Units[u.ID]; !slices.Contains(r.Policy, person) && !slices.Contains(r.Lifecycle, person) {
			continue
		}
		if tenant != "" && tenant != u.Tenant {
			return []string{}
		}
		tenant = u.Tenant
	}
	if slices.Contains(c.Roles.Root, person) || slices.Contains(c.Roles.Operations, person) {
		return []string{}
	}
	return c.tenant(tenant)
}

// threshold is how many people must approve a statement of the role.
func (c *Charter) threshold(role string) int {
	n := map[string]int{"root": max(2, c.Threshold.Root), "policy": c.Threshold.Policy, "lifecycle": c.Threshold.Lifecycle, "operations": c.Threshold.Operations}[role]
	return max(1, n)
}

// checkAuthor checks that the author is a live person and signed.
func (c *Charter) checkAuthor(m *Manifest, signed signers) error {
	if p := c.person(m.Author); p == nil || !p.Live(m.Created) {
		return authorError(m, "is not a live person of the charter")
	}
	if signed[m.Author] == nil {
		return authorError(m, "did not sign it")
	}
	return nil
}

// checkApprovers checks that enough holders of the role signed. The author does not count, except in the root quorum,
// which is never he alone.
func (c *Charter) checkApprovers(m *Manifest, signed signers, r role) error {
	var approvers []string
	for id := range signed {
		if (id != m.Author || r.name == "root") && c.holds(id, r, m.Created) {
			approvers = append(approvers, id)
		}
	}
	if need := c.threshold(r.name); len(approvers) < need {
		slices.Sort(approvers)
		besides := " besides its author " + m.Author
		if r.name == "root" {
			besides = ""
		}
		return refuse("approvers", "version %d of %s needs %d people of the role %s%s, and %d signed (%s)",
			m.Version, m.Statement, need, r, besides, len(approvers), strings.Join(approvers, ", "))
	}
	return nil
}

func authorError(m *Manifest, what string) *Error {
	e := refuse("author", "%s, the author of version %d of %s, %s", m.Author, m.Version, m.Statement, what)
	e.Person = m.Author
	return e
}

// checkLock checks that the author and one other person signed, two of the signers holding two different owner roles.
func (c *Charter) checkLock(m *Manifest, signed signers) error {
	if signed[m.Author] == nil || !signed[m.Author].Live(m.Created) {
		return authorError(m, "is not a live person who signed it")
	}
	if !c.two(signed, nil, m.Created) {
		return refuse("approvers", "version %d of the lock is not signed by two people with two different owner roles", m.Version)
	}
	return nil
}

// MayApprove reports whether the charter lists the person for the role that approves the statement. For the lock that is
// any owner role.
func (c *Charter) MayApprove(person, name string) bool {
	far := time.Time{} // everyone who has not been born as left is live here: only the lists count
	if name == "lock" {
		return len(c.roles(person, nil, far)) > 0
	}
	r, ok := c.statements()[name]
	return ok && c.holds(person, r, far)
}
