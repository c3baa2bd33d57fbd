package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/host"
)

func (b *bench) printf(format string, args ...any) { fmt.Fprintf(b.out, format, args...) }

// measureAll prints one section a question.
func (b *bench) measureAll(ctx context.Context) error {
	targets, err := b.targets()
	if err != nil {
		return err
	}
	if b.only != "" {
		proving, err := b.proving()
		if err != nil {
			return err
		}
		return b.one(append(targets, proving...))
	}
	b.printf("Measured %s on %s/%s, %d CPUs (%s), kernel %s; %d turns of %s.\n\n", time.Now().UTC().Format("2006-01-02"), runtime.GOOS, runtime.GOARCH,
		runtime.NumCPU(), cpuModel(), kernel(), b.rounds, b.each)
	if b.call != "" {
		return b.throughput(ctx, targets)
	}
	b.atRest()
	for _, section := range []func(context.Context, []*Target) error{b.throughput, b.levels, b.latency, b.weight} {
		if err := section(ctx, targets); err != nil {
			return err
		}
	}
	return b.appends(ctx)
}

// atRest prints what starting and doing nothing costs.
func (b *bench) atRest() {
	all := []int{b.pids[host.Gateway], b.pids[host.Custodian], b.pids[host.Authority], b.pids[host.Auditor]}
	time.Sleep(3 * time.Second)
	b.printf("Start: all processes ready after %d ms (estate made before). Idle memory: gateway %s, custodian %s, all four %s.\n\n", b.started.Milliseconds(),
		mib(memoryOf(all[:1])), mib(memoryOf(all[1:2])), mib(memoryOf(all)))
}

// one measures one target alone, beside the direct way where that tells what it adds: each kind of request at saturation, then
// latency at 500 requests/s, then idle streams.
func (b *bench) one(targets []*Target) error {
	at := slices.IndexFunc(targets, func(t *Target) bool { return t.Name == b.only })
	if at < 0 {
		return fmt.Errorf("there is no target %q", b.only)
	}
	t, direct := targets[at], targets[0]
	b.printf("%s: pids %v\n", t.Name, t.PIDs)
	for _, c := range calls() {
		if b.call != "" && c.Name != b.call {
			continue
		}
		r := saturate(t, c, b.conns, b.each)
		if r.Err != nil {
			return r.Err
		}
		b.printf("saturation, %s: %.0f requests/s, %s µs CPU a request, %d failed\n", c.Name, r.PerSecond(), cpu(t, r), r.Failed)
	}
	if b.call != "" {
		return nil
	}
	for _, c := range []Call{calls()[0], calls()[2]} {
		var base, r Result
		for range b.rounds {
			base.merge(atRate(direct, c, 500, b.each))
			r.merge(atRate(t, c, 500, b.each))
		}
		if r.Err != nil {
			return r.Err
		}
		b.printf("500/s, %s: %s µs CPU a request; added p50 %s, p99 %s, first byte p50 %s\n", c.Name, cpu(t, &r), ms(quantile(r.Total, 0.5)-quantile(base.Total, 0.5)),
			ms(quantile(r.Total, 0.99)-quantile(base.Total, 0.99)), ms(quantile(r.First, 0.5)-quantile(base.First, 0.5)))
	}
	if b.idle == "" {
		return nil
	}
	n, err := strconv.Atoi(strings.Split(b.idle, ",")[0])
	if err != nil {
		return err
	}
	i := idle(t, n)
	b.printf("%d idle streams: %d open, %d bytes each\n", i.Streams, i.Opened, i.Each)
	return i.Err
}

