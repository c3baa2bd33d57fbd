// Package authority publishes an estate: it reads the signed store, verifies it for itself, and streams sets, records and
// signed heartbeats to whoever follows. It takes signed records and passes on what verifies, after its own ledger has the
// entry. It can withhold; it can neither read a secret nor author anything.
package authority

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/feed"
	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/internal/metrics"
	"github.com/reevehq/reeve/internal/statement"
)

// id is the SHA-256 of a record's file or of a lock's manifest.
type id = [sha256.Size]byte

// Ledger is the authority's own log: nothing is published before its entry is durable there.
type Ledger interface {
	Append(e *entry.Entry, payload []byte) (ledger.Durable, error)
	Enqueue(e *entry.Entry, closing bool) error
}

// Authority is a running authority.
type Authority struct {
	id     string
	pin    statement.Pin
	estate string // the signed store's folder, only read
	state  string // the state directory
	key    note.Signer
	epoch  int64
	limit  int // followers at once
	clock  func() time.Time
	log    *slog.Logger
	count  *counters

	admit   sync.Mutex  // held while a set or record goes from verified to published; guards what follows
	ledger  Ledger      // nil until the ledger is open
	entered map[id]bool // what earlier runs have entered in the ledger
	refused map[id]bool // record files that do not verify under the set in force
	stamp   string      // of the signed store when it was last read

	mu        sync.Mutex // guards what follows
	set       *statement.Set
	setLine   []byte
	setSum    string
	records   map[id]*record
	sums      feed.Records // of the records that heartbeats count
	number    int64        // of the newest heartbeat
	followers map[*follower]bool
	refusal   string // why what lies in the signed store is not published; empty when it is
}

// record is a published record.
type record struct {
	line      []byte // its frame
	custodian string // of a handover: whom it is for
	receipt   string // of its ledger entry; empty when an earlier run made it
}

type counters struct {
	heartbeats, published, refused, dropped, busy *metrics.Counter
}

// open makes the state directory ready and begins a new epoch.
func open(cfg *Config, pin statement.Pin, key note.Signer, log *slog.Logger, m *metrics.Registry) (*Authority, error) {
	a := &Authority{
		id: cfg.ID, pin: pin, estate: cfg.Estate, state: cfg.StateDir, key: key, limit: cfg.Followers, clock: time.Now, log: log,
		entered: map[id]bool{}, refused: map[id]bool{}, records: map[id]*record{}, followers: map[*follower]bool{},
	}
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
	var err error
	if a.epoch, err = a.readNumber("epoch"); err == nil {
		a.epoch++
		err = a.writeNumber("epoch", a.epoch)
	}
	if err == nil {
		a.pin.LastLock, err = feed.ReadLast(a.state)
	}
	if err == nil {
		err = a.readEntered()
	}
	if err != nil {
		return nil, fmt.Errorf("reading the state directory: %w", err)
	}
	return a, nil
}

func (a *Authority) readNumber(name string) (int64, error) {
	b, err := os.ReadFile(filepath.Join(a.state, name))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s holds no number: followers refuse an authority that goes back; restore the file, or write the last value known plus 1000", filepath.Join(a.state, name))
	}
	return n, nil
}

func (a *Authority) writeNumber(name string, n int64) error {
	return feed.Write(filepath.Join(a.state, name), strconv.AppendInt(nil, n, 10))
}

