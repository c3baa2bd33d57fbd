package feed

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/reevehq/reeve/internal/durable"
	"github.com/reevehq/reeve/internal/statement"
)

const (
	// Unknown is the age before the first heartbeat that counts.
	Unknown = time.Duration(-1)

	catchUp  = 15 * time.Second // from dialling to the first heartbeat that counts
	backoff  = time.Second      // longest pause between two attempts, and the time between two looks at a folder
	patience = 20               // heartbeats within which a revocation that came another way must be published
	tedious  = 100              // refused frames after which a connection is given up
)

// errResync ends a connection because records that were refused may be good under the set that came since.
var errResync = errors.New("asking again for records that were refused under the older set")

// Config says what to follow: URLs or a Folder. The callbacks see only what was verified. An error from OnSet refuses the set; after an
// error from another callback the item is offered again later. They may call Set and Age of the Follower, nothing else.
//
// OnSet and OnRecord of what closes, of keys and of other public records run one at a time and must not wait: what closes would wait for
// them. OnHandover, and OnRecord of a break-glass, its review and an extension, may write to a disk: they run one after the other beside.
type Config struct {
	URLs   []string // of the authorities that stand in for one another, such as http://127.0.0.1:7801: the next one after each failure
	Folder string   // a signed store (estate/.signed) on this machine, read every second instead of a stream
	Dir    string   // the follower's memory, made with mode 0700: the last lock in force and, with URLs, its set and all records

	Pin     statement.Pin
	Process string // who follows: the handovers and extensions for it are taken
	Sign    Sign   // with its log keys: to an authority it has to say who it is

	OnSet      func(*statement.Set, statement.Store) error
	OnRecord   func(*statement.Record) error // every kind but handovers
	OnHandover func(env *statement.Envelope, ciphertext []byte) error

	Skew  time.Duration    // how far a heartbeat's time may be from the clock; default 2 s
	TLS   *tls.Config      // for an https URL
	Clock func() time.Time // default time.Now
	Log   *slog.Logger     // default none

	// stall is the longest time between two heartbeats that count, after which a new connection is made: default 2 s, with
	// several authorities 1 s, so that one that hangs is left under the smallest bound.
	stall time.Duration
}

// Follower holds the newest set and the records that it could verify.
type Follower struct {
	cfg    Config
	done   chan struct{}
	stamp  string // of the folder when it was last read whole and nothing was refused; the reader's
	at     int    // which of the URLs is next; the reader's
	set    atomic.Pointer[statement.Set]
	newest atomic.Pointer[beat]

	mu      sync.Mutex // held while one item is applied; guards what follows
	own     Records    // verified and passed on, by statement.Envelope.ID
	files   Records    // those of them that count in heartbeats, by the file that was taken
	seen    sent       // everything that this connection has sent, verified or not
	based   sent       // that, and what was held when it began
	seenSet string     // Files.Sum of the newest set that this connection has sent, in force or not
	refused Records    // files, on this connection and under this set
	handed  Records    // handovers passed on
	closing Records    // the revocations among own
	missed  Records    // files of this connection that close something and could not be taken, though the statements do not refuse them
	closed  int        // how many of own are of a kind that closes
	lacking int        // heartbeats in a row that named fewer revocations than are held
	numbers map[string][]int64
	pending []*Frame // kept records that could not be verified at the start, for want of a good set
	dir     string   // Config.Dir, once the start is over
	waiting *Frame   // a set whose charter waits for the notice of its recovery
	again   time.Time
	status  Status
	heard   map[string]time.Time // announcements, by the hash of their charter
	under   map[[sha256.Size]byte]*underway
	keys    map[[sha256.Size]byte]key // the workload keys among own
	over    bool                      // the own copy has keys that are over
	failed  bool                      // a callback failed: the folder is read again
	writes  queue                     // of the own copy
	slow    queue                     // callbacks that may wait for a disk
	idle    *sync.Cond                // of mu: a queue is empty
}

// beat is the newest heartbeat that counted and when it came; in folder mode only when the folder was read whole.
type beat struct {
	Heartbeat
	at time.Time
}

// sent is what a connection brought: its files, which heartbeats sum, and the records that they are.
type sent struct{ files, records Records }

func (s *sent) add(env *statement.Envelope, file []byte) {
	s.files.Add(sha256.Sum256(file))
	s.records.Add(env.ID())
}

