// Package garbage says how much of it a process that passes requests on lets gather before it is collected.
package garbage

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// least is how many bytes may gather, however little is live.
const least = 16 << 20

// LetGather lets 16 MiB of garbage gather before they are collected, or a third as much as is live where that is more. Go itself
// collects when there is as much as is live. Of live bytes a process that passes requests on has few while it is busy: it would
// collect many times a second. It has many while many streams are open, which are idle most of the time. GOGC in the environment
// has been chosen by somebody and stays.
func LetGather() {
	if os.Getenv("GOGC") == "" {
		gather(new(collected))
	}
}

// collected is found unreachable by every collection. It has a pointer, so that it shares its memory with nothing.
type collected struct{ _ *byte }

// gather sets the collector's goal by what the last collection found live, after this one and after every later one.
func gather(c *collected) {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	debug.SetGCPercent(percent(live[0].Value.Uint64()))
	runtime.SetFinalizer(c, gather)
}

// leastHeap is what Go takes for live at least, in bytes: runtime's heapMinimum at 100 %.
const leastHeap = 4 << 20

// percent is the garbage that may gather, as a share of what is live.
func percent(live uint64) int { return int(max(33, 100*least/max(live, leastHeap))) }
