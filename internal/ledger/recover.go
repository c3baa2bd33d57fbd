package ledger

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"

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

func (s *state) damaged(format string, args ...any) error {
	return &DamagedError{s.Origin, fmt.Sprintf(format, args...)}
}

// cursor reads a log's records in order, from segment to segment: at the start to recover, later to publish. Its state is
// that after the last record. It believes no header but the one it was told to: each must say what the records before it say.
type cursor struct {
	disk disk
	state
	head   state  // where the segment begins
	file   file   // segment state.Number; nil before enter
	off    int64  // of the next record
	window []byte // what was read there and not parsed
	buf    []byte
}

// next returns the next record, which is good until the call after, and its leaf hash. It moves the chain; the caller moves
// the tree. At the end of what was written ok is false. A *DamagedError is damage that cannot be a torn write.
func (c *cursor) next() (r record, leaf tlog.Hash, ok bool, err error) {
	for want := -1; ; {
		r, n, ok := parseRecord(c.window)
		if ok {
			leaf = tlog.RecordHash(r.body)
			if r.seq != c.Tree.Size || r.chain != nextChain(c.Chain, r.seq, leaf) {
				return r, leaf, false, c.damaged("%s: the hash chain breaks at entry %d", segmentName(c.Number), c.Tree.Size)
			}
			c.Chain, c.off, c.window = r.chain, c.off+int64(n), c.window[n:]
			return r, leaf, true, nil
		}
		size := recordSize(c.window)
		if size <= want { // read anew already
			if ok, err := c.enter(c.Number+1, false); !ok {
				return r, leaf, false, err
			}
			size = 0
		}
		want = size
		if err := c.fill(size); err != nil {
			return r, leaf, false, err
		}
	}
}

// fill reads at least n bytes at off, if the segment has them.
func (c *cursor) fill(n int) error {
	if len(c.buf) < max(n, 1) {
		c.buf = make([]byte, max(n, 256<<10))
	}
	n, err := c.file.ReadAt(c.buf, c.off)
	if err != nil && err != io.EOF {
		return fmt.Errorf("reading %s: %w", segmentName(c.Number), err)
	}
	c.window = c.buf[:n]
	return nil
}

// enter goes to the first record of segment n. It stays where it is, and ok is false, when there is no such segment or it has no header
// that can be read. With trust the header's state is taken as it is, otherwise it must be the cursor's.
func (c *cursor) enter(n int64, trust bool) (ok bool, err error) {
	to := cursor{disk: c.disk, state: state{Number: n}}
	if to.file, err = c.disk.open(segmentName(n)); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	defer func() {
		if !ok {
			to.file.Close()
		}
	}()
	if err := to.fill(0); err != nil {
		return false, err
	}
	if err := to.fill(headerSize(to.window)); err != nil {
		return false, err
	}
	header, off, err := parseHeader(to.window)
	if err != nil {
		return false, nil
	}
	if header.Origin != c.Origin || header.Number != n {
		return false, c.damaged("%s belongs to log %q, segment %d", segmentName(n), header.Origin, header.Number)
	}
	if !trust {
		// The header was written after everything before it had become durable.
		if header.Tree.Size != c.Tree.Size || header.Chain != c.Chain || header.Tree.root() != c.Tree.root() {
			return false, c.damaged("%s begins with entry %d, but the chain before it ends at %d", segmentName(n), header.Tree.Size, c.Tree.Size)
		}
		if c.file != nil {
			b, err := c.rest()
			if err != nil {
				return false, err
			}
			if !allZero(b) {
				return false, c.damaged("%s has something after its last record", segmentName(c.Number))
			}
		}
	}
	c.close()
	to.state, to.head, to.off, to.window = *header, header.clone(), int64(off), to.window[off:]
	*c = to
	return true, nil
}

