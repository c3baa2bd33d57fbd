package feed

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/sumdb/note"

	"github.com/reevehq/reeve/internal/durable"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/statement"
)

// stage is an authority that says what a test tells it to, with the genuine feed key: a captured one.
type stage struct {
	*estatetest.Estate
	url   string
	conns chan *conn
	key   note.Signer
	beat  Heartbeat    // the next one
	later atomic.Int64 // nanoseconds that followers' clocks are ahead
	other atomic.Int64 // requests whose challenge is not taken, from now on
}

type conn struct {
	ask   *Ask
	err   error       // why an honest authority would have refused
	lines chan []byte // closed to hang up
}

func newStage(t *testing.T) *stage {
	e := estatetest.New(t)
	key, err := note.NewSigner(e.Signer("feed", "a1"))
	if err != nil {
		t.Fatal(err)
	}
	s := &stage{Estate: e, conns: make(chan *conn), key: key}
	s.beat = Heartbeat{Authority: "a1", Epoch: 1, Estate: e.Set.Charter.Estate, Sum: (&Records{}).Sum()}
	srv := httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(srv.Close)
	s.url = srv.URL
	return s
}

func (s *stage) serve(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get(AskHeader) == "" || s.other.Add(-1) >= 0 {
		w.Header().Set(ChallengeHeader, "a-challenge")
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	c := &conn{lines: make(chan []byte)}
	c.ask, _, c.err = OpenAsk(r.Header.Get(AskHeader), s.Set, time.Now().Add(time.Duration(s.later.Load())))
	select {
	case s.conns <- c:
	case <-r.Context().Done():
		return
	}
	w.(http.Flusher).Flush()
	for {
		select {
		case line, ok := <-c.lines:
			if !ok {
				return
			}
			w.Write(line)
			w.(http.Flusher).Flush()
		case <-r.Context().Done():
			return
		}
	}
}

// accept waits for the follower's next connection.
func (s *stage) accept(t *testing.T) *conn {
	t.Helper()
	select {
	case c := <-s.conns:
		return c
	case <-time.After(30 * time.Second):
		t.Fatal("the follower does not connect")
		return nil
	}
}

func (c *conn) send(t *testing.T, frames ...*Frame) {
	t.Helper()
	for _, f := range frames {
		c.raw(t, f.Encode())
	}
}

func (c *conn) raw(t *testing.T, line []byte) {
	t.Helper()
	select {
	case c.lines <- line:
	case <-time.After(30 * time.Second):
		t.Fatal("the follower has hung up")
	}
}

// heartbeat is the next one, after change.
func (s *stage) heartbeat(t *testing.T, change func(*Heartbeat)) *Frame {
	t.Helper()
	s.beat.Number++
	s.beat.Time = time.Now()
	h := s.beat
	if change != nil {
		change(&h)
	}
	env, err := h.Sign(s.key)
	if err != nil {
		t.Fatal(err)
	}
	return &Frame{Heartbeat: env}
}

// set is the frame of what is published now.
func (s *stage) set(t *testing.T) *Frame {
	t.Helper()
	trace := &Trace{From: s.Dir.Store(), Read: Files{}}
	if _, err := statement.Load(trace, s.Pin, nil, time.Now()); err != nil {
		t.Fatal(err)
	}
	f := &Frame{Set: trace.Read}
	s.announce(t, f)
	return f
}

// announce makes the next heartbeats name a set.
func (s *stage) announce(t *testing.T, f *Frame) {
	t.Helper()
	version, err := statement.Newest(f.Set, "lock")
	if err != nil {
		t.Fatal(err)
	}
	hash := sha256.Sum256(f.Set[fmt.Sprintf("lock/%d/manifest.json", version)])
	f.Published = s.publication(t, hash)
	s.beat.Lock, s.beat.LockHash, s.beat.SetSum = version, hex.EncodeToString(hash[:]), f.Set.Sum()
}

// publication shows that the authority's log has a lock.
func (s *stage) publication(t *testing.T, lock [sha256.Size]byte) *Publication {
	t.Helper()
	p := new(Publication)
	p.Entry, p.Checkpoint = s.Published(t, "a1", lock, "w1")
	return p
}

// revocation is a record by ada that closes the research workload.
func (s *stage) revocation(t *testing.T, number int64, by *estate.Signer) []byte {
	t.Helper()
	return s.record(t, "revocation", statement.Revocation{
		Estate: s.Set.Charter.Estate, Signer: "ada", Number: number, Target: statement.Target{Kind: "workload", ID: "research-agent"}, Reason: "test", Time: s.Now,
	}, by)
}

func (s *stage) record(t *testing.T, kind string, v any, by ...*estate.Signer) []byte {
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

// heard collects what a follower's callbacks were given.
type heard struct {
	mu    sync.Mutex
	items []string
	fail  error
}

func (h *heard) add(format string, args ...any) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fail == nil {
		h.items = append(h.items, fmt.Sprintf(format, args...))
	}
	return h.fail
}

func (h *heard) list() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.items...)
}

