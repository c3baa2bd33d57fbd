package custodian

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/admin"
	"github.com/reevehq/reeve/internal/custodian/egress"
	"github.com/reevehq/reeve/internal/custodian/source"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/hop"
	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/internal/secret"
	"github.com/reevehq/reeve/internal/statement"
)

// mint is a source whose provider knows which of its secrets are alive, and for how long.
type mint struct {
	w       *world
	mu      sync.Mutex
	n       int
	alive   map[string]bool // by secret
	life    time.Duration   // 0 for no end
	revoked atomic.Int64
	fail    error
}

func (m *mint) Fetch(_ context.Context, d ledger.Durable, _ source.Ask) (*source.Secret, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !d.Valid() {
		return nil, source.ErrNotDurable
	}
	if m.fail != nil {
		return nil, m.fail
	}
	m.n++
	m.w.events.add("fetch")
	value := fmt.Sprintf("demo-upstream-key-minted-%04d", m.n)
	m.alive[value] = true
	s := &source.Secret{Value: secret.New([]byte(value)), Lease: fmt.Sprintf("lease-%d", m.n), Issued: m.w.Clock()}
	if m.life > 0 {
		s.Expires = s.Issued.Add(m.life)
	}
	return s, nil
}

func (m *mint) Revoke(_ context.Context, d ledger.Durable, old *source.Secret) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.alive, string(old.Value.Reveal()))
	m.revoked.Add(1)
	return nil
}

func (m *mint) Close() {}

func (m *mint) knows(key string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.alive[key]
}

// minted is an estate whose research-openai comes from a source.
func minted(change func(*statement.Credential)) estatetest.Option {
	return estatetest.Edit(func(p *estate.Plan) {
		c := &p.Custody["research"].Credentials[0]
		c.Source, c.From = "oauth", statement.From{URL: "https://tokens.example/oauth", Parameters: map[string]string{"grant": "client_credentials", "client_id": "demo"}}
		if change != nil {
			change(c)
		}
	})
}

func newMint(t testing.TB, change func(*statement.Credential)) (*world, *mint) {
	t.Helper()
	m := &mint{alive: map[string]bool{}, life: 10 * time.Minute}
	w := newWorldWith(t, func(p *Parts) {
		p.Source = func(c source.Config) (source.Source, error) {
			if c.Tenant != "acme" || c.Unit != "research" || c.Custodian != "c1" || c.State == nil {
				t.Errorf("%+v", c)
			}
			if _, err := c.Root(ledger.Durable{}); err == nil {
				t.Error("what the owner handed over is given against nothing")
			}
			return m, nil
		}
	}, minted(change))
	m.w = w
	w.wire.answer = func(_ context.Context, r *egress.Request) (*egress.Response, error) {
		if !m.knows(strings.TrimPrefix(string(r.Secrets[0].Value), "Bearer ")) {
			return reply(401, `{"error":{"code":"invalid_api_key"}}`), nil
		}
		return reply(200, `{"ok":true}`), nil
	}
	return w, m
}

// TestMint: the first use has a secret fetched; intent, call, binding, use, in this order.
func TestMint(t *testing.T) {
	w, _ := newMint(t, nil)
	w.handover("research-openai", 1, "demo-upstream-key-client-secret")
	for range 2 {
		if a := w.do(w.chat()); a.refusal != nil || a.status != 200 {
			t.Fatal(a.refusal, a.status)
		}
	}
	if got := w.events.String(); !strings.HasSuffix(got, "mint fetch outcome intent send outcome intent send outcome") {
		t.Error(got)
	}
	m, in := w.ledger.of(entry.Mint), w.ledger.of(entry.Intent)
	if m[0].Lease != "v1" || m[0].CredFP == "" || m[0].Credential != "research-openai" || m[0].Tenant != "acme" || m[0].Estate == "" {
		t.Errorf("%+v", m[0])
	}
	bound := w.ledger.of(entry.Outcome)[0]
	if in[0].Lease != "lease-1" || in[0].CredFP != bound.CredFP || bound.Lease != "lease-1" || bound.Expires == 0 || bound.IntentSeq != m[0].Seq || in[0].CredFP == m[0].CredFP {
		t.Errorf("%+v after %+v", in[0], bound)
	}
	a := admin.Credential{ID: "research-openai"}
	w.Show(&a, w.Clock())
	if a.Source != "oauth" || a.State != "active" || a.Uses.Quarters != 2 || len(a.Versions) != 1 || a.Next.IsZero() || a.Unit != "research" {
		t.Errorf("%+v", a)
	}
}

