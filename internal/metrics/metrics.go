// Package metrics counts and serves in the Prometheus text format, version 0.0.4
// (https://prometheus.io/docs/instrumenting/exposition_formats/). It is small because the custodian imports it.
package metrics

import (
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Registry holds one process's metrics. The zero Registry is ready.
type Registry struct {
	mu       sync.Mutex
	families []*family
}

// family is every series of one name.
type family struct {
	name, help, kind string
	series           []series // guarded by Registry.mu
}

type series interface {
	write(w io.Writer, name string)
}

// Counter is a number that only rises.
type Counter struct {
	labels string
	n      atomic.Int64
}

// Add adds n, which must not be negative.
func (c *Counter) Add(n int64) { c.n.Add(n) }

// Inc adds one.
func (c *Counter) Inc() { c.n.Add(1) }

// Value is the present count.
func (c *Counter) Value() int64 { return c.n.Load() }

func (c *Counter) write(w io.Writer, name string) {
	fmt.Fprintf(w, "%s%s %d\n", name, c.labels, c.n.Load())
}

// Gauge is a number that goes up and down.
type Gauge struct {
	labels string
	n      atomic.Int64
}

// Set sets the value.
func (g *Gauge) Set(n int64) { g.n.Store(n) }

// Add adds n, which may be negative.
func (g *Gauge) Add(n int64) { g.n.Add(n) }

// Value is the present value.
func (g *Gauge) Value() int64 { return g.n.Load() }

func (g *Gauge) write(w io.Writer, name string) {
	fmt.Fprintf(w, "%s%s %d\n", name, g.labels, g.n.Load())
}

// gaugeFunc is read when it is scraped.
type gaugeFunc struct {
	labels string
	read   func() float64
}

func (g *gaugeFunc) write(w io.Writer, name string) {
	fmt.Fprintf(w, "%s%s %s\n", name, g.labels, number(g.read()))
}

// Histogram counts durations in buckets of 100 µs to 100 s.
type Histogram struct {
	labels string
	counts [len(bounds) + 1]atomic.Int64
	sumNS  atomic.Int64
}

// bounds are the buckets' upper bounds in seconds.
var bounds = [...]float64{0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 100}

// Observe counts one duration.
func (h *Histogram) Observe(d time.Duration) {
	i, _ := slices.BinarySearch(bounds[:], d.Seconds())
	h.counts[i].Add(1)
	h.sumNS.Add(int64(d))
}

func (h *Histogram) write(w io.Writer, name string) {
	var total int64
	for i := range h.counts {
		total += h.counts[i].Load()
		le := "+Inf"
		if i < len(bounds) {
			le = number(bounds[i])
		}
		fmt.Fprintf(w, "%s_bucket%s %d\n", name, join(h.labels, `le="`+le+`"`), total)
	}
	fmt.Fprintf(w, "%s_sum%s %s\n%s_count%s %d\n", name, h.labels, number(time.Duration(h.sumNS.Load()).Seconds()), name, h.labels, total)
}

// Counter registers a counter. labels alternate name and value. Registering the same name and labels again panics.
func (r *Registry) Counter(name, help string, labels ...string) *Counter {
	c := &Counter{labels: format(labels)}
	r.add(name, help, "counter", c)
	return c
}

// Gauge registers a gauge.
func (r *Registry) Gauge(name, help string, labels ...string) *Gauge {
	g := &Gauge{labels: format(labels)}
	r.add(name, help, "gauge", g)
	return g
}

// GaugeFunc registers a gauge that read returns at each scrape.
func (r *Registry) GaugeFunc(name, help string, read func() float64, labels ...string) {
	r.add(name, help, "gauge", &gaugeFunc{format(labels), read})
}

// Histogram registers a histogram of durations; by convention its name ends in _seconds.
func (r *Registry) Histogram(name, help string, labels ...string) *Histogram {
	h := &Histogram{labels: format(labels)}
	r.add(name, help, "histogram", h)
	return h
}

func (r *Registry) add(name, help, kind string, s series) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.IndexFunc(r.families, func(f *family) bool { return f.name == name })
	if i < 0 {
		r.families = append(r.families, &family{name: name, help: help, kind: kind, series: []series{s}})
		return
	}
	f := r.families[i]
	if f.kind != kind {
		panic(fmt.Sprintf("metrics: %s is registered as %s and as %s", name, f.kind, kind))
	}
	f.series = append(f.series, s)
}

// WriteTo writes every metric in the text format.
func (r *Registry) WriteTo(w io.Writer) (int64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var b strings.Builder
	for _, f := range r.families {
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n", f.name, f.help, f.name, f.kind)
		for _, s := range f.series {
			s.write(&b, f.name)
		}
	}
	n, err := io.WriteString(w, b.String())
	return int64(n), err
}

// ServeHTTP answers a scrape.
func (r *Registry) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	r.WriteTo(w)
}

// Set is a counter for each value of one label, made when it is first counted. Values must come from a small fixed set.
type Set struct {
	r                 *Registry
	name, help, label string
	mu                sync.RWMutex
	counters          map[string]*Counter
}

// CounterSet registers a set of counters.
func (r *Registry) CounterSet(name, help, label string) *Set {
	return &Set{r: r, name: name, help: help, label: label, counters: map[string]*Counter{}}
}

// Of returns the counter of one label value.
func (s *Set) Of(value string) *Counter {
	s.mu.RLock()
	c := s.counters[value]
	s.mu.RUnlock()
	if c != nil {
		return c
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c = s.counters[value]; c == nil {
		c = s.r.Counter(s.name, s.help, s.label, value)
		s.counters[value] = c
	}
	return c
}

func format(labels []string) string {
	if len(labels) == 0 {
		return ""
	}
	pairs := make([]string, 0, len(labels)/2)
	for i := 0; i+1 < len(labels); i += 2 {
		pairs = append(pairs, labels[i]+`="`+escape(labels[i+1])+`"`)
	}
	return "{" + strings.Join(pairs, ",") + "}"
}

func join(labels, pair string) string {
	if labels == "" {
		return "{" + pair + "}"
	}
	return labels[:len(labels)-1] + "," + pair + "}"
}

func escape(v string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(v)
}

func number(f float64) string {
	if math.IsInf(f, 1) {
		return "+Inf"
	}
	return strconv.FormatFloat(f, 'g', -1, 64)
}
