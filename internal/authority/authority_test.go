package authority

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"golang.org/x/mod/sumdb/note"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/authority/token"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/feed"
	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/internal/metrics"
	"github.com/reevehq/reeve/internal/replay"
	"github.com/reevehq/reeve/internal/statement"
)

// book is a ledger that a test can hold up or break.
type book struct {
	mu      sync.Mutex
	entries []entry.Entry
	hold    chan struct{} // when not nil, Append waits until it is closed
	waiting chan struct{} // receives when Append waits
	broken  error
}

func (b *book) Append(e *entry.Entry, payload []byte) (ledger.Durable, error) {
	b.mu.Lock()
	hold, broken := b.hold, b.broken
	b.mu.Unlock()
	if hold != nil {
		b.waiting <- struct{}{}
		<-hold
	}
	if broken != nil {
		return ledger.Durable{}, broken
	}
	return ledger.Durable{}, b.Enqueue(e, false)
}

func (b *book) Enqueue(e *entry.Entry, closing bool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.entries = append(b.entries, *e)
	return nil
}

// types lists what was entered.
func (b *book) types() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []string
	for _, e := range b.entries {
		all = append(all, string(e.Type))
	}
	return strings.Join(all, " ")
}

// rig is a serving authority over a test estate.
type rig struct {
	*estatetest.Estate
	*Authority
	cfg  Config
	book *book
	url  string
}

