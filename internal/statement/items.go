package statement

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Change is one item of an estate that a set has otherwise than the set before it.
type Change struct {
	Kind      string  `json:"kind"` // charter, tenant, unit, person, attestation, roles, workload, service-key, credential, …
	ID        string  `json:"id"`
	What      string  `json:"change"`    // added, changed or removed
	Statement string  `json:"statement"` // whose version says so
	Needs     []Owner `json:"needs"`     // who must have signed that version, besides those who approve the statement

	path string // where the item stands in the statement's file
}

// String names the change for people.
func (c Change) String() string {
	return fmt.Sprintf("the %s %s is %s", strings.ReplaceAll(c.Kind, "-", " "), c.ID, c.What)
}

// Owner is who answers for an item: a person for a role, or, when no person is named, any holder of the role.
type Owner struct {
	Person string `json:"person,omitempty"`
	Role   string `json:"role"`           // policy, lifecycle or operations; attester for who vouches for a person
	Unit   string `json:"unit,omitempty"` // empty for operations and attester, and for any unit
}

func (o Owner) String() string {
	r := role{o.Role, o.Unit}
	if o.Person == "" {
		return "an owner of " + r.String()
	}
	return fmt.Sprintf("%s (%s)", o.Person, r)
}

// item is something that a statement says and somebody answers for.
type item struct {
	kind, id, statement, path string
	body                      string  // all that is said of it: two equal bodies are the same item
	opens                     []Owner // who must sign when it is new or another
	keeps                     []Owner // who must sign when it is another or gone
}

// Compare lists what is otherwise in a set than in the one before it, sorted by statement, kind and id.
//
// Most items have no owners but those who approve their statement. The ones that have: a credential's lifecycle owner; the three
// owners of a gateway; for a unit that a gateway comes to serve, the unit's policy owners and the owner of each of its
// credentials; for a workload, the policy owners of its unit; for a grant, the policy owners of both units and the credential's
// owner; for a unit that leaves or changes its tenant, its policy and lifecycle owners; for an attestation, who gives it.
func Compare(before, after *Set) []Change {
	same := set{} // units whose custody both have from one reading: what it says of its items depends on nothing else
	for unit, cu := range after.Custody {
		same[unit] = before.Custody[unit] == cu
	}
	was, is := before.items(same), after.items(same)
	statements := after.Charter.statements()
	var list []Change
	add := func(i item, what string, needs ...[]Owner) {
		c := Change{Kind: i.kind, ID: i.id, What: what, Statement: i.statement, Needs: []Owner{}, path: i.path}
		if _, ok := statements[c.Statement]; !ok {
			c.Statement = "charter" // it took the whole statement away
		}
		for _, o := range slices.Concat(needs...) {
			if !slices.Contains(c.Needs, o) {
				c.Needs = append(c.Needs, o)
			}
		}
		list = append(list, c)
	}
	for key, i := range is {
		old, ok := was[key]
		switch {
		case !ok:
			add(i, "added", i.opens)
		case old.body != i.body:
			add(i, "changed", old.keeps, i.opens)
		}
	}
	for key, i := range was {
		if _, ok := is[key]; !ok {
			i.path = ""
			add(i, "removed", i.keeps)
		}
	}
	slices.SortFunc(list, func(a, b Change) int {
		return strings.Compare(a.Statement+"\x00"+a.Kind+"\x00"+a.ID, b.Statement+"\x00"+b.Kind+"\x00"+b.ID)
	})
	return list
}

// items are all items of the set by kind and id, but for what is in the custody of some units.
func (s *Set) items(but set) map[[2]string]item {
	m := map[[2]string]item{}
	add := func(i item, body any) {
		b, err := json.Marshal(body)
		if err != nil {
			panic(err) // plain data
		}
		for i.body = string(b); m[[2]string{i.kind, i.id}].kind != ""; {
			i.id += " (again)"
		}
		m[[2]string{i.kind, i.id}] = i
	}
	s.charterItems(add)
	for _, u := range s.Charter.Units {
		if !but[u.ID] {
			s.custodyItems(u.ID, add)
		}
		s.policyItems(u.ID, add)
	}
	s.operationsItems(add)
	return m
}