func (s *stage) config(t *testing.T, h *heard) Config {
	return Config{
		URLs: []string{s.url}, Pin: s.Pin, Dir: filepath.Join(t.TempDir(), "feed"), Process: "c1", Sign: s.Endorse("c1"), Skew: time.Minute, stall: time.Minute,
		OnSet:      func(set *statement.Set, _ statement.Store) error { return h.add("set %d", set.Lock.Version) },
		OnRecord:   func(r *statement.Record) error { return h.add("%s", r.Kind) },
		OnHandover: func(_ *statement.Envelope, ciphertext []byte) error { return h.add("handover %s", ciphertext) },
		Log:        slog.New(slog.NewTextHandler(testWriter{t}, nil)),
	}
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Logf("%s", bytes.TrimSpace(b))
	return len(b), nil
}

// follow starts a follower that ends before the test does.
func follow(t *testing.T, cfg Config) *Follower {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	f, err := Follow(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); f.Wait() })
	return f
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// counted waits until the stage's newest heartbeat counts.
func (s *stage) counted(t *testing.T, f *Follower) {
	t.Helper()
	await(t, fmt.Sprintf("heartbeat %d", s.beat.Number), func() bool { return f.Status().Number == s.beat.Number })
}

func TestFollow(t *testing.T) {
	s, h := newStage(t), &heard{}
	cfg := s.config(t, h)
	f := follow(t, cfg)
	if f.Age() != Unknown || f.Set() != nil {
		t.Errorf("before anything: age %s, set %v", f.Age(), f.Set())
	}
	c := s.accept(t)
	if c.err != nil {
		t.Fatal(c.err)
	}
	if c.ask.Lock != "" || c.ask.Records != s.beat.Sum || c.ask.Process != "c1" {
		t.Errorf("first asked %v", c.ask)
	}
	c.send(t, s.set(t), s.heartbeat(t, nil))
	s.counted(t, f)
	if age := f.Age(); age < 0 || age > 30*time.Second {
		t.Errorf("age %s", age)
	}

	// A record, a handover, then a heartbeat that names the record.
	var all Records
	revoke := s.revocation(t, 1, s.Ada)
	all.Add(sha256.Sum256(revoke))
	s.beat.Records, s.beat.Sum = all.Len(), all.Sum()
	sum := sha256.Sum256([]byte("ciphertext"))
	hand := s.record(t, "handover", statement.Handover{Estate: s.Set.Charter.Estate, Credential: "research-openai", Version: 1, Custodian: "c1", SHA256: hex.EncodeToString(sum[:]), Created: s.Now}, s.Cora)
	c.send(t, &Frame{Record: revoke}, &Frame{Record: hand, Sealed: []byte("ciphertext")}, s.heartbeat(t, nil))
	s.counted(t, f)

	// A newer set.
	s.Republish(t, func(p *estate.Plan) { p.Operations.Aliases = map[string]string{"small": "openai/demo-small"} }, "operations")
	c.send(t, s.set(t), s.heartbeat(t, nil))
	s.counted(t, f)
	want := []string{"set 1", "revocation", "handover ciphertext", "set 2"}
	if diff := cmp.Diff(want, h.list()); diff != "" {
		t.Error(diff)
	}
	if st := f.Status(); st.Lock != 2 || st.Authority != 2 || st.Records != 1 || st.Withheld != 0 || st.Gaps != nil || st.Refused != 0 || st.Err != "" {
		t.Errorf("status %+v", st)
	}

	// The connection ends: the next one says what need not be sent, and what is sent again is not passed on again.
	close(c.lines)
	c = s.accept(t)
	if c.err != nil {
		t.Fatal(c.err)
	}
	if hash := f.Set().LockHash; c.ask.Records != all.Sum() || c.ask.Lock != hex.EncodeToString(hash[:]) {
		t.Errorf("second asked %v", c.ask)
	}
	c.send(t, s.set(t), &Frame{Record: revoke}, &Frame{Record: hand, Sealed: []byte("ciphertext")}, s.heartbeat(t, nil))
	s.counted(t, f)
	if diff := cmp.Diff(want, h.list()); diff != "" {
		t.Error(diff)
	}
}

