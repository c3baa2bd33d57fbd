package policy

import (
	_ "embed" // the schema
	"fmt"
	"maps"
	"slices"
	"strings"

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
// A refusal is a *statement.Error under the rule cedar.
func Compile(set *statement.Set) (*Policies, error) {
	var s schema.Schema
	if err := s.UnmarshalCedar(schemaText); err != nil {
		return nil, fmt.Errorf("reading the schema: %w", err)
	}
	resolved, err := s.Resolve()
	if err != nil {
		return nil, fmt.Errorf("resolving the schema: %w", err)
	}
	c := &compiler{entities: entities(set), validator: validate.New(resolved)}
	p := &Policies{set: set, entities: c.entities, units: map[string]*scopes{}, estate: newScopes(cedar.EntityUID{})}
	c.to, c.lent = p.estate, func(string) bool { return true }
	for _, file := range slices.Sorted(maps.Keys(set.Forbids)) {
		if err := c.file("*/"+file, set.Forbids[file]); err != nil {
			return nil, err
		}
	}
	for i := range set.Charter.Units {
		u := &set.Charter.Units[i]
		c.to, c.lent = newScopes(unitOf(u)), func(credential string) bool { return set.Lent(credential, u.ID) }
		p.units[u.ID] = c.to
		for _, file := range slices.Sorted(maps.Keys(set.Cedar[u.ID])) {
			if err := c.file(u.ID+"/"+file, set.Cedar[u.ID][file]); err != nil {
				return nil, err
			}
		}
	}
	return p, nil
}

// entities are the estate's tenants, units, workloads and credentials.
func entities(set *statement.Set) cedar.EntityMap {
	m := cedar.EntityMap{}
	add := func(kind types.EntityType, id string, attrs cedar.RecordMap, parents ...cedar.EntityUID) cedar.EntityUID {
		uid := cedar.NewEntityUID(kind, cedar.String(id))
		m[uid] = cedar.Entity{UID: uid, Parents: cedar.NewEntityUIDSet(parents...), Attributes: cedar.NewRecord(attrs)}
		return uid
	}
	for _, t := range set.Charter.Tenants {
		add("Tenant", t, nil)
	}
	for _, u := range set.Charter.Units {
		unit := add("Unit", u.ID, nil, cedar.NewEntityUID("Tenant", cedar.String(u.Tenant)))
		for _, c := range set.Custody[u.ID].Credentials {
			add("Credential", c.ID, cedar.RecordMap{"class": cedar.String(c.Class), "dialect": cedar.String(c.Dialect)}, unit)
		}
	}
	for _, w := range set.Charter.Workloads {
		add("Workload", w.ID, nil, cedar.NewEntityUID("Unit", cedar.String(w.Unit)))
	}
	return m
}

// compiler holds what one Compile needs.
type compiler struct {
	entities  cedar.EntityMap
	validator *validate.Validator
	to        *scopes                      // of the unit that is being compiled, or the estate's
	lent      func(credential string) bool // to that unit
}

// file adds the policies of one Cedar file, whose name begins with its unit, or "*" for the estate.
func (c *compiler) file(name string, text []byte) error {
	refuse := func(at cedar.Position, format string, args ...any) error {
		return &statement.Error{Rule: "cedar", File: name, Line: at.Line, Column: at.Column, What: fmt.Sprintf(format, args...),
			Meaning: "A set whose policy is not understood completely is not used", Do: "Correct the policy and have it signed again"}
	}
	if line := tooLong(text); line > 0 {
		return refuse(cedar.Position{Line: line, Column: 1}, "a policy has more than %d bytes or nests deeper than %d", maxPolicy, maxNesting)
	}
	policies, err := cedar.NewPolicyListFromBytes(name, text)
	if err != nil {
		return refuse(cedar.Position{}, "%v", err)
	}
	seen := map[string]bool{}
	for n, p := range policies {
		id := ID(n, p)
		if seen[id] || !plain(id) {
			return refuse(p.Position(), "the policy has no id of its own, of at most 63 letters, digits, dots, dashes and underscores: %q", id)
		}
		seen[id] = true
		node := (*ast.Policy)(p.AST())
		if err := c.validator.Policy(id, node); err != nil {
			return refuse(p.Position(), "%v", err)
		}
		if what := c.reach(node); what != "" {
			return refuse(p.Position(), "policy %s %s", id, what)
		}
		c.to.add(name+"#"+id, p)
	}
	return nil
}

// Bounds of one policy. Cedar's parser and evaluation recurse, and a stack that overflows ends the process.
const (
	maxPolicy  = 16 << 10 // bytes
	maxNesting = 64       // open brackets
)

// tooLong returns the line at which a policy exceeds its bounds, or 0. A policy ends with a semicolon outside strings and
// comments.
func tooLong(text []byte) int {
	line, began, open := 1, 0, 0
	inString, inComment := false, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\n':
			line, inComment = line+1, false
		case inComment:
		case c == '\\' && inString:
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '/' && i+1 < len(text) && text[i+1] == '/':
			inComment = true
		case c == '(' || c == '[' || c == '{':
			open++
		case c == ')' || c == ']' || c == '}':
			open--
		case c == ';':
			began, open = i, 0
		}
		if i-began > maxPolicy || open > maxNesting {
			return line
		}
	}
	return 0
}

