package policy

import (
	"slices"
	"time"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
	"github.com/cedar-policy/cedar-go/x/exp/eval"
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
}

// Paths lists every way that the set opens at t, by partial evaluation over all workloads, credentials, and the models that
// operations list: policy permits for some request, custody and operations agree, and everything has its live owners. What a
// revocation closes is not known here.
func (p *Policies) Paths(t time.Time) (list []Path) {
	for _, w := range p.set.Charter.Workloads {
		for _, u := range p.set.Charter.Units {
			for _, c := range p.set.Custody[u.ID].Credentials {
				if w.Unit != u.ID && !p.set.Lent(c.ID, w.Unit) {
					continue
				}
				one := Path{Workload: w.ID, Credential: c.ID, Destination: c.Destination.Origin + c.Destination.Prefix, Methods: c.Destination.Methods, Paths: c.Destination.Paths}
				for _, g := range p.gateways(c.ID, t) {
					one.Gateway = g
					for _, one.Model = range p.models(c.ID) {
						var open bool
						if open, one.Conditional = p.may(w.ID, c.ID, one.Model, g); open {
							list = append(list, one)
						}
					}
				}
			}
		}
	}
	return list
}

// gateways are those through which the credential may be used.
func (p *Policies) gateways(credential string, t time.Time) (ids []string) {
	for _, g := range p.set.Operations.Gateways {
		if slices.ContainsFunc(p.set.Custodians(g.ID, credential), func(k string) bool { return p.set.Route(g.ID, k, credential, t) == "" }) {
			ids = append(ids, g.ID)
		}
	}
	return ids
}

// models are what operations list for the credential.
func (p *Policies) models(credential string) (names []string) {
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

// may reports whether some request of the workload for the model is permitted, and whether some other is not.
func (p *Policies) may(workload, credential, model, gateway string) (open, conditional bool) {
	q, reason := p.question(workload, credential, (*scopes).candidates)
	if reason != "" {
		return false, false
	}
	context := cedar.RecordMap{}
	for _, m := range q.members {
		context[m] = eval.Variable("context." + m)
	}
	for name, v := range map[types.String]string{"model": model, "gateway": gateway} {
		if _, looked := context[name]; looked && v != "" {
			context[name] = cedar.String(v)
		}
	}
	env := eval.Env{Principal: q.principal[0], Action: use(), Resource: q.resource[0], Context: cedar.NewRecord(context), Entities: p.entities}
	always, forbidden := false, false
	q.policies(func(_ cedar.PolicyID, c *cedar.Policy) bool {
		left, keep := eval.PartialPolicy(env, (*ast.Policy)(c.AST()))
		switch {
		case !keep:
		case c.Effect() == cedar.Permit:
			open, always = true, always || len(left.Conditions) == 0
		case len(left.Conditions) == 0:
			forbidden = true
		default:
			conditional = true
		}
		return true
	})
	return open && !forbidden, conditional || !always
}