// Status is what a follower says of itself.
type Status struct {
	Lock      int64  // version in force; 0 for none
	Authority int64  // version that the newest heartbeat names
	Epoch     int64  // of the newest heartbeat
	Number    int64  // of the newest heartbeat
	Records   int    // verified records held, handovers not counted
	Withheld  int    // revocations held that the authority does not publish: more than 0 is an alarm
	Gaps      []Gap  // revocation numbers that never came: an alarm
	Refused   int64  // items refused since the start
	Err       string // why the feed is not followed now, or the newest refusal; empty when all is well
}

// Gap is a run of revocation numbers of one signer that never came, though a later one did.
type Gap struct {
	Signer   string
	From, To int64 // inclusive
}

// Follow starts following until ctx ends. Before it returns it has applied the follower's own copy, so that a process
// starts with the set and the revocations that it last had, whether or not the authority is there.
func Follow(ctx context.Context, cfg Config) (*Follower, error) {
	if (len(cfg.URLs) == 0) == (cfg.Folder == "") || len(cfg.URLs) > 0 && (cfg.Dir == "" || cfg.Sign == nil) {
		return nil, errors.New("feed: need either an authority's URL, a directory for the follower's own copy and its key, or a folder")
	}
	cfg.Skew = cmp.Or(cfg.Skew, 2*time.Second)
	if cfg.stall == 0 {
		cfg.stall = 2 * time.Second / time.Duration(min(max(len(cfg.URLs), 1), 2))
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	f := newFollower(cfg)
	if cfg.Dir != "" {
		last, err := readLast(cfg.Dir)
		if err != nil {
			return nil, err
		}
		f.cfg.Pin.LastLock, f.cfg.Pin.Heard = last, f.hear
	}
	attempt := f.read
	if len(cfg.URLs) > 0 {
		attempt = f.stream
		if err := f.restore(); err != nil {
			return nil, fmt.Errorf("reading the own copy of the estate in %s: %w", cfg.Dir, err)
		}
	}
	f.mu.Lock()
	if f.dir = cfg.Dir; f.over {
		f.write(f.rewrite)
	}
	f.mu.Unlock()
	go f.run(ctx, attempt)
	return f, nil
}

func newFollower(cfg Config) *Follower {
	f := &Follower{cfg: cfg, done: make(chan struct{}), numbers: map[string][]int64{}, heard: map[string]time.Time{}, under: map[[sha256.Size]byte]*underway{}, keys: map[[sha256.Size]byte]key{}}
	f.idle = sync.NewCond(&f.mu)
	return f
}

// Wait returns when the follower has ended and what it took is on disk.
func (f *Follower) Wait() {
	<-f.done
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.slow.running || f.writes.running {
		f.idle.Wait()
	}
}

// write does a write after those before it. Nobody waits: a disk that hangs holds up nothing that closes. Callers hold mu.
func (f *Follower) write(do func() error) {
	f.later(&f.writes, func() {
		if err := do(); err != nil {
			f.report(fmt.Errorf("in force, but not kept for the next start: %w", err))
		}
	})
}

// Set is the set in force, or nil before the first.
func (f *Follower) Set() *statement.Set { return f.set.Load() }

// Age is how old the newest news of revocations is: the time since the newest heartbeat that counted arrived, or Unknown
// before the first. The larger of the monotonic and the wall clock decides, so that a machine's sleep counts.
// A folder has no heartbeats: there Age is the time since it was last read whole.
func (f *Follower) Age() time.Duration {
	b := f.newest.Load()
	if b == nil {
		return Unknown
	}
	now := f.cfg.Clock()
	return max(now.Sub(b.at), now.Round(0).Sub(b.at.Round(0)), 0)
}

// Status reports where the follower is.
func (f *Follower) Status() Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.status
	s.Records, s.Gaps = f.own.Len(), f.gaps()
	if set := f.Set(); set != nil {
		s.Lock = set.Lock.Version
	}
	return s
}

// Offer verifies, passes on and keeps a record that came by another channel, such as "admin". One that is refused leaves no
// trace: whoever offers is not believed. What closes is in force when Offer returns; what may wait for a disk is only verified.
func (f *Follower) Offer(file []byte, channel string) error {
	_, err := f.bring(file, channel)
	return err
}

// OfferAndWait is Offer for who wants to know how it ended.
func (f *Follower) OfferAndWait(file []byte, channel string) error {
	u, err := f.bring(file, channel)
	if u == nil {
		return err
	}
	<-u.done
	return u.err
}

