package lifecycle

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/custodian/source"
	"github.com/reevehq/reeve/internal/custodian/state"
)

// What a restart made unprovable says until when it may work, and is dead from then on: in the ledger, and for who asked for its end.
func TestUnprovenUntilItExpires(t *testing.T) {
	b := newEnding(t, nil)
	b.use()
	no := errors.New("frozen")
	b.shut.Store(&no)
	b.restart()
	b.End("record", b.Clock())
	b.minutes(2)
	a := b.show()
	want(t, "after a restart", b.states(), "lease-1:revoked-unproven")
	end := a.Versions[0].Expires
	if e := a.Ending; !e.Proven.IsZero() || !e.LastUse.Equal(end) || e.Open || !strings.Contains(e.Note, "it ends by itself at "+end.UTC().Format(time.RFC3339)) {
		t.Errorf("%+v", e)
	}
	b.restart()
	b.minutes(9)
	want(t, "when its time is over", b.states(), "lease-1:destroyed")
	if e := b.show().Ending; e.Proven.IsZero() || !e.LastUse.Equal(end) || e.Note != "" {
		t.Errorf("%+v", e)
	}
	if !strings.HasSuffix(b.story(), "version:expired:lease-1:destroyed") || len(b.probed) != 0 {
		t.Error(b.story())
	}
}

// What was frozen and could not be ended at its source ends by itself all the same.
func TestFrozenUntilItExpires(t *testing.T) {
	b := newEnding(t, func(b *bench) { b.wont = source.ErrDown })
	b.use()
	no := errors.New("frozen")
	b.shut.Store(&no)
	b.End("record", b.Clock())
	b.minutes(3)
	want(t, "while its source is down", b.states(), "lease-1:frozen")
	b.minutes(8)
	want(t, "when its time is over", b.states(), "lease-1:destroyed")
	if e := b.show().Ending; e.Provider.IsZero() || e.Proven.IsZero() || e.Note != "" {
		t.Errorf("%+v", e)
	}
}

// What was ended at its source because it was rotated, which nobody has seen, is over when it expires.
func TestRotatedUntilItExpires(t *testing.T) {
	b := newBench(t, func(b *bench) { b.life = 3 * time.Hour })
	b.use()
	b.after(cached)
	b.use()
	b.after(time.Minute)
	b.after(time.Second)
	if s := b.states(); !strings.HasSuffix(s, "lease-1:revoked-unproven") {
		t.Fatal(s)
	}
	b.restart()
	b.after(3 * time.Hour)
	if s := b.states(); !strings.HasSuffix(s, "lease-1:destroyed") || !strings.Contains(b.story(), "version:expired:lease-1:destroyed") {
		t.Error(s, b.story())
	}
}

// TestKilledBetweenEntryAndFile: the next process knows a version that the ledger binds, whenever the one before was killed, and ends it.
func TestKilledBetweenEntryAndFile(t *testing.T) {
	for _, at := range []string{"before the entry", "after the entry"} {
		t.Run(at, func(t *testing.T) {
			b := newBench(t, func(b *bench) { b.life = 0 })
			killed, err := state.Open(t.TempDir() + "/killed")
			if err != nil {
				t.Fatal(err)
			}
			seen := false
			keep := func(e *entry.Entry) error {
				if e.Type == entry.Outcome && e.Lease != "" && !seen { // what the disk has at this moment is what the next process finds
					seen = true
					file, err := b.cfg.Dir.Read(file)
					if err != nil || file == nil {
						t.Errorf("nothing is kept: %v", err)
					}
					if err := killed.Replace("versions.json", file); err != nil {
						t.Error(err)
					}
				}
				return nil
			}
			b.full = keep
			b.use()
			b.full = nil
			if at == "before the entry" {
				b.mu.Lock()
				b.entries = nil
				b.mu.Unlock()
			}
			b.cfg.Dir = killed
			b.restart()
			want(t, "known", b.states(), "lease-1:overlapping")
			b.after(cached + time.Minute)
			b.after(time.Minute)
			want(t, "ended", b.states(), "lease-1:revoked-unproven")
			want(t, "alive", strings.Join(b.living(), " "), "")
		})
	}
}

// What could not be bound is not used, and is ended at its source: now, or when that answers.
func TestUnbound(t *testing.T) {
	for _, wont := range []error{nil, source.ErrDown} {
		b := newBench(t, func(b *bench) {
			b.life, b.wont = 0, wont
			b.full = func(e *entry.Entry) error {
				if e.Type == entry.Outcome && e.Lease != "" {
					return errors.New("input/output error")
				}
				return nil
			}
		})
		if _, err := b.hold(""); err == nil {
			t.Fatal("it is used")
		}
		b.settle()
		if wont == nil {
			want(t, "known", b.states(), "")
		} else {
			want(t, "known", b.states(), "lease-1:overlapping")
		}
		b.full = nil
		b.set(func() { b.wont = nil })
		b.after(cached + time.Minute)
		b.after(time.Minute)
		want(t, "alive", strings.Join(b.living(), " "), "")
	}
}
