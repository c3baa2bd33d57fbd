package index

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/logs"
	"github.com/reevehq/reeve/internal/authority/store/postgrestest"
	"github.com/reevehq/reeve/internal/database"
	"github.com/reevehq/reeve/internal/plain"
	"github.com/reevehq/reeve/verify"
)

// backend opens the same index again and again.
type backend struct{ Place }

func sqlite(t testing.TB) backend {
	return backend{Place{File: filepath.Join(t.TempDir(), "a b?c#d%.db")}}
}

// backends runs a test with each database; PostgreSQL is one server with a database for each test.
func backends(t *testing.T, test func(*testing.T, func(testing.TB) backend)) {
	t.Run("sqlite", func(t *testing.T) { test(t, sqlite) })
	t.Run("postgres", func(t *testing.T) {
		server, n := postgrestest.Start(t), 0
		test(t, func(t testing.TB) backend {
			n++
			return backend{Place{Server: database.Server{Connection: server.Database(t, fmt.Sprintf("index%d", n))}}}
		})
	})
}

func (b backend) open(t testing.TB, open func(context.Context) (*Index, error)) *Index {
	t.Helper()
	x, err := open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.Close() })
	return x
}

// world makes entries of a few logs.
type world struct {
	*rand.Rand
	logs    []Log
	entries map[string][]*entry.Entry
	pending []intent
	now     int64
	alike   bool // few sums of many entries, rather than many of few
}

const (
	custodian = "00000000000000c1"
	successor = "00000000000000c2"
	gateway   = "00000000000000a1"
)

func newWorld(t testing.TB) *world {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return seeded(seed)
}

func seeded(seed uint64) *world {
	return &world{Rand: rand.New(rand.NewPCG(seed, 1)), entries: map[string][]*entry.Entry{}, now: 1_790_000_000_000_000_000, logs: []Log{
		{ID: custodian, Process: "custodian", Origin: "reeve/e/custodian"}, {ID: successor, Process: "custodian", Origin: "reeve/e/custodian/1"},
		{ID: gateway, Process: "gateway", Origin: "reeve/e/gateway"}}}
}

func (w *world) pick(of string, n int) string {
	if w.alike && w.IntN(20) > 0 {
		return of + "0"
	}
	return fmt.Sprint(of, w.IntN(n))
}

// maybe is a string or none.
func (w *world) maybe(of string, n int) string {
	if w.alike || w.IntN(3) == 0 {
		return ""
	}
	return w.pick(of, n)
}

// next makes an entry of a log.
func (w *world) next(log string) *entry.Entry {
	w.now += w.Int64N(int64(time.Minute))
	switch w.IntN(40) {
	case 0:
		w.now += w.Int64N(int64(3 * 24 * time.Hour))
	case 1:
		w.now -= w.Int64N(int64(2 * time.Hour)) // a clock that was set back
	}
	e := &entry.Entry{V: 1, Seq: int64(len(w.entries[log])), TimeNS: w.now, Log: log}
	if e.Seq == 0 && log == successor {
		e.Type, e.PrevLog, e.PrevRoot, e.Reason = entry.Retire, "reeve/e/custodian", strings.Repeat("A", 43)+"=", "rotated"
		e.PrevSize = int64(len(w.entries[custodian]))
		return e
	}
	e.Workload, e.Gateway, e.Credential, e.CredFP = w.maybe("w", 4), w.maybe("g", 2), w.maybe("c", 5), w.maybe("f", 3)
	e.Estate, e.Level, e.Proof, e.Unit = w.maybe("e", 3), w.maybe("W", 3), w.maybe("p", 2), w.maybe("u\x00\"<\u00e9", 3)
	switch n := w.IntN(20); {
	case n < 7:
		e.Type, e.Decision, e.Tenant, e.Unit, e.Workload, e.Credential = entry.Intent, "allow", "t", w.pick("u", 3), w.pick("w", 4), w.pick("c", 5)
		w.pending = append(w.pending, intent{log, e.Seq})
	case n < 12 && len(w.pending) > 0:
		i := w.IntN(len(w.pending))
		of := w.pending[i]
		if of.log != log && (log != successor || of.log != custodian) {
			e.Type, e.Commit = entry.Heartbeat, strings.Repeat("ab", 32)
			break
		}
		if w.IntN(10) > 0 { // some get two outcomes
			w.pending = slices.Delete(w.pending, i, i+1)
		}
		e.Type, e.HasIntent, e.IntentSeq, e.Status, e.Bytes = entry.Outcome, true, of.seq, 200+w.IntN(300), w.Int64N(1000)
		if of.log != log {
			e.IntentLog = of.log
		}
		if e.State = w.maybe("", 1); e.State != "" {
			e.State, e.Lease = "active", w.pick("l", 3)
		}
	case n < 14:
		e.Type, e.Decision, e.Reason, e.Count = entry.Deny, "deny", w.pick("r", 2), w.Int64N(3)
	case n < 15:
		e.Type, e.Reason = entry.Mint, w.maybe("m", 2)
		w.pending = append(w.pending, intent{log, e.Seq})
	case n < 16:
		e.Type, e.Reason = entry.Issue, []string{"workload-key rotated", "token"}[w.IntN(2)]
	case n < 17:
		e.Type, e.Credential, e.Lease, e.State, e.Expires = entry.Version, w.pick("c", 5), w.pick("l", 3), []string{"active", "destroyed", "frozen"}[w.IntN(3)], w.Int64N(2)*e.TimeNS/1e9
	case n < 18:
		e.Type, e.Reason, e.Actor, e.Record = entry.Publish, []string{"handover", "set"}[w.IntN(2)], []string{w.pick("a", 3)}, "r"
	default:
		e.Type = []entry.Type{entry.Revoke, entry.Freeze, entry.Probe, entry.Alarm, entry.Attest, entry.BreakGlass}[w.IntN(6)]
	}
	return e
}

