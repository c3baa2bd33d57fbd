package policy_test

import (
	"errors"
	"fmt"
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

// Paths are what Decide and Route allow, found without a request.
func TestPaths(t *testing.T) {
	e := estatetest.New(t, estatetest.Edit(lend), estatetest.Edit(func(p *estate.Plan) {
		p.Cedar["research"]["use.cedar"] = `permit (principal, action, resource) when { context.model == "demo-small" };
forbid (principal, action, resource == Credential::"research-anthropic");`
		p.Operations.Providers[0].Credentials["support"] = "research-openai"
	}))
	p, err := policy.Compile(e.Set)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, path := range p.Paths(e.Now, "", "") {
		got = append(got, fmt.Sprintf("%s %s %s %s %v %v", path.Workload, path.Credential, path.Model, path.Gateway, path.Conditional, path.Rules))
	}
	const bounded = " {support/use.cedar#answers-are-bounded forbid when { context.max_tokens > 100000 }}]"
	const lent = "[{support/lent.cedar#0 permit when { context.level > 0 }}" + bounded
	const own = "[{support/use.cedar#agent permit }" + bounded
	want := []string{
		"research-agent research-openai demo-small g1 false [{research/use.cedar#0 permit }]",
		"support-agent research-openai demo-embed g1 true " + lent,
		"support-agent research-openai demo-large g1 true " + lent,
		"support-agent research-openai demo-small g1 true " + lent,
		"support-agent support-anthropic demo-claude g1 true " + own,
		"support-agent support-openai  g1 true " + own,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if one := p.Paths(e.Now, "support-agent", "support-openai"); len(one) != 1 || one[0].Workload != "support-agent" || one[0].Credential != "support-openai" {
		t.Errorf("of one workload and one credential: %v", one)
	}
	if late := p.Paths(e.Set.Expires, "", ""); late != nil {
		t.Errorf("an expired set opens %v", late)
	}
}

// BenchmarkWhoCan asks who can use one credential, and what one workload can use, of 10,000 workloads under 10,000 policies.
func BenchmarkWhoCan(b *testing.B) {
	const n = 10_000
	e := estatetest.New(b, estatetest.Edit(func(p *estate.Plan) {
		var cedar strings.Builder
		for i := range n {
			id := fmt.Sprintf("agent-%d", i)
			p.Charter.Workloads = append(p.Charter.Workloads, statement.Workload{ID: id, Unit: "research", Identities: []statement.Identity{{Issuer: statement.IssuerReeve}}})
			fmt.Fprintf(&cedar, "permit (principal == Workload::%q, action == Action::\"use\", resource == Credential::\"research-openai\") when { context.level >= %d };\n", id, i%3)
		}
		p.Cedar["research"]["many.cedar"] = cedar.String()
		p.Policies["research"].Cedar = append(p.Policies["research"].Cedar, "many.cedar")
	}))
	p, err := policy.Compile(e.Set)
	if err != nil {
		b.Fatal(err)
	}
	for _, ask := range []struct {
		name, workload, credential string
		least                      int
	}{{"credential", "", "research-openai", n}, {"workload", "agent-77", "", 1}, {"all", "", "", n}} {
		b.Run(ask.name, func(b *testing.B) {
			for b.Loop() {
				if got := len(p.Paths(e.Now, ask.workload, ask.credential)); got < ask.least {
					b.Fatalf("%d paths", got)
				}
			}
		})
	}
	b.Run("compile", func(b *testing.B) {
		for b.Loop() {
			if _, err := policy.Compile(e.Set); err != nil {
				b.Fatal(err)
			}
		}
	})
}
