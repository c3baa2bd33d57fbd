package ledger

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/statement"
)

// memory is a witness that remembers every log, as C2SP tlog-witness says.
type memory struct {
	mu   sync.Mutex
	name string
	n    int
	last map[string]tlog.Tree // by origin
	away bool
}

func (m *memory) size(origin string) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last[origin].N
}

func (m *memory) leave(away bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.away = away
}

// asks is how often it was asked while it was there.
func (m *memory) asks() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.n
}

func (m *memory) Cosign(_ context.Context, old int64, raw []byte, proof []tlog.Hash) ([]note.Signature, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.away {
		return nil, errors.New("away")
	}
	m.n++
	text, _, _ := strings.Cut(string(raw), "\n\n")
	origin, _, _ := strings.Cut(text, "\n")
	t, err := ParseCheckpoint(origin, text+"\n")
	if err != nil {
		return nil, err
	}
	last := m.last[origin]
	if old != last.N || t.N < last.N || t.N == last.N && t.N > 0 && t.Hash != last.Hash {
		return nil, &ConflictError{last.N}
	}
	if old > 0 && t.N > old {
		if err := tlog.CheckTree(proof, t.N, t.Hash, old, last.Hash); err != nil {
			return nil, ErrForked
		}
	}
	if m.last == nil {
		m.last = map[string]tlog.Tree{}
	}
	m.last[origin] = t
	return []note.Signature{{Name: cmp.Or(m.name, "w1"), Hash: 1<<24 | 1<<16 | 1<<8 | 1, Base64: base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{1}, 76))}}, nil
}