// grow adds entries to the logs; once the successor has begun, the log before it is at its end.
func (w *world) grow(n int) {
	for range n {
		log := []string{custodian, gateway}[w.IntN(2)]
		if log == custodian && len(w.entries[custodian]) > 300 {
			log = successor
		}
		w.entries[log] = append(w.entries[log], w.next(log))
	}
}

// copies are the logs as an auditor keeps them.
func (w *world) copies(t testing.TB) (all []*logs.Log) {
	for _, l := range w.logs {
		list, dir := w.entries[l.ID], fstest.MapFS{}
		for n := 0; n*256 < len(list); n++ {
			part := list[n*256 : min(len(list), n*256+256)]
			var b []byte
			for _, e := range part {
				raw := e.AppendJSON(nil)
				if _, err := entry.Parse(raw); err != nil {
					t.Fatalf("%s: %v", raw, err)
				}
				b = append(binary.BigEndian.AppendUint16(b, uint16(len(raw))), raw...)
			}
			name := strings.Replace(tlog.Tile{H: 8, L: -1, N: int64(n), W: len(part)}.Path(), "tile/8/data/", "tile/entries/", 1)
			dir[name] = &fstest.MapFile{Data: b}
		}
		all = append(all, &logs.Log{ID: l.ID, Process: l.Process, Folder: dir,
			Checkpoint: &verify.Checkpoint{Tree: tlog.Tree{N: int64(len(list))}, Log: verify.Log{Process: l.Process, Origin: l.Origin}}})
	}
	return all
}

// memory indexes everything in memory.
func (w *world) memory(t testing.TB) *Memory {
	m := NewMemory(w.logs...)
	for _, l := range w.logs {
		for _, e := range w.entries[l.ID] {
			if err := m.Add(e); err != nil {
				t.Fatal(err)
			}
		}
	}
	return m
}