func newRig(t testing.TB, e *estatetest.Estate, state string) *rig {
	t.Helper()
	key, err := note.NewSigner(e.Signer("feed", "a1"))
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{Estate: e, book: &book{waiting: make(chan struct{}, 100)}, cfg: Config{ID: "a1", Estate: e.Dir.Signed(), StateDir: state, Followers: 2000}}
	db, err := r.cfg.openStore(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	r.Authority, err = open(&r.cfg, e.Pin, db, key, slog.New(slog.DiscardHandler), &metrics.Registry{})
	if err != nil {
		t.Fatal(err)
	}
	if e.Service["token a1"] != nil {
		r.serveTokens(tokenKey(t, e))
	}
	if err := r.Reload(true); err != nil && !strings.Contains(err.Error(), "ledger is not open") {
		t.Fatal(err)
	}
	if err := r.attach(r.book); err != nil {
		t.Fatal(err)
	}
	if l := r.tryLease(t.Context(), true); !r.own(l) {
		t.Fatal("no lease")
	}
	if err := r.begin(); err != nil {
		t.Fatal(err)
	}
	r.prove(t)
	srv := httptest.NewServer(r.Handler())
	t.Cleanup(srv.Close)
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	go r.beats(ctx)
	r.url = srv.URL
	return r
}

// ask is a process's request for the stream.
func (r *rig) ask(t testing.TB, process string, change func(*feed.Ask)) string {
	t.Helper()
	a := &feed.Ask{Challenge: r.stream(t, "").Header.Get(feed.ChallengeHeader), Estate: r.Estate.Set.Charter.Estate, Process: process, Records: (&feed.Records{}).Sum(), Time: time.Now()}
	if change != nil {
		change(a)
	}
	header, err := a.Header(r.Endorse(process))
	if err != nil {
		t.Fatal(err)
	}
	return header
}

// stream asks for the stream with a header.
func (r *rig) stream(t testing.TB, header string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", r.url+feed.Path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if header != "" {
		req.Header.Set(feed.AskHeader, header)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// prove shows the set in force, as the authority does once its log is cosigned.
func (r *rig) prove(t testing.TB) {
	t.Helper()
	r.mu.Lock()
	set := r.set
	r.mu.Unlock()
	p := new(feed.Publication)
	p.Entry, p.Checkpoint = r.Published(t, "a1", set.LockHash, "w1")
	if err := p.Check(set.Set, time.Now()); err != nil {
		t.Fatal(err)
	}
	r.show(set, p)
}

// heard is what a follower's callbacks were given.
type heard chan string

func (r *rig) follow(t testing.TB, process string, left ...string) (*feed.Follower, heard) {
	t.Helper()
	h := make(heard, 1000)
	ctx, cancel := context.WithCancel(context.Background())
	f, err := feed.Follow(ctx, feed.Config{
		URLs: []string{r.url}, Pin: r.Pin, Dir: t.TempDir(), Process: process, Sign: r.Endorse(process), Skew: time.Minute,
		Left: func() []string { return left },
		OnSet: func(s *statement.Set, _ statement.Store) error {
			h <- fmt.Sprintf("set %d", s.Lock.Version)
			return nil
		},
		OnRecord: func(r *statement.Record) error { h <- r.Kind; return nil },
		OnHandover: func(_ *statement.Envelope, ciphertext []byte) error {
			h <- "handover " + string(ciphertext)
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); f.Wait() })
	return f, h
}

// want waits for n items and compares them, sorted.
func (h heard) want(t testing.TB, want ...string) {
	t.Helper()
	var got []string
	for range want {
		select {
		case s := <-h:
			got = append(got, s)
		case <-time.After(30 * time.Second):
			t.Fatalf("heard %q, want %q", got, want)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
}

func (r *rig) record(t testing.TB, kind string, v any, by ...*estate.Signer) []byte {
	t.Helper()
	env, err := estate.Seal(kind, v, by...)
	if err != nil {
		t.Fatal(err)
	}
	b, err := statement.Canonical(env)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (r *rig) revocation(t testing.TB, number int64) []byte {
	t.Helper()
	return r.record(t, "revocation", statement.Revocation{
		Estate: r.Estate.Set.Charter.Estate, Signer: "ada", Number: number, Target: statement.Target{Kind: "workload", ID: "research-agent"}, Reason: "test", Time: r.Now,
	}, r.Ada)
}

func (r *rig) handover(t testing.TB, ciphertext string) []byte {
	t.Helper()
	return r.handoverOf(t, 1, ciphertext)
}

func (r *rig) handoverOf(t testing.TB, version int64, ciphertext string) []byte {
	t.Helper()
	return r.handoverBy(t, version, ciphertext, r.Cora)
}

func (r *rig) handoverBy(t testing.TB, version int64, ciphertext string, by *estate.Signer) []byte {
	t.Helper()
	sum := sha256.Sum256([]byte(ciphertext))
	record := r.record(t, "handover", statement.Handover{
		Estate: r.Estate.Set.Charter.Estate, Credential: "research-openai", Version: version, Custodian: "c1", SHA256: hex.EncodeToString(sum[:]), Created: r.Now,
	}, by)
	return (&feed.Frame{Record: record, Sealed: []byte(ciphertext)}).Encode()
}

func (r *rig) post(t testing.TB, path string, body []byte) (int, string) {
	t.Helper()
	resp, err := http.Post(r.url+path, "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestPublishes(t *testing.T) {
	state := t.TempDir()
	r := newRig(t, estatetest.New(t), state)
	_, custodian := r.follow(t, "c1")
	_, gateway := r.follow(t, "g1")
	custodian.want(t, "set 1", "workload-key", "workload-key")
	gateway.want(t, "set 1", "workload-key", "workload-key")
	bare := r.stream(t, r.ask(t, "a1", nil))
	lines := bufio.NewReader(bare.Body)

	revoke := r.revocation(t, 1)
	if status, body := r.post(t, "/v1/records", revoke); status != 200 {
		t.Fatal(status, body)
	}
	custodian.want(t, "revocation")
	gateway.want(t, "revocation")
	if status, body := r.post(t, "/v1/handovers", r.handover(t, "ciphertext")); status != 200 {
		t.Fatal(status, body)
	}
	custodian.want(t, "handover ciphertext")
	if status, body := r.post(t, "/v1/records", revoke); status != 200 { // again: nothing happens
		t.Fatal(status, body)
	}
	// The owners publish a set and a key in the folder.
	r.Republish(t, nil, "operations")
	r.NewKey(t, "support-agent")
	if err := r.Reload(false); err != nil {
		t.Fatal(err)
	}
	custodian.want(t, "set 2", "workload-key")
	gateway.want(t, "set 2", "workload-key")
	late := r.stream(t, r.ask(t, "g1", nil))
	for _, lines := range []*bufio.Reader{lines, bufio.NewReader(late.Body)} { // no other process gets the ciphertext
		for issued, beaten := 0, false; issued < 3 || !beaten; {
			frame, err := feed.ReadFrame(lines)
			if err != nil || frame.Sealed != nil {
				t.Fatalf("frame %+v, %v", frame, err)
			}
			if _, kind, err := feed.ParseRecord(frame.Record); err == nil && kind == "workload-key" {
				issued++
			}
			beaten = frame.Heartbeat != nil
		}
	}
	if want := "publish issue issue revoke publish publish issue"; r.book.types() != want {
		t.Errorf("entered %q, want %q", r.book.types(), want)
	}
	e := r.book.entries[3]
	env, _, err := feed.ParseRecord(revoke)
	if err != nil {
		t.Fatal(err)
	}
	sum := env.ID()
	want := entry.Entry{
		Type: entry.Revoke, Workload: "research-agent", Unit: "research", Tenant: e.Tenant, Actor: []string{"ada"}, Proof: "post",
		Reason: "revocation sha256:" + hex.EncodeToString(sum[:]), Record: hex.EncodeToString(sum[:]), Estate: e.Estate,
	}
	if diff := gocmp.Diff(want, e); diff != "" || e.Tenant == "" || len(e.Estate) != 64 {
		t.Error(diff)
	}

	// After a restart everything is there, nothing is entered twice, and the epoch has risen.
	again := newRig(t, r.Estate, state)
	_, custodian = again.follow(t, "c1")
	custodian.want(t, "set 2", "workload-key", "workload-key", "workload-key", "revocation", "handover ciphertext")
	if again.epoch() != r.epoch()+1 || again.book.types() != "" {
		t.Errorf("epoch %d after %d, entered %q", again.epoch(), r.epoch(), again.book.types())
	}
	if again.Status().Sum != r.Status().Sum {
		t.Error("the records differ after the restart")
	}
}

// A handover that a newer version supersedes is sent to nobody any more and leaves memory and database, whichever came first; it stays known, so that
// it does not come back.
func TestSupersededHandovers(t *testing.T) {
	state := t.TempDir()
	r := newRig(t, estatetest.New(t), state)
	for _, h := range []struct {
		version int64
		text    string
	}{{1, "one"}, {3, "three"}, {2, "two"}, {1, "one"}} {
		if status, body := r.post(t, "/v1/handovers", r.handoverOf(t, h.version, h.text)); status != 200 {
			t.Fatal(h, status, body)
		}
	}
	if status, _ := r.post(t, "/v1/handovers", r.handoverOf(t, 1, "another")); status != 409 {
		t.Errorf("another content for a version that is over: %d", status)
	}
	_, c := r.follow(t, "c1")
	c.want(t, "set 1", "workload-key", "workload-key", "handover three")
	again := newRig(t, r.Estate, state)
	if n := len(again.handed); n != 1 {
		t.Errorf("%d handovers after a restart", n)
	}
	_, c = again.follow(t, "c1")
	c.want(t, "set 1", "workload-key", "workload-key", "handover three")
	if status, body := again.post(t, "/v1/handovers", again.handoverOf(t, 2, "two")); status != 200 {
		t.Fatal(status, body)
	}
	_, c = again.follow(t, "c1")
	c.want(t, "set 1", "workload-key", "workload-key", "handover three")
	if got, want := r.book.types()+" "+again.book.types(), "publish issue issue publish publish publish "; got != want {
		t.Errorf("entered %q, want %q", got, want)
	}
}

// A workload key whose time is over is not published by who starts, nor taken.
func TestKeysThatAreOver(t *testing.T) {
	e := estatetest.New(t, estatetest.At(time.Now().Add(-72*time.Hour).Truncate(time.Second)), estatetest.Lives(estate.Lives{Statements: 200 * time.Hour, Lock: 200 * time.Hour}))
	r := newRig(t, e, t.TempDir())
	if n := r.Status().Records; n != 0 || r.book.types() != "publish" {
		t.Errorf("%d records, entered %q", n, r.book.types())
	}
	_, env, err := estate.NewKey("demo", "support-agent", e.Now, time.Hour, e.Ada)
	if err != nil {
		t.Fatal(err)
	}
	file, err := statement.Canonical(env)
	if err != nil {
		t.Fatal(err)
	}
	if status, body := r.post(t, "/v1/records", file); status != 403 || !strings.Contains(body, "over") {
		t.Errorf("%d %s", status, body)
	}
}

// Nothing is passed on before its entry is durable.
func TestEntryGates(t *testing.T) {
	r := newRig(t, estatetest.New(t), t.TempDir())
	_, h := r.follow(t, "c1")
	h.want(t, "set 1", "workload-key", "workload-key")
	r.book.mu.Lock()
	hold := make(chan struct{})
	r.book.hold = hold
	r.book.mu.Unlock()
	answered := make(chan int)
	go func() {
		status, _ := r.post(t, "/v1/records", r.revocation(t, 1))
		answered <- status
	}()
	<-r.book.waiting
	number := r.Status().Number
	for r.Status().Number < number+3 { // three heartbeats pass by
		time.Sleep(time.Millisecond)
	}
	select {
	case s := <-h:
		t.Fatalf("%s was passed on before its entry was durable", s)
	case s := <-answered:
		t.Fatalf("answered %d before the entry was durable", s)
	default:
	}
	close(hold)
	h.want(t, "revocation")
	if s := <-answered; s != 200 {
		t.Errorf("answered %d", s)
	}
}

// A broken ledger stops what opens, never what closes; what it stopped is published when it works again.
func TestBrokenLedger(t *testing.T) {
	r := newRig(t, estatetest.New(t), t.TempDir())
	_, h := r.follow(t, "c1")
	h.want(t, "set 1", "workload-key", "workload-key")
	r.book.mu.Lock()
	r.book.broken = ledger.ErrFull
	r.book.mu.Unlock()
	_, env, err := estate.NewKey(r.Estate.Set.Charter.Estate, "support-agent", r.Now, time.Hour, r.Ada)
	if err != nil {
		t.Fatal(err)
	}
	key, err := statement.Canonical(env)
	if err != nil {
		t.Fatal(err)
	}
	if status, body := r.post(t, "/v1/records", key); status != 503 || !strings.Contains(body, "not published") {
		t.Errorf("a key with a full ledger: %d %s", status, body)
	}
	if status, body := r.post(t, "/v1/records", r.revocation(t, 1)); status != 200 {
		t.Errorf("a revocation with a full ledger: %d %s", status, body)
	}
	h.want(t, "revocation")
	r.book.mu.Lock()
	r.book.broken = nil
	r.book.mu.Unlock()
	if err := r.Reload(false); err != nil {
		t.Fatal(err)
	}
	h.want(t, "workload-key")
	if want := "publish issue issue revoke issue"; r.book.types() != want {
		t.Errorf("entered %q, want %q", r.book.types(), want)
	}
}

func TestRefusals(t *testing.T) {
	r := newRig(t, estatetest.New(t), t.TempDir())
	mallory, err := estate.NewSigner("ada")
	if err != nil {
		t.Fatal(err)
	}
	revocation := statement.Revocation{Estate: r.Estate.Set.Charter.Estate, Signer: "ada", Number: 1, Target: statement.Target{Kind: "workload", ID: "research-agent"}, Reason: "test", Time: r.Now}
	open := revocation
	open.Open = true
	swapped := strings.Replace(string(r.handover(t, "one")), `"sealed":"b25l"`, `"sealed":"dHdv"`, 1)
	if status, _ := r.post(t, "/v1/handovers", []byte(swapped)); status != 400 {
		t.Errorf("swapped ciphertext: %d", status)
	}
	if status, _ := r.post(t, "/v1/handovers", r.handover(t, "one")); status != 200 {
		t.Fatal(status)
	}
	for name, c := range map[string]struct {
		path, body string
		want       int
	}{
		"empty":                         {"/v1/records", "", 400},
		"not a record":                  {"/v1/records", "{}", 400},
		"too large":                     {"/v1/records", strings.Repeat(" ", feed.MaxRecord+1), 413},
		"unknown kind":                  {"/v1/records", string(r.record(t, "wish", map[string]string{}, r.Ada)), 400},
		"heartbeat":                     {"/v1/records", string(r.record(t, "heartbeat", map[string]string{}, r.Ada)), 400},
		"unknown signer":                {"/v1/records", string(r.record(t, "revocation", revocation, mallory)), 403},
		"not the owner":                 {"/v1/records", string(r.record(t, "revocation", revocation, r.Bea)), 403},
		"reopened by one":               {"/v1/records", string(r.record(t, "revocation", open, r.Ada)), 403},
		"handover of nothing known":     {"/v1/records", string(r.record(t, "handover", statement.Handover{Credential: "x"}, r.Cora)), 403},
		"handover not a frame":          {"/v1/handovers", "{", 400},
		"handover of nothing":           {"/v1/handovers", "{}", 400},
		"same version, another content": {"/v1/handovers", string(r.handover(t, "two")), 409},
		"set by post":                   {"/v1/handovers", `{"set":{"a":"YQ=="}}`, 400},
	} {
		status, body := r.post(t, c.path, []byte(c.body))
		if status != c.want || !strings.Contains(body, `"error"`) {
			t.Errorf("%s: %d %s, want %d", name, status, body, c.want)
		}
	}
	if want := "publish issue issue publish"; r.book.types() != want {
		t.Errorf("entered %q, want %q", r.book.types(), want)
	}
	resp, err := http.Get(r.url + "/v1/records")
	if err != nil || resp.StatusCode != 405 {
		t.Errorf("GET of records: %v %v", resp, err)
	}
}

// A refused set leaves the older one in force, with the reason in the status.
func TestRefusedSetKeepsTheOld(t *testing.T) {
	r := newRig(t, estatetest.New(t), t.TempDir())
	r.Republish(t, nil, "operations")
	file := filepath.Join(r.Dir.Signed(), "operations", "2", "operations.yaml")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, append(b, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
	r.look(true)
	if s := r.Status(); s.Lock != 1 || !strings.Contains(s.Refusal, "operations/2/operations.yaml") {
		t.Errorf("status %+v", s)
	}
	if err := os.WriteFile(file, b, 0o644); err != nil {
		t.Fatal(err)
	}
	r.look(true)
	if s := r.Status(); s.Lock != 2 || s.Refusal != "" {
		t.Errorf("status %+v", s)
	}
	// The folder is restored to an earlier state: refused, also by the next run.
	if err := os.RemoveAll(filepath.Join(r.Dir.Signed(), "lock", "2")); err != nil {
		t.Fatal(err)
	}
	r.look(true)
	if s := r.Status(); s.Lock != 2 || s.Refusal == "" {
		t.Errorf("status %+v", s)
	}
	key, err := note.NewSigner(r.Signer("feed", "a1"))
	if err != nil {
		t.Fatal(err)
	}
	db, err := r.cfg.openStore(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	next, err := open(&r.cfg, r.Pin, db, key, slog.New(slog.DiscardHandler), &metrics.Registry{})
	if err != nil {
		t.Fatal(err)
	}
	if err := next.Reload(true); !errors.Is(err, statement.ErrRefused) {
		t.Errorf("the next run took the earlier state: %v", err)
	}
}

// A set under which a published closing would not hold is not put in force: whoever starts anew would serve what was closed.
func TestSetsKeepClosings(t *testing.T) {
	carl, err := estate.NewSigner("carl")
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, estatetest.New(t, estatetest.With(carl), estatetest.Edit(func(p *estate.Plan) {
		u := p.Charter.Roles.Units["research"]
		u.Lifecycle = append(u.Lifecycle, "carl")
		p.Charter.Roles.Units["research"] = u
	})), t.TempDir())
	env, err := estate.Seal("revocation", statement.Revocation{Estate: "demo", Signer: "cora", Number: 1, Target: statement.Target{Kind: "credential", ID: "research-openai"}, Reason: "test", Time: r.Now}, r.Cora)
	if err != nil {
		t.Fatal(err)
	}
	file, err := statement.Canonical(env)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Take(&feed.Frame{Record: file}, "post"); err != nil {
		t.Fatal(err)
	}
	r.Republish(t, func(p *estate.Plan) { // the folder has no such record
		u := p.Charter.Roles.Units["research"]
		u.Lifecycle = []string{"carl"}
		p.Charter.Roles.Units["research"] = u
		for i := range p.Custody["research"].Credentials {
			p.Custody["research"].Credentials[i].Owner = "carl"
		}
	}, "charter", "custody-research")
	r.look(true)
	if s := r.Status(); s.Lock != 1 || !strings.Contains(s.Refusal, "rule closing") {
		t.Errorf("status %+v", s)
	}
}

// A follower that does not keep up loses its stream and nobody else does.
func TestSlowFollowerIsDropped(t *testing.T) {
	r := newRig(t, estatetest.New(t), t.TempDir())
	var dropped []string
	join := func(name string) *follower {
		ask, key, err := feed.OpenAsk(r.ask(t, "g1", nil), r.Authority.Set(), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		f, _, err := r.join(ask, key, func() { dropped = append(dropped, name) })
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	join("slow")
	quick := join("quick")
	for range backlog + 1 {
		if err := r.beat(); err != nil {
			t.Fatal(err)
		}
		<-quick.lines
	}
	if diff := gocmp.Diff([]string{"slow"}, dropped); diff != "" || r.Status().Followers != 1 || r.count.dropped.Value() != 1 {
		t.Errorf("%s %+v", diff, r.Status())
	}
}

// More followers than the limit get 503, and a place that becomes free is given again.
func TestFollowersAreBounded(t *testing.T) {
	r := newRig(t, estatetest.New(t), t.TempDir())
	r.limit = 1
	first := r.stream(t, r.ask(t, "g1", nil))
	if second := r.stream(t, r.ask(t, "c1", nil)); second.StatusCode != 503 || second.Header.Get("Retry-After") == "" {
		t.Errorf("second of one: %v", second)
	}
	first.Body.Close()
	for r.Status().Followers > 0 {
		time.Sleep(time.Millisecond)
	}
	if third := r.stream(t, r.ask(t, "c1", nil)); third.StatusCode != 200 {
		t.Errorf("after the first has gone: %v", third)
	}
}

// Who takes one process and opens every stream with its key keeps no other process from its news.
func TestStreamsOfOneProcessMakeRoom(t *testing.T) {
	r := newRig(t, estatetest.New(t), t.TempDir())
	r.limit = 3
	for range r.limit {
		if one := r.stream(t, r.ask(t, "g1", nil)); one.StatusCode != 200 {
			t.Fatal(one)
		}
	}
	if more := r.stream(t, r.ask(t, "g1", nil)); more.StatusCode != 503 {
		t.Errorf("a stream more of the one that has all: %v", more)
	}
	if other := r.stream(t, r.ask(t, "c1", nil)); other.StatusCode != 200 || r.Status().Followers != r.limit {
		t.Errorf("the custodian's: %v, %d followers", other, r.Status().Followers)
	}
}

// Only a process that the charter has a log key for is told of the estate, once for each request, and as itself.
func TestStreamIsForTheEstatesProcesses(t *testing.T) {
	r := newRig(t, estatetest.New(t, estatetest.Service("log", "g2")), t.TempDir())
	if status, body := r.post(t, "/v1/handovers", r.handover(t, "ciphertext")); status != 200 {
		t.Fatal(status, body)
	}
	as := func(signer string, change func(*feed.Ask)) string {
		return r.ask(t, signer, change)
	}
	custodian := func(a *feed.Ask) { a.Process = "c1" }
	used := as("c1", nil)
	if first := r.stream(t, used); first.StatusCode != 200 {
		t.Fatal(first)
	}
	stranger, err := (&feed.Ask{Challenge: r.stream(t, "").Header.Get(feed.ChallengeHeader), Estate: "demo", Process: "c1", Time: time.Now()}).Header(estatetest.New(t).Endorse("c1"))
	if err != nil {
		t.Fatal(err)
	}
	for name, header := range map[string]string{
		"not base64": "*", "not an envelope": "e30=", "a stranger": stranger, "a replay": used,
		"a gateway for a custodian": as("g1", custodian),
		"nobody of the charter":     as("g1", func(a *feed.Ask) { a.Process = "mallory" }),
		"another estate":            as("c1", func(a *feed.Ask) { a.Estate = "other" }),
		"too old":                   as("c1", func(a *feed.Ask) { a.Time = time.Now().Add(-2 * feed.AskLife) }),
		"too new":                   as("c1", func(a *feed.Ask) { a.Time = time.Now().Add(2 * feed.AskLife) }),
	} {
		resp := r.stream(t, header)
		b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		if resp.StatusCode != 403 || err != nil || !bytes.Contains(b, []byte("no stream")) {
			t.Errorf("%s: %d %s %v", name, resp.StatusCode, b, err)
		}
	}
	for name, header := range map[string]string{
		"nobody":                      "",
		"no challenge":                as("c1", func(a *feed.Ask) { a.Challenge = "" }),
		"the challenge of another":    as("c1", func(a *feed.Ask) { a.Challenge = replay.New(1).Nonce(time.Now()) }),
		"a challenge that is changed": as("c1", func(a *feed.Ask) { a.Challenge = strings.ToUpper(a.Challenge) }),
	} {
		resp := r.stream(t, header)
		if resp.StatusCode != 401 || resp.Header.Get(feed.ChallengeHeader) == "" {
			t.Errorf("%s: %s", name, resp.Status)
		}
	}
	// A signature over another type of payload is no request.
	payload := fmt.Appendf(nil, `{"estate":"demo","nonce":"0123456789012345678901","process":"c1","records":"","time":%q}`, time.Now().Format(time.RFC3339))
	env := &statement.Envelope{PayloadType: feed.HeartbeatType, Payload: payload}
	if env.Signatures, err = r.Endorse("c1")(env.PayloadType, payload); err != nil {
		t.Fatal(err)
	}
	file, err := statement.Canonical(env)
	if err != nil {
		t.Fatal(err)
	}
	if resp := r.stream(t, base64.StdEncoding.EncodeToString(file)); resp.StatusCode != 403 {
		t.Error("another type:", resp.Status)
	}

	// Whose key leaves the charter loses his stream.
	leaves := r.stream(t, as("g2", nil))
	stays := r.stream(t, as("g1", nil))
	if leaves.StatusCode != 200 || stays.StatusCode != 200 {
		t.Fatal(leaves.Status, stays.Status)
	}
	r.Republish(t, func(p *estate.Plan) {
		p.Charter.ServiceKeys = slices.DeleteFunc(p.Charter.ServiceKeys, func(k statement.ServiceKey) bool { return k.Process == "g2" })
	}, "charter")
	if err := r.Reload(true); err != nil {
		t.Fatal(err)
	}
	if n := r.Status().Followers; n != 2 { // the custodian's and the one that stays
		t.Fatalf("%d followers", n)
	}
	if _, err := io.Copy(io.Discard, leaves.Body); err != nil { // it ends
		t.Log(err)
	}
	if after := r.stream(t, as("g2", nil)); after.StatusCode != 403 {
		t.Error(after.Status)
	}
}

// TestRequestIsGoodAtOneAuthority: a request for the stream that was seen on the way is good neither at the authority that takes over, nor at the same one after a
// restart, nor at one beside it.
func TestRequestIsGoodAtOneAuthority(t *testing.T) {
	e, state := estatetest.New(t), t.TempDir()
	first, beside := newRig(t, e, state), newRig(t, e, t.TempDir())
	seen := []string{first.ask(t, "c1", nil), first.ask(t, "c1", nil), first.ask(t, "c1", nil)}
	if used := first.stream(t, seen[0]); used.StatusCode != 200 {
		t.Fatal(used.Status)
	}
	refuses := func(what string, r *rig) {
		t.Helper()
		for i, header := range seen {
			if resp := r.stream(t, header); resp.StatusCode != 401 {
				t.Errorf("%s: request %d: %s", what, i, resp.Status)
			}
		}
		if own := r.stream(t, r.ask(t, "c1", nil)); own.StatusCode != 200 {
			t.Errorf("%s: its own: %s", what, own.Status)
		}
	}
	refuses("an authority beside it", beside)
	first.resign()
	if after := first.stream(t, seen[1]); after.StatusCode != 503 {
		t.Errorf("one that stands by: %s", after.Status)
	}
	refuses("the one that took over, or the same after a restart", newRig(t, e, state))
}

func TestConfigIsChecked(t *testing.T) {
	good := App().Default
	good.ID, good.StateDir, good.TilesDir, good.Estate, good.FeedKey, good.LogKey = "a1", "s", "t", "e", "f", "l"
	good.EstateTrust = Trust{Estate: "demo", RootKeys: []string{"k"}}
	good.Witnesses = []Witness{{URL: "http://127.0.0.1:7802"}}
	if err := good.check(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Config){
		"id": func(c *Config) { c.ID = "" }, "state": func(c *Config) { c.StateDir = "" }, "trust": func(c *Config) { c.EstateTrust.RootKeys = nil },
		"witnesses": func(c *Config) { c.Witnesses = nil }, "followers": func(c *Config) { c.Followers = 0 },
	} {
		bad := good
		change(&bad)
		if bad.check() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// BenchmarkFanOut measures from the POST of a record to its arrival at the last of 1,000 bare streams: the authority's part.
func BenchmarkFanOut(b *testing.B) {
	r := newRig(b, estatetest.New(b), b.TempDir())
	var all []heard
	for range 1000 {
		resp := r.stream(b, r.ask(b, "g1", nil))
		h := make(heard, 1000)
		all = append(all, h)
		go func() {
			lines := bufio.NewReader(resp.Body)
			for {
				line, err := lines.ReadSlice('\n')
				if err != nil && err != bufio.ErrBufferFull {
					return
				}
				if bytes.HasPrefix(line, []byte(`{"record"`)) {
					h <- "record"
				}
			}
		}()
	}
	for _, h := range all {
		h.want(b, "record", "record")
	}
	measure(b, r, all)
}

// BenchmarkRecord measures from the POST of a record to the callback of the last of 1,000 followers, all in this process:
// each verifies the record, and every heartbeat.
func BenchmarkRecord(b *testing.B) {
	r := newRig(b, estatetest.New(b), b.TempDir())
	var all []heard
	for range 1000 {
		_, h := r.follow(b, "g1")
		all = append(all, h)
	}
	for _, h := range all {
		h.want(b, "set 1", "workload-key", "workload-key")
	}
	measure(b, r, all)
}

func measure(b *testing.B, r *rig, all []heard) {
	var median, last []time.Duration
	for number := int64(1); b.Loop(); number++ {
		record := r.revocation(b, number)
		done := make(chan time.Duration, len(all))
		start := time.Now()
		for _, h := range all {
			go func() { <-h; done <- time.Since(start) }()
		}
		if status, body := r.post(b, "/v1/records", record); status != 200 {
			b.Fatal(status, body)
		}
		var times []time.Duration
		for range all {
			times = append(times, <-done)
		}
		slices.Sort(times)
		median, last = append(median, times[len(times)/2]), append(last, times[len(times)-1])
	}
	slices.Sort(median)
	slices.Sort(last)
	b.ReportMetric(float64(median[len(median)/2].Microseconds())/1000, "ms-median-follower")
	b.ReportMetric(float64(last[len(last)/2].Microseconds())/1000, "ms-last-follower")
}

// Who has a token closes it: every follower hears of it, in the authority's own name, with its entry, and after a restart too.
func TestGivenUpToken(t *testing.T) {
	e := estatetest.New(t, estatetest.Service("token", "a1"), estatetest.Edit(func(p *estate.Plan) {
		p.Charter.Authority.Issuer = "https://authority.example"
		for i := range p.Charter.Workloads {
			p.Charter.Workloads[i].Identities = append(p.Charter.Workloads[i].Identities, statement.Identity{Issuer: statement.IssuerAuthority})
		}
	}))
	state := t.TempDir()
	r := newRig(t, e, state)
	_, h := r.follow(t, "c1")
	h.want(t, "set 1", "workload-key", "workload-key")
	post := func(path string, params ...string) map[string]any {
		t.Helper()
		f := url.Values{}
		for i := 0; i < len(params); i += 2 {
			f.Set(params[i], params[i+1])
		}
		resp, err := http.PostForm(r.url+path, f)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var v map[string]any
		if err := json.NewDecoder(resp.Body).Decode(&v); err != nil && err != io.EOF || resp.StatusCode != 200 {
			t.Fatalf("%s: %v %v", resp.Status, v, err)
		}
		return v
	}
	for number := range 3 {
		got := post(token.Path, "grant_type", "urn:ietf:params:oauth:grant-type:token-exchange",
			"subject_token", string(e.Keys["research-agent"].Reveal()), "subject_token_type", "urn:reeve:params:oauth:token-type:workload-key")
		for range 2 { // again: nothing happens
			post(token.RevokePath, "token", got["access_token"].(string))
		}
		h.want(t, "revocation")
		issued, closed := r.book.entries[len(r.book.entries)-2], r.book.entries[len(r.book.entries)-1]
		if issued.Type != entry.Exchange || closed.Type != entry.Revoke || !slices.Equal(closed.Actor, []string{"a1"}) {
			t.Errorf("entered %+v, %+v", issued, closed)
		}
		r.mu.Lock()
		record := r.issue.closed[statement.Target{Kind: "token", ID: issued.Lease}]
		r.mu.Unlock()
		if record == nil || record.Signer != "a1" || record.Number != int64(number+1) {
			t.Errorf("closed by %+v", record)
		}
	}
	// One workload's are bounded for as long as they could live; another's are its own.
	give := func(jti, workload string) error { return r.closeToken(tokenKey(t, e), jti, workload) }
	now := time.Now()
	r.mu.Lock()
	r.issue.given[givenUp+"research-agent"] = slices.Repeat([]time.Time{now}, maxGivenUp)
	r.mu.Unlock()
	if err := give("more", "research-agent"); !errors.Is(err, token.ErrAway) {
		t.Errorf("over the bound: %v", err)
	}
	if err := give("other", "support-agent"); err != nil {
		t.Errorf("another workload's: %v", err)
	}
	r.mu.Lock()
	r.issue.given[givenUp+"research-agent"] = slices.Repeat([]time.Time{now.Add(-16 * time.Minute)}, maxGivenUp)
	r.mu.Unlock()
	if err := give("later", "research-agent"); err != nil {
		t.Errorf("after they ended: %v", err)
	}
	again := newRig(t, e, state)
	if got := len(again.issue.given[givenUp+"research-agent"]); got != 4 {
		t.Errorf("after a restart %d are counted", got)
	}
	if n := again.issue.numbers["a1"]; n != 5 || len(again.issue.closed) != 5 {
		t.Errorf("after a restart the last number is %d", n)
	}
}

// A key ends at the token endpoint when it does at custodians: with who signed it, however he leaves.
func TestKeyOfOneWhoLeftIsNotExchanged(t *testing.T) {
	r := newRig(t, estatetest.New(t, estatetest.Service("token", "a1"), estatetest.Edit(func(p *estate.Plan) {
		p.Charter.Authority.Issuer = "https://authority.example"
		for i := range p.Charter.Workloads {
			p.Charter.Workloads[i].Identities = append(p.Charter.Workloads[i].Identities, statement.Identity{Issuer: statement.IssuerAuthority})
		}
	})), t.TempDir())
	_, h := r.follow(t, "c1")
	h.want(t, "set 1", "workload-key", "workload-key")
	exchange := func() int {
		t.Helper()
		resp, err := http.PostForm(r.url+token.Path, url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"},
			"subject_token": {string(r.Keys["research-agent"].Reveal())}, "subject_token_type": {"urn:reeve:params:oauth:token-type:workload-key"}})
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	if got := exchange(); got != http.StatusOK {
		t.Fatalf("before: %d", got)
	}
	left := r.record(t, "revocation", statement.Revocation{
		Estate: r.Estate.Set.Charter.Estate, Signer: "ada", Number: 1, Target: statement.Target{Kind: "person", ID: "ada"}, Reason: "left", Time: r.Now}, r.Ada)
	if status, text := r.post(t, "/v1/records", left); status != http.StatusOK {
		t.Fatal(status, text)
	}
	if got := exchange(); got != http.StatusBadRequest {
		t.Errorf("a key that ada signed, who has left: %d", got)
	}
}

// Who has left by a signed revocation has deputies from that instant, before a charter says so: what they hand over is published and passed on,
// in the folder too, where it was refused as long as she was there.
func TestDeputyOfOneWhoLeftHandsOver(t *testing.T) {
	dora, err := estate.NewSigner("dora")
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, estatetest.New(t, estatetest.Edit(func(p *estate.Plan) {
		for i := range p.Charter.People {
			if c := p.Charter.People[i]; c.ID == "cora" {
				p.Charter.People[i].Deputies = []string{"dora"}
				c.ID, c.Name, c.Keys = "dora", "Dora", []statement.Key{dora.Key()}
				p.Charter.People = append(p.Charter.People, c)
			}
		}
	})), t.TempDir())
	if status, text := r.post(t, "/v1/handovers", r.handoverBy(t, 2, "early", dora)); status != http.StatusForbidden && status != http.StatusUnprocessableEntity {
		t.Fatalf("a deputy's handover while the owner is there: %d %s", status, text)
	}
	left := r.record(t, "revocation", statement.Revocation{
		Estate: r.Estate.Set.Charter.Estate, Signer: "ada", Number: 1, Target: statement.Target{Kind: "person", ID: "cora"}, Reason: "left", Time: r.Now}, r.Ada)
	if status, text := r.post(t, "/v1/records", left); status != http.StatusOK {
		t.Fatal(status, text)
	}
	if status, text := r.post(t, "/v1/handovers", r.handoverBy(t, 2, "the deputy's", dora)); status != http.StatusOK {
		t.Fatalf("a deputy's handover once the owner has left: %d %s", status, text)
	}
	_, c := r.follow(t, "c1", "cora")
	c.want(t, "set 1", "workload-key", "workload-key", "revocation", "handover the deputy's")
}

// Refusals of who proved nothing are one entry a second, the same refusal of one workload too.
func TestRefusalsAreTogether(t *testing.T) {
	var got []entry.Entry
	r := refusals{enter: func(e *entry.Entry) { got = append(got, *e) }}
	for range 5 {
		r.take(&entry.Entry{Type: entry.Deny, Reason: "token: invalid_client", Count: 1})
		r.take(&entry.Entry{Type: entry.Deny, Workload: "w", Reason: "token: closed"})
	}
	r.flush()
	r.flush()
	slices.SortFunc(got, func(a, b entry.Entry) int {
		return cmp.Or(strings.Compare(a.Workload, b.Workload), int(a.Count-b.Count))
	})
	want := []entry.Entry{
		{Type: entry.Deny, Reason: "token: invalid_client", Count: 5},
		{Type: entry.Deny, Workload: "w", Reason: "token: closed"},
		{Type: entry.Deny, Workload: "w", Reason: "token: closed", Count: 4},
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	got = nil
	for i := range 10 * maxKinds {
		r.take(&entry.Entry{Type: entry.Deny, Workload: fmt.Sprint(i), Reason: "x"})
	}
	r.flush()
	if len(got) > maxKinds+1 {
		t.Errorf("%d entries in a second", len(got))
	}
}

// Evidence is entered once, and published to nobody: not in the journal's records, not in the sum, not to followers.
func TestEvidence(t *testing.T) {
	state := t.TempDir()
	r := newRig(t, estatetest.New(t), state)
	_, h := r.follow(t, "c1")
	h.want(t, "set 1", "workload-key", "workload-key")
	before := r.Status()
	file := r.record(t, "evidence", statement.Evidence{Estate: "demo", Kind: "drill", Subject: "S1", SHA256: strings.Repeat("ab", 32), Created: r.Now}, r.Bea)
	for range 2 {
		if status, body := r.post(t, "/v1/records", file); status != http.StatusOK {
			t.Fatalf("%d %s", status, body)
		}
	}
	env, _, err := feed.ParseRecord(file)
	if err != nil {
		t.Fatal(err)
	}
	id := env.ID()
	r.book.mu.Lock()
	var attested []entry.Entry
	for _, e := range r.book.entries {
		if e.Type == entry.Attest {
			attested = append(attested, e)
		}
	}
	r.book.mu.Unlock()
	if len(attested) != 1 || attested[0].Reason != "drill" || attested[0].Record != hex.EncodeToString(id[:]) || !slices.Equal(attested[0].Actor, []string{"bea"}) {
		t.Errorf("entered %+v", attested)
	}
	if after := r.Status(); after.Records != before.Records || after.Sum != before.Sum {
		t.Errorf("%d records before, %d after", before.Records, after.Records)
	}
	if status, _ := r.post(t, "/v1/records", r.revocation(t, 1)); status != http.StatusOK {
		t.Fatal(status)
	}
	h.want(t, "revocation") // and nothing before it
	r.resign()
	again := newRig(t, r.Estate, state)
	if status, body := again.post(t, "/v1/records", file); status != http.StatusOK || strings.Contains(again.book.types(), "attest") {
		t.Errorf("after a start: %d %s, entered %s", status, body, again.book.types())
	}
	stranger, err := estate.NewSigner("bea")
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][]byte{
		"a stranger": r.record(t, "evidence", statement.Evidence{Estate: "demo", Kind: "drill", Subject: "S2", SHA256: strings.Repeat("ab", 32), Created: r.Now}, stranger),
		"no hash":    r.record(t, "evidence", statement.Evidence{Estate: "demo", Kind: "drill", Subject: "S1", SHA256: "ab", Created: r.Now}, r.Bea),
		"no kind":    r.record(t, "evidence", statement.Evidence{Estate: "demo", Kind: "a\nb", Subject: "S1", SHA256: strings.Repeat("ab", 32), Created: r.Now}, r.Bea),
		"later":      r.record(t, "evidence", statement.Evidence{Estate: "demo", Kind: "drill", Subject: "S1", SHA256: strings.Repeat("ab", 32), Created: r.Now.Add(time.Hour)}, r.Bea),
		"of another": r.record(t, "evidence", statement.Evidence{Estate: "other", Kind: "drill", Subject: "S1", SHA256: strings.Repeat("ab", 32), Created: r.Now}, r.Bea),
	} {
		if status, _ := r.post(t, "/v1/records", bad); status != http.StatusForbidden {
			t.Errorf("%s: %d", name, status)
		}
	}
}
