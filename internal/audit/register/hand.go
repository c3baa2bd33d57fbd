package register

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/statement"
)

// Hand is who or what has a secret's plaintext, or comes by it without asking policy.
type Hand struct {
	Who    string   `json:"who"`    // "custodian:c1", "person:cora", "vendor-gateway:acme"
	Why    []string `json:"why"`    // a sentence each
	Latent bool     `json:"latent"` // he does once he acts as somebody's deputy, and not now
}

// Hands lists who can read a credential of the set at t: the components that hold it or are taken to, and who operates them; those who hand it over;
// and those to whom it can be recovered. Who uses it through a custodian reads nothing, and is not among them.
func Hands(set *statement.Set, all []Component, credential string, t time.Time) []Hand {
	cr, unit, ok := set.Credential(credential)
	if !ok {
		return nil
	}
	h := &hands{set: set, t: t}
	for i := range all {
		c := &all[i]
		why := ""
		switch {
		case c.Kind == Custodian && set.Serves(c.ID, credential):
			why = "holds it to use it"
		case c.Kind == Custodian || !c.ControlPlane(t):
			continue
		case slices.Contains(c.Credentials, credential):
			why = "is known to reach it, and can " + words(c.control(t))
		case c.Kind.Own() && c.Serves(unit.ID):
			why = "serves its unit, and was seen to " + words(c.control(t))
		case len(c.Credentials) == 0 && c.Serves(unit.ID):
			why = "serves its unit, can " + words(c.control(t)) + ", and nothing says with which credentials"
		default:
			continue
		}
		h.add(string(c.Kind)+":"+c.ID, why, true)
		h.people(c.Named.Operations, "operates "+c.ID)
	}
	h.people(cr.Owner, "owns it")
	for _, p := range set.Charter.Roles.Units[unit.ID].Lifecycle {
		h.people(p, "hands over secrets of "+unit.ID)
	}
	for _, p := range set.Charter.People {
		if p.Recipient != "" && p.Live(t) && !decides(&set.Charter, p.ID) {
			h.add("person:"+p.ID, "may have it recovered to a key of his, when two others sign", true)
		}
	}
	slices.SortStableFunc(h.list, func(a, b Hand) int {
		return cmp.Or(cmp.Compare(kindOf(a.Who), kindOf(b.Who)), strings.Compare(a.Who, b.Who))
	})
	return h.list
}

// decides reports whether the person holds a unit's policy role: no secret is recovered to one who does.
func decides(c *statement.Charter, person string) bool {
	return slices.ContainsFunc(c.Units, func(u statement.Unit) bool { return slices.Contains(c.Roles.Units[u.ID].Policy, person) })
}

// hands gathers them.
type hands struct {
	set  *statement.Set
	t    time.Time
	list []Hand
}

// people adds who is named, and his deputies in case he is not live.
func (h *hands) people(named, why string) {
	p, ok := h.set.Person(named)
	if !ok {
		return
	}
	now := acting(&h.set.Charter, named, h.t)
	for _, id := range append([]string{named}, p.Deputies...) {
		if q, ok := h.set.Person(id); !ok || !q.Live(h.t) {
			continue
		}
		said := why
		if id != named {
			said += ", as a deputy of " + named
		}
		h.add("person:"+id, said, id == now)
	}
}

func (h *hands) add(who, why string, now bool) {
	i := slices.IndexFunc(h.list, func(x Hand) bool { return x.Who == who })
	if i < 0 {
		h.list, i = append(h.list, Hand{Who: who, Latent: true}), len(h.list)
	}
	one := &h.list[i]
	if one.Latent = one.Latent && !now; !slices.Contains(one.Why, why) {
		one.Why = append(one.Why, why)
	}
}

// kindOf puts components before people.
func kindOf(who string) int {
	if strings.HasPrefix(who, "person:") {
		return 1
	}
	return 0
}
