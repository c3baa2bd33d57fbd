package custodian

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/custodian/egress"
	"github.com/reevehq/reeve/internal/custodian/glass"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/internal/statement"
)

func (w *world) breakGlass(edit func(*statement.BreakGlass)) statement.BreakGlass {
	now := w.Clock().UTC().Truncate(time.Second)
	b := statement.BreakGlass{Estate: w.estate.Set.Charter.Estate, Credential: "research-openai", Waive: []string{}, Reason: "outage", Created: now, Until: now.Add(30 * time.Minute)}
	if edit != nil {
		edit(&b)
	}
	return b
}

func (w *world) code() string {
	if a := w.do(w.chat()); a.refusal != nil {
		return a.refusal.Code
	}
	return ""
}

// TestBreakGlass: for its time it permits what the policy does not, to one workload and credential; its entry comes first, all owners
// are told, it ends by itself with the streams that it permitted, and its review stays open until somebody else signs it.
func TestBreakGlass(t *testing.T) {
	w := newWorld(t, estatetest.Edit(func(p *estate.Plan) {
		p.Cedar["research"]["use.cedar"] = `permit (principal == Workload::"research-agent", action, resource == Credential::"research-anthropic");`
	}))
	if got := w.code(); got != "policy_denied" {
		t.Fatalf("before: %q", got)
	}
	grant := func(b *statement.BreakGlass) {
		b.Workload, b.Waive = "research-agent", []string{statement.WaivePolicy}
	}
	broken := ledger.ErrFull
	w.ledger.fail.Store(&broken)
	if err := w.record("break-glass", w.breakGlass(grant), w.estate.Cora, w.estate.Bea); err == nil {
		t.Error("a break-glass without its entry")
	}
	w.ledger.fail.Store(nil)
	for name, until := range map[string]time.Duration{"a second more than an hour": time.Hour + time.Second, "a day": 24 * time.Hour, "no time": 0} {
		long := w.breakGlass(grant)
		long.Until = long.Created.Add(until)
		if err := w.record("break-glass", long, w.estate.Cora, w.estate.Bea); err == nil {
			t.Errorf("a break-glass for %s", name)
		}
	}
	if got := w.code(); got != "policy_denied" {
		t.Errorf("without an entry, or for too long: %q", got)
	}
	given := w.breakGlass(grant)
	must(t, w.record("break-glass", given, w.estate.Cora, w.estate.Bea))
	if got := w.code(); got != "" {
		t.Fatalf("under the break-glass: %q", got)
	}
	opened, intents := w.ledger.of(entry.BreakGlass), w.ledger.of(entry.Intent)
	if len(opened) != 1 || opened[0].Credential != "research-openai" || opened[0].Workload != "research-agent" || opened[0].Unit != "research" || opened[0].Reason != "open: outage" {
		t.Fatalf("entries %+v", opened)
	}
	if len(intents) != 1 || intents[0].Reason != "break_glass" || intents[0].Seq < opened[0].Seq || !strings.HasPrefix(intents[0].Policies[0], "break-glass:"+opened[0].Record) {
		t.Errorf("intents %+v", intents)
	}
	if diff := cmp.Diff([]string{"ada", "bea", "cora"}, w.people.Load()); diff != "" {
		t.Errorf("who was told (-want +got):\n%s", diff)
	}
	other := w.chat()
	other.Proof = w.estate.Proof("support-agent")
	if a := w.do(other); a.refusal == nil {
		t.Error("it permits another workload")
	}

	// What is closed stays closed.
	w.freeze("workload", "research-agent")
	if got := w.code(); got != "frozen" {
		t.Errorf("frozen: %q", got)
	}
	w.Gate.Gate.Open(statement.Target{Kind: "workload", ID: "research-agent"})

	// A restart forgets nothing and enters nothing twice.
	again, err := glass.Open(w.dir)
	must(t, err)
	if diff := cmp.Diff(w.Glass.List(), again.List()); diff != "" {
		t.Errorf("after a restart (-before +after):\n%s", diff)
	}
	must(t, w.record("break-glass", given, w.estate.Cora, w.estate.Bea))
	if n := len(w.ledger.of(entry.BreakGlass)); n != 1 {
		t.Errorf("%d entries after it came again", n)
	}

	// The end cuts the streams.
	w.wire.answer = func(ctx context.Context, _ *egress.Request) (*egress.Response, error) {
		return stream(ctx, "begin"), nil
	}
	a, done := &answer{}, make(chan struct{})
	go func() { defer close(done); w.serve(context.Background(), g1, w.chat(), a) }()
	eventually(t, "the stream begins", func() bool { _, body, _, _ := a.snapshot(); return body == "begin" })
	w.now.Add(int64(31 * time.Minute))
	w.Expire()
	<-done
	if got := w.code(); got != "policy_denied" {
		t.Errorf("after its end: %q", got)
	}
	w.Expire()

	record := opened[0].Record
	review := statement.Review{Estate: w.estate.Set.Charter.Estate, BreakGlass: record, Finding: "justified", Created: w.Clock().UTC().Truncate(time.Second)}
	if err := w.record("break-glass-review", review, w.estate.Cora, w.estate.Bea); err == nil {
		t.Error("reviewed by those who signed it")
	}
	if n, _ := w.Unreviewed(); n != 1 {
		t.Errorf("%d reviews are open", n)
	}
	must(t, w.record("break-glass-review", review, w.estate.Ada))
	if n, _ := w.Unreviewed(); n != 0 {
		t.Errorf("%d reviews are open after the review", n)
	}
	eventually(t, "its end and its review are told", func() bool { return len(w.ledger.of(entry.BreakGlass)) == 3 })
}

