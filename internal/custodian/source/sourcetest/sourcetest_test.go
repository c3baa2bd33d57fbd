package sourcetest

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/reevehq/reeve/internal/custodian/egress"
	"github.com/reevehq/reeve/internal/custodian/source"
	"github.com/reevehq/reeve/internal/hop"
	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/internal/secret"
	"github.com/reevehq/reeve/internal/statement"
)

const root = "demo-root-of-the-source-0001"

// office is the double of a provider that gives out numbered keys, each for a ticket that is good once.
type office struct {
	mu    sync.Mutex
	n     int
	alive map[string]bool // by lease
	state string          // the ticket that is good
}

func (o *office) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	var in struct{ Ticket, Handle string }
	if r.Method != "POST" || r.Header.Get("Authorization") != "Bearer "+root || json.Unmarshal(body, &in) != nil {
		http.Error(w, `{"error":"no"}`, http.StatusUnauthorized)
		return
	}
	switch r.URL.Path {
	case "/ticket":
		o.state = fmt.Sprintf("ticket-number-%04d", len(o.alive)+o.n)
		json.NewEncoder(w).Encode(map[string]any{"ticket": o.state})
	case "/key":
		if in.Ticket != o.state || o.state == "" {
			http.Error(w, `{"error":"a used ticket"}`, http.StatusForbidden)
			return
		}
		o.n++
		o.state = ""
		id := fmt.Sprintf("key-%d", o.n)
		o.alive[id] = true
		json.NewEncoder(w).Encode(map[string]any{"id": id, "key": "demo-office-key-" + id, "handle": "demo-handle-of-" + id, "expires_in": 900})
	case "/renew":
		json.NewEncoder(w).Encode(map[string]any{"expires_in": 900})
	case "/drop":
		delete(o.alive, strings.TrimPrefix(in.Handle, "demo-handle-of-"))
	case "/all":
		var ids []string
		for id := range o.alive {
			ids = append(ids, id)
		}
		json.NewEncoder(w).Encode(map[string]any{"ids": ids})
	default:
		http.NotFound(w, r)
	}
}

// fake is an honest source of office, with a place for each fault.
type fake struct {
	cfg    source.Config
	client *source.Client
	bad    faults
	mu     sync.Mutex
	last   *source.Secret
	n      int
}

// faults are what the suite must see. Each names the check that sees it.
type faults struct {
	noDurable, noDurableRevoke, noRoot, rootWiped bool
	quotes, quotesCoded, logs, wraps, twoTypes    bool
	downRefused, lenient, ignoresTail, lazyExpiry bool
	noExpiry, longExpiry, sameLease, secretLease  bool
	noContext, netHTTP, handlePath, revokeTwice   bool
	forgetful, revokesNothing, nothing, sweepsAll, unsaved,
	anywhere, untyped, otherHost, renewsOther bool
}

func (b faults) make(cfg source.Config) (source.Source, error) {
	if b.anywhere {
		cfg.Record.From.Networks = []string{"127.0.0.0/8"}
	}
	c, err := source.NewClient(cfg.Record.From, cfg.Resolve)
	return &fake{cfg: cfg, client: c, bad: b}, err
}

