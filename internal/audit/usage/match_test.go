package usage

import (
	"math/rand/v2"
	"testing"
	"time"
)

// Random uses and buckets, held against a search through every way to put uses into buckets.
func TestMatchLeavesTheLeastOpen(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	r := Reach{Early: time.Second, Late: 3 * time.Second}
	start := time.Unix(1000, 0)
	for range 3000 {
		var s []supply
		var d []demand
		for range rnd.IntN(5) {
			at := start.Add(time.Duration(rnd.IntN(20)) * time.Second)
			s = append(s, supply{first: at, last: at, count: 1 + rnd.Int64N(2)})
		}
		if rnd.IntN(2) == 0 {
			for i := range 4 {
				d = append(d, demand{from: start.Add(time.Duration(i) * 5 * time.Second), to: start.Add(time.Duration(i+1) * 5 * time.Second), count: rnd.Int64N(3)})
			}
		} else {
			for range rnd.IntN(5) {
				at := start.Add(time.Duration(rnd.IntN(20)) * time.Second)
				d = append(d, demand{from: at, to: at, count: 1})
			}
		}
		want := least(r, s, d)
		r.match(s, d)
		var open int64
		for _, x := range d {
			open += x.open
		}
		if open != want {
			t.Fatalf("%d open, and %d would do: %v %v", open, want, s, d)
		}
	}
}

// least tries everything.
func least(r Reach, s []supply, d []demand) int64 {
	var uses []int // the supply of each single use
	for i, x := range s {
		for range x.count {
			uses = append(uses, i)
		}
	}
	left := make([]int64, len(d))
	var total int64
	for i, x := range d {
		left[i] = x.count
		total += x.count
	}
	var best func(k int) int64
	best = func(k int) int64 {
		if k == len(uses) {
			return 0
		}
		most := best(k + 1)
		for i := range d {
			if left[i] > 0 && r.may(&s[uses[k]], &d[i]) {
				left[i]--
				most = max(most, 1+best(k+1))
				left[i]++
			}
		}
		return most
	}
	return total - best(0)
}
