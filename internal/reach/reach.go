// Package reach answers what a set opens, without a request: which workloads may use which credentials, for which models, through
// which gateways, under what is left of which policies. It is for owners and auditors; nothing is decided by it.
package reach

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cedar-policy/cedar-go"
	publicast "github.com/cedar-policy/cedar-go/ast"
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
	"github.com/cedar-policy/cedar-go/x/exp/eval"

	"github.com/reevehq/reeve/internal/custody"
	"github.com/reevehq/reeve/internal/policy"
	"github.com/reevehq/reeve/internal/statement"
)

// Path is a way that a set opens: a workload may use a credential, through a gateway, for a model, to where its record says.
type Path struct {
	Workload    string   `json:"workload"`
	Credential  string   `json:"credential"`
	Model       string   `json:"model"` // empty for what operations list no model of
	Gateway     string   `json:"gateway"`
	Destination string   `json:"destination"` // origin and prefix
	Methods     []string `json:"methods"`
	Paths       []string `json:"paths"`
	Conditional bool     `json:"conditional"` // other attributes of a request decide: no answer can be given for all of them
	Rules       []Rule   `json:"rules"`       // what permits it, and what may still forbid it
}

// Rule is a policy that has a say in a path.
type Rule struct {
	ID     string `json:"id"`     // "<unit>/<file>#<n or @id>"
	Effect string `json:"effect"` // permit or forbid
	// When is what is left of the policy's conditions, as Cedar, once workload, credential, model and gateway are known. Empty
	// when it always holds.
	When string `json:"when"`
}

// Paths lists every way that the set opens at t, by partial evaluation over workloads, credentials, and the models that
// operations list: policy permits for some request, custody and operations agree, and everything has its live owners. Of one
// workload or one credential only, when they are named. What a revocation closes is not known here. The list is sorted by
// workload, credential, gateway and model.
//
// The error is policy.Compile's.
func Paths(set *statement.Set, t time.Time, workload, credential string) (list []Path, err error) {
	p := &finder{set: set}
	if p.policies, err = policy.Compile(set); err != nil {
		return nil, err
	}
	for _, u := range set.Charter.Units {
		for _, c := range set.Custody[u.ID].Credentials {
			c, err := custody.Read(c)
			if err != nil || // what the custodians cannot use opens nothing
				credential != "" && credential != c.ID {
				continue
			}
			gateways, models := p.gateways(c.ID, t), p.models(c.ID)
			for _, w := range set.Charter.Workloads {
				if workload == "" || workload == w.ID {
					list = append(list, p.pair(w.ID, &c, gateways, models)...)
				}
			}
		}
	}
	slices.SortFunc(list, func(a, b Path) int {
		return cmp.Or(strings.Compare(a.Workload, b.Workload), strings.Compare(a.Credential, b.Credential), strings.Compare(a.Gateway, b.Gateway), strings.Compare(a.Model, b.Model))
	})
	return list, nil
}

// finder is one call of Paths or Pairs.
type finder struct {
	set      *statement.Set
	policies *policy.Policies

	// Of Pairs: answers that were found, by what alike says, and which policies look at who asks or for what.
	memo  map[string]weighed
	looks map[cedar.PolicyID]bool
}

// pair lists the paths of one workload and one credential.
func (p *finder) pair(workload string, c *statement.Credential, gateways, models []string) (list []Path) {
	q, ok := p.policies.Applicable(workload, c.ID)
	if !ok {
		return nil
	}
	answers := map[[2]string]*Path{} // by what the policies look at of model and gateway
	for _, gateway := range gateways {
		for _, model := range models {
			known := [2]string{}
			if slices.Contains(q.Members, "model") {
				known[0] = model
			}
			if slices.Contains(q.Members, "gateway") {
				known[1] = gateway
			}
			one, asked := answers[known]
			if !asked {
				one = may(q, known[0], known[1])
				answers[known] = one
			}
			if one == nil {
				continue
			}
			path := *one
			path.Workload, path.Credential, path.Model, path.Gateway = workload, c.ID, model, gateway
			path.Destination, path.Methods, path.Paths = c.Destination.Origin+c.Destination.Prefix, c.Destination.Methods, c.Destination.Paths
			list = append(list, path)
		}
	}
	return list
}

