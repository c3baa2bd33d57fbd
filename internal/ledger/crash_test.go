package ledger

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/reevehq/reeve/entry"
)

// crasher drives one ledger through crashes and remembers what was acknowledged.
type crasher struct {
	cfg   Config
	disk  *faultDisk
	rand  *rand.Rand
	mu    sync.Mutex
	acked map[int64][32]byte

	actors func(caller, i int) []string // of the caller's ith entry, which has a payload then
}

func newCrasher(t testing.TB, seed int64) *crasher {
	c := &crasher{cfg: testConfig(t), disk: newFaultDisk(), rand: rand.New(rand.NewSource(seed)), acked: map[int64][32]byte{}}
	c.cfg.SegmentSize, c.cfg.Interval = 256<<10+2048, time.Millisecond
	c.cfg.disks = func(string) disk { return c.disk }
	return c
}

// run appends with several callers until the disk crashes at the given step, and brings the disk to the state after it.
func (c *crasher) run(callers, crashAt int) error {
	c.disk.mu.Lock()
	c.disk.crashAt = c.disk.steps + crashAt
	c.disk.mu.Unlock()
	l, err := Open(context.Background(), c.cfg)
	if err == nil {
		var wg sync.WaitGroup
		for caller := range callers {
			wg.Go(func() {
				for i := 0; ; i++ {
					e := intent()
					var payload []byte
					if c.actors != nil {
						e, payload = by(c.actors(caller, i)...), []byte("the input")
					}
					e.Reason = strings.Repeat("x", i*37%900)
					d, err := l.Append(e, payload)
					if err != nil {
						return
					}
					c.mu.Lock()
					if _, ok := c.acked[d.Seq()]; ok {
						panic("a sequence number was given out twice")
					}
					c.acked[d.Seq()] = d.Leaf()
					c.mu.Unlock()
				}
			})
		}
		wg.Wait()
		l.Close()
	} else if !errors.Is(err, errCrashed) {
		return err
	}
	c.disk = c.disk.crash(c.rand)
	return c.tearTiles(4)
}

// scan reads what the disk has now.
func (c *crasher) scan(each func(*entry.Entry)) (*scan, error) {
	v, err := newVolume(&c.cfg, 0)
	if err != nil {
		return nil, err
	}
	signed, err := v.readCheckpoint(filepath.Join(c.cfg.dir(0), cosignedFile))
	if err != nil {
		return nil, err
	}
	return v.scan(signed, each)
}

// tearTiles damages one in so many published tiles that were not synced: some are lost, some are empty. Those of entries
// that the write-ahead log no longer has were synced before their segment was removed.
func (c *crasher) tearTiles(oneIn int) error {
	s, err := c.scan(nil)
	if err != nil {
		return nil // check will say so
	}
	return filepath.WalkDir(filepath.Join(c.cfg.Tiles, "tile"), func(p string, f fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || f.IsDir() {
			return err
		}
		rel, _ := filepath.Rel(c.cfg.Tiles, p)
		rel = strings.Replace(strings.Replace(rel, "tile/entries/", "tile/0/", 1), "tile/", "tile/8/", 1)
		tile, err := tlog.ParseTilePath(rel)
		if err != nil {
			return nil // being written
		}
		if tile.W == tileWidth && tile.N<<(8*(tile.L+1)) < s.start.Tree.Size {
			return nil
		}
		switch c.rand.Intn(2 * oneIn) {
		case 0:
			return os.Truncate(p, 0)
		case 1:
			return os.Remove(p)
		}
		return nil
	})
}

// check recovers the ledger and compares it with what was acknowledged.
func (c *crasher) check() error {
	l, err := Open(context.Background(), c.cfg)
	if err != nil {
		return fmt.Errorf("recovering: %w", err)
	}
	defer l.Close()
	found := map[int64][32]byte{}
	var buf []byte
	if _, err := c.scan(func(e *entry.Entry) {
		buf = e.AppendJSON(append(buf[:0], 0))
		found[e.Seq] = leafHash(buf)
	}); err != nil {
		return err
	}
	// What the write-ahead log still has, and the published tree, which has everything.
	first := l.Status().Size
	for seq := range found {
		first = min(first, seq)
	}
	published := tlog.TileHashReader(l.pub.signed.Tree, tileFiles(c.cfg.Tiles))
	var seqs, indexes []int64
	for seq, leaf := range c.acked {
		if seq >= first && found[seq] != leaf {
			return fmt.Errorf("entry %d was acknowledged and is missing or another one; the log has %d", seq, l.Status().Size)
		}
		seqs, indexes = append(seqs, seq), append(indexes, tlog.StoredHashIndex(0, seq))
	}
	var hashes []tlog.Hash
	if len(indexes) > 0 { // all at once: each tile is read once
		hashes, err = published.ReadHashes(indexes)
	}
	if err != nil {
		return fmt.Errorf("entries were acknowledged and are not in the published tree of %d: %w", l.pub.signed.N, err)
	}
	for i, seq := range seqs {
		if hashes[i] != c.acked[seq] {
			return fmt.Errorf("entry %d was acknowledged and is another one in the published tree", seq)
		}
	}
	if s := l.Status(); s.Published != s.Size {
		return fmt.Errorf("%d of %d entries published", s.Published, s.Size)
	}
	return nil
}

