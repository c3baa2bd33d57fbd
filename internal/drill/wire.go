package drill

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"golang.org/x/mod/sumdb/note"

	"github.com/reevehq/reeve/internal/authority"
	"github.com/reevehq/reeve/internal/feed"
	"github.com/reevehq/reeve/internal/process"
	"github.com/reevehq/reeve/internal/statement"
)

// Wire tells a captured authority what to do with the news: it has the genuine feed key, so its heartbeats count.
type Wire struct {
	Withhold bool     `json:"withhold"` // drop revocations, and sign heartbeats that do not name them
	Inject   [][]byte `json:"inject"`   // frames of its own, after the genuine ones
}

// CapturedAuthority is the authority with an attacker in it: the real authority's code, configuration and confinement, and
// between it and its followers a wire that the attacker owns.
func CapturedAuthority() process.App[authority.Config] {
	app := authority.App()
	run := app.Run
	app.Run = func(ctx context.Context, rt *process.Runtime, cfg *authority.Config, reload <-chan *authority.Config) error {
		attacker, err := net.Listen("unix", filepath.Join(cfg.StateDir, capturedSocket))
		if err != nil {
			return fmt.Errorf("placing the attacker: %w", err)
		}
		maps, err := os.Open("/proc/self/maps")
		if err != nil {
			return fmt.Errorf("placing the attacker: %w", err)
		}
		text, err := os.ReadFile(cfg.FeedKey)
		if err != nil {
			return err
		}
		w := &wire{inner: filepath.Join(cfg.StateDir, "inner.sock"), cut: func() {}}
		if w.key, err = note.NewSigner(string(text[:len(text)-1])); err != nil {
			return fmt.Errorf("taking the feed key: %w", err)
		}
		front, err := net.Listen("tcp", cfg.Listen)
		if err != nil {
			return err
		}
		go ServeAttacker(ctx, attacker, maps, w.obey) // ends with ctx
		server := &http.Server{Handler: w}
		go server.Serve(front)
		defer server.Close()
		behind := *cfg
		behind.Listen = "unix:" + w.inner
		return run(ctx, rt, &behind, reload)
	}
	return app
}

// wire passes on what the real authority says, but for what it was told.
type wire struct {
	inner string // the real authority's socket
	key   note.Signer

	mu      sync.Mutex
	orders  Wire
	cut     context.CancelFunc // ends every stream that began under older orders
	streams context.Context
	given   map[string][][sha256.Size]byte // records that followers were given, by their sum
}

// obey takes orders; followers come back and get the news as ordered.
func (w *wire) obey(o *Wire) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut()
	w.orders = *o
	w.streams, w.cut = context.WithCancel(context.Background())
}

func (w *wire) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "unix", w.inner)
}

// ServeHTTP implements http.Handler.
func (w *wire) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	transport := &http.Transport{DialContext: w.dial, DisableKeepAlives: true}
	r.URL.Scheme, r.URL.Host = "http", "authority"
	if r.URL.Path != feed.Path {
		(&httputil.ReverseProxy{Rewrite: func(*httputil.ProxyRequest) {}, Transport: transport}).ServeHTTP(rw, r)
		return
	}
	w.mu.Lock()
	if w.streams == nil {
		w.streams, w.cut = context.WithCancel(context.Background())
	}
	orders, streams := w.orders, w.streams
	w.mu.Unlock()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(streams, cancel)()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://authority"+feed.Path, nil)
	if err != nil {
		return
	}
	who := r.Header.Get(feed.AskHeader) // signed by the follower: it can be passed on, not changed
	if who != "" {
		req.Header.Set(feed.AskHeader, who)
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		rw.WriteHeader(http.StatusBadGateway)
		return
	}
	defer resp.Body.Close()
	if challenge := resp.Header.Get(feed.ChallengeHeader); challenge != "" {
		rw.Header().Set(feed.ChallengeHeader, challenge)
	}
	if rw.WriteHeader(resp.StatusCode); resp.StatusCode == http.StatusOK {
		sent, ids := w.holds(who)
		w.pass(rw, bufio.NewReader(resp.Body), orders, sent, ids)
	}
}

// holds is what a follower has by the records' sum in its request: what has not changed since is not sent again.
func (w *wire) holds(who string) (r feed.Records, ids [][sha256.Size]byte) {
	file, err := base64.StdEncoding.DecodeString(who)
	if err != nil {
		return r, nil
	}
	env, err := statement.ParseEnvelope(file)
	var ask feed.Ask
	if err != nil || json.Unmarshal(env.Payload, &ask) != nil {
		return r, nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	ids = slices.Clone(w.given[ask.Records])
	for _, id := range ids {
		r.Add(id)
	}
	return r, ids
}

// gave remembers what a follower was given.
func (w *wire) gave(sum string, ids [][sha256.Size]byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.given == nil {
		w.given = map[string][][sha256.Size]byte{}
	}
	if _, known := w.given[sum]; !known {
		w.given[sum] = slices.Clone(ids)
	}
}

// pass copies a stream.
func (w *wire) pass(rw http.ResponseWriter, in *bufio.Reader, orders Wire, sent feed.Records, ids [][sha256.Size]byte) {
	send := func(f *feed.Frame) bool {
		if _, kind, err := feed.ParseRecord(f.Record); err == nil && kind != "handover" {
			id := sha256.Sum256(f.Record)
			sent.Add(id)
			ids = append(ids, id)
		}
		_, err := rw.Write(f.Encode())
		return err == nil && http.NewResponseController(rw).Flush() == nil
	}
	inject := orders.Inject
	for {
		f, err := feed.ReadFrame(in)
		if err != nil {
			return
		}
		if _, kind, err := feed.ParseRecord(f.Record); err == nil && kind == "revocation" && orders.Withhold {
			continue
		}
		if f.Heartbeat != nil {
			for _, line := range inject {
				if forged, err := feed.ParseFrame(line); err != nil || !send(forged) {
					return
				}
			}
			inject = nil
			var h feed.Heartbeat
			if json.Unmarshal(f.Heartbeat.Payload, &h) != nil {
				return
			}
			h.Records, h.Sum = sent.Len(), sent.Sum()
			w.gave(h.Sum, ids)
			if f.Heartbeat, err = h.Sign(w.key); err != nil {
				return
			}
		}
		if !send(f) {
			return
		}
	}
}
