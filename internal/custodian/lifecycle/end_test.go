package lifecycle

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/reevehq/reeve/internal/custodian/source"
	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/internal/statement"
)

var demoProbe = statement.Probe{Method: "GET", Path: "/v1/models", Status: 401, Holds: "invalid"}

// ending is a bench whose probes are answered as the provider knows.
func newEnding(t *testing.T, change func(*bench)) *bench {
	return newBench(t, func(b *bench) {
		b.probe = demoProbe
		b.refuses = func(value string) (Answer, error) {
			if strings.Contains(strings.Join(b.living(), " "), "lease-"+strings.TrimLeft(value[len(value)-4:], "0")) {
				return Answer{Status: 200}, nil
			}
			return Answer{Status: 401, Refused: true}, nil
		}
		if change != nil {
			change(b)
		}
	})
}

// minutes lets so many minutes pass, one at a time.
func (b *bench) minutes(n int) {
	for range n {
		b.after(time.Minute)
	}
}

// A revocation freezes, has the source end every version, and proves it by two probes a minute apart. Nothing is used from its first instant on.
func TestEnd(t *testing.T) {
	b := newEnding(t, nil)
	b.use()
	b.after(9 * time.Minute)
	open, err := b.hold("")
	if err != nil {
		t.Fatal(err)
	}
	no := errors.New("frozen")
	b.shut.Store(&no)
	b.End("record", b.Clock())
	if _, _, err := open.Fetch(b.durable); !errors.Is(err, ErrOver) {
		t.Errorf("a use that has begun still gets it: %v", err)
	}
	if _, err := b.hold(""); err == nil {
		t.Error("it is still held")
	}
	want(t, "at once", b.states(), "lease-2:frozen lease-1:frozen")
	b.after(0)
	want(t, "told", b.states(), "lease-2:revoked-unproven lease-1:revoked-unproven")
	want(t, "alive", strings.Join(b.living(), " "), "")
	if e := b.show().Ending; e.Provider.IsZero() || !e.Proven.IsZero() || e.LastUse.IsZero() || e.Open {
		t.Errorf("%+v", e)
	}
	n := len(b.probed)
	b.after(30 * time.Second)
	if len(b.probed) != n {
		t.Error("two probes less than a minute apart")
	}
	b.after(31 * time.Second)
	want(t, "proven", b.states(), "lease-2:revoked-proven lease-1:destroyed") // lease-1 has expired meanwhile
	e := b.show().Ending
	if e.Frozen.IsZero() || e.Provider.Before(e.Frozen) || !e.LastUse.Before(e.Provider.Add(time.Minute)) || e.Note != "" {
		t.Errorf("%+v", e)
	}
	story := b.story()
	for _, s := range []string{
		"version:revoked:lease-2:frozen", "mint:revoke outcome:revoked", "version:revoked:lease-2:revoked-unproven",
		"probe:lease-2:revoked-unproven outcome:refused:lease-2", "version:probed_twice:lease-2:revoked-proven",
	} {
		at := strings.Index(story, s)
		if at < 0 {
			t.Fatalf("%q is missing, or not in order, in %s", s, b.story())
		}
		story = story[at:]
	}
	b.End("record", e.Frozen.Add(-time.Hour)) // the same record again, as after a restart
	b.shut.Store(nil)
	b.now.Add(int64(time.Minute))
	want(t, "opened again", b.use(), "lease-3")
	b.End("an older one", e.Frozen.Add(-time.Minute))
	want(t, "what came after is not ended", b.use(), "lease-3")
}

// What still works is not proven dead, however often it was told; the probes go on until it is.
func TestEndUnproven(t *testing.T) {
	b := newEnding(t, func(b *bench) {
		b.life = 0
		b.wont = source.ErrCannotRevoke
	})
	b.use()
	no := errors.New("frozen")
	b.shut.Store(&no)
	b.End("record", b.Clock())
	b.minutes(3)
	want(t, "versions", b.states(), "lease-1:revoked-unproven")
	e := b.show().Ending
	if !e.Open || !e.LastUse.IsZero() || !strings.Contains(e.Note, "status 200") || e.Provider.IsZero() {
		t.Errorf("%+v", e)
	}
	if !strings.Contains(b.story(), "outcome:failed_cannot version:cannot_revoke:lease-1:revoked-unproven") || !strings.Contains(b.story(), "outcome:works:lease-1") {
		t.Error(b.story())
	}
	b.refuses = func(string) (Answer, error) { return Answer{Status: 403}, nil } // not the documented error
	b.minutes(3)
	want(t, "versions", b.states(), "lease-1:revoked-unproven")
	answers := []Answer{{401, true}, {500, false}, {401, true}, {401, true}}
	b.refuses = func(string) (Answer, error) {
		a := answers[0]
		answers = answers[1:]
		return a, nil
	}
	b.minutes(3)
	want(t, "two in a row are needed", b.states(), "lease-1:revoked-unproven")
	b.minutes(2)
	want(t, "versions", b.states(), "lease-1:revoked-proven")
	if e := b.show().Ending; e.Open || e.LastUse.IsZero() || e.Proven.IsZero() {
		t.Errorf("%+v", e)
	}
}

