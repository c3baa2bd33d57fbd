package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/reevehq/reeve/internal/feed"
	"github.com/reevehq/reeve/internal/garbage"
	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/internal/metrics"
	"github.com/reevehq/reeve/internal/process"
	"github.com/reevehq/reeve/internal/serve"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/witness"
	"github.com/reevehq/reeve/internal/workload/issuer"
)

// App is the gateway as a process.
func App() process.App[Config] {
	return process.App[Config]{
		Name:    "reeve-gateway",
		Default: defaults(),
		Check:   (*Config).check,
		Ops:     func(c *Config) string { return c.Ops },
		Confine: (*Config).confine,
		Run:     run,

		LogLevel: func(c *Config) string { return c.LogLevel },
		Live:     []string{"log_level", "tls", "drain", "keep_alive", "body_memory"},
	}
}

// running is a gateway process.
type running struct {
	cfg      *Config
	rt       *process.Runtime
	gateway  *Gateway
	records  *Records
	issuers  *issuer.Book
	hop      *custodians
	logKey   ledger.Key
	ledger   *ledger.Log
	follower *feed.Follower
	lock     *metrics.Gauge   // version of the set in force
	refused  *metrics.Counter // sets that were refused
	first    chan struct{}    // closed when a set is in force
	front    atomic.Pointer[front]
	cert     *serve.Certificate
	reload   <-chan *Config
	patience atomic.Int64 // how long requests may go on after SIGTERM, in nanoseconds
	once     sync.Once
}

// run starts in this order: statements, ledger, listener, confinement, serving. Each wait shows in /readyz.
func run(ctx context.Context, rt *process.Runtime, cfg *Config, reload <-chan *Config) error {
	cert := new(serve.Certificate)
	if err := cert.Load(cfg.TLS); err != nil {
		return err
	}
	logKey, err := ledger.LoadKey(cfg.LogKey)
	if err != nil {
		return err
	}
	ways, err := newCustodians(cfg)
	if err != nil {
		return err
	}
	defer ways.close()
	r := &running{
		cfg: cfg, rt: rt, issuers: issuer.NewBook(issuer.Config{Log: rt.Log}), first: make(chan struct{}),
		lock:    rt.Metrics.Gauge("reeve_gateway_lock_version", "Version of the statement set in force."),
		refused: rt.Metrics.Counter("reeve_gateway_sets_refused_total", "Statement sets that were refused; the set in force stays."),
		hop:     ways, cert: cert, logKey: logKey, reload: reload,
	}
	r.patience.Store(int64(cfg.Drain))
	most := process.FileLimit() * 4 / 5
	r.records = NewRecords(r.issuers.Keys)
	defer r.issuers.Close()
	r.gateway = New(Parts{
		ID: cfg.ID, Custodian: r.hop, Proofs: r.records, Gate: r.records.Gate, Accept: r.accept, Journal: rt.Journal, Metrics: rt.Metrics,
		KeepAlive: cfg.KeepAlive, Memory: cfg.Memory, Conns: int64(most),
	})
	rt.Ready.Set("statements", "waiting for the first verified set from "+strings.Join(cfg.Authority, ", ")+"; see reeve publish")
	rt.Ready.Set("ledger", "not open yet")
	rt.Ready.Set("custodian", "not asked yet")
	rt.Ready.Set("feed", "no news from the authority yet")
	following, stop := context.WithCancel(ctx)
	defer func() {
		stop()
		if r.follower != nil {
			r.follower.Wait() // what it took is kept for the next start
		}
	}()
	set, err := r.follow(following)
	if err != nil {
		return err
	}
	if r.ledger, err = openLedger(ctx, cfg, logKey, r.set, r.witnesses, rt.Log); err != nil {
		return fmt.Errorf("opening the gateway's ledger: %w", err)
	}
	defer r.ledger.Close()
	l, err := process.Listen(cfg.Listen)
	if err != nil {
		return err
	}
	defer l.Close()
	if _, err := rt.Restrict(set.Charter.RequireConfinement); err != nil {
		return err
	}
	garbage.LetGather()
	return r.serve(ctx, r.cert.Listen(serve.Share(l, most)))
}

