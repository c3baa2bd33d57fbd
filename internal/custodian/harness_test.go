package custodian

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/custodian/closed"
	"github.com/reevehq/reeve/internal/custodian/egress"
	"github.com/reevehq/reeve/internal/custodian/glass"
	"github.com/reevehq/reeve/internal/custodian/isolation"
	"github.com/reevehq/reeve/internal/custodian/sealed"
	"github.com/reevehq/reeve/internal/custodian/state"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/hop"
	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/internal/metrics"
	"github.com/reevehq/reeve/internal/process"
	"github.com/reevehq/reeve/internal/replay"
	"github.com/reevehq/reeve/internal/seal"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/testlog"
)

const demoKey = "demo-upstream-key-of-research-0001"

// world is a custodian with everything around it: a signed estate, a real ledger on disk that is watched, and a wire that
// records what would have been sent.
type world struct {
	t       testing.TB
	estate  *estatetest.Estate
	ledger  *watched
	wire    *wire
	logs    *testlog.Log
	events  *events
	now     atomic.Int64 // nanoseconds that the clock is ahead
	age     atomic.Int64 // of the news
	lag     atomic.Int64 // of the oldest uncosigned entry
	dir     state.Dir
	people  atomic.Value // []string: who was told last
	notices atomic.Int64
	parts   Parts
	*Custodian
}

// events is what happened in which order.
type events struct {
	mu   sync.Mutex
	list []string
}

func (e *events) add(s string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = append(e.list, s)
}

func (e *events) String() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return strings.Join(e.list, " ")
}

// watched is a real ledger that can be made to fail and that remembers what was written.
type watched struct {
	*ledger.Log
	w        *world
	mu       sync.Mutex
	all      []entry.Entry
	payloads [][]byte // of appended entries
	fail     atomic.Pointer[error]
	hook     func(*entry.Entry) // called when an appended entry is durable
}

func (l *watched) Append(e *entry.Entry, payload []byte) (ledger.Durable, error) {
	if err := l.fail.Load(); err != nil {
		return ledger.Durable{}, *err
	}
	d, err := l.Log.Append(e, payload)
	if err != nil {
		return d, err
	}
	l.keep(e)
	l.mu.Lock()
	l.payloads = append(l.payloads, payload)
	l.mu.Unlock()
	l.w.events.add(string(e.Type))
	if l.hook != nil {
		l.hook(e)
	}
	return d, nil
}

func (l *watched) AppendClosing(e *entry.Entry) (ledger.Durable, error) {
	if err := l.fail.Load(); err != nil {
		return ledger.Durable{}, *err
	}
	d, err := l.Log.AppendClosing(e)
	if err == nil {
		l.keep(e)
		l.w.events.add(string(e.Type))
	}
	return d, err
}

func (l *watched) Enqueue(e *entry.Entry, closes bool) error {
	if err := l.fail.Load(); err != nil {
		return *err
	}
	l.keep(e)
	l.w.events.add(string(e.Type))
	return l.Log.Enqueue(e, closes)
}

func (l *watched) keep(e *entry.Entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, *e)
}

func (l *watched) Uncosigned() (time.Duration, int64) { return time.Duration(l.w.lag.Load()), 0 }

// of returns the entries of a type.
func (l *watched) of(t entry.Type) (found []entry.Entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.all {
		if e.Type == t {
			found = append(found, e)
		}
	}
	return found
}

// wire stands for the upstream. It records every request and answers with answer.
type wire struct {
	w       *world
	mu      sync.Mutex
	sent    []egress.Request
	n       atomic.Int64
	closed  atomic.Int64
	retired atomic.Int64
	before  func()
	answer  func(ctx context.Context, r *egress.Request) (*egress.Response, error)
}

func (w *wire) Send(ctx context.Context, r *egress.Request) (*egress.Response, error) {
	if w.before != nil {
		w.before()
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", egress.ErrNotSent, err)
	}
	w.n.Add(1)
	w.w.events.add("send")
	kept := *r
	kept.Target = bytes.Clone(r.Target)
	kept.Secrets[0].Value = bytes.Clone(r.Secrets[0].Value)
	w.mu.Lock()
	w.sent = append(w.sent, kept)
	w.mu.Unlock()
	if w.answer != nil {
		return w.answer(ctx, r)
	}
	return reply(200, `{"ok":true}`), nil
}
func (w *wire) Close()  { w.closed.Add(1) }
func (w *wire) Retire() { w.retired.Add(1) }

