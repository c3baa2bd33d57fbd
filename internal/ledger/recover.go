package ledger

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/reevehq/reeve/entry"
)

// volume is one log of the chain of logs that a ledger is: a new one begins at each rotation. Its origin is the key's
// name, with "/<n>" for the nth successor.
type volume struct {
	n        int
	origin   string
	id       string // log id
	verifier string // note verifier key
	key      Key
	signer   note.Signer
	disk     disk
	tiles    string // directory

	// The writer owns what follows.
	number  int64 // active segment
	file    file
	off     int64 // where its next record goes
	room    int64 // its size in bytes
	reserve bool  // the active segment is for closing entries only
	tree    tree  // all that was written
	chain   [sha256.Size]byte
	tenants map[string]int64 // next sequence number

	began  atomic.Int64 // when the first entry was written, Unix nanoseconds; 0 before that
	oldest int64        // lowest segment that exists; the publisher's after recovery

	spares    chan spare // from prepare to the writer
	stop      chan struct{}
	starting  sync.Once
	stopping  sync.Once
	preparing sync.WaitGroup
}

func newVolume(cfg *Config, n int) (*volume, error) {
	origin, tiles := cfg.Key.Origin(), cfg.Tiles
	if n > 0 {
		origin = fmt.Sprintf("%s/%d", origin, n)
		tiles = filepath.Join(tiles, fmt.Sprint(n))
	}
	key := cfg.Key.forLog(origin)
	signer, err := key.signer()
	if err != nil {
		return nil, err
	}
	return &volume{
		n: n, origin: origin, verifier: key.Verifier(), id: entry.LogID(key.Verifier()), key: key, signer: signer,
		disk: cfg.disk(n), tiles: tiles,
		chain: firstChain(origin), tenants: map[string]int64{}, oldest: 1,
		spares: make(chan spare), stop: make(chan struct{}),
	}, nil
}

// state is what the next segment opens with.
func (v *volume) state(number int64, reserve bool) *segmentState {
	return &segmentState{Origin: v.origin, Number: number, Chain: v.chain[:], Tenants: v.tenants, Tree: v.tree, Began: v.began.Load(), Reserve: reserve}
}

// walScan is what reading a volume's segments found.
type walScan struct {
	stale    []int64 // segments that should have been removed
	began    int64
	segments []int64 // numbers of the files, rising; those after active are zeroed spares or torn
	first    segmentState
	active   int   // index into segments of the last one with a header; -1 for none
	off      int64 // end of the last good record in it
	tail     bool  // something was written after off, or after active, that is not a record
	acked    bool  // and it proves that an entry is missing which was durable
	reserve  bool  // the active segment is the reserve
	tree     tree  // after the last good record
	chain    [sha256.Size]byte
	tenants  map[string]int64
	reached  bool      // the tree has been at size want
	rootAt   tlog.Hash // its root there
}

// scan reads every segment and follows the chain. each, if not nil, sees every good entry in order.
// Errors are damage that cannot be a torn write.
func (v *volume) scan(want int64, each func(e *entry.Entry)) (*walScan, error) {
	names, err := v.disk.list()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	s := &walScan{active: -1, chain: v.chain, tenants: map[string]int64{}}
	for _, name := range names {
		if n, ok := segmentNumber(name); ok {
			s.segments = append(s.segments, n)
		}
	}
	// Segments are removed from the front, and a crash may undo one removal but not the next: what lies before a hole is
	// no longer needed. If it is, the entries that are left do not reach back to the signed checkpoint, which matches finds.
	for i := len(s.segments) - 1; i > 0; i-- {
		if s.segments[i] != s.segments[i-1]+1 {
			s.stale, s.segments = s.segments[:i], s.segments[i:]
			break
		}
	}
	var buf []byte
	for i, n := range s.segments {
		f, err := v.disk.open(segmentName(n))
		if err != nil {
			return nil, err
		}
		buf, err = readSegment(f, buf)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", segmentName(n), err)
		}
		if err := s.segment(v, i, buf, want, each); err != nil {
			return nil, fmt.Errorf("%s: %w", segmentName(n), err)
		}
	}
	return s, nil
}