// TestNoMint: while the credential may not be used, nothing is fetched for it, neither for a request nor ahead.
func TestNoMint(t *testing.T) {
	for name, shut := range map[string]func(*world){
		"frozen":     func(w *world) { w.freeze("credential", "research-openai") },
		"closed":     func(w *world) { w.freeze("unit", "research") },
		"stale":      func(w *world) { w.age.Store(int64(time.Hour)) },
		"uncosigned": func(w *world) { w.lag.Store(int64(time.Hour)) },
		"orphaned":   func(w *world) { w.freeze("person", "cora") },
	} {
		t.Run(name, func(t *testing.T) {
			w, m := newMint(t, nil)
			w.do(w.chat())
			shut(w)
			if err := w.may("research-openai"); err == nil {
				t.Error("a fetch is allowed")
			}
			w.now.Add(int64(9 * time.Minute))
			w.age.Add(0)
			for range 3 {
				w.Keep()
				w.do(w.chat())
			}
			w.view.Load().credentials["research-openai"].keeper.Close()
			if m.n != 1 || len(w.ledger.of(entry.Mint)) != 1 {
				t.Errorf("%d fetches, %d entries", m.n, len(w.ledger.of(entry.Mint)))
			}
		})
	}
}

// TestSourceFails: the client reads what it means, and nothing was sent.
func TestSourceFails(t *testing.T) {
	for err, code := range map[error]string{source.ErrDown: "source_down", source.ErrRefused: "source_refused", source.ErrMalformed: "source_refused", source.ErrNoRoot: "no_secret"} {
		w, m := newMint(t, nil)
		m.fail = err
		if a := w.do(w.chat()); a.refusal == nil || a.refusal.Code != code || a.refusal.Status != 503 || w.wire.n.Load() != 0 {
			t.Errorf("%v: %+v", err, a.refusal)
		}
		if d := w.ledger.of(entry.Deny); len(d) != 1 || d[0].Reason != code {
			t.Errorf("%v: %+v", err, d)
		}
	}
}

// TestRecordChanges: another record has its secrets fetched anew; the same one, in another set, keeps them.
func TestRecordChanges(t *testing.T) {
	w, m := newMint(t, nil)
	w.do(w.chat())
	w.estate.Republish(t, func(p *estate.Plan) { p.Custody["research"].Credentials[0].OnReflection = "freeze" }, "custody-research")
	must(t, w.Adopt(w.estate.Set))
	if a := w.do(w.chat()); a.refusal != nil || m.n != 1 {
		t.Errorf("%v, %d fetches", a.refusal, m.n)
	}
	w.estate.Republish(t, func(p *estate.Plan) { p.Custody["research"].Credentials[0].From.Parameters["scope"] = "less" }, "custody-research")
	must(t, w.Adopt(w.estate.Set))
	if a := w.do(w.chat()); a.refusal != nil || m.n != 2 {
		t.Errorf("%v, %d fetches", a.refusal, m.n)
	}
}

// TestStreamOverRotation: an answer that runs over a rotation is searched for the secret that its request carried.
func TestStreamOverRotation(t *testing.T) {
	w, m := newMint(t, nil)
	r, upstream := io.Pipe()
	w.wire.answer = func(context.Context, *egress.Request) (*egress.Response, error) {
		return &egress.Response{Status: 200, Header: []hop.Field{{Name: "Content-Type", Value: "text/plain"}}, Body: r, Length: -1, Trailer: func() []hop.Field { return nil }}, nil
	}
	a, over := &answer{}, make(chan struct{})
	go func() {
		defer close(over)
		w.serve(context.Background(), g1, w.chat(), a)
	}()
	io.WriteString(upstream, "begun ")
	for range 3 {
		w.now.Add(int64(9 * time.Minute))
		w.Keep()
		eventually(t, "the next version", func() bool {
			held, err := w.view.Load().credentials["research-openai"].keeper.Hold(context.Background(), "", w.Clock())
			if err == nil {
				held.Leave()
			}
			w.Keep()
			return err == nil && held.Lease != "lease-1"
		})
	}
	io.WriteString(upstream, "demo-upstream-key-minted-0001 and more")
	upstream.Close()
	<-over
	if _, body, broken, ended := a.snapshot(); ended || broken == "" || strings.Contains(body, "minted") || m.n < 3 {
		t.Errorf("%q, %q, ended %v, %d versions", body, broken, ended, m.n)
	}
}

