package ceiling

import (
	"math/rand/v2"
	"testing"
	"time"
)

// TestWindowModel compares the window with a list of all events.
func TestWindowModel(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	for range 200 {
		var w window
		type event struct{ sec, n int64 }
		var all []event
		sec := int64(0)
		for range 200 {
			switch rnd.IntN(10) {
			case 0:
				sec += rnd.Int64N(3 * span)
			default:
				sec += rnd.Int64N(4)
			}
			n := rnd.Int64N(5)
			w.add(sec, n)
			all = append(all, event{sec, n})
			want, oldest := int64(0), int64(-1)
			for _, e := range all {
				if e.sec > sec-span {
					want += e.n
					if e.n > 0 && oldest < 0 {
						oldest = e.sec
					}
				}
			}
			if got := w.at(sec); got != want {
				t.Fatalf("at %d: %d, want %d", sec, got, want)
			}
			if back := w.at(sec - 5); back != want {
				t.Fatalf("a clock that went back changed the count from %d to %d", want, back)
			}
			if oldest >= 0 {
				if got, want := w.frees(sec), oldest+span-sec; got != want {
					t.Fatalf("at %d the oldest of second %d frees in %d, want %d", sec, oldest, got, want)
				}
			}
		}
	}
}
