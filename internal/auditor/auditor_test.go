package auditor

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/cosigner"
	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/internal/metrics"
	"github.com/reevehq/reeve/internal/witness"
	"github.com/reevehq/reeve/verify"
)

// forge is a process with a genuine log key that publishes whatever a test wants.
type forge struct {
	origin, vkey, id string
	signer           note.Signer
	dir              string
	leaves           [][]byte
	hashes           []tlog.Hash
	tenant           map[string]int64
}

func newForge(t testing.TB, origin string) *forge {
	t.Helper()
	skey, vkey, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		t.Fatal(err)
	}
	f := &forge{origin: origin, vkey: vkey, id: entry.LogID(vkey), dir: filepath.Join(t.TempDir(), "tiles"), tenant: map[string]int64{}}
	if f.signer, err = note.NewSigner(skey); err != nil {
		t.Fatal(err)
	}
	return f
}

// clone is the same log with a history of its own from here on.
func (f *forge) clone() *forge {
	c := *f
	c.leaves, c.hashes = slices.Clone(f.leaves), slices.Clone(f.hashes)
	c.tenant = map[string]int64{}
	for k, v := range f.tenant {
		c.tenant[k] = v
	}
	return &c
}

// entry is the next one, as it should be.
func (f *forge) entry(reason string) *entry.Entry {
	e := &entry.Entry{V: 1, Seq: int64(len(f.leaves)), TimeNS: time.Now().UnixNano(), Type: entry.Publish, Log: f.id, Reason: reason}
	if e.Seq%3 == 0 {
		e.Tenant, e.TenantSeq = "main", f.tenant["main"]
		f.tenant["main"]++
	}
	return e
}

func (f *forge) add(t testing.TB, n int, reason string) {
	t.Helper()
	for range n {
		f.put(t, f.entry(reason).AppendJSON(nil))
	}
}

func (f *forge) put(t testing.TB, leaf []byte) {
	t.Helper()
	h, err := tlog.StoredHashes(int64(len(f.leaves)), leaf, f)
	if err != nil {
		t.Fatal(err)
	}
	f.leaves, f.hashes = append(f.leaves, leaf), append(f.hashes, h...)
}

func (f *forge) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		out[i] = f.hashes[x]
	}
	return out, nil
}

func (f *forge) tree(t testing.TB, n int64) tlog.Tree {
	t.Helper()
	h, err := tlog.TreeHash(n, f)
	if err != nil {
		t.Fatal(err)
	}
	return tlog.Tree{N: n, Hash: h}
}

func (f *forge) checkpoint(t testing.TB, n int64) []byte {
	t.Helper()
	b, err := note.Sign(&note.Note{Text: fmt.Sprintf("%s\n%d\n%s\n", f.origin, n, f.tree(t, n).Hash)}, f.signer)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// publish writes the tiles and the checkpoint of all entries.
func (f *forge) publish(t testing.TB) {
	t.Helper()
	size := int64(len(f.leaves))
	for _, tile := range tlog.NewTiles(8, 0, size) {
		b, err := tlog.ReadTileData(tile, f)
		if err != nil {
			t.Fatal(err)
		}
		f.place(t, path(tile.L, tile.N, tile.W), b)
	}
	for n := int64(0); n*width < size; n++ {
		end := min(size, (n+1)*width)
		f.place(t, path(-1, n, int(end-n*width)), join(f.leaves[n*width:end]))
	}
	f.place(t, signedFile, f.checkpoint(t, size))
}

func (f *forge) place(t testing.TB, name string, b []byte) {
	t.Helper()
	file := filepath.Join(f.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, b, 0o600)); err != nil {
		t.Fatal(err)
	}
}

// bench is an auditor that serves.
type bench struct {
	*Auditor
	cfg    Config
	trust  *verify.Trust
	signer *cosigner.Signer
	client *witness.Client
}