// segment follows one segment's records.
func (s *walScan) segment(v *volume, i int, b []byte, want int64, each func(e *entry.Entry)) error {
	if allZero(b) {
		return nil // a spare
	}
	state, off, err := parseHeader(b)
	if err != nil {
		// A header is written together with the segment's first records: both may be torn.
		s.tail = true
		s.acked = s.acked || acknowledged(b, s.tree.Size)
		if i == 0 && s.segments[0] != 1 {
			return err
		}
		return nil
	}
	if state.Origin != v.origin || state.Number != s.segments[i] {
		return fmt.Errorf("belongs to log %q, segment %d", state.Origin, state.Number)
	}
	if i == 0 {
		s.first, s.tree, s.chain, s.tenants = *state, state.Tree.clone(), [sha256.Size]byte(state.Chain), state.Tenants
		s.reach(want)
	} else if s.tail || s.active != i-1 || state.Tree.Size != s.tree.Size || [sha256.Size]byte(state.Chain) != s.chain {
		// The header was written after everything before it had become durable.
		return fmt.Errorf("begins with entry %d, but the entries before it end with a broken chain at %d", state.Tree.Size, s.tree.Size)
	}
	s.active, s.reserve, s.began = i, state.Reserve, max(s.began, state.Began)
	for {
		r, n, ok := parseRecord(b[off:])
		if !ok {
			break
		}
		leaf := tlog.RecordHash(r.body)
		if r.seq != s.tree.Size || r.chain != nextChain(s.chain, r.seq, leaf) {
			return fmt.Errorf("the hash chain breaks at entry %d", s.tree.Size)
		}
		e, err := entry.Parse(r.body)
		if err != nil || e.Seq != r.seq || e.Log != v.id {
			return fmt.Errorf("record %d is not an entry of this log: %v", r.seq, err)
		}
		if e.Tenant != "" {
			if e.TenantSeq != s.tenants[e.Tenant] {
				return fmt.Errorf("entry %d: tenant sequence %d, expected %d", r.seq, e.TenantSeq, s.tenants[e.Tenant])
			}
			s.tenants[e.Tenant]++
		}
		if e.Seq == 0 {
			s.began = e.TimeNS
		}
		if each != nil {
			each(e)
		}
		s.tree.add(leaf, nil)
		s.chain = r.chain
		s.reach(want)
		off += n
	}
	s.off = int64(off)
	if !allZero(b[off:]) {
		s.tail = true
		s.acked = acknowledged(b[off:], s.tree.Size)
	}
	return nil
}

func (s *walScan) reach(want int64) {
	if s.tree.Size == want {
		s.reached, s.rootAt = true, s.tree.root()
	}
}

// DamagedError says that what is on disk is not what was written. The ledger refuses to start and changes nothing.
type DamagedError struct {
	Origin string
	What   string
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("ledger %s is damaged: %s. Entries that were acknowledged are missing or altered, so nothing was truncated and nothing is started. "+
		"Keep the directory as evidence; restore the newest backup, or close this log with 'reeve ledger retire' (two owners sign) to begin a successor", e.Origin, e.What)
}

// checkpoint is a signed statement of a log's size and root.
type checkpoint struct {
	tlog.Tree
	raw []byte // the note, with whatever cosignatures were gathered
}

// readCheckpoint reads and verifies a checkpoint of this volume; a missing file is the zero checkpoint.
func (v *volume) readCheckpoint(path string) (checkpoint, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return checkpoint{}, nil
	}
	if err != nil {
		return checkpoint{}, err
	}
	verifier, err := note.NewVerifier(v.verifier)
	if err != nil {
		return checkpoint{}, err
	}
	n, err := note.Open(raw, note.VerifierList(verifier))
	if err != nil {
		return checkpoint{}, fmt.Errorf("checkpoint %s: %w", path, err)
	}
	t, err := parseCheckpoint(v.origin, n.Text)
	if err != nil {
		return checkpoint{}, fmt.Errorf("checkpoint %s: %w", path, err)
	}
	return checkpoint{t, raw}, nil
}