func (s *Set) charterItems(add func(item, any)) {
	c := &s.Charter
	in := func(kind, id, path string) item { return item{kind: kind, id: id, statement: "charter", path: path} }
	add(in("charter", "rules", "$.estate"), []any{c.Estate, c.Demo, c.Threshold, c.Witnesses, c.Revocation, c.RequireIsolation, c.RequireConfinement})
	for _, file := range slices.Sorted(maps.Keys(s.Forbids)) {
		add(in("forbid", file, "$.cedar"), s.Forbids[file])
	}
	for i, t := range c.Tenants {
		add(in("tenant", t, at("$.tenants", i)), nil)
	}
	for i, u := range c.Units {
		one := in("unit", u.ID, at("$.units", i))
		one.keeps = []Owner{{Role: "policy", Unit: u.ID}, {Role: "lifecycle", Unit: u.ID}}
		add(one, u)
		add(in("roles", u.ID, "$.roles.units."+u.ID), c.Roles.Units[u.ID])
	}
	add(in("recovery", "keys", "$.recovery"), c.Recovery)
	add(in("roles", "root", "$.roles.root"), c.Roles.Root)
	add(in("roles", "operations", "$.roles.operations"), c.Roles.Operations)
	for i, p := range c.People {
		one := in("attestation", p.ID, at("$.people", i)+".attested_until")
		one.opens = []Owner{{Person: p.AttestedBy, Role: "attester"}}
		add(one, []any{p.AttestedUntil, p.AttestedBy})
		p.AttestedUntil, p.AttestedBy = time.Time{}, ""
		add(in("person", p.ID, at("$.people", i)), p)
	}
	for i, w := range c.Workloads {
		one := in("workload", w.ID, at("$.workloads", i))
		one.opens = []Owner{{Role: "policy", Unit: w.Unit}}
		one.keeps = one.opens
		var trusted []Issuer // another key of an issuer reaches each workload that it vouches for
		for _, x := range c.Issuers {
			if w.VouchedBy(x.ID) {
				trusted = append(trusted, x)
			}
		}
		add(one, []any{w, trusted})
	}
	for i, x := range c.Issuers {
		add(in("issuer", x.ID, at("$.issuers", i)), x)
	}
	for i, k := range c.ServiceKeys {
		add(in("service-key", k.Use+" "+k.Process+" "+k.Key, at("$.service_keys", i)), k)
	}
}

func (s *Set) custodyItems(unit string, add func(item, any)) {
	cu := s.Custody[unit]
	in := func(kind, id, path string) item {
		return item{kind: kind, id: id, statement: "custody-" + unit, path: path}
	}
	served := func(cr *Credential) (by []Custodian) {
		for _, k := range cu.Custodians {
			if s.Serves(k.ID, cr.ID) {
				by = append(by, k)
			}
		}
		return by
	}
	for i, k := range cu.Custodians {
		add(in("custodian", k.ID+" for "+unit, at("$.custodians", i)), k)
	}
	if cu.Federation != nil {
		add(in("federation", unit, "$.federation"), cu.Federation)
	}
	owners := map[string][]Owner{}
	for i := range cu.Credentials {
		cr := &cu.Credentials[i]
		one := in("credential", cr.ID, at("$.credentials", i))
		one.opens = []Owner{{Person: cr.Owner, Role: "lifecycle", Unit: unit}}
		one.keeps = one.opens
		owners[cr.ID] = one.opens
		says := []any{cr, served(cr)} // with who can open it: a custodian's other key reaches each credential that it serves
		if cr.Source == "federation" {
			says = append(says, cu.Federation) // with who can get it
		}
		add(one, says)
	}
	for i, g := range cu.Grants {
		one := in("grant", g.Credential+" to "+g.Unit, at("$.grants", i))
		one.keeps = owners[g.Credential]
		one.opens = append([]Owner{{Role: "policy", Unit: unit}, {Role: "policy", Unit: g.Unit}}, one.keeps...)
		add(one, nil)
	}
}