func newBench(t testing.TB, logs map[string]*forge) *bench {
	t.Helper()
	skey, vkey, err := cosigner.GenerateKey(rand.Reader, "reeve/test/witness/w1")
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{cfg: Config{ID: "w1", StateDir: t.TempDir()}}
	b.trust = &verify.Trust{Estate: "test", Witnesses: []verify.Witness{{Name: "reeve/test/witness/w1", Key: vkey}}}
	for process, f := range logs {
		b.trust.Logs = append(b.trust.Logs, verify.Log{Process: process, Origin: f.origin, Key: f.vkey})
		b.cfg.Logs = append(b.cfg.Logs, Source{process, f.dir})
	}
	if b.signer, err = cosigner.NewSigner(skey, time.Now); err != nil {
		t.Fatal(err)
	}
	keys, err := witness.Verifiers([]string{vkey})
	if err != nil {
		t.Fatal(err)
	}
	b.client = &witness.Client{Keys: func() note.Verifiers { return keys }}
	b.restart(t)
	return b
}

// restart begins a new run over the same state.
func (b *bench) restart(t testing.TB) {
	t.Helper()
	var err error
	if b.Auditor, err = open(&b.cfg, b.trust, b.signer, slog.New(slog.DiscardHandler), &metrics.Registry{}); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(b.Handler())
	t.Cleanup(srv.Close)
	b.client.URL = srv.URL
}

// push asks for a cosignature as a log does that has old cosigned.
func (b *bench) push(t testing.TB, f *forge, old, size int64) error {
	t.Helper()
	var proof tlog.TreeProof
	if old > 0 && old < size {
		var err error
		if proof, err = tlog.ProveTree(size, old, f); err != nil {
			t.Fatal(err)
		}
	}
	_, err := b.client.Cosign(t.Context(), old, f.checkpoint(t, size), proof)
	return err
}

// one is the status of the only log.
func (b *bench) one(t testing.TB) Log {
	t.Helper()
	s := b.Status()
	if len(s.Logs) != 1 {
		t.Fatalf("status %+v", s)
	}
	return s.Logs[0]
}

func TestCosigns(t *testing.T) {
	f := newForge(t, "reeve/test/c1")
	b := newBench(t, map[string]*forge{"c1": f})
	b.Look() // nothing is there yet, which is no alarm
	if len(b.Status().Alarms) != 0 {
		t.Errorf("alarms %+v", b.Status().Alarms)
	}
	size := int64(0)
	for i, n := range []int{1, 5, 250, 1, 300, 70000, 10} {
		f.add(t, n, "entry")
		f.publish(t)
		if i%2 == 1 {
			b.Look()
		}
		old := size
		size += int64(n)
		if err := b.push(t, f, old, size); err != nil {
			t.Fatalf("size %d: %v", size, err)
		}
		if l := b.one(t); l.Size != size || l.Cosigned != size || l.Lag != 0 || l.Root != f.tree(t, size).Hash.String() || l.Alarm != nil {
			t.Errorf("status %+v", l)
		}
		if i%3 == 0 {
			b.restart(t)
			b.Look()
		}
	}
	// The same again is cosigned again, an older size is what the log is told.
	if err := b.push(t, f, size, size); err != nil {
		t.Error(err)
	}
	var conflict *ledger.ConflictError
	if err := b.push(t, f, 1, size); !errors.As(err, &conflict) || conflict.Size != size {
		t.Errorf("old size 1: %v", err)
	}
	if len(b.Status().Alarms) != 0 {
		t.Errorf("alarms %+v", b.Status().Alarms)
	}
	// The auditor's copy is a log that verifies by itself, cosigned.
	report, err := b.trust.Directory(os.DirFS(filepath.Join(b.cfg.StateDir, "logs", f.id)), verify.Options{})
	if err != nil || !report.Holds(verify.Cosigned) || report.Logs[0].Size != size {
		t.Errorf("own copy: %+v, %v", report, err)
	}
}