// follow follows the feed and waits for the first set.
func (r *running) follow(ctx context.Context) (*statement.Set, error) {
	trust := r.cfg.EstateTrust
	cfg := feed.Config{
		URLs: r.cfg.Authority, Dir: r.cfg.StateDir + "/feed", Log: r.rt.Log,
		Pin: statement.Pin{
			Estate: trust.Estate, CharterSHA256: trust.CharterSHA256, RootKeys: trust.RootKeys, MinCharter: trust.MinCharter, AllowDemo: r.rt.Demo,
		},
		Process: r.cfg.ID, Sign: r.logKey.Endorse,
		OnSet: r.use, OnRecord: r.record,
	}
	if folder, ok := r.cfg.folder(); ok {
		cfg.URLs, cfg.Folder = nil, folder
	}
	var err error
	if r.follower, err = feed.Follow(ctx, cfg); err != nil {
		return nil, err
	}
	for why := ""; ; {
		select {
		case <-r.first:
			return r.set(), nil
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
		if s := r.follower.Status(); s.Err != why {
			why = s.Err
			r.rt.Log.Warn("waiting for the first verified set", "authority", r.cfg.Authority, "reason", why)
			r.rt.Ready.Set("statements", "waiting for the first verified set from "+strings.Join(r.cfg.Authority, ", ")+": "+why)
		}
	}
}

// record takes a verified record, and passes revocations on to its custodians: whoever keeps them from it has to keep them from its
// gateways too.
func (r *running) record(v *statement.Record) error {
	if err := r.records.Take(v); err != nil {
		return err
	}
	if v.Kind == "workload-key" || v.Channel == "kept" || v.Channel == "folder" {
		return nil
	}
	file, err := statement.Canonical(v.Envelope)
	if err != nil {
		return err
	}
	go func() { // the feed does not wait for the hop
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := r.hop.record(ctx, file); err != nil {
			r.rt.Log.Warn("a record was not passed on to every custodian", "kind", v.Kind, "record", v.SHA256, "error", err)
		}
	}()
	return nil
}

// accept takes a record that somebody brought.
func (r *running) accept(file []byte) error {
	if r.follower == nil {
		return errors.New("this gateway has not begun to follow its estate")
	}
	return r.follower.Offer(file, "client")
}

// set is the one in force.
func (r *running) set() *statement.Set { return r.gateway.force.Load().set }

// use puts a set into force, or refuses it: then the old one stays.
func (r *running) use(set *statement.Set, _ statement.Store) error {
	if err := r.gateway.Use(set); err != nil {
		r.refused.Inc()
		return err
	}
	if err := r.records.Use(set); err != nil {
		r.refused.Inc()
		return err
	}
	if err := r.issuers.Use(set); err != nil {
		r.rt.Log.Error("the keys of token issuers cannot be fetched", "error", err)
	}
	r.hop.use(set)
	if f := r.front.Load(); f != nil {
		f.limit(&r.gateway.force.Load().limits)
	}
	r.lock.Set(set.Lock.Version)
	r.rt.Ready.Set("statements", "")
	r.once.Do(func() { close(r.first) })
	return nil
}

// witnesses are the charter's witness keys of the moment.
func (r *running) witnesses() note.Verifiers {
	var keys []string
	for _, k := range r.set().ServiceKeys("witness", time.Now()) {
		keys = append(keys, k.Key)
	}
	verifiers, err := witness.Verifiers(keys)
	if err != nil {
		r.rt.Log.Warn("leaving out witness keys of the charter", "error", err)
	}
	return verifiers
}

// serve serves until ctx ends, and then lets what is in flight finish for as long as the drain lasts.
func (r *running) serve(ctx context.Context, l net.Listener) error {
	base, giveUp := context.WithCancelCause(context.Background())
	defer giveUp(nil)
	front := newFront(l, func() *http.Server { return r.server(base) })
	r.front.Store(front)
	front.limit(&r.gateway.force.Load().limits) // after Store: a set that came before is in force, one that comes now finds the front
	r.rt.Log.Info("serving", "listen", l.Addr().String(), "lock", r.set().Lock.Version)
	var watching sync.WaitGroup
	watch, stop := context.WithCancel(context.Background())
	watching.Go(func() { r.watch(watch) })
	var err error
	select {
	case <-front.closed:
		err = fmt.Errorf("serving clients on %s: %w", r.cfg.Listen, front.err)
	case <-ctx.Done():
		r.drain(front, giveUp)
	}
	stop()
	watching.Wait()
	return errors.Join(err, r.gateway.Flush(r.ledger))
}

func (r *running) server(base context.Context) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Server{
		Handler:     r.gateway,
		ConnState:   r.gateway.ConnState,
		BaseContext: func(net.Listener) context.Context { return base },
		Protocols:   protocols,
		ErrorLog:    slog.NewLogLogger(r.rt.Log.Handler(), slog.LevelError),
	}
}

