package lifecycle

import (
	"context"
	"log/slog"
	"maps"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/custodian/pin"
	"github.com/reevehq/reeve/internal/custodian/sealed"
	"github.com/reevehq/reeve/internal/custodian/source"
	"github.com/reevehq/reeve/internal/custodian/state"
	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/internal/statement"
)

const (
	cached   = 15 * time.Minute // how long a secret is held at most before a new one is fetched
	patience = 5 * time.Second  // how long a request waits for a secret
	limit    = 30 * time.Second // for one exchange with a source
	longest  = 30 * time.Second // between two tries
	endless  = 24 * time.Hour   // how long a secret without an end is used while its source does not answer
	parting  = 2 * time.Second  // for calls that Close cancelled
	slots    = 4096             // secrets of one credential, one for each workload
)

// Config is what a Keeper needs.
type Config struct {
	Record statement.Credential // filled and checked
	Tenant string
	Unit   string
	Source source.Source // nil when an owner hands the secret over
	// Root is the newest that the owner handed over: the secret, or what the source needs. Nil for nothing.
	Root func() *sealed.Held
	Dir  state.Dir // of the credential
	// Fingerprint is keyed.
	Fingerprint func([]byte) string
	// Open makes a secret ready to be used as the record says, or says why it cannot be.
	Open func(*source.Secret) (*pin.Parts, error)
	// Version is a secret that was handed over, and Destroy forgets it; both by its number.
	Version func(int64) (*sealed.Held, error)
	Destroy func(int64) error
	// Probe is the one of the record in force, and Try makes it with a secret.
	Probe func() statement.Probe
	Try   func(context.Context, source.Secret) (Answer, error)
	// May is nil when the credential could be used now: not closed, news fresh, ledger cosigned, its owner live. Nothing is fetched otherwise.
	May func() error
	// Entry begins an entry.
	Entry  func(entry.Type) *entry.Entry
	Append func(*entry.Entry) (ledger.Durable, error) // returns when the entry is on disk
	Note   func(*entry.Entry)                         // does not wait
	Clock  func() time.Time
	Log    *slog.Logger
	Uses   *Uses // of an earlier keeper of the credential, or nil
}

// Keeper keeps the versions of one credential for one tenant. Safe for concurrent use.
type Keeper struct {
	Config
	born    time.Time
	dest    string // origin of the source
	origin  string // tells versions of this source from those of another
	shared  slot   // unless there is one for each workload
	each    atomic.Pointer[map[string]*slot]
	calls   sync.RWMutex // held for writing while a source sweeps, for reading while it is asked
	running sync.WaitGroup
	ctx     context.Context
	stop    context.CancelFunc

	mu       sync.Mutex // spans changes of what follows, of the slots, and of the file
	versions []*version // newest first
	ending   *ending    // the last that was asked for
	unswept  bool       // something may be left at the provider that no entry names
	sweeping bool
	resting  bool
	graves   []grave // of versions that are over, until they are wiped
	closed   bool
}

// slot is where the version in force is.
type slot struct {
	workload string
	held     atomic.Pointer[Held]
	// The keeper's mu spans the rest.
	call  *call // that runs
	due   time.Time
	err   error // why the last fetch failed; nil since one did not
	fails int
	retry time.Time // nothing is asked before
}

// call is one fetch that runs; whoever needs it waits for done.
type call struct {
	done chan struct{}
	err  error // once done is closed
}

// New returns a keeper with what the directory remembers. Close ends it.
func New(c Config) (*Keeper, error) {
	k := &Keeper{Config: c, born: c.Clock(), unswept: true}
	k.ctx, k.stop = context.WithCancel(context.Background())
	k.each.Store(&map[string]*slot{})
	if k.Uses == nil {
		k.Uses = newUses(c.Clock())
	}
	if u, err := url.Parse(c.Record.From.URL); err == nil && u.Host != "" {
		k.dest = u.Scheme + "://" + u.Host
	}
	k.origin = originOf(&c)
	if err := k.load(); err != nil {
		return nil, err
	}
	if c.Source == nil {
		if k.shared.err = k.take(); k.shared.err != nil { // the next that is handed over may be better
			k.Log.Error("what was handed over cannot be used", "credential", k.Record.ID, "error", k.shared.err)
		}
	}
	return k, nil
}

// Close lets the source go: another may have its memory then. Versions that are in use may be used on.
func (k *Keeper) Close() {
	k.mu.Lock()
	closed := k.closed
	k.closed = true
	k.mu.Unlock()
	if closed {
		return
	}
	k.stop()
	if k.Source != nil {
		k.Source.Close()
	}
	over := make(chan struct{})
	go func() {
		k.running.Wait()
		close(over)
	}()
	select {
	case <-over:
	case <-time.After(parting): // a set that closes something does not wait for a source that hangs
	}
}

