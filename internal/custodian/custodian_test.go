package custodian

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/closing"
	"github.com/reevehq/reeve/internal/custodian/egress"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/hop"
	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/internal/policy"
	"github.com/reevehq/reeve/internal/statement"
)

func TestUse(t *testing.T) {
	w := newWorld(t)
	a := w.do(w.chat())
	if a.refusal != nil || a.status != 200 || a.body.String() != `{"ok":true}` || !a.ended {
		t.Fatalf("status %d, body %q, ended %v, refusal %+v", a.status, a.body.String(), a.ended, a.refusal)
	}
	if diff := cmp.Diff("publish publish intent send outcome", w.events.String()); diff != "" {
		t.Errorf("order of events (-want +got):\n%s", diff)
	}
	r := w.wire.sent[0]
	if string(r.Target) != "/v1/chat/completions" || r.Method != "POST" || r.Secrets[0].Name != "Authorization" || string(r.Secrets[0].Value) != "Bearer "+demoKey {
		t.Errorf("sent %s %s with %s", r.Method, r.Target, r.Secrets[0].Name)
	}
	if got, want := string(r.Body), `{"model":"demo-small","max_tokens":10,"messages":[{"role":"user","content":"hello"}]}`; got != want {
		t.Errorf("body %s, want %s", got, want)
	}
	intents, outcomes := w.ledger.of(entry.Intent), w.ledger.of(entry.Outcome)
	if len(intents) != 1 || len(outcomes) != 1 {
		t.Fatalf("%d intents, %d outcomes", len(intents), len(outcomes))
	}
	in, out := intents[0], outcomes[0]
	if in.Workload != "research-agent" || in.Credential != "research-openai" || in.Unit != "research" || in.Tenant != "acme" || in.Gateway != "g1" ||
		in.Dest != "https://127.0.0.1:7809" || in.Method != "POST" || in.Lease != "v1" || in.CredFP == "" || in.ReqDigest == "" || in.Commit == "" ||
		in.Decision != "allow" || in.Level != "W0" || in.Proof != "bearer" || len(in.Policies) != 1 || in.Estate == "" {
		t.Errorf("intent: %+v", in)
	}
	if !out.HasIntent || out.IntentSeq != in.Seq || out.Status != 200 || out.Bytes != int64(len(`{"ok":true}`)) || out.Reason != "complete" {
		t.Errorf("outcome: %+v", out)
	}
}

// edit changes the plan of the estate.
func edit(f func(*estate.Plan)) []estatetest.Option { return []estatetest.Option{estatetest.Edit(f)} }