// parseCheckpoint reads the text of a checkpoint (C2SP tlog-checkpoint): origin, size, root.
func parseCheckpoint(origin, text string) (tlog.Tree, error) {
	var t tlog.Tree
	line := strings.Split(text, "\n")
	if len(line) != 4 || line[3] != "" || line[0] != origin {
		return t, fmt.Errorf("not a checkpoint of %q", origin)
	}
	t, err := tlog.ParseTree([]byte("go.sum database tree\n" + line[1] + "\n" + line[2] + "\n"))
	if err != nil {
		return t, err
	}
	if string(checkpointText(origin, t)) != text {
		return t, errors.New("checkpoint is not in canonical form")
	}
	return t, nil
}

func checkpointText(origin string, t tlog.Tree) []byte {
	return fmt.Appendf(nil, "%s\n%d\n%s\n", origin, t.N, t.Hash)
}

// recover brings a volume to the state after its last durable entry. It zeroes a torn tail and never touches anything else.
func (v *volume) recover(signed checkpoint, each func(e *entry.Entry)) error {
	s, err := v.scan(signed.N, each)
	if err != nil {
		return &DamagedError{v.origin, err.Error()}
	}
	if err := v.matches(s, signed); err != nil {
		return err
	}
	for _, n := range s.stale {
		if err := v.disk.remove(segmentName(n)); err != nil {
			return err
		}
	}
	if s.tail {
		if err := v.dropTail(s); err != nil {
			return fmt.Errorf("clearing a torn write: %w", err)
		}
	}
	v.began.Store(s.began)
	v.tree, v.chain, v.tenants, v.reserve = s.tree, s.chain, s.tenants, s.reserve
	if len(s.segments) > 0 {
		v.oldest = s.segments[0]
	}
	if s.active >= 0 {
		v.number, v.off = s.segments[s.active], s.off
		if v.file, err = v.disk.open(segmentName(v.number)); err != nil {
			return err
		}
		if v.room, err = v.file.Size(); err != nil {
			return err
		}
	}
	return nil
}

// matches holds what the segments have against the last signed checkpoint.
func (v *volume) matches(s *walScan, signed checkpoint) error {
	switch {
	case s.acked:
		return &DamagedError{v.origin, fmt.Sprintf("the write-ahead log breaks after entry %d, and later records prove that more was durable", s.tree.Size-1)}
	case s.tree.Size < signed.N:
		return &DamagedError{v.origin, fmt.Sprintf("the write-ahead log ends after %d entries, the last signed checkpoint has %d", s.tree.Size, signed.N)}
	case signed.N > 0 && !s.reached:
		return &DamagedError{v.origin, fmt.Sprintf("the write-ahead log begins at entry %d, after the last signed checkpoint of %d entries: the published tree is older than the log", s.first.Tree.Size, signed.N)}
	case signed.N > 0 && s.rootAt != signed.Hash:
		return &DamagedError{v.origin, fmt.Sprintf("the first %d entries of the write-ahead log do not have the root of the signed checkpoint", signed.N)}
	}
	return nil
}

// dropTail zeroes what follows the last good record, and removes segments after it whose header is torn.
func (v *volume) dropTail(s *walScan) error {
	for i := len(s.segments) - 1; i > s.active; i-- {
		if err := v.disk.remove(segmentName(s.segments[i])); err != nil {
			return err
		}
		s.segments = s.segments[:i]
	}
	if s.active < 0 {
		return nil
	}
	f, err := v.disk.open(segmentName(s.segments[s.active]))
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return err
	}
	return zero(f, s.off, size)
}
