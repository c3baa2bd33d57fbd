package reach

import (
	"github.com/cedar-policy/cedar-go"

	"github.com/reevehq/reeve/internal/policy"
)

// Verdict is what policies say of all the requests that are alike in what is known of them.
type Verdict int

// The verdicts.
const (
	Never   Verdict = iota // none of them is permitted
	Depends                // what is not known decides
	Always                 // each of them is permitted
)

// Alike judges the requests by a workload for a credential that have these members of the context (internal/policy/reeve.cedarschema), whatever the
// others are.
func Alike(p *policy.Policies, workload, credential string, known cedar.RecordMap) Verdict {
	q, ok := p.Applicable(workload, credential)
	if !ok {
		return Never
	}
	switch path := left(q, known); {
	case path == nil:
		return Never
	case path.Conditional:
		return Depends
	}
	return Always
}