// TestEveryRefusal: each has its code, its entry with the reason, and nothing was sent.
func TestEveryRefusal(t *testing.T) {
	body := func(s string) func(*world, *hop.Open) { return func(_ *world, o *hop.Open) { o.Body = []byte(s) } }
	for _, tt := range []struct {
		name   string
		estate []estatetest.Option
		do     func(*world, *hop.Open)
		peer   string
		code   string
		reason string // of the entry; empty when the refusal is only counted
	}{
		{name: "a gateway that operations do not name", peer: "g2", code: "peer_refused"},
		{name: "no proof", do: func(_ *world, o *hop.Open) { o.Proof.Value = nil }, code: "unauthenticated"},
		{name: "a proof of another kind", do: func(_ *world, o *hop.Open) { o.Proof.Kind = "gateway-says-so" }, code: "unauthenticated"},
		{name: "an unknown key", do: func(_ *world, o *hop.Open) { o.Proof.Value[10] ^= 1 }, code: "unauthenticated"},
		{name: "an expired key", do: func(w *world, _ *hop.Open) { w.now.Store(int64(26 * time.Hour)) }, code: "unauthenticated"},
		{name: "an unknown credential", do: func(_ *world, o *hop.Open) { o.Credential = "gold" }, code: "unknown_credential", reason: "unknown_credential"},
		{name: "another unit's credential", do: func(_ *world, o *hop.Open) { o.Credential = "support-openai" }, code: "policy_denied", reason: "cross_unit"},
		{name: "a credential that custody gives to another custodian", estate: edit(func(p *estate.Plan) {
			cu := p.Custody["research"]
			key, err := ledger.GenerateKey("reeve/" + p.Charter.Estate + "/c2")
			must(t, err)
			p.Charter.ServiceKeys = append(p.Charter.ServiceKeys, statement.ServiceKey{Use: "log", Process: "c2", Key: key.Verifier(),
				NotBefore: p.Charter.ServiceKeys[0].NotBefore, NotAfter: p.Charter.ServiceKeys[0].NotAfter})
			cu.Custodians = append(cu.Custodians, statement.Custodian{ID: "c2", Recipient: cu.Custodians[0].Recipient, Log: key.Verifier()})
			cu.Credentials[0].Custodians = []string{"c2"}
		}), code: "not_agreed", reason: "custodian_not_named"},
		{name: "a gateway without the unit", estate: edit(func(p *estate.Plan) { p.Operations.Gateways[0].Units = []string{"support"} }), code: "not_agreed", reason: "unit_not_served"},
		{name: "a method that the record does not have", do: func(_ *world, o *hop.Open) { o.Method = "PUT" }, code: "path_refused", reason: "path_refused"},
		{name: "a path that the record does not have", do: func(_ *world, o *hop.Open) { o.Path = "/v1/files" }, code: "path_refused", reason: "path_refused"},
		{name: "a path that climbs", do: func(_ *world, o *hop.Open) { o.Path = "/v1/models/../files" }, code: "path_refused", reason: "path_refused"},
		{name: "a path with another host", do: func(_ *world, o *hop.Open) { o.Path = "//evil.example/v1/chat/completions" }, code: "path_refused", reason: "path_refused"},
		{name: "an absolute path", do: func(_ *world, o *hop.Open) { o.Path = "https://evil.example/v1/chat/completions" }, code: "path_refused", reason: "path_refused"},
		{name: "a query that authenticates", do: func(_ *world, o *hop.Open) { o.Path += "?api_key=x" }, code: "path_refused", reason: "path_refused"},
		{name: "a header that ends the request", do: func(_ *world, o *hop.Open) {
			o.Header = append(o.Header, hop.Field{Name: "X", Value: "a\r\nHost: evil"})
		}, code: "header_refused", reason: "header_refused"},
		{name: "an encoded body", do: func(_ *world, o *hop.Open) {
			o.Header = append(o.Header, hop.Field{Name: "Content-Encoding", Value: "gzip"})
		}, code: "header_refused", reason: "header_refused"},
		{name: "a body that is no JSON", do: body("hello"), code: "body_refused", reason: "body_refused"},
		{name: "a body with two models", do: body(`{"model":"demo-small","model":"other"}`), code: "body_refused", reason: "body_refused"},
		{name: "a body with something after it", do: body(`{"model":"demo-small"}{}`), code: "body_refused", reason: "body_refused"},
		{name: "a body that is a list", do: body(`[{"model":"demo-small"}]`), code: "body_refused", reason: "body_refused"},
		{name: "a model of another provider", do: body(`{"model":"anthropic/demo-claude"}`), code: "model_refused", reason: "model_refused"},
		{name: "policy forbids", do: body(`{"model":"demo-small","max_tokens":100001}`), code: "policy_denied", reason: "forbidden"},
		{name: "policy does not permit", estate: edit(func(p *estate.Plan) {
			p.Cedar["research"]["use.cedar"] = `forbid (principal, action, resource) when { false };`
		}), code: "policy_denied", reason: "no_permit"},
		{name: "an assertion that cannot be read", estate: edit(func(p *estate.Plan) {
			p.Cedar["research"]["use.cedar"] += "forbid (principal, action, resource) when { context.asserted has spend && context.asserted.spend > 100 };"
		}), do: func(_ *world, o *hop.Open) { o.Asserted = []hop.Field{{Name: "spend", Value: "much"}} }, code: "policy_denied", reason: "asserted_malformed"},
		{name: "real credentials without isolation", estate: edit(func(p *estate.Plan) { p.Charter.RequireIsolation = "separate-uid" }), do: func(w *world, _ *hop.Open) { w.Isolation.Undumpable = false }, peer: "root", code: "isolation", reason: "isolation"},
		{name: "too many requests", estate: edit(func(p *estate.Plan) {
			p.Policies["research"].Ceilings = []statement.Ceiling{{Workload: "*", Credential: "*", RequestsPerMinute: 1}}
		}),
			do: func(w *world, _ *hop.Open) { w.do(w.chat()); w.wire.n.Store(0) }, code: "ceiling", reason: "requests_per_minute"},
		{name: "too many bytes", estate: edit(func(p *estate.Plan) {
			p.Policies["research"].Ceilings = []statement.Ceiling{{Workload: "research-agent", Credential: "research-openai", BytesPerMinute: 20}}
		}), code: "ceiling", reason: "bytes_per_minute"},
		{name: "too many credentials", estate: edit(func(p *estate.Plan) {
			p.Policies["research"].Limits = []statement.WorkloadLimit{{Workload: "*", CredentialsPerMinute: 1}}
		}),
			do: func(w *world, o *hop.Open) {
				w.do(w.chat())
				w.wire.n.Store(0)
				o.Credential, o.Path, o.Body = "research-anthropic", "/v1/messages", []byte(`{"model":"anthropic/demo-claude"}`)
			}, code: "ceiling", reason: "credentials_per_minute"},
		{name: "a frozen credential", do: func(w *world, _ *hop.Open) { w.freeze("credential", "research-openai") }, code: "frozen", reason: "closed_credential"},
		{name: "a frozen workload", do: func(w *world, _ *hop.Open) { w.freeze("workload", "research-agent") }, code: "frozen", reason: "closed_workload"},
		{name: "a frozen unit", do: func(w *world, _ *hop.Open) { w.freeze("unit", "research") }, code: "frozen", reason: "closed_unit"},
		{name: "a frozen gateway", do: func(w *world, _ *hop.Open) { w.freeze("gateway", "g1") }, code: "frozen", reason: "closed_gateway"},
		{name: "a frozen workload key", do: func(w *world, _ *hop.Open) { w.freeze("key", w.estate.KeyRecords[0].SHA256) }, code: "frozen", reason: "closed_key"},
		{name: "everything is frozen", do: func(w *world, _ *hop.Open) { w.freeze("everything", "") }, code: "frozen", reason: "closed_everything"},
		{name: "no news yet", do: func(w *world, _ *hop.Open) { w.age.Store(-1) }, code: "stale", reason: "stale"},
		{name: "old news", do: func(w *world, _ *hop.Open) { w.age.Store(int64(31 * time.Second)) }, code: "stale", reason: "stale"},
		{name: "old news of a high class", estate: edit(func(p *estate.Plan) { p.Custody["research"].Credentials[0].Class = "high" }), do: func(w *world, _ *hop.Open) { w.age.Store(int64(6 * time.Second)) }, code: "stale", reason: "stale"},
		{name: "no witness", do: func(w *world, _ *hop.Open) { w.lag.Store(int64(31 * time.Second)) }, code: "uncosigned", reason: "uncosigned"},
		{name: "no secret", estate: edit(func(p *estate.Plan) {
			c := p.Custody["research"].Credentials[0]
			c.ID = "research-third"
			p.Custody["research"].Credentials = append(p.Custody["research"].Credentials, c)
		}), do: func(_ *world, o *hop.Open) { o.Credential, o.Body = "research-third", nil }, code: "no_secret", reason: "no_secret"},
		{name: "a secret that is too old", estate: edit(func(p *estate.Plan) { p.Custody["research"].Credentials[0].MaxLifetime = statement.Duration(time.Hour) }),
			do: func(w *world, _ *hop.Open) { w.now.Store(int64(2 * time.Hour)) }, code: "secret_too_old", reason: "secret_too_old"},
		{name: "a ledger that fails", do: func(w *world, _ *hop.Open) { w.ledger.fail.Store(new(error)); *w.ledger.fail.Load() = ledger.ErrFull }, code: "ledger"},
		{name: "too many new actors", do: func(w *world, _ *hop.Open) {
			many := fmt.Errorf("a use: %w", ledger.ErrActors)
			w.ledger.fail.Store(&many)
		}, code: "many_actors"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, tt.estate...)
			open := w.chat()
			if tt.do != nil {
				tt.do(w, open)
			}
			peer := g1
			switch tt.peer {
			case "root":
				peer.UID = 0
			case "":
			default:
				peer.Name = tt.peer
			}
			before, failed := len(w.ledger.of(entry.Deny)), w.ledger.fail.Load() != nil
			a := &answer{}
			w.serve(context.Background(), peer, open, a)
			if a.refusal == nil || a.refusal.Code != tt.code || a.refusal.Sent {
				t.Fatalf("answered %d %+v, want the refusal %s", a.status, a.refusal, tt.code)
			}
			if n := w.wire.n.Load(); n != 0 {
				t.Errorf("%d requests were sent", n)
			}
			if len(strings.SplitN(a.refusal.Message, ". ", 3)) < 2 || !strings.Contains(a.refusal.Message, "Nothing was sent") {
				t.Errorf("the message does not say what it means: %s", a.refusal.Message)
			}
			denials := w.ledger.of(entry.Deny)[before:]
			if tt.reason == "" {
				if len(denials) != 0 || a.refusal.Receipt != "" {
					t.Errorf("written one by one: %+v", denials)
				}
				if w.Flush(); !failed && len(w.ledger.of(entry.Deny)) != before+1 {
					t.Error("not counted")
				}
				return
			}
			if len(denials) != 1 || denials[0].Reason != tt.reason || denials[0].Decision != "deny" || denials[0].Workload != "research-agent" || a.refusal.Receipt == "" {
				t.Errorf("receipt %q, entries %+v, want one with the reason %s", a.refusal.Receipt, denials, tt.reason)
			}
		})
	}
}

