package verify_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/cosigner"
	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/verify"
)

// testWitness is a witness without memory.
type testWitness struct {
	signer *cosigner.Signer
	key    string
	away   bool
}

func newCosigner(t testing.TB, name string) *testWitness {
	t.Helper()
	skey, vkey, err := cosigner.GenerateKey(rand.Reader, name)
	if err != nil {
		t.Fatal(err)
	}
	s, err := cosigner.NewSigner(skey, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return &testWitness{signer: s, key: vkey}
}

func (c *testWitness) Cosign(_ context.Context, _ int64, checkpoint []byte, _ []tlog.Hash) ([]note.Signature, error) {
	if c.away {
		return nil, errors.New("away")
	}
	text, _, _ := strings.Cut(string(checkpoint), "\n\n")
	sig, err := c.signer.Sign([]byte(text + "\n"))
	sig = append(binary.BigEndian.AppendUint32(nil, c.signer.KeyHash()), sig...)
	return []note.Signature{{Name: c.signer.Name(), Hash: c.signer.KeyHash(), Base64: base64.StdEncoding.EncodeToString(sig)}}, err
}

// with is a checkpoint with more cosignatures.
func with(raw []byte, sigs []note.Signature) []byte {
	for _, s := range sigs {
		raw = fmt.Appendf(raw, "— %s %s\n", s.Name, s.Base64)
	}
	return raw
}

// log is a published log with what is needed to verify it.
type log struct {
	*ledger.Log
	cfg      ledger.Config
	trust    *verify.Trust
	receipts []string
}

func (l *log) dir() fs.FS { return os.DirFS(l.cfg.Tiles) }

// newLog writes n intents with outcomes (the last one without), and closes the log.
func newLog(t testing.TB, n int, witnesses ...*testWitness) *log {
	t.Helper()
	key, err := ledger.GenerateKey("reeve/test/c1")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	l := &log{cfg: ledger.Config{Key: key, Dir: filepath.Join(dir, "ledger"), Tiles: filepath.Join(dir, "tiles"), SegmentSize: 1 << 20, Interval: time.Hour}}
	l.trust = &verify.Trust{Estate: "test", Logs: []verify.Log{{Process: "c1", Origin: key.Origin(), Key: key.Verifier()}}}
	for _, w := range witnesses {
		l.cfg.Witnesses = append(l.cfg.Witnesses, w)
		l.trust.Witnesses = append(l.trust.Witnesses, verify.Witness{Name: w.signer.Name(), Key: w.key})
	}
	l.cfg.Need = len(witnesses)
	l.open(t)
	l.add(t, n)
	return l
}

func (l *log) open(t testing.TB) {
	t.Helper()
	var err error
	if l.Log, err = ledger.Open(context.Background(), l.cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Log.Close() })
}

