package daemon

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/reevehq/reeve/internal/admin"
	"github.com/reevehq/reeve/internal/confine"
	"github.com/reevehq/reeve/internal/custodian"
	"github.com/reevehq/reeve/internal/custodian/closed"
	"github.com/reevehq/reeve/internal/custodian/egress"
	"github.com/reevehq/reeve/internal/custodian/glass"
	"github.com/reevehq/reeve/internal/custodian/isolation"
	"github.com/reevehq/reeve/internal/custodian/replay"
	"github.com/reevehq/reeve/internal/custodian/sealed"
	"github.com/reevehq/reeve/internal/custodian/source"
	"github.com/reevehq/reeve/internal/custodian/state"
	"github.com/reevehq/reeve/internal/custodian/unitkey"
	"github.com/reevehq/reeve/internal/feed"
	"github.com/reevehq/reeve/internal/garbage"
	"github.com/reevehq/reeve/internal/hop"
	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/internal/process"
	"github.com/reevehq/reeve/internal/relay"
	"github.com/reevehq/reeve/internal/secret"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/witness"
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
		Clock: time.Now, Log: rt.Log, Metrics: rt.Metrics,
	})
	return h, nil
}

func dial(d statement.Destination, certificate *tls.Certificate) (custodian.Connections, error) {
	return egress.New(egress.Config{Destination: d, Certificate: certificate})
}

func (h *host) handle(ctx context.Context, peer hop.Peer, open *hop.Open, w *hop.Writer) {
	h.Serve(ctx, peer, open, w)
}

func (h *host) age() time.Duration {
	if f := h.follower.Load(); f != nil {
		return f.Age()
	}
	return feed.Unknown
}

// follow applies the local statements and begins to follow the estate.
func (h *host) follow(ctx context.Context) error {
	trust := h.cfg.EstateTrust
	cfg := feed.Config{
		Pin: statement.Pin{Estate: trust.Estate, CharterSHA256: trust.CharterSHA256, RootKeys: trust.RootKeys, MinCharter: trust.MinCharter,
			AllowDemo: h.rt.Demo},
		Dir: h.dir.Path("estate"), Process: h.cfg.ID, Sign: h.logKey.Endorse, OnSet: h.adopt, OnRecord: h.take, OnHandover: h.Receive, Log: h.rt.Log,
		Left: func() []string { return h.Gate.State().People() },
	}
	if folder, ok := h.cfg.folder(); ok {
		cfg.Folder = folder
	} else {
		cfg.URLs = h.cfg.Authority
	}
	f, err := feed.Follow(ctx, cfg)
	if err != nil {
		return err
	}
	h.follower.Store(f)
	for _, url := range h.cfg.Relays {
		go relay.Listen(ctx, url, nil, func(file []byte) { h.offer(file, "auditor") }, func(err error) {
			h.rt.Ready.Note("relay "+url, errorText(err))
			if err != nil {
				h.Log.Warn("a second way for records is closed", "error", err)
			}
		})
	}
	return nil
}

// offer takes a record that came another way than by the feed. The follower verifies and keeps it.
func (h *host) offer(file []byte, channel string) error {
	f := h.follower.Load()
	if f == nil {
		return errors.New("the custodian has not begun to follow its estate yet; try again shortly")
	}
	take := f.Offer
	if channel == "admin" { // an operator is told how it ended; who else brings one is not waited for
		take = f.OfferAndWait
	}
	err := take(file, channel)
	if err != nil {
		h.Log.Warn("a record was refused", "channel", channel, "error", err)
	}
	return err
}

// passed takes a record that a gateway passed on.
func (h *host) passed(_ hop.Peer, file []byte) { h.offer(file, "gateway") }

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// take takes a record that the follower verified. An extension needs its entry first, so one that comes before the ledger is open
// waits for it: it may be what the operators send because a part of the start waits.
func (h *host) take(r *statement.Record) error {
	if r.Kind != "extension" && r.Kind != "break-glass" && r.Kind != "break-glass-review" {
		return h.Take(r)
	}
	h.early.mu.Lock()
	defer h.early.mu.Unlock()
	if h.book.log.Load() == nil {
		h.early.records = append(h.early.records, r)
		h.Log.Warn("a record waits until the ledger is open", "kind", r.Kind)
		return nil
	}
	return h.Take(r)
}

// catchUp takes the extensions that came before the ledger was open.
func (h *host) catchUp() {
	h.early.mu.Lock()
	defer h.early.mu.Unlock()
	for _, r := range h.early.records {
		if err := h.Take(r); err != nil {
			h.Log.Error("an extension that waited for the ledger is refused", "error", err)
		}
	}
	h.early.records = nil
}

