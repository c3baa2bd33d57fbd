package policy_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/policy"
	"github.com/reevehq/reeve/internal/statement"
)

// lend grants research-openai to support, whose policy permits it to its agent.
func lend(p *estate.Plan) {
	p.Custody["research"].Grants = []statement.Grant{{Credential: "research-openai", Unit: "support"}}
	p.Cedar["support"]["lent.cedar"] = `permit (principal == Workload::"support-agent", action == Action::"use", resource == Credential::"research-openai") when { context.level > 0 };`
	p.Policies["support"].Cedar = append(p.Policies["support"].Cedar, "lent.cedar")
}

// A grant lets another unit's policy permit one credential. Without it, or without that policy, nothing opens; the lender's
// permits do not reach the other unit's workloads, and its forbids do.
func TestGrant(t *testing.T) {
	with := func(more func(*estate.Plan)) *policy.Policies {
		e := estatetest.New(t, estatetest.Edit(lend), estatetest.Edit(more))
		p, err := policy.Compile(e.Set)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	r := request()
	r.Workload, r.Level = "support-agent", 1
	lent := with(func(*estate.Plan) {})
	decide := func(p *policy.Policies, r policy.Request) string { return p.Decide(&r).Reason }
	if got := decide(lent, r); got != "allowed" {
		t.Errorf("a granted and permitted credential: %s", got)
	}
	low := r
	low.Level = 0
	if got := decide(lent, low); got != "no_permit" {
		t.Errorf("what the borrower's policy does not permit: %s", got)
	}
	other := r
	other.Credential = "research-anthropic"
	if got := decide(lent, other); got != "cross_unit" {
		t.Errorf("a credential that is not granted: %s", got)
	}
	back := request()
	back.Credential = "support-openai"
	if got := decide(lent, back); got != "cross_unit" {
		t.Errorf("the lender's workload with the borrower's credential: %s", got)
	}
	permits := with(func(p *estate.Plan) {
		p.Cedar["support"]["lent.cedar"] = "// nothing\n"
		p.Cedar["research"]["use.cedar"] = permitAll
	})
	if got := decide(permits, r); got != "no_permit" && got != "forbidden" {
		t.Errorf("only the lender permits: %s", got)
	}
	forbids := with(func(p *estate.Plan) {
		p.Cedar["research"]["use.cedar"] += "forbid (principal, action, resource) when { context.stream };\n"
	})
	r.Stream = true
	if got := decide(forbids, r); got != "forbidden" {
		t.Errorf("the lender forbids: %s", got)
	}
	// No permit names a credential that was not granted, and nothing is lent to another tenant or to nobody.
	_, err := estatetest.Try(t, estatetest.Edit(lend), estatetest.Edit(func(p *estate.Plan) { p.Custody["research"].Grants = nil }))
	var e *statement.Error
	if !errors.As(err, &e) || e.Rule != "cedar" || !strings.Contains(e.What, "does not belong to") {
		t.Errorf("a permit without a grant: %v", err)
	}
	for name, edit := range map[string]func(*estate.Plan){
		"another tenant": func(p *estate.Plan) {
			p.Charter.Tenants = append(p.Charter.Tenants, "other")
			p.Charter.Units[1].Tenant = "other"
		},
		"no unit":       func(p *estate.Plan) { p.Custody["research"].Grants[0].Unit = "nobody" },
		"itself":        func(p *estate.Plan) { p.Custody["research"].Grants[0].Unit = "research" },
		"no credential": func(p *estate.Plan) { p.Custody["research"].Grants[0].Credential = "support-openai" },
	} {
		if _, err := estatetest.Try(t, estatetest.Edit(lend), estatetest.Edit(edit)); !errors.As(err, &e) || e.Rule != "reference" || !strings.Contains(e.File, "custody.yaml") {
			t.Errorf("a grant to %s: %v", name, err)
		}
	}
}

// What the charter forbids is forbidden in every unit; it permits nothing.
func TestEstateWideForbid(t *testing.T) {
	with := func(cedar string) func(*estate.Plan) {
		return func(p *estate.Plan) {
			p.Charter.Cedar, p.Forbids = []string{"everywhere.cedar"}, map[string]string{"everywhere.cedar": cedar}
		}
	}
	e := estatetest.New(t, estatetest.Edit(with(`@id("no-large") forbid (principal, action, resource in Tenant::"acme") when { context.model == "demo-large" };`)))
	p, err := policy.Compile(e.Set)
	if err != nil {
		t.Fatal(err)
	}
	for _, unit := range []string{"research", "support"} {
		r := request()
		r.Workload, r.Credential = unit+"-agent", unit+"-openai"
		if d := p.Decide(&r); !d.Allow {
			t.Errorf("%s: %+v", unit, d)
		}
		r.Model = "demo-large"
		if d := cmp.Diff(policy.Decision{Policies: []string{"*/everywhere.cedar#no-large"}, Reason: "forbidden"}, p.Decide(&r)); d != "" {
			t.Errorf("%s: %s", unit, d)
		}
	}
	_, err = estatetest.Try(t, estatetest.Edit(with(permitAll)))
	var refusal *statement.Error
	if !errors.As(err, &refusal) || refusal.Rule != "cedar" || refusal.File != "*/everywhere.cedar" || !strings.Contains(refusal.What, "only forbids") {
		t.Errorf("an estate-wide permit: %v", err)
	}
	_, err = estatetest.Try(t, estatetest.Edit(func(p *estate.Plan) { p.Charter.Cedar = []string{"not-there.cedar"} }))
	if !errors.As(err, &refusal) || refusal.Rule != "missing" {
		t.Errorf("a Cedar file that is not there: %v", err)
	}
}
