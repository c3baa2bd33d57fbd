package gateway

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/hop"
	"github.com/reevehq/reeve/internal/metrics"
	"github.com/reevehq/reeve/internal/pop"
	"github.com/reevehq/reeve/internal/process"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/testlog"
	"github.com/reevehq/reeve/internal/workload"
)

// keyring is workload keys in the clear.
type keyring map[string]workload.Identity

func (k keyring) Verify(p workload.Proof, _ *pop.Request, _ time.Time) (workload.Identity, error) {
	switch string(p.Value) {
	case "rv_expired":
		return workload.Identity{}, workload.ErrExpired
	case "rv_revoked":
		return workload.Identity{}, workload.ErrRevoked
	}
	who, ok := k[string(p.Value)]
	if !ok {
		return workload.Identity{}, workload.ErrUnknown
	}
	return who, nil
}

// journal is a ledger in memory.
type journal struct {
	mu      sync.Mutex
	entries []entry.Entry
}

func (j *journal) Enqueue(e *entry.Entry, _ bool) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.entries = append(j.entries, *e)
	return nil
}

// rig is a gateway on a listener, with a scripted custodian at the other end of a real hop.
type rig struct {
	t       testing.TB
	parts   Parts
	edit    func(*estate.Plan) // of the estate before it is signed
	estate  *estatetest.Estate // instead, one that is signed already
	script  hop.Handler        // the custodian
	gateway *Gateway
	server  *httptest.Server
	url     string
	ledger  journal
	logs    testlog.Log

	mu    sync.Mutex
	opens []hop.Open
}

// plan changes the test estate: a second provider that only support has, and what the tests call models.
func plan(p *estate.Plan) {
	p.Operations.Gateways[0].URL = "https://ai.example"
	openai, anthropic := &p.Operations.Providers[0], &p.Operations.Providers[1]
	openai.Models = []string{"large", "small", "vector"}
	anthropic.Models = []string{"claude-large", "claude-small"}
	delete(anthropic.Credentials, "support")
	p.Operations.Providers = append(p.Operations.Providers, statement.Provider{
		Name: "other", Dialect: "openai", Models: []string{"meta/large"}, Credentials: map[string]string{"support": "support-other"}})
	other := p.Custody["support"].Credentials[0]
	other.ID = "support-other"
	p.Custody["support"].Credentials = append(p.Custody["support"].Credentials, other)
	p.Operations.Aliases = map[string]string{"fast": "openai/small", "claude-fast": "anthropic/claude-small", "nowhere": "openai/none"}
}

func newRig(t testing.TB, script hop.Handler, change ...func(*rig)) *rig {
	t.Helper()
	r := &rig{t: t, script: script}
	r.parts = Parts{
		ID: "g1",
		Proofs: keyring{
			"rv_research": {Workload: "research-agent", Unit: "research", Tenant: "acme", Proof: "bearer", KeyID: "0123456789abcdef"},
			"rv_support":  {Workload: "support-agent", Unit: "support", Tenant: "acme", Proof: "bearer"},
		},
		Journal: process.NewJournal(&r.logs, "reeve-gateway"),
		Metrics: &metrics.Registry{},
	}
	for _, c := range change {
		c(r)
	}
	if r.parts.Custodian == nil {
		r.parts.Custodian = r.hop()
	}
	r.gateway = New(r.parts)
	if err := r.gateway.Use(r.set()); err != nil {
		t.Fatal(err)
	}
	r.server = httptest.NewUnstartedServer(r.gateway)
	r.server.Config.ConnState = r.gateway.ConnState
	r.server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	r.server.Start()
	t.Cleanup(r.server.Close)
	r.url = r.server.URL
	return r
}

