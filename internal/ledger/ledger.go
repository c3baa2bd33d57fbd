// Package ledger appends entries durably, publishes them as a C2SP tlog-tiles log with cosigned checkpoints, and proves them.
package ledger

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/durable"
	"github.com/reevehq/reeve/internal/statement"
)

var (
	// ErrClosed is returned after Close and, with its cause, after the first failed write or sync, which is fatal and never retried.
	ErrClosed = errors.New("ledger closed")
	// ErrFull is returned when the disk has no room for entries that do not close anything.
	ErrFull = errors.New("the ledger's disk is full: free space below 5 % of it; nothing is used until there is room, closing still works")
	// ErrRolledBack means that a witness has seen more of this log than is on disk.
	ErrRolledBack = errors.New("ledger was rolled back")
	// ErrBusy is returned by Enqueue when the disk does not keep up.
	ErrBusy = errors.New("ledger has too many entries waiting for the disk")
)

// Config says where a ledger lives and who watches it. Key, Dir and Tiles are required.
type Config struct {
	Key   Key
	Dir   string // state: write-ahead log, payloads and their keys; made with mode 0700
	Tiles string // published log; made with mode 0750
	Group int    // numeric group that may read Tiles; 0 leaves the process's own

	Witnesses []Witness
	Need      int // cosignatures that make a checkpoint cosigned; 0 means 1 if there are witnesses

	SegmentSize int64         // bytes of a write-ahead log segment; 0 means 16 MiB
	Interval    time.Duration // between publications; 0 means 1 s
	Heartbeat   time.Duration // between heartbeat entries; 0 means none
	MaxSize     int64         // entries after which the log is rotated; 0 means 100 million
	Monthly     bool          // rotate when the (UTC) month changes

	// Enrolled reports whether a key is to be believed for a successor, whose key is read from Key's file; nil believes every one.
	Enrolled func(Key) bool

	// Retire verifies a signed retirement that an operator left in Dir for a damaged log; nil refuses every one.
	Retire func(envelope []byte) (*statement.Retirement, error)

	Clock  func() time.Time // nil means time.Now
	Logger *slog.Logger     // nil means none

	disks func(dir string) disk // nil means the operating system's
}

func (c *Config) setDefaults() error {
	if c.Key.name == "" || c.Dir == "" || c.Tiles == "" {
		return errors.New("ledger: Key, Dir and Tiles are required")
	}
	if c.SegmentSize == 0 {
		c.SegmentSize = 16 << 20
	}
	if c.SegmentSize < 4*entry.MaxLen || c.SegmentSize > maxSegment || c.SegmentSize%8 != 0 {
		return fmt.Errorf("ledger: segment size %d is not a multiple of 8 between 256 KiB and 1 GiB", c.SegmentSize)
	}
	if c.Interval == 0 {
		c.Interval = time.Second
	}
	if c.MaxSize == 0 {
		c.MaxSize = 100_000_000
	}
	if c.Need == 0 && len(c.Witnesses) > 0 {
		c.Need = 1
	}
	if c.Need > len(c.Witnesses) {
		return fmt.Errorf("ledger: %d cosignatures needed, %d witnesses configured", c.Need, len(c.Witnesses))
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.disks == nil {
		c.disks = func(dir string) disk { return osDisk(dir) }
	}
	return nil
}

// dir is the state directory of one volume.
func (c *Config) dir(volume int) string { return filepath.Join(c.Dir, fmt.Sprint(volume)) }

func (c *Config) disk(volume int) disk { return c.disks(filepath.Join(c.dir(volume), "wal")) }

// Log is an append-only Merkle log with its own key. Its methods may be called from any goroutine.
type Log struct {
	cfg  Config
	lock *os.File

	mu     sync.Mutex  // guards the queue and why
	queue  []*group    // waiting for the writer; the last one takes new entries
	queued int         // entries in queue
	usual  int         // entries to make room for in the next group
	lapse  *time.Timer // runs while entries wait for which nobody waits
	why    error       // not nil: closed, and the reason

	wake   chan struct{} // the writer has something to do; capacity 1
	rotate chan chan error
	ctx    context.Context // until the log closes
	stop   context.CancelFunc
	done   sync.WaitGroup
	writer sync.WaitGroup

	closing sync.Once
	closed  error // what Close returns

	vol     *volume                // the writer's
	current atomic.Pointer[volume] // the same for everybody else
	size    atomic.Int64           // durable entries of the current volume
	began   atomic.Int64           // when its first entry was written, Unix nanoseconds
	full    atomic.Bool            // free disk space below 5 %

	// The writer's buffers.
	scratch []byte
	buf     []byte

	keys *keyring
	pub  publisher
	age  marks
}

// group collects the entries that one sync makes durable.
type group struct {
	items []item
	due   bool          // somebody waits, or it has waited long enough; under Log.mu
	done  chan struct{} // closed when the items are durable or refused
	err   error         // why all of them failed

	vol    *volume
	first  int64
	timeNS int64
	leaves [][sha256.Size]byte

	once   sync.Once
	signed *entry.Group
}

type item struct {
	e       *entry.Entry
	payload []byte // sealed
	closing bool
	seq     int64
	err     error
}

const (
	maxItems  = 4096    // in a group
	maxQueued = 1 << 16 // entries waiting, after which Enqueue refuses what does not close anything
	maxBody   = entry.MaxLen
	linger    = 20 * time.Millisecond // that entries for which nobody waits wait for others
)

// Open recovers the ledger, publishes what is durable, and asks the witnesses whether they have seen more of it. A
// *DamagedError or ErrRolledBack means that it must not be used. Witnesses that cannot be reached do not stop Open:
// Uncosigned tells how long they have been missed.
func Open(ctx context.Context, cfg Config) (_ *Log, err error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	l := &Log{
		cfg: cfg, wake: make(chan struct{}, 1), rotate: make(chan chan error), scratch: []byte{0},
	}
	l.lapse = time.AfterFunc(linger, l.overdue)
	l.ctx, l.stop = context.WithCancel(context.Background())
	if l.lock, err = lockDir(filepath.Join(cfg.Dir, lockFile)); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			l.release()
		}
	}()
	if err := l.openKeys(); err != nil {
		return nil, err
	}
	n, err := lastVolume(cfg.Dir)
	if err != nil {
		return nil, err
	}
	retired, err := l.retire(n)
	if err != nil {
		return nil, err
	}
	if !retired {
		if err := l.openVolume(n); err != nil {
			return nil, err
		}
	}
	if n > 0 && l.vol.Tree.Size == 0 {
		// A rotation was interrupted before the successor's first entry was durable: the log before it goes on.
		if err := errors.Join(l.vol.close(), os.RemoveAll(cfg.dir(n)), l.openVolume(n-1)); err != nil {
			return nil, err
		}
	}
	l.prepare() // beside the publication, which waits for witnesses
	// Publication may fail, for lack of room perhaps, and is tried again; what must stop the start is a later state elsewhere.
	if err := l.publish(ctx); errors.Is(err, ErrRolledBack) {
		return nil, err
	} else if err != nil {
		cfg.Logger.Error("ledger not published yet", "err", err)
	}
	l.checkSpace()
	if err := l.probe(); err != nil {
		return nil, err
	}
	if l.cfg.Heartbeat > 0 { // its key is there before the writer wants it; without room there is no heartbeat
		if _, err := l.keys.of(keyNames(&entry.Entry{})); err != nil && !errors.Is(err, ErrFull) {
			return nil, err
		}
	}
	l.writer.Go(l.write)
	l.done.Go(l.publishing)
	return l, nil
}

