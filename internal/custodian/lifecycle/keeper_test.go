package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/admin"
	"github.com/reevehq/reeve/internal/custodian/guard"
	"github.com/reevehq/reeve/internal/custodian/pin"
	"github.com/reevehq/reeve/internal/custodian/sealed"
	"github.com/reevehq/reeve/internal/custodian/source"
	"github.com/reevehq/reeve/internal/custodian/source/sourcetest"
	"github.com/reevehq/reeve/internal/custodian/state"
	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/internal/secret"
	"github.com/reevehq/reeve/internal/statement"
)

// provider is a fake source with what its provider knows.
type provider struct {
	mu      sync.Mutex
	n       int
	alive   map[string]bool // by lease
	life    time.Duration
	clock   func() time.Time
	fail    error
	hang    bool
	change  func(*source.Secret)
	wont    error
	fetches atomic.Int64
	flying  atomic.Int64
	most    atomic.Int64
	asked   []string
}

func (p *provider) Fetch(ctx context.Context, d ledger.Durable, ask source.Ask) (*source.Secret, error) {
	if !d.Valid() {
		return nil, source.ErrNotDurable
	}
	p.fetches.Add(1)
	p.most.Store(max(p.most.Load(), p.flying.Add(1)))
	defer p.flying.Add(-1)
	p.mu.Lock()
	hang := p.hang
	p.mu.Unlock()
	if hang {
		<-ctx.Done()
		return nil, fmt.Errorf("%w: %w", source.ErrDown, ctx.Err())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, ask.Workload)
	if p.fail != nil {
		return nil, p.fail
	}
	p.n++
	lease := fmt.Sprintf("lease-%d", p.n)
	p.alive[lease] = true
	s := &source.Secret{Value: secret.New([]byte(fmt.Sprintf("demo-fetched-secret-%04d", p.n))), Lease: lease, Issued: p.clock()}
	if p.life > 0 {
		s.Expires = s.Issued.Add(p.life)
	}
	if p.change != nil {
		p.change(s)
	}
	return s, nil
}

func (p *provider) Revoke(_ context.Context, d ledger.Durable, old *source.Secret) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !d.Valid() {
		return source.ErrNotDurable
	}
	if p.wont == nil {
		delete(p.alive, old.Lease)
	}
	return p.wont
}

func (p *provider) Close() {}

func (p *provider) set(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
}

func (p *provider) living() (list []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for lease := range p.alive {
		list = append(list, lease)
	}
	slices.Sort(list)
	return list
}

// sweeper is a provider whose secrets live until they are deleted.
type sweeper struct{ *provider }

func (p sweeper) Sweep(_ context.Context, d ledger.Durable, keep []string) (gone []string, err error) {
	for _, lease := range p.living() {
		if !slices.Contains(keep, lease) {
			gone = append(gone, lease)
			p.set(func() { delete(p.alive, lease) })
		}
	}
	return gone, p.fail
}

// renewer lets a secret live on.
type renewer struct {
	*provider
	renewals atomic.Int64
}

func (p *renewer) Renew(_ context.Context, d ledger.Durable, old *source.Secret) (*source.Secret, error) {
	p.renewals.Add(1)
	if p.renewals.Load() > 2 {
		return nil, source.ErrRefused
	}
	s := *old
	s.Value = secret.New(slices.Clone(old.Value.Reveal()))
	s.Expires = p.clock().Add(p.life)
	return &s, nil
}

// bench is a keeper with what it needs.
type bench struct {
	t   testing.TB
	cfg Config
	*provider
	now     atomic.Int64 // nanoseconds ahead
	durable ledger.Durable
	mu      sync.Mutex
	entries []entry.Entry
	full    func(*entry.Entry) error // refuses an append
	shut    atomic.Pointer[error]
	probe   statement.Probe
	probed  []string
	refuses func(value string) (Answer, error)
	*Keeper
}