// rest is what the segment has from off on.
func (c *cursor) rest() ([]byte, error) {
	size, err := c.file.Size()
	if err != nil || size > maxSegment {
		return nil, fmt.Errorf("%s of %d bytes: %w", segmentName(c.Number), size, err)
	}
	b := make([]byte, max(size-c.off, 0))
	if n, err := c.file.ReadAt(b, c.off); n < len(b) {
		return nil, fmt.Errorf("reading %s: %w", segmentName(c.Number), err)
	}
	return b, nil
}

func (c *cursor) close() {
	if c.file != nil {
		c.file.Close()
		c.file = nil
	}
}

// scan is what reading a volume's segments found.
type scan struct {
	cursor
	segments []int64 // numbers of the files, rising; those after the cursor's are zeroed spares or torn
	stale    []int64 // segments before a hole: they should have been removed
	start    state   // of the oldest segment
	tail     bool    // something after the last record is neither a record nor zero: a write that a crash tore
}

// scan reads every segment and holds it against the signed checkpoint. It changes nothing. each, if not nil, sees every
// entry in order. A *DamagedError is damage that cannot be a torn write.
func (v *volume) scan(signed checkpoint, each func(*entry.Entry)) (*scan, error) {
	s := &scan{cursor: cursor{disk: v.disk, state: firstState(v.origin)}}
	defer s.close()
	if err := s.list(); err != nil {
		return nil, err
	}
	s.start = s.state
	if len(s.segments) > 0 {
		first := s.segments[0]
		ok, err := s.enter(first, first != 1)
		if err == nil && !ok && first != 1 {
			err = s.damaged("%s has no header that can be read", segmentName(first))
		}
		if err != nil {
			return nil, err
		}
		if ok {
			s.start = s.head
		}
	}
	matches := func() error {
		if s.Tree.Size == signed.N && signed.N > 0 && s.Tree.root() != signed.Hash {
			return s.damaged("the first %d entries of the write-ahead log do not have the root of the signed checkpoint", signed.N)
		}
		return nil
	}
	err := matches()
	for s.file != nil && err == nil {
		r, leaf, ok, nerr := s.next()
		if err = nerr; !ok {
			break
		}
		e, perr := entry.Parse(r.body)
		if perr != nil || e.Seq != r.seq || e.Log != v.id || e.Tenant != "" && e.TenantSeq != s.Tenants[e.Tenant] {
			return nil, s.damaged("%s: record %d is not the next entry of this log (%v)", segmentName(s.Number), r.seq, perr)
		}
		s.take(e, leaf, r.chain)
		if err = matches(); err == nil && each != nil {
			each(e)
		}
	}
	if err == nil {
		err = s.judge(signed)
	}
	return s, err
}

// list finds the segments that belong together. They are removed from the front, and a crash may undo one removal but not
// the next: what lies before a hole is no longer needed. If it is, what is left does not reach back to the signed checkpoint.
func (s *scan) list() error {
	names, err := s.disk.list()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, name := range names {
		n, ok := segmentNumber(name)
		if k := len(s.segments); ok && k > 0 && n != s.segments[k-1]+1 {
			s.stale, s.segments = append(s.stale, s.segments...), nil
		}
		if ok {
			s.segments = append(s.segments, n)
		}
	}
	return nil
}

// judge says what the end of the log is: zeros, a torn write, or damage.
func (s *scan) judge(signed checkpoint) error {
	have := fmt.Sprintf("the write-ahead log breaks after %d entries, %d of them above the last signed checkpoint", s.Tree.Size, max(s.Tree.Size-signed.N, 0))
	switch {
	case s.start.Tree.Size > signed.N:
		return s.damaged("the write-ahead log begins with entry %d, after the last signed checkpoint of %d entries: what was published is older than the log", s.start.Tree.Size, signed.N)
	case s.Tree.Size < signed.N:
		return s.damaged("the write-ahead log ends after %d entries, the last signed checkpoint has %d: %d entries are missing", s.Tree.Size, signed.N, signed.N-s.Tree.Size)
	}
	for _, n := range s.segments {
		if n < s.Number {
			continue
		}
		at := cursor{disk: s.disk, state: state{Number: n}}
		if n == s.Number {
			at.off = s.off // 0 when no segment has a header
		}
		var err error
		if at.file, err = s.disk.open(segmentName(n)); err != nil {
			return err
		}
		b, err := at.rest()
		at.close()
		if err != nil {
			return err
		}
		if allZero(b) {
			continue
		}
		s.tail = true
		size := recordSize(b)
		if at.off == 0 {
			size = headerSize(b)
		}
		if acknowledged(b, s.Tree.Size) {
			return s.damaged("%s, and later records prove that more were durable", have)
		}
		if !torn(b, at.off, max(size, 8)) {
			return s.damaged("%s, and no sector of what follows is missing, as it would be after a crash: it was altered", have)
		}
	}
	return nil
}