// openKeys opens the keys of payloads.
func (l *Log) openKeys() (err error) {
	dir := filepath.Join(l.cfg.Dir, keysDir)
	if err := errors.Join(os.MkdirAll(dir, 0o700), durable.Sync(l.cfg.Dir)); err != nil {
		return err
	}
	lost := 0
	if l.keys, lost, err = openKeyring(l.cfg.disks(dir), l.cfg.Clock, l.halt); err != nil {
		return err
	}
	if lost > 0 {
		l.cfg.Logger.Error("keys of payloads cannot be read: what they sealed is lost, and the disk is to be looked at", "keys", lost)
	}
	return nil
}

// Origin is the origin of the log that is being written.
func (l *Log) Origin() string { return l.volume().origin }

// ID is its log id.
func (l *Log) ID() string { return l.volume().id }

func (l *Log) volume() *volume { return l.current.Load() }

// Durable is evidence that an entry is on disk. Only Append makes one; what must not happen before the entry is durable
// takes a Durable. The zero Durable is not valid.
type Durable struct {
	seq  int64
	leaf [sha256.Size]byte
	g    *group
}

// Valid reports whether the Durable came from Append.
func (d Durable) Valid() bool { return d.g != nil }

// Seq is the entry's leaf index.
func (d Durable) Seq() int64 { return d.seq }

// Log is the id of the log that holds the entry. An outcome names it in IntentLog: the ledger may have been rotated since.
func (d Durable) Log() string {
	if d.g == nil {
		return ""
	}
	return d.g.vol.id
}

// Leaf is the entry's RFC 6962 leaf hash.
func (d Durable) Leaf() [sha256.Size]byte { return d.leaf }

// Receipt is the value of the Reeve-Receipt header. The first caller of a commit group signs for all of it.
func (d Durable) Receipt() string {
	if d.g == nil {
		return ""
	}
	return d.g.receipts().Receipt(d.seq, d.leaf).String()
}

// receipts builds and signs the group's tree when the first receipt is asked for. The group is durable by then.
func (g *group) receipts() *entry.Group {
	g.once.Do(func() {
		g.signed = entry.NewGroup(g.vol.id, g.first, g.timeNS, g.leaves)
		g.signed.Sig = g.vol.key.sign(g.signed.Message())
	})
	return g.signed
}

