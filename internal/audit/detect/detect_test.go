package detect_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/detect"
)

// world makes entries of one log.
type world struct {
	seq  int64
	list []*entry.Entry
}

func (w *world) add(t time.Time, typ entry.Type, workload, credential string, edit func(*entry.Entry)) {
	e := &entry.Entry{V: 1, Seq: w.seq, TimeNS: t.UnixNano(), Type: typ, Log: "00000000000000aa", Tenant: "acme", Unit: "research", Workload: workload, Gateway: "g1", Credential: credential,
		Dest: "https://api.example", Method: "POST", PathHash: "00"}
	if edit != nil {
		edit(e)
	}
	w.seq++
	w.list = append(w.list, e)
}

// TestPatterns: each pattern is found where it was planted and nowhere else, at its limit there is none, and beyond it there is one finding.
func TestPatterns(t *testing.T) {
	begin := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	later := begin.Add(20 * 24 * time.Hour)
	each := func(w *world, n int, every time.Duration, edit func(int, *entry.Entry)) {
		for i := range n {
			w.add(later.Add(time.Duration(i)*every), entry.Intent, "agent", fmt.Sprintf("k%d", i), func(e *entry.Entry) { edit(i, e) })
		}
	}
	one := func(_ int, e *entry.Entry) { e.Credential = "k0" }
	for _, c := range []struct {
		name  string
		rule  string
		limit int
		count int64 // of the finding, one beyond the limit
		plant func(w *world, n int)
	}{
		{"distinct credentials within a minute", detect.Chaining, 10, 11, func(w *world, n int) {
			for i := range n { // known for long
				w.add(begin.Add(time.Duration(i)*time.Hour), entry.Intent, "agent", fmt.Sprintf("k%d", i), nil)
			}
			each(w, n, 5*time.Second, func(int, *entry.Entry) {})
		}},
		{"first uses within an hour", detect.FirstSeen, 8, 9, func(w *world, n int) { each(w, n, 7*time.Minute, func(int, *entry.Entry) {}) }},
		{"one token at many services", detect.Proof, 6, 7, func(w *world, n int) {
			each(w, n, time.Minute, func(i int, e *entry.Entry) {
				e.Credential, e.Dest, e.Actor = "k0", fmt.Sprintf("https://s%d.example", i), []string{"token:ab", "issuer:idp"}
			})
		}},
		{"refusals within a minute", detect.Denials, 30, 31, func(w *world, n int) {
			each(w, n, 1900*time.Millisecond, func(i int, e *entry.Entry) { e.Type, e.Credential = entry.Deny, "k0" })
		}},
		{"places called within ten minutes", detect.Fanout, 60, 61, func(w *world, n int) {
			each(w, n, 9*time.Second, func(i int, e *entry.Entry) { e.Credential, e.PathHash = "k0", fmt.Sprint(i) })
		}},
		{"a chain of agents", detect.Depth, 3, 4, func(w *world, n int) {
			each(w, 1, 0, func(i int, e *entry.Entry) {
				e.Actor = append([]string{"token:x"}, slices.Repeat([]string{"act:a"}, n)...)
			})
		}},
		{"bait", detect.Bait, 0, 1, func(w *world, n int) {
			each(w, n, 0, func(_ int, e *entry.Entry) { e.Type, e.Reason = entry.Deny, "honey" })
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for n, want := range map[int]int{c.limit: 0, c.limit + 1: 1} {
				w := &world{}
				w.add(begin, entry.Heartbeat, "", "", nil)
				c.plant(w, n)
				d := detect.New(nil)
				begun := 0
				for _, e := range w.list {
					begun += len(d.Add(e))
				}
				list := d.Findings()
				if len(list) != want || begun != want {
					t.Fatalf("%d of %s: %d findings, %d begun: %+v", n, c.name, len(list), begun, list)
				}
				if want == 1 && (list[0].Rule != c.rule || list[0].Count != c.count || list[0].Subject != "workload:agent" || list[0].Unit != "research" || len(list[0].Refs) == 0) {
					t.Errorf("%+v", list[0])
				}
			}
		})
	}
	t.Run("what goes on is one finding, what comes again another", func(t *testing.T) {
		w := &world{}
		w.add(begin, entry.Heartbeat, "", "", nil)
		each(w, 200, time.Second, func(i int, e *entry.Entry) { e.Type, e.Credential = entry.Deny, "k0" })
		later = later.Add(time.Hour)
		each(w, 40, time.Second, func(i int, e *entry.Entry) { e.Type, e.Credential = entry.Deny, "k0" })
		d := detect.New(nil)
		for _, e := range w.list {
			d.Add(e)
		}
		if list := d.Findings(); len(list) != 2 || list[0].Count != 60 || list[0].ID == list[1].ID || len(list[0].Refs) != 2 {
			t.Errorf("%+v", list)
		}
	})
	t.Run("two slow ones are not one fast one", func(t *testing.T) {
		w := &world{}
		each(w, 40, 10*time.Second, one)
		for i := range 40 {
			w.add(later.Add(time.Hour+time.Duration(i)*10*time.Second), entry.Intent, fmt.Sprintf("other%d", i%5), fmt.Sprintf("k%d", i), nil)
		}
		d := detect.New(nil)
		for _, e := range w.list {
			d.Add(e)
		}
		if list := d.Findings(); len(list) != 0 {
			t.Errorf("%+v", list[0])
		}
	})
}