// compare measures two builds in turns, each turn the shorter the better on a machine that others use: medians over the turns.
func (b *bench) compare(ctx context.Context, other *demonstration) error {
	old, err := other.reeve(b.against)
	if err != nil {
		return err
	}
	now, err := b.reeve(b.bin)
	if err != nil {
		return err
	}
	b.printf("%d turns of %s, medians; CPU in µs a request, gateway and custodian.\n\n| %d in flight | build | requests/s | CPU | gateway | custodian |\n|---|---|--:|--:|--:|--:|\n", b.rounds, b.each, b.conns)
	for _, call := range calls() {
		if b.call != "" && call.Name != b.call {
			continue
		}
		progress("%s", call.Name)
		figures := map[*Target][4][]float64{}
		for range b.rounds {
			for _, t := range []*Target{old, now} {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				r := saturate(t, call, b.conns, b.each)
				if r.Err != nil {
					return r.Err
				}
				f := figures[t]
				all, each := r.CPUEach()
				for i, x := range []float64{r.PerSecond(), us(all), us(each[0]), us(each[1])} {
					f[i] = append(f[i], x)
				}
				figures[t] = f
			}
		}
		for _, t := range []*Target{old, now} {
			f := figures[t]
			b.printf("| %s | %s | %.0f | %.0f | %.0f | %.0f |\n", call.Name, t.Name, median(f[0]), median(f[1]), median(f[2]), median(f[3]))
		}
	}
	if b.call != "" {
		return nil
	}
	return b.compareLatency(ctx, old, now)
}

// compareLatency measures two builds at 500 requests a second: quantiles of all turns together, and the median of each turn's 99th percentile,
// which one bad second does not move.
func (b *bench) compareLatency(ctx context.Context, old, now *Target) error {
	b.printf("\n| 500 a second | build | p50 | p99 | p99.9 | median p99 of a turn | CPU |\n|---|---|--:|--:|--:|--:|--:|\n")
	for _, call := range []Call{calls()[0], calls()[2]} {
		progress("%s at 500 a second", call.Name)
		all, p99 := map[*Target]*Result{old: {}, now: {}}, map[*Target][]float64{}
		for range b.rounds {
			for _, t := range []*Target{old, now} {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				r := atRate(t, call, 500, b.each)
				if r.Err != nil {
					return r.Err
				}
				p99[t] = append(p99[t], float64(quantile(r.Total, 0.99)))
				all[t].merge(r)
			}
		}
		for _, t := range []*Target{old, now} {
			r := all[t]
			cpu, _ := r.CPUEach()
			b.printf("| %s | %s | %s | %s | %s | %s | %.0f |\n", call.Name, t.Name, ms(quantile(r.Total, 0.5)), ms(quantile(r.Total, 0.99)), ms(quantile(r.Total, 0.999)),
				ms(time.Duration(median(p99[t]))), us(cpu))
		}
	}
	return nil
}

func median(all []float64) float64 {
	slices.Sort(all)
	return all[len(all)/2]
}

// inTurns measures each target in each round, so that what else the machine does meets all of them.
func (b *bench) inTurns(ctx context.Context, targets []*Target, measure func(*Target) *Result) ([]Result, error) {
	sums := make([]Result, len(targets))
	for range b.rounds {
		for i, t := range targets {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			sums[i].merge(measure(t))
		}
	}
	return sums, nil
}

// throughput is at saturation.
func (b *bench) throughput(ctx context.Context, targets []*Target) error {
	for _, call := range calls() {
		if b.call != "" && call.Name != b.call {
			continue
		}
		progress("saturation, %s", call.Name)
		sums, err := b.inTurns(ctx, targets, func(t *Target) *Result { return saturate(t, call, b.conns, b.each) })
		if err != nil {
			return err
		}
		b.printf("### Saturation, %s, %d in flight\n\n| | requests/s | ÷ one-process proxy | CPU µs a request | failed | p50 | p99 |\n|---|--:|--:|--:|--:|--:|--:|\n", call.Name, b.conns)
		base := sums[1].PerSecond()
		for i, t := range targets {
			r := &sums[i]
			b.printf("| %s | %.0f | %.2f | %s | %d | %s | %s |\n", t.Name, r.PerSecond(), r.PerSecond()/base, cpu(t, r), r.Failed, ms(quantile(r.Total, 0.5)), ms(quantile(r.Total, 0.99)))
		}
		b.printf("\n")
		b.complain(targets, sums)
	}
	return nil
}

