// Package sourcetest is the suite that every source of secrets passes. A source brings an honest double of its provider; the suite makes the
// double fail in every way that a provider, a proxy or an attacker between them can, and looks for secrets in whatever comes out.
package sourcetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"net/netip"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/custodian/source"
	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/internal/secret"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/testlog"
)

// Harness is what a source's test brings.
type Harness struct {
	New func(source.Config) (source.Source, error)
	// Record is the custody record, filled, for a provider at origin, https://host:port. The suite sets the networks and the CA.
	Record func(origin string) statement.Credential
	// Double is an honest provider at origin, new for each check. It refuses what its provider does not document.
	Double func(origin string) Double
	Root   string // what the owner handed over for the source itself; empty for nothing
	// Life is how long the double's secrets live, to a minute; 0 says that it tells no end.
	Life time.Duration
	// Static says that one fetch after another may give the same lease.
	Static bool
	// Malformed are answers, with status 200, that the source must refuse in place of the last one of a fetch. The suite makes others itself:
	// it leaves members out of the double's own answers and puts others in.
	Malformed []string

	patience time.Duration // for tests of the suite; 0 means patience
}

// Double is a provider as the suite sees it.
type Double struct {
	Handler http.Handler
	// Secrets returns what it gave out or took that is secret and stands in neither Root nor a Secret; nil for nothing.
	Secrets func() []string
	// Alive reports whether a secret would still be taken; nil if the double does not know.
	Alive func(*source.Secret) bool
}

// Run holds a source to every rule. Not beside other tests: it looks at what the whole process logs.
func Run(t *testing.T, h Harness) {
	d := Durable(t)
	for _, c := range checks() {
		t.Run(c.name, func(t *testing.T) {
			if err := c.run(&h, d); err != nil {
				t.Error(err)
			}
		})
	}
}