// acknowledged looks in what follows the last good record for proof that entry seq had become durable: a later record
// says how many entries were durable when it was written.
func acknowledged(b []byte, seq int64) bool {
	for ; len(b) >= recordPrefix; b = b[8:] {
		if r, _, ok := parseRecord(b); ok && r.acked > seq {
			return true
		}
	}
	return false
}

// clear makes the volume what the scan found: it zeroes what follows the last good record, removes segments whose
// header is torn, and stale ones. It touches nothing else.
func (s *scan) clear() error {
	drop := slices.Clone(s.stale)
	if s.tail {
		for len(s.segments) > 0 && (s.off == 0 || s.segments[len(s.segments)-1] > s.Number) {
			drop = append(drop, s.segments[len(s.segments)-1])
			s.segments = s.segments[:len(s.segments)-1]
		}
	}
	for _, n := range drop {
		if err := s.disk.remove(segmentName(n)); err != nil {
			return err
		}
	}
	if !s.tail || s.off == 0 {
		return nil
	}
	f, err := s.disk.open(segmentName(s.Number))
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return err
	}
	return zero(f, s.off, size, atOnce)
}

// recover brings a volume to the state after its last durable entry.
func (l *Log) recover(v *volume, signed checkpoint, each func(*entry.Entry)) error {
	s, err := v.scan(signed, each)
	if err != nil {
		return err
	}
	if s.tail {
		l.cfg.Logger.Warn("a write that a crash tore is cleared; nobody was told that it was durable",
			"log", v.origin, "entries", s.Tree.Size, "above_signed_checkpoint", s.Tree.Size-signed.N)
	}
	if err := s.clear(); err != nil {
		return fmt.Errorf("clearing a torn write: %w", err)
	}
	v.start = s.start
	if s.off == 0 {
		return nil
	}
	v.state, v.off = s.state, s.off
	if v.file, err = v.disk.open(segmentName(v.Number)); err == nil {
		v.room, err = v.file.Size()
	}
	return err
}

// Extent is what one write-ahead log has.
type Extent struct {
	Origin string `json:"origin"`
	First  int64  `json:"first"`  // oldest entry that it still has
	Size   int64  `json:"size"`   // durable entries
	Signed int64  `json:"signed"` // entries in the last signed checkpoint
	Torn   bool   `json:"-"`      // a write is unfinished: by a crash, or because the ledger is running
}

// Read reads volume n of the ledger in dir without changing it, with the verifier key of the first log: every byte of
// every segment must be a record in the hash chain or zero, and the last signed checkpoint must be of these entries.
func Read(dir, verifierKey string, n int) (Extent, error) {
	d := filepath.Join(dir, strconv.Itoa(n))
	v, err := publicVolume(verifierKey, n, osDisk(filepath.Join(d, "wal")))
	if err != nil {
		return Extent{}, err
	}
	signed, err := v.readCheckpoint(filepath.Join(d, cosignedFile))
	if err != nil {
		return Extent{Origin: v.origin}, err
	}
	s, err := v.scan(signed, nil)
	if err != nil {
		return Extent{Origin: v.origin}, err
	}
	return Extent{v.origin, s.start.Tree.Size, s.Tree.Size, signed.N, s.tail}, nil
}
