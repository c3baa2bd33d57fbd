package ledger

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
)

// BenchmarkAppend measures how long a caller waits for a durable entry, on the disk below TMPDIR.
func BenchmarkAppend(b *testing.B) {
	for _, appenders := range []int{1, 16, 256} {
		b.Run(fmt.Sprint(appenders), func(b *testing.B) {
			cfg := testConfig(b)
			cfg.SegmentSize = 0 // the default
			l := open(b, cfg)
			var mu sync.Mutex
			var all []time.Duration
			var wg sync.WaitGroup
			b.ReportAllocs()
			b.ResetTimer()
			for a := range appenders {
				n := b.N / appenders
				if a < b.N%appenders {
					n++
				}
				wg.Go(func() {
					e := intent()
					took := make([]time.Duration, 0, n)
					for range n {
						start := time.Now()
						if _, err := l.Append(e, nil); err != nil {
							b.Error(err)
							return
						}
						took = append(took, time.Since(start))
					}
					mu.Lock()
					all = append(all, took...)
					mu.Unlock()
				})
			}
			wg.Wait()
			b.StopTimer()
			slices.Sort(all)
			b.ReportMetric(float64(all[len(all)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "p99-µs")
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "appends/s")
		})
	}
}