// A captured authority has the feed key and the wire. What it forges is refused, and the age does not profit.
// TestChallenge: a follower signs for the challenge that it was given, once more where the authority was restarted in between, and tells a person where no
// challenge is ever taken.
func TestChallenge(t *testing.T) {
	s := newStage(t)
	s.other.Store(1) // beside the first, which names none and takes one from it
	f := follow(t, s.config(t, &heard{}))
	if c := s.accept(t); c.err != nil || c.ask.Challenge != "a-challenge" {
		t.Fatalf("%+v, %v", c.ask, c.err)
	} else {
		s.other.Store(1 << 40)
		close(c.lines)
	}
	await(t, "what a person is told", func() bool { return strings.Contains(f.Status().Err, "takes none of the challenges") })
	for _, text := range []string{"", "a b", "é", strings.Repeat("a", 65), "a\"b"} {
		if isChallenge(text) {
			t.Errorf("%q is a challenge", text)
		}
	}
}

func TestCapturedAuthority(t *testing.T) {
	s, h := newStage(t), &heard{}
	cfg := s.config(t, h)
	f := follow(t, cfg)
	c := s.accept(t)
	one := s.set(t)
	s.Republish(t, nil, "operations")
	two := s.set(t)
	mallory, err := estate.NewSigner("ada")
	if err != nil {
		t.Fatal(err)
	}
	forged := Files{}
	for name, b := range two.Set {
		if forged[name] = b; filepath.Base(name) == "operations.yaml" {
			forged[name] = bytes.ReplaceAll(b, []byte("openai"), []byte("evilai"))
		}
	}
	stripped := Files{}
	for name, b := range two.Set {
		if stripped[name] = b; filepath.Base(name) == "signatures.json" {
			stripped[name] = []byte("[]")
		}
	}
	mixed := Files{}
	for name, b := range two.Set {
		if filepath.Dir(name) != "operations/2" {
			mixed[name] = b
		}
	}
	s.announce(t, one)
	c.send(t, one, s.heartbeat(t, nil))
	s.counted(t, f)
	replay := s.heartbeat(t, nil)
	c.send(t, replay)
	s.counted(t, f)

	beats := func(change func(*Heartbeat)) *Frame { return s.heartbeat(t, change) }
	other, _ := feedKey(t)
	foreign, err := (&s.beat).Sign(other)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte("ciphertext"))
	hand := statement.Handover{Estate: s.Set.Charter.Estate, Credential: "research-openai", Version: 1, Custodian: "c1", SHA256: hex.EncodeToString(sum[:]), Created: s.Now}
	for _, attack := range []struct {
		name  string
		frame *Frame
		why   string
	}{
		{"replayed heartbeat", replay, "a replay"},
		{"earlier epoch", beats(func(b *Heartbeat) { b.Epoch = 0; b.Number = 1000 }), "a replay"},
		{"heartbeat of another estate", beats(func(b *Heartbeat) { b.Estate = "other" }), "for estate"},
		{"heartbeat from the past", beats(func(b *Heartbeat) { b.Time = b.Time.Add(-2 * time.Minute) }), "clock"},
		{"heartbeat from the future", beats(func(b *Heartbeat) { b.Time = b.Time.Add(2 * time.Minute) }), "clock"},
		{"heartbeat that names a record which was withheld", beats(func(b *Heartbeat) { b.Records, b.Sum = 1, "ab" }), "records that did not all arrive"},
		{"heartbeat that names a set which was withheld", beats(func(b *Heartbeat) { b.Lock, b.LockHash, b.SetSum = 2, "cd", "ef" }), "set did not arrive"},
		{"heartbeat by another process", beats(func(b *Heartbeat) { b.Authority = "a2" }), "not signed by"},
		{"heartbeat with another key", &Frame{Heartbeat: foreign}, "not signed by"},
		{"forged set", &Frame{Set: forged}, "rule hash"},
		{"stripped signatures", &Frame{Set: stripped}, "rule author"},
		{"mixed set", &Frame{Set: mixed}, "rule missing"},
		{"empty set", &Frame{Set: Files{"x": nil}}, "no lock"},
		{"revocation signed by nobody known", &Frame{Record: s.revocation(t, 1, mallory)}, "rule signature"},
		{"revocation signed by another", &Frame{Record: s.revocation(t, 1, s.Bea)}, "who did not sign it"},
		{"heartbeat as a record", &Frame{Record: s.record(t, "heartbeat", map[string]string{}, s.Ada)}, "does not know records of kind"},
		{"not a record", &Frame{Record: []byte("{}")}, "malformed frame"},
		{"handover of another ciphertext", &Frame{Record: s.record(t, "handover", hand, s.Cora), Sealed: []byte("swapped")}, "not the one that was handed over"},
		{"handover by another", &Frame{Record: s.record(t, "handover", hand, s.Ada), Sealed: []byte("ciphertext")}, "rule right"},
	} {
		before := f.Status()
		c.send(t, attack.frame)
		await(t, "the refusal of: "+attack.name, func() bool { return f.Status().Refused == before.Refused+1 })
		after := f.Status()
		if after.Number != before.Number || after.Lock != before.Lock || after.Records != before.Records || !strings.Contains(after.Err, attack.why) {
			t.Errorf("%s: status was %+v, is %+v, want %q", attack.name, before, after, attack.why)
		}
	}
	// And the genuine goes on; then the older set is refused too.
	s.announce(t, two)
	c.send(t, two)
	c = s.accept(t) // for the records that it refused before
	c.send(t, s.heartbeat(t, nil))
	s.counted(t, f)
	refused := f.Status().Refused
	c.send(t, one)
	await(t, "the refusal of the older set", func() bool { return f.Status().Refused == refused+1 })
	if diff := cmp.Diff([]string{"set 1", "set 2"}, h.list()); diff != "" {
		t.Error(diff)
	}
}