// plain reports whether an id can stand in a ledger entry and a log line as it is.
func plain(id string) bool {
	return id != "" && len(id) <= 63 && strings.Trim(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == ""
}

// reach says what a policy touches that it may not, or nothing.
func (c *compiler) reach(p *ast.Policy) (what string) {
	say := func(ok bool, format string, args ...any) {
		if !ok && what == "" {
			what = fmt.Sprintf(format, args...)
		}
	}
	permit := p.Effect == ast.EffectPermit
	principal, resource := named(p.Principal), named(p.Resource)
	for uid := range c.mentioned(p) {
		_, known := c.entities[uid]
		say(known || uid == use(), "names %s, which the estate does not have", uid)
	}
	estate := c.to.unit == cedar.EntityUID{}
	say(!estate || !permit, "permits: what applies to the whole estate only forbids")
	say(estate || c.ours(resource) || resource.Type == "Credential" && c.lent(string(resource.ID)), "is about %s, which does not belong to %s", resource, c.to.unit)
	say(!permit || c.ours(principal), "permits %s, which does not belong to %s", principal, c.to.unit)
	for _, cond := range p.Conditions {
		for _, m := range contextMembers(cond.Body) {
			say(m != "", "takes the context as a whole: name the members that it looks at")
			say(m != "tool", "looks at context.tool, which no custodian sets yet: it would never hold for a request that calls a tool")
			say(m != "asserted" || !permit, "is a permit that looks at context.asserted: what only the gateway vouches for may narrow, in a forbid, and not open")
			if !slices.Contains(c.to.members, m) {
				c.to.members = append(c.to.members, m)
			}
		}
	}
	return what
}

// ours reports whether an entity is the unit, of the unit, or none.
func (c *compiler) ours(uid cedar.EntityUID) bool {
	return uid == cedar.EntityUID{} || uid == c.to.unit || c.entities[uid].Parents.Contains(c.to.unit)
}

// mentioned are the entities that a policy names anywhere.
func (c *compiler) mentioned(p *ast.Policy) map[cedar.EntityUID]bool {
	m := map[cedar.EntityUID]bool{}
	for _, uid := range []cedar.EntityUID{named(p.Principal), named(p.Resource)} {
		if uid != (cedar.EntityUID{}) {
			m[uid] = true
		}
	}
	for _, cond := range p.Conditions {
		ast.Inspect(ast.NewNode(cond.Body), func(n ast.IsNode) bool {
			if v, ok := n.(ast.NodeValue); ok {
				if uid, ok := v.Value.(types.EntityUID); ok {
					m[uid] = true
				}
			}
			return true
		})
	}
	return m
}

// contextMembers are the members of the context that an expression looks at; an empty name is the context as a whole.
func contextMembers(body ast.IsNode) (names []types.String) {
	ast.Inspect(ast.NewNode(body), func(n ast.IsNode) bool {
		var op ast.StrOpNode
		switch n := n.(type) {
		case ast.NodeTypeAccess:
			op = n.StrOpNode
		case ast.NodeTypeHas:
			op = n.StrOpNode
		case ast.NodeTypeVariable:
			if n.Name == "context" {
				names = append(names, "")
			}
		}
		if v, ok := op.Arg.(ast.NodeTypeVariable); ok && v.Name == "context" {
			names = append(names, op.Value)
			return false
		}
		return true
	})
	return names
}
