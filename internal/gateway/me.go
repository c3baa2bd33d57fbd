package gateway

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/gateway/dialect"
	"github.com/reevehq/reeve/internal/workload"
)

// mePath is where an agent asks what it may use.
const mePath = "/v1/reeve/me"

// me is the answer: what concerns the caller, and nobody else.
type me struct {
	Workload string `json:"workload"`
	Unit     string `json:"unit"`
	Tenant   string `json:"tenant"`

	Level             string   `json:"level"` // W0 … W2
	Proof             string   `json:"proof"` // bearer, token or pop
	Issuer            string   `json:"issuer"`
	AuthorityAsserted bool     `json:"authority_asserted"`
	Actors            []string `json:"actors"` // who acts for it, the nearest first
	Expires           string   `json:"expires"`

	Credentials []meCredential `json:"credentials"`
	Models      []string       `json:"models"`
	Tools       []string       `json:"tools"`
	Limits      meLimits       `json:"limits"`
}

type meCredential struct {
	Name       string   `json:"name"`
	Dialect    string   `json:"dialect"`
	Custodians []string `json:"custodians"` // one of which is the Reeve-Audience of a signed request: the first that answers
}

// meLimits are the operations owners' limits at this gateway, and the policy owners' ceilings. 0 is no bound.
type meLimits struct {
	BodyBytes         int64       `json:"body_bytes"`
	RequestsPerMinute int64       `json:"requests_per_minute"`
	Concurrent        int64       `json:"concurrent"`
	Ceilings          []meCeiling `json:"ceilings"`
}

type meCeiling struct {
	Credential        string `json:"credential"` // * for each one
	RequestsPerMinute int64  `json:"requests_per_minute"`
	Concurrent        int64  `json:"concurrent"`
	BytesPerMinute    int64  `json:"bytes_per_minute"`
}

// tell answers GET /v1/reeve/me.
func (c *call) tell() *dialect.Fault {
	who := &c.who
	answer := me{
		Workload: who.Workload, Unit: who.Unit, Tenant: who.Tenant, Level: levels[who.Level&3], Proof: who.Proof, Issuer: who.Issuer,
		AuthorityAsserted: who.AuthorityAsserted, Actors: append([]string{}, who.Actor...), Expires: who.NotAfter.UTC().Format(time.RFC3339),
		Credentials: []meCredential{}, Models: []string{}, Tools: []string{}, Limits: c.force.limitsOf(who),
	}
	for _, name := range [...]string{c.g.openai.Name(), c.g.claude.Name()} {
		for _, m := range c.force.models(name, c.caller()) {
			answer.Models = append(answer.Models, m.ID)
		}
	}
	for i := range c.force.set.Operations.Providers {
		p := &c.force.set.Operations.Providers[i]
		id := p.Credentials[who.Unit]
		known := slices.ContainsFunc(answer.Credentials, func(x meCredential) bool { return x.Name == id })
		if id == "" || known || !c.force.mayAny(p, id, c.caller()) {
			continue
		}
		answer.Credentials = append(answer.Credentials, meCredential{id, p.Dialect, c.force.set.Custodians(c.force.gateway.ID, id)})
	}
	slices.SortFunc(answer.Credentials, func(a, b meCredential) int { return strings.Compare(a.Name, b.Name) })
	slices.Sort(answer.Models)
	b, err := json.Marshal(answer)
	if err != nil {
		panic("gateway: encoding what a workload may use: " + err.Error()) // strings, numbers and lists: cannot fail
	}
	c.w.Header().Set("Content-Type", "application/json")
	c.w.Header().Set("Cache-Control", "no-store")
	c.answerWith(http.StatusOK, b)
	return nil
}

// levels are the words for workload.Identity.Level.
var levels = [4]string{"W0", "W1", "W2", "W3"}

// limitsOf are the limits that hold for one workload.
func (f *force) limitsOf(who *workload.Identity) meLimits {
	l := meLimits{BodyBytes: f.limits.BodyBytes, RequestsPerMinute: f.limits.PerMinuteEach, Concurrent: f.limits.ConcurrentEach, Ceilings: []meCeiling{}}
	for _, x := range f.set.Policies[who.Unit].Ceilings {
		if x.Workload == "*" || x.Workload == who.Workload {
			l.Ceilings = append(l.Ceilings, meCeiling{x.Credential, x.RequestsPerMinute, x.Concurrent, x.BytesPerMinute})
		}
	}
	return l
}