func (f *Follower) bring(file []byte, channel string) (*underway, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	env, _, err := ParseRecord(file)
	if err != nil {
		return nil, err
	}
	if set := f.Set(); set != nil {
		if err := set.Admit(env); err != nil {
			return nil, err
		}
	}
	if err := f.accept(&Frame{Record: file}, channel); err != nil {
		return nil, err
	}
	return f.under[env.ID()], nil
}

func (f *Follower) run(ctx context.Context, attempt func(context.Context) error) {
	defer close(f.done)
	most := backoff
	if len(f.cfg.URLs) > 1 {
		most = backoff / 8 // the next one may be taking over just now
	}
	for pause := time.Duration(0); ctx.Err() == nil; {
		before := f.newest.Load()
		err := attempt(ctx)
		if err == errResync {
			continue
		}
		if err != nil && ctx.Err() == nil {
			f.report(err)
		}
		switch {
		case f.cfg.Folder != "":
			pause = backoff
		case f.newest.Load() != before:
			pause = backoff / 16
		default:
			pause = min(max(2*pause, backoff/16), most)
		}
		f.at = (f.at + 1) % max(len(f.cfg.URLs), 1)
		select {
		case <-ctx.Done():
		case <-time.After(pause/2 + rand.N(pause/2+1)):
		}
	}
}

// stream follows one connection until it ends.
func (f *Follower) stream(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// Whoever is silent, endless or slow has until this fires; only a heartbeat that counts puts it off.
	timer := time.AfterFunc(catchUp, func() { cancel(errors.New("no heartbeat that counts came in time")) })
	defer timer.Stop()
	http1 := new(http.Protocols)
	http1.SetHTTP1(true)
	transport := &http.Transport{DialContext: (&net.Dialer{Timeout: f.cfg.stall}).DialContext, TLSClientConfig: f.cfg.TLS, Protocols: http1,
		MaxResponseHeaderBytes: 16 << 10, DisableCompression: true, DisableKeepAlives: true}
	if len(f.cfg.URLs) > 1 {
		transport.ResponseHeaderTimeout = f.cfg.stall / 2 // one that hangs is tried in vain before the one that took over
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(f.cfg.URLs[f.at], "/")+Path, nil)
	if err != nil {
		return err
	}
	who, err := f.have().Header(f.cfg.Sign)
	if err != nil {
		return err
	}
	req.Header.Set(AskHeader, who)
	resp, err := transport.RoundTrip(req) // no redirects
	if err != nil {
		return fmt.Errorf("the authority at %s cannot be reached: %w", f.cfg.URLs[f.at], cmp.Or(context.Cause(ctx), err))
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		why, _ := io.ReadAll(io.LimitReader(resp.Body, 512))
		return fmt.Errorf("the authority at %s answered %s instead of a stream: %q", f.cfg.URLs[f.at], resp.Status, bytes.TrimSpace(why))
	}
	body := bufio.NewReaderSize(resp.Body, 32<<10)
	for refused := 0; refused < tedious; {
		frame, err := ReadFrame(body)
		if err != nil {
			return fmt.Errorf("the authority's stream ended: %w", cmp.Or(context.Cause(ctx), err))
		}
		err = f.take(frame, "feed")
		switch {
		case err == errResync:
			return err
		case err != nil:
			refused++
			f.report(err)
		case frame.Heartbeat != nil:
			timer.Reset(f.cfg.stall)
		}
	}
	return fmt.Errorf("the authority sent %d items that were refused", tedious)
}

// have tells the authority what it need not send, and begins to count what it does.
func (f *Follower) have() *Ask {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen, f.based, f.seenSet, f.refused, f.missed = sent{}, sent{f.files.clone(), f.own.clone()}, "", Records{}, Records{}
	ask := &Ask{Estate: f.cfg.Pin.Estate, Process: f.cfg.Process, Records: f.files.Sum(), Time: f.cfg.Clock().UTC()}
	if set := f.Set(); set != nil {
		ask.Lock = hex.EncodeToString(set.LockHash[:])
	}
	return ask
}

