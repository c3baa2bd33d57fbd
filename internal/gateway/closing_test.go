package gateway

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/reevehq/reeve/internal/closing"
	"github.com/reevehq/reeve/internal/hop"
	"github.com/reevehq/reeve/internal/statement"
)

// TestClosedTargetsAreRefusedAndCut: the gateway refuses what is closed in the client's dialect before it asks the custodian, and
// ends the streams of it, whether or not the custodian does.
func TestClosedTargetsAreRefusedAndCut(t *testing.T) {
	for _, target := range []statement.Target{
		{Kind: closing.Workload, ID: "research-agent"}, {Kind: closing.Unit, ID: "research"}, {Kind: closing.Tenant, ID: "acme"},
		{Kind: closing.Credential, ID: "research-openai"}, {Kind: closing.Gateway, ID: "g1"}, {Kind: closing.Key, ID: strings.Repeat("ab", 32)},
		{Kind: closing.Token, ID: "jti-1"}, {Kind: closing.Token, ID: "jti-0"}, {Kind: closing.Agent, ID: "planner"}, {Kind: closing.Everything},
	} {
		t.Run(target.String(), func(t *testing.T) {
			ended := make(chan bool)
			gate := closing.NewGate(closing.NewState(0, nil))
			r := newRig(t, func(ctx context.Context, _ hop.Peer, _ *hop.Open, w *hop.Writer) {
				w.Head(200, eventStream)
				io.WriteString(w, chunk)
				<-ctx.Done() // a custodian that does not cut
				close(ended)
			}, func(r *rig) {
				r.parts.Gate = gate
				who := r.parts.Proofs.(keyring)["rv_research"]
				who.SHA256, who.Actor, who.Token, who.Parents = strings.Repeat("ab", 32), []string{"planner"}, [2]string{"", "jti-1"}, []string{"jti-00", "jti-0"}
				r.parts.Proofs.(keyring)["rv_research"] = who
			})
			resp := r.do("POST", "/v1/chat/completions", chatStream)
			first := lines(resp)
			line(t, first)
			gate.Close(closing.Closed{Target: target, Reason: "stolen", By: "ada", Time: time.Now()})
			rest, err := io.ReadAll(first)
			if err == nil || !strings.Contains(string(rest), "is closed by ada: stolen") {
				t.Errorf("the stream ended with %v and %q", err, rest)
			}
			<-ended
			resp = r.do("POST", "/v1/chat/completions", chatStream)
			if body := text(t, resp); resp.StatusCode != http.StatusForbidden || !strings.Contains(body, "is closed by ada: stolen") || resp.Header.Get("X-Should-Retry") != "false" {
				t.Errorf("%s %s", resp.Status, body)
			}
			if r.open(); gate.Live() != 0 { // the custodian was asked once
				t.Errorf("%d uses are left", gate.Live())
			}
			gate.Open(target)
			if resp := r.do("GET", "/v1/models", ""); resp.StatusCode != http.StatusOK {
				t.Errorf("opened again: %s", resp.Status)
			}
		})
	}
}