// open makes a secret ready as a record of bearer tokens does.
func open(s *source.Secret) (*pin.Parts, error) {
	secrets := []secret.Value{s.Value}
	if !s.Session.Empty() {
		secrets = append(secrets, s.Session)
	}
	patterns, err := guard.New(secrets...)
	return &pin.Parts{Patterns: patterns}, err
}

func newBench(t testing.TB, change func(*bench)) *bench {
	t.Helper()
	b := &bench{t: t, durable: sourcetest.Durable(t)}
	clock := func() time.Time { return time.Now().Add(time.Duration(b.now.Load())) }
	b.provider = &provider{alive: map[string]bool{}, life: 10 * time.Minute, clock: clock}
	dir, err := state.Open(t.TempDir() + "/research")
	if err != nil {
		t.Fatal(err)
	}
	b.cfg = Config{
		Record: statement.Credential{ID: "research-openai", Source: "oauth", From: statement.From{URL: "https://tokens.example/oauth"}, Inject: statement.Inject{As: "bearer"}},
		Tenant: "acme", Unit: "research", Source: b.provider, Dir: dir, Clock: clock, Log: slog.New(slog.DiscardHandler),
		Root:        func() *sealed.Held { return nil },
		Fingerprint: func(b []byte) string { return fmt.Sprintf("fp-%d-%s", len(b), b[len(b)-2:]) },
		Open:        open,
		Probe:       func() statement.Probe { return b.probe },
		Try: func(_ context.Context, s source.Secret) (Answer, error) {
			b.probed = append(b.probed, string(s.Value.Reveal()))
			return b.refuses(string(s.Value.Reveal()))
		},
		May: func() error {
			if err := b.shut.Load(); err != nil {
				return *err
			}
			return nil
		},
		Entry:  func(t entry.Type) *entry.Entry { return &entry.Entry{Type: t} },
		Append: b.append,
		Note:   func(e *entry.Entry) { b.write(e) },
	}
	if change != nil {
		change(b)
	}
	b.restart()
	t.Cleanup(func() { b.Keeper.Close() })
	return b
}

func (b *bench) restart() {
	b.t.Helper()
	if b.Keeper != nil {
		b.Keeper.Close()
	}
	k, err := New(b.cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	b.Keeper = k
}

func (b *bench) append(e *entry.Entry) (ledger.Durable, error) {
	if b.full != nil {
		if err := b.full(e); err != nil {
			return ledger.Durable{}, err
		}
	}
	b.write(e)
	return b.durable, nil
}

func (b *bench) write(e *entry.Entry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.entries = append(b.entries, *e)
	line := string(e.AppendJSON(nil))
	if strings.Contains(line, "demo-fetched-secret") {
		b.t.Errorf("an entry holds a secret: %s", line)
	}
}

// story is what the entries say, one word group each.
func (b *bench) story() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var s []string
	for _, e := range b.entries {
		w := string(e.Type)
		for _, x := range []string{e.Reason, e.Lease, e.State} {
			if x != "" {
				w += ":" + x
			}
		}
		s = append(s, w)
	}
	return strings.Join(s, " ")
}

func (b *bench) hold(workload string) (*Held, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return b.Hold(ctx, workload, b.Clock())
}

// use begins and ends a use, and returns its lease.
func (b *bench) use() string {
	b.t.Helper()
	h, err := b.hold("")
	if err != nil {
		b.t.Fatal(err)
	}
	defer h.Leave()
	if s, p, err := h.Fetch(b.durable); err != nil || s.Value.Empty() || p == nil {
		b.t.Fatal("what is held cannot be fetched: ", err)
	}
	return h.Lease
}

// after lets time pass and what runs beside end.
func (b *bench) after(d time.Duration) {
	b.t.Helper()
	b.now.Add(int64(d))
	b.Keep()
	b.settle()
}

func (b *bench) settle() { b.running.Wait() }

