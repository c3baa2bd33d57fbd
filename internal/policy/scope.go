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
// the zero entity stands for a scope that names none. Statements that forbid for the whole estate will be one more scopes.
type scopes struct {
	unit, tenant cedar.EntityUID
	by           map[pair][]policy
	members      []types.String // of the context, that some policy looks at
}

type pair struct{ principal, resource cedar.EntityUID }

type policy struct {
	id    cedar.PolicyID
	cedar *cedar.Policy
}

func newScopes(u *statement.Unit) *scopes {
	return &scopes{unit: cedar.NewEntityUID("Unit", cedar.String(u.ID)), tenant: cedar.NewEntityUID("Tenant", cedar.String(u.Tenant)), by: map[pair][]policy{}}
}

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

// candidates are the policies filed under the principal, its unit, its tenant or nothing, and the same of the resource.
// Both are of this unit.
func (s *scopes) candidates(q *cedar.Request) list {
	return func(yield func(cedar.PolicyID, *cedar.Policy) bool) {
		for _, p := range [...]cedar.EntityUID{q.Principal, s.unit, s.tenant, {}} {
			for _, r := range [...]cedar.EntityUID{q.Resource, s.unit, {}} { // none is about a tenant: see reach
				for _, c := range s.by[pair{p, r}] {
					if !yield(c.id, c.cedar) {
						return
					}
				}
			}
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