// Append sets V, Seq, TimeNS, Log and TenantSeq, writes the entry with whatever else is queued, and returns when it is durable.
// payload, if any, is kept outside the tree, sealed with the tenant's key and as durable as the entry, and committed to in
// Commit. It fails with entry.ErrInvalid, ErrFull, ErrActors or ErrClosed.
func (l *Log) Append(e *entry.Entry, payload []byte) (Durable, error) {
	if l.full.Load() {
		return Durable{}, ErrFull
	}
	it := item{e: e}
	if payload != nil {
		if err := l.commitTo(&it, payload); err != nil {
			return Durable{}, cmp.Or(l.Err(), err)
		}
	}
	return l.append(it)
}

// AppendClosing is Append for the entry of a closing, which is in force already: it may use the reserve when the disk is full.
func (l *Log) AppendClosing(e *entry.Entry) (Durable, error) {
	return l.append(item{e: e, closing: true})
}

func (l *Log) append(it item) (Durable, error) {
	g, i, err := l.enqueue(it, true)
	if err != nil {
		return Durable{}, err
	}
	<-g.done
	if g.err != nil {
		return Durable{}, g.err
	}
	if err := g.items[i].err; err != nil {
		return Durable{}, err
	}
	seq := g.items[i].seq
	return Durable{seq: seq, leaf: g.leaves[seq-g.first], g: g}, nil
}

// Enqueue is Append without the wait: for entries that do not gate (outcomes, closings). An entry that closes nothing is
// written with the next one that is waited for, or 20 ms later: it costs no sync of its own and delays nobody's. A closing
// entry may use the reserve when the disk is full. The entry is copied, its lists are not. Failures after Enqueue returned
// are logged.
func (l *Log) Enqueue(e *entry.Entry, closing bool) error {
	c := *e
	_, _, err := l.enqueue(item{e: &c, closing: closing}, closing)
	return err
}

// enqueue puts the item into the group that the writer takes next, at once if it is due.
func (l *Log) enqueue(it item, due bool) (*group, int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.why != nil {
		return nil, 0, l.why
	}
	if l.queued >= maxQueued && !it.closing {
		return nil, 0, ErrBusy
	}
	if n := len(l.queue); n == 0 || len(l.queue[n-1].items) == maxItems {
		l.queue = append(l.queue, &group{items: make([]item, 0, l.usual), done: make(chan struct{})})
	}
	g := l.queue[len(l.queue)-1]
	g.items = append(g.items, it)
	l.queued++
	switch {
	case g.due:
	case due || len(g.items) == maxItems:
		g.due = true
		l.nudge()
	case len(g.items) == 1:
		l.lapse.Reset(linger)
	}
	return g, len(g.items) - 1, nil
}

// nudge wakes the writer.
func (l *Log) nudge() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// overdue lets the writer take what nobody waits for.
func (l *Log) overdue() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, g := range l.queue {
		g.due = true
	}
	l.nudge()
}

// take removes the oldest group from the queue, or returns nil when none is due and whether the log is closed.
func (l *Log) take() (g *group, closed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) == 0 || !l.queue[0].due && l.why == nil {
		return nil, l.why != nil
	}
	g, l.queue[0] = l.queue[0], nil
	l.queue = l.queue[1:]
	l.queued -= len(g.items)
	l.usual = min(len(g.items)+1, maxItems)
	return g, false
}

// halt closes the log with a reason: nothing more is accepted. The first reason stays.
func (l *Log) halt(cause error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.why != nil {
		return
	}
	l.why = ErrClosed
	if cause != nil {
		l.why = fmt.Errorf("%w: %w", ErrClosed, cause)
		l.cfg.Logger.Error("ledger closed: nothing is used any more; restart after the cause is mended", "err", cause)
	}
	l.stop()
	l.nudge()
}

// Err is the reason why the log has closed, or nil.
func (l *Log) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.why
}

// failed reports whether the log has closed with a failure: nothing more may be written.
func (l *Log) failed() bool {
	err := l.Err()
	return err != nil && err != ErrClosed
}

// Done is closed when the log closes, by Close or by a failure.
func (l *Log) Done() <-chan struct{} { return l.ctx.Done() }

// Close writes and publishes what is queued and lets the files go.
func (l *Log) Close() error {
	l.closing.Do(func() {
		l.halt(nil)
		l.writer.Wait()
		l.done.Wait()
		err := l.Err()
		if !l.failed() {
			ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
			defer cancel()
			err = l.publish(ctx)
		}
		l.closed = errors.Join(err, l.release())
	})
	return l.closed
}

// closeTimeout bounds how long Close waits for witnesses.
const closeTimeout = 2 * time.Second

func (l *Log) release() error {
	var err error
	if l.vol != nil {
		err = l.vol.close()
	}
	l.pub.close()
	if l.keys != nil {
		err = errors.Join(err, l.keys.close())
	}
	if l.lock != nil {
		err = errors.Join(err, l.lock.Close())
	}
	return err
}

// leafHash is the RFC 6962 leaf hash of an entry that follows one zero byte in b.
func leafHash(b []byte) tlog.Hash { return sha256.Sum256(b) }
