package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// partition stops authority and auditor in the middle of use: nothing tells the custodians anything any more.
func (r *revoker) partition(ctx context.Context) error {
	const bound = 2 * time.Second
	progress("partition")
	key := r.fleet.keys[r.trials]
	loading, stop := context.WithCancel(ctx)
	defer stop()
	var callers sync.WaitGroup
	for _, g := range r.fleet.gateways {
		callers.Go(func() {
			for loading.Err() == nil {
				if status, _ := post(loading, g, key, "partition use", nil); status != http.StatusOK {
					time.Sleep(5 * time.Millisecond)
				}
			}
		})
	}
	time.Sleep(500 * time.Millisecond)
	start := time.Now()
	for _, id := range []string{"a1", "w1"} {
		r.fleet.processes[id].signal(syscall.SIGSTOP)
	}
	time.Sleep(bound + 3*time.Second)
	last := r.uses.of("partition").Sub(start)
	for _, id := range []string{"w1", "a1"} {
		r.fleet.processes[id].signal(syscall.SIGCONT)
	}
	back := time.Now()
	for time.Since(back) < 30*time.Second && !r.uses.of("partition").After(back) {
		time.Sleep(5 * time.Millisecond)
	}
	again := r.uses.of("partition").Sub(back)
	stop()
	callers.Wait()
	fmt.Fprintf(r.out, "### Partition\n\nAuthority and auditor stopped under use (the charter's bound is %s): the last use came %.0f ms after that; use came back %.0f ms after they did.\n\n",
		bound, float64(last.Milliseconds()), float64(again.Milliseconds()))
	if last > bound+100*time.Millisecond {
		return fmt.Errorf("use went on for %s under partition, the bound is %s", last, bound)
	}
	return r.fleet.ready(ctx)
}

// restarts ends each kind of process under load, and starts it again.
func (r *revoker) restarts(ctx context.Context) error {
	fmt.Fprintf(r.out, "### Restarts under load\n\nSIGTERM and a new start, one process in turn; %d callers over all gateways, who go to the next gateway when one is not there.\n\n", r.gateways)
	fmt.Fprintf(r.out, "| process | away | requests | failed | what failed |\n|---|---|---|---|---|\n")
	key := r.fleet.keys[r.trials+1]
	for _, id := range []string{"g1", "c1", "a1", "w1"} {
		progress("restart of %s under load", id)
		row, err := r.restart(ctx, id, key)
		if err != nil {
			return err
		}
		fmt.Fprint(r.out, row)
	}
	fmt.Fprintln(r.out)
	return nil
}

func (r *revoker) restart(ctx context.Context, id string, key []byte) (string, error) {
	loading, stop := context.WithCancel(ctx)
	defer stop()
	var callers sync.WaitGroup
	var made, moved atomic.Int64
	var mu sync.Mutex
	kinds := map[string]int{}
	for i := range r.fleet.gateways {
		callers.Go(func() {
			for loading.Err() == nil {
				status, err := post(context.Background(), r.fleet.gateways[i], key, "restart use", nil)
				made.Add(1)
				switch {
				case errors.Is(err, syscall.ECONNREFUSED): // nobody took it: as a load balancer would
					moved.Add(1)
					i = (i + 1) % len(r.fleet.gateways)
				case err != nil:
					mu.Lock()
					kinds["broken connection"]++
					mu.Unlock()
				case status != http.StatusOK:
					mu.Lock()
					kinds[fmt.Sprintf("status %d", status)]++
					mu.Unlock()
				}
			}
		})
	}
	time.Sleep(500 * time.Millisecond)
	p, start := r.fleet.processes[id], time.Now()
	p.signal(syscall.SIGTERM)
	p.wait()
	if err := p.start(r.fleet.at(id, "log")); err != nil {
		return "", err
	}
	if err := r.fleet.await(ctx, id); err != nil {
		return "", err
	}
	away := time.Since(start)
	time.Sleep(time.Second)
	stop()
	callers.Wait()
	failed := 0
	var what bytes.Buffer
	for kind, n := range kinds {
		failed += n
		fmt.Fprintf(&what, "%d %s; ", n, kind)
	}
	if n := moved.Load(); n > 0 {
		fmt.Fprintf(&what, "%d refused connections, made again elsewhere", n)
	}
	names := map[byte]string{'g': "a gateway", 'c': "a custodian", 'a': "the authority", 'w': "the auditor"}
	return fmt.Sprintf("| %s | %d ms | %d | %d | %s |\n", names[id[0]], away.Milliseconds(), made.Load(), failed, strings.TrimSuffix(what.String(), "; ")), nil
}