// set is the estate's. The one that is not edited is signed once for all tests.
func (r *rig) set() *statement.Set {
	if r.estate != nil {
		return r.estate.Set
	}
	if r.edit != nil {
		return estatetest.New(r.t, estatetest.Edit(plan), estatetest.Edit(r.edit)).Set
	}
	standard.once.Do(func() { standard.set = estatetest.New(r.t, estatetest.Edit(plan)).Set })
	return standard.set
}

var standard struct {
	once sync.Once
	set  *statement.Set
}

// hop serves the script on a socket and returns a client to it.
func (r *rig) hop() *hop.Client {
	client := hop.NewClient(hop.ClientConfig{Dial: hop.Unix(r.listen())})
	r.t.Cleanup(func() { client.Close() })
	return client
}

// listen serves the script on a socket and returns its path.
func (r *rig) listen() string {
	dir, err := os.MkdirTemp("", "hop") // short: a socket's path has at most 107 bytes
	if err != nil {
		r.t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		r.t.Fatal(err)
	}
	server := hop.NewServer(hop.ServerConfig{
		Peers: func(hop.Peer) string { return "g1" },
		Handler: func(ctx context.Context, peer hop.Peer, o *hop.Open, w *hop.Writer) {
			r.mu.Lock()
			if kept := *o; len(r.opens) < 100 {
				kept.Body = bytes.Clone(o.Body)
				r.opens = append(r.opens, kept)
			}
			r.mu.Unlock()
			r.script(ctx, peer, o, w)
		},
	})
	go server.Serve(l)
	r.t.Cleanup(func() {
		done, cancel := context.WithCancel(context.Background())
		cancel()
		server.Shutdown(done)
		os.RemoveAll(dir)
	})
	return path
}

// open is the only request that the custodian got.
func (r *rig) open() hop.Open {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.opens) != 1 {
		r.t.Fatalf("the custodian got %d requests, want 1", len(r.opens))
	}
	return r.opens[0]
}

// do sends a request as the research agent, unless header says otherwise. header alternates names and values.
func (r *rig) do(method, path, body string, header ...string) *http.Response {
	r.t.Helper()
	req, err := http.NewRequest(method, r.url+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer rv_research")
	for i := 0; i+1 < len(header); i += 2 {
		if header[i+1] == "" {
			req.Header.Del(header[i])
			continue
		}
		req.Header[http.CanonicalHeaderKey(header[i])] = []string{header[i+1]}
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func text(t testing.TB, resp *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func object(t testing.TB, s string) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(s), &m); err != nil {
		t.Fatalf("%q: %v", s, err)
	}
	return m
}

// lines reads an answer line by line.
func lines(resp *http.Response) *bufio.Reader { return bufio.NewReader(resp.Body) }

func line(t testing.TB, r *bufio.Reader) string {
	t.Helper()
	s, err := r.ReadString('\n')
	if err != nil {
		t.Fatalf("reading a line: %v (have %q)", err, s)
	}
	return strings.TrimRight(s, "\n")
}

// eventually waits for what happens in another goroutine, at most some seconds.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(what + ": did not happen")
		}
	}
}

func field(name, value string) hop.Field { return hop.Field{Name: name, Value: value} }

// answerJSON is a custodian that answers every request with a small JSON object.
func answerJSON(_ context.Context, _ hop.Peer, _ *hop.Open, w *hop.Writer) {
	w.Head(200, []hop.Field{field("Content-Type", "application/json"), field("Content-Length", "11"), field("Reeve-Receipt", "v1.0.1.x.y")})
	w.Write([]byte(`{"ok":true}`))
	w.End(nil)
}

const chat = `{"model":"large","messages":[{"role":"user","content":"hello"}]}`
const chatStream = `{"model":"large","stream":true,"messages":[]}`
const message = `{"model":"claude-large","max_tokens":8,"messages":[]}`
const messageStream = `{"model":"claude-large","max_tokens":8,"stream":true,"messages":[]}`

// edited changes the estate before it is signed.
func edited(f func(*estate.Plan)) func(*rig) { return func(r *rig) { r.edit = f } }
