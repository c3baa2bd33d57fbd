package detect_test

import (
	"slices"
	"testing"
	"time"

	"github.com/reevehq/reeve/internal/audit/books"
	"github.com/reevehq/reeve/internal/audit/detect"
	"github.com/reevehq/reeve/internal/audit/logs"
	"github.com/reevehq/reeve/internal/audit/sample"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/host"
)

// TestMonth: in a month with a captured gateway exactly the planted patterns are found, within its hours and with the people who have to act; the
// honest weeks before and after give none.
func TestMonth(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	a, err := sample.Write(dir, sample.Options{Seed: 3, End: now, Credentials: 2400, Uses: 30_000})
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
	x := detect.New(b.History)
	for e, err := range logs.Merge(b.Logs, func(string) int64 { return 0 }) {
		if err != nil {
			t.Fatal(err)
		}
		x.Add(e)
	}
	want := []string{detect.Chaining + " workload:" + a.Chainer, detect.FirstSeen + " workload:" + a.Chainer, detect.Denials + " workload:" + a.Prober, detect.Bait + " workload:" + a.BaitBy}
	var got []string
	for _, f := range x.Findings() {
		got = append(got, f.Rule+" "+f.Subject)
		if f.First.Before(a.From) || !f.Last.Before(a.To) {
			t.Errorf("outside the captured hours: %+v", f)
		}
		if !slices.Contains(f.Owners, detect.Owner{Person: a.Operations, For: "operations of " + a.Captured}) || len(f.Owners) < 2 || f.Severity == "" || len(f.Refs) == 0 {
			t.Errorf("%s %s: %+v", f.Rule, f.Subject, f.Owners)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("found %q, planted %q", got, want)
	}
}
