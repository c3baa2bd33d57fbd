// Package authority publishes an estate: it reads the signed store, verifies it for itself, and streams sets, records and
// signed heartbeats to whoever follows. It takes signed records and passes on what verifies, after its own ledger has the
// entry. It can withhold; it can neither read a secret nor author anything.
//
// Several authorities may share one database. The one that holds the lease publishes; the others verify along and stand by.
package authority

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/authority/store"
	"github.com/reevehq/reeve/internal/authority/token"
	"github.com/reevehq/reeve/internal/feed"
	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/internal/metrics"
	"github.com/reevehq/reeve/internal/replay"
	"github.com/reevehq/reeve/internal/secret"
	"github.com/reevehq/reeve/internal/serve"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/statement/standing"
	"github.com/reevehq/reeve/internal/workload/issuer"
)

// id is a record's statement.Envelope.ID, or the SHA-256 of a lock's manifest.
type id = [sha256.Size]byte

// Ledger is the authority's own log: nothing is published before its entry is durable there.
type Ledger interface {
	Append(e *entry.Entry, payload []byte) (ledger.Durable, error)
	Enqueue(e *entry.Entry, closing bool) error
}

// Authority is a running authority.
type Authority struct {
	id     string
	holder string // of the lease: the id and this run
	pin    statement.Pin
	estate string // the signed store's folder, only read
	tiles  string // the published log
	store  *store.Store
	key    atomic.Pointer[feedKey]
	scim   map[string]secret.Value // bearer tokens of the SCIM clients, by signal issuer
	limit  int                     // followers at once
	clock  func() time.Time
	log    *slog.Logger
	count  *counters

	posts, signals, changes *serve.Pace // of records, of security event tokens, and of what SCIM clients change

	tokens   *token.Endpoint // nil without a token key
	tokenKey atomic.Pointer[token.Key]
	refusals refusals
	issuers  *issuer.Book  // the published keys of issuers; nil without a token key
	replay   *replay.Guard // of requests for the stream

	admit    sync.Mutex // held while a set or record goes from verified to published; guards what follows
	ledger   Ledger     // nil until the ledger is open
	line     int64      // of the store's journal, the last one read
	entered  map[id]bool
	received map[id]*feed.Frame // records of the journal that are not published yet
	shared   feed.Files         // the set of the journal
	unkept   []store.Line       // what was entered, and closings that are published, while the database was away
	promise  string             // the receipt of this run's entry of the set in force; empty when another run made it
	refused  map[id]bool        // record files that do not verify under the set in force
	stamp    string             // of the signed store when it was last read

	publications map[id]*feed.Publication // of the journal, by lock

	mu        sync.Mutex  // guards what follows
	lease     store.Lease // the zero Lease while another authority is known to hold it
	leading   bool        // everything known is published under the lease
	away      bool        // the database, when it was last asked for the lease
	other     string      // who holds the lease when this one does not
	set       *edition    // in force, published or not
	records   map[id]*record
	latest    map[string]id     // handover of each credential to each custodian
	handed    map[string]string // SHA-256 of the ciphertext of each published handover, by feed.SealedPath
	sums      feed.Records      // of the records that heartbeats count
	issue     issuing           // what tokens are judged by
	number    int64             // of the newest heartbeat
	followers map[*follower]bool
	changed   chan struct{} // closed when this authority begins to publish, stands by, or has a set or its publication: see turn
	refusal   string        // why what lies in the signed store is not published; empty when it is
}

// record is a published record.
type record struct {
	line      []byte // its frame; nil when it is over, so that it is known and sent to nobody
	custodian string // of a handover: whom it is for
	path      string // of a handover: feed.SealedPath
	sealed    string // of a handover: hex SHA-256 of its ciphertext
	of        *statement.Handover
	closing   *statement.Envelope // of a revocation
	receipt   string              // of its ledger entry; empty when an earlier run made it
}

type counters struct {
	heartbeats, published, refused, dropped, busy *metrics.Counter
}

// ErrStandby is returned for what only the authority that holds the lease may do.
var ErrStandby = errors.New("this authority stands by: another one holds the lease; ask that one, or try again in a second")

// patience bounds one wait for the store, in which a closing waits too.
const patience = 5 * time.Second

