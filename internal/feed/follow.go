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
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

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

// errNoSet means that an item cannot be verified yet.
var errNoSet = errors.New("there is no set yet to verify it with")

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
	Left       func() []string // people whom revocations say have left: their deputies hand over; nil for none

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
	Taking    int    // records that arrived, among them handovers, whose callbacks are not done
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
	s.Records, s.Gaps, s.Taking = f.own.Len(), f.gaps(), len(f.under)
	if set := f.Set(); set != nil {
		s.Lock = set.Lock.Version
	}
	return s
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
			f.tell(err)
		}
		switch {
		case f.cfg.Folder != "":
			pause = backoff
		case f.newest.Load() != before:
			pause = backoff / 16
		default:
			pause = min(max(2*pause, backoff/64), most)
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
		MaxResponseHeaderBytes: 16 << 10, DisableCompression: true}
	defer transport.CloseIdleConnections()
	if len(f.cfg.URLs) > 1 {
		transport.ResponseHeaderTimeout = f.cfg.stall / 2 // one that hangs is tried in vain before the one that took over
	}
	resp, err := f.ask(ctx, transport)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
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

// ask asks for the stream: once without a word of itself, for the challenge, and then with what it has. The authority may be restarted in between, or
// another one answer.
func (f *Follower) ask(ctx context.Context, transport *http.Transport) (*http.Response, error) {
	url, challenge := f.cfg.URLs[f.at], ""
	for range 3 {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(url, "/")+Path, nil)
		if err != nil {
			return nil, err
		}
		if challenge != "" {
			ask := f.have()
			ask.Challenge = challenge
			who, err := ask.Header(f.cfg.Sign)
			if err != nil {
				return nil, err
			}
			req.Header.Set(AskHeader, who)
		}
		resp, err := transport.RoundTrip(req) // no redirects
		if err != nil {
			return nil, fmt.Errorf("the authority at %s cannot be reached: %w", url, cmp.Or(context.Cause(ctx), err))
		}
		if resp.StatusCode == http.StatusOK && challenge != "" {
			return resp, nil
		}
		why, _ := io.ReadAll(io.LimitReader(resp.Body, 512)) // to its end, for the next request on this connection
		resp.Body.Close()
		if challenge = resp.Header.Get(ChallengeHeader); resp.StatusCode != http.StatusUnauthorized || !isChallenge(challenge) {
			return nil, fmt.Errorf("the authority at %s answered %s instead of a stream: %q", url, resp.Status, bytes.TrimSpace(why))
		}
	}
	return nil, fmt.Errorf("the authority at %s takes none of the challenges that it gives: is more than one process behind that address?", url)
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

// report tells of an item that was refused. One that only came too early is none: before the first set, or before its lock is in a cosigned log.
func (f *Follower) report(err error) {
	if !errors.Is(err, errNoSet) && !errors.Is(err, errNotYet) {
		f.mu.Lock()
		f.status.Refused++
		f.mu.Unlock()
	}
	f.tell(err)
}

// tell says why the feed is not followed now.
func (f *Follower) tell(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.status.Err != err.Error() {
		f.cfg.Log.Warn("feed: "+err.Error(), "age", f.Age())
	}
	f.status.Err = err.Error()
}