func (w *world) freeze(kind, id string) {
	w.t.Helper()
	if changed, err := w.Close(closing.Closed{Target: statement.Target{Kind: kind, ID: id}, Reason: "test", By: "admin", Time: w.Clock()}); err != nil || !changed {
		w.t.Fatalf("freezing: changed %v, error %v", changed, err)
	}
}

// TestUnauthenticatedFloodIsOneEntry: what nobody vouches for is counted.
func TestUnauthenticatedFloodIsOneEntry(t *testing.T) {
	w := newWorld(t)
	for range 500 {
		open := w.chat()
		open.Proof.Value = []byte("guess")
		w.do(open)
	}
	w.Flush()
	w.Flush()
	denials := w.ledger.of(entry.Deny)
	if len(denials) != 1 || denials[0].Count != 500 || denials[0].Reason != "proof_malformed" || denials[0].Workload != "" {
		t.Errorf("%+v", denials)
	}
}

// TestDenialsAreBounded: a workload that is denied too often is shut out, with one alarm, and frozen where policy asks for it.
func TestDenialsAreBounded(t *testing.T) {
	for _, onExcess := range []string{"deny", "freeze"} {
		w := newWorld(t, estatetest.Edit(func(p *estate.Plan) {
			p.Policies["research"].Limits = []statement.WorkloadLimit{{Workload: "*", DenialsPerMinute: 3, OnExcess: onExcess}}
		}))
		for range 50 {
			open := w.chat()
			open.Credential = "gold"
			w.do(open)
		}
		if n := len(w.ledger.of(entry.Deny)); n != 4 { // three denials and the excess
			t.Errorf("%s: %d denials were written", onExcess, n)
		}
		if n := len(w.ledger.of(entry.Alarm)); n != 1 {
			t.Errorf("%s: %d alarms", onExcess, n)
		}
		a := w.do(w.chat())
		if a.refusal == nil || a.refusal.Code != "ceiling" || w.wire.n.Load() != 0 {
			t.Errorf("%s: %+v", onExcess, a.refusal)
		}
		w.now.Store(int64(2 * time.Minute))
		a = w.do(w.chat())
		if got, want := a.refusal != nil, onExcess == "freeze"; got != want {
			t.Errorf("%s: after the minute: refused %v", onExcess, a.refusal)
		}
		if onExcess == "freeze" {
			eventually(t, "the freeze is written", func() bool { return len(w.ledger.of(entry.Freeze)) == 1 })
		} else if got := len(w.ledger.of(entry.Freeze)); got != 0 {
			t.Errorf("%s: %d freezes", onExcess, got)
		}
	}
}

// TestOrder: the intent is durable before the secret is fetched and anything is sent, and what closes between the two is seen.
func TestOrder(t *testing.T) {
	t.Run("nothing is sent while the intent waits", func(t *testing.T) {
		w := newWorld(t)
		held, release := make(chan struct{}), make(chan struct{})
		w.ledger.hook = func(e *entry.Entry) { close(held); <-release }
		done := make(chan *answer)
		go func() { done <- w.do(w.chat()) }()
		<-held
		if w.wire.n.Load() != 0 {
			t.Error("sent before the ledger had answered")
		}
		close(release)
		if a := <-done; a.status != 200 || w.wire.n.Load() != 1 {
			t.Errorf("%+v", a.refusal)
		}
	})
	for name, close := range map[string]func(*world){
		"a freeze": func(w *world) { w.freeze("credential", "research-openai") },
		"a narrower set": func(w *world) {
			w.estate.Republish(w.t, func(p *estate.Plan) { p.Cedar["research"]["use.cedar"] = "forbid (principal, action, resource);" }, "policy-research")
			must(w.t, w.Adopt(w.estate.Set))
		},
	} {
		t.Run(name+" between intent and send", func(t *testing.T) {
			w := newWorld(t)
			w.ledger.hook = func(e *entry.Entry) {
				if e.Type == entry.Intent {
					close(w)
				}
			}
			a := w.do(w.chat())
			if a.refusal == nil || a.refusal.Sent || w.wire.n.Load() != 0 || a.refusal.Receipt == "" {
				t.Errorf("%+v, %d sent", a.refusal, w.wire.n.Load())
			}
			out := w.ledger.of(entry.Outcome)
			if len(out) != 1 || !strings.HasPrefix(out[0].Reason, "not_sent_") {
				t.Errorf("outcome %+v", out)
			}
		})
		// The news is asked for after the check of what is closed and before the use is registered: nobody cuts it then.
		t.Run(name+" between check and registration", func(t *testing.T) {
			w := newWorld(t)
			closed := false
			w.News = func() time.Duration {
				if !closed {
					closed = true
					close(w)
				}
				return 0
			}
			if a := w.do(w.chat()); a.refusal == nil || a.refusal.Sent || w.wire.n.Load() != 0 {
				t.Errorf("%+v, %d sent", a.refusal, w.wire.n.Load())
			}
		})
	}
}