// Each fault is found and refused, by a push and by looking, before and after a restart; what was cosigned stays what it was.
func TestFaults(t *testing.T) {
	flip := func(name string, at int) func(*testing.T, *forge) *forge {
		return func(t *testing.T, f *forge) *forge {
			f.publish(t)
			file := filepath.Join(f.dir, name)
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			raw[(at+len(raw))%len(raw)] ^= 1
			if err := os.WriteFile(file, raw, 0o600); err != nil {
				t.Fatal(err)
			}
			return f
		}
	}
	remove := func(name string) func(*testing.T, *forge) *forge {
		return func(t *testing.T, f *forge) *forge {
			f.publish(t)
			if err := os.Remove(filepath.Join(f.dir, name)); err != nil {
				t.Fatal(err)
			}
			return f
		}
	}
	bad := func(change func(*entry.Entry)) func(*testing.T, *forge) *forge {
		return func(t *testing.T, f *forge) *forge {
			f = f.clone()
			f.leaves, f.hashes = f.leaves[:500], f.hashes[:tlog.StoredHashCount(500)]
			f.tenant["main"] = 167
			e := f.entry("bad")
			change(e)
			f.put(t, e.AppendJSON(nil))
			f.add(t, 99, "after")
			f.publish(t)
			return f
		}
	}
	const cosigned = 300
	for name, c := range map[string]struct {
		fault func(*testing.T, *forge) *forge // of a log of 600 entries, 300 of which are cosigned and published
		old   int64                           // that the log asks from
		kind  string
		want  error // of the push; nil: a conflict
	}{
		"leaf flipped":            {flip("tile/entries/001", -10), cosigned, kindLeaf, witness.ErrInconsistent},
		"old leaf flipped":        {flip("tile/entries/001", 10), cosigned, kindLeaf, witness.ErrInconsistent},
		"tile flipped":            {flip("tile/0/001", 100), cosigned, kindTile, witness.ErrNotYet},
		"upper tile flipped":      {flip("tile/1/000.p/2", 40), cosigned, kindTile, witness.ErrNotYet},
		"bundle missing":          {remove("tile/entries/001"), cosigned, kindMissing, witness.ErrNotYet},
		"partial bundle missing":  {remove("tile/entries/002.p/88"), cosigned, kindMissing, witness.ErrNotYet},
		"tile missing":            {remove("tile/0/002.p/88"), cosigned, kindMissing, witness.ErrNotYet},
		"number skipped":          {bad(func(e *entry.Entry) { e.Seq++ }), cosigned, kindGap, witness.ErrInconsistent},
		"number doubled":          {bad(func(e *entry.Entry) { e.Seq-- }), cosigned, kindGap, witness.ErrInconsistent},
		"tenant's number skipped": {bad(func(e *entry.Entry) { e.Tenant, e.TenantSeq = "main", 168 }), cosigned, kindGap, witness.ErrInconsistent},
		"new tenant from 1":       {bad(func(e *entry.Entry) { e.Tenant, e.TenantSeq = "other", 1 }), cosigned, kindGap, witness.ErrInconsistent},
		"entry of another log":    {bad(func(e *entry.Entry) { e.Log = "0123456789abcdef" }), cosigned, kindGap, witness.ErrInconsistent},
		"truncated bundle": {func(t *testing.T, f *forge) *forge {
			f.publish(t)
			if err := os.Truncate(filepath.Join(f.dir, "tile/entries/001"), 1000); err != nil {
				t.Fatal(err)
			}
			return f
		}, cosigned, kindTruncated, witness.ErrNotYet},
		"malformed entry": {func(t *testing.T, f *forge) *forge {
			f = f.clone()
			f.put(t, []byte("{}"))
			f.publish(t)
			return f
		}, cosigned, kindGap, witness.ErrInconsistent},
		"fork": {func(t *testing.T, f *forge) *forge { // an entry that was verified is another now
			other := newForge(t, f.origin)
			other.dir, other.id, other.signer, other.vkey = f.dir, f.id, f.signer, f.vkey
			other.add(t, 100, "entry")
			other.add(t, 500, "rewritten")
			other.publish(t)
			return other
		}, cosigned, kindFork, witness.ErrInconsistent},
		"fork of the same size": {func(t *testing.T, f *forge) *forge {
			other := newForge(t, f.origin)
			other.dir, other.id, other.signer, other.vkey = f.dir, f.id, f.signer, f.vkey
			other.add(t, cosigned, "rewritten")
			other.publish(t)
			return other
		}, cosigned, kindFork, nil},
		"restored snapshot that goes on": {func(t *testing.T, f *forge) *forge {
			f = f.clone()
			f.leaves, f.hashes, f.tenant["main"] = f.leaves[:200], f.hashes[:tlog.StoredHashCount(200)], 67
			f.add(t, 400, "second history")
			if err := os.RemoveAll(f.dir); err != nil {
				t.Fatal(err)
			}
			f.publish(t)
			return f
		}, cosigned, kindFork, witness.ErrInconsistent},
		"restored snapshot, before it goes on": {func(t *testing.T, f *forge) *forge {
			f = f.clone()
			f.leaves, f.hashes = f.leaves[:200], f.hashes[:tlog.StoredHashCount(200)]
			if err := os.RemoveAll(f.dir); err != nil {
				t.Fatal(err)
			}
			f.publish(t)
			return f
		}, 0, kindRollback, nil},
		"log key wrong": {func(t *testing.T, f *forge) *forge {
			other := newForge(t, f.origin)
			other.dir, other.id, other.leaves, other.hashes = f.dir, f.id, f.leaves, f.hashes
			other.publish(t)
			return other
		}, cosigned, kindKey, witness.ErrSignature},
	} {
		t.Run(name, func(t *testing.T) {
			f := newForge(t, "reeve/test/c1")
			b := newBench(t, map[string]*forge{"c1": f})
			f.add(t, cosigned, "entry")
			f.publish(t)
			if err := b.push(t, f, 0, cosigned); err != nil {
				t.Fatal(err)
			}
			f.add(t, 300, "entry")
			bad := c.fault(t, f)
			for _, run := range []string{"first run", "after a restart"} {
				b.Look()
				s := b.one(t)
				if s.Alarm == nil || s.Alarm.Kind != c.kind {
					t.Errorf("%s: looking found %+v, want %s", run, s.Alarm, c.kind)
				}
				err := b.push(t, bad, c.old, int64(len(bad.leaves)))
				var conflict *ledger.ConflictError
				if c.want != nil && !errors.Is(err, c.want) || c.want == nil && (!errors.As(err, &conflict) || conflict.Size != cosigned) {
					t.Errorf("%s: push: %v, want %v", run, err, c.want)
				}
				if s := b.one(t); s.Cosigned != cosigned || s.Size != cosigned || !slices.ContainsFunc(b.Status().Alarms, func(a Alarm) bool { return a.Kind == c.kind && a.Stands }) {
					t.Errorf("%s: %+v, alarms %+v", run, s, b.Status().Alarms)
				}
				b.restart(t)
				if len(b.Status().Alarms) == 0 {
					t.Errorf("%s: the alarms are forgotten", run)
				}
			}
			// The genuine log is taken again, and the alarm is over but not forgotten.
			if err := os.RemoveAll(f.dir); err != nil {
				t.Fatal(err)
			}
			f.publish(t)
			if err := b.push(t, f, cosigned, 600); err != nil {
				t.Fatal(err)
			}
			b.Look()
			if s := b.one(t); s.Cosigned != 600 || s.Alarm != nil || len(b.Status().Alarms) == 0 {
				t.Errorf("mended: %+v, alarms %+v", s, b.Status().Alarms)
			}
		})
	}
}