// TestCrashes cuts the power at random steps under 32 callers: no acknowledged entry is missing or doubled afterwards.
func TestCrashes(t *testing.T) {
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	c := newCrasher(t, seed)
	for i := range 20 {
		if err := c.run(32, 1+c.rand.Intn(300)); err != nil {
			t.Fatalf("crash %d: %v", i, err)
		}
		if err := c.check(); err != nil {
			t.Fatalf("crash %d: %v", i, err)
		}
	}
	t.Logf("%d entries acknowledged", len(c.acked))
}

// TestCrashAtEveryStep cuts the power at each step of a ledger's first steps, and at each of a recovery's.
func TestCrashAtEveryStep(t *testing.T) {
	for step := 1; step <= 40; step++ {
		c := newCrasher(t, int64(step))
		for i := range 3 {
			if err := c.run(1+i*7, step); err != nil {
				t.Fatalf("step %d, crash %d: %v", step, i, err)
			}
		}
		if err := c.check(); err != nil {
			t.Fatalf("step %d: %v", step, err)
		}
	}
}

// TestMissingSyncIsCaught proves that the tests above can fail: with a Sync that does nothing, they do.
func TestMissingSyncIsCaught(t *testing.T) {
	for seed := range int64(20) {
		c := newCrasher(t, seed)
		if err := c.run(32, 60); err != nil {
			t.Fatal(err)
		}
		c.disk.forgetful = true
		err := c.run(32, 60)
		if err == nil {
			err = c.check()
		}
		if err != nil {
			t.Logf("seed %d: %v", seed, err)
			return
		}
	}
	t.Fatal("a disk that does not sync went unnoticed in 20 crashes")
}

// TestHoleBeforeATornTail crashes into the two things at once that recovery clears: a removed segment that came back before
// one that did not, and a torn write with a spare segment after it. The log goes on with the oldest segment that it needs.
func TestHoleBeforeATornTail(t *testing.T) {
	c := newCrasher(t, 1)
	segment := func(n int64) *faultFile {
		c.disk.mu.Lock()
		defer c.disk.mu.Unlock()
		return c.disk.names[segmentName(n)]
	}
	l := open(t, c.cfg)
	back := segment(1)
	for segment(10) == nil { // the spare after the one that is written
		e := intent()
		e.Reason = strings.Repeat("x", 4000)
		d, err := l.Append(e, nil)
		if err != nil {
			t.Fatal(err)
		}
		c.acked[d.Seq()] = d.Leaf()
	}
	until(t, func() bool { return segment(1) == nil && segment(2) == nil })
	l.Close()

	clear(c.disk.removed)
	c.disk = c.disk.crash(c.rand)
	c.disk.names[segmentName(1)], c.disk.durable[segmentName(1)] = back, back
	s, err := c.scan(nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.stale) != 1 || s.Number == s.segments[0] || s.Number == s.segments[len(s.segments)-1] {
		t.Fatalf("not what is to be tested: segments %v and %v, the active one is %d", s.stale, s.segments, s.Number)
	}
	copy(segment(s.Number).data[s.off/sector*sector+sector:], "torn")
	if err := c.tearTiles(1); err != nil {
		t.Fatal(err)
	}

	if err := c.check(); err != nil {
		t.Fatal(err)
	}
}

func TestFailedSyncIsFatal(t *testing.T) {
	c := newCrasher(t, 1)
	l := open(t, c.cfg)
	appendN(t, l, 3)
	c.disk.mu.Lock()
	c.disk.syncErr = errors.New("input/output error")
	c.disk.mu.Unlock()
	if _, err := l.Append(intent(), nil); !errors.Is(err, ErrClosed) || !strings.Contains(err.Error(), "input/output error") {
		t.Fatalf("append over a failed sync: %v", err)
	}
	c.disk.mu.Lock()
	c.disk.syncErr = nil
	c.disk.mu.Unlock()
	if _, err := l.Append(intent(), nil); !errors.Is(err, ErrClosed) || !strings.Contains(err.Error(), "input/output error") {
		t.Fatalf("the sync was retried: %v", err)
	}
	if err := l.Enqueue(intent(), true); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
	<-l.Done()
}