// Without a probe it says unproven, and until when it may work.
func TestEndWithoutProbe(t *testing.T) {
	b := newEnding(t, func(b *bench) { b.probe = statement.Probe{} })
	b.use()
	b.End("record", b.Clock())
	b.minutes(2)
	a := b.show()
	if a.Versions[0].State != Unproven || !a.Ending.LastUse.Equal(a.Versions[0].Expires) || !strings.Contains(a.Ending.Note, "names no probe") {
		t.Errorf("%+v", a.Ending)
	}
	b.minutes(10)
	want(t, "once it has expired", b.states(), "lease-1:destroyed")
}

// A source that does not answer is told again, also by the next process, which has the lease and not the bytes.
func TestEndOverRestart(t *testing.T) {
	b := newEnding(t, func(b *bench) {
		b.life = 0
		b.wont = source.ErrDown
	})
	b.use()
	no := errors.New("frozen")
	b.shut.Store(&no)
	b.End("record", b.Clock())
	b.minutes(1)
	if e := b.show().Ending; !e.Provider.IsZero() || !strings.Contains(e.Note, "does not answer") {
		t.Errorf("%+v", e)
	}
	b.restart()
	b.End("record", b.show().Ending.Frozen.Add(-time.Hour))
	b.set(func() { b.wont = nil })
	b.minutes(1)
	want(t, "versions", b.states(), "lease-1:revoked-unproven")
	if e := b.show().Ending; e.Provider.IsZero() || !strings.Contains(e.Note, "gone with a restart") || len(b.living()) != 0 {
		t.Errorf("%+v, alive %v", e, b.living())
	}
}

// A fetch that runs while the revocation comes brings a version that is ended too.
func TestEndDuringFetch(t *testing.T) {
	b := newEnding(t, nil)
	b.change = func(*source.Secret) { b.End("record", b.Clock()) }
	if _, err := b.hold(""); !errors.Is(err, ErrOver) {
		t.Error(err)
	}
	b.settle()
	no := errors.New("frozen")
	b.shut.Store(&no)
	want(t, "versions", b.states(), "lease-1:frozen")
	b.minutes(3)
	want(t, "versions", b.states(), "lease-1:revoked-proven")
	if len(b.living()) != 0 {
		t.Error(b.living())
	}
}

// A source is not asked to end what another gave: its yes would say nothing.
func TestEndOfAnotherSource(t *testing.T) {
	b := newEnding(t, nil)
	b.use()
	b.cfg.Record.From.URL = "https://other.example/oauth"
	b.restart()
	b.End("record", b.Clock())
	b.after(0)
	want(t, "told", b.states(), "lease-1:revoked-unproven")
	want(t, "alive", strings.Join(b.living(), " "), "lease-1")
	if !strings.Contains(b.story(), "version:cannot_revoke:lease-1:revoked-unproven") {
		t.Error(b.story())
	}
}

// panics is a source that an answer brings down.
type panics struct{ *provider }

func (panics) Revoke(context.Context, ledger.Durable, *source.Secret) error { panic("demo") }

// The fault of one source is not the process's end.
func TestEndMeetsAFault(t *testing.T) {
	b := newEnding(t, func(b *bench) { b.cfg.Source = panics{b.provider} })
	b.use()
	b.End("record", b.Clock())
	b.after(0)
	want(t, "versions", b.states(), "lease-1:frozen")
	if e := b.show().Ending; !e.Provider.IsZero() || !e.Proven.IsZero() || !strings.Contains(e.Note, "lives at its provider") {
		t.Errorf("%+v", e)
	}
}

// copier is a source whose secrets are others' too.
type copier struct{ *provider }

func (copier) Copies() {}

// A copy is not ended because nothing uses it here; a revocation ends it.
func TestCopies(t *testing.T) {
	b := newEnding(t, func(b *bench) {
		b.life = 0
		b.cfg.Source = copier{b.provider}
	})
	b.use()
	b.restart()
	b.after(cached + time.Minute)
	b.after(time.Minute)
	want(t, "alive", strings.Join(b.living(), " "), "lease-1")
	b.End("record", b.Clock())
	b.after(0)
	want(t, "alive", strings.Join(b.living(), " "), "")
}
