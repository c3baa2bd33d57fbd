package register

import (
	"slices"
	"time"

	"github.com/reevehq/reeve/internal/audit/history"
	"github.com/reevehq/reeve/internal/statement"
)

// components are those that a set of statements names, and who answered for them at t.
func components(s *history.Span, t time.Time) (list []Component) {
	add := func(c Component) {
		c.Tenant = tenant(s.Set, c.Units)
		c.Valid, c.Until, c.Recorded, c.Record, c.Anchored = s.From, s.Until, s.From, s.Hash, true
		list = append(list, c)
	}
	for _, g := range s.Operations.Gateways {
		named := Owners{Policy: g.Owners.Policy, Operations: g.Owners.Operations, Lifecycle: g.Owners.Lifecycle}
		add(Component{ID: g.ID, Kind: Gateway, Units: slices.Clone(g.Units), Named: named, Owners: named.acting(&s.Charter, t), Declared: []Flag{Transport, Invoke}})
	}
	for _, id := range custodians(s.Set) {
		add(custodian(s.Set, id, t))
	}
	named := Owners{Policy: first(&s.Charter, s.Charter.Roles.Root, t), Operations: first(&s.Charter, s.Charter.Roles.Operations, t)}
	named.Lifecycle = named.Policy
	for _, p := range processes(s.Set, t, "feed", "token") {
		declared := []Flag{Transport}
		if len(processes(s.Set, t, "token")) > 0 {
			declared = append(declared, Invoke) // it vouches for workloads
		}
		add(Component{ID: p, Kind: Authority, Named: named, Owners: named.acting(&s.Charter, t), Declared: declared})
	}
	for _, p := range processes(s.Set, t, "witness") {
		add(Component{ID: p, Kind: Auditor, Named: named, Owners: named.acting(&s.Charter, t), Declared: []Flag{Transport}})
	}
	return list
}

// KindOf is the kind of the estate's component of an id, or empty.
func KindOf(s *statement.Set, id string, t time.Time) Kind {
	_, gateway := s.Gateway(id)
	switch {
	case gateway:
		return Gateway
	case slices.Contains(custodians(s), id):
		return Custodian
	case slices.Contains(processes(s, t, "feed", "token"), id):
		return Authority
	case slices.Contains(processes(s, t, "witness"), id):
		return Auditor
	}
	return ""
}

// tenant is the one tenant of the units, or empty.
func tenant(s *statement.Set, units []string) (tenant string) {
	for _, u := range s.Charter.Units {
		switch {
		case len(units) > 0 && !slices.Contains(units, u.ID), u.Tenant == tenant:
		case tenant != "":
			return ""
		default:
			tenant = u.Tenant
		}
	}
	return tenant
}

// processes are those that have a live service key for one of the uses, sorted.
func processes(s *statement.Set, t time.Time, uses ...string) (ids []string) {
	for _, use := range uses {
		for _, k := range s.ServiceKeys(use, t) {
			ids = append(ids, k.Process)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// custodians are those that any unit enrols, sorted.
func custodians(s *statement.Set) (ids []string) {
	for _, cu := range s.Custody {
		for _, c := range cu.Custodians {
			ids = append(ids, c.ID)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// custodian is one custodian over all units that it serves. Nobody owns it for all of them but for operations.
func custodian(s *statement.Set, id string, t time.Time) Component {
	c := Component{ID: id, Kind: Custodian, UnitOwners: map[string]Owners{}, Declared: []Flag{Transport}}
	c.Named.Operations = first(&s.Charter, s.Charter.Roles.Operations, t)
	c.Owners = c.Named.acting(&s.Charter, t)
	for _, u := range s.Charter.Units {
		if !slices.ContainsFunc(s.Custody[u.ID].Custodians, func(k statement.Custodian) bool { return k.ID == id }) {
			continue
		}
		roles := s.Charter.Roles.Units[u.ID]
		named := Owners{Policy: first(&s.Charter, roles.Policy, t), Lifecycle: first(&s.Charter, roles.Lifecycle, t), Operations: c.Named.Operations}
		c.Units, c.UnitOwners[u.ID] = append(c.Units, u.ID), named.acting(&s.Charter, t)
		for _, cr := range s.Custody[u.ID].Credentials {
			if s.Serves(id, cr.ID) {
				c.Declared = union(c.Declared, custodianFlags(cr.Source, cr.Inject.As))
			}
		}
	}
	return c
}

// custodianFlags is what a custodian does with a credential of a source, sent as inject says.
func custodianFlags(source, inject string) []Flag {
	flags := []Flag{Cache}
	switch source {
	case "sealed":
	case "vault":
		flags = append(flags, Retrieve)
	default: // federation, oauth, github-app, openai-key
		flags = append(flags, Mint)
	}
	if inject != "sigv4" && inject != "tls" { // these sign with the secret and do not send it
		flags = append(flags, Forward)
	}
	return flags
}

// first is the first of the people who is live at t, or for whom a deputy is: the one who answers where a role has several holders. Without any
// it is the first named, whose duties are orphaned.
func first(c *statement.Charter, people []string, t time.Time) string {
	for _, id := range people {
		if acting(c, id, t) != "" {
			return id
		}
	}
	if len(people) > 0 {
		return people[0]
	}
	return ""
}