// Withholding is what a captured authority can do. Whoever has the record by another way sees it.
func TestWithheldRecord(t *testing.T) {
	s, h := newStage(t), &heard{}
	f := follow(t, s.config(t, h))
	c := s.accept(t)
	c.send(t, s.set(t), s.heartbeat(t, nil))
	s.counted(t, f)
	if err := f.Offer(s.revocation(t, 2, s.Ada), "test"); err != nil {
		t.Fatal(err)
	}
	if err := f.Offer([]byte("{}"), "test"); !errors.Is(err, ErrFrame) {
		t.Errorf("offered rubbish: %v", err)
	}
	for _, connection := range []string{"same", "next"} {
		c.send(t, s.heartbeat(t, nil))
		s.counted(t, f)
		if st := f.Status(); st.Withheld != 1 || f.Age() == Unknown {
			t.Errorf("%s connection: status %+v, age %s", connection, st, f.Age())
		}
		close(c.lines)
		c = s.accept(t)
	}
	st := f.Status()
	if diff := cmp.Diff([]Gap{{"ada", 1, 1}}, st.Gaps); diff != "" {
		t.Error(diff)
	}
	// It is published after all, with the missing one.
	var all Records
	for n := int64(1); n <= 2; n++ {
		r := s.revocation(t, n, s.Ada)
		all.Add(sha256.Sum256(r))
		c.send(t, &Frame{Record: r})
	}
	s.beat.Sum = all.Sum()
	c.send(t, s.heartbeat(t, nil))
	s.counted(t, f)
	if st := f.Status(); st.Withheld != 0 || st.Gaps != nil || st.Records != 2 {
		t.Errorf("status %+v", st)
	}
	if diff := cmp.Diff([]string{"set 1", "revocation", "revocation"}, h.list()); diff != "" {
		t.Error(diff)
	}
}

