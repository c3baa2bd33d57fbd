package ledger

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"github.com/reevehq/reeve/entry"
)

func testConfig(t testing.TB) Config {
	t.Helper()
	key, err := GenerateKey("reeve/test/c1")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	return Config{Key: key, Dir: filepath.Join(dir, "ledger"), Tiles: filepath.Join(dir, "tiles"), SegmentSize: 1 << 20}
}

func open(t testing.TB, cfg Config) *Log {
	t.Helper()
	l, err := Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func intent() *entry.Entry {
	return &entry.Entry{Type: entry.Intent, Tenant: "acme", Unit: "research", Workload: "research-agent", Credential: "research-openai",
		Decision: "allow", Gateway: "g1", Dest: "https://127.0.0.1:7809", Method: "POST", Policies: []string{"p0"}, Level: "W0", Proof: "bearer"}
}

func TestAppendAndReopen(t *testing.T) {
	cfg := testConfig(t)
	l := open(t, cfg)
	for i := range int64(600) {
		e := intent()
		d, err := l.Append(e, []byte("payload"))
		if err != nil {
			t.Fatal(err)
		}
		if d.Seq() != i || e.TenantSeq != i || !d.Valid() {
			t.Fatalf("entry %d: seq %d, tenant seq %d", i, d.Seq(), e.TenantSeq)
		}
		r, err := entry.ParseReceipt(d.Receipt())
		if err != nil {
			t.Fatal(err)
		}
		if r.Seq != i || r.Leaf != d.Leaf() {
			t.Fatal("the receipt is of another entry")
		}
	}
	if err := l.Close(); err != nil && !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
	if _, err := l.Append(intent(), nil); !errors.Is(err, ErrClosed) {
		t.Fatalf("append after close: %v", err)
	}
	l = open(t, cfg)
	d, err := l.Append(intent(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if d.Seq() != 600 {
		t.Fatalf("after reopening: seq %d", d.Seq())
	}
	if s := l.Status(); s.Cosigned != 600 {
		t.Fatalf("%+v", s)
	}
}

// An entry that nobody waits for is written with the next one that is waited for, and without one it is written soon.
func TestEnqueueWaitsForOthers(t *testing.T) {
	l := open(t, testConfig(t))
	together := false
	for try := 0; try < 100 && !together; try++ { // a machine that stops for 20 ms in between parts them
		if err := l.Enqueue(intent(), false); err != nil {
			t.Fatal(err)
		}
		l.mu.Lock()
		waits := len(l.queue) == 1 && !l.queue[0].due
		l.mu.Unlock()
		d, err := l.Append(intent(), nil)
		if err != nil {
			t.Fatal(err)
		}
		together = waits && d.g.first == d.Seq()-1
	}
	if !together {
		t.Error("an entry that nobody waits for had a sync of its own")
	}
	size := l.size.Load()
	if err := l.Enqueue(intent(), false); err != nil {
		t.Fatal(err)
	}
	until(t, func() bool { return l.size.Load() == size+1 })
	if err := l.Enqueue(intent(), false); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil || l.size.Load() != size+2 {
		t.Errorf("closed with %d entries, want %d: %v", l.size.Load(), size+2, err)
	}
}
