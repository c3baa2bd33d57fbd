package drill

import (
	"errors"
	"strings"
	"testing"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/secret"
	"github.com/reevehq/reeve/internal/statement"
)

// withBait plans a canary, and bait of a kind.
func withBait(honey string) estatetest.Option {
	return estatetest.Edit(func(p *estate.Plan) {
		p.Charter.Workloads = append(p.Charter.Workloads, statement.Workload{ID: "canary", Unit: "research", Identities: []statement.Identity{{Issuer: statement.IssuerReeve}}})
		cu := p.Custody["research"]
		c := cu.Credentials[0]
		c.ID, c.Honey = "bait", honey
		cu.Credentials = append(cu.Credentials, c)
		p.Cedar["research"]["use.cedar"] += "\n@id(\"canary\")\npermit (principal == Workload::\"canary\", action == Action::\"use\", resource == Credential::\"bait\");\n"
	})
}

// A drill on a running estate is not begun with whoever could use what is no bait.
func TestOnEstateRefusesHarm(t *testing.T) {
	for name, c := range map[string]struct {
		honey, workload, want string
	}{
		"a canary":                   {"alarm", "canary", ""},
		"a workload with permits":    {"alarm", "research-agent", "policy permits research-agent to use research-"},
		"nobody":                     {"alarm", "nobody", `no workload "nobody"`},
		"no bait":                    {"", "canary", "policy permits canary to use bait, which is no bait"},
		"bait that would close":      {"freeze", "canary", "no bait that only alarms"},
		"another unit's, no bait":    {"alarm", "support-agent", "policy permits support-agent"},
		"a name that is nobody's, _": {"alarm", "", "no workload"},
	} {
		t.Run(name, func(t *testing.T) {
			e := estatetest.New(t, withBait(c.honey))
			r := &running{set: e.Set, canary: Canary{Workload: c.workload, Key: secret.New([]byte("k"))}}
			err := r.harmless(e.Now)
			switch {
			case c.want == "" && (err != nil || r.bait.ID != "bait" || r.gateway.ID != "g1"):
				t.Errorf("%v", err)
			case c.want != "" && (!errors.Is(err, ErrHarm) || !strings.Contains(err.Error(), c.want)):
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// What is worked out from the statements turns red too.
func TestDryScenarios(t *testing.T) {
	bare := estatetest.New(t, estatetest.Edit(func(p *estate.Plan) { p.Policies["support"].Limits = nil }))
	var report Report
	r := &running{set: bare.Set}
	if err := errors.Join(r.limits(t.Context(), &report), r.leavers(t.Context(), &report)); err != nil {
		t.Fatal(err)
	}
	if l := report.Scenarios[0]; l.Reeve != 1 || !strings.Contains(l.Detail, "support-agent has no limit") {
		t.Errorf("%+v", l)
	}
	if report.figures["orphaned_count"] != 4 {
		t.Errorf("%v: cora has no deputy", report.figures)
	}
}