// adopt puts a set in force.
func (h *host) adopt(set *statement.Set, _ statement.Store) error {
	if err := h.confined.Check(set.Charter.RequireConfinement); err != nil {
		return err
	}
	if err := h.Adopt(set); err != nil {
		return err
	}
	if err := h.issuers.Use(set); err != nil {
		h.Log.Error("the keys of token issuers cannot be fetched", "error", err)
	}
	h.units.Use(set)
	if err := h.units.Publish(h.cfg.FederationDir); err != nil {
		h.Log.Error("what the providers of a federation verify with is not there to be published", "error", err)
	}
	h.ownPeer(set)
	return nil
}

// ownPeer tells people when the custody statements name another key than this custodian has: no gateway would believe it.
func (h *host) ownPeer(set *statement.Set) {
	note := ""
	for unit, custody := range set.Custody {
		for _, k := range custody.Custodians {
			if h.hopKey != nil && k.ID == h.cfg.ID && k.Peer != h.hopKey.Peer() {
				note = fmt.Sprintf("the custody statement of %s gives this custodian the peer key %q, its own is %s: gateways on other machines refuse it until its lifecycle owner mends that", unit, k.Peer, h.hopKey.Peer())
			}
		}
	}
	h.rt.Ready.Note("hop", note)
	if note != "" {
		h.Log.Warn(note)
	}
}

// statements waits for the first set.
func (h *host) statements(ctx context.Context) error {
	for h.Set() == nil {
		reason := fmt.Sprintf("no set of statements from %s yet", strings.Join(h.cfg.Authority, ", "))
		if err := h.follower.Load().Status().Err; err != "" {
			reason += ": " + err
		}
		if h.rt.Ready.Set("statements", reason+"; run: reeve publish") {
			h.Log.Warn("waiting for statements", "reason", reason)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(tick / 20):
		}
	}
	h.Rekey()
	h.rt.Ready.Set("statements", "")
	return nil
}

// enrolled reports whether the charter in force has a log key of this custodian.
func (h *host) enrolled(key ledger.Key) bool {
	return slices.ContainsFunc(h.Set().ServiceKeys("log", h.Clock()), func(k statement.ServiceKey) bool {
		return k.Process == h.ID && slices.Contains(key.Verifiers(), k.Key)
	})
}

// openLedger opens the log with the witnesses that the charter names.
func (h *host) openLedger(ctx context.Context) error {
	h.rt.Ready.Set("ledger", "not open yet")
	set := h.Set()
	if !h.enrolled(h.logKey) {
		return fmt.Errorf("the charter does not name this custodian's log key (%s): what it writes would not be believed; have the root quorum add it", strings.Join(h.logKey.Verifiers(), ", "))
	}
	var witnesses []ledger.Witness
	for _, w := range h.cfg.Witnesses {
		witnesses = append(witnesses, &witness.Client{URL: w.URL, Keys: h.witnessKeys})
	}
	log, err := ledger.Open(ctx, ledger.Config{
		Key: h.logKey, Dir: h.dir.Path("ledger"), Tiles: h.cfg.TilesDir, Witnesses: witnesses, Need: max(set.Charter.Witnesses.Need, 1),
		Heartbeat: heartbeat, Logger: h.rt.Log, Retire: ledger.RetiredBy(set), Enrolled: h.enrolled,
	})
	if err != nil {
		return fmt.Errorf("opening the ledger: %w", err)
	}
	if err := h.book.open(log); err != nil {
		return err
	}
	h.catchUp()
	h.Tell() // of what was closed before a crash
	h.rt.Ready.Set("ledger", "")
	return nil
}

// witnessKeys are those that the charter in force names.
func (h *host) witnessKeys() note.Verifiers {
	var keys []string
	for _, k := range h.Set().ServiceKeys("witness", h.Clock()) {
		keys = append(keys, k.Key)
	}
	verifiers, err := witness.Verifiers(keys)
	if err != nil {
		h.Log.Error("a witness key of the charter cannot be used", "error", err)
	}
	return verifiers
}

func (h *host) closeLedger() {
	if err := h.book.log.Load().Close(); err != nil {
		h.Log.Error("closing the ledger", "error", err)
	}
}

