package garbage

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"
)

func TestPercent(t *testing.T) {
	for _, c := range []struct {
		live uint64
		want int
	}{
		{0, 400}, {leastHeap, 400}, {8 << 20, 200}, {16 << 20, 100}, {32 << 20, 50}, {64 << 20, 33}, {1 << 40, 33},
	} {
		if got := percent(c.live); got != c.want {
			t.Errorf("%d live: %d %%, want %d", c.live, got, c.want)
		}
	}
}

// The goal follows what is live, up and down.
func TestLetGather(t *testing.T) {
	t.Setenv("GOGC", "")
	before := goal()
	t.Cleanup(func() { debug.SetGCPercent(before) })
	LetGather()
	quiet := goal()
	if quiet <= 33 {
		t.Fatalf("%d %% with little that is live", quiet)
	}
	live := make([][]byte, 64)
	for i := range live {
		live[i] = make([]byte, 1<<20)
	}
	eventually(t, func() bool { return goal() == 33 })
	runtime.KeepAlive(live)
	live = nil
	eventually(t, func() bool { return goal() > 33 })
}

func TestLetGatherLeavesWhatWasChosen(t *testing.T) {
	t.Setenv("GOGC", "150")
	before := goal()
	LetGather()
	if got := goal(); got != before {
		t.Errorf("%d %% became %d", before, got)
	}
}

// eventually waits for what the collector's own goroutine does after a collection.
func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the goal is %d %%", goal())
		}
		runtime.GC()
	}
}

func goal() int {
	s := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(s)
	return int(s[0].Value.Uint64())
}
