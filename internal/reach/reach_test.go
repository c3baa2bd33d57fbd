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