func TestRequestsThatAreRefused(t *testing.T) {
	f, stranger := newForge(t, "reeve/test/c1"), newForge(t, "reeve/test/x1")
	b := newBench(t, map[string]*forge{"c1": f})
	f.add(t, 10, "entry")
	f.publish(t)
	stranger.add(t, 10, "entry")
	stranger.publish(t)
	if err := b.push(t, stranger, 0, 10); !errors.Is(err, witness.ErrUnknownLog) {
		t.Errorf("unknown log: %v", err)
	}
	if err := b.push(t, f, 0, 10); err != nil {
		t.Fatal(err)
	}
	if err := b.push(t, f, 0, 5); err == nil { // an old checkpoint, sent again by somebody
		t.Error("a smaller size was cosigned")
	}
	f.add(t, 10, "entry") // not published
	if err := b.push(t, f, 10, 20); !errors.Is(err, witness.ErrNotYet) {
		t.Errorf("leaves not published: %v", err)
	}
	f.publish(t)
	if err := b.push(t, f, 10, 20); err != nil {
		t.Errorf("leaves published: %v", err)
	}
	b.cfg.Logs = nil // the key is known, the place is not
	b.restart(t)
	if err := b.push(t, f, 20, 20); !errors.Is(err, witness.ErrUnknownLog) {
		t.Errorf("no place: %v", err)
	}
}

