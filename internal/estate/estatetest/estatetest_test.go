package estatetest

import (
	"testing"

	"github.com/reevehq/reeve/internal/policy"
	"github.com/reevehq/reeve/internal/statement"
)

func TestNewIsAccepted(t *testing.T) {
	e := New(t)
	set, err := statement.Load(e.Dir.Store(), e.Pin, nil, e.Now)
	if err != nil {
		t.Fatal(err)
	}
	if why := set.Route("g1", "c1", "research-openai", e.Now); why != "" {
		t.Fatalf("route: %s", why)
	}
	p, err := policy.Compile(set)
	if err != nil {
		t.Fatal(err)
	}
	id, err := e.Workloads().Verify(e.Proof("research-agent"), e.Now)
	if err != nil || id.Workload != "research-agent" || id.Unit != "research" || id.Tenant != "acme" {
		t.Fatalf("identity %+v, %v", id, err)
	}
	r := policy.Request{Workload: id.Workload, Credential: "research-openai", Gateway: "g1", Method: "POST", Path: "/v1/chat/completions", Model: "demo-small", MaxTokens: -1, Proof: "bearer", Isolation: "none", Time: e.Now}
	if d := p.Decide(&r); !d.Allow || d.Policies[0] != "research/use.cedar#agent" {
		t.Fatalf("decision %+v", d)
	}
	r.Credential = "support-openai"
	if d := p.Decide(&r); d.Allow || d.Reason != "cross_unit" {
		t.Fatalf("decision %+v", d)
	}
	e.Republish(t, nil, "policy-research")
	next, err := statement.Load(e.Dir.Store(), e.Pin, set, e.Now)
	if err != nil || next.Lock.Version != 2 {
		t.Fatalf("lock %+v, %v", next, err)
	}
}