// TestFailingDiskDoesNotOpen: neither a new ledger nor one with entries opens where nothing can be synced.
func TestFailingDiskDoesNotOpen(t *testing.T) {
	for _, entries := range []int{0, 3} {
		c := newCrasher(t, 1)
		if entries > 0 {
			l := open(t, c.cfg)
			appendN(t, l, entries)
			l.Close()
		}
		c.disk.syncErr = errors.New("input/output error")
		_, err := Open(context.Background(), c.cfg)
		if err == nil || errors.Is(err, ErrFull) || !strings.Contains(err.Error(), "input/output error") || !strings.Contains(err.Error(), "nothing is started") {
			t.Fatalf("with %d entries: %v", entries, err)
		}
		c.disk.syncErr = nil
		l := open(t, c.cfg)
		appendN(t, l, 1)
		if size := l.Status().Size; size != int64(entries)+1 {
			t.Fatalf("%d entries after the disk was mended", size)
		}
	}
}

// TestFullDisk fills the disk: entries are refused, closing ones are written from the reserve, and all goes on when there is room.
func TestFullDisk(t *testing.T) {
	c := newCrasher(t, 1)
	l := open(t, c.cfg)
	big := func() *entry.Entry {
		e := intent()
		e.Reason = strings.Repeat("x", 4000)
		return e
	}
	appendN(t, l, 1)
	for i := 0; ; i++ {
		c.disk.mu.Lock()
		reserved := c.disk.names[segmentName(3)] != nil
		c.disk.mu.Unlock()
		if reserved {
			break
		}
		time.Sleep(time.Millisecond)
	}
	c.disk.mu.Lock()
	c.disk.full = true
	c.disk.mu.Unlock()
	var err error
	n := 0
	for ; err == nil && n < 1000; n++ {
		_, err = l.Append(big(), nil)
	}
	if !errors.Is(err, ErrFull) {
		t.Fatalf("after %d entries: %v", n, err)
	}
	size := l.Status().Size
	for range 5 {
		if err := l.Enqueue(&entry.Entry{Type: entry.Freeze, Reason: "incident"}, true); err != nil {
			t.Fatal(err)
		}
	}
	until(t, func() bool { return l.Status().Size == size+5 })
	if _, err := l.Append(big(), nil); !errors.Is(err, ErrFull) {
		t.Fatalf("the reserve was used for a use: %v", err)
	}
	c.disk.mu.Lock()
	c.disk.full = false
	c.disk.mu.Unlock()
	until(t, func() bool { _, err := l.Append(big(), nil); return err == nil })
	l.Close()
	c.disk = c.disk.crash(c.rand)
	if err := c.check(); err != nil {
		t.Fatal(err)
	}
}

// TestLowSpace stops Append below 5 % and lets closings through.
func TestLowSpace(t *testing.T) {
	c := newCrasher(t, 1)
	l := open(t, c.cfg)
	appendN(t, l, 1)
	c.disk.mu.Lock()
	c.disk.free = 4
	c.disk.mu.Unlock()
	until(t, func() bool { _, err := l.Append(intent(), nil); return errors.Is(err, ErrFull) })
	size := l.Status().Size
	if err := l.Enqueue(&entry.Entry{Type: entry.Freeze, Reason: "incident"}, true); err != nil {
		t.Fatal(err)
	}
	until(t, func() bool { return l.Status().Size == size+1 })
	c.disk.mu.Lock()
	c.disk.free = 6
	c.disk.mu.Unlock()
	until(t, func() bool { _, err := l.Append(intent(), nil); return err == nil })
}

// until waits for something that another goroutine is about to do.
func until(t *testing.T, done func() bool) {
	t.Helper()
	for start := time.Now(); !done(); time.Sleep(time.Millisecond) {
		if time.Since(start) > 20*time.Second {
			t.Fatal("waited in vain")
		}
	}
}

// TestClearKeepsWhatItKeeps: stale and torn segments go, the others stay and are still known by their numbers.
func TestClearKeepsWhatItKeeps(t *testing.T) {
	d := newFaultDisk()
	numbers := []int64{3, 5, 6, 7}
	for _, n := range numbers {
		f, err := createSegment(d, segmentName(n), 4096, atOnce)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	s := &scan{cursor: cursor{disk: d, state: state{Number: 5}, off: 64}, stale: numbers[:1], segments: numbers[1:], tail: true}
	if err := s.clear(); err != nil {
		t.Fatal(err)
	}
	names, err := d.list()
	if err != nil || len(names) != 1 || names[0] != segmentName(5) || len(s.segments) != 1 || s.segments[0] != 5 {
		t.Errorf("left are %v, known are %v, %v; want segment 5", names, s.segments, err)
	}
}
