package sample

import (
	"os"
	"testing"
	"time"

	"github.com/reevehq/reeve/internal/audit/books"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/verify"
)

// TestMonth: a small month verifies with the offline verifier, opens as books, and is the same for the same options.
func TestMonth(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	o := Options{Seed: 1, End: now, Credentials: 2400, Uses: 4000}
	a, err := Write(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	d, err := host.Open(dir, dir)
	if err != nil {
		t.Fatal(err)
	}
	b, err := books.Open(books.At(d.Join(host.Auditor), d.Trust(), estate.Dir(d.Join("estate")).Store(), d.Pin()), now)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if len(b.Logs) != 7 || a.Entries == 0 {
		t.Fatalf("%d logs, %d entries", len(b.Logs), a.Entries)
	}
	for _, l := range b.Logs {
		r, err := b.Trust.Directory(l.Folder, verify.Options{})
		if err != nil || !r.Holds(verify.Cosigned) || r.Logs[0].Size != a.Logs[l.Process] {
			t.Errorf("%s: %+v, %v", l.Process, r, err)
		}
	}
	if len(a.Used) < 30 || len(a.Reachable) == 0 || len(a.Excluded) == 0 || len(a.Orphaned) != 1 || len(a.Victims) != 4 || a.Chained != 28 {
		t.Errorf("planted: %d used, %d reachable, %d excluded, %d orphaned, %d victims, %d chained", len(a.Used), len(a.Reachable), len(a.Excluded), len(a.Orphaned), len(a.Victims), a.Chained)
	}
	again := t.TempDir()
	if _, err := Write(again, o); err != nil {
		t.Fatal(err)
	}
	x, _ := os.ReadFile(dir + "/" + AnswersFile)
	y, _ := os.ReadFile(again + "/" + AnswersFile)
	if string(x) != string(y) {
		t.Error("the same options made two months")
	}
}
