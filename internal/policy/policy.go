// Package policy decides whether a workload may use a credential for one request. It is pure: no clock, no I/O.
package policy

import (
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"

	"github.com/reevehq/reeve/internal/statement"
)

// Request is what one decision looks at. Fields under Asserted come from the gateway alone and may only narrow.
type Request struct {
	Workload string
	Level    int      // 0 to 3: W0 … W3
	Proof    string   // bearer, token or pop
	Actors   []string // who acts for the workload, by the delegation chain of its token
	// AuthorityAsserted means that nobody but the authority vouches for the workload.
	AuthorityAsserted bool
	Credential        string
	Gateway           string
	Method            string
	Path              string // as it is sent, without the query
	Model             string // after aliases, without the provider's name; empty when the request has none
	MaxTokens         int64  // -1 when the request sets none
	Stream            bool
	Tool              string // reserved: always empty, and Compile refuses a policy that looks at it
	Isolation         string // host, separate-uid, one-uid or none
	Time              time.Time
	Asserted          map[string]string // client_ip and spend, as in the schema; others are passed over
}

// Decision is the outcome. "Could not decide" is a denial with a reason, never an error.
type Decision struct {
	Allow    bool
	Policies []string // ids of the policies that decided, sorted: "<unit>/<file>#<n or @id>"
	// Reason is allowed, no_permit, forbidden, evaluation_error, asserted_malformed, unknown_workload, unknown_credential
	// or cross_unit.
	Reason string
}

// Policies is the compiled policy of one set. Safe for concurrent use.
type Policies struct {
	set      *statement.Set
	entities cedar.EntityMap
	units    map[string]*scopes // by the unit whose credentials they apply to
	estate   *scopes            // what is forbidden everywhere
}

// Decide evaluates the request.
func (p *Policies) Decide(r *Request) Decision { return p.decide(r, (*scopes).candidates) }

// chooser picks the policies of some scopes that are evaluated.
type chooser func(s *scopes, principal, resource around) list

func (p *Policies) decide(r *Request, choose chooser) Decision {
	q, reason := p.question(r.Workload, r.Credential, choose)
	if reason != "" {
		return Decision{Reason: reason}
	}
	context, ok := r.context(q.members)
	if !ok {
		return Decision{Reason: "asserted_malformed"}
	}
	effect, diag := cedar.Authorize(q.policies, p.entities, cedar.Request{Principal: q.principal[0], Action: use(), Resource: q.resource[0], Context: context})
	d := Decision{Reason: "no_permit"}
	for _, r := range diag.Reasons {
		d.Policies = append(d.Policies, string(r.PolicyID))
	}
	switch {
	case len(diag.Errors) > 0: // whatever the others say
		d.Reason, d.Policies = "evaluation_error", nil
		for _, e := range diag.Errors {
			d.Policies = append(d.Policies, string(e.PolicyID))
		}
	case effect == cedar.Allow:
		d.Allow, d.Reason = true, "allowed"
	case len(diag.Reasons) > 0:
		d.Reason = "forbidden"
	}
	slices.Sort(d.Policies)
	return d
}

// question is what a workload and a credential are asked about.
type question struct {
	principal, resource around
	policies            list
	members             []types.String // of the context, that some policy looks at
}

// question finds what applies to the workload and the credential, or says why nothing does.
func (p *Policies) question(workload, credential string, choose chooser) (q question, reason string) {
	_, home, ok := p.set.Workload(workload)
	if !ok {
		return q, "unknown_workload"
	}
	_, unit, ok := p.set.Credential(credential)
	if !ok {
		return q, "unknown_credential"
	}
	lent := home.ID != unit.ID
	if lent && !p.set.Lent(credential, home.ID) {
		return q, "cross_unit"
	}
	q.principal, q.resource = aroundOf("Workload", workload, home), aroundOf("Credential", credential, unit)
	own := p.units[home.ID]
	q.policies, q.members = choose(own, q.principal, q.resource), slices.Clip(own.members)
	if len(p.estate.by) > 0 {
		q.policies, q.members = q.policies.and(choose(p.estate, q.principal, q.resource)), append(q.members, p.estate.members...)
	}
	if lent { // the workload's unit permits, and the credential's unit may still forbid
		lender := p.units[unit.ID]
		q.policies, q.members = q.policies.and(choose(lender, q.principal, q.resource).forbids()), append(q.members, lender.members...)
	}
	return q, ""
}

// Applicable is what a decision about a workload and a credential is made from: for those who reason about all requests at once.
type Applicable struct {
	Principal, Action, Resource cedar.EntityUID
	Entities                    cedar.EntityMap
	Policies                    cedar.PolicyIterator // whose scope matches
	Members                     []types.String       // of the context, that some of them may look at
}

// Applicable returns what applies to the workload and the credential, or false when no policy can permit that use.
func (p *Policies) Applicable(workload, credential string) (*Applicable, bool) {
	q, reason := p.question(workload, credential, (*scopes).candidates)
	if reason != "" {
		return nil, false
	}
	return &Applicable{q.principal[0], use(), q.resource[0], p.entities, q.policies, q.members}, true
}

// ID is a policy's own id in its file: what @id says, or else its number from 0.
func ID(n int, p *cedar.Policy) string {
	if id, ok := p.Annotations()["id"]; ok {
		return string(id)
	}
	return strconv.Itoa(n)
}

// use is the only action.
func use() cedar.EntityUID { return cedar.NewEntityUID("Action", "use") }

// context is the request as the schema has it, with those members only that some policy of the unit looks at: making the
// record is the larger part of a decision. It is false when an asserted attribute cannot be read.
func (r *Request) context(members []types.String) (_ cedar.Record, ok bool) {
	asserted, ok := r.asserted()
	m := make(cedar.RecordMap, len(members))
	for _, name := range members {
		if m[name] = asserted; name != "asserted" {
			m[name] = r.member(name)
		}
	}
	return cedar.NewRecord(m), ok
}

// member is one member of the schema's context, asserted apart.
func (r *Request) member(name types.String) types.Value {
	switch name {
	case "method":
		return cedar.String(r.Method)
	case "path":
		return cedar.String(r.Path)
	case "model":
		return cedar.String(r.Model)
	case "max_tokens":
		return cedar.Long(r.MaxTokens)
	case "stream":
		return cedar.Boolean(r.Stream)
	case "tool":
		return cedar.String(r.Tool)
	case "actors":
		names := make([]types.Value, len(r.Actors))
		for i, name := range r.Actors {
			names[i] = cedar.String(name)
		}
		return cedar.NewSet(names...)
	case "level":
		return cedar.Long(r.Level)
	case "proof":
		return cedar.String(r.Proof)
	case "authority_asserted":
		return cedar.Boolean(r.AuthorityAsserted)
	case "isolation":
		return cedar.String(r.Isolation)
	case "gateway":
		return cedar.String(r.Gateway)
	}
	return cedar.NewDatetime(r.Time)
}

// asserted is what only the gateway vouches for.
func (r *Request) asserted() (_ cedar.Record, ok bool) {
	if len(r.Asserted) == 0 {
		return cedar.Record{}, true
	}
	m := cedar.RecordMap{}
	if s, has := r.Asserted["client_ip"]; has {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" {
			return cedar.Record{}, false
		}
		a = a.Unmap()
		m["client_ip"] = types.IPAddr(netip.PrefixFrom(a, a.BitLen()))
	}
	if s, has := r.Asserted["spend"]; has {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return cedar.Record{}, false
		}
		m["spend"] = cedar.Long(n)
	}
	return cedar.NewRecord(m), true
}
