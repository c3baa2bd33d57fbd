package daemon

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/reevehq/reeve/internal/admin"
	"github.com/reevehq/reeve/internal/confine"
	"github.com/reevehq/reeve/internal/custodian"
	"github.com/reevehq/reeve/internal/custodian/closed"
	"github.com/reevehq/reeve/internal/custodian/egress"
	"github.com/reevehq/reeve/internal/custodian/glass"
	"github.com/reevehq/reeve/internal/custodian/isolation"
	"github.com/reevehq/reeve/internal/custodian/sealed"
	"github.com/reevehq/reeve/internal/custodian/source"
	"github.com/reevehq/reeve/internal/custodian/state"
	"github.com/reevehq/reeve/internal/custodian/unitkey"
	"github.com/reevehq/reeve/internal/feed"
	"github.com/reevehq/reeve/internal/garbage"
	"github.com/reevehq/reeve/internal/hop"
	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/internal/process"
	"github.com/reevehq/reeve/internal/replay"
	"github.com/reevehq/reeve/internal/secret"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/workload/issuer"
)

const (
	tick       = 100 * time.Millisecond
	drainLimit = 30 * time.Second // how long open streams may go on after SIGTERM
	heartbeat  = 10 * time.Second // between two heartbeat entries
	outcomes   = time.Second      // for the outcomes of streams that were broken off
	patience   = 3 * time.Second  // with witnesses that have cosigned nothing yet
	remembered = 1 << 19          // signed requests in 80 seconds
)

// App is the custodian as a process.
func App() process.App[Config] {
	return process.App[Config]{
		Name:    "reeve-custodian",
		Check:   (*Config).check,
		Ops:     func(c *Config) string { return c.Ops },
		Confine: (*Config).confine,
		Run:     run,

		LogLevel: func(c *Config) string { return c.LogLevel },
		Live:     []string{"log_level"},
	}
}

// host is a custodian with what a process adds to it.
type host struct {
	*custodian.Custodian
	cfg    *Config
	rt     *process.Runtime
	dir    state.Dir
	logKey ledger.Key
	early  struct { // extensions that came before the ledger was open
		mu      sync.Mutex
		records []*statement.Record
	}
	secrets  *sealed.Store
	units    *unitkey.Book // keys with which it federates
	hopKey   *hop.Key      // nil without hop.listen
	book     *book
	follower atomic.Pointer[feed.Follower]
	issuers  *issuer.Book
	confined confine.Report
	caughtUp bool             // with what had been handed over before the start
	seen     feed.Status      // what alarms were written for
	disputed int              // witnesses that disputed the log then
	unopened map[string]error // sealed secrets that could not be opened, by credential
}

// run is the start order: what this process keeps for itself, local statements, ledger, witnesses, feed.
func run(ctx context.Context, rt *process.Runtime, cfg *Config, reload <-chan *Config) error {
	h, err := keep(rt, cfg)
	if err != nil {
		return err
	}
	most := process.FileLimit() * 4 / 5 // each open use has a connection of its own
	var server *hop.Server
	server = hop.NewServer(hop.ServerConfig{Handler: h.handle, Peers: h.peer, Record: h.passed, Log: rt.Log, Admit: func() bool {
		return server.Streams() < most
	}})
	operators, err := process.Listen("unix:" + cfg.Admin)
	if err != nil {
		return err
	}
	defer operators.Close()
	go x509.SystemCertPool() // it is read once, which takes longer than waiting for the first set, whose destinations need it
	gateways, err := cfg.Hop.open(h.hopKey)
	for _, l := range gateways {
		defer l.Close()
	}
	if err != nil {
		return err
	}
	admins := &http.Server{Handler: admin.Handler(operator{h}), ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second}
	defer admins.Close()
	if h.confined, err = rt.Restrict(nil); err != nil { // before the first byte from elsewhere is read
		return err
	}
	h.Isolation.Undumpable = h.confined.NotDumpable
	garbage.LetGather()
	go admins.Serve(hop.Own(operators)) // closing works from the start; ends with Close

	defer h.issuers.Close()
	following, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer func() { // after the streams: they need its news
		stop()
		if f := h.follower.Load(); f != nil {
			f.Wait() // what it took is kept for the next start
		}
	}()
	if err := h.follow(following); err != nil {
		return err
	}
	if err := h.statements(ctx); err != nil {
		return err
	}
	if err := h.openLedger(ctx); err != nil {
		return err
	}
	defer h.closeLedger()
	for _, l := range gateways {
		h.Log.Info("serving gateways", "listen", l.Addr().String())
		go server.Serve(l) // ends with Shutdown
	}
	h.watch(ctx, reload)

	rt.Ready.Set("stopping", "told to stop")
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainLimit)
	defer cancel()
	if err := server.Shutdown(drain); err != nil {
		rt.Log.Warn("streams were broken off", "after", drainLimit)
	}
	for end := time.Now().Add(outcomes); server.Streams() > 0 && time.Now().Before(end); {
		time.Sleep(time.Millisecond) // what was broken off still writes its outcome
	}
	resting, cancelRest := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancelRest()
	h.Rest(resting)
	h.Flush()
	h.Tell()
	return nil
}