// read looks at the folder once. A set or record that is refused says nothing about the other records.
func (f *Follower) read(context.Context) error {
	stamp := Stamp(f.cfg.Folder)
	f.mu.Lock()
	again := f.failed
	f.failed = false
	f.mu.Unlock()
	if stamp != "" && stamp == f.stamp && !again {
		f.newest.Store(&beat{at: f.cfg.Clock()})
		return nil
	}
	f.have()
	folder := statement.Dir(f.cfg.Folder)
	newest, err := statement.Newest(folder, "lock")
	if err != nil || newest == 0 {
		return fmt.Errorf("%s has no estate.lock: %w", f.cfg.Folder, cmp.Or(err, fs.ErrNotExist))
	}
	whole := true
	look := func(name string, err error) {
		if err != nil {
			whole = false
			f.report(fmt.Errorf("%s: %w", name, err))
		}
	}
	if set := f.Set(); set == nil || set.Lock.Version != newest {
		f.mu.Lock()
		err := f.takeSet(folder, nil)
		f.mu.Unlock()
		look("lock "+strconv.FormatInt(newest, 10), err)
	}
	err = EachRecord(folder, func(name string, record *Frame) error {
		look(name, f.take(record, "folder"))
		return nil
	})
	if err != nil {
		return err
	}
	f.newest.Store(&beat{at: f.cfg.Clock()})
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.status.Authority = newest; whole {
		f.stamp, f.status.Err = stamp, ""
	}
	return nil
}

// take applies one frame that came by a channel.
func (f *Follower) take(frame *Frame, channel string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case frame.Heartbeat != nil:
		if f.waiting != nil && !f.cfg.Clock().Before(f.again) {
			if err := f.renew(f.waiting); errors.Is(err, errResync) {
				return err
			}
		}
		return f.takeHeartbeat(frame.Heartbeat)
	case len(frame.Record) > 0:
		if env, kind, err := ParseRecord(frame.Record); err == nil && kind != "handover" {
			f.seen.add(env, frame.Record)
			f.based.add(env, frame.Record)
		}
		return f.takeRecord(frame, channel)
	case len(frame.Set) > 0:
		f.seenSet = frame.Set.Sum()
		return f.renew(frame)
	}
	return nil
}

// renew takes a set, and asks again for the records that were refused under the one before.
func (f *Follower) renew(set *Frame) error {
	before := f.refused.Len()
	if err := f.offer(set); err != nil {
		return err
	}
	if f.refused.Len() < before {
		return errResync
	}
	return nil
}

func (f *Follower) takeHeartbeat(env *statement.Envelope) error {
	set, now, last := f.Set(), f.cfg.Clock(), f.newest.Load()
	if set == nil {
		return fmt.Errorf("%w: there is no set yet to verify it with", ErrHeartbeat)
	}
	h, err := OpenHeartbeat(env, set.ServiceKeys("feed", now))
	if err != nil {
		return err
	}
	skew := now.Round(0).Sub(h.Time)
	switch {
	case h.Estate != set.Charter.Estate:
		return fmt.Errorf("%w: it is for estate %q", ErrHeartbeat, h.Estate)
	case last != nil && cmp.Or(cmp.Compare(h.Epoch, last.Epoch), cmp.Compare(h.Number, last.Number)) <= 0:
		return fmt.Errorf("%w: epoch %d number %d came after %d %d: a replay, or an authority restored to an earlier state", ErrHeartbeat, h.Epoch, h.Number, last.Epoch, last.Number)
	case skew.Abs() > f.cfg.Skew:
		return fmt.Errorf("%w: its time is %s away: delayed, replayed, or a clock is wrong (compare the clocks of both machines)", ErrHeartbeat, skew.Round(time.Millisecond))
	case h.Sum != f.based.files.Sum() && h.Sum != f.seen.files.Sum():
		return fmt.Errorf("%w: it names %d records that did not all arrive", ErrHeartbeat, h.Records)
	case f.missed.Len() > 0:
		return fmt.Errorf("%w: %d revocations that it names could not be taken", ErrHeartbeat, f.missed.Len())
	case h.LockHash != hex.EncodeToString(set.LockHash[:]) && h.SetSum != f.seenSet:
		return fmt.Errorf("%w: it names lock version %d, whose set did not arrive", ErrHeartbeat, h.Lock)
	}
	f.newest.Store(&beat{*h, now})
	published, withheld := &f.based, 0
	if h.Sum != f.based.files.Sum() {
		published = &f.seen
		f.expire()
	}
	for _, id := range f.closing.ids {
		if !published.records.Has(id) {
			withheld++
		}
	}
	if f.lacking++; withheld == 0 {
		f.lacking = 0
	}
	if f.lacking == patience {
		f.cfg.Log.Error("the authority does not publish revocations that this process holds; they stay in force", "count", withheld)
	}
	f.status.Authority, f.status.Epoch, f.status.Number, f.status.Withheld, f.status.Err = h.Lock, h.Epoch, h.Number, withheld, ""
	return nil
}