// TestFetchNeedsAnIntent: there is no way to the secret but a Durable that an append made.
func TestFetchNeedsAnIntent(t *testing.T) {
	w := newWorld(t)
	if s, err := w.Secrets.Get("research-openai").Fetch(ledger.Durable{}); err == nil || !s.Empty() {
		t.Error("the secret was given against nothing")
	}
}

// stream is an upstream answer that goes on until its context ends, and then breaks off as a cut connection does.
func stream(ctx context.Context, first string) *egress.Response {
	r, w := io.Pipe()
	go func() {
		io.WriteString(w, first)
		<-ctx.Done()
		w.CloseWithError(errors.New("connection closed"))
	}()
	return &egress.Response{Status: 200, Header: []hop.Field{{Name: "Content-Type", Value: "text/plain"}}, Length: -1, Body: r, Trailer: func() []hop.Field { return nil }}
}

// TestStreamsAreCut: whatever closes ends the open streams at once, with an outcome.
func TestStreamsAreCut(t *testing.T) {
	for name, tt := range map[string]struct {
		close  func(*world, context.CancelFunc)
		reason string
		broken bool
	}{
		"freeze": {func(w *world, _ context.CancelFunc) { w.freeze("credential", "research-openai") }, "closed_credential", true},
		"revocation": {func(w *world, _ context.CancelFunc) {
			must(w.t, w.record("revocation", w.revocation("ada", 1, "workload", "research-agent", false), w.estate.Ada))
		}, "closed_workload", true},
		"person": {func(w *world, _ context.CancelFunc) { // ada registered the key
			must(w.t, w.record("revocation", w.revocation("bea", 1, "person", "ada", false), w.estate.Bea))
		}, "narrowed", true},
		"tenant": {func(w *world, _ context.CancelFunc) {
			must(w.t, w.record("revocation", w.revocation("bea", 1, "tenant", "acme", false), w.estate.Bea))
		}, "closed_tenant", true},
		"narrower set": {func(w *world, _ context.CancelFunc) {
			w.estate.Republish(w.t, func(p *estate.Plan) { p.Cedar["research"]["use.cedar"] = "forbid (principal, action, resource);" }, "policy-research")
			must(w.t, w.Adopt(w.estate.Set))
		}, "narrowed", true},
		"the client": {func(_ *world, cancel context.CancelFunc) { cancel() }, "client_gone", true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.wire.answer = func(ctx context.Context, _ *egress.Request) (*egress.Response, error) {
				return stream(ctx, "begin"), nil
			}
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			a, done := &answer{}, make(chan struct{})
			go func() { defer close(done); w.serve(ctx, g1, w.chat(), a) }()
			eventually(t, "the stream begins", func() bool { _, body, _, _ := a.snapshot(); return body == "begin" })
			begun := time.Now()
			tt.close(w, cancel)
			select {
			case <-done:
			case <-time.After(time.Second):
				t.Fatal("not cut within a second")
			}
			t.Logf("cut after %s", time.Since(begun))
			if _, _, broken, ended := a.snapshot(); ended || (broken != "") != tt.broken {
				t.Errorf("ended cleanly %v, broken %q", ended, broken)
			}
			out := w.ledger.of(entry.Outcome)
			if len(out) != 1 || out[0].Reason != tt.reason || out[0].Bytes != 5 || out[0].Status != 200 {
				t.Errorf("outcome %+v", out)
			}
			if w.Gate.Live() != 0 {
				t.Error("still registered")
			}
		})
	}
}

// TestClosedPerson: what he signed alone opens nothing, a key of his that comes later too; what he closes stays closed; others
// open him again.
func TestClosedPerson(t *testing.T) {
	w := newWorld(t)
	code := func() string {
		if a := w.do(w.chat()); a.refusal != nil {
			return a.refusal.Code
		}
		return ""
	}
	must(t, w.record("revocation", w.revocation("bea", 1, "person", "ada", false), w.estate.Bea))
	if got := code(); got != "unauthenticated" {
		t.Errorf("a key that a closed person registered: %q", got)
	}
	key, env, err := estate.NewKey(w.estate.Set.Charter.Estate, "research-agent", w.Clock().Add(-time.Hour), 24*time.Hour, w.estate.Ada)
	must(t, err)
	must(t, w.Take(&statement.Record{Kind: "workload-key", Envelope: env}))
	w.Rekey()
	open := w.chat()
	open.Proof.Value = bytes.Clone(key.Reveal())
	if a := w.do(open); a.refusal == nil || a.refusal.Code != "unauthenticated" {
		t.Errorf("a key that he registers and dates back: %+v", a.refusal)
	}
	must(t, w.record("revocation", w.revocation("ada", 1, "unit", "research", false), w.estate.Ada))
	if w.Gate.State().At(statement.Target{Kind: closing.Unit, ID: "research"}) == nil {
		t.Error("a closing that he signed is not in force")
	}
	if err := w.record("revocation", w.revocation("ada", 2, "unit", "research", true), w.estate.Ada, w.estate.Cora); err == nil {
		t.Error("a closed person opens")
	}
	// The set is read as if he had left; a new one too.
	w.estate.Republish(t, nil)
	must(t, w.Adopt(w.estate.Set))
	if got := code(); got != "unauthenticated" {
		t.Errorf("after a new set: %q", got)
	}
	w.now.Add(int64(time.Second))
	must(t, w.record("revocation", w.revocation("bea", 2, "person", "ada", true), w.estate.Bea, w.estate.Cora))
	must(t, w.record("revocation", w.revocation("ada", 3, "unit", "research", true), w.estate.Ada, w.estate.Cora))
	if got := code(); got != "" {
		t.Errorf("opened again: %q", got)
	}
	eventually(t, "the entries", func() bool { return len(w.ledger.of(entry.Revoke)) == 2 && len(w.ledger.of(entry.Unfreeze)) == 2 })
	if e := w.ledger.of(entry.Revoke)[0]; e.Proof != "test" || len(e.Record) != 64 || !slices.Contains(e.Actor, "person:ada") {
		t.Errorf("%+v", e)
	}
}