// keep opens what the process keeps for itself.
func keep(rt *process.Runtime, cfg *Config) (*host, error) {
	for _, name := range []string{"statements", "ledger", "witnesses", "feed"} { // named from the start: what is not named is not waited for
		rt.Ready.Set(name, "starting")
	}
	dir, err := state.Open(cfg.StateDir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.TilesDir, 0o750); err != nil {
		return nil, fmt.Errorf("making the published log's directory: %w", err)
	}
	key, err := cfg.Identity.Read()
	if err != nil {
		return nil, err
	}
	logKey, err := ledger.LoadKey(cfg.LogKey)
	if err != nil {
		return nil, err
	}
	var hopKey *hop.Key
	if cfg.Hop.Key != "" {
		if hopKey, err = hop.ReadKey(cfg.Hop.Key); err != nil {
			return nil, err
		}
	}
	vault, err := dir.Sub("sealed")
	if err != nil {
		return nil, err
	}
	secrets, unopened, err := sealed.Open(vault, cfg.ID, key)
	if err != nil {
		return nil, err
	}
	units, err := openUnits(cfg, dir, secrets)
	if units == nil {
		return nil, err
	}
	if err != nil {
		rt.Log.Error("it has to be made again: reeve federation key", "error", err)
	}
	for credential, err := range unopened {
		rt.Log.Error("a sealed secret cannot be opened; it has to be handed over again", "credential", credential, "error", err)
	}
	gate, err := closed.Open(dir)
	if err != nil {
		return nil, err
	}
	cabinet, err := glass.Open(dir)
	if err != nil {
		return nil, err
	}
	h := &host{cfg: cfg, rt: rt, dir: dir, logKey: logKey, hopKey: hopKey, secrets: secrets, units: units, book: &book{}, unopened: unopened}
	h.issuers = issuer.NewBook(issuer.Config{Log: rt.Log})
	h.Custodian = custodian.New(custodian.Parts{
		ID: cfg.ID, Ledger: h.book, Secrets: secrets, Gate: gate, Glass: cabinet, Notify: h.notify, Isolation: &isolation.Judge{}, Replay: replay.New(remembered), IssuerKeys: h.issuers.Keys, News: h.age, Dial: dial,
		Source: func(c source.Config) (source.Source, error) {
			c.Estate, c.Sign = cfg.EstateTrust.Estate, func(ctx context.Context, t source.Token) (secret.Value, error) { return units.Sign(ctx, c.Unit, t) }
			if cfg.TokenDir != "" {
				c.Tokens = filepath.Join(cfg.TokenDir, c.Unit)
			}
			return newSource(c)
		},
		Clock: time.Now, Log: rt.Log, Journal: rt.Journal, Metrics: rt.Metrics,
	})
	return h, nil
}

func dial(d statement.Destination, certificate *tls.Certificate) (custodian.Connections, error) {
	return egress.New(egress.Config{Destination: d, Certificate: certificate})
}

func (h *host) handle(ctx context.Context, peer hop.Peer, open *hop.Open, w *hop.Writer) {
	h.Serve(ctx, peer, open, w)
}
