package policy

import (
	_ "embed"
	"fmt"
	"maps"
	"slices"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
	"github.com/cedar-policy/cedar-go/x/exp/schema"
	"github.com/cedar-policy/cedar-go/x/exp/schema/validate"

	"github.com/reevehq/reeve/internal/statement"
)

//go:embed reeve.cedarschema
var schemaText []byte

// Compile parses every unit's Cedar, validates it against the schema and refuses policies that reach beyond their unit,
// permits that look at what only the gateway vouches for, and names of entities that the estate does not have.
// Every refusal wraps statement.ErrRefused.
func Compile(set *statement.Set) (*Policies, error) {
	var s schema.Schema
	if err := s.UnmarshalCedar(schemaText); err != nil {
		return nil, fmt.Errorf("reading the embedded schema: %w", err)
	}
	resolved, err := s.Resolve()
	if err != nil {
		return nil, fmt.Errorf("resolving the embedded schema: %w", err)
	}
	c := &compiler{set: set, entities: entities(set), validator: validate.New(resolved)}
	if err := c.validator.Entities(c.entities); err != nil {
		return nil, fmt.Errorf("validating the estate's entities: %w", err)
	}
	p := &Policies{set: set, entities: c.entities, units: map[string]*scopes{}}
	for _, u := range set.Charter.Units {
		p.units[u.ID] = &scopes{}
		for _, file := range slices.Sorted(maps.Keys(set.Cedar[u.ID])) {
			if err := c.file(p.units[u.ID], u.ID, file, set.Cedar[u.ID][file]); err != nil {
				return nil, err
			}
		}
	}
	return p, nil
}

// entities are the estate's tenants, units, workloads and credentials.
func entities(set *statement.Set) cedar.EntityMap {
	m := cedar.EntityMap{}
	add := func(kind cedar.EntityType, id string, attrs cedar.RecordMap, parents ...cedar.EntityUID) {
		uid := cedar.NewEntityUID(kind, cedar.String(id))
		m[uid] = cedar.Entity{UID: uid, Parents: cedar.NewEntityUIDSet(parents...), Attributes: cedar.NewRecord(attrs)}
	}
	for _, t := range set.Charter.Tenants {
		add("Tenant", t, nil)
	}
	for _, u := range set.Charter.Units {
		add("Unit", u.ID, nil, cedar.NewEntityUID("Tenant", cedar.String(u.Tenant)))
		for _, c := range set.Custody[u.ID].Credentials {
			add("Credential", c.ID, cedar.RecordMap{"class": cedar.String(c.Class), "dialect": cedar.String(c.Dialect)}, cedar.NewEntityUID("Unit", cedar.String(u.ID)))
		}
	}
	for _, w := range set.Charter.Workloads {
		add("Workload", w.ID, nil, cedar.NewEntityUID("Unit", cedar.String(w.Unit)))
	}
	return m
}

// compiler holds what one Compile needs.
type compiler struct {
	set       *statement.Set
	entities  cedar.EntityMap
	validator *validate.Validator
}

// file adds the policies of one Cedar file.
func (c *compiler) file(to *scopes, unit, file string, text []byte) error {
	list, err := cedar.NewPolicyListFromBytes(file, text)
	if err != nil {
		return &statement.Error{Rule: "cedar", File: file, What: fmt.Sprintf("the policies of %s cannot be read: %v", unit, err), Meaning: meaning, Do: do}
	}
	seen := map[string]bool{}
	for n, p := range list {
		name := strconvItoa(n)
		if id, ok := p.Annotations()["id"]; ok {
			name = string(id)
		}
		id := unit + "/" + file + "#" + name
		refuse := func(format string, args ...any) error {
			return &statement.Error{Rule: "cedar", File: file, Line: p.Position().Line, Column: p.Position().Column,
				What: "policy " + id + " " + fmt.Sprintf(format, args...), Meaning: meaning, Do: do}
		}
		if seen[name] || name == "" {
			return refuse("has no id of its own")
		}
		seen[name] = true
		node := (*ast.Policy)(p.AST())
		if err := c.validator.Policy("", node); err != nil {
			return refuse("does not fit the schema: %v", err)
		}
		if what := c.reach(node, unit); what != "" {
			return refuse("%s", what)
		}
		to.add(policy{id: cedar.PolicyID(id), cedar: p}, scopeKey(node.Principal), scopeKey(node.Resource))
	}
	return nil
}

const (
	meaning = "A set whose policy is not understood completely is not used"
	do      = "Correct the policy and have it signed again"
)

// reach says what a policy touches that it may not, or nothing.
func (c *compiler) reach(p *ast.Policy, unit string) (what string) {
	home := cedar.NewEntityUID("Unit", cedar.String(unit))
	in := func(uid cedar.EntityUID) bool { return uid == home || c.entities[uid].Parents.Contains(home) }
	known := func(uid cedar.EntityUID) {
		if _, ok := c.entities[uid]; !ok && uid != use && what == "" {
			what = fmt.Sprintf("names %s, which the estate does not have", uid)
		}
	}
	for _, uid := range scopeUIDs(p.Principal) {
		known(uid)
		if p.Effect == ast.EffectPermit && !in(uid) && what == "" {
			what = fmt.Sprintf("permits %s, which is not of the unit %s", uid, unit)
		}
	}
	for _, uid := range scopeUIDs(p.Resource) {
		known(uid)
		if !in(uid) && what == "" {
			what = fmt.Sprintf("is about %s, which is not of the unit %s", uid, unit)
		}
	}
	for _, cond := range p.Conditions {
		plain := map[ast.IsNode]bool{}
		_ = plain
		ast.Inspect(ast.NewNode(cond.Body), func(n ast.IsNode) bool {
			if v, ok := n.(ast.NodeValue); ok {
				if uid, ok := v.Value.(types.EntityUID); ok {
					known(uid)
				}
			}
			return true
		})
		if p.Effect == ast.EffectPermit && what == "" && looksAtAsserted(cond.Body) {
			what = "is a permit that looks at context.asserted, which only the gateway vouches for: it may only narrow, in a forbid"
		}
	}
	return what
}

// looksAtAsserted reports whether an expression can see context.asserted: by name, or by taking the context as a whole.
func looksAtAsserted(body ast.IsNode) (found bool) {
	ast.Inspect(ast.NewNode(body), func(n ast.IsNode) bool {
		var op ast.StrOpNode
		switch n := n.(type) {
		case ast.NodeTypeAccess:
			op = n.StrOpNode
		case ast.NodeTypeHas:
			op = n.StrOpNode
		case ast.NodeTypeVariable:
			found = found || n.Name == "context" // not as the base of a named attribute
			return true
		default:
			return true
		}
		if v, ok := op.Arg.(ast.NodeTypeVariable); ok && v.Name == "context" {
			found = found || op.Value == "asserted"
			return false
		}
		return true
	})
	return found
}
