// Package issuer keeps the keys that token issuers publish: OpenID Connect Discovery 1.0, fetched over TLS from the issuer that the
// charter names and from nobody else, by each custodian and gateway for itself.
package issuer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/reevehq/reeve/internal/netguard"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/workload/jwks"
)

const (
	refresh   = 10 * time.Minute // between two fetches that succeed
	retry     = 5 * time.Second  // after one that fails; twice that after the next, up to refresh
	pause     = 30 * time.Second // between two fetches because of a key that is not known
	stale     = time.Hour        // for how long keys are used that could not be fetched again
	timeout   = 10 * time.Second // for one answer
	wellKnown = "/.well-known/openid-configuration"
)

// Config is what a Book is made of.
type Config struct {
	Log   *slog.Logger
	Clock func() time.Time // time.Now by default
	// Resolve looks a host up; nil means the system's resolver.
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)
}

// Book has the published keys of the issuers of one set. Safe for concurrent use.
type Book struct {
	cfg  Config
	mu   sync.Mutex // spans changes of keepers
	open atomic.Pointer[map[string]*keeper]
}

// keeper keeps the keys of one issuer fresh.
type keeper struct {
	cfg    Config
	issuer statement.Issuer
	client *http.Client
	stop   context.CancelFunc
	done   chan struct{}
	wanted chan struct{} // a token came with a key that is not known
	asked  atomic.Int64  // when that was last heeded, Unix nanoseconds
	got    atomic.Pointer[got]
}

type got struct {
	keys *jwks.Set
	at   time.Time
}

// NewBook returns a book of no issuers.
func NewBook(cfg Config) *Book {
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	b := &Book{cfg: cfg}
	b.open.Store(&map[string]*keeper{})
	return b
}

// Use keeps the keys of a set's issuers with discovery from now on. Issuers whose record is the same keep their keys.
func (b *Book) Use(set *statement.Set) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	old, next := *b.open.Load(), map[string]*keeper{}
	for _, s := range set.Charter.Issuers {
		if !s.Discovery {
			continue
		}
		if k := old[s.ID]; k != nil && reflect.DeepEqual(k.issuer, s) {
			next[s.ID] = k
			continue
		}
		k, err := b.newKeeper(s)
		if err != nil {
			return fmt.Errorf("the issuer %s: %w", s.ID, err)
		}
		next[s.ID] = k
	}
	b.open.Store(&next)
	for id, k := range next {
		if old[id] != k {
			ctx, stop := context.WithCancel(context.Background())
			k.stop = stop
			go k.run(ctx)
		}
	}
	for id, k := range old {
		if next[id] != k {
			k.end()
		}
	}
	return nil
}

// Close stops fetching.
func (b *Book) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, k := range *b.open.Swap(&map[string]*keeper{}) {
		k.end()
	}
}

func (k *keeper) end() {
	k.stop()
	<-k.done
}

// Keys returns the keys of an issuer by its id in the charter, or nil when they are not known or too old. When kid is not among
// them they are fetched again, once in a while: the issuer may have begun to use a new one.
func (b *Book) Keys(id, kid string) *jwks.Set {
	k := (*b.open.Load())[id]
	if k == nil {
		return nil
	}
	now, g := b.cfg.Clock(), k.got.Load()
	if g == nil || now.Sub(g.at) > stale {
		return nil
	}
	if kid != "" && !g.keys.Has(kid) {
		last := k.asked.Load()
		if now.Sub(time.Unix(0, last)) >= pause && k.asked.CompareAndSwap(last, now.UnixNano()) {
			select {
			case k.wanted <- struct{}{}:
			default:
			}
		}
	}
	return g.keys
}

func (b *Book) newKeeper(s statement.Issuer) (*keeper, error) {
	guard, err := netguard.New(s.Networks)
	if err != nil {
		return nil, err
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if s.CA != "" && !roots.AppendCertsFromPEM([]byte(s.CA)) {
		return nil, errors.New("the CA holds no certificate in PEM")
	}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			host, text, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			port, err := strconv.ParseUint(text, 10, 16)
			if err != nil {
				return nil, err
			}
			ctx, cancel := context.WithTimeout(ctx, timeout) // net/http hands on no deadline
			defer cancel()
			return guard.Dial(ctx, b.cfg.Resolve, host, uint16(port))
		},
		TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		DisableKeepAlives:      true,
		MaxResponseHeaderBytes: 64 << 10,
	}
	return &keeper{
		cfg: b.cfg, issuer: s, done: make(chan struct{}), wanted: make(chan struct{}, 1),
		client: &http.Client{Transport: transport, Timeout: timeout, CheckRedirect: func(*http.Request, []*http.Request) error {
			return errors.New("it redirects; only the issuer itself is asked")
		}},
	}, nil
}

// run fetches until ctx ends.
func (k *keeper) run(ctx context.Context) {
	defer close(k.done)
	wait := retry
	for {
		next := refresh
		if err := k.fetch(ctx); err == nil {
			wait = retry
		} else {
			next, wait = wait, min(2*wait, refresh)
			if ctx.Err() == nil {
				k.cfg.Log.Warn("the keys of a token issuer cannot be fetched: its tokens are refused when those at hand are too old",
					"issuer", k.issuer.ID, "error", err, "again_in", next.String())
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-k.wanted:
		case <-time.After(next):
		}
	}
}

// fetch reads where the keys are, and then the keys.
func (k *keeper) fetch(ctx context.Context) error {
	text, err := k.get(ctx, strings.TrimSuffix(k.issuer.Issuer, "/")+wellKnown)
	if err != nil {
		return err
	}
	var doc struct {
		Issuer string `json:"issuer"`
		JWKS   string `json:"jwks_uri"`
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		return fmt.Errorf("reading its configuration: %w", err)
	}
	if doc.Issuer != k.issuer.Issuer {
		return fmt.Errorf("it calls itself %.200q, and the charter %q", doc.Issuer, k.issuer.Issuer)
	}
	if !strings.HasPrefix(doc.JWKS, "https://") {
		return fmt.Errorf("its jwks_uri %.200q is not https", doc.JWKS)
	}
	if text, err = k.get(ctx, doc.JWKS); err != nil {
		return err
	}
	keys, err := jwks.Parse(text)
	if err != nil {
		return err
	}
	g := &got{keys, k.cfg.Clock()}
	if old := k.got.Load(); old != nil && reflect.DeepEqual(old.keys, keys) {
		g.keys = old.keys // so that verified tokens stay remembered
	}
	k.got.Store(g)
	return nil
}

func (k *keeper) get(ctx context.Context, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "application/json")
	resp, err := k.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("asking %s: %s", url, resp.Status)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, jwks.MaxBytes+1))
	if err == nil && len(text) > jwks.MaxBytes {
		err = fmt.Errorf("the answer of %s has more than %d bytes", url, jwks.MaxBytes)
	}
	return text, err
}
