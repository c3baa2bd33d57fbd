package ledger

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/reevehq/reeve/entry"
)

// DamagedError says that what is on disk is not what was written. The ledger refuses to start and changes nothing.
type DamagedError struct {
	Origin string
	What   string
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("ledger %s is damaged: %s. Entries that were acknowledged are missing or altered, so nothing was truncated and nothing is started. "+
		"Keep the directory as evidence; restore the newest backup, or close this log with 'reeve ledger retire' (two owners sign) to begin a successor", e.Origin, e.What)
}

func (v *volume) damaged(format string, args ...any) error {
	return &DamagedError{v.origin, fmt.Sprintf(format, args...)}
}

// scan is what reading a volume's segments found.
type scan struct {
	v        *volume
	segments []int64 // numbers of the files, rising; those after active are zeroed spares or torn
	stale    []int64 // segments before a hole: they should have been removed
	first    int64   // oldest entry that is there
	active   int     // index into segments of the last one with a header; -1 for none
	off      int64   // end of the last good record in it
	state            // after the last good record
	tail     bool    // something was written after off, or after active, that is not a record
	acked    bool    // and it proves that an entry is missing which was durable

	want    int64     // size at which the root is wanted
	reached bool      // the tree has been there
	root    tlog.Hash // its root there
	each    func(*entry.Entry)
}