// The own copy comes first, the authority may be away, and what it withholds after a restart stays in force.
func TestRestart(t *testing.T) {
	s, h := newStage(t), &heard{}
	cfg := s.config(t, h)
	ctx, cancel := context.WithCancel(context.Background())
	f, err := Follow(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.Republish(t, nil, "operations")
	two := s.set(t)
	c := s.accept(t)
	c.send(t, two, &Frame{Record: s.revocation(t, 1, s.Ada)}, &Frame{Record: s.revocation(t, 2, s.Ada)})
	await(t, "two records", func() bool { return f.Status().Records == 2 })
	cancel()
	f.Wait()

	for name, damage := range map[string]func(t *testing.T) int{
		"as it was": func(t *testing.T) int { return 2 },
		"torn last record": func(t *testing.T) int {
			b, err := os.ReadFile(filepath.Join(cfg.Dir, "records"))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(cfg.Dir, "records"), b[:len(b)-100], 0o600); err != nil {
				t.Fatal(err)
			}
			return 1
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(cfg.Dir)); err != nil {
				t.Fatal(err)
			}
			old := cfg.Dir
			defer func() { cfg.Dir = old }()
			cfg.Dir = dir
			records := damage(t)
			h.items = nil
			cfg.URLs = []string{"http://127.0.0.1:1"} // nobody there
			f := follow(t, cfg)
			if st := f.Status(); st.Lock != 2 || st.Records != records || f.Age() != Unknown {
				t.Errorf("status %+v, age %s", st, f.Age())
			}
			if got := len(h.list()); got != 1+records {
				t.Errorf("heard %v", h.list())
			}
		})
	}

	t.Run("older set is refused", func(t *testing.T) {
		old := newStage(t) // another estate altogether, then this one's older set
		h := &heard{}
		cfg := cfg
		cfg.URLs = []string{old.url}
		cfg.OnSet = func(set *statement.Set, _ statement.Store) error { return h.add("set %d", set.Lock.Version) }
		f := follow(t, cfg)
		c := old.accept(t)
		older := Files{}
		for name, b := range two.Set {
			if name[:6] != "lock/2" {
				older[name] = b
			}
		}
		c.send(t, old.set(t), &Frame{Set: older})
		await(t, "two refusals", func() bool { return f.Status().Refused == 2 })
		if diff := cmp.Diff([]string{"set 2"}, h.list()); diff != "" {
			t.Error(diff)
		}
	})

	t.Run("kept set expired", func(t *testing.T) {
		h := &heard{}
		cfg := cfg
		cfg.Clock = func() time.Time { return time.Now().Add(10 * 24 * time.Hour) }
		cfg.OnSet = func(set *statement.Set, _ statement.Store) error { return h.add("set %d", set.Lock.Version) }
		f := follow(t, cfg)
		if f.Set() != nil || f.cfg.Pin.LastLock.Version != 2 || len(f.pending) != 2 {
			t.Errorf("set %v, last lock %v, %d pending", f.Set(), f.cfg.Pin.LastLock, len(f.pending))
		}
	})
}