func reply(status int, body string, header ...hop.Field) *egress.Response {
	return &egress.Response{Status: status, Header: append(header, hop.Field{Name: "Content-Type", Value: "application/json"}), Length: int64(len(body)),
		Body: io.NopCloser(strings.NewReader(body)), Trailer: func() []hop.Field { return nil }}
}

// answer records what the gateway got.
type answer struct {
	mu      sync.Mutex
	status  int
	header  []hop.Field
	body    bytes.Buffer
	trailer []hop.Field
	refusal *hop.Refusal
	broken  string
	ended   bool
	over    bool // the use has returned: a break that comes now is late
	wrote   func([]byte) (int, error)
}

func (a *answer) Head(status int, header []hop.Field) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.status, a.header = status, header
	return nil
}

func (a *answer) Write(p []byte) (int, error) {
	a.mu.Lock()
	wrote, over := a.wrote, a.broken != ""
	if !over {
		a.body.Write(p)
	}
	a.mu.Unlock()
	if over {
		return 0, hop.ErrBroken
	}
	if wrote != nil {
		return wrote(p)
	}
	return len(p), nil
}

func (a *answer) End(trailer []hop.Field) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.trailer, a.ended = trailer, true
	return nil
}

func (a *answer) Break(reason string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.ended && !a.over && a.refusal == nil {
		a.broken = reason
	}
}

func (a *answer) Refuse(r *hop.Refusal) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.refusal = r
	return nil
}

func (a *answer) snapshot() (status int, body, broken string, ended bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.status, a.body.String(), a.broken, a.ended
}

func (a *answer) refused() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.refusal != nil
}

// newWorld makes a custodian c1 that holds research-openai and research-anthropic and nothing of support.
func newWorld(t testing.TB, opts ...estatetest.Option) *world {
	t.Helper()
	return newWorldWith(t, nil, opts...)
}

// newWorldWith changes the parts before the first set.
func newWorldWith(t testing.TB, change func(*Parts), opts ...estatetest.Option) *world {
	t.Helper()
	w := &world{t: t, estate: estatetest.New(t, opts...), logs: &testlog.Log{}, events: &events{}}
	w.wire = &wire{w: w}
	dir, err := state.Open(filepath.Join(t.TempDir(), "state"))
	must(t, err)
	w.dir = dir
	keyFile := dir.Path("log.key")
	must(t, os.WriteFile(keyFile, []byte(w.estate.Signer("log", "c1")), 0o600))
	key, err := ledger.LoadKey(keyFile)
	must(t, err)
	log, err := ledger.Open(context.Background(), ledger.Config{Key: key, Dir: dir.Path("ledger"), Tiles: dir.Path("tiles"), SegmentSize: 1 << 20})
	must(t, err)
	t.Cleanup(func() {
		log.Close()
		if w.Custodian != nil {
			w.told.Lock() // for good: nobody writes down a closing any more, into a folder that goes away
		}
	})
	w.ledger = &watched{Log: log, w: w}

	vault, err := dir.Sub("sealed")
	must(t, err)
	secrets, _, err := sealed.Open(vault, "c1", w.key())
	must(t, err)
	gate, err := closed.Open(dir)
	must(t, err)
	cabinet, err := glass.Open(dir)
	must(t, err)
	w.parts = Parts{
		ID: "c1", Ledger: w.ledger, Secrets: secrets, Gate: gate, Glass: cabinet, Notify: w.notified, Isolation: &isolation.Judge{}, Replay: replay.New(1000),
		News:  func() time.Duration { return time.Duration(w.age.Load()) },
		Dial:  func(statement.Destination, *tls.Certificate) (Connections, error) { return w.wire, nil },
		Clock: func() time.Time { return time.Now().Add(time.Duration(w.now.Load())) },
		Log:   slog.New(slog.NewJSONHandler(w.logs, nil)), Journal: process.NewJournal(w.logs, "reeve-custodian"), Metrics: &metrics.Registry{},
	}
	if change != nil {
		change(&w.parts)
	}
	w.Custodian = New(w.parts)
	must(t, w.Adopt(w.estate.Set))
	envs, err := estate.ReadRecords(w.estate.Dir.Store(), "workload-key")
	must(t, err)
	for _, env := range envs {
		must(t, w.Take(&statement.Record{Kind: "workload-key", Envelope: env}))
	}
	w.Rekey()
	if cr, _, _ := w.estate.Set.Credential("research-openai"); cr.Source == "sealed" && cr.Inject.As != "tls" && cr.Inject.As != "sigv4" && w.estate.Set.Serves("c1", cr.ID) {
		w.handover("research-openai", 1, demoKey)
	}
	w.handover("research-anthropic", 1, "demo-upstream-key-of-research-0002")
	t.Cleanup(func() {
		if strings.Contains(w.logs.String(), "demo-upstream-key") || strings.Contains(w.logs.String(), "rv_") {
			t.Error("the log holds a secret")
		}
	})
	return w
}