// offer takes a set. One that waits for the notice of a recovery is taken again after a while.
func (f *Follower) offer(set *Frame) error {
	err := f.takeSet(set.Set, set.Published)
	var e *statement.Error
	if f.waiting = nil; errors.As(err, &e) && e.Rule == "notice" {
		f.waiting, f.again = set, f.cfg.Clock().Add(catchUp)
	}
	return err
}

// takeSet verifies a set, puts it in force and keeps it. The set in force again is no error. A follower that starts from its pin alone, where
// there are witnesses, wants to see the first one in an authority's cosigned log; from a folder it cannot.
func (f *Follower) takeSet(store statement.Store, published *Publication) error {
	prev := f.Set()
	trace := &Trace{From: store, Read: Files{}}
	set, err := statement.Load(trace, f.cfg.Pin, prev, f.cfg.Clock())
	switch {
	case err != nil:
		return err
	case prev != nil && set.LockHash == prev.LockHash:
		return nil
	case prev != nil && set.Lock.Version <= prev.Lock.Version:
		return fmt.Errorf("another set with lock version %d is in force: %w", prev.Lock.Version, statement.ErrRefused)
	case prev == nil && f.cfg.Pin.LastLock.Version == 0 && len(set.ServiceKeys("witness", f.cfg.Clock())) > 0:
		if err := published.Check(set, f.cfg.Clock()); err != nil && len(f.cfg.URLs) > 0 {
			return fmt.Errorf("lock version %d: %w", set.Lock.Version, err)
		} else if err != nil {
			f.cfg.Log.Warn("the first set comes from a folder, where nothing shows that it was published", "lock", set.Lock.Version)
		}
	}
	if f.cfg.OnSet != nil {
		if err := f.cfg.OnSet(set, trace.Read); err != nil {
			return fmt.Errorf("lock version %d: %w", set.Lock.Version, err)
		}
	}
	f.set.Store(set)
	f.refused = Records{}
	f.cfg.Log.Info("statement set in force", "lock", set.Lock.Version)
	f.pending = slices.DeleteFunc(f.pending, func(kept *Frame) bool { return f.takeRecord(kept, "kept") == nil })
	if f.dir == "" {
		return nil
	}
	dir := f.dir
	if len(f.cfg.URLs) > 0 {
		f.write(func() error {
			return durable.Replace(filepath.Join(dir, "set"), (&Frame{Set: trace.Read}).Encode(), 0o600)
		})
	}
	f.write(func() error { return writeLast(dir, set.Locked()) })
	return nil
}

// takeRecord takes a record, unless it was refused under this set.
func (f *Follower) takeRecord(frame *Frame, channel string) error {
	id := sha256.Sum256(frame.Record)
	if f.refused.Has(id) {
		return nil
	}
	err := f.accept(frame, channel)
	env, kind, unread := ParseRecord(frame.Record)
	switch {
	case err == nil || unread != nil || f.own.Has(env.ID()):
		f.missed.drop(id)
	case closes(kind) && !errors.Is(err, statement.ErrRefused):
		f.missed.Add(id) // it is taken again whenever it comes
	default:
		f.refused.Add(id)
	}
	return err
}

// closes reports whether records of a kind close something. No limit holds for them.
func closes(kind string) bool { return kind == "revocation" || kind == "signal" || kind == "scim" }

// accept verifies a record, passes it on and keeps it. A known one is no error. Closing does not wait for the disk: a record that
// cannot be kept is in force and reported. Nor does it wait for other records' callbacks that do: these are done beside, and their errors reported.
func (f *Follower) accept(frame *Frame, channel string) error {
	env, kind, err := ParseRecord(frame.Record)
	if err != nil {
		return err
	}
	id := env.ID()
	if !closes(kind) && max(f.own.Len(), f.handed.Len())-f.closed >= MaxRecords {
		return fmt.Errorf("%w: more than %d records that close nothing", ErrFrame, MaxRecords)
	}
	if f.own.Has(id) || f.handed.Has(id) || f.under[id] != nil {
		return nil
	}
	if Over(env, kind, f.cfg.Clock()) {
		f.over = f.over || channel == "kept"
		return nil
	}
	fails := func(err error) error { return fmt.Errorf("record %x of kind %s: %w", id[:8], kind, err) }
	record, pass, err := f.open(&statement.Record{Kind: kind, Envelope: env, SHA256: hex.EncodeToString(id[:]), Channel: channel}, frame.Sealed)
	if err != nil {
		return fails(err)
	}
	dir := f.dir // while the own copy is read, nothing is written to it
	if !waits(kind) {
		if err := pass(); err != nil {
			return fails(err)
		}
		f.took(id, kind, record, frame, dir)
		return nil
	}
	u := &underway{done: make(chan struct{})}
	f.under[id] = u
	f.later(&f.slow, func() {
		defer close(u.done)
		if err := pass(); err != nil {
			u.err = fails(err)
			f.report(u.err)
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.under, id)
		switch {
		case u.err == nil:
			f.took(id, kind, record, frame, dir)
		case channel == "kept":
			f.pending = append(f.pending, frame)
		default:
			f.failed = true
		}
	})
	return nil
}

