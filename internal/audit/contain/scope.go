// Package contain stops what is captured: it plans which signed records close it, who has to sign them and what dies and breaks by that; sends
// them; and says, from the custodians' own entries, what is dead and what could not be proven dead.
package contain

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/reevehq/reeve/internal/custody"
	"github.com/reevehq/reeve/internal/statement"
)

// ErrScope is wrapped where a scope names nothing that the estate has.
var ErrScope = errors.New("nothing to contain")

// The kill scopes of the control catalogue.
const (
	OfWorkload   = "workload"
	OfRoute      = "route"      // a provider of the operations statement, or an alias
	OfCredential = "credential" //
	OfUnit       = "unit"       // business unit
	OfGateway    = "gateway"    //
	OfCustodian  = "custodian"  // what it serves: every credential whose secrets it had
	OfService    = "service"    // a destination: every credential that is sent there
	OfAll        = "all"
)

// Scopes is all of them.
func Scopes() []string {
	return []string{OfWorkload, OfRoute, OfCredential, OfUnit, OfGateway, OfCustodian, OfService, OfAll}
}

// Scope is what is contained.
type Scope struct {
	Kind string `json:"kind"`
	ID   string `json:"id,omitempty"`
}

func (s Scope) String() string { return strings.TrimSuffix(s.Kind+" "+s.ID, " ") }

// ParseScope reads a scope of one word ("gateway:g1", "all") or of two ("gateway g1").
func ParseScope(words ...string) (Scope, error) {
	kind, id, _ := strings.Cut(strings.Join(words, ":"), ":")
	if kind == "everything" {
		kind = OfAll
	}
	s := Scope{kind, id}
	if !slices.Contains(Scopes(), kind) || (id == "") != (kind == OfAll) {
		return s, fmt.Errorf("%w: %q is no scope: one of %s with its id, or all", ErrScope, strings.Join(words, " "), strings.Join(Scopes()[:len(Scopes())-1], ", "))
	}
	return s, nil
}

// ends reports whether the scope's own meaning is that secrets end. A gateway, a workload and a route hold none: what they can do ends with
// the closing, and secrets that nobody read stay.
func (s Scope) ends() bool {
	return s.Kind == OfCredential || s.Kind == OfUnit || s.Kind == OfCustodian || s.Kind == OfService || s.Kind == OfAll
}

// credentials are those that can be used no more, or not by what is contained, sorted as the set has them.
func (s Scope) credentials(set *statement.Set) (list []*statement.Credential, err error) {
	in, err := s.chooses(set)
	if err != nil {
		return nil, err
	}
	for _, u := range set.Charter.Units {
		for i := range set.Custody[u.ID].Credentials {
			if c := &set.Custody[u.ID].Credentials[i]; in(u.ID, c) {
				list = append(list, c)
			}
		}
	}
	if len(list) == 0 && (s.Kind == OfRoute || s.Kind == OfService) {
		err = fmt.Errorf("%w: no credential belongs to the %s", ErrScope, s)
	}
	return list, err
}

// chooses tells the scope's credentials from others.
func (s Scope) chooses(set *statement.Set) (func(unit string, c *statement.Credential) bool, error) {
	none := fmt.Errorf("%w: the estate has no %s", ErrScope, s)
	switch s.Kind {
	case OfWorkload:
		_, unit, ok := set.Workload(s.ID)
		if !ok {
			return nil, none
		}
		return func(u string, c *statement.Credential) bool { return u == unit.ID || set.Lent(c.ID, unit.ID) }, nil
	case OfCredential:
		if _, _, ok := set.Credential(s.ID); !ok {
			return nil, none
		}
		return func(_ string, c *statement.Credential) bool { return c.ID == s.ID }, nil
	case OfUnit:
		if set.Custody[s.ID] == nil {
			return nil, none
		}
		return func(u string, _ *statement.Credential) bool { return u == s.ID }, nil
	case OfGateway:
		g, ok := set.Gateway(s.ID)
		if !ok {
			return nil, none
		}
		return func(u string, _ *statement.Credential) bool { return slices.Contains(g.Units, u) }, nil
	case OfCustodian:
		for _, cu := range set.Custody {
			if slices.ContainsFunc(cu.Custodians, func(k statement.Custodian) bool { return k.ID == s.ID }) {
				return func(_ string, c *statement.Credential) bool { return set.Serves(s.ID, c.ID) }, nil
			}
		}
		return nil, none
	case OfRoute:
		return s.route(set, none)
	case OfService:
		return func(_ string, c *statement.Credential) bool { return sentTo(c, s.ID) }, nil
	}
	return func(string, *statement.Credential) bool { return true }, nil
}

// route finds a provider by its name or by an alias that leads to it.
func (s Scope) route(set *statement.Set, none error) (func(string, *statement.Credential) bool, error) {
	name := s.ID
	if model, ok := set.Operations.Aliases[name]; ok {
		name, _, _ = strings.Cut(model, "/")
	}
	i := slices.IndexFunc(set.Operations.Providers, func(p statement.Provider) bool { return p.Name == name })
	if i < 0 {
		return nil, none
	}
	return func(unit string, c *statement.Credential) bool {
		return set.Operations.Providers[i].Credentials[unit] == c.ID
	}, nil
}

// sentTo reports whether a credential goes to the origin, or to the host of that name.
func sentTo(c *statement.Credential, service string) bool {
	filled, err := custody.Read(*c)
	if err != nil {
		filled = *c
	}
	u, err := url.Parse(filled.Destination.Origin)
	return err == nil && filled.Destination.Origin != "" && (filled.Destination.Origin == service || u.Host == service || u.Hostname() == service)
}
