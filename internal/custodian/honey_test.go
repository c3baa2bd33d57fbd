package custodian

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/statement"
)

// TestHoney: every use of bait is refused before anything of it is looked at, in the words that policy refuses with; its entry and an
// alarm say what it was, its owner is told, once a minute; with freeze the workload is closed.
func TestHoney(t *testing.T) {
	for _, word := range []string{"alarm", "freeze"} {
		t.Run(word, func(t *testing.T) {
			honey := func(p *estate.Plan) { p.Custody["research"].Credentials[0].Honey = word }
			plain := newWorld(t, estatetest.Edit(func(p *estate.Plan) {
				p.Cedar["research"]["use.cedar"] = `permit (principal == Workload::"research-agent", action, resource == Credential::"research-anthropic");`
			}))
			w := newWorld(t, estatetest.Edit(honey))
			ordinary, got := plain.do(plain.chat()).refusal, w.do(w.chat()).refusal
			ordinary.Receipt = ""
			if got == nil || got.Receipt == "" {
				t.Fatalf("a use of bait: %+v", got)
			}
			shown := *got
			shown.Receipt = ""
			if diff := cmp.Diff(ordinary, &shown); diff != "" {
				t.Errorf("it can be told from a refusal by policy:\n%s", diff)
			}
			w.do(w.chat())
			denials, alarms := w.ledger.of(entry.Deny), w.ledger.of(entry.Alarm)
			if len(denials) != 2 || denials[0].Reason != "honey" || denials[0].Credential != "research-openai" || denials[0].Workload != "research-agent" {
				t.Errorf("denials %+v", denials)
			}
			if len(alarms) != 1 || alarms[0].Reason != "honey" || alarms[0].Credential != "research-openai" || alarms[0].Workload != "research-agent" {
				t.Errorf("alarms %+v", alarms)
			}
			if diff := cmp.Diff([]string{"cora"}, w.people.Load()); diff != "" || w.notices.Load() != 1 {
				t.Errorf("%d notices; who was told (-want +got):\n%s", w.notices.Load(), diff)
			}
			w.now.Add(int64(time.Minute))
			w.do(w.chat())
			if n := w.notices.Load(); n != 2 || w.wire.n.Load() != 0 {
				t.Errorf("%d notices after a minute, %d requests sent", n, w.wire.n.Load())
			}
			if closed := w.Gate.State().At(statement.Target{Kind: "workload", ID: "research-agent"}); (closed != nil) != (word == "freeze") {
				t.Errorf("the workload: %v", closed)
			}
		})
	}
}
