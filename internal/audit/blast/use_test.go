package blast_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/blast"
	"github.com/reevehq/reeve/internal/audit/history"
)

func TestUses(t *testing.T) {
	e := newEstate(t)
	for _, c := range []struct {
		name       string
		credential string
		world      func(*world)
		to         time.Duration // 0 for what is cosigned
		want       blast.Verdict
		lines      []string
	}{
		{"by two workloads' proofs", "support-openai", func(w *world) {
			w.use(2, 5*minute, "support-agent", "g1", "support-openai", "pop")
			w.use(1, 6*minute, "support-agent", "g2", "support-openai", "bearer")
			w.put(logC1, 7*minute, entry.Entry{Type: entry.Deny, Tenant: "acme", Unit: "research", Workload: "research-agent", Gateway: "g1", Credential: "support-openai", Decision: "deny", Reason: "cross_unit"})
		}, 0, blast.Used, []string{"intent support-agent g2 W0 bearer 1 lock 1", "intent support-agent g1 W2 pop 2 lock 1", "refused research-agent cross_unit"}},
		{"not used, and that is proven", "support-openai", func(*world) {}, 0, blast.None, nil},
		{"refused only", "support-openai", func(w *world) {
			w.put(logC1, 7*minute, entry.Entry{Type: entry.Deny, Tenant: "acme", Unit: "research", Workload: "research-agent", Gateway: "g1", Credential: "support-openai", Decision: "deny", Reason: "cross_unit"})
		}, 0, blast.None, []string{"refused research-agent cross_unit"}},
		{"the window goes beyond what is cosigned", "support-openai", func(*world) {}, window, blast.Unknown, nil},
		{"a silence", "support-openai", func(w *world) { w.quiet[logC1] = [2]time.Duration{5 * minute, 6 * minute} }, 0, blast.Unknown, nil},
		{"a silence of another custodian", "support-openai", func(w *world) { w.quiet[logC2] = [2]time.Duration{5 * minute, 6 * minute} }, 0, blast.None, nil},
		{"without an outcome it counts as used", "support-openai", func(w *world) {
			w.intent(5*minute, "support-agent", "g1", "support-openai", "pop")
		}, 0, blast.Used, []string{"intent support-agent g1 W2 pop 1 lock 1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, e)
			c.world(w)
			var to time.Time
			if c.to > 0 {
				to = start().Add(c.to)
			}
			u, err := blast.UsesOf(t.Context(), w.books(), c.credential, start(), to, 0)
			if err != nil {
				t.Fatal(err)
			}
			var lines []string
			for _, x := range u.Uses {
				lines = append(lines, fmt.Sprintf("%s %s %s %s %s %d lock %d", x.Type, x.Workload, x.Gateway, x.Level, x.Proof, x.Count, x.Lock))
			}
			for _, x := range u.Refused {
				lines = append(lines, fmt.Sprintf("refused %s %s", x.Workload, x.Reason))
			}
			if d := cmp.Diff(c.lines, lines); u.Verdict != c.want || d != "" {
				t.Errorf("%s %s", u.Verdict, d)
			}
		})
	}
	if _, err := blast.UsesOf(t.Context(), newWorld(t, e).books(), "nothing", start(), time.Time{}, 0); !errors.Is(err, blast.ErrUnknown) {
		t.Error(err)
	}
}

func TestBreaks(t *testing.T) {
	w := newWorld(t, newEstate(t))
	w.use(2, 5*minute, "research-agent", "g1", "research-openai", "pop")
	x, err := blast.Breaks(t.Context(), w.books(), "research-openai", start())
	if err != nil {
		t.Fatal(err)
	}
	want := &blast.Broken{Credential: "research-openai", Unit: "research", Lifecycle: "cora", From: start(), Users: []blast.User{
		{Unit: "research", Workload: "research-agent", Uses: 2, Last: start().Add(5*minute + time.Second), May: true},
		{Unit: "research", Workload: "vouched-agent", May: true},
	}, Models: []string{"openai/demo-embed", "openai/demo-large", "openai/demo-small"}, Aliases: []string{"fast → openai/demo-small"}, Others: []blast.Substitute{}}
	if d := cmp.Diff(want, x); d != "" {
		t.Error(d)
	}
}

// TestUsesAsOf: what came after an instant is not part of the answer as of it.
func TestUsesAsOf(t *testing.T) {
	w := newWorld(t, newEstate(t))
	w.use(1, 5*minute, "research-agent", "g1", "research-openai", "pop")
	w.use(1, 20*minute, "support-agent", "g1", "support-openai", "pop")
	b := w.books()
	then, err := b.AsOf(start().Add(10 * minute))
	if err != nil {
		t.Fatal(err)
	}
	for credential, want := range map[string]blast.Verdict{"research-openai": blast.Used, "support-openai": blast.None} {
		u, err := blast.UsesOf(t.Context(), then, credential, start(), time.Time{}, 0)
		if err != nil {
			t.Fatal(err)
		}
		if u.Verdict != want || u.To.After(then.Now) {
			t.Errorf("%s: %s until %s", credential, u.Verdict, u.To)
		}
		x, err := blast.Breaks(t.Context(), then, credential, start())
		if err != nil {
			t.Fatal(err)
		}
		for _, user := range x.Users {
			if user.Last.After(then.Now) {
				t.Errorf("%s: %+v", credential, user)
			}
		}
	}
	if u, err := blast.UsesOf(t.Context(), b, "support-openai", start(), time.Time{}, 0); err != nil || u.Verdict != blast.Used {
		t.Errorf("now: %+v %v", u, err)
	}
	if _, err := b.AsOf(start().Add(-1000 * time.Hour)); !errors.Is(err, history.ErrBefore) {
		t.Error(err)
	}
}
