package offline

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/ledger"
)

// TestLiveBackup takes backups while entries are written; each must open and hold all that was durable when it began.
func TestLiveBackup(t *testing.T) {
	key, err := ledger.GenerateKey("reeve/test/c1")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cfg := ledger.Config{Key: key, Dir: filepath.Join(dir, "ledger"), Tiles: filepath.Join(dir, "tiles"), SegmentSize: 512 << 10, Interval: 5 * time.Millisecond}
	l, err := ledger.Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	stop := make(chan struct{})
	for range 8 {
		go func() {
			for {
				select {
				case <-stop:
					return
				default:
					l.Append(&entry.Entry{Type: entry.Mint, Tenant: "acme"}, nil)
				}
			}
		}()
	}
	defer close(stop)
	for range 10 {
		time.Sleep(20 * time.Millisecond)
		before := l.Status().Size
		var b bytes.Buffer
		if err := Write(cfg.Dir, cfg.Tiles, &b); err != nil {
			t.Fatal(err)
		}
		again := cfg
		again.Dir, again.Tiles = filepath.Join(t.TempDir(), "ledger"), filepath.Join(t.TempDir(), "tiles")
		archive := b.Bytes()
		if err := Restore(&b, again.Dir, again.Tiles); err != nil {
			t.Fatal(err)
		}
		if err := Restore(bytes.NewReader(archive), again.Dir, again.Tiles); err == nil {
			t.Fatal("restored over a ledger")
		}
		r, err := ledger.Open(context.Background(), again)
		if err != nil {
			t.Fatal(err)
		}
		if s := r.Status(); s.Size < before {
			t.Fatalf("the backup holds %d entries, %d were durable", s.Size, before)
		}
		r.Close()
	}
}

func TestRestoreStaysInside(t *testing.T) {
	for _, name := range []string{"../x", "ledger/../../x", "ledger//etc/x", "other/x"} {
		var b bytes.Buffer
		if err := writeTar(&b, name); err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		err := Restore(&b, filepath.Join(dir, "a", "ledger"), filepath.Join(dir, "a", "tiles"))
		if _, serr := os.Stat(filepath.Join(dir, "x")); err == nil && serr == nil {
			t.Errorf("%s: written outside", name)
		}
		if _, serr := os.Stat(filepath.Join(dir, "a", "x")); serr == nil {
			t.Errorf("%s: written outside", name)
		}
	}
}

// Root backs up folders of processes' users. Where one of them put a link to another process's key, the archive does not have the key.
func TestBackupFollowsNoLinks(t *testing.T) {
	for _, c := range []struct{ at, to string }{
		{"own/ledger/0/checkpoint", "other/checkpoint"}, {"own/ledger/0/file", "other/checkpoint"}, {"own/ledger", "other"}, {"tiles/checkpoint", "other/checkpoint"}, {"tiles/own", "other"},
	} {
		dir := t.TempDir()
		at := func(name string) string { return filepath.Join(dir, filepath.FromSlash(name)) }
		for _, d := range []string{"own/ledger/0", "tiles", "other"} {
			if err := os.MkdirAll(at(d), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(os.WriteFile(at("other/checkpoint"), []byte("another's key"), 0o600), os.RemoveAll(at(c.at)), os.Symlink(at(c.to), at(c.at))); err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		err := Write(at("own/ledger"), at("tiles"), &b)
		if bytes.Contains(b.Bytes(), []byte("another's key")) {
			t.Errorf("%s: the archive has another's key (%v)", c.at, err)
		}
	}
}

func writeTar(w io.Writer, name string) error {
	t := tar.NewWriter(w)
	return errors.Join(addFile(t, name, []byte("x")), t.Close())
}
