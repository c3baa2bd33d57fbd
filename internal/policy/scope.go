package policy

import (
	"net/netip"
	"strconv"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"

	"github.com/reevehq/reeve/internal/statement"
)

func strconvItoa(n int) string { return strconv.Itoa(n) }

func parseIP(s string) (types.IPAddr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return types.IPAddr{}, err
	}
	return types.IPAddr(netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen())), nil
}

// scopes finds the policies whose scope can match a request: cedar.Authorize goes through every policy it is given.
// A policy is filed under the entity that its principal scope names and the one that its resource scope names; the zero
// entity stands for a scope that names none.
type scopes struct {
	by map[pair][]policy
}

type pair struct{ principal, resource cedar.EntityUID }

type policy struct {
	id    cedar.PolicyID
	cedar *cedar.Policy
}

func (s *scopes) add(p policy, principal, resource cedar.EntityUID) {
	if s.by == nil {
		s.by = map[pair][]policy{}
	}
	k := pair{principal, resource}
	s.by[k] = append(s.by[k], p)
}

// candidates are the policies filed under the principal, its unit, its tenant or nothing, and likewise the resource.
// Principal and resource are of the same unit.
func (s *scopes) candidates(principal, resource cedar.EntityUID, unit *statement.Unit) list {
	u, t := cedar.NewEntityUID("Unit", cedar.String(unit.ID)), cedar.NewEntityUID("Tenant", cedar.String(unit.Tenant))
	return func(yield func(cedar.PolicyID, *cedar.Policy) bool) {
		for _, p := range [...]cedar.EntityUID{principal, u, t, {}} {
			for _, r := range [...]cedar.EntityUID{resource, u, t, {}} {
				for _, c := range s.by[pair{p, r}] {
					if !yield(c.id, c.cedar) {
						return
					}
				}
			}
		}
	}
}

// scopeUIDs are the entities that a scope names.
func scopeUIDs(s ast.IsScopeNode) []cedar.EntityUID {
	switch s := s.(type) {
	case ast.ScopeTypeEq:
		return []cedar.EntityUID{s.Entity}
	case ast.ScopeTypeIn:
		return []cedar.EntityUID{s.Entity}
	case ast.ScopeTypeIsIn:
		return []cedar.EntityUID{s.Entity}
	case ast.ScopeTypeInSet:
		return s.Entities
	}
	return nil
}

// scopeKey is the one entity that a principal or resource scope names, or the zero entity.
func scopeKey(s ast.IsScopeNode) cedar.EntityUID {
	if uids := scopeUIDs(s); len(uids) == 1 {
		return uids[0]
	}
	return cedar.EntityUID{}
}
