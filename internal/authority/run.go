package authority

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/reevehq/reeve/internal/feed"
	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/internal/process"
	"github.com/reevehq/reeve/internal/serve"
	"github.com/reevehq/reeve/internal/witness"
)

// poll is the time between two looks at the signed store.
const poll = 250 * time.Millisecond

// drain is how long open requests have when the process is told to stop.
const drain = 2 * time.Second

// run is the start order: local statements, ledger, then the stream.
func run(ctx context.Context, rt *process.Runtime, cfg *Config, reload <-chan *Config) error {
	for _, part := range []string{"statements", "ledger", "listener"} {
		rt.Ready.Set(part, "starting")
	}
	l, err := process.Listen(cfg.Listen) // first: whoever starts beside this authority waits here instead of coming again
	if err != nil {
		return err
	}
	defer l.Close()
	rt.Log.Info("listening", "address", l.Addr().String())
	logKey, err := ledger.LoadKey(cfg.LogKey)
	if err != nil {
		return err
	}
	db, err := cfg.openStore(ctx)
	if err != nil {
		return err
	}
	defer db.Close()
	a, err := open(cfg, cfg.pin(rt.Demo), db, nil, rt.Log, rt.Metrics)
	if err != nil {
		return err
	}
	if err := a.readKeys(cfg); err != nil {
		return err
	}
	if a.scim, err = scimTokens(cfg.SCIM); err != nil {
		return err
	}
	if cfg.TokenKey != "" {
		a.serveTokens(*a.tokenKey.Load())
		defer a.issuers.Close()
	}
	cert := new(serve.Certificate)
	if err := cert.Load(cfg.TLS); err != nil {
		return err
	}
	if err := a.awaitSet(ctx, rt); err != nil {
		return err
	}
	if err := a.readKeys(cfg); err != nil { // now that the charter says which are enrolled
		return err
	}
	if _, err := rt.Restrict(a.Set().Charter.RequireConfinement); err != nil {
		return err
	}
	log, err := ledger.Open(ctx, ledger.Config{
		Key: logKey, Dir: filepath.Join(cfg.StateDir, "ledger"), Tiles: cfg.TilesDir, Group: cfg.TilesGroup,
		Witnesses: a.witnesses(cfg.Witnesses), Need: a.Set().Charter.Witnesses.Need, Heartbeat: time.Minute, Logger: rt.Log,
		SegmentSize: 4 << 20, Retire: ledger.RetiredBy(a.Set()), Enrolled: a.logKey,
	})
	if err != nil {
		return fmt.Errorf("the authority's ledger cannot be used, so nothing is published: %w", err)
	}
	rt.Metrics.GaugeFunc("reeve_authority_ledger_uncosigned", "Entries that no cosigned checkpoint holds.", func() float64 {
		_, n := log.Uncosigned()
		return float64(n)
	})
	if err := a.attach(log); err != nil {
		rt.Log.Warn("not everything in the store can be published", "error", err)
	}
	rt.Ready.Set("statements", "")
	err = a.serve(ctx, rt, cfg, cert.Listen(serve.Share(l, process.FileLimit()*4/5)), log, reload, cert)
	return errors.Join(err, log.Close())
}

// awaitSet waits for a signed store that verifies.
func (a *Authority) awaitSet(ctx context.Context, rt *process.Runtime) error {
	for {
		err := a.Reload(true)
		if a.Set() != nil {
			return nil
		}
		if rt.Ready.Set("statements", fmt.Sprintf("no verified set in %s: %v; publish one with 'reeve publish'", a.estate, err)) {
			rt.Log.Error("waiting for statements", "store", a.estate, "error", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(poll):
		}
	}
}

// witnesses are those of the configuration, believed by the keys that the charter has for them at the time.
func (a *Authority) witnesses(list []Witness) []ledger.Witness {
	var all []ledger.Witness
	for _, w := range list {
		all = append(all, &witness.Client{URL: w.URL, HTTP: &http.Client{Timeout: 10 * time.Second}, Keys: func() note.Verifiers {
			var keys []string
			for _, k := range a.Set().ServiceKeys("witness", a.clock()) {
				if w.ID == "" || k.Process == w.ID {
					keys = append(keys, k.Key)
				}
			}
			v, err := witness.Verifiers(keys)
			if err != nil {
				a.log.Warn("charter has a malformed witness key", "error", err)
			}
			return v
		}})
	}
	return all
}

// serve answers, beats and reloads until ctx ends.
func (a *Authority) serve(ctx context.Context, rt *process.Runtime, cfg *Config, l net.Listener, log *ledger.Log, reload <-chan *Config, cert *serve.Certificate) error {
	streams, stop := context.WithCancel(context.Background())
	defer stop()
	server := &http.Server{
		Handler: a.Handler(), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		BaseContext: func(net.Listener) context.Context { return streams },
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	rt.Ready.Set("listener", "")
	go a.beats(streams)
	go a.tell(streams)
	led := make(chan struct{})
	go func() { defer close(led); a.lead(streams) }()
	proved := make(chan struct{})
	go func() { defer close(proved); a.proving(streams, log.Publish) }()
	defer func() { stop(); <-led; <-proved }()
	a.judge(rt, log)
	look := time.NewTicker(poll)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			stop()
			end, cancel := context.WithTimeout(context.Background(), drain)
			defer cancel()
			return errors.Join(server.Shutdown(end), server.Close())
		case err := <-failed:
			return fmt.Errorf("serving: %w", err)
		case fresh := <-reload:
			a.look(true)
			rt.Reloaded(errors.Join(cert.Load(fresh.TLS), a.readKeys(cfg)))
		case <-look.C:
			a.look(false)
		}
		a.judge(rt, log)
	}
}

// beats sends heartbeats until ctx ends.
func (a *Authority) beats(ctx context.Context) {
	tick := time.NewTicker(feed.Interval)
	defer tick.Stop()
	for {
		if err := a.beat(); err != nil {
			a.log.Error("no heartbeat, so followers will stop", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// tell enters refusals once a second until ctx ends.
func (a *Authority) tell(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			a.refusals.flush()
		}
	}
}

// look reloads. What is refused is told in the status; the older set stays in force.
func (a *Authority) look(force bool) {
	reason := ""
	if err := a.Reload(force); err != nil {
		reason = err.Error()
	}
	a.mu.Lock()
	changed := a.refusal != reason
	a.refusal = reason
	a.mu.Unlock()
	if changed && reason != "" {
		a.log.Error("the signed store is not published; what was published stays", "error", reason)
	}
}

// judge says whether the ledger gates, as it must.
func (a *Authority) judge(rt *process.Runtime, log *ledger.Log) {
	reason := ""
	if err := log.Err(); err != nil {
		reason = "only revocations are passed on: " + err.Error()
	}
	if rt.Ready.Set("ledger", reason) && reason != "" {
		rt.Log.Error("ledger", "error", reason)
	}
}
