package metrics

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestTextFormat(t *testing.T) {
	var r Registry
	r.Counter("reeve_a_total", "As.", "kind", "x\"y").Add(3)
	r.Counter("reeve_a_total", "As.", "kind", "z").Inc()
	r.Gauge("reeve_g", "A gauge.").Set(-2)
	r.GaugeFunc("reeve_f", "Read at scrape.", func() float64 { return 1.5 })
	h := r.Histogram("reeve_h_seconds", "Durations.", "step", "s")
	h.Observe(100 * time.Microsecond) // a bound is inclusive
	h.Observe(200 * time.Second)

	var b strings.Builder
	r.WriteTo(&b)
	var got []string
	for _, line := range strings.Split(b.String(), "\n") {
		if !strings.Contains(line, "_bucket") || strings.Contains(line, `"0.0001"`) || strings.Contains(line, `"100"`) || strings.Contains(line, "Inf") {
			got = append(got, line)
		}
	}
	want := []string{
		"# HELP reeve_a_total As.", "# TYPE reeve_a_total counter",
		`reeve_a_total{kind="x\"y"} 3`, `reeve_a_total{kind="z"} 1`,
		"# HELP reeve_g A gauge.", "# TYPE reeve_g gauge", "reeve_g -2",
		"# HELP reeve_f Read at scrape.", "# TYPE reeve_f gauge", "reeve_f 1.5",
		"# HELP reeve_h_seconds Durations.", "# TYPE reeve_h_seconds histogram",
		`reeve_h_seconds_bucket{step="s",le="0.0001"} 1`, `reeve_h_seconds_bucket{step="s",le="100"} 1`, `reeve_h_seconds_bucket{step="s",le="+Inf"} 2`,
		`reeve_h_seconds_sum{step="s"} 200.0001`, `reeve_h_seconds_count{step="s"} 2`, "",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestSetMakesEachCounterOnce(t *testing.T) {
	var r Registry
	s := r.CounterSet("reeve_d_total", "Ds.", "reason")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				s.Of("a").Inc()
			}
		})
	}
	wg.Wait()
	if n := s.Of("a").Value(); n != 800 {
		t.Errorf("counted %d, want 800", n)
	}
}