// rotation uses a credential from many sides while its versions change, at least so often, and finds no failed request and no use of a version after the
// entry that it is revoked.
func rotation(t testing.TB, w *world, m *mint, least int, calls func(call func())) {
	t.Helper()
	var failed atomic.Int64
	calls(func() {
		if a := w.do(w.chat()); a.refusal != nil || a.status != 200 {
			if failed.Add(1) == 1 {
				t.Errorf("a request failed: %+v, status %d", a.refusal, a.status)
			}
		}
	})
	eventually(t, "the versions before are ended", func() bool {
		w.now.Add(int64(time.Second))
		w.Keep()
		m.mu.Lock()
		defer m.mu.Unlock()
		return len(m.alive) <= 1
	})
	over := map[string]bool{}
	w.ledger.mu.Lock()
	defer w.ledger.mu.Unlock()
	uses := 0
	for _, e := range w.ledger.all {
		switch e.Type {
		case entry.Version:
			over[e.Lease] = over[e.Lease] || strings.HasPrefix(e.State, "revoked")
		case entry.Intent:
			uses++
			if over[e.Lease] {
				t.Fatalf("%s is used after the entry that it is revoked", e.Lease)
			}
		}
	}
	t.Logf("%d uses of %d versions, %d revoked", uses, m.n, m.revoked.Load())
	if m.n < least || m.revoked.Load() < int64(m.n-1) || failed.Load() > 0 {
		t.Errorf("%d versions, %d revoked, %d failed", m.n, m.revoked.Load(), failed.Load())
	}
}

func TestRotationUnderLoad(t *testing.T) {
	w, m := newMint(t, nil)
	m.life = 0
	rotation(t, w, m, 5, func(call func()) {
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				for range 200 {
					call()
				}
			})
		}
		over := make(chan struct{})
		go func() {
			all.Wait()
			close(over)
		}()
		for turns := 0; turns < 10; turns++ {
			w.now.Add(int64(14 * time.Minute))
			n := w.wire.n.Load() + 8
			eventually(t, "uses go on", func() bool {
				select {
				case <-over:
					return true
				default:
				}
				w.Keep()
				return w.wire.n.Load() > n
			})
		}
		<-over
	})
}

