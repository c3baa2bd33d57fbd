package reach_test

import (
	"testing"

	"github.com/cedar-policy/cedar-go"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/policy"
	"github.com/reevehq/reeve/internal/reach"
)

// TestAlike: what is known decides as far as it goes.
func TestAlike(t *testing.T) {
	e := estatetest.New(t, estatetest.Edit(lend), estatetest.Edit(func(p *estate.Plan) {
		p.Cedar["research"]["use.cedar"] = `permit (principal, action, resource) when { context.level > 0 };
forbid (principal, action, resource == Credential::"research-anthropic") when { context.max_tokens > 10 };`
	}))
	policies, err := policy.Compile(e.Set)
	if err != nil {
		t.Fatal(err)
	}
	level := func(n cedar.Long) cedar.RecordMap { return cedar.RecordMap{"level": n} }
	for _, c := range []struct {
		workload, credential string
		known                cedar.RecordMap
		want                 reach.Verdict
	}{
		{"research-agent", "research-openai", nil, reach.Depends},
		{"research-agent", "research-openai", level(0), reach.Never},
		{"research-agent", "research-openai", level(1), reach.Always},
		{"research-agent", "research-anthropic", level(1), reach.Depends},
		{"research-agent", "research-anthropic", cedar.RecordMap{"level": cedar.Long(1), "max_tokens": cedar.Long(11)}, reach.Never},
		{"research-agent", "support-openai", level(3), reach.Never}, // another unit's
		{"support-agent", "research-openai", level(0), reach.Never}, // lent, to those above
		{"nobody", "research-openai", level(3), reach.Never},
	} {
		if got := reach.Alike(policies, c.workload, c.credential, c.known); got != c.want {
			t.Errorf("%s, %s, %v: %d, not %d", c.workload, c.credential, c.known, got, c.want)
		}
	}
}
