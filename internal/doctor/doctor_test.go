package doctor

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/reevehq/reeve/internal/admin"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/statement"
)

// healthy is evidence and a call with which everything is well.
func healthy(t *testing.T, opts ...estatetest.Option) (*Evidence, Call) {
	t.Helper()
	e := estatetest.New(t, opts...)
	status := &admin.Status{ID: "c1", Lock: e.Set.Lock.Version, Isolation: map[string]string{"g1": "separate-uid"}, FeedAgeMS: 250,
		Ledger:      admin.Ledger{Size: 10, Cosigned: 10},
		Credentials: []admin.Credential{{ID: "research-openai", Version: 1, Created: e.Now}}}
	return &Evidence{Now: e.Now, Set: e.Set, Keys: e.KeyRecords, Custodian: status, ID: "c1", Gateway: "g1",
			Processes: []Process{{Name: "gateway", Ready: true}}},
		Call{Workload: "research-agent", Model: "openai/demo-small", Method: "POST", Path: "/v1/chat/completions"}
}

func TestAllIsWell(t *testing.T) {
	e, call := healthy(t)
	found := Examine(e, call)
	for _, f := range found {
		if f.State != OK || f.Found == "" {
			t.Errorf("%+v", f)
		}
	}
	if len(found) < 10 {
		t.Errorf("only %d steps: %+v", len(found), found)
	}
}

func TestWhatIsWrongIsNamed(t *testing.T) {
	hash := strings.Repeat("0", 64)
	for _, c := range []struct {
		step, found, remedy string
		state               State
		edit                func(*Evidence, *Call)
	}{
		{"gateway", "no statements", "reeve up", Fails, func(e *Evidence, _ *Call) { e.Processes[0] = Process{Name: "gateway", Waits: "no statements"} }},
		{"estate", "lock is torn", "estate check", Fails, func(e *Evidence, _ *Call) { e.SetErr = errors.New("lock is torn") }},
		{"in force", "cannot be asked", "its host", Unknown, func(e *Evidence, _ *Call) { e.Custodian, e.AskErr = nil, errors.New("no socket") }},
		{"in force", "uses version 1, published is", "both logs", Fails, func(e *Evidence, _ *Call) { e.Set.Lock.Version = 2 }},
		{"in force", "refused the newest", "estate check", Fails, func(e *Evidence, _ *Call) { e.Custodian.SetError = "stripped signature" }},
		{"workload", "no workload", "research-agent, support-agent", Fails, func(_ *Evidence, c *Call) { c.Workload = "nobody" }},
		{"key", "no valid key", "policy owner of research", Fails, func(e *Evidence, _ *Call) { e.Keys = nil }},
		{"key", "expired on", "issues one", Fails, func(e *Evidence, _ *Call) { e.Now = e.Now.Add(24 * time.Hour) }},
		{"workload", "no workload", "name one of", Fails, func(_ *Evidence, c *Call) { c.Workload, c.KeyHash = "", hash }},
		{"model", "does not list", "demo-small", Fails, func(_ *Evidence, c *Call) { c.Model = "openai/other" }},
		{"agreed", "unknown_gateway", "operations owner", Fails, func(e *Evidence, _ *Call) { e.Gateway = "g2" }},
		{"closed", "workload research-agent is closed by ada", "--open", Fails, func(e *Evidence, _ *Call) {
			e.Custodian.Closed = []admin.Closed{{Target: statement.Target{Kind: "workload", ID: "research-agent"}, By: "ada", Reason: "lost laptop"}}
		}},
		{"closed", "everything", "--open", Fails, func(e *Evidence, _ *Call) {
			e.Custodian.Closed = []admin.Closed{{Target: statement.Target{Kind: "everything"}, By: "ada"}}
		}},
		{"feed", "older than 30s", "start the authority", Fails, func(e *Evidence, _ *Call) { e.Custodian.FeedAgeMS = -1 }},
		{"ledger", "no space", "disk", Fails, func(e *Evidence, _ *Call) { e.Custodian.Ledger.Error = "no space" }},
		{"ledger", "without cosignature", "start the auditor", Fails, func(e *Evidence, _ *Call) { e.Custodian.Ledger.LagMS = 31_000 }},
		{"secret", "nothing was handed over", "reeve credential put research-openai", Fails, func(e *Evidence, _ *Call) { e.Custodian.Credentials[0].Version = 0 }},
		{"secret", "older than", "cora", Fails, func(e *Evidence, _ *Call) { e.Custodian.Credentials[0].Created = e.Now.Add(-91 * 24 * time.Hour) }},
	} {
		e, call := healthy(t)
		c.edit(e, &call)
		got := find(Examine(e, call), c.step)
		if got.State != c.state || !strings.Contains(got.Found, c.found) || !strings.Contains(got.Remedy, c.remedy) {
			t.Errorf("want %s %s %q → %q, got %+v", c.step, c.state, c.found, c.remedy, got)
		}
	}
}

func TestPolicyDenialNamesThePolicy(t *testing.T) {
	e, call := healthy(t, estatetest.Edit(func(p *estate.Plan) {
		p.Cedar["research"]["use.cedar"] += "\n@id(\"no-small\")\nforbid (principal, action, resource) when { context.model == \"demo-small\" };\n"
	}))
	got := find(Examine(e, call), "policy")
	if got.State != Fails || !strings.Contains(got.Found, "forbidden by research/use.cedar#no-small") || !strings.Contains(got.Remedy, "policy owner of research") {
		t.Errorf("%+v", got)
	}
}

func TestModelsAreResolvedAsTheGatewayDoes(t *testing.T) {
	for _, c := range []struct{ model, path, want string }{
		{"fast", "/v1/chat/completions", "demo-small at openai with the credential research-openai"},
		{"demo-large", "/v1/chat/completions", "demo-large at openai"},
		{"demo-claude", "/v1/messages", "demo-claude at anthropic with the credential research-anthropic"},
		{"anthropic/demo-claude", "/v1/chat/completions", "demo-claude at anthropic"},
	} {
		e, call := healthy(t)
		call.Model, call.Path = c.model, c.path
		if got := find(Examine(e, call), "model"); got.State != OK || !strings.Contains(got.Found, c.want) {
			t.Errorf("%s: %+v", c.model, got)
		}
	}
}

func find(all []Finding, step string) Finding {
	for _, f := range all {
		if f.Step == step {
			return f
		}
	}
	return Finding{}
}
