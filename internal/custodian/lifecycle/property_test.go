package lifecycle

import (
	"errors"
	"fmt"
	"math/rand"
	"strings"
	"testing"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/custodian/source"
	"github.com/reevehq/reeve/internal/statement"
)

// allowed is which state may follow which, as entries tell it.
func allowed(from, to string) bool {
	next := map[string]string{
		"":          Active + " " + Unproven, // what a sweep found was never in force
		Active:      Active + " " + Overlapping + " " + Frozen + " " + Destroyed,
		Overlapping: Frozen + " " + Unproven + " " + Destroyed,
		Frozen:      Unproven + " " + Destroyed,
		Unproven:    Frozen + " " + Proven + " " + Destroyed,
		Proven:      Destroyed,
	}[from]
	return strings.Contains(" "+next+" ", " "+to+" ")
}

// Whatever happens in whatever order: the entries of a version tell of its states in an order that there is, a use gets a version only while the
// last entry about it says active, and after an ending none of those before.
func TestLifecycleProperty(t *testing.T) {
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	for round := range 20 {
		r := rand.New(rand.NewSource(seed + int64(round)))
		t.Run(fmt.Sprint(round), func(t *testing.T) { live(t, r) })
	}
}

func live(t *testing.T, r *rand.Rand) {
	b := newEnding(t, func(b *bench) {
		b.life = []time.Duration{0, 3 * time.Minute, 10 * time.Minute, 3 * time.Hour}[r.Intn(4)]
		b.cfg.Record.From.PerWorkload = r.Intn(2) == 0
		switch r.Intn(3) {
		case 0:
			b.cfg.Source = sweeper{b.provider}
		case 1:
			b.cfg.Source = &renewer{provider: b.provider}
		}
		if r.Intn(3) == 0 {
			b.probe = statement.Probe{}
		}
	})
	no := errors.New("frozen")
	ended := map[string]bool{}
	var open []*Held
	var said []string
	for range 60 {
		act := r.Intn(12)
		said = append(said, fmt.Sprint(act))
		switch act {
		case 0, 1, 2, 3:
			h, err := b.hold([]string{"one", "two"}[r.Intn(2)])
			if err != nil {
				break
			}
			if last := b.last(h); last != Active || ended[h.Lease] {
				t.Fatalf("%s is given out, which is %s, ended %v; after %s\n%s", h.Lease, last, ended[h.Lease], said, b.story())
			}
			open = append(open, h)
		case 4, 5:
			for _, h := range open {
				h.Leave()
			}
			open = nil
		case 6:
			b.after(time.Duration(r.Intn(20)) * time.Minute)
		case 7:
			b.after(time.Duration(r.Intn(100)) * time.Second)
		case 8:
			fail := []error{nil, nil, source.ErrDown, source.ErrRefused}[r.Intn(4)]
			b.set(func() { b.fail = fail })
		case 9:
			wont := []error{nil, nil, source.ErrDown, source.ErrCannotRevoke}[r.Intn(4)]
			b.set(func() { b.wont = wont })
		case 10:
			if r.Intn(2) == 0 {
				b.shut.Store(nil)
				break
			}
			b.shut.Store(&no)
			for _, v := range b.show().Versions {
				ended[v.Lease] = true
			}
			b.End(fmt.Sprint("record ", len(said)), b.Clock())
		case 11:
			b.settle()
			b.restart()
			open = nil
		}
	}
	b.settle()
	states := map[string]string{}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.entries {
		if e.State == "" || e.Type == entry.Probe {
			continue
		}
		id := e.Workload + " " + e.Lease
		if !allowed(states[id], e.State) {
			t.Fatalf("%s: %s after %q; after %s\n", id, e.State, states[id], said)
		}
		states[id] = e.State
	}
}

// last is what the entries said last of a version.
func (b *bench) last(h *Held) (state string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.entries {
		if e.Lease == h.Lease && e.Workload == h.Workload && e.State != "" && e.Type != entry.Probe {
			state = e.State
		}
	}
	return state
}
