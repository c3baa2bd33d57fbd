package ledger

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// copyTree copies a directory, as a snapshot of a running ledger would.
func copyTree(t testing.TB, from string) string {
	t.Helper()
	for {
		to := filepath.Join(t.TempDir(), "copy")
		switch err := os.CopyFS(to, os.DirFS(from)); {
		case err == nil:
			return to
		case !errors.Is(err, fs.ErrNotExist): // a running log renames its next segment into place: copy again
			t.Fatal(err)
		}
	}
}

// walFiles lists the write-ahead log's files.
func walFiles(t testing.TB, cfg Config) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(cfg.Dir, "0", "wal", "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	return files
}

// TestFlippedBits flips bits all over the write-ahead log of a closed ledger: Check finds each one, and Open refuses or
// loses nothing.
func TestFlippedBits(t *testing.T) {
	cfg := testConfig(t)
	cfg.SegmentSize = 256<<10 + 2048
	l := open(t, cfg)
	for range 30 {
		for range 29 {
			if err := l.Enqueue(intent(), false); err != nil {
				t.Fatal(err)
			}
		}
		appendN(t, l, 1)
	}
	l.Close()
	const size = 900
	key := cfg.Key.Verifier()
	if c, err := Read(cfg.Dir, key, 0); err != nil || c.Size != size || c.Signed != size || c.Torn {
		t.Fatalf("%+v, %v", c, err)
	}
	refused, kept := 0, 0
	for _, name := range walFiles(t, cfg) {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(b); i += len(b)/11 + 1 {
			flip := func() {
				b[i] ^= 1 << (i % 8)
				if err := os.WriteFile(name, b, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			flip()
			var damaged *DamagedError
			if x, err := Read(cfg.Dir, key, 0); !errors.As(err, &damaged) && !x.Torn {
				t.Errorf("%s, byte %d flipped: checked as %v", filepath.Base(name), i, err)
			}
			again := cfg
			again.Dir = copyTree(t, cfg.Dir)
			l, err := Open(context.Background(), again)
			switch {
			case errors.As(err, &damaged):
				refused++
				if !strings.Contains(err.Error(), "reeve ledger retire") {
					t.Errorf("the message does not say what to do: %v", err)
				}
			case err != nil:
				t.Errorf("%s, byte %d flipped: %v", filepath.Base(name), i, err)
			case l.Status().Size != size:
				t.Errorf("%s, byte %d flipped: %d entries", filepath.Base(name), i, l.Status().Size)
				l.Close()
			default:
				kept++
				l.Close()
			}
			flip()
		}
	}
	if refused == 0 || kept == 0 {
		t.Fatalf("refused %d, kept %d: the test does not reach both records and zeros", refused, kept)
	}
}

// TestFlippedBitAboveCheckpoint flips a bit in entries that no checkpoint covers yet: acknowledged ones are not dropped silently.
func TestFlippedBitAboveCheckpoint(t *testing.T) {
	cfg := testConfig(t)
	cfg.Interval = time.Hour
	l := open(t, cfg)
	appendN(t, l, 20)
	snapshot := copyTree(t, cfg.Dir) // as after kill -9
	name := filepath.Join(snapshot, "0", "wal", segmentName(1))
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	_, off, err := parseHeader(b)
	if err != nil {
		t.Fatal(err)
	}
	for n := range 20 { // the last one too: no sector of it is missing, so no crash tore it
		_, length, ok := parseRecord(b[off:])
		if !ok {
			t.Fatal(n)
		}
		again := cfg
		again.Dir, again.Tiles = copyTree(t, snapshot), filepath.Join(t.TempDir(), "tiles")
		b[off+70] ^= 4
		if err := os.WriteFile(filepath.Join(again.Dir, "0", "wal", segmentName(1)), b, 0o600); err != nil {
			t.Fatal(err)
		}
		b[off+70] ^= 4
		off += length
		l, err := Open(context.Background(), again)
		var damaged *DamagedError
		if !errors.As(err, &damaged) {
			t.Errorf("entry %d: %v", n, err)
			l.Close()
		}
	}
}

// TestLostFiles: a ledger without its write-ahead log, or with an older published tree, does not start as a new one.
func TestLostFiles(t *testing.T) {
	cfg := testConfig(t)
	l := open(t, cfg)
	appendN(t, l, 20)
	l.Close()
	for name, lose := range map[string]func(Config) error{
		"the write-ahead log": func(c Config) error { return os.RemoveAll(filepath.Join(c.Dir, "0", "wal")) },
		"the whole state":     func(c Config) error { return os.RemoveAll(c.Dir) },
		"a signed checkpoint, altered": func(c Config) error {
			return os.WriteFile(filepath.Join(c.Dir, "0", cosignedFile), []byte("x\n"), 0o600)
		},
	} {
		again := cfg
		again.Dir, again.Tiles = copyTree(t, cfg.Dir), copyTree(t, cfg.Tiles)
		if err := lose(again); err != nil {
			t.Fatal(err)
		}
		var damaged *DamagedError
		if _, err := Open(context.Background(), again); !errors.As(err, &damaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// What is published can be made again from the write-ahead log.
	again := cfg
	again.Tiles = filepath.Join(t.TempDir(), "tiles")
	open(t, again).Close()
	n := 0
	err := filepath.WalkDir(cfg.Tiles, func(p string, f fs.DirEntry, err error) error {
		if err != nil || f.IsDir() {
			return err
		}
		n++
		rel, _ := filepath.Rel(cfg.Tiles, p)
		want, _ := os.ReadFile(p)
		if got, _ := os.ReadFile(filepath.Join(again.Tiles, rel)); string(got) != string(want) {
			t.Errorf("%s differs", rel)
		}
		return nil
	})
	if err != nil || n < 4 {
		t.Fatal(n, err)
	}
}

// TestPrunedLogWithoutCheckpoints: what is left of a log whose beginning was published and removed proves nothing alone.
func TestPrunedLogWithoutCheckpoints(t *testing.T) {
	cfg := testConfig(t)
	cfg.SegmentSize, cfg.Interval = 256<<10+2048, time.Millisecond
	l := open(t, cfg)
	until(t, func() bool {
		e := intent()
		e.Reason = strings.Repeat("x", 4000)
		if _, err := l.Append(e, nil); err != nil {
			t.Fatal(err)
		}
		_, err := os.Stat(filepath.Join(cfg.Dir, "0", "wal", segmentName(1)))
		return errors.Is(err, fs.ErrNotExist)
	})
	l.Close()
	// Also: a byte behind the last record of a segment that is not the last.
	name := walFiles(t, cfg)[0]
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, last := range []byte{1, 0} {
		b[len(b)-1] = last
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(cfg.Dir, cfg.Key.Verifier(), 0); (err == nil) != (last == 0) {
			t.Errorf("last byte %d: %v", last, err)
		}
	}
	if err := errors.Join(os.Remove(filepath.Join(cfg.Dir, "0", cosignedFile)), os.RemoveAll(cfg.Tiles)); err != nil {
		t.Fatal(err)
	}
	var damaged *DamagedError
	if _, err := Open(context.Background(), cfg); !errors.As(err, &damaged) || !strings.Contains(err.Error(), "begins with entry") {
		t.Fatal(err)
	}
}

func TestSecondProcessIsRefused(t *testing.T) {
	cfg := testConfig(t)
	open(t, cfg)
	if _, err := Open(context.Background(), cfg); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Fatal(err)
	}
}
