package index

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A block has the rows that were packed, whatever their numbers are.
func TestBlock(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	number := func() int64 {
		switch r.IntN(8) {
		case 0:
			return []int64{0, -1, math.MaxInt64, math.MinInt64}[r.IntN(4)]
		default:
			return r.Int64N(1 << r.IntN(63))
		}
	}
	for range 2000 {
		at := spot{hourly, r.Int64N(1<<32) / hourly * hourly, r.Int64N(1 << 20)}
		var rows, got []row
		for range r.IntN(2 * block) {
			rows = append(rows, row{at.number*block + r.Int64N(block), number(), Sum{number(), number(), number(), number(), number(), number(), number(), number()}})
		}
		rows = merged(rows)
		err := at.unpack(at.pack(rows), func(r *row) error {
			got = append(got, *r)
			return nil
		})
		if err != nil || !cmp.Equal(got, rows, cmp.AllowUnexported(row{})) && len(rows) > 0 {
			t.Fatalf("%+v: %v\n%s", at, err, cmp.Diff(rows, got, cmp.AllowUnexported(row{})))
		}
	}
}

// A damaged block is refused, and every row that is read is one of its subjects'.
func FuzzBlock(f *testing.F) {
	at := spot{hourly, 1_790_000_000 / hourly * hourly, 0}
	f.Add(at.pack([]row{{0, 7, Sum{Count: 1, First: 1_790_000_000e9, Last: 1_790_000_001e9}}, {9, 7, Sum{Count: 2, Done: 1, Bytes: 400}}}))
	f.Add(at.pack([]row{{-1, 7, Sum{Count: 1}}}))
	f.Add(at.pack([]row{{block, 7, Sum{Count: 1}}}))
	f.Add([]byte{0x80})
	f.Fuzz(func(t *testing.T, b []byte) {
		at.unpack(b, func(r *row) error {
			if r.subject < 0 || r.subject >= block {
				t.Errorf("a row of subject %d", r.subject)
			}
			return nil
		})
	})
}
