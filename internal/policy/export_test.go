package policy

import (
	"github.com/cedar-policy/cedar-go"
)

// Scan decides as Decide does, but looks at every policy of the units and of the estate.
func (p *Policies) Scan(r *Request) Decision {
	return p.decide(r, func(s *scopes, _, _ around) list {
		return func(yield func(cedar.PolicyID, *cedar.Policy) bool) {
			for _, ps := range s.by {
				for _, c := range ps {
					if !yield(c.id, c.cedar) {
						return
					}
				}
			}
		}
	})
}

// Candidates counts the policies that Decide evaluates.
func (p *Policies) Candidates(r *Request) (n int) {
	p.decide(r, func(s *scopes, principal, resource around) list {
		l := s.candidates(principal, resource)
		for range l {
			n++
		}
		return l
	})
	return n
}