func (b *bench) show() (a admin.Credential) {
	b.Show(&a, b.Clock())
	return a
}

func (b *bench) states() string {
	var s []string
	for _, v := range b.show().Versions {
		s = append(s, v.Lease+":"+v.State)
	}
	return strings.Join(s, " ")
}

func want(t *testing.T, what, got, wanted string) {
	t.Helper()
	if got != wanted {
		t.Errorf("%s:\n got %s\nwant %s", what, got, wanted)
	}
}

// Many who need a secret at once wait for one fetch, whose intent is on disk before and whose result is bound before anybody has it.
func TestSingleFlight(t *testing.T) {
	b := newBench(t, nil)
	var all sync.WaitGroup
	for range 64 {
		all.Go(func() {
			h, err := b.hold("")
			if err != nil {
				t.Error(err)
				return
			}
			defer h.Leave()
			if !strings.Contains(b.story(), "outcome:fetched:lease-1:active") {
				t.Error("held before it is bound")
			}
			if _, _, err := h.Fetch(ledger.Durable{}); !errors.Is(err, source.ErrNotDurable) {
				t.Errorf("given against nothing: %v", err)
			}
		})
	}
	all.Wait()
	if n := b.fetches.Load(); n != 1 {
		t.Errorf("%d fetches", n)
	}
	want(t, "entries", b.story(), "mint:fetch outcome:fetched:lease-1:active")
	out := b.entries[1]
	if !out.HasIntent || out.CredFP == "" || out.Expires == 0 || out.Tenant != "acme" || b.entries[0].Dest != "https://tokens.example" {
		t.Errorf("%+v", out)
	}
	a := b.show()
	if a.State != Active || a.Uses.Quarters != 64 || a.LastUse.IsZero() || a.Next.IsZero() || len(a.Versions) != 1 || a.Versions[0].InUse != 0 {
		t.Errorf("%+v", a)
	}
}

// A secret in use is fetched anew ahead of its end, in the background; the one before overlaps until its uses have gone and its time is over.
func TestRefresh(t *testing.T) {
	b := newBench(t, nil)
	long, err := b.hold("")
	if err != nil {
		t.Fatal(err)
	}
	b.after(9 * time.Minute)
	want(t, "leases", long.Lease+" "+b.use(), "lease-1 lease-2")
	want(t, "versions", b.states(), "lease-2:active lease-1:overlapping")
	if s, p, err := long.Fetch(b.durable); err != nil || s.Value.Empty() || p == nil {
		t.Error("who began with the version before lost it: ", err)
	}
	b.after(2 * time.Minute)
	want(t, "versions", b.states(), "lease-2:active lease-1:destroyed")
	want(t, "entries", b.story(), "mint:fetch outcome:fetched:lease-1:active mint:fetch outcome:fetched:lease-2:active version:rotated:lease-1:overlapping version:expired:lease-1:destroyed")
	long.Leave()

	b.after(20 * time.Minute) // used before, but over
	want(t, "the next", b.use(), "lease-3")
	for range 5 {
		b.after(9 * time.Minute) // fetched once in the background, for the use before; then nobody uses it
	}
	n := b.fetches.Load()
	b.after(9 * time.Minute)
	if b.fetches.Load() != n {
		t.Error("what nobody uses is fetched for ever")
	}
}