// latency is at a fixed rate, as what reeve and the others add to the direct way.
func (b *bench) latency(ctx context.Context, targets []*Target) error {
	for _, rate := range []int{500, 2000} {
		for _, call := range []Call{calls()[0], calls()[2]} {
			if call.SSE && rate > 500 {
				continue
			}
			progress("latency at %d requests/s, %s", rate, call.Name)
			sums, err := b.inTurns(ctx, targets, func(t *Target) *Result { return atRate(t, call, rate, b.each) })
			if err != nil {
				return err
			}
			b.printf("### Added latency at %d requests/s, %s\n\n| | p50 | p99 | first byte p50 | added p50 | added p99 | first byte later, p50 | failed |\n|---|--:|--:|--:|--:|--:|--:|--:|\n", rate, call.Name)
			p50, p99, first := quantile(sums[0].Total, 0.5), quantile(sums[0].Total, 0.99), quantile(sums[0].First, 0.5)
			for i, t := range targets {
				r := &sums[i]
				b.printf("| %s | %s | %s | %s | %s | %s | %s | %d |\n", t.Name, ms(quantile(r.Total, 0.5)), ms(quantile(r.Total, 0.99)), ms(quantile(r.First, 0.5)),
					ms(quantile(r.Total, 0.5)-p50), ms(quantile(r.Total, 0.99)-p99), ms(quantile(r.First, 0.5)-first), r.Failed)
			}
			b.printf("\n")
			b.complain(targets, sums)
		}
	}
	return nil
}

// weight is memory per idle stream.
func (b *bench) weight(ctx context.Context, targets []*Target) error {
	if b.idle == "" {
		return nil
	}
	b.printf("### Memory of idle streams\n\n| | streams | open | bytes a stream, all processes |\n|---|--:|--:|--:|\n")
	for _, word := range strings.Split(b.idle, ",") {
		n, err := strconv.Atoi(word)
		if err != nil {
			return err
		}
		for _, t := range targets[1:] {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			progress("%d idle streams, %s", n, t.Name)
			i := idle(t, n)
			b.printf("| %s | %d | %d | %d |\n", t.Name, n, i.Opened, i.Each)
			if i.Err != nil {
				fmt.Fprintf(os.Stderr, "bench: %s, idle: %v\n", t.Name, i.Err)
			}
		}
	}
	b.printf("\n")
	return nil
}

// appends runs the ledger's own benchmark.
func (b *bench) appends(ctx context.Context) error {
	progress("ledger appends")
	cmd := exec.CommandContext(ctx, "go", "test", "./internal/ledger", "-run", "^$", "-bench", "Append", "-benchtime", "2s", "-benchmem")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("measuring the ledger: %w\n%s", err, out)
	}
	b.printf("### Ledger, one durable append\n\n```\n")
	for _, line := range strings.Split(string(out), "\n") {
		if strings.HasPrefix(line, "Benchmark") {
			b.printf("%s\n", line)
		}
	}
	b.printf("```\n")
	return nil
}

func (b *bench) complain(targets []*Target, sums []Result) {
	for i := range sums {
		if sums[i].Err != nil {
			fmt.Fprintf(os.Stderr, "bench: %s: %d failed, the first with: %v\n", targets[i].Name, sums[i].Failed, sums[i].Err)
		}
	}
}

func cpu(t *Target, r *Result) string {
	if len(t.PIDs) == 0 {
		return "–"
	}
	all, _ := r.CPUEach()
	return fmt.Sprintf("%.0f", us(all))
}

func us(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

func ms(d time.Duration) string { return fmt.Sprintf("%.2f ms", float64(d.Microseconds())/1000) }

func mib(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

func cpuModel() string {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown"
	}
	_, model, _ := strings.Cut(string(b), "model name\t: ")
	model, _, _ = strings.Cut(model, "\n")
	return strings.TrimSpace(model)
}

func kernel() string {
	b, err := os.ReadFile(filepath.Join("/proc/sys/kernel", "osrelease"))
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(b))
}
