// Package policy decides whether a workload may use a credential for one request. It is pure: no clock, no I/O.
package policy

import (
	"errors"
	"time"

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
	Asserted   map[string]string
}

// Decision is the outcome. "Could not decide" is a denial with a reason, never an error.
type Decision struct {
	Allow    bool
	Policies []string // ids of the policies that decided, sorted: "<unit>/<file>#<n or @id>"
	Reason   string   // a stable word: allowed, no_permit, forbidden, evaluation_error, unknown_workload, …
}

// Policies is the compiled policy of one set. Safe for concurrent use.
type Policies struct{}

// Compile parses every unit's Cedar, validates it against the schema and refuses permits that reach beyond their unit.
func Compile(set *statement.Set) (*Policies, error) { return nil, errors.New("policy: not built") }

// Decide evaluates the request.
func (p *Policies) Decide(r *Request) Decision { return Decision{Reason: "not_built"} }
