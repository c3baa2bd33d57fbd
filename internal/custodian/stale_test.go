package custodian

import (
	"context"
	"testing"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/custodian/egress"
	"github.com/reevehq/reeve/internal/statement"
)

// TestNewsAgesDuringIntent: the news is judged right before the sending too, however long the intent took.
func TestNewsAgesDuringIntent(t *testing.T) {
	w := newWorld(t)
	w.ledger.hook = func(e *entry.Entry) {
		if e.Type == entry.Intent {
			w.age.Store(int64(31 * time.Second))
		}
	}
	if got := w.code(); got != "stale" || w.wire.n.Load() != 0 {
		t.Errorf("%q, %d sent", got, w.wire.n.Load())
	}
}

// TestOpenUseEndsWithItsNews: a stream goes on while the news is within its bound, or the bound is lengthened or waived, and is cut then.
func TestOpenUseEndsWithItsNews(t *testing.T) {
	extend := func(w *world) {
		x := statement.Extension{Estate: w.estate.Pin.Estate, Custodian: "c1", What: feedBound, Until: w.estate.Now.Add(30 * time.Minute), Created: w.estate.Now, Reason: "the authority moves"}
		must(t, w.record("extension", x, w.estate.Bea, w.estate.Cora))
	}
	waive := func(what string) func(*world) {
		return func(w *world) {
			must(t, w.record("break-glass", w.breakGlass(func(b *statement.BreakGlass) { b.Waive = []string{what} }), w.estate.Cora, w.estate.Bea))
		}
	}
	old := func(w *world) { w.age.Store(int64(31 * time.Second)) }
	for name, c := range map[string]struct {
		before func(*world) // the use begins
		lives  func(*world) // after which it goes on
		ends   func(*world) // and after which it is cut
	}{
		"bound":          {func(*world) {}, func(w *world) { w.age.Store(int64(30 * time.Second)) }, old},
		"unknown":        {func(*world) {}, func(*world) {}, func(w *world) { w.age.Store(-1) }},
		"extension":      {func(*world) {}, func(w *world) { extend(w); old(w) }, func(w *world) { w.now.Store(int64(31 * time.Minute)) }},
		"feed waiver":    {func(w *world) { old(w); waive(statement.WaiveFeed)(w) }, old, func(w *world) { w.now.Store(int64(31 * time.Minute)) }},
		"witness waiver": {func(w *world) { w.lag.Store(int64(time.Hour)); waive(statement.WaiveWitness)(w) }, func(*world) {}, func(w *world) { w.now.Store(int64(31 * time.Minute)) }},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.wire.answer = func(ctx context.Context, _ *egress.Request) (*egress.Response, error) {
				return stream(ctx, "begin"), nil
			}
			c.before(w)
			a, done := &answer{}, make(chan struct{})
			ctx, cancel := context.WithCancel(context.Background())
			defer func() { cancel(); <-done }()
			go func() { defer close(done); w.serve(ctx, g1, w.chat(), a) }()
			eventually(t, "the stream begins", func() bool { _, body, _, _ := a.snapshot(); return body == "begin" || a.refused() })
			c.lives(w)
			w.Expire()
			if _, _, broken, _ := a.snapshot(); broken != "" || a.refused() {
				t.Fatalf("cut too early: %s", broken)
			}
			c.ends(w)
			w.Expire()
			eventually(t, "the stream is cut", func() bool { _, _, broken, _ := a.snapshot(); return broken != "" })
		})
	}
}
