package gateway

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/gateway/dialect"
	"github.com/reevehq/reeve/internal/policy"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/workload"
)

// force is what is in force: one verified set, made ready for the hot path. It is immutable.
type force struct {
	set      *statement.Set
	policies *policy.Policies
	gateway  *statement.Gateway
	limits   statement.GatewayLimits
	estate   string                         // hex lock hash
	provider map[string]*statement.Provider // by name
	fallback map[string]*statement.Provider // the default provider, by dialect
	paths    map[string][]string            // dialect.Dialect.Paths, by dialect
}

// newForce prepares a set for the gateway with that id. A set that does not name the gateway is refused.
func newForce(id string, set *statement.Set, dialects []dialect.Dialect) (*force, error) {
	gw, ok := set.Gateway(id)
	if !ok {
		return nil, fmt.Errorf("the operations statement names no gateway %q: its owners add it under gateways, or this gateway's id is wrong", id)
	}
	policies, err := policy.Compile(set)
	if err != nil {
		return nil, err
	}
	f := &force{
		set: set, policies: policies, gateway: gw,
		limits:   limits(set.Operations.Limits),
		estate:   fmt.Sprintf("%x", set.LockHash),
		provider: map[string]*statement.Provider{},
		fallback: map[string]*statement.Provider{},
		paths:    map[string][]string{},
	}
	for i := range set.Operations.Providers {
		p := &set.Operations.Providers[i]
		f.provider[p.Name] = p
		if p.Default {
			f.fallback[p.Dialect] = p
		}
	}
	for _, d := range dialects {
		f.paths[d.Name()] = d.Paths()
	}
	return f, nil
}

// limits fills in the documented defaults.
func limits(l statement.GatewayLimits) statement.GatewayLimits {
	l.BodyBytes = cmp.Or(l.BodyBytes, 32<<20)
	l.HeaderBytes = cmp.Or(l.HeaderBytes, 64<<10)
	l.HeaderTimeout = cmp.Or(l.HeaderTimeout, statement.Duration(10*time.Second))
	l.BodyTimeout = cmp.Or(l.BodyTimeout, statement.Duration(60*time.Second))
	l.IdleTimeout = cmp.Or(l.IdleTimeout, statement.Duration(120*time.Second))
	l.StreamIdle = cmp.Or(l.StreamIdle, statement.Duration(300*time.Second))
	return l
}

// target is where a request goes: which credential, by which provider's name.
type target struct {
	provider   *statement.Provider
	credential string
	model      string // without the provider's name; empty when the request names none
}

// resolve finds the provider that a model name means: an alias, provider/model, or the bare name of a model of the
// dialect's default provider. ok is false for a model that the unit cannot use here, whether or not it exists for others.
func (f *force) resolve(name, dialect, unit string) (t target, ok bool) {
	if real, isAlias := f.set.Operations.Aliases[name]; isAlias {
		name = real
	}
	t.provider, t.model = f.fallback[dialect], name
	if before, after, found := strings.Cut(name, "/"); found && f.provider[before] != nil {
		t.provider, t.model = f.provider[before], after
	}
	if t.provider == nil {
		return target{}, false
	}
	t.credential = t.provider.Credentials[unit]
	listed := len(t.provider.Models) == 0 || slices.Contains(t.provider.Models, t.model)
	return t, t.credential != "" && listed && t.model != ""
}

// sole finds the provider of a request that names no model: the one that the client asks for, the only one that the unit
// has for the dialect, or else the default.
func (f *force) sole(asked, dialect, unit string) (target, bool) {
	var found []*statement.Provider
	for i := range f.set.Operations.Providers {
		p := &f.set.Operations.Providers[i]
		if p.Dialect == dialect && p.Credentials[unit] != "" && (asked == "" || p.Name == asked) {
			found = append(found, p)
		}
	}
	if d := f.fallback[dialect]; len(found) > 1 && d != nil && d.Credentials[unit] != "" {
		found = []*statement.Provider{d}
	}
	if len(found) != 1 {
		return target{}, false
	}
	return target{provider: found[0], credential: found[0].Credentials[unit]}, true
}

// named is a credential of the tenant that this gateway reaches. Whether the workload may use it is the custodian's to decide.
func (f *force) named(id, tenant string) (target, bool) {
	_, unit, ok := f.set.Credential(id)
	return target{credential: id}, ok && unit.Tenant == tenant && len(f.set.Custodians(f.gateway.ID, id)) > 0
}

// caller is who asks, for policy.
type caller struct {
	who    *workload.Identity
	client string // IP address, or empty
	now    time.Time
}

// models lists what a workload may use by policy through one dialect: each as provider/model, then aliases, sorted.
func (f *force) models(dialectName string, by caller) []dialect.Model {
	var list []dialect.Model
	for i := range f.set.Operations.Providers {
		p := &f.set.Operations.Providers[i]
		if p.Dialect != dialectName || p.Credentials[by.who.Unit] == "" {
			continue
		}
		for _, m := range p.Models {
			if f.may(target{p, p.Credentials[by.who.Unit], m}, by) {
				list = append(list, dialect.Model{ID: p.Name + "/" + m, Provider: p.Name})
			}
		}
	}
	for alias := range f.set.Operations.Aliases {
		t, ok := f.resolve(alias, dialectName, by.who.Unit)
		if ok && t.provider.Dialect == dialectName && f.may(t, by) {
			list = append(list, dialect.Model{ID: alias, Provider: t.provider.Name})
		}
	}
	slices.SortFunc(list, func(a, b dialect.Model) int { return strings.Compare(a.ID, b.ID) })
	return list
}

// mayAny reports whether the credential may be used through the provider for any model that it lists, or for none in particular.
func (f *force) mayAny(p *statement.Provider, credential string, by caller) bool {
	return len(p.Models) == 0 && f.may(target{p, credential, ""}, by) ||
		slices.ContainsFunc(p.Models, func(m string) bool { return f.may(target{p, credential, m}, by) })
}

// may reports whether custody, operations and policy agree that the model is used, on any path of its dialect. What the
// gateway cannot know, the custodian's isolation level, is taken at its best: the custodian decides each use.
func (f *force) may(t target, by caller) bool {
	credential, _, ok := f.set.Credential(t.credential)
	open := func(custodian string) bool { return f.set.Route(f.gateway.ID, custodian, t.credential, by.now) == "" }
	if !ok || !slices.ContainsFunc(f.set.Custodians(f.gateway.ID, t.credential), open) {
		return false
	}
	full := t.provider.Name + "/" + t.model
	if !workload.Allows(by.who.Grants, t.credential, func(granted string) bool {
		if to, isAlias := f.set.Operations.Aliases[granted]; isAlias {
			granted = to
		}
		return granted == full || t.provider.Default && granted == t.model
	}) {
		return false
	}
	request := policy.Request{
		Workload: by.who.Workload, Level: by.who.Level, Proof: by.who.Proof, Actors: by.who.Actor, AuthorityAsserted: by.who.AuthorityAsserted, Credential: t.credential, Gateway: f.gateway.ID,
		Method: "POST", Model: t.model, MaxTokens: -1, Isolation: "host", Time: by.now,
	}
	if by.client != "" {
		request.Asserted = map[string]string{"client_ip": by.client}
	}
	for _, path := range f.paths[t.provider.Dialect] {
		request.Path = credential.Destination.Prefix + path
		if f.policies.Decide(&request).Allow {
			return true
		}
	}
	return false
}
