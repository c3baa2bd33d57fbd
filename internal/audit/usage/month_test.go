package usage

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/books"
	"github.com/reevehq/reeve/internal/audit/sample"
	"github.com/reevehq/reeve/internal/audit/usage/export"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/host"
)

// A provider that counts all that a month's ledgers have, each when it likes within its reach, in buckets of any width, shows nothing out of band,
// also when it forgets some; what it counts besides shows, every one.
func TestMonth(t *testing.T) {
	dir := t.TempDir()
	if _, err := sample.Write(dir, sample.Options{Seed: 5, End: noon, Credentials: 2400, Uses: 1000}); err != nil {
		t.Fatal(err)
	}
	d, err := host.Open(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	b, err := books.Open(books.At(d.Join(host.Auditor), d.Trust(), estate.Dir(d.Join("estate")).Store(), d.Pin()), noon)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	uses := map[string][]time.Time{}
	for _, l := range b.Logs {
		err := l.Raw(0, func(_ int64, raw []byte) error {
			e, err := entry.Parse(raw)
			if err == nil && e.Type == entry.Intent {
				uses[e.Credential] = append(uses[e.Credential], time.Unix(0, e.TimeNS))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d, %d credentials used", seed, len(uses))
	rnd := rand.New(rand.NewPCG(seed, 1))
	reach := Usual("openai")
	for _, tt := range []struct {
		name    string
		width   time.Duration
		forgets float64
		strays  int64
	}{{"by the minute", time.Minute, 0, 0}, {"by the hour", time.Hour, 0, 0}, {"by the day", 24 * time.Hour, 0, 0}, {"forgetful", time.Hour, 0.1, 0},
		{"strays by the minute", time.Minute, 0, 7}, {"strays by the hour", time.Hour, 0, 7}, {"strays by the day", 24 * time.Hour, 0, 7}} {
		t.Run(tt.name, func(t *testing.T) {
			type at struct {
				credential string
				bucket     time.Time
			}
			counted := map[at]int64{}
			m, all := Mapping{}, []string(nil)
			for credential, times := range uses {
				m["key-"+credential] = credential
				all = append(all, credential)
				for _, u := range times {
					if rnd.Float64() >= tt.forgets {
						counted[at{credential, u.Add(time.Duration(rnd.Int64N(int64(reach.Late)))).Truncate(tt.width)}]++
					}
				}
			}
			for range tt.strays { // in the middle of the month, when every ledger was kept
				counted[at{all[rnd.IntN(len(all))], noon.Add(-time.Duration(5*24+rnd.IntN(20*24)) * time.Hour).Truncate(tt.width)}]++
			}
			x := &export.Export{Provider: "openai"}
			for a, n := range counted {
				x.Counts = append(x.Counts, export.Count{Keys: []string{"key-" + a.credential}, Kind: export.Use, From: a.bucket, To: a.bucket.Add(tt.width), Requests: n})
				if x.From.IsZero() || a.bucket.Before(x.From) {
					x.From = a.bucket
				}
				if to := a.bucket.Add(tt.width); to.After(x.To) {
					x.To = to
				}
			}
			r, err := Reconcile(t.Context(), b, x, m, reach)
			if err != nil {
				t.Fatal(err)
			}
			var found int64
			for _, s := range r.Strays {
				found += s.Difference
			}
			if found != tt.strays || (r.State == None) != (tt.strays == 0) {
				t.Errorf("%d of %d strays: %s %s", found, tt.strays, r.State, r.Summary)
			}
		})
	}
}
