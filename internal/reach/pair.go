package reach

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"

	"github.com/reevehq/reeve/internal/custody"
	"github.com/reevehq/reeve/internal/policy"
	"github.com/reevehq/reeve/internal/statement"
)

// Pair is a credential and a business unit whose workloads a set lets use it: Paths without their conditions, for whole estates.
type Pair struct {
	Credential string
	Unit       string   // of the workloads
	Workloads  []string // sorted
	Gateways   []string // sorted
	Permits    []string // ids of the policies that permit it, sorted
}

// Ask narrows what Pairs looks at. A member that is empty stands for all.
type Ask struct {
	Gateway    string
	Credential string
	Workload   func(*statement.Workload) bool
	// Asserted looks at requests only for which nobody but the authority vouches.
	Asserted bool
}

// Pairs lists every credential and unit for which Paths has a way, sorted by credential and unit. Bait is left out: its uses are refused whatever
// a policy says. The error is policy.Compile's.
func Pairs(s *statement.Set, t time.Time, ask Ask) (list []Pair, err error) {
	p := &finder{set: s, memo: map[string]weighed{}, looks: map[cedar.PolicyID]bool{}}
	if p.policies, err = policy.Compile(s); err != nil {
		return nil, err
	}
	workloads := map[string][]*statement.Workload{} // by unit
	for i := range s.Charter.Workloads {
		if w := &s.Charter.Workloads[i]; ask.Workload == nil || ask.Workload(w) {
			workloads[w.Unit] = append(workloads[w.Unit], w)
		}
	}
	for _, u := range s.Charter.Units {
		cu := s.Custody[u.ID]
		lent := map[string][]string{}
		for _, g := range cu.Grants {
			lent[g.Credential] = append(lent[g.Credential], g.Unit)
		}
		for i := range cu.Credentials {
			c := &cu.Credentials[i]
			if ask.Credential != "" && ask.Credential != c.ID || c.Honey != "" {
				continue
			}
			gateways := p.gateways(c.ID, t)
			if ask.Gateway != "" {
				gateways = slices.DeleteFunc(gateways, func(id string) bool { return id != ask.Gateway })
			}
			if len(gateways) == 0 {
				continue
			}
			if _, err := custody.Read(*c); err != nil { // what the custodians cannot use opens nothing
				continue
			}
			models := p.models(c.ID)
			for _, unit := range append([]string{u.ID}, lent[c.ID]...) {
				if one := p.of(c, unit, workloads[unit], gateways, models, ask.Asserted); len(one.Workloads) > 0 {
					list = append(list, one)
				}
			}
		}
	}
	slices.SortFunc(list, func(a, b Pair) int {
		return cmp.Or(strings.Compare(a.Credential, b.Credential), strings.Compare(a.Unit, b.Unit))
	})
	return list, nil
}

// weighed is what the policies say about a workload and a credential.
type weighed struct{ gateways, permits []string } // no gateways: nothing is open

// of is one pair; without workloads when nothing is open.
func (p *finder) of(c *statement.Credential, unit string, workloads []*statement.Workload, gateways, models []string, asserted bool) Pair {
	one := Pair{Credential: c.ID, Unit: unit}
	routes := strings.Join([]string{c.Class, c.Dialect, strings.Join(gateways, " "), strings.Join(models, " "), ""}, "\n")
	for _, w := range workloads {
		q, ok := p.policies.Applicable(w.ID, c.ID)
		if !ok {
			continue
		}
		key := p.alike(q, routes)
		found, known := p.memo[key]
		if !known || key == "" {
			found = ways(q, gateways, models, asserted)
			p.memo[key] = found
		}
		if len(found.gateways) > 0 {
			one.Workloads = append(one.Workloads, w.ID)
			one.Gateways, one.Permits = append(one.Gateways, found.gateways...), append(one.Permits, found.permits...)
		}
	}
	slices.Sort(one.Workloads)
	one.Gateways, one.Permits = distinct(one.Gateways), distinct(one.Permits)
	return one
}

// alike is the same for questions that have the same answer: those that the same policies apply to, none of which looks in its conditions at the
// workload, or at more of the credential than its attributes, which routes has. Empty when one does.
func (p *finder) alike(q *policy.Applicable, routes string) string {
	key := []byte(routes)
	for id, c := range q.Policies.All() {
		looks, known := p.looks[id]
		if !known {
			looks = particular((*ast.Policy)(c.AST()))
			p.looks[id] = looks
		}
		if looks {
			return ""
		}
		key = append(append(key, id...), '\n')
	}
	return string(key)
}

// particular reports whether the conditions of a policy look at who asks or for what, beyond its scope and the credential's attributes.
func particular(p *ast.Policy) (looks bool) {
	for _, c := range p.Conditions {
		ast.Inspect(ast.NewNode(c.Body), func(n ast.IsNode) bool {
			switch n := n.(type) {
			case ast.NodeTypeAccess:
				v, ok := n.Arg.(ast.NodeTypeVariable)
				return !ok || v.Name != "resource"
			case ast.NodeTypeVariable:
				looks = looks || n.Name != "context"
			}
			return true
		})
	}
	return looks
}

// ways are through which gateways, and by which policies, a use is permitted.
func ways(q *policy.Applicable, gateways, models []string, asserted bool) (found weighed) {
	context := unknown(q.Members)
	if _, looks := context["authority_asserted"]; looks && asserted {
		context["authority_asserted"] = cedar.Boolean(true)
	}
	for _, g := range looked(context, "gateway", gateways) {
		for _, m := range looked(context, "model", models) {
			var permits []string
			set(context, "gateway", g)
			set(context, "model", m)
			may, _ := weigh(q, context, func(id cedar.PolicyID, permit bool, _ *ast.Policy) {
				if permit {
					permits = append(permits, string(id))
				}
			})
			if !may {
				continue
			}
			found.permits = append(found.permits, permits...)
			if g == "" {
				found.gateways = append(found.gateways, gateways...)
			} else {
				found.gateways = append(found.gateways, g)
			}
		}
	}
	found.gateways, found.permits = distinct(found.gateways), distinct(found.permits)
	return found
}

// looked are the values of a member of the context that make a difference: an empty one alone when no policy looks at it.
func looked(context cedar.RecordMap, member types.String, values []string) []string {
	if _, ok := context[member]; !ok {
		return []string{""}
	}
	return values
}

// set makes a member of the context known.
func set(context cedar.RecordMap, member types.String, value string) {
	if value != "" {
		context[member] = cedar.String(value)
	}
}

func distinct(list []string) []string {
	slices.Sort(list)
	return slices.Compact(list)
}