func (w *world) notified(n Notice, to []*statement.Person) {
	w.notices.Add(1)
	var ids []string
	for _, p := range to {
		ids = append(ids, p.ID)
	}
	w.people.Store(ids)
}

func (w *world) key() *sealed.Key {
	return &sealed.Key{Identity: w.estate.Identity, Recipient: w.estate.Identity.Recipient(), Public: w.estate.Identity.Recipient().String()}
}

// sealedTo makes a handover as its owner would.
func (w *world) sealedTo(recipient *age.X25519Recipient, credential string, version int64, value string, by *estate.Signer) (*statement.Envelope, []byte) {
	w.t.Helper()
	ciphertext, err := seal.Seal(recipient.String(), []byte(value))
	must(w.t, err)
	env, err := estate.Seal("handover", seal.Handover(w.estate.Set.Charter.Estate, credential, version, "c1", ciphertext, w.Clock().UTC().Truncate(time.Second)), by)
	must(w.t, err)
	return env, ciphertext
}

func (w *world) handover(credential string, version int64, value string) {
	w.t.Helper()
	env, ciphertext := w.sealedTo(w.estate.Identity.Recipient(), credential, version, value, w.estate.Cora)
	must(w.t, w.Receive(env, ciphertext))
}

// record signs and takes a record.
func (w *world) record(kind string, v any, by ...*estate.Signer) error {
	w.t.Helper()
	env, err := estate.Seal(kind, v, by...)
	must(w.t, err)
	sum := env.ID()
	return w.Take(&statement.Record{Kind: kind, Envelope: env, SHA256: hex.EncodeToString(sum[:]), Channel: "test"})
}

func (w *world) revocation(signer string, number int64, kind, id string, open bool) statement.Revocation {
	return statement.Revocation{Estate: w.estate.Set.Charter.Estate, Signer: signer, Number: number, Target: statement.Target{Kind: kind, ID: id}, Open: open,
		Reason: "test", Time: w.Clock().UTC()}
}

// chat is a request that is allowed.
func (w *world) chat() *hop.Open {
	return &hop.Open{
		RequestID: "req-1", Credential: "research-openai", Method: "POST", Path: "/v1/chat/completions",
		Header: []hop.Field{{Name: "Content-Type", Value: "application/json"}},
		Proof:  w.estate.Proof("research-agent"),
		Body:   []byte(`{"model":"openai/demo-small","max_tokens":10,"messages":[{"role":"user","content":"hello"}]}`),
	}
}

var g1 = hop.Peer{UID: 1, PID: 1, Name: "g1"}

// do serves one request and returns what the gateway got.
func (w *world) serve(ctx context.Context, peer hop.Peer, open *hop.Open, a *answer) {
	w.Serve(ctx, peer, open, a)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.over = true
}

func (w *world) do(open *hop.Open) *answer {
	a := &answer{}
	w.serve(context.Background(), g1, open, a)
	return a
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits for what another goroutine will bring about.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}