// TestClosedPersonOrphans: a credential whose owner is closed has no live owner, unless there is a deputy.
func TestClosedPersonOrphans(t *testing.T) {
	w := newWorld(t)
	must(t, w.record("revocation", w.revocation("bea", 1, "person", "cora", false), w.estate.Bea))
	if a := w.do(w.chat()); a.refusal == nil || a.refusal.Code != "not_agreed" || !strings.Contains(a.refusal.Message, "orphaned") {
		t.Errorf("%+v", a.refusal)
	}
	env, ciphertext := w.sealedTo(w.estate.Identity.Recipient(), "research-openai", 2, "demo-upstream-key-of-research-0003", w.estate.Cora)
	if err := w.Receive(env, ciphertext); err == nil {
		t.Error("a closed person hands a secret over")
	}
}

// TestBodyIsLentOn: the request's memory is another's as soon as all of it was sent, before the answer, and never while the
// upstream's connection may still read it.
func TestBodyIsLentOn(t *testing.T) {
	for name, tt := range map[string]struct {
		sent  bool
		fails error
		want  int
	}{
		"sent":                {true, nil, 1},
		"still being written": {false, nil, 0},
		"failed":              {false, egress.ErrSent, 0},
	} {
		w := newWorld(t)
		open, freed := w.chat(), 0
		open.Free = func() { freed++ }
		w.wire.answer = func(context.Context, *egress.Request) (*egress.Response, error) {
			if freed != 0 {
				t.Errorf("%s: given back before it was sent", name)
			}
			if tt.fails != nil {
				return nil, tt.fails
			}
			r := reply(200, "done")
			r.Sent = tt.sent
			return r, nil
		}
		if w.do(open); freed != tt.want || open.Body != nil {
			t.Errorf("%s: given back %d times, want %d; %d bytes left", name, freed, tt.want, len(open.Body))
		}
	}
}

// TestWiderSetCutsNothing: a renewed set leaves the streams that it still allows.
func TestWiderSetCutsNothing(t *testing.T) {
	w := newWorld(t)
	release := make(chan struct{})
	w.wire.answer = func(context.Context, *egress.Request) (*egress.Response, error) {
		<-release
		return reply(200, "done"), nil
	}
	done := make(chan *answer)
	go func() { done <- w.do(w.chat()) }()
	eventually(t, "the request is sent", func() bool { return w.wire.n.Load() == 1 })
	w.estate.Republish(t, nil, "operations")
	must(t, w.Adopt(w.estate.Set))
	close(release)
	if a := <-done; a.refusal != nil || a.body.String() != "done" {
		t.Errorf("%+v %q", a.refusal, a.body.String())
	}
}

// TestGatewayThatDoesNotRead: a frozen stream ends although nobody takes its bytes.
func TestGatewayThatDoesNotRead(t *testing.T) {
	w := newWorld(t)
	w.wire.answer = func(ctx context.Context, _ *egress.Request) (*egress.Response, error) {
		return stream(ctx, "begin"), nil
	}
	a, stuck, done := &answer{}, make(chan struct{}), make(chan struct{})
	a.wrote = func(p []byte) (int, error) {
		close(stuck)
		for {
			if _, _, broken, _ := a.snapshot(); broken != "" {
				return 0, hop.ErrBroken
			}
			time.Sleep(time.Millisecond)
		}
	}
	go func() { defer close(done); w.serve(context.Background(), g1, w.chat(), a) }()
	<-stuck
	w.freeze("everything", "")
	select {
	case <-done:
	case <-time.After(time.Second):
		t.Fatal("a gateway that does not read keeps a frozen stream open")
	}
	if out := w.ledger.of(entry.Outcome); len(out) != 1 || out[0].Reason != "closed_everything" {
		t.Errorf("%+v", out)
	}
}

// TestReflection: a secret in an answer's body, header or trailer is cut before it, raises an alarm, and freezes where the
// record says so.
func TestReflection(t *testing.T) {
	for name, answered := range map[string]*egress.Response{
		"body":   reply(200, `{"you sent":"Bearer `+demoKey+`"}`),
		"header": reply(200, `{}`, hop.Field{Name: "X-Echo", Value: demoKey}),
		"trailer": {Status: 200, Body: io.NopCloser(strings.NewReader("{}")), Length: -1,
			Trailer: func() []hop.Field { return []hop.Field{{Name: "X-Echo", Value: demoKey}} }},
		"events under another name": reply(200, `data: {"choices":[{"index":0,"delta":{"content":"`+demoKey[:9]+`"}}]}`+"\n\n"+
			`data: {"choices":[{"index":0,"delta":{"content":"`+demoKey[9:]+`"}}]}`+"\n\n", hop.Field{Name: "Content-Type", Value: "application/json"}),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, estatetest.Edit(func(p *estate.Plan) { p.Custody["research"].Credentials[0].OnReflection = "freeze" }))
			w.wire.answer = func(context.Context, *egress.Request) (*egress.Response, error) { return answered, nil }
			o := w.chat()
			o.Body = bytes.Replace(o.Body, []byte("{"), []byte(`{"stream":true,`), 1)
			a := w.do(o)
			shown := fmt.Sprint(a.header, a.body.String(), a.trailer, a.refusal, a.broken)
			if strings.Contains(shown, demoKey) || a.ended {
				t.Errorf("ended %v with %s", a.ended, shown)
			}
			out, alarms := w.ledger.of(entry.Outcome), w.ledger.of(entry.Alarm)
			if len(out) != 1 || out[0].Reason != "reflected" || len(alarms) != 1 || alarms[0].Reason != "reflected" || alarms[0].Credential != "research-openai" {
				t.Errorf("outcome %+v, alarms %+v", out, alarms)
			}
			if a := w.do(w.chat()); a.refusal == nil || a.refusal.Code != "frozen" || w.wire.closed.Load() == 0 {
				t.Errorf("not frozen: %+v", a.refusal)
			}
		})
	}
}

