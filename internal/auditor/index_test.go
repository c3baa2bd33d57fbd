package auditor

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/index"
	"github.com/reevehq/reeve/internal/audit/logs"
)

// until waits for a condition.
func until(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not within a minute: " + what)
		}
	}
}

// inMemory is the hash of an index of the auditor's copies.
func (b *bench) inMemory(t testing.TB) string {
	t.Helper()
	all, err := logs.Open(b.cfg.StateDir, b.trust)
	if err != nil {
		t.Fatal(err)
	}
	var names []index.Log
	for _, l := range all {
		names = append(names, index.Log{ID: l.ID, Process: l.Process, Origin: l.Checkpoint.Log.Origin})
	}
	m := index.NewMemory(names...)
	for _, l := range all {
		err := l.Raw(0, func(_ int64, raw []byte) error {
			e, err := entry.Parse(raw)
			if err != nil {
				return err
			}
			return m.Add(e)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	h, _ := m.Hash(t.Context())
	return h
}

func (b *bench) onDisk(t testing.TB) string {
	t.Helper()
	x, err := index.ReadFile(t.Context(), filepath.Join(b.cfg.StateDir, "index.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	h, err := x.Hash(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// The index follows what is verified, over restarts. What goes wrong with it is an alarm, and logs are cosigned all the same.
func TestIndexFollows(t *testing.T) {
	f := newForge(t, "reeve/test/c1")
	b := newBench(t, map[string]*forge{"c1": f})
	size := int64(0)
	more := func(n int) {
		t.Helper()
		f.add(t, n, "entry")
		f.publish(t)
		if err := b.push(t, f, size, size+int64(n)); err != nil {
			t.Fatal(err)
		}
		size += int64(n)
	}
	caught := func() bool { s := b.Status().Index; return s.Entries == size && s.Lag == 0 && s.Error == "" }
	for range 3 {
		end := b.keep(t.Context())
		more(300)
		until(t, "the index has all", caught)
		more(7)
		until(t, "the index has what is new", caught)
		end()
		if got, want := b.onDisk(t), b.inMemory(t); got != want {
			t.Fatalf("hash %s, want %s", got, want)
		}
		b.restart(t)
		b.Look()
	}
	file := filepath.Join(b.cfg.StateDir, "index.db")
	if err := errors.Join(os.WriteFile(file, []byte(strings.Repeat("not a database", 1000)), 0o600)); err != nil {
		t.Fatal(err)
	}
	defer b.keep(t.Context())()
	alarmed := func() bool {
		a := b.Status().Alarms
		return len(a) == 1 && a[0].Stands && a[0].Kind == kindIndex && b.Status().Index.Error != ""
	}
	until(t, "a broken index is an alarm", alarmed)
	more(40)
	if l := b.one(t); l.Cosigned != size || l.Alarm != nil {
		t.Errorf("with a broken index: %+v", l)
	}
	if err := os.Remove(file); err != nil { // as somebody would who has read the alarm
		t.Fatal(err)
	}
	until(t, "the index is built anew", caught)
	until(t, "the alarm is over", func() bool { return !b.Status().Alarms[0].Stands })
	if got, want := b.onDisk(t), b.inMemory(t); got != want {
		t.Errorf("hash %s, want %s", got, want)
	}
}

func TestIndexOff(t *testing.T) {
	b := newBench(t, map[string]*forge{"c1": newForge(t, "reeve/test/c1")})
	b.cfg.Index.Off = true
	b.restart(t)
	b.keep(t.Context())()
	if _, err := os.Stat(filepath.Join(b.cfg.StateDir, "index.db")); !errors.Is(err, fs.ErrNotExist) || b.Status().Index != nil {
		t.Errorf("an index is kept that is off: %v, %+v", err, b.Status().Index)
	}
}

func TestIndexConfig(t *testing.T) {
	for _, c := range []struct {
		index Index
		ports int
		want  string
	}{
		{Index{}, 0, ""},
		{Index{Connection: "postgres://reader@db.internal:5433/reeve?sslmode=verify-full"}, 1, ""},
		{Index{Connection: "postgres://reader@db.internal:5433/reeve?sslmode=require"}, 0, "verify-full"},
		{Index{Connection: "host=/run/postgresql dbname=reeve"}, 0, ""},
		{Index{Off: true, Connection: "postgres://db.internal/reeve"}, 0, "off"},
		{Index{PasswordFile: "password"}, 0, "no connection"},
		{Index{Connection: "postgres://reader:" + "word" + "@db.internal/reeve"}, 0, "password"},
	} {
		cfg := Config{ID: "w1", Listen: "127.0.0.1:0", StateDir: "state", Trust: "trust.json", WitnessKey: "key", Logs: []Source{{"c1", "tiles"}}, Index: c.index}
		err := cfg.check()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c.index, err)
		}
		if p := cfg.confine(); err == nil && (len(p.Connect) != c.ports || p.ConnectAny) {
			t.Errorf("%+v: it may connect to %v", c.index, p.Connect)
		}
	}
}
