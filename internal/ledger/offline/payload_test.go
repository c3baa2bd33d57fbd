package offline

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/internal/statement"
)

func testConfig(t *testing.T) ledger.Config {
	t.Helper()
	key, err := ledger.GenerateKey("reeve/test/c1")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	return ledger.Config{Key: key, Dir: filepath.Join(dir, "ledger"), Tiles: filepath.Join(dir, "tiles"), SegmentSize: 256<<10 + 2048, Interval: time.Millisecond}
}

func open(t *testing.T, cfg ledger.Config) *ledger.Log {
	t.Helper()
	l, err := ledger.Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// add appends n entries of a tenant with payloads, and returns them.
func add(t *testing.T, l *ledger.Log, tenant string, n int) (all []*entry.Entry) {
	t.Helper()
	for range n {
		e := &entry.Entry{Type: entry.Mint, Tenant: tenant, Reason: strings.Repeat("x", 500)}
		if _, err := l.Append(e, []byte("the decision's input")); err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

// wait waits for something that another goroutine is about to do.
func wait(t *testing.T, done func() bool) {
	t.Helper()
	for start := time.Now(); !done(); time.Sleep(time.Millisecond) {
		if time.Since(start) > 20*time.Second {
			t.Fatal("waited in vain")
		}
	}
}

// TestPayload: payloads outlive the segments that they were written to and a restart, are nowhere in plain, and are gone for one
// tenant, in copies too, when that tenant's key is destroyed.
func TestPayload(t *testing.T) {
	cfg := testConfig(t)
	l := open(t, cfg)
	one, two := add(t, l, "acme", 700), add(t, l, "other", 700)
	wait(t, func() bool { // segments were removed
		_, err := os.Stat(filepath.Join(cfg.Dir, "0", "wal", "wal-00000001"))
		return errors.Is(err, os.ErrNotExist)
	})
	l.Close()
	err := filepath.WalkDir(filepath.Dir(cfg.Dir), func(p string, f os.DirEntry, err error) error {
		if err == nil && !f.IsDir() {
			if b, _ := os.ReadFile(p); strings.Contains(string(b), "the decision's input") {
				t.Errorf("%s has a payload in plain", p)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, all []*entry.Entry, want error) {
		t.Helper()
		for _, e := range all {
			if b, err := Payload(cfg.Dir, 0, e); !errors.Is(err, want) || err == nil && string(b) != "the decision's input" {
				t.Fatalf("%s: entry %d: %q, %v", what, e.Seq, b, err)
			}
		}
	}
	check("closed", append(one, two...), nil)
	wrong := *one[0]
	wrong.Commit = one[1].Commit
	if _, err := Payload(cfg.Dir, 0, &wrong); err == nil {
		t.Error("a payload opened for another commitment")
	}
	copied := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(copied, os.DirFS(cfg.Dir)); err != nil {
		t.Fatal(err)
	}
	if _, err := RequestErasure(cfg.Dir, "acme", ""); err != nil {
		t.Fatal(err)
	}
	l = open(t, cfg)
	wait(t, func() bool {
		_, err := os.Stat(filepath.Join(cfg.Dir, ledger.EraseRequest))
		return errors.Is(err, os.ErrNotExist)
	})
	again := add(t, l, "acme", 1)
	// And once more, of a process that holds the key.
	e, err := RequestErasure(cfg.Dir, "acme", "")
	if err != nil {
		t.Fatal(err)
	}
	wait(t, func() bool { return !e.Waits() })
	if gone, err := e.Destroyed(); err != nil || !gone {
		t.Errorf("destroyed: %v, %v", gone, err)
	}
	last := add(t, l, "acme", 1)
	l.Close()
	check("erased", one, ErrErased)
	check("another tenant's", two, nil)
	if _, err := RequestErasure(cfg.Dir, "acne", ""); !errors.Is(err, ErrNothing) {
		t.Errorf("a tenant that is not there: %v", err)
	}
	check("erased by a running process", again, ErrErased)
	check("after the erasures", last, nil)
	if again[0].Seq != 1401 || again[0].TenantSeq != 701 { // behind the entry of the erasure
		t.Errorf("entry %d, tenant's %d: no entry tells of the erasure", again[0].Seq, again[0].TenantSeq)
	}
}

// TestPayloadOfASubject: what is about one workload, or about who acts for others, is gone when its key is destroyed, and nothing else; the entry of
// the erasure names nobody.
func TestPayloadOfASubject(t *testing.T) {
	cfg := testConfig(t)
	l := open(t, cfg)
	about := func(tenant, workload string, actors ...string) *entry.Entry {
		t.Helper()
		e := &entry.Entry{Type: entry.Intent, Tenant: tenant, Unit: "u", Workload: workload, Credential: "c", Decision: "allow", Actor: append([]string{"key:k1"}, actors...)}
		if _, err := l.Append(e, []byte("the decision's input")); err != nil {
			t.Fatal(err)
		}
		return e
	}
	names := []string{"one", "another", "one for paula", "another for paula", "one for another tenant"}
	all := []*entry.Entry{about("acme", "w1"), about("acme", "w2"), about("acme", "w1", "act:paula"), about("acme", "w2", "act:agent", "act:paula"), about("other", "w1")}
	check := func(want ...bool) {
		t.Helper()
		for i, e := range all {
			var err error
			wait(t, func() bool { _, err = Payload(cfg.Dir, 0, e); return !errors.Is(err, ErrNoPayload) })
			if (err == nil) != want[i] || err != nil && !errors.Is(err, ErrErased) {
				t.Errorf("%s: %v, want it kept: %v", names[i], err, want[i])
			}
		}
	}
	check(true, true, true, true, true)
	erase := func(tenant, subject string) {
		t.Helper()
		e, err := RequestErasure(cfg.Dir, tenant, subject)
		if err != nil {
			t.Fatal(err)
		}
		wait(t, func() bool { return !e.Waits() })
	}
	erase("acme", "paula")
	check(true, true, false, false, true)
	erase("acme", "w1")
	check(false, true, false, false, true)
	all, names = append(all, about("acme", "w1")), append(names, "one once more")
	check(false, true, false, false, true, true)
	erase("acme", "")
	check(false, false, false, false, true, false)
	for _, subject := range []string{"paula", "nobody", "key:k1"} {
		if _, err := RequestErasure(cfg.Dir, "acme", subject); !errors.Is(err, ErrNothing) {
			t.Errorf("%s: %v", subject, err)
		}
	}
	l.Close()
	said := 0
	err := filepath.WalkDir(cfg.Tiles, func(p string, f os.DirEntry, err error) error {
		if err == nil && strings.Contains(p, "entries") && !f.IsDir() {
			b, _ := os.ReadFile(p)
			said = max(said, len(erasedSubject.FindAll(b, -1)))
		}
		return err
	})
	if err != nil || said != 2 {
		t.Errorf("%d entries tell of two erasures of subjects, %v", said, err)
	}
}

var erasedSubject = regexp.MustCompile(`"reason":"key [0-9a-f]{32} of the payloads about a subject destroyed"`)

// TestPayloadIsAsDurableAsItsEntry: what is left after kill -9, before anything was published, has the payload too.
func TestPayloadIsAsDurableAsItsEntry(t *testing.T) {
	cfg := testConfig(t)
	cfg.Interval = time.Hour
	l := open(t, cfg)
	all := add(t, l, "acme", 3)
	killed := cfg
	killed.Dir, killed.Tiles = filepath.Join(t.TempDir(), "ledger"), filepath.Join(t.TempDir(), "tiles")
	if err := os.CopyFS(killed.Dir, os.DirFS(cfg.Dir)); err != nil {
		t.Fatal(err)
	}
	if _, err := Payload(killed.Dir, 0, all[2]); !errors.Is(err, ErrNoPayload) {
		t.Fatalf("published already: %v", err)
	}
	open(t, killed).Close()
	for _, e := range all {
		if _, err := Payload(killed.Dir, 0, e); err != nil {
			t.Errorf("entry %d: %v", e.Seq, err)
		}
	}
}

func TestHeartbeat(t *testing.T) {
	cfg := testConfig(t)
	l := open(t, cfg)
	add(t, l, "acme", 3)
	beat := &entry.Entry{Type: entry.Heartbeat}
	if _, err := l.Append(beat, nil); err != nil {
		t.Fatal(err)
	}
	l.Close()
	b, err := Payload(cfg.Dir, 0, beat)
	if err != nil {
		t.Fatal(err)
	}
	var opening map[string]struct {
		Salt []byte
		Last int64
	}
	if err := json.Unmarshal(b, &opening); err != nil {
		t.Fatal(err)
	}
	const domain = "reeve-heartbeat-v1\x00"
	o := opening["acme"]
	leaf := sha256.Sum256(append(binary.BigEndian.AppendUint64(append([]byte(domain), o.Salt...), uint64(o.Last)), "acme"...))
	commit := sha256.Sum256(append([]byte(domain), leaf[:]...))
	if o.Last != 2 || beat.Commit != hex.EncodeToString(commit[:]) {
		t.Fatalf("last %d, commit %x is not %s", o.Last, commit, beat.Commit)
	}
}

// TestCheckKnowsRetired: damage in the log that is written is an error, in one that has a successor it is what the log was retired for.
func TestCheckKnowsRetired(t *testing.T) {
	cfg := testConfig(t)
	l := open(t, cfg)
	add(t, l, "acme", 20)
	l.Close()
	key := cfg.Key.Verifier()
	if c, err := Check(cfg.Dir, key); err != nil || len(c) != 1 || c[0].Size != 20 {
		t.Fatalf("%+v, %v", c, err)
	}
	name := filepath.Join(cfg.Dir, "0", "wal", "wal-00000001")
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	b[1000] ^= 1
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	var damaged *ledger.DamagedError
	if _, err := Check(cfg.Dir, key); !errors.As(err, &damaged) || damaged.Origin != "reeve/test/c1" {
		t.Fatal(err)
	}
	retire(t, cfg)
	c, err := Check(cfg.Dir, key)
	if err != nil || len(c) != 2 || c[0].Damage == "" || c[1].Damage != "" || c[1].Size != 1 {
		t.Fatalf("%+v, %v", c, err)
	}
}

func retire(t *testing.T, cfg ledger.Config) {
	t.Helper()
	if err := RequestRetirement(cfg.Dir, []byte("signed")); err != nil {
		t.Fatal(err)
	}
	cfg.Retire = func([]byte) (*statement.Retirement, error) {
		return &statement.Retirement{Log: entry.LogID(cfg.Key.Verifier()), Size: 20, Root: strings.Repeat("A", 43) + "=", Reason: "a bit flipped"}, nil
	}
	open(t, cfg).Close()
}

// A payload's key is none of its keys alone, and depends on each of them.
func TestOpenKeyTakesAll(t *testing.T) {
	one, two := []byte(strings.Repeat("1", 32)), []byte(strings.Repeat("2", 32))
	both, err := ledger.OpenKey([][]byte{one, two})
	if err != nil {
		t.Fatal(err)
	}
	sealed := both.Seal(nil, nil, []byte("input"), nil)
	for name, keys := range map[string][][]byte{"the first": {one}, "the second": {two}, "another order": {two, one}, "none": {}} {
		aead, err := ledger.OpenKey(keys)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := aead.Open(nil, nil, sealed, nil); err == nil {
			t.Errorf("%s opens it", name)
		}
	}
	if _, err := both.Open(nil, nil, sealed, nil); err != nil {
		t.Error(err)
	}
}