// TestBreakGlassKeepsForbids: a policy owner closes what is his by a forbid, and nobody breaks that.
func TestBreakGlassKeepsForbids(t *testing.T) {
	w := newWorld(t, estatetest.Edit(func(p *estate.Plan) { p.Cedar["research"]["use.cedar"] = "forbid (principal, action, resource);" }))
	must(t, w.record("break-glass", w.breakGlass(func(b *statement.BreakGlass) { b.Workload, b.Waive = "research-agent", []string{statement.WaivePolicy} }), w.estate.Cora, w.estate.Ada))
	if got := w.code(); got != "policy_denied" {
		t.Errorf("a forbid was broken: %q", got)
	}
}

// TestBreakGlassWithoutAuthorityAndAuditor: it waives the age of the news and the cosignatures for its credential alone.
func TestBreakGlassWithoutAuthorityAndAuditor(t *testing.T) {
	w := newWorld(t)
	w.age.Store(int64(time.Hour))
	w.lag.Store(int64(time.Hour))
	must(t, w.record("break-glass", w.breakGlass(func(b *statement.BreakGlass) { b.Waive = []string{statement.WaiveFeed} }), w.estate.Cora, w.estate.Ada))
	if got := w.code(); got != "uncosigned" {
		t.Errorf("with the news waived: %q", got)
	}
	must(t, w.record("break-glass", w.breakGlass(func(b *statement.BreakGlass) { b.Waive = []string{statement.WaiveFeed, statement.WaiveWitness} }), w.estate.Cora, w.estate.Ada))
	if got := w.code(); got != "" {
		t.Errorf("with both waived: %q", got)
	}
	open := w.chat()
	open.Credential, open.Path, open.Body = "research-anthropic", "/v1/messages", []byte(`{"model":"claude","max_tokens":1}`)
	if a := w.do(open); a.refusal == nil || a.refusal.Code != "stale" {
		t.Errorf("another credential: %+v", a.refusal)
	}
}

// TestRecovery: a secret leaves only encrypted to a person who neither decides about it nor signed, with its entry before; the
// credential is closed when it is not rotated within a day.
func TestRecovery(t *testing.T) {
	for _, rotate := range []bool{true, false} {
		dora, err := age.GenerateX25519Identity()
		must(t, err)
		w := newWorld(t, estatetest.Edit(func(p *estate.Plan) {
			for i := range p.Charter.People {
				if p.Charter.People[i].ID != "cora" {
					p.Charter.People[i].Recipient = dora.Recipient().String()
				}
			}
		}))
		recover := func(to string) statement.BreakGlass {
			return w.breakGlass(func(b *statement.BreakGlass) { b.Recipient = to })
		}
		for name, err := range map[string]error{
			"to a policy owner":            w.record("break-glass", recover("ada"), w.estate.Cora, w.estate.Bea),
			"to a signer":                  w.record("break-glass", recover("bea"), w.estate.Cora, w.estate.Bea),
			"to nobody of the charter":     w.record("break-glass", recover("eve"), w.estate.Cora, w.estate.Ada),
			"without a lifecycle owner":    w.record("break-glass", recover("bea"), w.estate.Ada, w.estate.Bea),
			"by a lifecycle owner alone":   w.record("break-glass", recover("bea"), w.estate.Cora),
			"with something waived beside": w.record("break-glass", w.breakGlass(func(b *statement.BreakGlass) { b.Recipient, b.Waive = "bea", []string{"feed"} }), w.estate.Cora, w.estate.Ada),
		} {
			if err == nil {
				t.Errorf("recovered %s", name)
			}
		}
		if len(w.Glass.List()) != 0 {
			t.Fatal("something was recovered")
		}
		must(t, w.record("break-glass", recover("bea"), w.estate.Cora, w.estate.Ada))
		k := w.Glass.List()[0]
		r, err := age.Decrypt(bytes.NewReader(k.Recovered.Ciphertext), dora)
		must(t, err)
		if plain, err := io.ReadAll(r); err != nil || string(plain) != demoKey {
			t.Errorf("recovered %q, %v", plain, err)
		}
		if e := w.ledger.of(entry.BreakGlass); len(e) != 1 || e[0].Reason != "recover: outage" {
			t.Errorf("%+v", e)
		}
		if got := w.code(); got != "" {
			t.Errorf("within the day: %q", got)
		}
		if rotate {
			w.handover("research-openai", 2, "demo-upstream-key-of-research-0004")
		}
		w.now.Add(int64(glass.Rotation + time.Minute))
		w.Expire()
		if closed := w.Gate.State().At(statement.Target{Kind: "credential", ID: "research-openai"}); (closed == nil) != rotate {
			t.Errorf("rotated %v: closed %v", rotate, closed)
		}
		if r := w.Glass.List()[0].Recovered; r == nil || !r.Rotated || len(r.Ciphertext) != 0 {
			t.Errorf("rotated %v: what was recovered is still kept", rotate)
		}
	}
}