// TestUpstreamFails: what is known of the sending stands in the outcome.
func TestUpstreamFails(t *testing.T) {
	for name, tt := range map[string]struct {
		answer func(ctx context.Context, _ *egress.Request) (*egress.Response, error)
		code   string
		sent   bool
		reason string
	}{
		"unreachable": {func(context.Context, *egress.Request) (*egress.Response, error) {
			return nil, fmt.Errorf("%w: connection refused", egress.ErrNotSent)
		}, "upstream_unreachable", false, "not_sent_upstream_unreachable"},
		"no answer": {func(context.Context, *egress.Request) (*egress.Response, error) {
			return nil, fmt.Errorf("%w: reset", egress.ErrSent)
		}, "upstream_no_answer", true, "sent_upstream_no_answer"},
		"broken": {func(context.Context, *egress.Request) (*egress.Response, error) {
			r := reply(200, "")
			r.Body = io.NopCloser(io.MultiReader(strings.NewReader("half"), failing{}))
			return r, nil
		}, "", true, "broken"},
		"a fault of ours": {func(context.Context, *egress.Request) (*egress.Response, error) { panic("demo-upstream-key") }, "", false, "panic"},
		"an encoding that cannot be searched": {func(context.Context, *egress.Request) (*egress.Response, error) {
			return reply(200, "x", hop.Field{Name: "Content-Encoding", Value: "zstd"}), nil
		}, "unscannable", true, "unscannable"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.wire.answer = tt.answer
			a := w.do(w.chat())
			switch {
			case tt.code == "" && (a.broken == "" || a.ended):
				t.Errorf("broken %q, ended %v", a.broken, a.ended)
			case tt.code != "" && (a.refusal == nil || a.refusal.Code != tt.code || a.refusal.Sent != tt.sent || a.refusal.Receipt == ""):
				t.Errorf("refusal %+v", a.refusal)
			}
			if out := w.ledger.of(entry.Outcome); len(out) != 1 || out[0].Reason != tt.reason {
				t.Errorf("outcome %+v", out)
			}
			if next := w.do(w.chat()); next == nil || len(w.ledger.of(entry.Intent)) != 2 {
				t.Error("the custodian does not go on")
			}
		})
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("connection reset") }

// TestNoSendWithoutIntent runs calls against freezes, openings, rotations and a failing ledger: there are never more sends
// than durable intents, and every intent gets its outcome.
func TestNoSendWithoutIntent(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	w := newWorld(t)
	w.wire.before = func() {
		if sent, intents := w.wire.n.Load()+1, int64(len(w.ledger.of(entry.Intent))); sent > intents {
			t.Errorf("send %d with %d durable intents", sent, intents)
		}
	}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			rnd := rand.New(rand.NewPCG(seed, uint64(g)))
			for range 60 {
				ctx, cancel := context.WithCancel(context.Background())
				if rnd.IntN(4) == 0 {
					time.AfterFunc(time.Duration(rnd.IntN(1000))*time.Microsecond, cancel)
				}
				w.serve(ctx, g1, w.chat(), &answer{})
				cancel()
			}
		}()
	}
	wg.Add(1)
	go func() {
		defer wg.Done()
		rnd := rand.New(rand.NewPCG(seed, 100))
		broken := errors.New("no space left")
		for i := range 30 {
			switch rnd.IntN(4) {
			case 0:
				w.freeze("credential", "research-openai")
				r := w.revocation("cora", int64(i+1), "credential", "research-openai", true)
				if err := w.record("revocation", r, w.estate.Cora, w.estate.Ada); err != nil {
					t.Error(err)
				}
			case 1:
				w.handover("research-openai", int64(i+2), demoKey+fmt.Sprint(i))
			case 2:
				w.ledger.fail.Store(&broken)
				time.Sleep(time.Millisecond)
				w.ledger.fail.Store(nil)
			case 3:
				must(t, w.Adopt(w.estate.Set))
			}
			time.Sleep(time.Duration(rnd.IntN(2000)) * time.Microsecond)
		}
	}()
	wg.Wait()
	intents, outcomes := len(w.ledger.of(entry.Intent)), len(w.ledger.of(entry.Outcome))
	t.Logf("%d sends, %d intents, %d outcomes", w.wire.n.Load(), intents, outcomes)
	if w.wire.n.Load() > int64(intents) {
		t.Errorf("%d sends with %d intents", w.wire.n.Load(), intents)
	}
	if w.Gate.Live() != 0 {
		t.Errorf("%d uses are still registered", w.Gate.Live())
	}
}

// TestAliasAndPrefix: the signed tables decide which model is asked for and which path.
func TestAliasAndPrefix(t *testing.T) {
	for _, tt := range []struct{ body, path, sent, target string }{
		{`{"model":"fast"}`, "/v1/chat/completions", `{"model":"demo-small"}`, "/v1/chat/completions"},
		{`{"model":"openai/demo-small"}`, "/openai/v1/chat/completions", `{"model":"demo-small"}`, "/v1/chat/completions"},
		{`{ "model" : "demo-large" , "x":1}`, "/v1/chat/completions?beta=true", `{ "model" : "demo-large" , "x":1}`, "/v1/chat/completions?beta=true"},
		{`{"model":"vendor/odd"}`, "/v1/chat/completions", `{"model":"vendor/odd"}`, "/v1/chat/completions"},
	} {
		w := newWorld(t)
		open := w.chat()
		open.Body, open.Path = []byte(tt.body), tt.path
		if a := w.do(open); a.refusal != nil {
			t.Errorf("%s: %v", tt.body, a.refusal)
			continue
		}
		if r := w.wire.sent[0]; string(r.Body) != tt.sent || string(r.Target) != tt.target {
			t.Errorf("%s %s was sent as %s %s", tt.path, tt.body, r.Target, r.Body)
		}
	}
}

