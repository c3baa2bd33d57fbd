package policy

import (
	"iter"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"

	"github.com/reevehq/reeve/internal/statement"
)

// scopes finds the policies of one unit whose scope can match a request, because cedar.Authorize goes through every policy
// it is given. A policy is filed under the entity that its principal scope names and the one that its resource scope names;
// the zero entity stands for a scope that names none. What forbids for the
// whole estate is scopes of no unit.
type scopes struct {
	unit    cedar.EntityUID // zero for the estate's
	by      map[pair][]policy
	members []types.String // of the context, that some policy looks at
}

type pair struct{ principal, resource cedar.EntityUID }

type policy struct {
	id    cedar.PolicyID
	cedar *cedar.Policy
}

// around are the entities that a scope may name to match: the one asked about, its unit and its tenant, or none.
type around [4]cedar.EntityUID

func aroundOf(kind types.EntityType, id string, u *statement.Unit) around {
	return around{cedar.NewEntityUID(kind, cedar.String(id)), unitOf(u), cedar.NewEntityUID("Tenant", cedar.String(u.Tenant))}
}

func unitOf(u *statement.Unit) cedar.EntityUID { return cedar.NewEntityUID("Unit", cedar.String(u.ID)) }

func newScopes(unit cedar.EntityUID) *scopes { return &scopes{unit: unit, by: map[pair][]policy{}} }

func (s *scopes) add(id string, p *cedar.Policy) {
	node := (*ast.Policy)(p.AST())
	k := pair{named(node.Principal), named(node.Resource)}
	s.by[k] = append(s.by[k], policy{cedar.PolicyID(id), p})
}

// list is an iterator over policies, as cedar.Authorize wants it.
type list func(yield func(cedar.PolicyID, *cedar.Policy) bool)

// All implements cedar.PolicyIterator.
func (l list) All() iter.Seq2[cedar.PolicyID, *cedar.Policy] {
	return iter.Seq2[cedar.PolicyID, *cedar.Policy](l)
}

// candidates are the policies whose scope can match.
func (s *scopes) candidates(principal, resource around) list {
	return func(yield func(cedar.PolicyID, *cedar.Policy) bool) {
		for _, p := range principal {
			for _, r := range resource {
				for _, c := range s.by[pair{p, r}] {
					if !yield(c.id, c.cedar) {
						return
					}
				}
			}
		}
	}
}

// forbids are those of the policies that forbid.
func (l list) forbids() list {
	return func(yield func(cedar.PolicyID, *cedar.Policy) bool) {
		l(func(id cedar.PolicyID, p *cedar.Policy) bool {
			return p.Effect() != cedar.Forbid || yield(id, p)
		})
	}
}

// and is both lists, one after the other.
func (l list) and(next list) list {
	return func(yield func(cedar.PolicyID, *cedar.Policy) bool) {
		more := true
		l(func(id cedar.PolicyID, p *cedar.Policy) bool {
			more = yield(id, p)
			return more
		})
		if more {
			next(yield)
		}
	}
}

// named is the entity that a principal or resource scope names, or the zero entity.
func named(s ast.IsScopeNode) cedar.EntityUID {
	switch s := s.(type) {
	case ast.ScopeTypeEq:
		return s.Entity
	case ast.ScopeTypeIn:
		return s.Entity
	case ast.ScopeTypeIsIn:
		return s.Entity
	}
	return cedar.EntityUID{}
}
