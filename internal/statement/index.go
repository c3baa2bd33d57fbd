package statement

import (
	"slices"
	"time"
)

// index finds the items of a set by id.
type index struct {
	units       map[string]*Unit
	workloads   map[string]*Workload
	gateways    map[string]*Gateway
	credentials map[string]*Credential
	home        map[string]*Unit // of each credential
}

// newIndex builds the index, and refuses a credential id that two units use.
func newIndex(s *Set) (*index, error) {
	x := &index{units: map[string]*Unit{}, workloads: map[string]*Workload{}, gateways: map[string]*Gateway{}, credentials: map[string]*Credential{}, home: map[string]*Unit{}}
	c := &s.Charter
	for i := range c.Workloads {
		x.workloads[c.Workloads[i].ID] = &c.Workloads[i]
	}
	for i := range s.Operations.Gateways {
		x.gateways[s.Operations.Gateways[i].ID] = &s.Operations.Gateways[i]
	}
	for i := range c.Units {
		u := &c.Units[i]
		x.units[u.ID] = u
		for j := range s.Custody[u.ID].Credentials {
			cr := &s.Custody[u.ID].Credentials[j]
			if x.home[cr.ID] != nil {
				return nil, refuse("id", "the units %s and %s both have a credential %q", x.home[cr.ID].ID, u.ID, cr.ID)
			}
			x.credentials[cr.ID], x.home[cr.ID] = cr, u
		}
	}
	return x, nil
}

// Credential returns the credential and its unit, or false.
func (s *Set) Credential(id string) (*Credential, *Unit, bool) {
	c, ok := s.index.credentials[id]
	return c, s.index.home[id], ok
}

// Lent reports whether a credential of another unit is granted to the unit.
func (s *Set) Lent(credential, unit string) bool {
	home := s.index.home[credential]
	return home != nil && home.ID != unit && slices.Contains(s.Custody[home.ID].Grants, Grant{credential, unit})
}

// Workload returns the workload and its unit, or false.
func (s *Set) Workload(id string) (*Workload, *Unit, bool) {
	w, ok := s.index.workloads[id]
	if !ok {
		return nil, nil, false
	}
	return w, s.index.units[w.Unit], true
}

// Gateway returns the gateway, or false.
func (s *Set) Gateway(id string) (*Gateway, bool) {
	g, ok := s.index.gateways[id]
	return g, ok
}

// Owner returns the live accountable lifecycle owner of a credential at t (the owner, or his first live deputy),
// or false when the credential is orphaned or unknown.
func (s *Set) Owner(credential string, t time.Time) (*Person, bool) {
	c, ok := s.index.credentials[credential]
	if !ok {
		return nil, false
	}
	p := s.Charter.Acting(c.Owner, t)
	return p, p != nil
}

// Serves reports whether the custodian serves the credential, as its unit's custody statement says.
func (s *Set) Serves(custodian, credential string) bool {
	c, u, ok := s.Credential(credential)
	if !ok {
		return false
	}
	if len(c.Custodians) > 0 {
		return slices.Contains(c.Custodians, custodian)
	}
	return slices.ContainsFunc(s.Custody[u.ID].Custodians, func(k Custodian) bool { return k.ID == custodian })
}

// Custodians are those that a gateway may ask for a credential, in the order in which it asks.
func (s *Set) Custodians(gateway, credential string) (ids []string) {
	g, ok := s.Gateway(gateway)
	if !ok {
		return nil
	}
	for _, id := range g.Custodians {
		if s.Serves(id, credential) {
			ids = append(ids, id)
		}
	}
	return ids
}

// Peer is the key that a custodian of the gateway shows on the hop from another machine, or empty when it has none. All units
// of one gateway agree on it.
func (s *Set) Peer(gateway, custodian string) string {
	g, ok := s.Gateway(gateway)
	if !ok {
		return ""
	}
	for _, unit := range g.Units {
		for _, k := range s.Custody[unit].Custodians {
			if k.ID == custodian {
				return k.Peer
			}
		}
	}
	return ""
}

// Route checks two of the three keys that open a use, the ones that operations and custody hold: operations hands the
// credential's unit from this gateway to this custodian, custody names this custodian for the credential, and each has its
// live owners at t. The third, policy, is policy.Decide. It returns an empty word when they agree, else the reason to deny:
// expired_set, unknown_gateway, unknown_credential, wrong_custodian, unit_not_served, custodian_not_named,
// orphaned_gateway or orphaned_credential.
func (s *Set) Route(gateway, custodian, credential string, t time.Time) string {
	g, ok := s.Gateway(gateway)
	_, unit, known := s.Credential(credential)
	switch {
	case !t.Before(s.Expires):
		return "expired_set"
	case !ok:
		return "unknown_gateway"
	case !known:
		return "unknown_credential"
	case !slices.Contains(g.Custodians, custodian):
		return "wrong_custodian"
	case !slices.Contains(g.Units, unit.ID):
		return "unit_not_served"
	case !s.Serves(custodian, credential):
		return "custodian_not_named"
	}
	for _, id := range []string{g.Owners.Policy, g.Owners.Operations, g.Owners.Lifecycle} {
		if s.Charter.Acting(id, t) == nil {
			return "orphaned_gateway"
		}
	}
	if _, live := s.Owner(credential, t); !live {
		return "orphaned_credential"
	}
	return ""
}

// ServiceKeys returns the keys of one use that are valid at t.
func (s *Set) ServiceKeys(use string, t time.Time) []ServiceKey {
	var keys []ServiceKey
	for _, k := range s.Charter.ServiceKeys {
		if k.Use == use && !t.Before(k.NotBefore) && t.Before(k.NotAfter) {
			keys = append(keys, k)
		}
	}
	return keys
}
