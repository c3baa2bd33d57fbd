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
	policies decider
	url      string // the gateway's public URL, without a slash at its end
	limits   statement.GatewayLimits
	estate   string                         // hex lock hash
	provider map[string]*statement.Provider // by name
	fallback map[string]*statement.Provider // the default provider, by dialect
	paths    map[string][]string            // dialect.Dialect.Paths, by dialect
	prefix   map[string]string              // custody's destination prefix, by credential
}

// decider is policy.Policies, and a table in tests.
type decider interface {
	Decide(r *policy.Request) policy.Decision
}

// newForce prepares a set for the gateway with that id. A set that does not name the gateway is refused.
func newForce(id string, set *statement.Set, policies decider, dialects []dialect.Dialect) (*force, error) {
	i := slices.IndexFunc(set.Operations.Gateways, func(g statement.Gateway) bool { return g.ID == id })
	if i < 0 {
		return nil, fmt.Errorf("the operations statement names no gateway %q: its owners add it under gateways, or this gateway's id is wrong", id)
	}
	f := &force{
		set: set, policies: policies, url: strings.TrimSuffix(set.Operations.Gateways[i].URL, "/"),
		limits:   limits(set.Operations.Limits),
		estate:   fmt.Sprintf("%x", set.LockHash),
		provider: map[string]*statement.Provider{},
		fallback: map[string]*statement.Provider{},
		paths:    map[string][]string{},
		prefix:   map[string]string{},
	}
	for i := range set.Operations.Providers {
		p := &set.Operations.Providers[i]
		f.provider[p.Name] = p
		if p.Default {
			f.fallback[p.Dialect] = p
		}
	}
	for _, custody := range set.Custody {
		for i := range custody.Credentials {
			f.prefix[custody.Credentials[i].ID] = custody.Credentials[i].Destination.Prefix
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

// models lists what a workload may use by policy through one dialect: each as provider/model, then aliases, sorted.
func (f *force) models(gateway, dialectName string, who *workload.Identity, now time.Time) []dialect.Model {
	var list []dialect.Model
	for i := range f.set.Operations.Providers {
		p := &f.set.Operations.Providers[i]
		if p.Dialect != dialectName || p.Credentials[who.Unit] == "" {
			continue
		}
		for _, m := range p.Models {
			if f.may(gateway, target{p, p.Credentials[who.Unit], m}, who, now) {
				list = append(list, dialect.Model{ID: p.Name + "/" + m, Provider: p.Name})
			}
		}
	}
	for alias := range f.set.Operations.Aliases {
		t, ok := f.resolve(alias, dialectName, who.Unit)
		if ok && t.provider.Dialect == dialectName && f.may(gateway, t, who, now) {
			list = append(list, dialect.Model{ID: alias, Provider: t.provider.Name})
		}
	}
	slices.SortFunc(list, func(a, b dialect.Model) int { return strings.Compare(a.ID, b.ID) })
	return list
}

// may reports whether policy allows the model on any path of its dialect. What the gateway cannot know, the custodian's
// isolation level, is taken at its best: the custodian decides each use.
func (f *force) may(gateway string, t target, who *workload.Identity, now time.Time) bool {
	for _, path := range f.paths[t.provider.Dialect] {
		d := f.policies.Decide(&policy.Request{
			Workload: who.Workload, Level: who.Level, Proof: who.Proof, Credential: t.credential, Gateway: gateway,
			Method: "POST", Path: f.prefix[t.credential] + path, Model: t.model, MaxTokens: -1, Isolation: "host", Time: now,
		})
		if d.Allow {
			return true
		}
	}
	return false
}
