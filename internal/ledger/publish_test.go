package ledger

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
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

func TestHeartbeat(t *testing.T) {
	cfg := testConfig(t)
	l := open(t, cfg)
	appendN(t, l, 3)
	d, err := l.Append(&entry.Entry{Type: entry.Heartbeat}, nil)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	b, err := os.ReadFile(filepath.Join(cfg.Dir, "0", "payload", payloadName("")))
	if err != nil {
		t.Fatal(err)
	}
	if n := binary.BigEndian.Uint32(b); int(n) != len(b)-12-saltLen || int64(binary.BigEndian.Uint64(b[4:])) != d.Seq() {
		t.Fatalf("payload record %d of %d bytes", n, len(b))
	}
	var opening map[string]struct {
		Salt []byte
		Last int64
	}
	if err := json.Unmarshal(b[12+saltLen:], &opening); err != nil {
		t.Fatal(err)
	}
	o := opening["acme"]
	leaf := sha256.Sum256(append(binary.BigEndian.AppendUint64(append([]byte(domainHeartbeat), o.Salt...), uint64(o.Last)), "acme"...))
	commit := sha256.Sum256(append([]byte(domainHeartbeat), leaf[:]...))
	raw, err := os.ReadFile(filepath.Join(cfg.Tiles, "tile", "entries", "000.p", "4"))
	if err != nil || o.Last != 2 || !strings.Contains(string(raw), hex.EncodeToString(commit[:])) {
		t.Fatalf("last %d, commit %x not in %s, %v", o.Last, commit, raw, err)
	}
}

func TestPayload(t *testing.T) {
	cfg := testConfig(t)
	l := open(t, cfg)
	e := intent()
	if _, err := l.Append(e, []byte("the decision's input")); err != nil {
		t.Fatal(err)
	}
	l.Close()
	name := filepath.Join(cfg.Dir, "0", "payload", payloadName("acme"))
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256(b[12:]); hex.EncodeToString(sum[:]) != e.Commit || string(b[12+saltLen:]) != "the decision's input" {
		t.Fatalf("%s does not open %s", b[12:], e.Commit)
	}
	// Without it the tree is whole.
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	appendN(t, open(t, cfg), 1)
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
