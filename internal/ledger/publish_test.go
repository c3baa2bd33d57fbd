package ledger

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/reevehq/reeve/entry"
)

// TestTree compares the reduced tree with golang.org/x/mod's.
func TestTree(t *testing.T) {
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(i []int64) ([]tlog.Hash, error) {
		var h []tlog.Hash
		for _, i := range i {
			h = append(h, stored[i])
		}
		return h, nil
	})
	tr := tree{}
	for n := range int64(70_000) {
		if n < 1000 || n%251 == 0 || n > 65_500 && n < 65_600 {
			want, err := tlog.TreeHash(n, reader)
			if err != nil {
				t.Fatal(err)
			}
			if got := tr.root(); got != want {
				t.Fatalf("size %d: root %v, want %v", n, got, want)
			}
			if c := tr.clone(); !tr.valid() || c.root() != want {
				t.Fatalf("size %d: not valid", n)
			}
		}
		leaf := binary.BigEndian.AppendUint64(nil, uint64(n))
		h, err := tlog.StoredHashes(n, leaf, reader)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, h...)
		tr.add(tlog.RecordHash(leaf), func(level int, n int64, hashes []tlog.Hash) {
			if len(hashes) != tileWidth || hashes[255] != stored[tlog.StoredHashIndex(8*level, n*tileWidth+255)] {
				t.Fatalf("tile %d/%d", level, n)
			}
		})
	}
}

// TestWitnessAway: entries stay durable and published, the age of the uncosigned ones grows, and it all heals.
func TestWitnessAway(t *testing.T) {
	cfg := testConfig(t)
	w := &memory{}
	now := time.Unix(1_800_000_000, 0)
	clock := make(chan time.Time, 1)
	clock <- now
	cfg.Clock = func() time.Time { n := <-clock; clock <- n; return n }
	tick := func(d time.Duration) { clock <- (<-clock).Add(d) }
	cfg.Witnesses, cfg.Interval = []Witness{w}, time.Millisecond
	l := open(t, cfg)
	appendN(t, l, 10)
	until(t, func() bool { _, n := l.Uncosigned(); return n == 0 })
	if age, _ := l.Uncosigned(); age != 0 {
		t.Fatalf("age %v of nothing", age)
	}
	w.leave(true)
	tick(time.Minute)
	appendN(t, l, 1)
	tick(20 * time.Second)
	appendN(t, l, 1)
	tick(11 * time.Second)
	until(t, func() bool { return l.Status().Published == 12 && l.Status().Reason != "" })
	if age, n := l.Uncosigned(); age != 31*time.Second || n != 2 {
		t.Fatalf("%v, %d", age, n)
	}
	l.Close()
	// A restart does not forget the age.
	l = open(t, cfg)
	if age, n := l.Uncosigned(); age != 31*time.Second || n != 2 {
		t.Fatalf("after a restart: %v, %d", age, n)
	}
	w.leave(false)
	until(t, func() bool { age, n := l.Uncosigned(); return age == 0 && n == 0 && l.Status().Reason == "" })
}

// TestRolledBackLater: the witness was away at the start and comes back with more entries than the log has, or with others.
func TestRolledBackLater(t *testing.T) {
	for name, last := range map[string]tlog.Tree{"more": {N: 1000}, "others": {N: 2}, "as many others": {N: 3}} {
		cfg := testConfig(t)
		w := &memory{last: map[string]tlog.Tree{"reeve/test/c1": last}, away: true}
		cfg.Witnesses, cfg.Interval = []Witness{w}, time.Millisecond
		l := open(t, cfg)
		appendN(t, l, 3)
		until(t, func() bool { return l.Status().Published == 3 })
		w.leave(false)
		<-l.Done()
		if _, err := l.Append(intent(), nil); !errors.Is(err, ErrRolledBack) || !errors.Is(err, ErrClosed) {
			t.Fatalf("%s: %v", name, err)
		}
	}
}