func (s *Set) policyItems(unit string, add func(item, any)) {
	p := s.Policies[unit]
	in := func(kind, id, path string) item {
		return item{kind: kind, id: id, statement: "policy-" + unit, path: path}
	}
	for _, file := range slices.Sorted(maps.Keys(s.Cedar[unit])) {
		add(in("policy", unit+"/"+file, "$.cedar"), s.Cedar[unit][file])
	}
	for i, e := range p.Ceilings {
		add(in("ceiling", fmt.Sprintf("%s with %s of %s", e.Workload, e.Credential, unit), at("$.ceilings", i)), e)
	}
	for i, l := range p.Limits {
		add(in("limit", l.Workload+" of "+unit, at("$.limits", i)), l)
	}
}

func (s *Set) operationsItems(add func(item, any)) {
	o := &s.Operations
	in := func(kind, id, path string) item {
		return item{kind: kind, id: id, statement: "operations", path: path}
	}
	for i, g := range o.Gateways {
		one := in("gateway", g.ID, at("$.gateways", i))
		one.opens = []Owner{{Person: g.Owners.Policy, Role: "policy"}, {Person: g.Owners.Operations, Role: "operations"}, {Person: g.Owners.Lifecycle, Role: "lifecycle"}}
		one.keeps = one.opens
		add(one, g)
		for j, u := range g.Units {
			reach := in("gateway-unit", g.ID+" for "+u, at(at("$.gateways", i)+".units", j))
			reach.opens = []Owner{{Role: "policy", Unit: u}}
			for _, cr := range s.Custody[u].Credentials {
				reach.opens = append(reach.opens, Owner{Person: cr.Owner, Role: "lifecycle", Unit: u})
			}
			add(reach, g.Custodians)
		}
	}
	for i, p := range o.Providers {
		add(in("provider", p.Name, at("$.providers", i)), p)
	}
	for name, target := range o.Aliases {
		add(in("alias", name, "$.aliases"), target)
	}
	add(in("limits", "of gateways", "$.limits"), o.Limits)
}

// Signers are the people any one of whom can sign for the owner at t. None is nobody's signature: the role was taken from
// the person, or he and his deputies are not here, and the statement's approvers stand in for him.
func (s *Set) Signers(o Owner, t time.Time) (people []string) {
	c := &s.Charter
	if o.Person == "" {
		for _, p := range c.People {
			if c.holds(p.ID, role{o.Role, o.Unit}, t) {
				people = append(people, p.ID)
			}
		}
		return people
	}
	p := c.Acting(o.Person, t)
	var units []string // any
	if o.Unit != "" {
		units = []string{o.Unit}
	}
	switch {
	case o.Role == "attester":
		return []string{o.Person} // he and no other vouches in his name
	case p != nil && slices.Contains(c.roles(p.ID, units, t), o.Role):
		return []string{p.ID}
	}
	return nil
}

// compared checks that the owners of what s has otherwise than the set before it have signed. Where a unit is gone, the
// charter before says who owned it.
func (s *Set) compared(before *Set, statements map[string]*signed) error {
	for _, ch := range Compare(before, s) {
		g := statements[ch.Statement]
		for _, o := range ch.Needs {
			may, by := s.Signers(o, g.Created), s.Charter.by(g.approvals)
			if o.Unit != "" && s.index.units[o.Unit] == nil {
				may, by = before.Signers(o, g.Created), before.Charter.signers(PayloadType, g.raw, g.sigs)
			}
			if len(may) == 0 && o.Person != "" || slices.ContainsFunc(may, func(id string) bool { return by[id] != nil }) {
				continue
			}
			e := refuse("items", "%s in version %d of %s, and %s did not sign it", ch, g.Version, g.Statement, o)
			if len(may) > 0 {
				e.Person = may[0]
			}
			if d := s.docs[ch.Statement]; ch.path != "" {
				e.File = d.file
				d.place(e, ch.path)
			}
			return e.in(g.Dir)
		}
	}
	return nil
}