// Silence, slowness and endless data end a connection; the age grows meanwhile.
func TestSlowAndEndless(t *testing.T) {
	s, h := newStage(t), &heard{}
	cfg := s.config(t, h)
	cfg.stall = 2 * time.Second
	f := follow(t, cfg)
	c := s.accept(t)
	c.send(t, s.set(t), s.heartbeat(t, nil))
	s.counted(t, f)
	start := time.Now()
	slow := c.lines
	go func() { // a byte now and then, never a line
		for {
			select {
			case slow <- []byte("x"):
				time.Sleep(50 * time.Millisecond)
			case <-time.After(30 * time.Second):
				return
			}
		}
	}()
	c = s.accept(t) // the follower has given up on the slow one
	if since := time.Since(start); since < time.Second || f.Age() < time.Second {
		t.Errorf("gave up after %s at age %s", since, f.Age())
	}
	c.send(t, s.heartbeat(t, nil))
	s.counted(t, f)
	piece := bytes.Repeat([]byte("x"), 1<<20)
	endless := c.lines
	go func() { // one endless line
		for {
			select {
			case endless <- piece:
			case <-time.After(30 * time.Second):
				return
			}
		}
	}()
	c = s.accept(t)
	c.send(t, s.heartbeat(t, nil))
	s.counted(t, f)
}

// Whoever sends well-formed rubbish for ever is left, long before the lack of heartbeats would tell.
func TestTedious(t *testing.T) {
	s, h := newStage(t), &heard{}
	f := follow(t, s.config(t, h))
	c := s.accept(t)
	c.send(t, s.set(t), s.heartbeat(t, nil))
	s.counted(t, f)
	for range tedious {
		c.send(t, &Frame{Record: []byte("{}")})
	}
	c = s.accept(t)
	c.send(t, s.heartbeat(t, nil))
	s.counted(t, f)
}

// A record that the old set could not verify is asked for again under the new one; what a callback refuses, too.
func TestResync(t *testing.T) {
	s, h := newStage(t), &heard{}
	f := follow(t, s.config(t, h))
	c := s.accept(t)
	one := s.set(t)
	s.Republish(t, func(p *estate.Plan) {
		p.Charter.Workloads = append(p.Charter.Workloads, statement.Workload{ID: "late-agent", Unit: "research", Identities: []statement.Identity{{Issuer: statement.IssuerReeve}}})
	}, "charter")
	two := s.set(t)
	_, env, err := estate.NewKey(s.Set.Charter.Estate, "late-agent", s.Now, time.Hour, s.Ada)
	if err != nil {
		t.Fatal(err)
	}
	key, err := statement.Canonical(env)
	if err != nil {
		t.Fatal(err)
	}
	var all Records
	all.Add(sha256.Sum256(key))
	s.beat.Sum, s.beat.Records = all.Sum(), 1
	s.announce(t, one)
	c.send(t, one, &Frame{Record: key}, s.heartbeat(t, nil))
	s.counted(t, f) // it did arrive
	if diff := cmp.Diff([]string{"set 1"}, h.list()); diff != "" {
		t.Error(diff)
	}
	s.announce(t, two)
	c.send(t, two)
	c = s.accept(t)
	h.mu.Lock()
	h.fail = errors.New("disk full")
	h.mu.Unlock()
	c.send(t, &Frame{Record: key}, s.heartbeat(t, nil))
	s.counted(t, f)
	h.mu.Lock()
	h.fail = nil
	h.mu.Unlock()
	close(c.lines)
	c = s.accept(t)
	c.send(t, &Frame{Record: key}, s.heartbeat(t, nil))
	s.counted(t, f)
	if diff := cmp.Diff([]string{"set 1", "set 2", "workload-key"}, h.list()); diff != "" {
		t.Error(diff)
	}
}