// TestOneWitnessCannotStop: with k of n, a witness that claims to know more does not stop a log that enough others cosign.
func TestOneWitnessCannotStop(t *testing.T) {
	cfg := testConfig(t)
	liar := &memory{last: map[string]tlog.Tree{"reeve/test/c1": {N: 1 << 40}}}
	cfg.Witnesses, cfg.Need, cfg.Interval = []Witness{liar, &memory{}}, 1, time.Millisecond
	l := open(t, cfg)
	appendN(t, l, 3)
	until(t, func() bool {
		return l.Status().Cosigned == 3 && strings.Contains(l.Status().Reason, "witness has seen")
	})
}

// TestLiarAndAbsence: with 2 of 3, one witness that lies stops nothing while another is away: the log waits, shows the claim, and
// goes on with the two others. Two that claim the same stop it: nobody is left who could ever cosign.
func TestLiarAndAbsence(t *testing.T) {
	cfg := testConfig(t)
	lie := map[string]tlog.Tree{"reeve/test/c1": {N: 1 << 40}}
	liar, honest, away := &memory{name: "w1", last: lie}, &memory{name: "w2"}, &memory{name: "w3", away: true}
	cfg.Witnesses, cfg.Need, cfg.Interval = []Witness{liar, honest, away}, 2, time.Millisecond
	l := open(t, cfg)
	appendN(t, l, 3)
	until(t, func() bool { s := l.Status(); return s.Published == 3 && s.Disputed == 1 && s.Cosigned == 0 })
	if err := l.Err(); err != nil {
		t.Fatalf("one witness stopped the log: %v", err)
	}
	away.leave(false)
	until(t, func() bool { return l.Status().Cosigned == 3 })
	appendN(t, l, 1)
	until(t, func() bool { return l.Status().Cosigned == 4 })
	away.mu.Lock()
	away.last = lie
	away.mu.Unlock()
	appendN(t, l, 1)
	<-l.Done()
	if err := l.Err(); !errors.Is(err, ErrRolledBack) {
		t.Fatal(err)
	}
}

// TestPublishedIsTrue: a log whose tiles cannot be made again at the start says that nothing is published, and why, and has nothing
// cosigned until they can.
func TestPublishedIsTrue(t *testing.T) {
	cfg := testConfig(t)
	w := &memory{}
	cfg.Witnesses, cfg.Interval = []Witness{w}, time.Millisecond
	l := open(t, cfg)
	appendN(t, l, 300)
	l.Close()
	blocked := filepath.Join(cfg.Tiles, "tile", "0", "001.p", "44")
	if err := errors.Join(os.Remove(blocked), os.Mkdir(blocked, 0o750)); err != nil { // where a tile must go, a folder is
		t.Fatal(err)
	}
	w.away = true
	l = open(t, cfg)
	if s := l.Status(); s.Published != 0 || s.Reason == "" || s.Size != 300 {
		t.Fatalf("%+v", s)
	}
	w.leave(false)
	asked := w.asks()
	until(t, func() bool { return strings.Contains(l.Status().Reason, "001.p") })
	if w.asks() != asked {
		t.Fatal("a witness was asked for a log that is not published")
	}
	if err := os.Remove(blocked); err != nil {
		t.Fatal(err)
	}
	until(t, func() bool { s := l.Status(); return s.Published == 300 && s.Cosigned == 300 && s.Reason == "" })
}

// TestPublisherBelievesNoSegment: entries that were altered on disk while the log runs, checksums and chain included, are not
// published: the log closes.
func TestPublisherBelievesNoSegment(t *testing.T) {
	cfg := testConfig(t)
	l := open(t, cfg)
	appendN(t, l, 20)
	l.Close()
	l = open(t, cfg)
	name := filepath.Join(cfg.Dir, "0", "wal", segmentName(1))
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	_, off, err := parseHeader(b)
	if err != nil {
		t.Fatal(err)
	}
	chain := firstChain("reeve/test/c1")
	for { // another history of the same length
		r, n, ok := parseRecord(b[off:])
		if !ok {
			break
		}
		r.body = []byte(strings.Replace(string(r.body), "research", "reserved", 1))
		chain = nextChain(chain, r.seq, tlog.RecordHash(r.body))
		r.chain = chain
		copy(b[off:], appendRecord(nil, &r))
		off += n
	}
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	l.pub.mu.Lock()
	l.pub.rewind()
	l.pub.published.Store(-1)
	l.pub.mu.Unlock()
	var damaged *DamagedError
	if err := l.publish(context.Background()); !errors.As(err, &damaged) {
		t.Fatalf("another history was published: %v", err)
	}
}

