package index

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/reevehq/reeve/entry"
)

// crowded is an hour of 140,000 entries about 10,000 credentials, as it is with 100 million in a month.
func crowded() *world {
	const hour, entries = 1_790_000_000 / hourly * hourly * 1e9, 140_000
	w := seeded(1)
	for seq := range int64(entries) {
		of := seq / 2
		n := uint64(of) * 0x9e3779b97f4a7c15
		u := float64(n>>11) / (1 << 53)
		credential := int(u * u * u * 10_000)
		e := &entry.Entry{V: 1, Seq: seq, TimeNS: hour + seq*int64(time.Hour)/entries, Log: custodian, Tenant: "main", Type: entry.Intent, Decision: "allow", Level: "W2", Proof: "pop",
			Unit: fmt.Sprintf("unit-%02d", credential/250), Workload: fmt.Sprintf("spiffe://example.org/unit-%02d/workload-%04d", credential/250, credential/5+int(n%2)),
			Gateway: fmt.Sprintf("gateway-%d", credential%3), Credential: fmt.Sprintf("unit-%02d-credential-%04d", credential/250, credential), CredFP: fmt.Sprintf("%032x", credential),
			Estate: fmt.Sprintf("%064x", 7), Dest: "https://api.example.org", Method: "POST", PathHash: fmt.Sprintf("%064x", n), ReqDigest: fmt.Sprintf("%064x", n+1), Lease: "v1"}
		if seq%2 == 1 {
			e = &entry.Entry{V: 1, Seq: seq, TimeNS: e.TimeNS, Log: custodian, Tenant: "main", Type: entry.Outcome, HasIntent: true, IntentSeq: seq - 1, Status: 200, Bytes: 400}
		}
		w.entries[custodian] = append(w.entries[custodian], e)
	}
	return w
}

// BenchmarkCutHour asks for everything by credential in a window that begins in a crowded hour: a quarter of it, half, and nearly all.
func BenchmarkCutHour(b *testing.B) {
	w := crowded()
	all := w.copies(b)
	x := backend{Place{File: filepath.Join(b.TempDir(), "index.db")}}
	k := x.open(b, x.Keep)
	if err := k.Extend(b.Context(), all, nil); err != nil {
		b.Fatal(err)
	}
	c, err := x.Usable(b.Context(), all)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	begin := time.Unix(0, w.entries[custodian][0].TimeNS)
	for _, from := range []time.Duration{45 * time.Minute, 30 * time.Minute, time.Minute} {
		b.Run(fmt.Sprint("from ", from), func(b *testing.B) {
			for b.Loop() {
				list, err := c.Uses(b.Context(), Filter{From: begin.Add(from), To: begin.Add(2 * time.Hour)}, ByCredential)
				if err != nil || len(list) < 5000 {
					b.Fatal(len(list), err)
				}
			}
		})
	}
}
