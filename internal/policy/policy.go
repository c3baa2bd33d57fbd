// Package policy decides whether a workload may use a credential for one request. It is pure: no clock, no I/O.
package policy

import (
	"iter"
	"slices"
	"strconv"
	"time"

	"github.com/cedar-policy/cedar-go"

	"github.com/reevehq/reeve/internal/statement"
)

// Request is what one decision looks at. Fields under Asserted come from the gateway alone and may only narrow.
type Request struct {
	Workload   string
	Level      int    // 0 to 3: W0 … W3
	Proof      string // bearer or pop
	Credential string
	Gateway    string
	Method     string
	Path       string // as it is sent, without the query
	Model      string // after aliases, without the provider's name; empty when the request has none
	MaxTokens  int64  // -1 when the request sets none
	Stream     bool
	Isolation  string // host, separate-uid, one-uid or none
	Time       time.Time
	Asserted   map[string]string // client_ip and spend; others are passed over
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
}

// Decide evaluates the request.
func (p *Policies) Decide(r *Request) Decision {
	_, home, ok := p.set.Workload(r.Workload)
	if !ok {
		return Decision{Reason: "unknown_workload"}
	}
	_, unit, ok := p.set.Credential(r.Credential)
	switch {
	case !ok:
		return Decision{Reason: "unknown_credential"}
	case home.ID != unit.ID: // a grant across units needs both units' consent, which no statement can give yet
		return Decision{Reason: "cross_unit"}
	}
	asserted, ok := assert(r.Asserted)
	if !ok {
		return Decision{Reason: "asserted_malformed"}
	}
	q := cedar.Request{
		Principal: cedar.NewEntityUID("Workload", cedar.String(r.Workload)),
		Action:    use,
		Resource:  cedar.NewEntityUID("Credential", cedar.String(r.Credential)),
		Context: cedar.NewRecord(cedar.RecordMap{
			"method":     cedar.String(r.Method),
			"path":       cedar.String(r.Path),
			"model":      cedar.String(r.Model),
			"max_tokens": cedar.Long(r.MaxTokens),
			"stream":     cedar.Boolean(r.Stream),
			"level":      cedar.Long(r.Level),
			"proof":      cedar.String(r.Proof),
			"isolation":  cedar.String(r.Isolation),
			"gateway":    cedar.String(r.Gateway),
			"time":       cedar.NewDatetime(r.Time),
			"asserted":   asserted,
		}),
	}
	return decide(p.units[unit.ID].candidates(q.Principal, q.Resource, unit), p.entities, q)
}

// use is the only action.
var use = cedar.NewEntityUID("Action", "use")

// assert types the attributes that only the gateway vouches for. One that cannot be read denies: a forbid may need it.
func assert(m map[string]string) (cedar.Record, bool) {
	if len(m) == 0 {
		return cedar.Record{}, true
	}
	rec := cedar.RecordMap{}
	if s, ok := m["client_ip"]; ok {
		ip, err := parseIP(s)
		if err != nil {
			return cedar.Record{}, false
		}
		rec["client_ip"] = ip
	}
	if s, ok := m["spend"]; ok {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return cedar.Record{}, false
		}
		rec["spend"] = cedar.Long(n)
	}
	return cedar.NewRecord(rec), true
}

// list is an iterator over policies, as cedar.Authorize wants it.
type list func(yield func(cedar.PolicyID, *cedar.Policy) bool)

func (l list) All() iter.Seq2[cedar.PolicyID, *cedar.Policy] {
	return iter.Seq2[cedar.PolicyID, *cedar.Policy](l)
}

// decide asks Cedar about the policies of l. Any evaluation error denies.
func decide(l list, entities cedar.EntityMap, q cedar.Request) Decision {
	effect, diag := cedar.Authorize(l, entities, q)
	if len(diag.Errors) > 0 {
		d := Decision{Reason: "evaluation_error"}
		for _, e := range diag.Errors {
			d.Policies = append(d.Policies, string(e.PolicyID))
		}
		slices.Sort(d.Policies)
		return d
	}
	d := Decision{Allow: effect == cedar.Allow, Reason: "no_permit", Policies: make([]string, len(diag.Reasons))}
	for i, r := range diag.Reasons {
		d.Policies[i] = string(r.PolicyID)
	}
	slices.Sort(d.Policies)
	switch {
	case d.Allow:
		d.Reason = "allowed"
	case len(d.Policies) > 0:
		d.Reason = "forbidden"
	}
	return d
}