// While its source is down, what is held is used to its end and no longer; the source is left alone in between.
func TestSourceDown(t *testing.T) {
	b := newBench(t, nil)
	b.use()
	b.set(func() { b.fail = fmt.Errorf("%w: demo", source.ErrDown) })
	b.after(9 * time.Minute)
	want(t, "held", b.use(), "lease-1")
	b.after(30 * time.Second)
	want(t, "held", b.use(), "lease-1")
	if a := b.show(); !strings.Contains(a.Error, "does not answer") {
		t.Errorf("status: %q", a.Error)
	}
	b.now.Add(int64(time.Minute))
	if _, err := b.hold(""); !errors.Is(err, source.ErrDown) {
		t.Errorf("past its end: %v", err)
	}
	n := b.fetches.Load()
	for range 10 {
		if _, err := b.hold(""); !errors.Is(err, source.ErrDown) {
			t.Error(err)
		}
	}
	if b.fetches.Load() > n+1 {
		t.Errorf("%d tries at once", b.fetches.Load()-n)
	}
	b.set(func() { b.fail = nil })
	b.now.Add(int64(longest))
	want(t, "again", b.use(), "lease-2")
	if !strings.Contains(b.story(), "outcome:failed_down") || b.show().Error != "" {
		t.Errorf("%s; %q", b.story(), b.show().Error)
	}
}

// Each kind of failure leaves an outcome, and nothing of the secret stays at the provider.
func TestFailures(t *testing.T) {
	big := strings.Repeat("x", 8<<10+1)
	for name, c := range map[string]struct {
		set  func(*bench)
		err  error
		word string
	}{
		"refused":   {func(b *bench) { b.fail = source.ErrRefused }, source.ErrRefused, "refused"},
		"malformed": {func(b *bench) { b.fail = source.ErrMalformed }, source.ErrMalformed, "malformed"},
		"no root":   {func(b *bench) { b.fail = source.ErrNoRoot }, source.ErrNoRoot, "no_root"},
		"nothing":   {func(b *bench) { b.change = func(s *source.Secret) { s.Value = secret.Value{} } }, ErrUnfit, "unfit"},
		"too long":  {func(b *bench) { b.change = func(s *source.Secret) { s.Value = secret.New([]byte(big)) } }, ErrUnfit, "unfit"},
		"two lines": {func(b *bench) {
			b.change = func(s *source.Secret) { s.Value = secret.New([]byte("demo-key\nof two lines")) }
		}, ErrUnfit, "unfit"},
		"bad session": {func(b *bench) { b.change = func(s *source.Secret) { s.Session = secret.New([]byte("a\nb")) } }, ErrUnfit, "unfit"},
		"not to inject": {func(b *bench) {
			b.cfg.Open = func(*source.Secret) (*pin.Parts, error) { return nil, errors.New("demo") }
		}, ErrUnfit, "unfit"},
		"no lease":      {func(b *bench) { b.change = func(s *source.Secret) { s.Lease = "" } }, ErrUnfit, "unfit"},
		"telling lease": {func(b *bench) { b.change = func(s *source.Secret) { s.Lease = "x" + string(s.Value.Reveal()) } }, ErrUnfit, "unfit"},
		"expired":       {func(b *bench) { b.change = func(s *source.Secret) { s.Expires = s.Issued.Add(-time.Second) } }, ErrUnfit, "unfit"},
		"lives long":    {func(b *bench) { b.cfg.Record.MaxLifetime = statement.Duration(5 * time.Minute) }, ErrUnfit, "unfit"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, c.set)
			if _, err := b.hold(""); !errors.Is(err, c.err) {
				t.Fatalf("%v", err)
			}
			b.settle()
			want(t, "entries", b.story(), "mint:fetch outcome:failed_"+c.word)
			if left := b.living(); len(left) > 0 && !strings.Contains(name, "lease") {
				t.Errorf("left at the provider: %v", left)
			}
			if a := b.show(); a.State != Pending || a.Error == "" {
				t.Errorf("%+v", a)
			}
		})
	}
}

// Nothing is fetched, and no entry claims so, while the credential may not be used.
func TestMayNot(t *testing.T) {
	b := newBench(t, nil)
	no := errors.New("frozen")
	b.shut.Store(&no)
	if _, err := b.hold(""); !errors.Is(err, no) {
		t.Error(err)
	}
	b.settle()
	if b.fetches.Load() != 0 || b.story() != "" {
		t.Errorf("%d fetches, %s", b.fetches.Load(), b.story())
	}
	var a admin.Credential
	if b.Show(&a, time.Now()); a.Error != "" {
		t.Errorf("shown as trouble of the source: %s", a.Error)
	}
	b.shut.Store(nil)
	if _, err := b.hold(""); err != nil { // the source was not asked, so it needs no pause
		t.Errorf("opened again: %v", err)
	}
}