// open begins over a store that is open. Nothing is published before attach.
func open(cfg *Config, pin statement.Pin, db *store.Store, key note.Signer, log *slog.Logger, m *metrics.Registry) (*Authority, error) {
	a := &Authority{
		posts: serve.NewPace(paceStep, paceBurst), signals: serve.NewPace(paceStep, paceBurst), changes: serve.NewPace(paceStep, paceBurst),
		id: cfg.ID, holder: cfg.ID + "/" + rand.Text(), pin: pin, estate: cfg.Estate, tiles: cfg.TilesDir, store: db, limit: cfg.Followers, clock: time.Now, log: log,
		entered: map[id]bool{}, received: map[id]*feed.Frame{}, refused: map[id]bool{},
		records: map[id]*record{}, handed: map[string]string{}, latest: map[string]id{}, followers: map[*follower]bool{}, replay: replay.New(asks),
		changed: make(chan struct{}),
	}
	a.key.Store(&feedKey{key})
	a.count = &counters{
		heartbeats: m.Counter("reeve_authority_heartbeats_total", "Heartbeats signed."),
		published:  m.Counter("reeve_authority_published_total", "Sets and records published since the start."),
		refused:    m.Counter("reeve_authority_refused_total", "Sets and records that were refused."),
		dropped:    m.Counter("reeve_authority_followers_dropped_total", "Followers too slow to keep their stream."),
		busy:       m.Counter("reeve_authority_followers_refused_total", "Followers beyond the limit."),
	}
	m.GaugeFunc("reeve_authority_followers", "Streams open now.", func() float64 { return float64(a.Status().Followers) })
	m.GaugeFunc("reeve_authority_records", "Records published, handovers not counted.", func() float64 { return float64(a.Status().Records) })
	m.GaugeFunc("reeve_authority_lock_version", "Lock version published.", func() float64 { return float64(a.Status().Lock) })
	m.GaugeFunc("reeve_authority_epoch", "Epoch of the lease that this authority holds; 0 while it stands by.", func() float64 { return float64(a.Status().Epoch) })
	return a, a.catchUp()
}

// catchUp reads what the journal has since the last time, from this authority or another one. Callers hold admit, or are alone.
func (a *Authority) catchUp() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return a.store.Read(ctx, a.line, func(l store.Line) error {
		a.line = l.Seq
		if l.Kind == store.Entered {
			a.entered[l.ID] = true
			return nil
		}
		if l.Kind == store.Proven {
			return a.proven(l)
		}
		frame, err := feed.ParseFrame(l.Body)
		if err != nil {
			return fmt.Errorf("line %d of the authority's database: %w", l.Seq, err)
		}
		if l.Kind == store.Received && a.published(l.ID) == nil {
			a.received[l.ID] = frame
		}
		if l.Kind != store.Published {
			return nil
		}
		last, err := statement.Newest(frame.Set, "lock")
		if err != nil {
			return fmt.Errorf("line %d of the authority's database: %w", l.Seq, err)
		}
		if a.shared = frame.Set; last > a.pin.LastLock.Version {
			a.pin.LastLock = statement.Locked{Version: last, SHA256: hex.EncodeToString(l.ID[:])}
		}
		return nil
	})
}

// epoch is that of the lease, 0 while another authority is known to hold it.
func (a *Authority) epoch() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.lease.Epoch
}

// turned returns what is closed at the next turn.
func (a *Authority) turned() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.changed
}

// turn wakes who waits for this authority to publish. Callers hold mu.
func (a *Authority) turn() {
	close(a.changed)
	a.changed = make(chan struct{})
}

// write appends a line to the journal as long as the lease is this authority's.
func (a *Authority) write(l store.Line) error {
	epoch := a.epoch()
	if epoch == 0 {
		return ErrStandby
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return a.store.Append(ctx, epoch, l)
}

// holds reports whether the lease is this authority's now.
func (a *Authority) holds() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.lease.Live(time.Now())
}

// enter writes the entry of a set or record, once over all runs of all authorities, and returns its receipt. What closes
// something is not held up by a ledger that fails: it is entered when possible.
func (a *Authority) enter(sum id, e *entry.Entry, payload []byte, closing bool) (string, error) {
	if a.entered[sum] {
		return "", nil
	}
	var d ledger.Durable
	err := errors.New("the ledger is not open yet")
	switch {
	case a.ledger == nil:
	case !closing && !a.holds():
		err = ErrStandby
	default:
		d, err = a.ledger.Append(e, payload)
	}
	if err != nil && closing && a.ledger != nil {
		a.log.Error("a closing is passed on before its ledger entry is durable", "reason", e.Reason, "error", errors.Join(err, a.ledger.Enqueue(e, true)))
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("the ledger has no entry of it, so it is not published: %w", err)
	}
	entered := store.Line{Kind: store.Entered, ID: sum}
	if err := a.write(entered); err != nil {
		a.log.Warn("a start before the database has it will enter it again", "error", err)
		a.unkept = append(a.unkept, entered)
	}
	a.entered[sum] = true
	return d.Receipt(), nil
}

// Set is the set in force, or nil.
func (a *Authority) Set() *statement.Set {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.set == nil {
		return nil
	}
	return a.set.Set
}

// Reload reads the journal and the signed store, and publishes what is new. A set that is refused keeps the old one in force.
// Unless force is set, a folder without changes is not read. An authority that stands by verifies what it reads and publishes
// what the holder has entered, to nobody: so it has everything when its turn comes.
func (a *Authority) Reload(force bool) error {
	a.admit.Lock()
	defer a.admit.Unlock()
	return a.reload(force)
}