// gateways are those through which the credential may be used.
func (p *finder) gateways(credential string, t time.Time) (ids []string) {
	for _, g := range p.set.Operations.Gateways {
		if slices.ContainsFunc(p.set.Custodians(g.ID, credential), func(k string) bool { return p.set.Route(g.ID, k, credential, t) == "" }) {
			ids = append(ids, g.ID)
		}
	}
	return ids
}

// models are what operations list for the credential.
func (p *finder) models(credential string) (names []string) {
	for _, provider := range p.set.Operations.Providers {
		for _, id := range provider.Credentials {
			if id == credential {
				names = append(names, provider.Models...)
				break
			}
		}
	}
	slices.Sort(names)
	if names = slices.Compact(names); len(names) == 0 {
		return []string{""}
	}
	return names
}

// may is what the policies say when model and gateway, unless empty, are known: nil when no request is permitted.
func may(q *policy.Applicable, model, gateway string) *Path {
	known := cedar.RecordMap{}
	for name, v := range map[types.String]string{"model": model, "gateway": gateway} {
		if v != "" {
			known[name] = cedar.String(v)
		}
	}
	return left(q, known)
}

// left is what the policies say when those members of the context are known: nil when no request is permitted.
func left(q *policy.Applicable, known cedar.RecordMap) *Path {
	context := unknown(q.Members)
	maps.Copy(context, known)
	path := &Path{Rules: []Rule{}}
	open, always := weigh(q, context, func(id cedar.PolicyID, permit bool, rest *ast.Policy) {
		rule := Rule{ID: string(id), Effect: "forbid", When: conditions(rest)}
		if permit {
			rule.Effect = "permit"
		} else {
			path.Conditional = true
		}
		path.Rules = append(path.Rules, rule)
	})
	if !open {
		return nil
	}
	path.Conditional = path.Conditional || !always
	slices.SortFunc(path.Rules, func(a, b Rule) int { return strings.Compare(a.ID, b.ID) })
	return path
}

// unknown is a context of which nothing is known.
func unknown(members []types.String) cedar.RecordMap {
	context := cedar.RecordMap{}
	for _, m := range members {
		context[m] = eval.Variable("context." + m)
	}
	return context
}

// weigh holds the policies against all requests of which the context is known as far as it says, and calls each with what is left of those that
// have a say. It reports whether some request is permitted, and whether a permit needs no more conditions.
func weigh(q *policy.Applicable, context cedar.RecordMap, each func(id cedar.PolicyID, permit bool, rest *ast.Policy)) (open, always bool) {
	env := eval.Env{Principal: q.Principal, Action: q.Action, Resource: q.Resource, Context: cedar.NewRecord(context), Entities: q.Entities}
	forbidden := false
	for id, c := range q.Policies.All() {
		rest, keep := eval.PartialPolicy(env, (*ast.Policy)(c.AST()))
		if !keep {
			continue
		}
		permit, unconditional := c.Effect() == cedar.Permit, len(rest.Conditions) == 0
		open, always, forbidden = open || permit, always || permit && unconditional, forbidden || !permit && unconditional
		each(id, permit, rest)
	}
	return open && !forbidden, always
}

// conditions writes the conditions of a policy as Cedar, on one line.
func conditions(p *ast.Policy) string {
	if len(p.Conditions) == 0 {
		return ""
	}
	bare := &ast.Policy{Effect: p.Effect, Principal: ast.ScopeTypeAll{}, Action: ast.ScopeTypeAll{}, Resource: ast.ScopeTypeAll{}, Conditions: p.Conditions}
	text := string(cedar.NewPolicyFromAST((*publicast.Policy)(bare)).MarshalCedar())
	_, text, _ = strings.Cut(text, ")") // after the scope
	return strings.TrimSuffix(strings.Join(strings.Fields(text), " "), ";")
}

// Text is the Cedar of one policy of a file, by its id ("<name>#<n or @id>"), and the line that it begins at.
func Text(name string, file []byte, id string) (text string, line int, err error) {
	policies, err := cedar.NewPolicyListFromBytes(name, file)
	if err != nil {
		return "", 0, fmt.Errorf("reading %s: %w", name, err)
	}
	for n, p := range policies {
		if name+"#"+policy.ID(n, p) == id {
			return string(p.MarshalCedar()), p.Position().Line, nil
		}
	}
	return "", 0, fmt.Errorf("%s has no policy %s", name, id)
}
