package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	demo "github.com/reevehq/reeve/internal/demo/upstream"
	"github.com/reevehq/reeve/internal/dispatch"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/statement"
)

// drill sizes the measurement of revocation.
type drill struct {
	bin, out                                  string
	custodians, gateways, subscribers, trials int
}

const (
	warm    = 60 * time.Millisecond // of use before a key is revoked
	streams = 1                     // open streams at each gateway in each trial
)

// uses is an upstream that remembers for each trial, which the body names, when a request last reached it.
type uses struct {
	mu   sync.Mutex
	last map[string]time.Time
}

func (u *uses) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	at := time.Now()
	body, _ := io.ReadAll(r.Body)
	trial, _, _ := strings.Cut(strings.TrimPrefix(string(body), `{"user":"`), `"`)
	trial, kind, _ := strings.Cut(trial, " ")
	u.mu.Lock()
	if at.After(u.last[trial]) {
		u.last[trial] = at
	}
	u.mu.Unlock()
	if kind == "stream" {
		w.Header().Set("Content-Type", "text/event-stream")
		for r.Context().Err() == nil {
			io.WriteString(w, event)
			w.(http.Flusher).Flush()
			select {
			case <-r.Context().Done():
			case <-time.After(5 * time.Millisecond):
			}
		}
		return
	}
	w.Header().Set("Content-Type", "application/json")
	io.WriteString(w, jsonAnswer)
}

func (u *uses) of(trial string) time.Time {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.last[trial]
}

// revocation measures how long what was revoked is used.
func revocation(ctx context.Context, o drill) error {
	base, err := os.MkdirTemp("/tmp", "reeve-fleet-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(base)
	bin, err := filepath.Abs(o.bin)
	if err != nil {
		return err
	}
	ca, err := demo.OpenCA(filepath.Join(base, "ca"))
	if err != nil {
		return err
	}
	cert, err := ca.Leaf(time.Now())
	if err != nil {
		return err
	}
	u := &uses{last: map[string]time.Time{}}
	upstream := httptest.NewUnstartedServer(u)
	upstream.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
	upstream.Config.ErrorLog = log.New(io.Discard, "", 0)
	upstream.StartTLS()
	defer upstream.CloseClientConnections()
	f, err := newFleet(base, bin, upstream.URL, ca, o.custodians, o.gateways, o.trials+2)
	if err != nil {
		return err
	}
	defer f.stop()
	if err := f.start(ctx); err != nil {
		return err
	}
	out := io.Writer(os.Stdout)
	if o.out != "" {
		w, err := os.Create(o.out)
		if err != nil {
			return err
		}
		defer w.Close()
		out = io.MultiWriter(out, w)
	}
	fmt.Fprintf(out, "Measured %s on %s/%s, %d CPUs (%s), kernel %s: %d custodians, %d gateways, an authority and an auditor as processes; %d subscribers with the real follower, clients and upstream in the measuring process.\n\n",
		time.Now().UTC().Format("2006-01-02"), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), cpuModel(), kernel(), o.custodians, o.gateways, o.subscribers)
	progress("%d subscribers begin to follow", o.subscribers)
	subscribers, err := subscribe(ctx, f, o.subscribers)
	if err != nil {
		return err
	}
	defer subscribers.stop()
	r := &revoker{drill: o, fleet: f, uses: u, subscribers: subscribers, out: out}
	for _, part := range []func(context.Context) error{r.trialsOf, r.partition, r.restarts} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	return nil
}

// revoker makes the trials.
type revoker struct {
	drill
	fleet       *fleet
	uses        *uses
	subscribers *subscribers
	out         io.Writer
	number      int64
}

// revoke signs a revocation of a key.
func (r *revoker) revoke(key []byte) ([]byte, string, error) {
	r.number++
	sum := sha256.Sum256(key)
	env, err := estate.Seal("revocation", &statement.Revocation{Estate: "demo", Signer: r.fleet.ada.Person, Number: r.number,
		Target: statement.Target{Kind: "key", ID: hex.EncodeToString(sum[:])}, Reason: "measured", Time: time.Now().UTC().Truncate(time.Microsecond)}, r.fleet.ada)
	if err != nil {
		return nil, "", err
	}
	file, err := statement.Canonical(env)
	id := env.ID()
	return file, hex.EncodeToString(id[:]), err
}

// channels are all ways but admin sockets.
func (r *revoker) channels(all bool) []dispatch.Channel {
	ways := []dispatch.Channel{dispatch.Post("authority", r.fleet.authority+"/v1/records")}
	if all {
		ways = append(ways, dispatch.Post("auditor", r.fleet.auditor+"/v1/records"))
		for _, g := range r.fleet.gateways {
			ways = append(ways, dispatch.Post("gateway", g+"/v1/reeve/records"))
		}
	}
	return ways
}

// trial is one revocation under use.
type trial struct {
	use, cut    time.Duration // from sending to the last use and to the last stream's end; use is negative when none came after it
	subscribers []time.Duration
}