func hashOf(t testing.TB, r Reader) string {
	t.Helper()
	h, err := r.Hash(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// filters are windows and choices; hours only when whole.
func (w *world) filter(whole bool) (f Filter, by []Column) {
	at := func() (t time.Time) {
		if w.IntN(4) == 0 {
			return t
		}
		t = time.Unix(0, 1_790_000_000_000_000_000+w.Int64N(w.now-1_790_000_000_000_000_000+1)).UTC()
		if list := w.entries[gateway]; w.IntN(2) == 0 && len(list) > 0 { // where something is
			t = time.Unix(0, list[w.IntN(len(list))].TimeNS+w.Int64N(int64(time.Minute))).UTC()
		}
		if whole {
			t = t.Truncate(time.Hour)
		}
		return t
	}
	f = Filter{From: at(), To: at()}
	some := func(of string, n int) string {
		if w.IntN(4) > 0 {
			return ""
		}
		return w.pick(of, n)
	}
	f.Workload, f.Credential, f.Gateway, f.Fingerprint, f.Unit = some("w", 5), some("c", 5), some("g", 2), some("f", 3), some("u", 3)
	if w.IntN(4) == 0 {
		f.Types = []entry.Type{entry.Intent, entry.Freeze, entry.Deny}[:1+w.IntN(3)]
	}
	if w.IntN(4) == 0 {
		f.Log = w.logs[w.IntN(3)].ID
	}
	for _, c := range Columns {
		if w.IntN(4) == 0 {
			by = append(by, c)
		}
	}
	return f, by
}

// same holds the answers of an index against those of one in memory.
func (w *world) same(t *testing.T, x Reader, m *Memory) {
	t.Helper()
	if got, want := hashOf(t, x), hashOf(t, m); got != want {
		t.Fatalf("hash %s, want %s", got, want)
	}
	for range 40 {
		f, by := w.filter(true)
		got, err := x.Uses(t.Context(), f, by...)
		want, _ := m.Uses(t.Context(), f, by...)
		if err != nil || !cmp.Equal(got, want) {
			t.Fatalf("uses of %+v by %v: %v\n%s", f, by, err, cmp.Diff(want, got))
		}
		f, _ = w.filter(false)
		events, err := x.Events(t.Context(), f)
		wanted, _ := m.Events(t.Context(), f)
		if err != nil || !cmp.Equal(events, wanted) {
			t.Fatalf("events of %+v: %v\n%s", f, err, cmp.Diff(wanted, events))
		}
		versions, err := x.Versions(t.Context(), f)
		have, _ := m.Versions(t.Context(), f)
		if err != nil || !cmp.Equal(versions, have) {
			t.Fatalf("versions of %+v: %v\n%s", f, err, cmp.Diff(have, versions))
		}
	}
}

// However entries come in batches, and whatever restarts between: the same hash and answers as in memory.
func TestSameAsMemory(t *testing.T) {
	backends(t, func(t *testing.T, fresh func(testing.TB) backend) {
		w, b := newWorld(t), fresh(t)
		x := b.open(t, b.Keep)
		for range 8 {
			w.grow(w.IntN(250))
			for { // a few entries of each log in a batch, at random
				batch, err := x.Batch(t.Context(), slices.Clone(w.logs)...)
				if err != nil {
					t.Fatal(err)
				}
				added := 0
				for _, l := range w.logs {
					rest := w.entries[l.ID][batch.Size(l.ID):]
					if l.ID != successor || batch.Size(custodian) == int64(len(w.entries[custodian])) {
						rest = rest[:min(len(rest), w.IntN(60)+1)]
					} else {
						rest = nil
					}
					for _, e := range rest {
						if err := batch.Add(e); err != nil {
							t.Fatal(err)
						}
						added++
					}
				}
				if added == 0 {
					break
				}
				if err := batch.Commit(t.Context()); err != nil {
					t.Fatal(err)
				}
				if w.IntN(3) == 0 {
					if err := x.Close(); err != nil {
						t.Fatal(err)
					}
					x = b.open(t, b.Keep)
				}
			}
		}
		m := w.memory(t)
		w.same(t, x, m)
		w.same(t, b.open(t, b.Read), m)
		if err := x.Clear(t.Context()); err != nil {
			t.Fatal(err)
		}
		x.most = 50
		var last Progress
		if err := x.Extend(t.Context(), w.copies(t), func(p Progress) { last = p }); err != nil || last.Done != last.Total || last.Done == 0 {
			t.Fatalf("rebuilt up to %+v: %v", last, err)
		}
		w.same(t, b.open(t, b.Read), m)
	})
}

// exact is what an index with logs answers, worked out from the entries.
func (w *world) exact(t testing.TB, f Filter, by []Column) []Uses {
	m := NewMemory()
	for _, l := range w.logs {
		for _, e := range w.entries[l.ID] {
			use := slices.Contains([]entry.Type{entry.Intent, entry.Deny, entry.Mint, entry.Exchange, entry.Issue}, e.Type)
			if in := (f.From.IsZero() || e.TimeNS >= f.From.UnixNano()) && (f.To.IsZero() || e.TimeNS < f.To.UnixNano()); use && in {
				m.use(e)
			} else if e.Type == entry.Outcome {
				if err := m.outcome(e); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	list, _ := m.Uses(t.Context(), f, by...)
	return list
}

// Windows that begin and end within hours are exact when the logs are there, also of entries that the index does not have yet.
func TestExactWindows(t *testing.T) {
	backends(t, func(t *testing.T, fresh func(testing.TB) backend) {
		w, b := newWorld(t), fresh(t)
		w.alike = true
		w.grow(800)
		x := b.open(t, b.Keep)
		if err := x.Extend(t.Context(), w.copies(t), nil); err != nil {
			t.Fatal(err)
		}
		whole := func(f Filter) int64 {
			list, err := x.With(nil).Uses(t.Context(), f)
			if err != nil {
				t.Fatal(err)
			}
			return total(list)
		}
		cut := 0
		for round := range 3 {
			c, err := b.Usable(t.Context(), w.copies(t))
			if err != nil {
				t.Fatal(err)
			}
			for range 60 {
				f, by := w.filter(false)
				if w.IntN(2) == 0 && !f.From.IsZero() {
					f.To = f.From.Add(time.Duration(w.Int64N(int64(2 * time.Hour)))) // short
				}
				want := w.exact(t, f, by)
				got, err := c.Uses(t.Context(), f, by...)
				if err != nil || !cmp.Equal(got, want) {
					t.Fatalf("%+v by %v: %v\n%s", f, by, err, cmp.Diff(want, got))
				}
				if n, exact := whole(f), total(want); round == 0 && n < exact {
					t.Fatalf("%+v: %d uses are fewer than %d without the logs", f, n, exact)
				} else if n > exact {
					cut++
				}
			}
			m := w.memory(t)
			if got, want := hashOf(t, c), hashOf(t, m); got != want {
				t.Fatalf("hash %s, want %s", got, want)
			}
			for range 30 {
				f, _ := w.filter(false)
				events, err := c.Events(t.Context(), f)
				versions, also := c.Versions(t.Context(), f)
				wanted, _ := m.Events(t.Context(), f)
				have, _ := m.Versions(t.Context(), f)
				if err != nil || also != nil || !cmp.Equal(events, wanted, cmpopts.EquateEmpty()) || !cmp.Equal(versions, have, cmpopts.EquateEmpty()) {
					t.Fatalf("%+v: %v, %v\n%s%s", f, err, also, cmp.Diff(wanted, events), cmp.Diff(have, versions))
				}
			}
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
			w.grow(150) // newer than the index
		}
		if cut == 0 {
			t.Error("no window cut an hour's sum")
		}
	})
}

// Without an index, or with one of other copies, a passing one is used; a rebuild says what is wrong with the one that is there.
func TestRebuild(t *testing.T) {
	backends(t, func(t *testing.T, fresh func(testing.TB) backend) {
		w, b := newWorld(t), fresh(t)
		w.grow(400)
		usable := func() {
			t.Helper()
			c, err := b.Usable(t.Context(), w.copies(t))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if got, want := hashOf(t, c), hashOf(t, w.memory(t)); got != want {
				t.Errorf("hash %s, want %s", got, want)
			}
		}
		rebuild := func() Rebuilt {
			t.Helper()
			r, err := b.Rebuild(t.Context(), w.copies(t), nil)
			if err != nil || r.Hash != hashOf(t, w.memory(t)) {
				t.Errorf("%+v, %v", r, err)
			}
			return r
		}
		usable()
		if r := rebuild(); r.Was != "" || r.Wrong != "" || r.Entries != 400 {
			t.Errorf("the first: %+v", r)
		}
		x := b.open(t, b.Keep) // an auditor
		w.grow(50)
		usable()
		if r := rebuild(); r.Was == "" || r.Was != r.At || r.Was == r.Hash || r.Wrong != "" || r.Entries != 450 {
			t.Errorf("of one that is right, and kept: %+v", r)
		}
		lie(t, x)
		if r, err := b.Rebuild(t.Context(), w.copies(t), nil); !errors.Is(err, ErrKept) || r.Wrong == "" {
			t.Errorf("of one that is wrong, and kept: %+v, %v", r, err)
		}
		if err := x.Close(); err != nil {
			t.Fatal(err)
		}
		if r := rebuild(); r.Wrong == "" || r.Was == r.At {
			t.Errorf("of one that is wrong: %+v", r)
		}
		if r := rebuild(); r.Wrong != "" || r.Was != r.Hash {
			t.Errorf("once more: %+v", r)
		}
		w = newWorld(t)
		w.grow(30) // older copies
		usable()
		if r := rebuild(); !strings.Contains(r.Wrong, "fewer") {
			t.Errorf("of one that is ahead: %+v", r)
		}
	})
}

// lie makes one use more of one hour's first sum.
func lie(t *testing.T, x *Index) {
	t.Helper()
	at, body := spot{length: hourly}, []byte(nil)
	err := x.db.QueryRow(`SELECT since, block, sums FROM reeve_index_sum WHERE length = 3600 ORDER BY since, block LIMIT 1`).Scan(&at.since, &at.number, &body)
	var rows []row
	if err == nil {
		err = at.unpack(body, func(r *row) error {
			rows = append(rows, *r)
			return nil
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	rows[0].Count++
	if _, err := x.db.Exec(`UPDATE reeve_index_sum SET sums = $1 WHERE length = 3600 AND since = $2 AND block = $3`, at.pack(rows), at.since, at.number); err != nil {
		t.Fatal(err)
	}
}

func total(list []Uses) (n int64) {
	for _, u := range list {
		n += u.Count
	}
	return n
}

// A process that is killed at any step of a batch leaves an index that goes on as if nothing had been.
func TestKilledAtEachStep(t *testing.T) {
	if path := os.Getenv("REEVE_INDEX_KILLED"); path != "" {
		x, err := OpenFile(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		x.step = func(name string) {
			if name == os.Getenv("REEVE_INDEX_STEP") {
				p, _ := os.FindProcess(os.Getpid())
				p.Kill()
				select {}
			}
		}
		w := seeded(7)
		w.grow(700)
		t.Fatal(x.Extend(t.Context(), w.copies(t), nil))
	}
	w := seeded(7)
	w.grow(400)
	first := w.copies(t)
	w.grow(300)
	want := hashOf(t, w.memory(t))
	for _, step := range []string{"words", "logs", "sums", "open", "events", "versions", "before commit", "committed"} {
		path := filepath.Join(t.TempDir(), "index.db")
		x, err := OpenFile(t.Context(), path)
		if err == nil {
			err = errors.Join(x.Extend(t.Context(), first, nil), x.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(os.Args[0], "-test.run", "^TestKilledAtEachStep$")
		cmd.Env = append(os.Environ(), "REEVE_INDEX_KILLED="+path, "REEVE_INDEX_STEP="+step)
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != -1 {
			t.Fatalf("%s: it was not killed: %v\n%s", step, err, out)
		}
		if x, err = OpenFile(t.Context(), path); err != nil {
			t.Fatal(err)
		}
		have, err := x.Logs(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		size := int64(0)
		for _, l := range have {
			size += l.Size
		}
		if all := int64(700); (size == all) != (step == "committed") {
			t.Errorf("%s: %d entries are indexed", step, size)
		}
		if err := x.Extend(t.Context(), w.copies(t), nil); err != nil {
			t.Fatal(err)
		}
		if got := hashOf(t, x); got != want {
			t.Errorf("%s: hash %s, want %s", step, got, want)
		}
		x.Close()
	}
}

func TestOneKeeper(t *testing.T) {
	backends(t, func(t *testing.T, fresh func(testing.TB) backend) {
		w, b := newWorld(t), fresh(t)
		if _, err := b.Read(t.Context()); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("an index that is not there: %v", err)
		}
		x := b.open(t, b.Keep)
		if _, err := b.Keep(t.Context()); !errors.Is(err, ErrKept) {
			t.Errorf("a second keeper: %v", err)
		}
		w.grow(50)
		one, err := x.Batch(t.Context(), slices.Clone(w.logs)...)
		if err != nil {
			t.Fatal(err)
		}
		if err := x.Extend(t.Context(), w.copies(t), nil); err != nil {
			t.Fatal(err)
		}
		for _, e := range w.entries[gateway] {
			if err := one.Add(e); err != nil {
				t.Fatal(err)
			}
		}
		if err := one.Commit(t.Context()); !errors.Is(err, errMoved) {
			t.Errorf("a batch that begins where another has gone on: %v", err)
		}
		if got, want := hashOf(t, x), hashOf(t, w.memory(t)); got != want {
			t.Errorf("hash %s, want %s", got, want)
		}
		older := w.copies(t)
		older[0].Checkpoint.N--
		if err := x.Extend(t.Context(), older, nil); !errors.Is(err, ErrAhead) {
			t.Errorf("an older copy: %v", err)
		}
		if _, err := x.db.Exec(`UPDATE reeve_index_release SET release = 0`); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Read(t.Context()); !errors.Is(err, ErrRelease) {
			t.Errorf("another release's index: %v", err)
		}
		if err := x.Close(); err != nil {
			t.Fatal(err)
		}
		if x = b.open(t, b.Keep); x.Extend(t.Context(), w.copies(t), nil) != nil || hashOf(t, x) != hashOf(t, w.memory(t)) {
			t.Error("another release's index is not made anew")
		}
	})
}

// Root rebuilds an index in the folder of the auditor's user. What that user put in the place of a file is neither opened nor given to it.
func TestLinksAreNotFollowed(t *testing.T) {
	for _, name := range []string{"index.db", "index.db.lock"} {
		dir := t.TempDir()
		theirs := filepath.Join(dir, "theirs")
		if err := errors.Join(os.WriteFile(theirs, nil, 0o600), os.Symlink(theirs, filepath.Join(dir, name))); err != nil {
			t.Fatal(err)
		}
		x, err := OpenFile(t.Context(), filepath.Join(dir, "index.db"))
		if !errors.Is(err, plain.ErrOther) {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			x.Close()
		}
	}
}
