package index

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/reevehq/reeve/entry"
)

// As of an instant a version is what entries had said by then, whatever came later: the same as an index that got no more.
func TestVersionsAsOf(t *testing.T) {
	const log = "00000000000000c1"
	at := func(minute int64) int64 { return 1_790_000_000_000_000_000 + minute*int64(time.Minute) }
	version := func(minute int64, lease, state string, expires int64) *entry.Entry {
		return &entry.Entry{V: 1, Log: log, TimeNS: at(minute), Type: entry.Version, Credential: "c", Lease: lease, State: state, CredFP: "f", Expires: expires}
	}
	until := func(minute int64) int64 { return at(minute) / 1e9 }
	said := []*entry.Entry{
		version(1, "l1", "active", until(30)),
		version(5, "l1", "active", until(60)), // renewed
		version(7, "l2", "active", until(90)),
		version(8, "l1", "overlapping", 0),
		version(20, "l1", "destroyed", 0),
		version(19, "l2", "revoked-proven", 0), // by a clock that was set back: this log has it later all the same
		version(22, "l2", "frozen", 0),
	}
	shown := func(r Reader, f Filter) (list []string) {
		all, err := r.Versions(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range all {
			list = append(list, v.Lease+" "+v.State+" "+time.Duration(v.Expires*1e9-at(0)).String())
		}
		return list
	}
	x, err := OpenFile(t.Context(), filepath.Join(t.TempDir(), "index.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	m := NewMemory(Log{ID: log, Origin: "o"})
	for i, e := range said { // one batch each, but for the second and third
		e.Seq = int64(i)
		if err := m.Add(e); err != nil {
			t.Fatal(err)
		}
		if i == 1 {
			continue
		}
		b, err := x.Batch(t.Context(), Log{ID: log, Origin: "o"})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range said[b.Size(log) : i+1] {
			if err := b.Add(e); err != nil {
				t.Fatal(err)
			}
		}
		if err := b.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := hashOf(t, x), hashOf(t, m); got != want {
		t.Errorf("hash %s, want %s", got, want)
	}
	for _, c := range []struct {
		from, to int64 // minutes
		want     []string
	}{
		{0, 1, nil},
		{0, 2, []string{"l1 active 30m0s"}},
		{0, 6, []string{"l1 active 1h0m0s"}},
		{0, 8, []string{"l1 active 1h0m0s", "l2 active 1h30m0s"}},
		{0, 9, []string{"l1 overlapping 1h0m0s", "l2 active 1h30m0s"}},
		{0, 21, []string{"l1 destroyed 1h0m0s", "l2 revoked-proven 1h30m0s"}},
		{21, 22, nil},
		{21, 0, []string{"l2 frozen 1h30m0s"}},
	} {
		f := Filter{}
		if c.from > 0 {
			f.From = time.Unix(0, at(c.from))
		}
		if c.to > 0 {
			f.To = time.Unix(0, at(c.to))
		}
		for name, r := range map[string]Reader{"in memory": m, "on disk": x} {
			if diff := cmp.Diff(c.want, shown(r, f), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("%s, from %d to %d: %s", name, c.from, c.to, diff)
			}
		}
	}
}