// TestRefusedEntryTakesNoNumber: an entry that is refused leaves no gap, in the log and in its tenant.
func TestRefusedEntryTakesNoNumber(t *testing.T) {
	l := open(t, testConfig(t))
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewSource(seed))
	next := map[string]int64{}
	for seq := int64(0); seq < 200; {
		e := intent()
		e.Tenant = []string{"a", "b"}[r.Intn(2)]
		bad := r.Intn(3)
		switch bad {
		case 0:
			e.Workload = ""
		case 1:
			e.Reason = strings.Repeat("x", entry.MaxLen)
		}
		d, err := l.Append(e, nil)
		if bad < 2 {
			if err == nil {
				t.Fatal("accepted")
			}
			continue
		}
		if err != nil || d.Seq() != seq || e.TenantSeq != next[e.Tenant] {
			t.Fatalf("seq %d, tenant_seq %d, want %d, %d: %v", d.Seq(), e.TenantSeq, seq, next[e.Tenant], err)
		}
		seq++
		next[e.Tenant]++
	}
}

// TestGroupReadable: the published files are the group's to read whatever the umask, the state is nobody else's.
func TestGroupReadable(t *testing.T) {
	cfg := testConfig(t)
	l := open(t, cfg)
	appendN(t, l, 300)
	l.Close()
	for dir, want := range map[string][2]os.FileMode{cfg.Tiles: {0o750, 0o640}, cfg.Dir: {0o700, 0o600}} {
		err := filepath.WalkDir(dir, func(p string, f os.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := f.Info()
			if i := slices.Index([]bool{true, false}, f.IsDir()); err == nil && info.Mode().Perm() != want[i] {
				t.Errorf("%s has mode %o, want %o", p, info.Mode().Perm(), want[i])
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log.key")
	k, err := GenerateKey("reeve/test/c1")
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Save(path); err != nil {
		t.Fatal(err)
	}
	if err := k.Save(path); err == nil {
		t.Fatal("overwritten")
	}
	got, err := LoadKey(path)
	if err != nil || got.Verifier() != k.Verifier() || got.Origin() != "reeve/test/c1" {
		t.Fatalf("%v, %v", got, err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadKey(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Fatal(err)
	}
}

// A new log does not wait until a segment of full size is zeroed.
func TestFirstSegmentsAreShort(t *testing.T) {
	cfg := testConfig(t)
	cfg.SegmentSize = 0 // the default
	l, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	appendN(t, l, 1) // waits for the second
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for n, want := range map[int64]int64{1: 4 << 20, 2: 8 << 20} {
		info, err := os.Stat(filepath.Join(cfg.Dir, "0", "wal", segmentName(n)))
		if err != nil || info.Size() != want {
			t.Errorf("segment %d: %v, %v; want %d bytes", n, info, err, want)
		}
	}
}

// TestSegmentSizeMayChange between two starts.
func TestSegmentSizeMayChange(t *testing.T) {
	cfg := testConfig(t)
	for _, size := range []int64{1 << 20, 512 << 10, 4 << 20} {
		cfg.SegmentSize = size
		l, err := Open(context.Background(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		for range 3000 {
			if err := l.Enqueue(intent(), false); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if s := open(t, cfg).Status(); s.Size != 9000 || s.Cosigned != 9000 {
		t.Fatalf("%+v", s)
	}
}