// reload is Reload for who holds admit.
func (a *Authority) reload(force bool) error {
	stamp := feed.Stamp(a.estate)
	folder := force || stamp == "" || stamp != a.stamp
	a.keepAgain()
	err := a.catchUp()
	stores := []statement.Store{a.shared}
	if folder {
		stores = append(stores, statement.Dir(a.estate))
	}
	for _, s := range stores {
		next, refusal := a.load(s)
		if next != nil {
			refusal = a.putInForce(next)
		}
		err = errors.Join(err, refusal)
	}
	if a.Set() == nil || a.ledger == nil {
		return err
	}
	if a.stamp = stamp; err != nil && !errors.Is(err, statement.ErrRefused) {
		a.stamp = "" // try again
	}
	if folder {
		err = errors.Join(err, feed.EachRecord(statement.Dir(a.estate), a.pick))
	}
	for sum, frame := range a.received {
		a.pick(hex.EncodeToString(sum[:]), frame)
	}
	return err
}

// pick takes a record from the folder or the journal. One that is refused says nothing about the others.
func (a *Authority) pick(name string, frame *feed.Frame) error {
	sum := sha256.Sum256(frame.Record)
	if a.refused[sum] {
		return nil
	}
	_, err := a.take(frame, "folder")
	switch {
	case err == nil:
		delete(a.received, sum)
		return nil
	case errors.Is(err, statement.ErrRefused) || errors.Is(err, feed.ErrFrame):
		a.refused[sum] = true
	}
	if a.stamp = ""; !errors.Is(err, ErrStandby) {
		a.count.refused.Inc()
		a.log.Warn("record not published", "record", name, "error", err)
	}
	return nil
}

// edition is a verified set as followers get it.
type edition struct {
	*statement.Set
	frame feed.Frame
	line  []byte // the frame
	sum   string // of its files, as in heartbeats
}

// load verifies a store's newest set; nil when it is the one in force.
func (a *Authority) load(from statement.Store) (*edition, error) {
	old := a.Set()
	newest, err := statement.Newest(from, "lock")
	switch files, journal := from.(feed.Files); {
	case journal && (files == nil || old != nil && newest < old.Lock.Version): // none yet, or the folder is ahead
		return nil, nil
	case err != nil || old != nil && newest == old.Lock.Version:
		a.refuse(err)
		return nil, err
	}
	// Once as the successor of what is in force, and once as a follower sees it that has nothing yet: what is read then is the set.
	set, err := statement.Load(from, a.pin, old, a.clock())
	trace := &feed.Trace{From: from, Read: feed.Files{}}
	if err == nil && set != old {
		fresh := a.pin
		fresh.LastLock = statement.Locked{}
		_, err = statement.Load(trace, fresh, nil, a.clock())
	}
	if err == nil && old != nil && set != old {
		err = standing.Keeps(old, set, slices.Values(a.revocations()), a.clock())
	}
	if err != nil || set == old {
		a.refuse(err)
		return nil, err
	}
	e := &edition{Set: set, frame: feed.Frame{Set: trace.Read}, sum: trace.Read.Sum()}
	e.line = e.frame.Encode()
	if len(e.line) > feed.MaxFrame {
		return nil, fmt.Errorf("the set is too large to be published: %d bytes as a frame, limit %d", len(e.line), feed.MaxFrame)
	}
	return e, nil
}

// revocations are the published ones.
func (a *Authority) revocations() (list []*statement.Envelope) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range a.records {
		if r.closing != nil {
			list = append(list, r.closing)
		}
	}
	return list
}

func (a *Authority) refuse(err error) {
	if err != nil {
		a.count.refused.Inc()
	}
}

// putInForce makes a set the one that records are judged by, after it is entered where this authority publishes.
func (a *Authority) putInForce(e *edition) error {
	a.promise = ""
	if a.epoch() != 0 {
		if err := a.enterSet(e); err != nil {
			return err
		}
	}
	if a.issuers != nil {
		if err := a.issuers.Use(e.Set); err != nil {
			a.log.Error("the keys of an issuer cannot be fetched: its tokens are not exchanged", "error", err)
		}
	}
	a.pin.LastLock = e.Locked()
	clear(a.refused)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.set = e; a.leading {
		a.broadcast(e.line, "")
	}
	a.turn()
	a.expel()
	a.issue.view, a.issue.keys, a.issue.tokens = nil, nil, nil
	a.count.published.Inc()
	a.log.Info("statement set in force", "lock", e.Lock.Version)
	return nil
}

// enterSet gives a set its entry and its place in the journal.
func (a *Authority) enterSet(e *edition) error {
	receipt, err := a.enter(e.LockHash, publishes(e.Set), nil, false)
	if err != nil {
		return err
	}
	if receipt != "" {
		a.promise = receipt
	}
	return a.write(store.Line{Kind: store.Published, ID: e.LockHash, Body: (&feed.Frame{Set: e.frame.Set}).Encode()})
}

// attach gives the authority its ledger.
func (a *Authority) attach(l Ledger) error {
	a.admit.Lock()
	defer a.admit.Unlock()
	a.ledger = l
	return a.reload(true)
}
