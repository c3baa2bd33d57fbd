package ledger

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/need"
)

// TestRealFullDisk runs a ledger on a file system of 8 MiB until it is full, and goes on when there is room again.
func TestRealFullDisk(t *testing.T) {
	need.Real(t, "root", "linux")
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=8m"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	cfg := testConfig(t)
	cfg.Dir, cfg.Tiles, cfg.SegmentSize = filepath.Join(dir, "ledger"), filepath.Join(dir, "tiles"), 512<<10
	cfg.Interval = 10_000_000
	l := open(t, cfg)
	ballast := filepath.Join(dir, "ballast")
	var err error
	for n := 0; err == nil; n++ {
		if n > 100_000 {
			t.Fatal("the disk never became full")
		}
		_, err = l.Append(intent(), nil)
		if n == 500 {
			b := make([]byte, 64<<10)
			f, _ := os.Create(ballast)
			for {
				if _, werr := f.Write(b); werr != nil {
					break
				}
			}
			f.Close()
		}
	}
	if !errors.Is(err, ErrFull) {
		t.Fatal(err)
	}
	size := l.Status().Size
	if err := l.Enqueue(&entry.Entry{Type: entry.Freeze, Reason: "incident"}, true); err != nil {
		t.Fatal(err)
	}
	until(t, func() bool { return l.Status().Size == size+1 })
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	until(t, func() bool { _, err := l.Append(intent(), nil); return err == nil })
	size = l.Status().Size
	l.Close()
	if s := open(t, cfg).Status(); s.Size != size || s.Published != size {
		t.Fatalf("%+v, want %d entries", s, size)
	}
}