// trialsOf revokes a key under use, again and again: half of the times by the authority alone.
func (r *revoker) trialsOf(ctx context.Context) error {
	results := map[bool][]trial{}
	for n := range r.trials {
		progress("revocation under use: trial %d of %d", n+1, r.trials)
		all := n%2 == 1
		t, err := r.trial(ctx, n, all)
		if err != nil {
			return fmt.Errorf("trial %d: %w", n, err)
		}
		results[all] = append(results[all], t)
	}
	fmt.Fprintf(r.out, "### Revocation under use\n\nMilliseconds from sending the record, %d trials; each: two callers and an open stream at every gateway, one W0 key.\n\n", r.trials)
	fmt.Fprintf(r.out, "| sent by | what | p50 | p99 | max |\n|---|---|---|---|---|\n")
	for _, all := range []bool{false, true} {
		name := "the authority alone"
		if all {
			name = "authority, auditor and gateways"
		}
		var use, cut, heard []time.Duration
		for _, t := range results[all] {
			use, cut, heard = append(use, max(t.use, 0)), append(cut, t.cut), append(heard, t.subscribers...)
		}
		for _, row := range []struct {
			what string
			all  []time.Duration
		}{{"last use at the upstream", use}, {"last stream ended", cut}, {"a subscriber has it", heard}} {
			fmt.Fprintf(r.out, "| %s | %s | %s |\n", name, row.what, quantiles(row.all))
		}
	}
	fmt.Fprintln(r.out)
	return nil
}

func quantiles(all []time.Duration) string {
	if len(all) == 0 {
		return "– | – | –"
	}
	slices.Sort(all)
	at := func(q float64) string {
		return fmt.Sprintf("%.1f", float64(all[min(int(q*float64(len(all))), len(all)-1)].Microseconds())/1000)
	}
	return at(0.5) + " | " + at(0.99) + " | " + at(1)
}

func (r *revoker) trial(ctx context.Context, n int, all bool) (trial, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	key, name := r.fleet.keys[n], fmt.Sprintf("t%d", n)
	file, record, err := r.revoke(key)
	if err != nil {
		return trial{}, err
	}
	var callers sync.WaitGroup
	var mu sync.Mutex
	var cut time.Time
	var failed atomic.Pointer[error]
	var revoked atomic.Bool
	begun := make(chan bool, r.gateways*streams)
	for _, g := range r.fleet.gateways {
		for range 2 {
			callers.Go(func() {
				for ctx.Err() == nil {
					status, err := post(ctx, g, key, name+" use", nil)
					if status == http.StatusUnauthorized || status == http.StatusForbidden {
						return
					}
					if (err != nil || status != http.StatusOK) && !revoked.Load() { // afterwards one may be cut in the middle
						err = fmt.Errorf("%s: status %d: %w", g, status, err)
						failed.Store(&err)
						return
					}
				}
			})
		}
		for range streams {
			callers.Go(func() {
				status, err := post(ctx, g, key, name+" stream", func() { begun <- true }) // ends with the cut
				at := time.Now()
				if !revoked.Load() {
					err = fmt.Errorf("%s: a stream ended with status %d: %w", g, status, err)
					failed.Store(&err)
				}
				mu.Lock()
				defer mu.Unlock()
				if at.After(cut) {
					cut = at
				}
			})
		}
	}
	for range r.gateways * streams {
		select {
		case <-begun:
		case <-ctx.Done():
			err := errors.New("the streams did not begin")
			if why := failed.Load(); why != nil {
				err = fmt.Errorf("%w: %w", err, *why)
			}
			return trial{}, err
		}
	}
	time.Sleep(warm)
	if err := failed.Load(); err != nil {
		return trial{}, fmt.Errorf("before anything was revoked: %w", *err)
	}
	revoked.Store(true)
	start := time.Now()
	var sending sync.WaitGroup
	for _, c := range r.channels(all) {
		sending.Go(func() {
			if err := c.Send(ctx, file); err != nil {
				err = fmt.Errorf("sending by %s: %w", c.Name, err)
				failed.Store(&err)
			}
		})
	}
	sending.Wait()
	callers.Wait()
	if ctx.Err() != nil {
		return trial{}, errors.New("it was still used after 20 s")
	}
	for len(r.subscribers.of(record)) < len(r.subscribers.all) {
		if ctx.Err() != nil {
			return trial{}, fmt.Errorf("only %d of %d subscribers have it after 20 s: %s", len(r.subscribers.of(record)), len(r.subscribers.all), r.subscribers.trouble())
		}
		time.Sleep(time.Millisecond)
	}
	if err := failed.Load(); err != nil {
		return trial{}, *err
	}
	t := trial{use: r.uses.of(name).Sub(start), cut: cut.Sub(start)}
	for _, at := range r.subscribers.of(record) {
		t.subscribers = append(t.subscribers, at.Sub(start))
	}
	return t, nil
}

// post makes one call and returns the answer's status; a stream is read to its end, which is an error when it was cut.
func post(ctx context.Context, url string, key []byte, user string, began func()) (int, error) {
	body := fmt.Sprintf(`{"user":%q,"model":"openai/demo-small"%s,"messages":[]}`, user, map[bool]string{true: `,"stream":true`}[began != nil])
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+string(key))
	req.Header.Set("Content-Type", "application/json")
	resp, err := caller.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	lines := bufio.NewReader(resp.Body)
	if began != nil {
		_, err = lines.ReadSlice('\n')
		began()
	}
	if err == nil {
		_, err = io.Copy(io.Discard, lines)
	}
	return resp.StatusCode, err
}

// caller is every caller's.
var caller = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64, DialContext: (&net.Dialer{Timeout: time.Second}).DialContext}}