// Hold begins a use of the version in force; its Leave ends it. When there is none, or the one there is has been held for long, it fetches one,
// and waits for that no longer than ctx and its own bound.
func (k *Keeper) Hold(ctx context.Context, workload string, now time.Time) (*Held, error) {
	if !k.Record.From.PerWorkload {
		workload = ""
	}
	s := k.find(workload)
	if s != nil {
		if h := s.enter(now, false); h != nil {
			return h, nil
		}
	}
	if k.Source == nil {
		return nil, ErrNone
	}
	return k.await(ctx, workload)
}

// find is the slot of a workload, or nil.
func (k *Keeper) find(workload string) *slot {
	if workload == "" {
		return &k.shared
	}
	return (*k.each.Load())[workload]
}

// enter begins a use of what the slot holds, also when that is stale. A version that is replaced meanwhile is not used: once it is no longer in the slot, nothing new
// begins with it.
func (s *slot) enter(now time.Time, also bool) *Held {
	for {
		h := s.held.Load()
		if h == nil || h.expired(now) || !also && h.stale(now) {
			return nil
		}
		h.begun.Add(1)
		if s.held.Load() == h {
			return h
		}
		h.ended.Add(1)
	}
}

// await is Hold with a source, when nothing fresh is held.
func (k *Keeper) await(ctx context.Context, workload string) (*Held, error) {
	s, c, err := k.ask(workload)
	if c != nil {
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		select {
		case <-c.done:
			err = c.err
		case <-ctx.Done():
			err = ErrWait
		}
	}
	if s == nil {
		return nil, err
	}
	if h := s.enter(k.Clock(), true); h != nil { // also what is older than it should be, until it expires
		return h, nil
	}
	if err == nil {
		err = ErrOver
	}
	return nil, err
}

// ask begins a fetch, or joins the one that runs. It returns no call while the source is left alone after a failure.
func (k *Keeper) ask(workload string) (*slot, *call, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.find(workload)
	if s == nil {
		all := *k.each.Load()
		if len(all) >= slots {
			return nil, nil, ErrWait
		}
		all = maps.Clone(all)
		s = &slot{workload: workload}
		all[workload] = s
		k.each.Store(&all)
	}
	now := k.Clock()
	if h := s.held.Load(); h != nil && !h.stale(now) { // it came meanwhile
		return s, nil, nil
	}
	return s, k.begin(s, now), s.err
}

// begin needs mu.
func (k *Keeper) begin(s *slot, now time.Time) *call {
	if s.call != nil {
		return s.call
	}
	if k.closed || k.resting || now.Before(s.retry) {
		return nil
	}
	s.call = &call{done: make(chan struct{})}
	k.running.Add(1)
	go k.run(s, s.call)
	return s.call
}

// Keep does what time brings: it fetches ahead what is in use, drops what is over, and ends at the source what nobody uses any more. It is called
// every now and then, and does not wait.
func (k *Keeper) Keep() {
	k.retake()
	now := k.Clock()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed || k.resting {
		return
	}
	k.keep(&k.shared, now)
	all := *k.each.Load()
	for _, s := range all {
		k.keep(s, now)
	}
	for workload, s := range all {
		if s.held.Load() == nil && s.call == nil && !now.Before(s.retry) {
			all = maps.Clone(all)
			delete(all, workload)
			k.each.Store(&all)
		}
	}
	k.pass(now)
	k.clean(now)
	k.proceed(now)
}

// keep needs mu.
func (k *Keeper) keep(s *slot, now time.Time) {
	h := s.held.Load()
	if h == nil {
		return
	}
	h.mark(now)
	if h.expired(now) {
		s.held.Store(nil)
	} else if k.Source != nil && !s.due.IsZero() && !now.Before(s.due) && h.begun.Load() > 0 { // what nobody uses is not fetched anew
		k.begin(s, now)
	}
}

// Rest waits until nothing runs at the source, or ctx ends. Nothing new begins.
func (k *Keeper) Rest(ctx context.Context) {
	k.mu.Lock()
	k.resting = true
	k.mu.Unlock()
	over := make(chan struct{})
	go func() {
		k.running.Wait()
		close(over)
	}()
	select {
	case <-over:
	case <-ctx.Done():
	}
}

// Renew has every secret fetched anew soon, because what the source needs was handed over anew.
func (k *Keeper) Renew() {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.Clock()
	all := maps.Clone(*k.each.Load())
	all[""] = &k.shared
	for _, s := range all {
		s.due, s.retry, s.err, s.fails = now, time.Time{}, nil, 0
	}
}