// took notes that a record was passed on, and keeps it. Callers hold mu.
func (f *Follower) took(id [sha256.Size]byte, kind string, record any, frame *Frame, dir string) {
	if kind == "handover" {
		f.handed.Add(id)
		return
	}
	f.own.Add(id)
	f.files.Add(sha256.Sum256(frame.Record))
	if closes(kind) {
		f.closed++
	}
	switch r := record.(type) {
	case *statement.Revocation:
		f.closing.Add(id)
		f.numbers[r.Signer] = append(f.numbers[r.Signer], r.Number)
	case *statement.WorkloadKey:
		f.keys[id] = key{sha256.Sum256(frame.Record), r.NotAfter}
	}
	if dir != "" && len(f.cfg.URLs) > 0 {
		f.write(func() error { return durable.Append(filepath.Join(dir, "records"), frame.Encode()) })
	}
}

// open verifies one record with the set in force, and returns it with what hands it to its callback. What is for another custodian is kept like
// the rest, but for handovers, and given to nobody.
func (f *Follower) open(r *statement.Record, sealed []byte) (record any, pass func() error, err error) {
	set := f.Set()
	if set == nil {
		return nil, nil, errors.New("there is no set yet to verify it with")
	}
	record, custodian, err := Open(set, r.Envelope, r.Kind, f.cfg.Clock())
	if err != nil {
		return nil, nil, err
	}
	if a, ok := record.(*statement.Announcement); ok && f.cfg.Dir != "" {
		f.hear(a.SHA256)
	}
	pass = func() error { return nil }
	if custodian != "" && custodian != f.cfg.Process {
		return record, pass, nil
	}
	h, handover := record.(*statement.Handover)
	switch {
	case handover:
		if sum := sha256.Sum256(sealed); hex.EncodeToString(sum[:]) != h.SHA256 {
			return nil, nil, fmt.Errorf("the ciphertext is not the one that was handed over for %s version %d", h.Credential, h.Version)
		}
		if f.cfg.OnHandover != nil {
			pass = func() error { return f.cfg.OnHandover(r.Envelope, sealed) }
		}
	case f.cfg.OnRecord != nil:
		pass = func() error { return f.cfg.OnRecord(r) }
	}
	return record, pass, nil
}

// restore applies the follower's own copy: the files "set" and "records" hold frames as the stream does. A set that is
// not good any more (its lock expired, say) is reported, and the feed brings a newer one; an older one stays refused.
func (f *Follower) restore() error {
	if err := os.MkdirAll(f.cfg.Dir, 0o700); err != nil {
		return err
	}
	b, err := os.ReadFile(filepath.Join(f.cfg.Dir, "set"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	frame, err := ParseFrame(b)
	if err != nil {
		return err
	}
	if err := f.take(frame, "kept"); err != nil {
		f.report(fmt.Errorf("the set kept from the last run: %w", err))
	}
	records, err := os.ReadFile(filepath.Join(f.cfg.Dir, "records"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for line := range bytes.Lines(records) { // one may be torn by a crash; the feed sends it again
		frame, err := ParseFrame(line)
		if err == nil && f.take(frame, "kept") != nil {
			f.pending = append(f.pending, frame)
		}
	}
	return nil
}

// gaps lists the revocation numbers that are missing: a signer numbers his revocations from 1 without gaps.
func (f *Follower) gaps() (gaps []Gap) {
	for signer, have := range f.numbers {
		slices.Sort(have)
		last := int64(0)
		for _, n := range have {
			if n > last+1 {
				gaps = append(gaps, Gap{signer, last + 1, n - 1})
			}
			last = n
		}
	}
	return gaps
}

// report notes what went wrong, and logs it when it is not the same again.
func (f *Follower) report(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.status.Refused++
	if f.status.Err != err.Error() {
		f.cfg.Log.Warn("feed: "+err.Error(), "age", f.Age())
	}
	f.status.Err = err.Error()
}
