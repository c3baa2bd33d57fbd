package policy

import (
	"github.com/cedar-policy/cedar-go"
)

// Scan decides as Decide does, but looks at every policy of the credential's unit.
func (p *Policies) Scan(r *Request) Decision {
	return p.decide(r, func(s *scopes, _ *cedar.Request) list {
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
	p.decide(r, func(s *scopes, q *cedar.Request) list {
		return func(yield func(cedar.PolicyID, *cedar.Policy) bool) {
			for range s.candidates(q) {
				n++
			}
		}
	})
	return n
}
