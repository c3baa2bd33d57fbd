package ledger

import (
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

// pieces notes how much was written between two syncs.
type pieces struct {
	file
	unsynced int
	synced   []int
}

func (p *pieces) WriteAt(b []byte, _ int64) (int, error) {
	p.unsynced += len(b)
	return len(b), nil
}

func (p *pieces) Sync() error {
	p.synced = append(p.synced, p.unsynced)
	p.unsynced = 0
	return nil
}

// What is zeroed ahead stands in nobody's way, and what somebody waits for is synced once. All of it is synced at the end.
func TestZeroingAhead(t *testing.T) {
	for _, c := range []struct {
		name   string
		urgent func(asked int) bool
		want   []int
	}{
		{"ahead", func(int) bool { return false }, []int{zeroPiece, zeroPiece, zeroPiece, 100}},
		{"at once", func(int) bool { return true }, []int{3*zeroPiece + 100}},
		{"at once from the second piece on", func(n int) bool { return n > 1 }, []int{zeroPiece, 2*zeroPiece + 100}},
		{"no longer", func(n int) bool { return n < 3 }, []int{3 * zeroPiece, 100}},
	} {
		p, asked := &pieces{}, 0
		err := zero(p, 8, 8+3*zeroPiece+100, func() bool { asked++; return c.urgent(asked) })
		if diff := gocmp.Diff(c.want, p.synced); diff != "" || err != nil || p.unsynced > 0 {
			t.Errorf("%s: %v, %d not synced, %s", c.name, err, p.unsynced, diff)
		}
	}
}

// Whoever waits for a segment makes it urgent, and so does who ends the making of them.
func TestWaitingIsUrgent(t *testing.T) {
	l := &Log{vol: &volume{spares: make(chan spare), stop: make(chan struct{})}}
	looked := make(chan error)
	go func() { looked <- l.look() }()
	until(t, l.vol.urgent.Load)
	l.vol.spares <- spare{file: &pieces{}}
	if err := <-looked; err != nil || l.vol.ahead == nil || l.vol.urgent.Load() {
		t.Errorf("%v, ahead %v, urgent %v", err, l.vol.ahead, l.vol.urgent.Load())
	}
	l.vol.stopPreparing()
	if !l.vol.urgent.Load() {
		t.Error("ending it has to wait for the pauses")
	}
}