func (f *fake) call(ctx context.Context, d ledger.Durable, path string, in map[string]string, out any) error {
	key, err := f.cfg.Root(d)
	if err != nil && !f.bad.noRoot && !f.bad.noDurable && !f.bad.noDurableRevoke {
		return err
	}
	if f.bad.logs {
		slog.Info("asking", "with", string(key.Reveal()))
	}
	body, _ := json.Marshal(in)
	value := append([]byte("Bearer "), key.Reveal()...)
	if f.bad.rootWiped {
		defer key.Wipe()
	}
	if f.bad.handlePath {
		path += "?key=" + string(key.Reveal())
	}
	if f.bad.noContext {
		ctx = context.WithoutCancel(ctx)
	}
	var a *source.Answer
	if f.bad.netHTTP || f.bad.otherHost {
		a, err = f.plain(ctx, path, string(value), body)
	} else {
		a, err = f.client.Do(ctx, source.Request{Method: "POST", Path: path, Secret: egress.Secret{Name: "Authorization", Value: value}, Body: body,
			Header: []hop.Field{{Name: "Content-Type", Value: "application/json"}}})
	}
	if err != nil {
		if f.bad.untyped {
			return errors.New("it failed")
		}
		if f.bad.twoTypes {
			return fmt.Errorf("%w: %w", source.ErrMalformed, err)
		}
		return err
	}
	switch {
	case f.bad.quotes && a.Status != 200:
		return fmt.Errorf("%w: status %d: %.200s", source.ErrRefused, a.Status, a.Body)
	case f.bad.quotesCoded && a.Status != 200:
		return fmt.Errorf("%w: status %d: %.200s", source.ErrRefused, a.Status, base64.StdEncoding.EncodeToString(a.Body))
	case a.Status == 429 || a.Status >= 500 && !f.bad.downRefused:
		return fmt.Errorf("%w: office: status %d", source.ErrDown, a.Status)
	case a.Status/100 == 4 || a.Status >= 500:
		return fmt.Errorf("%w: office: status %d", source.ErrRefused, a.Status)
	}
	if out == nil {
		return nil
	}
	if f.bad.ignoresTail {
		err = json.NewDecoder(bytes.NewReader(a.Body)).Decode(out)
	} else {
		err = json.Unmarshal(a.Body, out)
	}
	if err != nil && f.bad.wraps {
		return fmt.Errorf("%w: %q", source.ErrMalformed, a.Body)
	}
	if err != nil {
		return fmt.Errorf("%w: office", source.ErrMalformed)
	}
	return nil
}

// plain is what nobody should do: the standard client, which follows and dials what it is told.
func (f *fake) plain(ctx context.Context, path, value string, body []byte) (*source.Answer, error) {
	r, _ := http.NewRequestWithContext(ctx, "POST", f.cfg.Record.From.URL+path, bytes.NewReader(body))
	r.Header.Set("Authorization", value)
	if f.bad.otherHost {
		r.Host = "other.example.com"
	}
	t := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, strings.Replace(addr, hostname, "127.0.0.1", 1))
	}}
	defer t.CloseIdleConnections()
	resp, err := (&http.Client{Transport: t}).Do(r)
	if err != nil {
		return nil, source.ErrDown
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, source.ErrDown
	}
	return &source.Answer{Status: resp.StatusCode, Body: b}, nil
}