// drain lets requests in flight finish, gives up those that outlast the drain, and closes.
func (r *running) drain(front *front, giveUp context.CancelCauseFunc) {
	limit := time.Duration(r.patience.Load())
	r.gateway.Drain()
	r.rt.Ready.Set("serving", "closing: no new requests are taken")
	r.rt.Log.Info("draining", "in_flight", r.gateway.metrics.flight.Value(), "limit", limit.String())
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if front.shutdown(ctx) == nil {
		return
	}
	r.rt.Log.Warn("giving up requests that outlast the drain", "in_flight", r.gateway.metrics.flight.Value())
	giveUp(errClosing)
	last, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if front.shutdown(last) != nil {
		front.close()
	}
}

// watch does once a second what has no request of its own: the ledger of refusals, and readiness. Until the gateway is ready
// for the first time it looks more often.
func (r *running) watch(ctx context.Context) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		r.check(ctx)
		if ready, _ := r.rt.Ready.State(); ready {
			tick.Reset(time.Second)
		}
		select {
		case <-ctx.Done():
			return
		case fresh := <-r.reload:
			r.rt.Reloaded(r.apply(fresh))
		case <-tick.C:
		}
	}
}

// apply takes what can change while the gateway runs. Sets and their limits come by the feed.
func (r *running) apply(fresh *Config) error {
	if err := r.cert.Load(fresh.TLS); err != nil {
		return err
	}
	r.patience.Store(int64(fresh.Drain))
	r.gateway.Bound(fresh.KeepAlive, fresh.Memory)
	return nil
}

func (r *running) check(ctx context.Context) {
	if err := errors.Join(r.gateway.Flush(r.ledger), r.records.flush(r.ledger)); err != nil {
		r.rt.Log.Error("writing refusals and closings to the gateway's ledger", "error", err)
	}
	r.ready("ledger", r.ledger.Err())
	r.ready("statements", r.current())
	note, err := r.hop.ready(ctx)
	r.rt.Ready.Note("custodian", note)
	r.ready("custodian", err)
	r.ready("feed", r.fresh())
}

// ready tells people when something changes.
func (r *running) ready(name string, err error) {
	reason := ""
	if err != nil {
		reason = err.Error()
	}
	switch {
	case !r.rt.Ready.Set(name, reason):
	case err != nil:
		r.rt.Log.Warn("not ready", "name", name, "reason", reason)
	default:
		r.rt.Log.Info("ready", "name", name)
	}
}

// current is an error when the set in force has run out. A newer set that is refused is noted: the one in force goes on.
func (r *running) current() error {
	set, note := r.set(), ""
	if newest := r.follower.Status().Authority; newest > set.Lock.Version {
		note = fmt.Sprintf("the authority publishes lock version %d; %d stays in force, because the newer one is refused; the log says why", newest, set.Lock.Version)
	}
	r.rt.Ready.Note("statements", note)
	if time.Now().After(set.Expires) {
		return fmt.Errorf("lock version %d expired at %s: nothing may be used until two owners sign estate.lock again and it is published", set.Lock.Version, set.Expires.Format(time.RFC3339))
	}
	return nil
}

// fresh is an error when no news of revocations came for longer than the charter's bound for credentials of the normal class.
func (r *running) fresh() error {
	bound := time.Duration(r.set().Charter.Revocation.Normal)
	if bound == 0 {
		bound = 30 * time.Second
	}
	age := r.follower.Age()
	if age != feed.Unknown && age <= bound {
		return nil
	}
	why := r.follower.Status().Err
	if age == feed.Unknown {
		return fmt.Errorf("no heartbeat of the authority has come yet (%s); is it running at %s?", why, strings.Join(r.cfg.Authority, " or "))
	}
	return fmt.Errorf("the newest heartbeat of the authority is %s old, more than the charter's bound of %s (%s); is it running at %s?",
		age.Round(time.Second), bound, why, strings.Join(r.cfg.Authority, " or "))
}