// TestBytesCutAnAnswer: an answer that goes past the bytes of a minute is cut where it does, and what is left of it is not sent.
func TestBytesCutAnAnswer(t *testing.T) {
	w := newWorld(t, edit(func(p *estate.Plan) {
		p.Policies["research"].Ceilings = []statement.Ceiling{{Workload: "*", Credential: "*", BytesPerMinute: 10_000, OnExcess: "freeze"}}
	})...)
	begun, more := make(chan struct{}), strings.Repeat("x", 1000)
	w.wire.answer = func(ctx context.Context, _ *egress.Request) (*egress.Response, error) {
		r := stream(ctx, more)
		r.Body = io.NopCloser(io.MultiReader(strings.NewReader(strings.Repeat(more, 50))))
		close(begun)
		return r, nil
	}
	a := w.do(w.chat())
	<-begun
	if a.ended || !strings.Contains(a.broken, "bytes_per_minute") || a.body.Len() > 10_000 {
		t.Errorf("ended %v, broken off by %q after %d bytes", a.ended, a.broken, a.body.Len())
	}
	out := w.ledger.of(entry.Outcome)
	if len(out) != 1 || out[0].Reason != "ceiling_bytes_per_minute" || out[0].Bytes != int64(a.body.Len()) {
		t.Errorf("outcome %+v", out)
	}
	if alarms := w.ledger.of(entry.Alarm); len(alarms) != 1 || alarms[0].Reason != "ceiling_bytes_per_minute" {
		t.Errorf("alarms %+v", alarms)
	}
	eventually(t, "the freeze is written", func() bool { return len(w.ledger.of(entry.Freeze)) == 1 })
	if a := w.do(w.chat()); a.refusal == nil || a.refusal.Code != "ceiling" {
		t.Errorf("afterwards: %+v", a.refusal)
	}
}

// TestConnectionsOutliveASet: a new set ends connections only where the destination is another.
func TestConnectionsOutliveASet(t *testing.T) {
	w := newWorld(t)
	w.wire.retired.Store(0)
	w.estate.Republish(t, nil, "operations")
	must(t, w.Adopt(w.estate.Set))
	if n := w.wire.retired.Load(); n != 0 {
		t.Errorf("%d connections were retired by a set that changes no destination", n)
	}
	w.estate.Republish(t, func(p *estate.Plan) { p.Custody["research"].Credentials[0].Destination.Prefix = "/v2" }, "custody-research")
	must(t, w.Adopt(w.estate.Set))
	if n := w.wire.retired.Load(); n != 1 {
		t.Errorf("%d connections were retired for one destination that changed", n)
	}
	// What two sets share is closed for both, and opens again for both.
	w.hangUp(statement.Target{Kind: closing.Everything})
	if a := w.do(w.chat()); a.refusal != nil && a.refusal.Code != "path_refused" {
		t.Errorf("after hanging up: %+v", a.refusal)
	}
}

// TestRotation: a new version is used from the next request on; the one before ends with its requests.
func TestRotation(t *testing.T) {
	const second = "demo-upstream-key-of-research-9999"
	w := newWorld(t)
	release := make(chan struct{})
	w.wire.answer = func(context.Context, *egress.Request) (*egress.Response, error) {
		<-release
		return reply(200, "done"), nil
	}
	done := make(chan *answer)
	go func() { done <- w.do(w.chat()) }()
	eventually(t, "the request is sent", func() bool { return w.wire.n.Load() == 1 })
	before := w.wire.retired.Load()
	w.handover("research-openai", 2, second)
	if w.wire.retired.Load() != before+1 || w.wire.closed.Load() != 0 {
		t.Errorf("retired %d, closed %d", w.wire.retired.Load(), w.wire.closed.Load())
	}
	close(release)
	if a := <-done; a.body.String() != "done" || !a.ended {
		t.Errorf("the request in flight: %+v", a.refusal)
	}
	w.do(w.chat())
	if got := string(w.wire.sent[1].Secrets[0].Value); got != "Bearer "+second {
		t.Error("the next request has the old secret")
	}
	intents := w.ledger.of(entry.Intent)
	if intents[0].Lease != "v1" || intents[1].Lease != "v2" || intents[0].CredFP == intents[1].CredFP {
		t.Errorf("leases %s, %s", intents[0].Lease, intents[1].Lease)
	}
}

// TestExtension: two owners of different roles lengthen a bound, and that is written before anything is used under it.
func TestExtension(t *testing.T) {
	for what, stale := range map[string]func(*world){
		witnessFuse: func(w *world) { w.lag.Store(int64(time.Hour)) },
		feedBound:   func(w *world) { w.age.Store(int64(time.Hour)) },
	} {
		w := newWorld(t)
		stale(w)
		x := statement.Extension{Estate: w.estate.Pin.Estate, Custodian: "c1", What: what, Until: w.estate.Now.Add(30 * time.Minute), Created: w.estate.Now, Reason: "the auditor moves"}
		if err := w.record("extension", x, w.estate.Bea); err == nil {
			t.Error("one person alone extended it")
		}
		other := x
		other.Custodian = "c2"
		if err := w.record("extension", other, w.estate.Bea, w.estate.Cora); err == nil {
			t.Error("another custodian's extension was taken")
		}
		if a := w.do(w.chat()); a.refusal == nil {
			t.Fatal("used without an extension")
		}
		env, err := estate.Seal("extension", x, w.estate.Bea, w.estate.Cora)
		must(t, err)
		env.Signatures = slices.Insert(env.Signatures, 0, statement.Signature{KeyID: "ada-1", Sig: env.Signatures[0].Sig}) // which ada did not make
		must(t, w.Take(&statement.Record{Kind: "extension", Envelope: env, Channel: "test"}))
		if got := w.ledger.of(entry.BreakGlass)[0].Actor; !slices.Equal(got, []string{"bea-1", "cora-1"}) {
			t.Errorf("the entry names %v", got)
		}
		if a := w.do(w.chat()); a.refusal != nil {
			t.Errorf("%s: %v", what, a.refusal)
		}
		if got, want := w.events.String(), "publish publish deny break_glass intent send outcome"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
		w.now.Store(int64(31 * time.Minute))
		if a := w.do(w.chat()); a.refusal == nil {
			t.Error("used after the extension ended")
		}
	}
}