// readEntered reads what earlier runs have entered in the ledger. A torn or lost line means a second entry, which is harmless.
func (a *Authority) readEntered() error {
	b, err := os.ReadFile(filepath.Join(a.state, "entered"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for line := range strings.Lines(string(b)) {
		var sum id
		if n, err := hex.Decode(sum[:], []byte(strings.TrimSpace(line))); err == nil && n == len(sum) {
			a.entered[sum] = true
		}
	}
	return nil
}

// enter writes the entry of a set or record, once over all runs, and returns its receipt. What closes something is not held
// up by a ledger that fails: it is entered when possible.
func (a *Authority) enter(sum id, e *entry.Entry, payload []byte, closing bool) (string, error) {
	if a.entered[sum] {
		return "", nil
	}
	var d ledger.Durable
	err := errors.New("the ledger is not open yet")
	if a.ledger != nil {
		d, err = a.ledger.Append(e, payload)
	}
	if err != nil && closing && a.ledger != nil {
		a.log.Error("a closing is passed on before its ledger entry is durable", "reason", e.Reason, "error", errors.Join(err, a.ledger.Enqueue(e, true)))
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("the ledger has no entry of it, so it is not published: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(a.state, "entered"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = fmt.Fprintf(f, "\n%x\n", sum)
		err = errors.Join(err, f.Sync(), f.Close())
	}
	if err != nil {
		a.log.Warn("the next start will enter it again", "error", err)
	}
	return d.Receipt(), nil
}

// Set is the set in force, or nil.
func (a *Authority) Set() *statement.Set {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.set
}

// Reload reads the signed store and what was received, and publishes what is new. A set that is refused keeps the old one in
// force. Unless force is set, a store without changes is not read.
func (a *Authority) Reload(force bool) error {
	a.admit.Lock()
	defer a.admit.Unlock()
	stamp := feed.Stamp(a.estate)
	if !force && stamp != "" && stamp == a.stamp {
		return nil
	}
	if a.ledger != nil {
		a.stamp = stamp
	}
	err := a.reloadSet()
	if a.Set() == nil || a.ledger == nil {
		return err
	}
	for _, store := range []statement.Store{statement.Dir(a.estate), a.received()} {
		err = errors.Join(err, feed.EachRecord(store, func(name string, frame *feed.Frame) error {
			sum := sha256.Sum256(frame.Record)
			if a.refused[sum] {
				return nil
			}
			_, err := a.take(frame, "folder")
			if errors.Is(err, statement.ErrRefused) || errors.Is(err, feed.ErrFrame) {
				a.refused[sum] = true
			}
			if err != nil {
				a.count.refused.Inc()
				a.log.Warn("record not published", "file", name, "error", err)
				a.stamp = ""
			}
			return nil
		}))
	}
	return err
}

// received is the store of records that came by POST. The signed store itself is only read.
func (a *Authority) received() statement.Dir {
	return statement.Dir(filepath.Join(a.state, "received"))
}

func (a *Authority) reloadSet() error {
	store, old, pin := statement.Dir(a.estate), a.Set(), a.pin
	newest, err := statement.Newest(store, "lock")
	if err != nil || old != nil && newest == old.Lock.Version {
		return err
	}
	// Once as the successor of what is in force, and once as a follower sees it that has nothing yet: what is read then is the set.
	set, err := statement.Load(store, pin, old, a.clock())
	trace := &feed.Trace{From: store, Read: feed.Files{}}
	if err == nil && set != old {
		pin.LastLock = statement.Locked{}
		_, err = statement.Load(trace, pin, nil, a.clock())
	}
	if err != nil {
		a.count.refused.Inc()
		return err
	}
	if set == old {
		return nil
	}
	line := (&feed.Frame{Set: trace.Read}).Encode()
	if len(line) > feed.MaxFrame {
		return fmt.Errorf("the set is too large to be published: %d bytes as a frame, limit %d", len(line), feed.MaxFrame)
	}
	if a.ledger != nil { // before, the set only serves to open the ledger
		e := &entry.Entry{Type: entry.Publish, Estate: hex.EncodeToString(set.LockHash[:]), Reason: fmt.Sprintf("lock version %d", set.Lock.Version)}
		if _, err := a.enter(set.LockHash, e, nil, false); err != nil {
			return err
		}
	}
	if err := feed.WriteLast(a.state, set.Locked()); err != nil {
		return err
	}
	a.pin.LastLock = set.Locked()
	clear(a.refused)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.set, a.setLine, a.setSum = set, line, trace.Read.Sum()
	a.broadcast(line, "")
	a.count.published.Inc()
	a.log.Info("statement set in force", "lock", set.Lock.Version)
	return nil
}

// attach gives the authority its ledger, and enters what was read before.
func (a *Authority) attach(l Ledger) error {
	a.admit.Lock()
	a.ledger = l
	set := a.Set()
	e := &entry.Entry{Type: entry.Publish, Estate: hex.EncodeToString(set.LockHash[:]), Reason: fmt.Sprintf("lock version %d", set.Lock.Version)}
	_, err := a.enter(set.LockHash, e, nil, false)
	a.admit.Unlock()
	return errors.Join(err, a.Reload(true))
}