func (l *log) add(t testing.TB, n int) {
	t.Helper()
	for i := range n {
		d, err := l.Append(&entry.Entry{Type: entry.Intent, Tenant: fmt.Sprint("t", i%3), Unit: "u", Workload: "w", Credential: "c", Decision: "allow"}, []byte("x"))
		if err != nil {
			t.Fatal(err)
		}
		l.receipts = append(l.receipts, d.Receipt())
		if i < n-1 {
			if err := l.Enqueue(&entry.Entry{Type: entry.Outcome, Tenant: "t0", HasIntent: true, IntentSeq: d.Seq(), IntentLog: d.Log(), Status: 200}, false); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestDirectory(t *testing.T) {
	w1, w2 := newCosigner(t, "w1"), newCosigner(t, "w2")
	l := newLog(t, 400, w1, w2)
	l.Close()
	r, err := l.trust.Directory(l.dir(), verify.Options{Receipt: l.receipts[7]})
	if err != nil {
		t.Fatal(err)
	}
	if !r.Holds(verify.Cosigned) || r.Logs[0].Size != 799 || r.Logs[0].Open != 1 || r.Logs[0].Types["outcome"] != 399 || len(r.Logs[0].Cosigners) != 2 {
		t.Fatalf("%+v", r)
	}
	if s := strings.Join(r.Unknown, "\n"); !strings.Contains(s, "outcome unknown: 1 intents") || !strings.Contains(s, "--since") {
		t.Fatal(s)
	}
}

// TestEveryFlippedByteIsFound flips bytes all over the published tree, one at a time.
func TestEveryFlippedByteIsFound(t *testing.T) {
	l := newLog(t, 300, newCosigner(t, "w1"))
	l.Close()
	l.open(t) // leaves partial tiles of an earlier size behind
	l.add(t, 3)
	l.Close()
	if r, err := l.trust.Directory(l.dir(), verify.Options{}); err != nil || !r.Holds(verify.Cosigned) {
		t.Fatalf("before: %+v, %v", r, err)
	}
	files := 0
	err := filepath.WalkDir(l.cfg.Tiles, func(p string, f fs.DirEntry, err error) error {
		if err != nil || f.IsDir() {
			return err
		}
		files++
		b, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		step := max(len(b)/60, 1)
		for i := 0; i < len(b); i += step {
			b[i] ^= 1 << (i % 8)
			if err := os.WriteFile(p, b, 0o600); err != nil {
				return err
			}
			r, err := l.trust.Directory(l.dir(), verify.Options{})
			if err == nil && r.Holds(verify.Included) && !(filepath.Base(p) == "checkpoint" && !r.Holds(verify.Cosigned)) {
				t.Errorf("%s: byte %d flipped: still holds", p, i)
			}
			b[i] ^= 1 << (i % 8)
		}
		return os.WriteFile(p, b, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 10 {
		t.Fatalf("only %d files", files)
	}
}

func TestBundle(t *testing.T) {
	l := newLog(t, 300, newCosigner(t, "w1"))
	l.Close()
	for _, i := range []int{0, 1, 150, 298, 299} {
		b, err := l.trust.Collect(l.dir(), l.receipts[i])
		if err != nil {
			t.Fatal(err)
		}
		raw := b.Encode()
		r, err := l.trust.Bundle(raw)
		if err != nil {
			t.Fatal(err)
		}
		if r.Level != verify.Cosigned || (r.Outcome == "") != (i == 299) {
			t.Fatalf("receipt %d: %+v", i, r)
		}
		if i != 150 {
			continue
		}
		for j := range raw {
			raw[j] ^= 1
			if r, err := l.trust.Bundle(raw); err == nil && r.Level == verify.Cosigned {
				t.Errorf("byte %d (%q) flipped: still holds", j, raw[max(0, j-10):j+1])
			}
			raw[j] ^= 1
		}
	}
}

func TestPublished(t *testing.T) {
	w := newCosigner(t, "w1")
	l := newLog(t, 5, w)
	if r, err := l.trust.Promise(l.receipts[0]); err != nil || r.Level != verify.Promised {
		t.Fatalf("%+v, %v", r, err)
	}
	var missing *verify.MissingError
	if _, err := l.trust.Published(l.dir(), l.receipts[0]); !errors.As(err, &missing) || !errors.Is(err, verify.ErrUndecided) {
		t.Fatalf("unpublished: %v", err)
	}
	w.away = true
	l.Close()
	if r, err := l.trust.Published(l.dir(), l.receipts[0]); err != nil || r.Level != verify.Included {
		t.Fatalf("%+v, %v", r, err)
	}
	w.away = false
	l.open(t)
	if r, err := l.trust.Published(l.dir(), l.receipts[0]); err != nil || r.Level != verify.Cosigned || r.Outcome == "" {
		t.Fatalf("%+v, %v", r, err)
	}
	other := newLog(t, 5)
	if _, err := l.trust.Published(l.dir(), other.receipts[0]); !errors.Is(err, verify.ErrUndecided) {
		t.Fatalf("another log's receipt: %v", err)
	}
	// The same key and number, but other bytes: the promise of a log that was begun anew.
	again := *l
	again.cfg.Dir, again.cfg.Tiles = t.TempDir(), t.TempDir()
	again.receipts = nil
	again.open(t)
	again.add(t, 5)
	if _, err := l.trust.Published(l.dir(), again.receipts[0]); !errors.Is(err, verify.ErrDoesNotHold) {
		t.Fatalf("broken promise: %v", err)
	}
}

func TestSince(t *testing.T) {
	l := newLog(t, 10)
	l.Close()
	old, err := os.ReadFile(filepath.Join(l.cfg.Tiles, "checkpoint"))
	if err != nil {
		t.Fatal(err)
	}
	l.open(t)
	l.add(t, 10)
	l.Close()
	if r, err := l.trust.Directory(l.dir(), verify.Options{Since: old}); err != nil || len(r.Findings) > 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	newest, _ := os.ReadFile(filepath.Join(l.cfg.Tiles, "checkpoint"))
	again := *l
	again.cfg.Dir, again.cfg.Tiles = t.TempDir(), t.TempDir()
	again.open(t)
	again.add(t, 5)
	again.Close()
	for name, c := range map[string][]byte{"shorter": newest, "rewritten": old} {
		if name == "rewritten" {
			again.open(t)
			again.add(t, 30)
			again.Close()
		}
		r, err := l.trust.Directory(again.dir(), verify.Options{Since: c})
		if err != nil || len(r.Findings) == 0 {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
}

// A log of the trust file is found before the successors that others may have one day.
func TestLogsAreFoundBeforeSuccessors(t *testing.T) {
	trust := new(verify.Trust)
	for _, p := range []string{"c1", "g1", "a1"} {
		pub, _, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		origin := "reeve/test/" + p
		key, err := note.NewEd25519VerifierKey(origin, pub)
		if err != nil {
			t.Fatal(err)
		}
		trust.Logs = append(trust.Logs, verify.Log{Process: p, Origin: origin, Key: key})
	}
	for origin, want := range map[string]int{"reeve/test/c1": 1, "reeve/test/a1": 3, "reeve/test/g1/2": 8} {
		if n := trust.Looks(origin); n != want {
			t.Errorf("%s: found at look %d, want %d", origin, n, want)
		}
	}
}

func TestSuccessors(t *testing.T) {
	l := newLog(t, 300, newCosigner(t, "w1"))
	d, err := l.Append(&entry.Entry{Type: entry.Intent, Tenant: "t0", Unit: "u", Workload: "w", Credential: "c", Decision: "allow"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Rotate(); err != nil {
		t.Fatal(err)
	}
	// The outcome of an intent of the log before.
	if err := l.Enqueue(&entry.Entry{Type: entry.Outcome, HasIntent: true, IntentSeq: d.Seq(), IntentLog: d.Log(), Status: 200}, false); err != nil {
		t.Fatal(err)
	}
	l.add(t, 20)
	if err := l.Rotate(); err != nil {
		t.Fatal(err)
	}
	l.add(t, 2)
	l.Close()
	r, err := l.trust.Directory(l.dir(), verify.Options{})
	if err != nil || !r.Holds(verify.Cosigned) || len(r.Logs) != 3 || r.Logs[2].Origin != "reeve/test/c1/2" || r.Logs[2].Open != 3 {
		t.Fatalf("%+v, %v", r, err)
	}
	for _, i := range []int{0, 305, 321} {
		b, err := l.trust.Collect(l.dir(), l.receipts[i])
		if err != nil {
			t.Fatalf("%d: %v", i, err)
		}
		if _, err := l.trust.Bundle(b.Encode()); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.RemoveAll(filepath.Join(l.cfg.Tiles, "1")); err != nil {
		t.Fatal(err)
	}
	if r, err := l.trust.Directory(l.dir(), verify.Options{}); err != nil || r.Holds(verify.Included) {
		t.Fatalf("a missing log: %+v, %v", r, err)
	}
}

// TestDistinctWitnesses: k of n counts keys, not signature lines.
func TestDistinctWitnesses(t *testing.T) {
	w1, w2 := newCosigner(t, "w1"), newCosigner(t, "w2")
	l := newLog(t, 5, w1)
	l.Close()
	raw, err := os.ReadFile(filepath.Join(l.cfg.Tiles, "checkpoint"))
	if err != nil {
		t.Fatal(err)
	}
	trust := *l.trust
	trust.Need = 2
	trust.Witnesses = append(trust.Witnesses, verify.Witness{Name: "w2", Key: w2.key})
	again, _ := w1.Cosign(context.Background(), 0, raw, nil)
	c, err := trust.Checkpoint(with(raw, again))
	if err == nil && len(c.Cosigners) > 1 {
		t.Fatalf("one witness counted twice: %v", c.Cosigners)
	}
	second, _ := w2.Cosign(context.Background(), 0, raw, nil)
	if c, err = trust.Checkpoint(with(raw, second)); err != nil || len(c.Cosigners) != 2 || c.Time.IsZero() {
		t.Fatalf("%+v, %v", c, err)
	}
	// The same key under two names is one witness.
	_, pub, _ := strings.Cut(w1.key, "+")
	_, pub, _ = strings.Cut(pub, "+")
	if _, err := verify.ParseTrust([]byte(`{"witnesses":[{"name":"w1","key":"` + w1.key + `"},{"name":"w9","key":"` + renamed(t, "w9", pub) + `"}]}`)); err == nil {
		t.Fatal("one key under two names was accepted")
	}
}

// renamed is a testWitness's verifier key under another name.
func renamed(t *testing.T, name, pub64 string) string {
	raw, err := base64.StdEncoding.DecodeString(pub64)
	if err != nil {
		t.Fatal(err)
	}
	v := verify.KeyHash(name, raw)
	return fmt.Sprintf("%s+%08x+%s", name, v, pub64)
}

func FuzzBundle(f *testing.F) {
	l := newLog(f, 3, newCosigner(f, "w1"))
	l.Close()
	b, err := l.trust.Collect(l.dir(), l.receipts[0])
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b.Encode())
	f.Fuzz(func(t *testing.T, raw []byte) {
		if r, err := l.trust.Bundle(raw); err == nil && r.Level == verify.Cosigned && r.Leaf != b.Leaf.Entry {
			t.Fatalf("forged: %s", raw)
		}
	})
}

func FuzzCheckpoint(f *testing.F) {
	l := newLog(f, 3, newCosigner(f, "w1"))
	l.Close()
	raw, err := os.ReadFile(filepath.Join(l.cfg.Tiles, "checkpoint"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := l.trust.Checkpoint(b); err == nil && c.N != 5 {
			t.Fatalf("forged: %q", b)
		}
	})
}

func FuzzTrust(f *testing.F) {
	f.Add([]byte(`{"estate":"e","logs":[],"witnesses":[],"need":0}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if trust, err := verify.ParseTrust(b); err == nil && trust.Need > len(trust.Witnesses) {
			t.Fatal("need above the number of witnesses")
		}
	})
}

// TestProve makes bundles without receipts, from the log's folder alone, in a checkpoint that is older than the tiles.
func TestProve(t *testing.T) {
	w := newCosigner(t, "w1")
	l := newLog(t, 300, w)
	l.Close()
	kept, err := l.trust.Directory(l.dir(), verify.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w.away = true
	l.open(t) // goes on without cosignatures
	l.add(t, 30)
	l.Close()
	size := kept.Logs[0].Size
	for _, c := range []struct {
		seq, outcome int64
		level        verify.Level
	}{{0, 1, verify.Cosigned}, {size - 1, -1, verify.Cosigned}, {size + 3, -1, verify.Included}, {size - 1, size + 3, 0}} {
		b, err := l.trust.Prove(l.dir(), c.seq, c.outcome)
		if err != nil {
			t.Fatal(err)
		}
		r, err := l.trust.Bundle(b.Encode())
		if c.level == 0 {
			if !errors.Is(err, verify.ErrDoesNotHold) {
				t.Errorf("another entry's outcome: %+v, %v", r, err)
			}
			continue
		}
		if err != nil || r.Level != c.level || r.Seq != c.seq || b.Receipt != "" || (r.Outcome != "") != (c.outcome >= 0) {
			t.Errorf("%+v: %+v, %v", c, r, err)
		}
	}
	b, err := l.trust.Prove(l.dir(), 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	raw := b.Encode()
	for j := range raw {
		raw[j] ^= 1
		if r, err := l.trust.Bundle(raw); err == nil && r.Level == verify.Cosigned {
			t.Errorf("byte %d (%q) flipped: still holds", j, raw[max(0, j-10):j+1])
		}
		raw[j] ^= 1
	}
}
