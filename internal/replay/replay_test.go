package replay

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/reevehq/reeve/internal/pop"
)

func TestNonces(t *testing.T) {
	g, now := New(10), time.Unix(1_800_000_005, 0)
	n := g.Nonce(now)
	if n != g.Nonce(now.Add(4*time.Second)) || n == g.Nonce(now.Add(5*time.Second)) {
		t.Error("a nonce is not for ten seconds")
	}
	for after, want := range map[time.Duration]bool{
		-20 * time.Second: false, -10 * time.Second: true, 0: true, Life: true, Life + 4*time.Second: true, Life + 5*time.Second: false, time.Hour: false,
	} {
		if g.Fresh(n, now.Add(after)) != want {
			t.Errorf("after %s: fresh is not %v", after, want)
		}
	}
	for i := range n {
		b := []byte(n)
		b[i] ^= 1
		if g.Fresh(string(b), now) {
			t.Errorf("byte %d can change", i)
		}
	}
	if g.Fresh("", now) || g.Fresh(n+"A", now) || New(10).Fresh(n, now) {
		t.Error("a nonce of nobody is fresh")
	}
}

func TestSpendOnce(t *testing.T) {
	g, now := New(16), time.Unix(1_800_000_000, 0)
	must := func(err, want error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Fatalf("got %v, want %v", err, want)
		}
	}
	must(g.Spend("k", "a", now), nil)
	must(g.Spend("k", "a", now), ErrReplayed)
	must(g.Spend("other", "a", now), nil)
	for after := time.Second; after < pop.Life+2*pop.Skew; after += time.Second {
		must(g.Spend("k", "a", now.Add(after)), ErrReplayed)
	}
	must(g.Spend("k", "b", now.Add(time.Second)), nil)
	must(g.Spend("k", "c", now.Add(2*time.Second)), ErrFull) // closes rather than forget
	must(g.Spend("k", "a", now.Add(2*time.Second)), ErrReplayed)
	must(g.Spend("k", "c", now.Add(memory)), nil)
	must(g.Spend("k", "b", now.Add(memory+time.Second)), ErrReplayed) // of the generation before
	must(g.Spend("k", "d", now.Add(10*memory)), nil)
	must(g.Spend("k", "c", now.Add(10*memory)), nil)
}

// A key that signs without end fills its own share.
func TestOneKeyDoesNotFillTheMemory(t *testing.T) {
	g, now := New(80), time.Unix(1_800_000_000, 0)
	for i := range 10 {
		if err := g.Spend("k", fmt.Sprint(i), now); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.Spend("k", "one more", now); !errors.Is(err, ErrFull) {
		t.Errorf("over its share: %v", err)
	}
	if err := g.Spend("other", "a", now); err != nil {
		t.Errorf("another key: %v", err)
	}
	for i := range 69 { // 80 in all
		if err := g.Spend(fmt.Sprint(i), "a", now); err != nil {
			t.Fatal(i, err)
		}
	}
	if err := g.Spend("last", "a", now); !errors.Is(err, ErrFull) {
		t.Errorf("over the room of all: %v", err)
	}
	if err := g.Spend("k", "later", now.Add(memory)); err != nil {
		t.Errorf("later: %v", err)
	}
}

// Of many that spend the same at one time, one does.
func TestSpendTogether(t *testing.T) {
	g, now := New(8000), time.Now()
	var won atomic.Int64
	var all sync.WaitGroup
	for i := range 200 {
		all.Go(func() {
			if g.Spend("k", fmt.Sprint(i%20), now) == nil {
				won.Add(1)
			}
		})
	}
	all.Wait()
	if won.Load() != 20 {
		t.Errorf("%d of 20 were spent", won.Load())
	}
}

func BenchmarkSpend(b *testing.B) {
	g, now := New(1<<30), time.Now()
	for i := 0; b.Loop(); i++ {
		if err := g.Spend("1IG2tMH7J2wbJZnOf8LJzQitKf7LMvoAElsuDMVM54Y", fmt.Sprint(i), now); err != nil {
			b.Fatal(err)
		}
	}
}
