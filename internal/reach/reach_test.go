package reach_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/reach"
	"github.com/reevehq/reeve/internal/statement"
)

// lend grants research-openai to support, whose policy permits it to its agent.
func lend(p *estate.Plan) {
	p.Custody["research"].Grants = []statement.Grant{{Credential: "research-openai", Unit: "support"}}
	p.Cedar["support"]["lent.cedar"] = `permit (principal == Workload::"support-agent", action == Action::"use", resource == Credential::"research-openai") when { context.level > 0 };`
	p.Policies["support"].Cedar = append(p.Policies["support"].Cedar, "lent.cedar")
}

// Paths are what Decide and Route allow, found without a request.
func TestPaths(t *testing.T) {
	e := estatetest.New(t, estatetest.Edit(lend), estatetest.Edit(func(p *estate.Plan) {
		p.Cedar["research"]["use.cedar"] = `permit (principal, action, resource) when { context.model == "demo-small" };
forbid (principal, action, resource == Credential::"research-anthropic");`
		p.Operations.Providers[0].Credentials["support"] = "research-openai"
	}))
	ask := func(at time.Time, workload, credential string) []reach.Path {
		list, err := reach.Paths(e.Set, at, workload, credential)
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	var got []string
	for _, path := range ask(e.Now, "", "") {
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
	if one := ask(e.Now, "support-agent", "support-openai"); len(one) != 1 || one[0].Workload != "support-agent" || one[0].Credential != "support-openai" {
		t.Errorf("of one workload and one credential: %v", one)
	}
	if late := ask(e.Set.Expires, "", ""); late != nil {
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
	for _, ask := range []struct {
		name, workload, credential string
		least                      int
	}{{"credential", "", "research-openai", n}, {"workload", "agent-77", "", 1}, {"all", "", "", n}} {
		b.Run(ask.name, func(b *testing.B) {
			for b.Loop() {
				if got, err := reach.Paths(e.Set, e.Now, ask.workload, ask.credential); err != nil || len(got) < ask.least {
					b.Fatalf("%d paths, %v", len(got), err)
				}
			}
		})
	}
}

// What a template fills in is part of the answer, and what the custodians cannot use opens nothing.
func TestTemplates(t *testing.T) {
	e := estatetest.New(t, estatetest.Edit(func(p *estate.Plan) {
		own := &p.Custody["research"].Credentials[0]
		own.Template, own.Destination, own.Inject = "groq", statement.Destination{}, statement.Inject{}
	}))
	id := e.Set.Custody["research"].Credentials[0].ID
	list, err := reach.Paths(e.Set, e.Now, "", id)
	if err != nil || len(list) == 0 || list[0].Destination != "https://api.groq.com/openai" || len(list[0].Paths) == 0 || len(list[0].Methods) == 0 {
		t.Errorf("%+v, %v", list, err)
	}
	if _, err := e.Dir.Check(); err != nil {
		t.Error(err)
	}
	unusable := func(p *estate.Plan) { p.Custody["research"].Credentials[0].Template = "of-another-version" }
	e = estatetest.New(t, estatetest.Edit(unusable))
	if list, err := reach.Paths(e.Set, e.Now, "", id); err != nil || len(list) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
	if _, err := e.Dir.Check(); err == nil || !strings.Contains(err.Error(), "units/research/custody.yaml") {
		t.Errorf("what no custodian can use passes the check: %v", err)
	}
}

// Pairs are what Paths has ways for.
func TestPairs(t *testing.T) {
	e := estatetest.New(t, estatetest.Edit(lend), estatetest.Edit(func(p *estate.Plan) {
		p.Cedar["research"]["use.cedar"] = `permit (principal, action, resource) when { context.model == "demo-small" && context.gateway == "g1" };
forbid (principal, action, resource == Credential::"research-anthropic");
forbid (principal, action, resource) when { context.authority_asserted };`
		p.Operations.Providers[0].Credentials["support"] = "research-openai"
		p.Custody["support"].Credentials[1].Honey = "alarm"
	}))
	for _, c := range []struct {
		ask  reach.Ask
		want []string
	}{
		{reach.Ask{}, []string{
			"research-openai research [research-agent] [g1] [research/use.cedar#0]",
			"research-openai support [support-agent] [g1] [support/lent.cedar#0]",
			"support-openai support [support-agent] [g1] [support/use.cedar#agent]",
		}},
		{reach.Ask{Gateway: "g2"}, nil},
		{reach.Ask{Gateway: "g1", Credential: "support-openai"}, []string{"support-openai support [support-agent] [g1] [support/use.cedar#agent]"}},
		{reach.Ask{Workload: func(w *statement.Workload) bool { return w.ID == "research-agent" }}, []string{"research-openai research [research-agent] [g1] [research/use.cedar#0]"}},
		{reach.Ask{Asserted: true}, []string{"support-openai support [support-agent] [g1] [support/use.cedar#agent]"}}, // the lender's forbid holds too
	} {
		list, err := reach.Pairs(e.Set, e.Now, c.ask)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, p := range list {
			got = append(got, fmt.Sprintf("%s %s %v %v %v", p.Credential, p.Unit, p.Workloads, p.Gateways, p.Permits))
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%+v: %s", c.ask, d)
		}
	}
	if late, err := reach.Pairs(e.Set, e.Set.Expires, reach.Ask{}); err != nil || late != nil {
		t.Errorf("an expired set opens %v, %v", late, err)
	}
}

// BenchmarkPairs asks what a gateway reaches of 10,000 credentials of 40 units with 400 workloads.
func BenchmarkPairs(b *testing.B) {
	e := estatetest.New(b, estatetest.Edit(func(p *estate.Plan) {
		for u := range 40 {
			id := fmt.Sprintf("unit-%d", u)
			p.Charter.Units = append(p.Charter.Units, statement.Unit{ID: id, Tenant: "acme"})
			p.Charter.Roles.Units[id] = p.Charter.Roles.Units["research"]
			p.Policies[id] = &statement.PolicyStatement{Unit: id, Cedar: []string{"use.cedar"}}
			p.Cedar[id] = map[string]string{"use.cedar": fmt.Sprintf(`permit (principal in Unit::%q, action, resource) when { context.model like "demo-*" }; forbid (principal, action, resource) when { context.max_tokens > 1000 };`, id)}
			cu := &statement.CustodyStatement{Unit: id, Custodians: p.Custody["research"].Custodians}
			for w := range 10 {
				p.Charter.Workloads = append(p.Charter.Workloads, statement.Workload{ID: fmt.Sprintf("agent-%d-%d", u, w), Unit: id, Identities: []statement.Identity{{Issuer: statement.IssuerReeve}}})
			}
			for n := range 250 {
				c := p.Custody["research"].Credentials[0]
				c.ID = fmt.Sprintf("credential-%d-%d", u, n)
				cu.Credentials = append(cu.Credentials, c)
			}
			p.Custody[id] = cu
			p.Operations.Gateways[0].Units = append(p.Operations.Gateways[0].Units, id)
			p.Operations.Providers[0].Credentials[id] = fmt.Sprintf("credential-%d-0", u)
		}
	}))
	for b.Loop() {
		if got, err := reach.Pairs(e.Set, e.Now, reach.Ask{Gateway: "g1"}); err != nil || len(got) < 10_000 {
			b.Fatalf("%d pairs, %v", len(got), err)
		}
	}
}
