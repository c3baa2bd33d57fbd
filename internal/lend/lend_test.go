package lend

import "testing"

func TestTake(t *testing.T) {
	for _, c := range []struct{ n, size int }{
		{0, 4 << 10}, {1, 4 << 10}, {4 << 10, 4 << 10}, {4<<10 + 1, 8 << 10}, {64 << 10, 64 << 10}, {64<<10 + 1, 128 << 10}, {32 << 20, 32 << 20},
	} {
		var p Pool
		b := p.Take(c.n)
		if len(b) != c.size || cap(b) != c.size || Size(c.n) != c.size {
			t.Errorf("Take(%d) lent %d of %d bytes, Size says %d; want %d", c.n, len(b), cap(b), Size(c.n), c.size)
		}
	}
	if Size(Most) != Most {
		t.Error("the largest size is not lent")
	}
}

// What was given back is lent again, whole, and only as its own size.
func TestGive(t *testing.T) {
	var p Pool
	b := p.Take(5 << 10)
	b[0] = 1
	for range 100 { // the race detector makes a sync.Pool drop some
		p.Give(b[:3])
		if other := p.Take(9 << 10); len(other) != 16<<10 {
			t.Fatalf("lent %d bytes", len(other))
		}
		again := p.Take(8 << 10)
		if len(again) != 8<<10 {
			t.Fatalf("lent %d bytes", len(again))
		}
		if again[0] == 1 {
			return
		}
	}
	t.Error("nothing that was given back was ever lent again")
}