// scan reads every segment and follows the chain. each, if not nil, sees every good entry in order. A *DamagedError is
// damage that cannot be a torn write.
func (v *volume) scan(want int64, each func(*entry.Entry)) (*scan, error) {
	names, err := v.disk.list()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	s := &scan{v: v, active: -1, state: v.state, want: want, each: each}
	s.Tenants = map[string]int64{}
	for _, name := range names {
		if n, ok := segmentNumber(name); ok {
			s.segments = append(s.segments, n)
		}
	}
	// Segments are removed from the front, and a crash may undo one removal but not the next: what lies before a hole is
	// no longer needed. If it is, the entries that are left do not reach back to the signed checkpoint, which matches finds.
	for i := len(s.segments) - 1; i > 0; i-- {
		if s.segments[i] != s.segments[i-1]+1 {
			s.stale, s.segments = s.segments[:i:i], s.segments[i:] // capped: clear appends to stale
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
		if err == nil {
			err = s.segment(i, buf)
		}
		if err != nil {
			return nil, err
		}
	}
	return s, nil
}

// segment follows one segment's records.
func (s *scan) segment(i int, b []byte) error {
	if allZero(b) {
		return nil // a spare
	}
	name := segmentName(s.segments[i])
	header, off, err := parseHeader(b)
	if err != nil {
		if i == 0 && s.segments[0] != 1 {
			return s.v.damaged("%s: %v", name, err)
		}
		// A header is written together with the segment's first records: both may be torn.
		s.tail = true
		s.acked = s.acked || acknowledged(b, s.Tree.Size)
		return nil
	}
	if header.Origin != s.v.origin || header.Number != s.segments[i] {
		return s.v.damaged("%s belongs to log %q, segment %d", name, header.Origin, header.Number)
	}
	if i == 0 {
		s.first = header.Tree.Size
	} else if s.tail || s.active != i-1 || header.Tree.Size != s.Tree.Size || header.Chain != s.Chain {
		// The header was written after everything before it had become durable.
		return s.v.damaged("%s begins with entry %d, but the chain before it ends at %d", name, header.Tree.Size, s.Tree.Size)
	}
	s.active, s.state = i, *header
	s.reach()
	for {
		r, n, ok := parseRecord(b[off:])
		if !ok {
			break
		}
		if err := s.record(&r); err != nil {
			return s.v.damaged("%s: %v", name, err)
		}
		off += n
	}
	s.off = int64(off)
	if !allZero(b[off:]) {
		s.tail = true
		s.acked = acknowledged(b[off:], s.Tree.Size)
	}
	return nil
}

// record takes one record, whose checksum holds, into the state.
func (s *scan) record(r *record) error {
	leaf := tlog.RecordHash(r.body)
	if r.seq != s.Tree.Size || r.chain != nextChain(s.Chain, r.seq, leaf) {
		return fmt.Errorf("the hash chain breaks at entry %d", s.Tree.Size)
	}
	e, err := entry.Parse(r.body)
	if err != nil || e.Seq != r.seq || e.Log != s.v.id || e.Tenant != "" && e.TenantSeq != s.Tenants[e.Tenant] {
		return fmt.Errorf("record %d is not the next entry of this log (%v)", r.seq, err)
	}
	s.take(e, leaf, r.chain)
	s.reach()
	if s.each != nil {
		s.each(e)
	}
	return nil
}

func (s *scan) reach() {
	if s.Tree.Size == s.want {
		s.reached, s.root = true, s.Tree.root()
	}
}

// recover brings a volume to the state after its last durable entry. It zeroes a torn tail and never touches anything else.
func (v *volume) recover(signed checkpoint, each func(*entry.Entry)) error {
	s, err := v.scan(signed.N, each)
	if err == nil {
		err = s.matches(signed)
	}
	if err != nil {
		return err
	}
	if err := s.clear(); err != nil {
		return fmt.Errorf("clearing a torn write: %w", err)
	}
	if len(s.segments) > 0 {
		v.oldest = s.segments[0]
	}
	if s.active < 0 {
		return nil
	}
	v.state, v.off = s.state, s.off
	if v.file, err = v.disk.open(segmentName(v.Number)); err == nil {
		v.room, err = v.file.Size()
	}
	return err
}

// matches holds what the segments have against the last signed checkpoint.
func (s *scan) matches(signed checkpoint) error {
	switch {
	case s.acked:
		return s.v.damaged("the write-ahead log breaks after %d entries, and later records prove that more were durable", s.Tree.Size)
	case s.Tree.Size < signed.N:
		return s.v.damaged("the write-ahead log ends after %d entries, the last signed checkpoint has %d", s.Tree.Size, signed.N)
	case signed.N > 0 && !s.reached:
		return s.v.damaged("the write-ahead log begins with entry %d, after the last signed checkpoint of %d entries: what was published is older than the log", s.first, signed.N)
	case signed.N > 0 && s.root != signed.Hash:
		return s.v.damaged("the first %d entries of the write-ahead log do not have the root of the signed checkpoint", signed.N)
	}
	return nil
}

// clear zeroes what follows the last good record, removes later segments whose header is torn, and stale ones.
func (s *scan) clear() error {
	drop := slices.Clone(s.stale) // it lies before segments in the same array
	if s.tail {
		drop = append(drop, s.segments[s.active+1:]...)
		s.segments = s.segments[:s.active+1]
	}
	for _, n := range drop {
		if err := s.v.disk.remove(segmentName(n)); err != nil {
			return err
		}
	}
	if !s.tail || s.active < 0 {
		return nil
	}
	f, err := s.v.disk.open(segmentName(s.segments[s.active]))
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

// Checked is what Check found in one write-ahead log.
type Checked struct {
	Origin string `json:"origin"`
	First  int64  `json:"first"` // oldest entry that it still has
	Size   int64  `json:"size"`  // durable entries
	Signed int64  `json:"signed"`

	// Damage is what is wrong with a log that has a successor: it was retired for it, and its files stay as evidence.
	Damage string `json:"damage,omitempty"`
}

// Check reads the write-ahead logs below dir, changing nothing, with the verifier key of the first log: every byte of every
// segment must be a record in the hash chain or zero, and the last signed checkpoint must be of these entries. The ledger may be running.
// Damage is a *DamagedError, unless a successor was begun because of it.
func Check(dir, verifierKey string) ([]Checked, error) {
	last, err := lastVolume(dir)
	if err != nil {
		return nil, err
	}
	var all []Checked
	var unretired *DamagedError
	for n := 0; n <= last; n++ {
		wal := filepath.Join(dir, strconv.Itoa(n), "wal")
		if _, err := os.Stat(wal); errors.Is(err, fs.ErrNotExist) {
			continue // sealed: its entries are all published
		}
		v, err := publicVolume(verifierKey, n, osDisk(wal))
		if err != nil {
			return nil, err
		}
		c, err := v.check(filepath.Join(dir, strconv.Itoa(n), cosignedFile))
		if b, rerr := os.ReadFile(filepath.Join(wal, reserveName)); err == nil && rerr == nil && !allZero(b) {
			err = v.damaged("the reserve segment is not empty")
		}
		var damaged *DamagedError
		switch {
		case errors.As(err, &damaged):
			c, unretired = Checked{Origin: v.origin, Damage: damaged.What}, damaged
		case err != nil:
			return nil, err
		case c.Size > 0:
			unretired = nil
		}
		all = append(all, c)
	}
	if unretired != nil {
		return nil, unretired
	}
	return all, nil
}

func (v *volume) check(checkpointFile string) (Checked, error) {
	signed, err := v.readCheckpoint(checkpointFile)
	if err != nil {
		return Checked{}, err
	}
	// A running ledger may be in the middle of a write, or have moved on from a segment: look again before judging.
	var s *scan
	for range 4 {
		if s, err = v.scan(signed.N, nil); err == nil && !s.tail {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err == nil && s.tail {
		err = v.damaged("bytes after the last record are neither records nor zeros: a write that a crash tore, which the next start clears, or an alteration")
	}
	if err == nil {
		err = s.matches(signed)
	}
	if err != nil {
		return Checked{}, err
	}
	return Checked{Origin: v.origin, First: s.first, Size: s.Tree.Size, Signed: signed.N}, nil
}