func (f *fake) Fetch(ctx context.Context, d ledger.Durable, _ source.Ask) (*source.Secret, error) {
	if !d.Valid() && !f.bad.noDurable {
		return nil, source.ErrNotDurable
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n++
	if f.bad.sameLease && f.last != nil {
		return f.last, nil
	}
	var t struct{ Ticket string }
	if err := f.call(ctx, d, "/ticket", map[string]string{}, &t); err != nil {
		return nil, err
	}
	if f.bad.nothing {
		return nil, nil
	}
	if err := f.cfg.State.Save(secret.New([]byte(t.Ticket))); err != nil && !f.bad.unsaved {
		return nil, fmt.Errorf("%w: office: %w", source.ErrDown, err)
	}
	var k struct {
		ID, Key, Handle string
		ExpiresIn       int64 `json:"expires_in"`
	}
	if err := f.call(ctx, d, "/key", map[string]string{"ticket": t.Ticket}, &k); err != nil {
		return nil, err
	}
	if (k.ID == "" || k.Key == "" || k.Handle == "" || len(k.ID) > 100 || k.ExpiresIn <= 0 && !f.bad.lazyExpiry || k.ExpiresIn > 86400 && !f.bad.lazyExpiry) && !f.bad.lenient {
		return nil, fmt.Errorf("%w: office", source.ErrMalformed)
	}
	now := f.cfg.Clock()
	s := &source.Secret{Value: secret.New([]byte(k.Key)), Handle: secret.New([]byte(k.Handle)), Lease: k.ID, Issued: now, Expires: now.Add(time.Duration(k.ExpiresIn) * time.Second)}
	if f.bad.noExpiry {
		s.Expires = time.Time{}
	}
	if f.bad.longExpiry {
		s.Expires = now.Add(24 * time.Hour)
	}
	if f.bad.secretLease {
		s.Lease = "lease of " + k.Key
	}
	if f.bad.forgetful && f.n == 1 {
		s.Lease = "key-1"
	}
	f.last = s
	return s, nil
}

func (f *fake) Revoke(ctx context.Context, d ledger.Durable, old *source.Secret) error {
	if !d.Valid() && !f.bad.noDurableRevoke {
		return source.ErrNotDurable
	}
	if f.bad.revokesNothing {
		return nil
	}
	if f.bad.revokeTwice && bytes.HasPrefix(old.Handle.Reveal(), []byte("gone")) {
		return source.ErrRefused
	}
	err := f.call(ctx, d, "/drop", map[string]string{"handle": string(old.Handle.Reveal())}, nil)
	if f.bad.revokeTwice && err == nil {
		old.Handle = secret.New([]byte("gone-with-the-first"))
	}
	return err
}

func (f *fake) Renew(ctx context.Context, d ledger.Durable, old *source.Secret) (*source.Secret, error) {
	if !d.Valid() {
		return nil, source.ErrNotDurable
	}
	var k struct {
		ExpiresIn int64 `json:"expires_in"`
	}
	if err := f.call(ctx, d, "/renew", map[string]string{"handle": string(old.Handle.Reveal())}, &k); err != nil {
		return nil, err
	}
	next := *old
	next.Expires = f.cfg.Clock().Add(time.Duration(k.ExpiresIn) * time.Second)
	if f.bad.renewsOther {
		next.Lease = "key-0"
	}
	return &next, nil
}

func (f *fake) Sweep(ctx context.Context, d ledger.Durable, keep []string) (deleted []string, err error) {
	if !d.Valid() {
		return nil, source.ErrNotDurable
	}
	var all struct{ IDs []string }
	if err := f.call(ctx, d, "/all", map[string]string{}, &all); err != nil {
		return nil, err
	}
	for _, id := range all.IDs {
		if len(keep) > 0 && id == keep[0] && !f.bad.sweepsAll {
			continue
		}
		if err := f.call(ctx, d, "/drop", map[string]string{"handle": "demo-handle-of-" + id}, nil); err != nil {
			return deleted, err
		}
		deleted = append(deleted, id)
	}
	return deleted, nil
}

func (f *fake) Close() {
	f.client.Close()
}

func harness(b faults) Harness {
	return Harness{
		New: b.make, Root: root, Life: 15 * time.Minute,
		Record: func(origin string) statement.Credential {
			return statement.Credential{ID: "a-credential", Source: "office", From: statement.From{URL: origin}}
		},
		Double: func(string) Double {
			o := &office{alive: map[string]bool{}}
			return Double{Handler: o, Alive: func(s *source.Secret) bool {
				o.mu.Lock()
				defer o.mu.Unlock()
				return o.alive[s.Lease]
			}}
		},
		Malformed: []string{`{"id":"key-1","key":"demo-office-key-1","handle":"demo-handle-of-1","expires_in":"900"}`},
	}
}

func TestHonestSource(t *testing.T) { Run(t, harness(faults{})) }

// Every rule is seen red once, by a source that breaks it.
func TestFaultySources(t *testing.T) {
	d := Durable(t)
	run := map[string]func(*Harness, ledger.Durable) error{}
	for _, c := range checks() {
		run[c.name] = c.run
	}
	seen := map[string]bool{}
	for _, tt := range []struct {
		check, says string
		bad         faults
	}{
		{"fetches", "tells", faults{}}, // see below: the double tells no end
		{"fetches", "lives", faults{noExpiry: true}},
		{"fetches", "lives", faults{longExpiry: true}},
		{"fetches", "may be shown", faults{secretLease: true}},
		{"fetches", "log line", faults{logs: true}},
		{"fetches", "path or query", faults{handlePath: true}},
		{"fetches", "names the host", faults{otherHost: true}},
		{"fetches", "neither", faults{nothing: true}},
		{"fetches", "belong to the store", faults{rootWiped: true}},
		{"needs a durable entry", "Fetch", faults{noDurable: true}},
		{"needs a durable entry", "Revoke", faults{noDurableRevoke: true}},
		{"needs its root", "before the root", faults{noRoot: true}},
		{"leases differ", "two secrets", faults{sameLease: true}},
		{"failures", "quotes an answer, as itself", faults{quotes: true}},
		{"failures", "quotes an answer, as base64", faults{quotesCoded: true}},
		{"failures", "quotes", faults{wraps: true}},
		{"failures", "503", faults{downRefused: true}},
		{"failures", "a tail", faults{ignoresTail: true}},
		{"failures", "wraps 2", faults{twoTypes: true}},
		{"failures", "redirect pointed", faults{netHTTP: true}},
		{"failures", "endless", faults{netHTTP: true}},
		{"failures", "gzip", faults{netHTTP: true}},
		{"answers changed", "without a value", faults{lenient: true}},
		{"answers changed", "it expired", faults{lazyExpiry: true}},
		{"answers changed", "1 to 256 bytes", faults{lenient: true}},
		{"a call ends with its context", "did not return", faults{noContext: true}},
		{"close ends calls", "did not return", faults{netHTTP: true}},
		{"renews", "another secret", faults{renewsOther: true}},
		{"nobody listens", "want ErrDown", faults{untyped: true}},
		{"private addresses", "private", faults{anywhere: true}},
		{"revokes", "takes the secret", faults{revokesNothing: true}},
		{"revokes", "what is gone", faults{revokeTwice: true}},
		{"revoking fails", "403", faults{revokesNothing: true}},
		{"sweeps", "Sweep deleted", faults{sweepsAll: true}},
		{"concurrent use", "have the lease", faults{sameLease: true}},
		{"survives reopening", "once more", faults{forgetful: true}},
		{"stores before use", "could not be saved", faults{unsaved: true}},
	} {
		h := harness(tt.bad)
		if tt.says == "tells" {
			h.Life = 0
		}
		if tt.says == "did not return" {
			h.patience = 300 * time.Millisecond
		}
		err := run[tt.check](&h, d)
		if err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %+v: got %.600v, want one that says %q", tt.check, tt.bad, err, tt.says)
		}
		seen[tt.check] = true
	}
	for name := range run {
		if !seen[name] {
			t.Errorf("no source breaks %q", name)
		}
	}
}

func TestLeak(t *testing.T) {
	for text, want := range map[string]bool{
		"nothing": false, "x demo-root-of-the-source-0001 y": true, fmt.Sprintf("%x", root): true, fmt.Sprint([]byte(root)): true, fmt.Sprintf("%#v", []byte(root)): true,
		base64.StdEncoding.EncodeToString([]byte("user:" + root + "!")): true, base64.URLEncoding.EncodeToString([]byte("??" + root)): true, "demo-root-of": false,
	} {
		if got := leak(text, []string{root}); (got != "") != want {
			t.Errorf("%s: %q", text, got)
		}
	}
	pem := "-----BEGIN KEY-----\nAAECAwQFBgcICQoL\n/w+=/w+=/w+=/w+=\n-----END KEY-----\n"
	for text, want := range map[string]bool{"-----BEGIN KEY-----": false, "line AAECAwQFBgcICQoL": true, "%2Fw%2B%3D%2Fw%2B%3D%2Fw%2B%3D%2Fw%2B%3D": true} {
		if got := leak(text, []string{pem}); (got != "") != want {
			t.Errorf("%s: %q", text, got)
		}
	}
}