// Without its entries nothing is fetched, and what was fetched is not used and does not stay at the provider.
func TestLedgerFails(t *testing.T) {
	for _, refused := range []entry.Type{entry.Mint, entry.Outcome} {
		b := newBench(t, func(b *bench) {
			b.full = func(e *entry.Entry) error {
				if e.Type == refused {
					return ledger.ErrFull
				}
				return nil
			}
		})
		if h, err := b.hold(""); h != nil || !errors.Is(err, ledger.ErrFull) {
			t.Errorf("%s: %v", refused, err)
		}
		b.settle()
		if n := b.fetches.Load(); n != map[entry.Type]int64{entry.Mint: 0, entry.Outcome: 1}[refused] || len(b.living()) != 0 {
			t.Errorf("%s: %d fetches, alive: %v", refused, n, b.living())
		}
	}
}

// A request waits for a slow source no longer than it says.
func TestSlow(t *testing.T) {
	b := newBench(t, func(b *bench) { b.hang = true })
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := b.Hold(ctx, "", b.Clock()); !errors.Is(err, ErrWait) {
		t.Error(err)
	}
}

// A secret for each workload is no other's.
func TestPerWorkload(t *testing.T) {
	b := newBench(t, func(b *bench) { b.cfg.Record.From.PerWorkload = true })
	one, err := b.hold("one")
	if err != nil {
		t.Fatal(err)
	}
	two, err := b.hold("two")
	if err != nil || two.Lease == one.Lease || two.Workload != "two" {
		t.Fatal(two, err)
	}
	again, err := b.hold("one")
	if err != nil || again != one {
		t.Error(again, err)
	}
	want(t, "asked", strings.Join(b.asked, " "), "one two")
}

// After a crash between the call and what binds its result, the next start finds what was made and deletes it, and nothing else.
func TestSweep(t *testing.T) {
	b := newBench(t, func(b *bench) {
		b.life = 0
		b.cfg.Source = sweeper{b.provider}
	})
	b.use()
	b.set(func() { b.alive["lost-in-a-crash"] = true })
	b.restart()
	b.after(time.Second)
	want(t, "alive", strings.Join(b.living(), " "), "lease-1")
	if !strings.Contains(b.story(), "mint:sweep outcome:swept version:swept:lost-in-a-crash:revoked-unproven") {
		t.Error(b.story())
	}
	b.use() // the process before had lease-1 and this one has lease-2
	b.after(time.Second)
	want(t, "alive", strings.Join(b.living(), " "), "lease-2")
	want(t, "versions", b.states(), "lease-2:active lease-1:revoked-unproven lost-in-a-crash:revoked-unproven")
}

// A version without an end is ended at its source once it is rotated, and not while something uses it.
func TestEndless(t *testing.T) {
	b := newBench(t, func(b *bench) { b.life = 0 })
	long, err := b.hold("")
	if err != nil {
		t.Fatal(err)
	}
	b.after(14 * time.Minute)
	b.after(time.Second)
	want(t, "alive", strings.Join(b.living(), " "), "lease-1 lease-2")
	long.Leave()
	b.after(time.Second)
	want(t, "alive", strings.Join(b.living(), " "), "lease-2")
	want(t, "versions", b.states(), "lease-2:active lease-1:revoked-unproven")
	if !strings.HasSuffix(b.story(), "mint:revoke outcome:revoked version:rotated:lease-1:revoked-unproven") {
		t.Error(b.story())
	}
}