func appendN(t testing.TB, l *Log, n int) {
	t.Helper()
	for range n {
		if _, err := l.Append(intent(), nil); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRotation(t *testing.T) {
	cfg := testConfig(t)
	w := &memory{}
	cfg.Witnesses, cfg.Interval = []Witness{w}, 10*time.Millisecond
	l := open(t, cfg)
	appendN(t, l, 300)
	w.leave(true)
	if err := l.Rotate(); err == nil || l.Origin() != "reeve/test/c1" {
		t.Fatalf("rotated without witnesses: %v", err)
	}
	appendN(t, l, 1)
	w.leave(false)
	if err := os.WriteFile(filepath.Join(cfg.Dir, RotateRequest), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	until(t, func() bool { return l.Origin() == "reeve/test/c1/1" && l.Status().Size == 1 })
	d, err := l.Append(intent(), nil)
	if err != nil || d.Seq() != 1 || d.Log() == "" {
		t.Fatalf("after rotation: %d, %v", d.Seq(), err)
	}
	if err := l.Close(); !errors.Is(err, nil) {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(cfg.Dir, "0", "wal")); !os.IsNotExist(err) {
		t.Fatal("the closed log's write-ahead log is still there")
	}
	// An interrupted rotation: the successor has no entry yet.
	if err := os.MkdirAll(filepath.Join(cfg.Dir, "2", "wal"), 0o700); err != nil {
		t.Fatal(err)
	}
	l = open(t, cfg)
	if d, err := l.Append(intent(), nil); err != nil || d.Seq() != 2 || l.Origin() != "reeve/test/c1/1" {
		t.Fatalf("%s: %d, %v", l.Origin(), d.Seq(), err)
	}
}

func TestRolledBackAndRetired(t *testing.T) {
	cfg := testConfig(t)
	w := &memory{}
	cfg.Witnesses = []Witness{w}
	l := open(t, cfg)
	appendN(t, l, 10)
	dir, tiles := copyTree(t, cfg.Dir), copyTree(t, cfg.Tiles)
	appendN(t, l, 10)
	l.Close()
	if w.size("reeve/test/c1") != 20 {
		t.Fatal(w.size("reeve/test/c1"))
	}
	cfg.Dir, cfg.Tiles = dir, tiles
	_, err := Open(context.Background(), cfg)
	if !errors.Is(err, ErrRolledBack) || !strings.Contains(err.Error(), "reeve ledger retire") || !strings.Contains(err.Error(), "20") {
		t.Fatalf("a restored snapshot: %v", err)
	}
	// The way back.
	v, err := publicVolume(cfg.Key.Verifier(), 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := &statement.Retirement{Estate: "test", Log: v.id, Size: 20, Root: w.last["reeve/test/c1"].Hash.String(), Reason: "an old snapshot was restored"}
	if err := os.WriteFile(filepath.Join(cfg.Dir, RetireRequest), []byte("signed"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(context.Background(), cfg); err == nil {
		t.Fatal("a retirement that nobody verified was obeyed")
	}
	cfg.Retire = func([]byte) (*statement.Retirement, error) { return nil, errors.New("one signature") }
	if _, err := Open(context.Background(), cfg); err == nil || !strings.Contains(err.Error(), "one signature") {
		t.Fatal(err)
	}
	cfg.Retire = func(b []byte) (*statement.Retirement, error) {
		if string(b) != "signed" {
			t.Error(string(b))
		}
		return r, nil
	}
	l = open(t, cfg)
	if l.Origin() != "reeve/test/c1/1" || l.Status().Size != 1 {
		t.Fatalf("%+v", l.Status())
	}
	appendN(t, l, 3)
	l.Close()
	l = open(t, cfg)
	if l.Status().Size != 4 {
		t.Fatalf("%+v", l.Status())
	}
	l.Close()
	// Damage is found in each; package offline says that of the retired log is known.
	for n, want := range []string{"reeve/test/c1", "reeve/test/c1/1"} {
		name := filepath.Join(cfg.Dir, strconv.Itoa(n), "wal", segmentName(1))
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		b[1000] ^= 1
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		var damaged *DamagedError
		if _, err := Read(cfg.Dir, cfg.Key.Verifier(), n); !errors.As(err, &damaged) || damaged.Origin != want {
			t.Errorf("damage in %s: %v", want, err)
		}
	}
}

// A successor has the key that the file names after it, if the charter has that; the log before it keeps its own, and both open again.
func TestSuccessorWithAnotherKey(t *testing.T) {
	cfg := testConfig(t)
	path := filepath.Join(t.TempDir(), "log.key")
	next, err := GenerateKey(cfg.Key.Origin() + "/1")
	if err != nil {
		t.Fatal(err)
	}
	write := func(keys ...Key) {
		t.Helper()
		var text strings.Builder
		for _, k := range keys {
			fmt.Fprintf(&text, "%s\n", k.text.Reveal())
		}
		if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(cfg.Key)
	first := cfg.Key
	if cfg.Key, err = LoadKey(path); err != nil {
		t.Fatal(err)
	}
	enrolled := false
	cfg.Enrolled = func(k Key) bool { return enrolled || k.Verifier() == first.Verifier() }
	l := open(t, cfg)
	if _, err := l.Append(&entry.Entry{Type: entry.Heartbeat}, nil); err != nil {
		t.Fatal(err)
	}
	write(first, next)
	if err := l.Rotate(); err == nil || !strings.Contains(err.Error(), "has no live log key") {
		t.Fatalf("rotated to a key that nobody believes: %v", err)
	}
	enrolled = true
	if err := l.Rotate(); err != nil {
		t.Fatal(err)
	}
	want := entry.LogID(next.Verifier())
	if l.ID() != want {
		t.Errorf("the successor is %s, want the new key's %s", l.ID(), want)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for name, keys := range map[string][]Key{"both": {first, next}, "the new one": {next}} {
		write(keys...)
		if cfg.Key, err = LoadKey(path); err != nil {
			t.Fatal(err)
		}
		l := open(t, cfg)
		if l.ID() != want {
			t.Errorf("opened with %s: %s", name, l.ID())
		}
		l.Close()
	}
	write(first)
	if cfg.Key, err = LoadKey(path); err != nil {
		t.Fatal(err)
	}
	if l, err := Open(t.Context(), cfg); err == nil {
		l.Close()
		t.Error("opened the successor with the old key")
	}
	for name, keys := range map[string][]Key{"backwards": {next, first}, "twice": {next, next}, "empty": nil} {
		write(keys...)
		if _, err := LoadKey(path); err == nil {
			t.Errorf("%s: read", name)
		}
	}
}