// Without its own copy the auditor could not tell a rollback: it refuses the log.
func TestOwnCopyDamaged(t *testing.T) {
	f := newForge(t, "reeve/test/c1")
	b := newBench(t, map[string]*forge{"c1": f})
	f.add(t, 300, "entry")
	f.publish(t)
	if err := b.push(t, f, 0, 300); err != nil {
		t.Fatal(err)
	}
	own := filepath.Join(b.cfg.StateDir, "logs", f.id)
	for name, damage := range map[string]func() error{
		"state": func() error { return os.WriteFile(filepath.Join(own, "state.json"), []byte("{"), 0o600) },
		"tile":  func() error { return os.Remove(filepath.Join(own, "tile/0/001.p/44")) },
		"root": func() error {
			raw, err := os.ReadFile(filepath.Join(own, "state.json"))
			if err != nil {
				return err
			}
			var s state
			if err := json.Unmarshal(raw, &s); err != nil {
				return err
			}
			s.Tree.Hash[0] ^= 1
			raw, err = json.Marshal(s)
			if err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(own, "state.json"), raw, 0o600)
		},
	} {
		backup := t.TempDir()
		if err := os.CopyFS(backup, os.DirFS(own)); err != nil {
			t.Fatal(err)
		}
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		b.restart(t)
		b.Look()
		if err := b.push(t, f, 300, 300); !errors.Is(err, witness.ErrNotYet) {
			t.Errorf("%s: %v", name, err)
		}
		if a := b.Status().Alarms; len(a) == 0 || a[0].Kind != kindOwn || !strings.Contains(a[0].Detail, "restore the folder") {
			t.Errorf("%s: alarms %+v", name, a)
		}
		if err := errors.Join(os.RemoveAll(own), os.CopyFS(own, os.DirFS(backup))); err != nil {
			t.Fatal(err)
		}
		b.restart(t)
		if err := b.push(t, f, 300, 300); err != nil {
			t.Errorf("%s: restored: %v", name, err)
		}
	}
}