// TestLedgerFailsMidway: what was begun goes on, its outcome is reported lost, and nothing more is used.
func TestLedgerFailsMidway(t *testing.T) {
	w := newWorld(t)
	broken := ledger.ErrClosed
	w.wire.before = func() { w.ledger.fail.Store(&broken) }
	if a := w.do(w.chat()); a.refusal != nil || a.body.String() != `{"ok":true}` {
		t.Errorf("%+v", a.refusal)
	}
	if w.meters.lost.Value() != 1 || len(w.ledger.of(entry.Outcome)) != 0 {
		t.Errorf("%d lost", w.meters.lost.Value())
	}
	w.wire.n.Store(0)
	if a := w.do(w.chat()); a.refusal == nil || a.refusal.Code != "ledger" || w.wire.n.Load() != 0 {
		t.Errorf("%+v, %d sent", a.refusal, w.wire.n.Load())
	}
	w.freeze("everything", "")
	if a := w.do(w.chat()); a.refusal == nil || a.refusal.Code == "ledger" && w.Gate.State().Of(&closing.Use{}) == nil {
		t.Error("closing waits for the ledger")
	}
}

// TestDecisionReplays: the erasable payload is enough to decide again.
func TestDecisionReplays(t *testing.T) {
	w := newWorld(t)
	open := w.chat()
	open.Asserted = []hop.Field{{Name: "client_ip", Value: "192.0.2.1"}, {Name: "noise", Value: "x"}}
	w.do(open)
	var in input
	must(t, json.Unmarshal(w.ledger.payloads[0], &in))
	path, _, _ := strings.Cut(in.Target, "?")
	again := w.view.Load().policies.Decide(&policy.Request{Workload: in.Workload, Level: in.Level, Proof: in.Proof, Credential: in.Credential, Gateway: in.Gateway,
		Method: in.Method, Path: path, Model: in.Model, MaxTokens: in.MaxTokens, Stream: in.Stream, Isolation: in.Isolation, Time: in.Time, Asserted: in.Asserted})
	intent := w.ledger.of(entry.Intent)[0]
	if !again.Allow || again.Reason != intent.Reason || !slices.Equal(again.Policies, intent.Policies) {
		t.Errorf("again %+v, then %+v", again, intent)
	}
	salt, err := hex.DecodeString(in.Salt)
	must(t, err)
	if digest(salt, w.wire.sent[0].Body) != intent.ReqDigest || digest(nil, path) != intent.PathHash || len(in.Asserted) != 1 {
		t.Error("the digests are not of what was sent")
	}
	if strings.Contains(string(w.ledger.payloads[0]), "hello") {
		t.Error("the payload holds the prompt")
	}
}

// TestQueryInjection: a secret that goes into the query stands there and nowhere else.
func TestQueryInjection(t *testing.T) {
	w := newWorld(t, estatetest.Edit(func(p *estate.Plan) {
		p.Custody["research"].Credentials[0].Inject = statement.Inject{As: "query", Name: "key"}
	}))
	open := w.chat()
	open.Path += "?beta=true"
	if a := w.do(open); a.refusal != nil {
		t.Fatal(a.refusal)
	}
	r := w.wire.sent[0]
	if string(r.Target) != "/v1/chat/completions?beta=true&key="+demoKey || r.Secrets[0].Name != "" {
		t.Errorf("sent to %s with %q", r.Target, r.Secrets[0].Name)
	}
	if all := fmt.Sprint(w.ledger.all, string(w.ledger.payloads[0])); strings.Contains(all, demoKey) {
		t.Error("the ledger holds the secret")
	}
}

// TestHostileNames: what a gateway calls things reaches no entry, and is bounded wherever it is kept.
func TestHostileNames(t *testing.T) {
	w := newWorld(t)
	long := strings.Repeat("A", 100<<10)
	open := w.chat()
	open.RequestID, open.Credential, open.Method, open.Path, open.URL = long, long, long, "/"+long, long
	open.Asserted = []hop.Field{{Name: "spend", Value: long}, {Name: long, Value: long}}
	a := w.do(open)
	if a.refusal == nil || a.refusal.Code != "unknown_credential" || len(a.refusal.Message) > 1000 {
		t.Fatalf("%+v", a.refusal)
	}
	if text := fmt.Sprint(w.ledger.of(entry.Deny)); strings.Contains(text, "AAAA") {
		t.Error("an entry holds the gateway's words")
	}
	if n := len(w.ledger.payloads[0]); n > 10<<10 {
		t.Errorf("the payload has %d bytes", n)
	}
	if strings.Contains(w.logs.String(), strings.Repeat("A", maxName+1)) {
		t.Error("the log holds more than it should")
	}
}

// TestClosingIsTold: a closing is in force at once; its entry follows when the ledger takes it, once and in order.
func TestClosingIsTold(t *testing.T) {
	w := newWorld(t)
	broken := ledger.ErrFull
	w.ledger.fail.Store(&broken)
	for _, id := range []string{"research-openai", "support-openai"} {
		target := statement.Target{Kind: closing.Credential, ID: id}
		if changed, err := w.Custodian.Close(closing.Closed{Target: target, Reason: "test", By: "admin", Time: w.Clock()}); !changed || err != nil {
			t.Fatal(changed, err)
		}
	}
	w.Tell()
	if n := len(w.ledger.of(entry.Freeze)); n != 0 {
		t.Fatalf("%d entries in a ledger that takes none", n)
	}
	w.ledger.fail.Store(nil)
	eventually(t, "both are told", func() bool { w.Tell(); return len(w.ledger.of(entry.Freeze)) >= 2 })
	w.Tell()
	if got := w.ledger.of(entry.Freeze); len(got) != 2 || got[0].Credential != "research-openai" || got[1].Credential != "support-openai" {
		t.Errorf("told: %+v", got)
	}
}
