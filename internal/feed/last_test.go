package feed

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/reevehq/reeve/internal/statement"
)

// What a follower remembers over restarts is read back as it was, and what is damaged stops the start.
func TestLast(t *testing.T) {
	dir := t.TempDir()
	if last, err := readLast(dir); err != nil || last != (statement.Locked{}) {
		t.Fatalf("nothing kept: %v, %v", last, err)
	}
	want := statement.Locked{Version: 7, SHA256: strings.Repeat("ab", 32)}
	if err := writeLast(dir, want); err != nil {
		t.Fatal(err)
	}
	if last, err := readLast(dir); err != nil || last != want {
		t.Fatalf("%v, %v", last, err)
	}
	for _, text := range []string{"", "7\n", "7 abc\n", "0 " + want.SHA256 + "\n", "-1 " + want.SHA256 + "\n", "seven " + want.SHA256 + "\n", "7 " + strings.Repeat("zz", 32) + "\n"} {
		if err := os.WriteFile(filepath.Join(dir, lastLock), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if last, err := readLast(dir); err == nil {
			t.Errorf("%q is read as %v", text, last)
		}
	}
}

// A follower hears of a recovery once: neither the next time nor a restart begins the notice again, or shortens it.
func TestHear(t *testing.T) {
	dir, now := t.TempDir(), time.Now().UTC()
	at := func(when time.Time) *Follower {
		f := newFollower(Config{Dir: dir, Clock: func() time.Time { return when }, Log: slog.New(slog.DiscardHandler)})
		close(f.done)
		return f
	}
	hear := func(f *Follower, charter string) time.Time {
		defer f.Wait() // it is on disk
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.hear(charter)
	}
	one, other := strings.Repeat("ab", 32), strings.Repeat("cd", 32)
	if got := hear(at(now), one); !got.Equal(now) {
		t.Errorf("first heard at %s, not %s", got, now)
	}
	if got := hear(at(now.Add(time.Hour)), one); !got.Equal(now) {
		t.Errorf("heard again: %s, not %s", got, now)
	}
	if got := hear(at(now.Add(time.Hour)), other); !got.Equal(now.Add(time.Hour)) {
		t.Errorf("another one: %s", got)
	}
}
