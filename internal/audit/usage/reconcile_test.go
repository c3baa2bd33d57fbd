package usage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/books"
	"github.com/reevehq/reeve/internal/audit/history"
	"github.com/reevehq/reeve/internal/audit/index"
	"github.com/reevehq/reeve/internal/audit/logs"
	"github.com/reevehq/reeve/internal/audit/usage/export"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/verify"
)

var noon = time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)

// use is one entry of a ledger.
type use struct {
	after      time.Duration // noon
	typ        entry.Type
	credential string
}

// ledgerOf is books of one custodian's log, whose heartbeats are at the given times.
func ledgerOf(t *testing.T, set *statement.Set, uses ...use) *books.Books {
	t.Helper()
	const id = "0123456789abcdef"
	process := ""
	for _, c := range set.Custody {
		process = c.Custodians[0].ID
	}
	m := index.NewMemory(index.Log{ID: id, Process: process, Origin: "reeve.example/e/c1"})
	var tile []byte
	for i, u := range uses {
		e := &entry.Entry{V: 1, Seq: int64(i), TimeNS: noon.Add(u.after).UnixNano(), Type: u.typ, Log: id, Commit: strings.Repeat("00", 32)}
		if u.typ != entry.Heartbeat {
			e.Tenant, e.TenantSeq, e.Unit, e.Workload, e.Credential, e.Decision, e.Commit = "t", int64(i), "u", "w", u.credential, "allow", ""
		}
		if err := m.Add(e); err != nil {
			t.Fatal(err)
		}
		raw := e.AppendJSON(nil)
		tile = append(binary.BigEndian.AppendUint16(tile, uint16(len(raw))), raw...)
	}
	name := strings.Replace(tlog.Tile{H: 8, L: -1, N: 0, W: len(uses)}.Path(), "tile/8/data/", "tile/entries/", 1)
	l := &logs.Log{ID: id, Process: process, Checkpoint: &verify.Checkpoint{Tree: tlog.Tree{N: int64(len(uses))}}, Folder: fstest.MapFS{name: {Data: tile}}}
	return &books.Books{Index: m, Logs: []*logs.Log{l}, History: history.New(set), Now: noon.Add(24 * time.Hour)}
}

func bucket(after, width time.Duration, key string, n int64) export.Count {
	return export.Count{Keys: []string{key}, Kind: export.Use, From: noon.Add(after), To: noon.Add(after + width), Requests: n}
}

func event(after time.Duration, kind export.Kind, keys ...string) export.Count {
	return export.Count{Keys: keys, Kind: kind, From: noon.Add(after), To: noon.Add(after), Requests: 1, Who: "someone 10.0.0.9"}
}

func TestReconcile(t *testing.T) {
	set := estatetest.New(t, estatetest.At(noon.Add(-48*time.Hour))).Set
	beat := func(after time.Duration) use { return use{after, entry.Heartbeat, ""} }
	k := func(after time.Duration) use { return use{after, entry.Intent, "k"} }
	const m, h, s = time.Minute, time.Hour, time.Second
	ledger := []use{beat(-3 * h), k(5 * m), k(59*m + 58*s), k(61 * m), {90 * m, entry.Mint, "k"}, {91 * m, entry.Probe, "k"}, beat(3 * h)}
	for _, tt := range []struct {
		name   string
		ledger []use
		counts []export.Count
		state  State
		open   []int64 // of each stray
	}{
		{"the same", ledger, []export.Count{bucket(0, h, "key", 2), bucket(h, h, "key", 2)}, None, nil},
		{"counted when it ended", ledger, []export.Count{bucket(0, h, "key", 1), bucket(h, h, "key", 3)}, None, nil},
		{"failed ones are not counted", ledger, []export.Count{bucket(0, h, "key", 1)}, None, nil},
		{"one too many", ledger, []export.Count{bucket(0, h, "key", 2), bucket(h, h, "key", 3)}, OutOfBand, []int64{1}},
		{"all in the wrong hour", ledger, []export.Count{bucket(0, h, "key", 4)}, OutOfBand, []int64{2}},
		{"by the minute", ledger, []export.Count{bucket(5*m, m, "key", 1), bucket(60*m, m, "key", 1), bucket(61*m, m, "key", 1)}, None, nil},
		{"by the minute, one before", ledger, []export.Count{bucket(-10*m, m, "key", 1), bucket(5*m, m, "key", 1)}, OutOfBand, []int64{1}},
		{"by the day", ledger, []export.Count{bucket(-12*h, 14*h, "key", 4)}, None, nil},
		{"by the day, before the ledger began", ledger, []export.Count{bucket(-12*h, 14*h, "key", 5)}, Undecided, []int64{1}},
		{"ledger ends too early", ledger[:4], []export.Count{bucket(h, h, "key", 4)}, Undecided, []int64{1}},
		{"another's key", ledger, []export.Count{bucket(0, h, "key", 1), bucket(0, h, "other", 1)}, Undecided, nil},
		{"nothing", ledger, nil, Undecided, nil},
		{"no use", ledger, []export.Count{bucket(0, h, "key", 0)}, None, nil},
		{"no use of another's key", ledger, []export.Count{bucket(0, h, "other", 0)}, Undecided, nil},
		{"an event", ledger, []export.Count{event(5*m+s, export.Use, "key"), event(90*m+s, export.Read, "key")}, None, nil},
		{"a read by another", ledger, []export.Count{event(90*m+s, export.Read, "key"), event(90*m+2*s, export.Read, "key"), event(100*m, export.Read, "key")}, OutOfBand, []int64{2}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x := &export.Export{Provider: "p", Counts: tt.counts}
			for _, c := range tt.counts {
				if x.From.IsZero() || c.From.Before(x.From) {
					x.From = c.From
				}
				if c.To.After(x.To) {
					x.To = c.To
				}
			}
			r, err := Reconcile(t.Context(), ledgerOf(t, set, tt.ledger...), x, Mapping{"key": "k"}, Reach{Early: m, Late: 5 * m})
			if err != nil {
				t.Fatal(err)
			}
			var open []int64
			for _, s := range r.Strays {
				open = append(open, s.Difference)
			}
			for _, e := range r.Evidence().Reconciliations { // what is said for the controls is what was decided
				if sure := e.Undecided == ""; r.State == Undecided && sure || r.State == None && !sure || e.Strays > 0 && !sure || e.Strays == 0 && len(r.Strays) > 0 && sure {
					t.Errorf("evidence %+v of %+v", e, r)
				}
			}
			if r.State != tt.state || cmp.Diff(tt.open, open) != "" {
				t.Errorf("%s %v, want %s %v: %+v", r.State, open, tt.state, tt.open, r)
			}
		})
	}
}