// watch does what time brings until ctx ends. Until the custodian is ready for the first time it looks more often.
func (h *host) watch(ctx context.Context, reload <-chan *Config) {
	second := time.NewTicker(time.Second)
	defer second.Stop()
	pace := tick / 10
	for {
		h.Rekey()
		h.judge()
		if ready, _ := h.rt.Ready.State(); ready {
			pace = tick
		}
		h.Keep()
		select {
		case <-ctx.Done():
			return
		case <-reload:
			h.rt.Reloaded(h.reread())
			h.Log.Info("reload: sets and records are taken as they come", "lock", h.Set().Lock.Version)
		case <-second.C:
			h.Flush()
			h.Expire()
			h.ownUnits()
			h.alarms(h.follower.Load().Status(), h.book.log.Load().Status().Disputed)
			go h.Tell() // ends at once when there is nothing to tell
		case <-time.After(pace):
		}
	}
}

// reread takes the identities that the file holds now.
func (h *host) reread() error {
	if h.cfg.Identity.PassphraseFD > 0 {
		return nil // its descriptor was read at the start
	}
	key, err := h.cfg.Identity.Read()
	if err != nil {
		return err
	}
	return errors.Join(h.secrets.Rekey(key), h.units.Reread())
}

// alarms writes what the follower met and a person should look at, and that witnesses dispute the log.
func (h *host) alarms(st feed.Status, disputed int) {
	if disputed > h.disputed {
		h.Alarm("ledger_disputed")
	}
	h.disputed = disputed
	if st.Refused > h.seen.Refused {
		h.Alarm("feed_refused")
	}
	if st.Withheld > h.seen.Withheld {
		h.Alarm("revocations_withheld")
	}
	if len(st.Gaps) > len(h.seen.Gaps) {
		h.Alarm("revocations_missing")
	}
	h.seen = st
}

// judge says whether secrets can be used, and what helps when they cannot.
func (h *host) judge() {
	age := h.age() // first: what a heartbeat names arrived before it
	st, log := h.follower.Load().Status(), h.book.log.Load()
	reasons := map[string]string{"ledger": "", "witnesses": "", "feed": ""}
	s := log.Status()
	if err := log.Err(); err != nil {
		reasons["ledger"] = err.Error()
	} else if s.Full {
		reasons["ledger"] = fmt.Sprintf("%v; make room for %s", ledger.ErrFull, h.dir.Path("ledger"))
	}
	if lag, _ := log.Uncosigned(); lag > custodian.Fuse || lag > patience && s.Cosigned == 0 {
		reasons["witnesses"] = fmt.Sprintf("no cosignature for %s (%s); start the auditor, or have two owners run: reeve extend witness", lag.Round(time.Second), s.Reason)
	}
	if age < 0 || age > custodian.Bound(h.Set(), "normal") {
		reasons["feed"] = fmt.Sprintf("the news of revocations is too old (%s): %s; start the authority, or have two owners run: reeve extend feed", age.Round(time.Second), st.Err)
	}
	if h.caughtUp = h.caughtUp || age >= 0 && st.Taking == 0; !h.caughtUp && reasons["feed"] == "" {
		reasons["feed"] = fmt.Sprintf("%d secrets that were handed over are being taken", st.Taking)
	}
	h.Rekey() // the keys that came before the news are known before it is called ready
	for name, reason := range reasons {
		if h.rt.Ready.Set(name, reason) {
			h.Log.Info("readiness", "of", name, "reason", reason)
		}
	}
}

// peer names the gateway that a peer is: on the socket by its user, as the configuration says, from another machine by its key,
// as the operations statement in force says.
func (h *host) peer(p hop.Peer) string {
	for _, g := range h.cfg.Hop.Gateways {
		if p.Key == "" && g.UID == p.UID {
			p.Name = g.ID
		}
	}
	for _, g := range h.Set().Operations.Gateways {
		if p.Key != "" && g.Peer == p.Key {
			p.Name = g.ID
		}
	}
	if p.Name != "" {
		h.Isolation.Level(p, h.Clock()) // shows in the status before the first use
	}
	return p.Name
}

// open opens what gateways connect to. It returns what is open also with an error.
func (c *Hop) open(key *hop.Key) (all []net.Listener, err error) {
	if c.Socket != "" {
		l, err := process.Listen("unix:" + c.Socket)
		if err != nil {
			return all, err
		}
		all = append(all, l)
		if slices.ContainsFunc(c.Gateways, func(g Gateway) bool { return g.UID != os.Getuid() }) { // another user has to reach it
			if err := os.Chmod(c.Socket, 0o666); err != nil {
				return all, err
			}
		}
	}
	if c.Listen != "" {
		l, err := process.Listen(c.Listen)
		if err != nil {
			return all, err
		}
		all = append(all, tls.NewListener(l, hop.ServerTLS(key)))
	}
	return all, nil
}