// BenchmarkRotation makes 1,000 calls a second for -benchtime (10s) while the credential rotates every second, and fails on the first that is lost.
func BenchmarkRotation(b *testing.B) {
	w, m := newMint(b, nil)
	m.life = 0
	b.ResetTimer()
	rotation(b, w, m, b.N/1000, func(call func()) {
		var all sync.WaitGroup
		defer all.Wait()
		begun, turned := time.Now(), time.Now()
		for i := range b.N {
			time.Sleep(time.Until(begun.Add(time.Duration(i) * time.Millisecond)))
			all.Go(call)
			if time.Since(turned) >= time.Second {
				turned = turned.Add(time.Second)
				w.now.Add(int64(14 * time.Minute)) // past the time to fetch ahead
			}
			if i%100 == 0 {
				w.Keep()
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
	b.ReportMetric(float64(m.n), "versions")
}

// TestEndSealed: a signed revocation that asks for the end freezes at once, is proven by two probes, and destroys the ciphertext for good.
func TestEndSealed(t *testing.T) {
	w := newWorld(t, estatetest.Edit(func(p *estate.Plan) {
		c := &p.Custody["research"].Credentials[0]
		c.Probe, c.Inject.With = statement.Probe{Method: "GET", Path: "/v1/models", Status: 401, Holds: "invalid_api_key"}, []string{"x-beside: 1"}
	}))
	first, sealed1 := w.sealedTo(w.estate.Identity.Recipient(), "research-openai", 1, demoKey, w.estate.Cora)
	w.handover("research-openai", 2, "demo-upstream-key-of-research-2222")
	w.do(w.chat())
	alive := map[string]bool{demoKey: true, "demo-upstream-key-of-research-2222": true}
	var mu sync.Mutex
	var probes []string
	w.wire.answer = func(_ context.Context, r *egress.Request) (*egress.Response, error) {
		mu.Lock()
		defer mu.Unlock()
		key := strings.TrimPrefix(string(r.Secrets[0].Value), "Bearer ")
		if r.Method == "GET" {
			probes = append(probes, string(r.Target))
			if !slices.Contains(r.Header, hop.Field{Name: "x-beside", Value: "1"}) {
				t.Error("a probe without what the provider wants beside the secret: it would refuse one that is good")
			}
		}
		if !alive[key] {
			return reply(401, `{"error":{"code":"invalid_api_key"}}`), nil
		}
		return reply(200, `{}`), nil
	}
	rev := w.revocation("cora", 1, "credential", "research-openai", false)
	rev.End = true
	must(t, w.record("revocation", rev, w.estate.Cora))
	if a := w.do(w.chat()); a.refusal == nil || a.refusal.Code != "frozen" {
		t.Fatalf("%+v", a.refusal)
	}
	show := func() (s string) {
		a := admin.Credential{ID: "research-openai"}
		w.Show(&a, w.Clock())
		for _, v := range a.Versions {
			s += v.Lease + ":" + v.State + " "
		}
		return s
	}
	turn := func() {
		w.Keep()
		w.now.Add(int64(61 * time.Second))
	}
	eventually(t, "the source is told", func() bool { turn(); return show() == "v2:revoked-unproven v1:revoked-unproven " })
	mu.Lock()
	alive = nil // their owner deletes both at the provider
	mu.Unlock()
	eventually(t, "proven", func() bool { turn(); return show() == "v2:destroyed v1:destroyed " })
	for _, want := range []string{"revoked", "cannot_revoke", "probed_twice", "proven"} {
		n := 0
		for _, e := range w.ledger.of(entry.Version) {
			if e.Reason == want && e.CredFP != "" && e.Record != "" && e.Credential == "research-openai" && e.Tenant == "acme" {
				n++
			}
		}
		if n != 2 {
			t.Errorf("%d entries say %s", n, want)
		}
	}
	if p := w.ledger.of(entry.Probe); len(p) < 4 || p[0].Method != "GET" || p[0].PathHash != digest(nil, "/v1/models") || probes[0] != "/v1/models" {
		t.Errorf("%d probes, %+v, %s", len(p), p[0], probes)
	}
	a := admin.Credential{}
	eventually(t, "the end is told", func() bool {
		a = admin.Credential{ID: "research-openai"}
		w.Show(&a, w.Clock())
		return a.Ending != nil && !a.Ending.Proven.IsZero()
	})
	if e := a.Ending; e.Open || !e.Frozen.Before(e.LastUse) || a.State != "pending" || a.Closed == "" {
		t.Errorf("%+v", a)
	}
	if w.Secrets.Get("research-openai") != nil {
		t.Error("the secret is still held")
	}
	must(t, w.Receive(first, sealed1)) // records come again
	if w.Secrets.Get("research-openai") != nil {
		t.Error("a version that was destroyed came back")
	}
	w.handover("research-openai", 3, "demo-upstream-key-of-research-3333")
	open := w.revocation("cora", 2, "credential", "research-openai", true)
	must(t, w.record("revocation", open, w.estate.Cora, w.estate.Bea))
	mu.Lock()
	alive = map[string]bool{"demo-upstream-key-of-research-3333": true}
	mu.Unlock()
	if a := w.do(w.chat()); a.refusal != nil || a.status != 200 {
		t.Errorf("%+v, %d", a.refusal, a.status)
	}
}

// TestEndAfterwards: a keeper that was not there when its credential's secrets were to end hears of it when it comes.
func TestEndAfterwards(t *testing.T) {
	w, _ := newMint(t, nil)
	if a := w.do(w.chat()); a.refusal != nil {
		t.Fatal(a.refusal)
	}
	adopt := func(scope string) {
		w.estate.Republish(t, func(p *estate.Plan) { p.Custody["research"].Credentials[0].From.Parameters["scope"] = scope }, "custody-research")
		must(t, w.Adopt(w.estate.Set))
	}
	good := w.Source
	w.Source = func(source.Config) (source.Source, error) { return nil, errors.New("demo") }
	adopt("less")
	end := w.revocation("cora", 1, "credential", "research-openai", false)
	end.End = true
	must(t, w.record("revocation", end, w.estate.Cora))
	w.Source = good
	adopt("least")
	a := admin.Credential{ID: "research-openai"}
	w.Show(&a, w.Clock())
	if a.Ending == nil || len(a.Versions) != 1 || a.Versions[0].State != "frozen" {
		t.Errorf("%+v", a)
	}
}

// TestRetaken: what was handed over while the file of its versions could not be written is used as soon as it can be.
func TestRetaken(t *testing.T) {
	w := newWorld(t)
	dir, err := w.Secrets.Dir("research-openai")
	must(t, err)
	file := dir.Path("versions.json")
	must(t, os.Remove(file))
	must(t, os.MkdirAll(file+"/in-the-way", 0o700))
	env, ciphertext := w.sealedTo(w.estate.Identity.Recipient(), "research-openai", 2, "demo-upstream-key-of-research-0002", w.estate.Cora)
	if err := w.Receive(env, ciphertext); err == nil {
		t.Fatal("a version that is not on disk is in force")
	}
	lease := func() string {
		a := admin.Credential{ID: "research-openai"}
		w.Show(&a, w.Clock())
		for _, v := range a.Versions {
			if v.State == "active" {
				return v.Lease + " " + a.Error
			}
		}
		return "none"
	}
	if w.Keep(); !strings.HasPrefix(lease(), "v1 keeping which versions") {
		t.Errorf("with the file in the way: %q", lease())
	}
	must(t, os.RemoveAll(file))
	if w.Keep(); lease() != "v2 " {
		t.Errorf("with the file written: %q", lease())
	}
	if a := w.do(w.chat()); a.refusal != nil || !bytes.HasSuffix(w.wire.sent[0].Secrets[0].Value, []byte("research-0002")) {
		t.Errorf("%+v", a.refusal)
	}
}