func TestSetRefusedByCallback(t *testing.T) {
	s, h := newStage(t), &heard{}
	f := follow(t, s.config(t, h))
	c := s.accept(t)
	c.send(t, s.set(t))
	await(t, "set 1", func() bool { return f.Set() != nil })
	h.mu.Lock()
	h.fail = errors.New("policy does not compile")
	h.mu.Unlock()
	s.Republish(t, nil, "operations")
	c.send(t, s.set(t), s.heartbeat(t, nil))
	s.counted(t, f)
	if st := f.Status(); st.Lock != 1 || st.Refused != 1 {
		t.Errorf("status %+v", st)
	}
}

func TestFolder(t *testing.T) {
	s, h := newStage(t), &heard{}
	cfg := s.config(t, h)
	cfg.URLs, cfg.Folder = nil, s.Dir.Signed()
	sum := sha256.Sum256([]byte("ciphertext"))
	hand := statement.Handover{Estate: s.Set.Charter.Estate, Credential: "research-openai", Version: 1, Custodian: "c1", SHA256: hex.EncodeToString(sum[:]), Created: s.Now}
	env, err := estate.Seal("handover", hand, s.Cora)
	if err != nil {
		t.Fatal(err)
	}
	if err := durable.Replace(filepath.Join(s.Dir.Signed(), SealedPath(&hand)), []byte("ciphertext"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Dir.WriteRecord("research-openai-1-c1", env); err != nil {
		t.Fatal(err)
	}
	if env, err = estate.Seal("evidence", statement.Evidence{Estate: s.Set.Charter.Estate, Kind: "drill", Subject: "S1", SHA256: hand.SHA256, Created: s.Now}, s.Ada); err != nil {
		t.Fatal(err)
	}
	if err := s.Dir.WriteRecord("drill", env); err != nil { // which is no follower's business
		t.Fatal(err)
	}
	f := follow(t, cfg)
	await(t, "the folder", func() bool { return f.Age() != Unknown })
	await(t, "the handover", func() bool { return slices.Contains(h.list(), "handover ciphertext") })
	want := []string{"handover ciphertext", "set 1", "workload-key", "workload-key"}
	if diff := cmp.Diff(want, slices.Sorted(slices.Values(h.list()))); diff != "" {
		t.Error(diff)
	}
	s.Republish(t, nil, "operations")
	s.NewKey(t, "support-agent")
	await(t, "the changes", func() bool { return f.Status().Lock == 2 && f.Status().Records == 3 })
	want = []string{"handover ciphertext", "set 1", "set 2", "workload-key", "workload-key", "workload-key"}
	if diff := cmp.Diff(want, slices.Sorted(slices.Values(h.list()))); diff != "" {
		t.Error(diff)
	}
	// A bad record says nothing about the others; a folder that is gone leaves the age growing.
	if err := durable.Replace(filepath.Join(s.Dir.Signed(), "records/revocation/bad.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	await(t, "the refusal", func() bool { return f.Status().Err != "" })
	s.NewKey(t, "support-agent")
	await(t, "the fourth key", func() bool { return f.Status().Records == 4 })
	if err := os.Rename(s.Dir.Signed(), s.Dir.Signed()+"-gone"); err != nil {
		t.Fatal(err)
	}
	await(t, "the age to grow", func() bool { return f.Age() > 1500*time.Millisecond })
	if f.Set() == nil {
		t.Error("the set is gone too")
	}
}

// The wall clock counts when it runs ahead of the monotonic one: a machine that slept has old news.
func TestAgeCountsSleep(t *testing.T) {
	now := time.Now()
	f := &Follower{cfg: Config{Clock: func() time.Time { return now }}}
	f.newest.Store(&beat{at: now})
	// Package time has no way to move one clock of a Time alone. In its first word the seconds begin at bit 30.
	*(*uint64)(unsafe.Pointer(&now)) += 60 << 30
	if f.Age() != time.Minute {
		t.Errorf("age %s after a minute's sleep", f.Age())
	}
	*(*uint64)(unsafe.Pointer(&now)) -= 120 << 30
	if f.Age() != 0 {
		t.Errorf("age %s with the clock set back", f.Age())
	}
	now = now.Add(time.Second)
	if f.Age() != time.Second {
		t.Errorf("age %s with the clock set back, a second later", f.Age())
	}
}
