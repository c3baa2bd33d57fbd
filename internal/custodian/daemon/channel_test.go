package daemon

import (
	"context"
	"io/fs"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/reevehq/reeve/internal/dispatch"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/relay"
	"github.com/reevehq/reeve/internal/relay/server"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/verify"
)

// TestWithheldRevocationArrives: the authority (here the folder) has nothing of a revocation; it arrives by the auditor, or by a
// gateway over the hop, and the custodian's own log says so to whoever revoked. Of a custodian that cannot be reached nothing is known.
func TestWithheldRevocationArrives(t *testing.T) {
	s := newSite(t, binary(t))
	auditor := httptest.NewServer(server.New())
	t.Cleanup(auditor.Close)
	t.Cleanup(auditor.CloseClientConnections)
	s.rewrite(func(c *Config) { c.Relays = []string{auditor.URL} })
	s.start("--demo")
	s.ready()
	trust := &verify.Trust{Estate: "demo", Need: 1, Logs: []verify.Log{{Process: "c1", Origin: "reeve/demo/c1"}}, Witnesses: []verify.Witness{{Name: "reeve/demo/witness/w1"}}}
	for _, k := range s.estate.Set.Charter.ServiceKeys {
		switch {
		case k.Use == "log" && k.Process == "c1":
			trust.Logs[0].Key = k.Key
		case k.Use == "witness":
			trust.Witnesses[0].Key = k.Key
		}
	}
	hop := s.client()
	number := int64(0)
	revoke := func(target statement.Target, wait time.Duration, c dispatch.Channel) *dispatch.Report {
		t.Helper()
		number++
		to := dispatch.New(&dispatch.Order{Trust: trust, Wait: wait, Custodians: []string{"c1"}, Channels: []dispatch.Channel{c},
			Logs: map[string][]fs.FS{"c1": {os.DirFS(filepath.Join(s.dir, "tiles"))}}})
		env, err := estate.Seal("revocation", statement.Revocation{Estate: "demo", Signer: "ada", Number: number, Target: target, Reason: "test",
			Time: time.Now().UTC().Truncate(time.Microsecond)}, s.estate.Ada)
		must(t, err)
		file, err := statement.Canonical(env)
		must(t, err)
		return to.Run(context.Background(), env.ID(), file)
	}
	gateway := dispatch.Channel{Name: "gateway", Send: func(ctx context.Context, record []byte) error { return hop.Record(ctx, record) }}
	for _, c := range []struct {
		target  statement.Target
		channel dispatch.Channel
	}{
		{statement.Target{Kind: "agent", ID: "planner"}, dispatch.Post("auditor", auditor.URL+relay.Path)},
		{statement.Target{Kind: "workload", ID: "research-agent"}, gateway},
		{statement.Target{Kind: "workload", ID: "research-agent"}, gateway}, // closed already: its entry comes all the same
	} {
		r := revoke(c.target, time.Minute, c.channel)
		if got := r.Custodians[0]; !r.All() || got.Channel != c.channel.Name || got.Entry != "revoke" || got.Level != "cosigned" {
			t.Fatalf("%s by %s: %+v", c.target, c.channel.Name, r)
		}
	}
	if _, err := hop.Do(context.Background(), s.chat("")); refusal(err) != "frozen" {
		t.Errorf("the next call: %v", err)
	}
	nowhere := dispatch.Channel{Name: "authority", Send: func(context.Context, []byte) error { return nil }} // takes it, and withholds it
	if r := revoke(statement.Target{Kind: "unit", ID: "research"}, time.Second, nowhere); r.All() || r.Custodians[0].Error == "" {
		t.Errorf("of a record that went nowhere: %+v", r)
	}
}