// A use that the provider saw and the export doubts, or that one of ours may have been, is said.
func TestReconcileSaysWhatItCannotShow(t *testing.T) {
	set := estatetest.New(t).Set
	b := ledgerOf(t, set, use{-time.Hour, entry.Heartbeat, ""}, use{0, entry.Intent, "k"}, use{time.Hour, entry.Heartbeat, ""})
	x := &export.Export{Provider: "anthropic", AtLeast: true, From: noon, To: noon.Add(time.Minute), Counts: []export.Count{bucket(0, time.Minute, "key", 1)}, Unproven: []string{"pages are missing"}}
	r, err := Reconcile(t.Context(), b, x, Mapping{"key": "k"}, Usual("anthropic"))
	if err != nil {
		t.Fatal(err)
	}
	if r.State != Undecided || len(r.Cannot) != 2 {
		t.Fatalf("%+v", r)
	}
}

func TestKnown(t *testing.T) {
	of := func(id, source, url string, p map[string]string) statement.Credential {
		return statement.Credential{ID: id, Source: source, From: statement.From{URL: url, Parameters: p}}
	}
	set := &statement.Set{Custody: map[string]*statement.CustodyStatement{"u": {Credentials: []statement.Credential{
		of("a", "openai-key", "https://api.openai.com/v1/organization/projects", map[string]string{"project": "proj_a"}),
		of("b", "federation", "https://sts.amazonaws.com/", map[string]string{"role_arn": "arn:aws:iam::1:role/r"}),
		of("c", "vault", "https://bao.example/v1/secret/data/c", map[string]string{"namespace": "team"}),
		of("d", "openai-key", "", map[string]string{"project": "proj_two"}), of("e", "openai-key", "", map[string]string{"project": "proj_two"}),
		of("f", "sealed", "", nil),
	}}}}
	want := Mapping{"proj_a": "a", "arn:aws:iam::1:role/r": "b", "team/secret/data/c": "c"}
	if d := cmp.Diff(want, Known([]*history.Span{{Set: set}})); d != "" {
		t.Fatal(d)
	}
}

func TestReadMapping(t *testing.T) {
	for text, want := range map[string]Mapping{
		"a: [k1, k2]\nb: [k3]\n": {"k1": "a", "k2": "a", "k3": "b"},
		"a: [k1]\nb: [k1]\n":     nil,
		"a: k1\n":                nil,
		"- a\n":                  nil,
	} {
		got, err := ReadMapping(strings.NewReader(text))
		if (err == nil) != (want != nil) || cmp.Diff(want, got) != "" {
			t.Errorf("%q: %v %v", text, got, err)
		}
	}
}

func FuzzReadMapping(f *testing.F) {
	f.Add("a: [k1, k2]\n")
	f.Fuzz(func(t *testing.T, s string) { _, _ = ReadMapping(strings.NewReader(s)) })
}

func TestLoadReadsWhatWriteKept(t *testing.T) {
	dir := t.TempDir()
	if all, err := Load(dir); err != nil || all != nil {
		t.Fatal(all, err)
	}
	var want []Result
	for i := range 3 {
		r := Result{V: 1, Provider: "openai", From: noon.Add(time.Duration(i) * time.Hour), State: None, Source: []Source{{"f", fmt.Sprintf("%064d", i)}}}
		for range 2 { // the second takes the place of the first
			if _, err := Write(dir, &r); err != nil {
				t.Fatal(err)
			}
		}
		want = append(want, r)
	}
	got, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Fatal(d)
	}
	err = errors.Join(os.WriteFile(filepath.Join(dir, folder, "x.json"), []byte(`{"v":2}`), 0o600))
	if _, bad := Load(dir); err != nil || bad == nil {
		t.Fatal("another version was read", err)
	}
}