// What can be renewed is, until it brings no more; it stays one version.
func TestRenew(t *testing.T) {
	var r *renewer
	b := newBench(t, func(b *bench) {
		r = &renewer{provider: b.provider}
		b.cfg.Source = r
	})
	for range 2 {
		b.use()
		b.after(9 * time.Minute)
	}
	want(t, "renewed", b.use(), "lease-1")
	want(t, "versions", b.states(), "lease-1:active")
	b.after(9 * time.Minute)
	want(t, "fetched", b.use(), "lease-2")
	if !strings.Contains(b.story(), "mint:renew outcome:renewed:lease-1:active") || !strings.Contains(b.story(), "mint:renew outcome:failed_refused mint:fetch outcome:fetched:lease-2") {
		t.Error(b.story())
	}
}

// Uses go on while the version changes under them: whoever has one may use it, and what is drained is used by nobody.
func TestRotationUnderUse(t *testing.T) {
	b := newBench(t, func(b *bench) { b.life = 0 })
	b.use()
	stop := make(chan struct{})
	var uses sync.WaitGroup
	for range 8 {
		uses.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				h, err := b.hold("")
				if err != nil {
					t.Error(err)
					return
				}
				b.mu.Lock()
				alive := slices.Contains(b.living(), h.Lease)
				b.mu.Unlock()
				if !alive {
					t.Errorf("%s was ended while it is used", h.Lease)
				}
				h.Leave()
			}
		})
	}
	for range 20 {
		b.use()
		b.after(14 * time.Minute)
	}
	close(stop)
	uses.Wait()
	b.after(time.Second)
	b.after(time.Second)
	if n := len(b.living()); n != 1 || b.fetches.Load() < 10 {
		t.Errorf("%d alive after %d fetches", n, b.fetches.Load())
	}
}

// What an earlier process had, or what nobody comes for any more, is ended at the source as well: nobody has its bytes.
func TestUnused(t *testing.T) {
	b := newBench(t, func(b *bench) {
		b.life = 0
		b.cfg.Record.From.PerWorkload = true
	})
	if _, err := b.hold("one"); err != nil {
		t.Fatal(err)
	}
	b.restart()
	b.after(time.Minute)
	want(t, "it may be asked for again", strings.Join(b.living(), " "), "lease-1")
	b.after(cached)
	want(t, "alive", strings.Join(b.living(), " "), "")
	want(t, "versions", b.states(), "lease-1:revoked-unproven")
	h, err := b.hold("two")
	if err != nil {
		t.Fatal(err)
	}
	h.Leave()
	b.after(endless + time.Minute)
	b.after(time.Second)
	want(t, "after a day without a use", strings.Join(b.living(), " "), "")
}

// What gives no longer life keeps the secret in use alive: a renewal that cannot be bound does not end it.
func TestRenewalUnbound(t *testing.T) {
	b := newBench(t, func(b *bench) { b.cfg.Source = &renewer{provider: b.provider} })
	b.use()
	b.full = func(e *entry.Entry) error {
		if e.Type == entry.Outcome {
			return ledger.ErrFull
		}
		return nil
	}
	b.after(9 * time.Minute)
	want(t, "alive", strings.Join(b.living(), " "), "lease-1")
	want(t, "in use", b.use(), "lease-1")
	if age, err := b.hold(""); err != nil || age.Age() != "540" {
		t.Errorf("%s seconds old, %v", age.Age(), err)
	}
}

// A held version costs a use no allocation and no lock.
func BenchmarkHold(b *testing.B) {
	w := newBench(b, nil)
	w.use()
	now := w.Clock()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			h, err := w.Hold(context.Background(), "", now)
			if err != nil {
				b.Fatal(err)
			}
			h.Leave()
		}
	})
}

func TestHoldAllocatesNothing(t *testing.T) {
	b := newBench(t, nil)
	b.use()
	now := b.Clock()
	if n := testing.AllocsPerRun(100, func() {
		h, err := b.Hold(context.Background(), "", now)
		if err != nil {
			t.Fatal(err)
		}
		h.Leave()
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