// A real ledger, with this auditor as its witness, cosigned while it runs, rotated, restarted.
func TestRealLedger(t *testing.T) {
	key, err := ledger.GenerateKey("reeve/test/c1")
	if err != nil {
		t.Fatal(err)
	}
	f := &forge{origin: key.Origin(), vkey: key.Verifier(), dir: filepath.Join(t.TempDir(), "tiles")}
	b := newBench(t, map[string]*forge{"c1": f})
	cfg := ledger.Config{Key: key, Dir: filepath.Join(t.TempDir(), "ledger"), Tiles: f.dir, Interval: 5 * time.Millisecond, Witnesses: []ledger.Witness{b.client}}
	l, err := ledger.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	add := func(n int) {
		for range n {
			if _, err := l.Append(&entry.Entry{Type: entry.Publish, Tenant: "main", Reason: "test"}, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	cosigned := func() {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
			s := l.Status()
			if s.Cosigned == s.Size {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("not cosigned: %+v, alarms %+v", s, b.Status().Alarms)
			}
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	looked := make(chan struct{})
	go func() { // as it runs beside
		defer close(looked)
		for ctx.Err() == nil {
			b.Look()
		}
	}()
	add(300)
	cosigned()
	if err := l.Rotate(); err != nil {
		t.Fatal(err)
	}
	add(20)
	cosigned()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	cancel()
	<-looked
	b.restart(t)
	if l, err = ledger.Open(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	add(5)
	cosigned()
	b.Look()
	s := b.Status()
	if len(s.Logs) != 2 || s.Logs[0].Cosigned != 300 || s.Logs[1].Cosigned != 26 || len(s.Alarms) != 0 {
		t.Errorf("status %+v", s)
	}
	if report, err := b.trust.Directory(os.DirFS(f.dir), verify.Options{}); err != nil || !report.Holds(verify.Cosigned) {
		t.Errorf("%+v, %v", report, err)
	}
}

// A successor must name the log before it as it was verified.
func TestSuccessorMustContinue(t *testing.T) {
	f := newForge(t, "reeve/test/c1")
	b := newBench(t, map[string]*forge{"c1": f})
	f.add(t, 10, "entry")
	f.publish(t)
	if err := b.push(t, f, 0, 10); err != nil {
		t.Fatal(err)
	}
	// The successor has the same key under its own origin.
	next := func(size int64, root tlog.Hash) *forge {
		s := newForge(t, "reeve/test/c1/1")
		s.dir = filepath.Join(f.dir, "1")
		b.trust.Logs[0].Key = f.vkey
		s.put(t, (&entry.Entry{V: 1, TimeNS: 1, Type: entry.Retire, Log: s.id, Reason: "rotated", PrevLog: f.origin, PrevSize: size, PrevRoot: base64.StdEncoding.EncodeToString(root[:])}).AppendJSON(nil))
		return s
	}
	for name, c := range map[string]struct {
		size int64
		root tlog.Hash
		want string
	}{
		"another root":     {10, f.tree(t, 9).Hash, kindLink},
		"more than it had": {11, f.tree(t, 10).Hash, kindMissing},
	} {
		s := next(c.size, c.root)
		e, err := entry.Parse(s.leaves[0])
		if err != nil {
			t.Fatal(err)
		}
		first := b.tails[f.origin]
		if p := first.precedes(e); p == nil || p.kind != c.want {
			t.Errorf("%s: %v, want %s", name, p, c.want)
		}
	}
	s := next(10, f.tree(t, 10).Hash)
	e, err := entry.Parse(s.leaves[0])
	if err != nil {
		t.Fatal(err)
	}
	if p := b.tails[f.origin].precedes(e); p != nil {
		t.Error(p)
	}
	e.Type = entry.Publish
	if p := b.tails[f.origin].precedes(e); p == nil || p.kind != kindLink {
		t.Errorf("no retire entry: %v", p)
	}
}

func TestConfigIsChecked(t *testing.T) {
	good := App().Default
	good.ID, good.StateDir, good.Trust, good.WitnessKey, good.Logs = "w1", "s", "t", "k", []Source{{"c1", "d"}}
	if err := good.check(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Config){
		"id": func(c *Config) { c.ID = "" }, "no logs": func(c *Config) { c.Logs = nil }, "twice": func(c *Config) { c.Logs = append(c.Logs, c.Logs[0]) },
		"no place": func(c *Config) { c.Logs = []Source{{"c1", ""}} },
	} {
		bad := good
		change(&bad)
		if bad.check() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzSplit(f *testing.F) {
	f.Add(join([][]byte{[]byte("a"), nil, []byte("bc")}), 3)
	f.Add([]byte{0, 5, 'x'}, 1)
	f.Fuzz(func(t *testing.T, b []byte, w int) {
		w = int(uint(w) % (width + 1))
		entries, err := split(b, w)
		if err != nil {
			if !errors.Is(err, errBundle) {
				t.Errorf("untyped error %v", err)
			}
			return
		}
		if got := join(entries); len(entries) != w || string(got) != string(b[:len(got)]) {
			t.Errorf("%d entries of %d", len(entries), w)
		}
	})
}

// BenchmarkCosign measures a push of 100 new entries, on a log of 100,000.
func BenchmarkCosign(b *testing.B) {
	f := newForge(b, "reeve/test/c1")
	a := newBench(b, map[string]*forge{"c1": f})
	f.add(b, 100_000, "entry")
	f.publish(b)
	size := int64(100_000)
	start := time.Now()
	if err := a.push(b, f, 0, size); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(time.Since(start).Seconds(), "s-first-100000")
	var took []time.Duration
	for b.Loop() {
		b.StopTimer()
		f.add(b, 100, "entry")
		old := size
		size += 100
		for _, tile := range tlog.NewTiles(8, old, size) {
			data, err := tlog.ReadTileData(tile, f)
			if err != nil {
				b.Fatal(err)
			}
			f.place(b, path(tile.L, tile.N, tile.W), data)
		}
		for n := old / width; n*width < size; n++ {
			end := min(size, (n+1)*width)
			f.place(b, path(-1, n, int(end-n*width)), join(f.leaves[n*width:end]))
		}
		b.StartTimer()
		start := time.Now()
		if err := a.push(b, f, old, size); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "ms-median")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "ms-p99")
}
