package cursor_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/cursor"
	"github.com/reevehq/reeve/internal/audit/sample"
	"github.com/reevehq/reeve/verify"
)

// TestDeliver: every entry of every log comes in order; a delivery that fails comes again, after a restart too; nothing comes twice otherwise.
func TestDeliver(t *testing.T) {
	dir := t.TempDir()
	a, err := sample.Write(dir, sample.Options{Seed: 2, End: time.Now(), Credentials: 2400, Uses: 100})
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "trust.json"))
	if err != nil {
		t.Fatal(err)
	}
	trust, err := verify.ParseTrust(text)
	if err != nil {
		t.Fatal(err)
	}
	open := func() *cursor.Follower {
		f := &cursor.Follower{State: filepath.Join(dir, "auditor"), Trust: trust, File: filepath.Join(dir, "cursor.json")}
		if err := f.Open(); err != nil {
			t.Fatal(err)
		}
		return f
	}
	seen, calls, down := map[string]int64{}, 0, errors.New("down")
	take := func(_ context.Context, list []*entry.Entry) error {
		if calls++; calls == 3 || calls == 7 {
			return down
		}
		for _, e := range list {
			if e.Seq != seen[e.Log] {
				t.Fatalf("entry %d of %s came, %d was next", e.Seq, e.Log, seen[e.Log])
			}
			seen[e.Log]++
		}
		return nil
	}
	var total int64
	for range 2 {
		n, err := open().Deliver(t.Context(), take)
		if total += n; !errors.Is(err, down) {
			t.Fatal(err)
		}
	}
	n, err := open().Deliver(t.Context(), take)
	if total += n; err != nil || total != a.Entries {
		t.Fatalf("%d of %d entries, %v", total, a.Entries, err)
	}
	if n, err := open().Deliver(t.Context(), take); n != 0 || err != nil {
		t.Errorf("%d entries again, %v", n, err)
	}
}