// Durable returns what a source wants to see: a real one, of a ledger of its own.
func Durable(t testing.TB) ledger.Durable {
	t.Helper()
	key, err := ledger.GenerateKey("reeve/test/c1")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	l, err := ledger.Open(context.Background(), ledger.Config{
		Key: key, Dir: filepath.Join(dir, "state"), Tiles: filepath.Join(dir, "tiles"), SegmentSize: 1 << 20,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	d, err := l.Append(&entry.Entry{Type: entry.Mint, Credential: "a-credential", Reason: "test"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// patience is how long a call may take that must end at once; less than source.Client waits for an answer. Only a source that breaks the rule
// takes as long.
const patience = 8 * time.Second

// world is one provider, one credential and its sources, of one check.
type world struct {
	h       *Harness
	durable ledger.Durable
	*provider
	record statement.Credential
	root   []byte
	state  *memory
	logs   *testlog.Log

	mu      sync.Mutex
	said    []string // errors: neither a secret nor anything of an answer
	shown   []string // of secrets, what may be shown
	secrets []string // what may not come out
	faults  []error  // rules that were broken
	open    []source.Source
	undo    func()
}

func newWorld(h *Harness, d ledger.Durable) *world {
	w := &world{h: h, durable: d, root: []byte(h.Root), state: &memory{}, logs: &testlog.Log{}}
	w.provider = newProvider(h)
	w.record = h.Record(w.origin)
	w.record.From.CA, w.record.From.Networks = w.ca, []string{"127.0.0.1/32"}
	before, prefix, flags := slog.Default(), log.Prefix(), log.Flags()
	slog.SetDefault(slog.New(slog.NewTextHandler(w.logs, &slog.HandlerOptions{Level: slog.LevelDebug})))
	w.undo = func() {
		slog.SetDefault(before)
		log.SetPrefix(prefix)
		log.SetFlags(flags)
	}
	return w
}

// config is what a source of this world is made of.
func (w *world) config() source.Config {
	return source.Config{
		Custodian: "c1", Estate: "test", Tenant: "tenant-a", Unit: "research", Record: w.record,
		Root: func(d ledger.Durable) (secret.Value, error) {
			switch {
			case !d.Valid():
				return secret.Value{}, source.ErrNotDurable
			case w.h.Root == "":
				return secret.Value{}, source.ErrNoRoot
			}
			return secret.New(w.root), nil // the store's own bytes, as in a custodian
		},
		State: w.state, Clock: time.Now,
		Resolve: func(_ context.Context, host string) ([]netip.Addr, error) {
			if host != hostname {
				w.fault(fmt.Errorf("it looked up %q, which is not the host of its record", host))
			}
			return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}, nil
		},
	}
}

// source makes a source; edit may change its configuration.
func (w *world) source(edit ...func(*source.Config)) (source.Source, error) {
	cfg := w.config()
	for _, f := range edit {
		f(&cfg)
	}
	s, err := w.h.New(cfg)
	if err != nil {
		return nil, fmt.Errorf("calling New: %w", w.hear(err))
	}
	w.mu.Lock()
	w.open = append(w.open, s)
	w.mu.Unlock()
	return s, nil
}

// ask is what a custodian asks for.
func (w *world) ask(workload string) source.Ask {
	if !w.record.From.PerWorkload {
		return source.Ask{}
	}
	return source.Ask{Workload: workload}
}

func (w *world) fetch(s source.Source) (*source.Secret, error) {
	return w.fetchFor(context.Background(), s, w.durable, "research-agent")
}

func (w *world) fetchFor(ctx context.Context, s source.Source, d ledger.Durable, workload string) (*source.Secret, error) {
	got, err := within(w, func() (*source.Secret, error) { return s.Fetch(ctx, d, w.ask(workload)) })
	if got != nil {
		w.keep(got)
	}
	if got == nil && err == nil {
		w.fault(errors.New("calling Fetch returned neither a secret nor an error"))
		err = errors.New("nothing")
	}
	if got != nil && err != nil {
		w.fault(errors.New("calling Fetch returned a secret and an error"))
	}
	return got, w.hear(err)
}

func (w *world) revoke(s source.Source, d ledger.Durable, old *source.Secret) error {
	_, err := within(w, func() (struct{}, error) { return struct{}{}, s.Revoke(context.Background(), d, old) })
	return w.hear(err)
}

// hear keeps how an error prints.
func (w *world) hear(err error) error {
	if err == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said = append(w.said, err.Error(), fmt.Sprintf("%v %+v %#v", err, err, err))
	for e := err; e != nil; e = errors.Unwrap(e) {
		w.said = append(w.said, fmt.Sprintf("%+v %#v", e, e))
	}
	if text := err.Error(); len(text) > 1000 || bytes.ContainsAny([]byte(text), "\r\n") {
		w.faults = append(w.faults, fmt.Errorf("an error of %d bytes, or more than one line: it quotes what it was answered: %.100q", len(text), text))
	}
	return err
}

// keep remembers a secret, and holds what may be shown of it against it.
func (w *world) keep(s *source.Secret) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, v := range []secret.Value{s.Value, s.Session, s.Handle} {
		w.secrets = append(w.secrets, string(v.Reveal()))
	}
	w.shown = append(w.shown, s.Lease, s.Public, fmt.Sprintf("%v %+v %#v", s, *s, *s))
}

func (w *world) fault(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.faults = append(w.faults, err)
}

// end closes everything and returns err with every rule that was broken on the way.
func (w *world) end(err error) error {
	for _, s := range w.open {
		within(w, func() (struct{}, error) { s.Close(); return struct{}{}, nil })
	}
	w.provider.close()
	w.undo()
	secrets := w.secrets
	if w.h.Root != "" {
		secrets = append(secrets, w.h.Root)
		if string(w.root) != w.h.Root {
			w.fault(errors.New("it changed or wiped the bytes of Root, which belong to the store"))
		}
	}
	if w.double.Secrets != nil {
		secrets = append(secrets, w.double.Secrets()...)
	}
	for _, text := range append(w.said, w.logs.String()) {
		if form := leak(text, append(secrets, canary)); form != "" {
			w.fault(fmt.Errorf("an error or a log line holds a secret, or quotes an answer, as %s", form))
		}
	}
	for _, text := range w.shown {
		if form := leak(text, secrets); form != "" {
			w.fault(fmt.Errorf("what may be shown of a secret holds it as %s", form))
		}
	}
	for _, uri := range w.provider.asked() {
		if form := leak(uri, secrets); form != "" {
			w.fault(fmt.Errorf("a request's path or query holds a secret as %s: proxies and servers log it", form))
		}
	}
	return errors.Join(append([]error{err}, append(w.faults, w.provider.faults()...)...)...)
}

// within calls f, and does not wait for it when it does not end.
func within[T any](w *world, f func() (T, error)) (T, error) {
	type result struct {
		v   T
		err error
	}
	done := make(chan result, 1)
	go func() {
		v, err := f()
		done <- result{v, err}
	}()
	limit := patience
	if w.h.patience > 0 {
		limit = w.h.patience
	}
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case r := <-done:
		return r.v, r.err
	case <-t.C:
		err := fmt.Errorf("a call did not return within %v", limit)
		w.fault(err)
		var none T
		return none, err
	}
}

// memory is a source.State. What is put in and out is copied: both sides wipe theirs.
type memory struct {
	mu            sync.Mutex
	b             []byte
	full, refused atomic.Bool // Save fails; it did
}

var errFull = errors.New("no space left on device")

func (m *memory) Load() (secret.Value, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return secret.New(bytes.Clone(m.b)), nil
}

func (m *memory) Save(v secret.Value) error {
	if m.full.Load() {
		m.refused.Store(true)
		return errFull
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.b = bytes.Clone(v.Reveal())
	return nil
}
