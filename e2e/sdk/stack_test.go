// Package sdk tries the gateway with the SDKs that people use, unmodified: openai-go, anthropic-sdk-go, and the openai and
// @anthropic-ai/sdk packages of Node. README.md says how to prepare and run it.
package sdk

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/reevehq/reeve/internal/demo/upstream"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/gateway"
	"github.com/reevehq/reeve/internal/hop"
	"github.com/reevehq/reeve/internal/metrics"
	"github.com/reevehq/reeve/internal/process"
	"github.com/reevehq/reeve/internal/scan"
	"github.com/reevehq/reeve/internal/workload"
)

// The models of the test estate, by names that need no mapping.
const (
	openaiModel    = "demo-small"
	embedModel     = "demo-embed"
	anthropicModel = "demo-claude"
)

// stack is something to point an SDK at: the gateway, the hop, a custodian's side and the demo upstream.
type stack struct {
	url  string                                                       // of the gateway
	key  string                                                       // of research-agent
	maps bool                                                         // names of models are mapped
	live func() int64                                                 // requests in hand behind the gateway's front
	seen func(since int64) (requests []upstream.Request, count int64) // what the upstream saw
}

// each runs the tests over the gateway's handler with a scripted custodian, and over the real processes.
func each(t *testing.T, f func(*testing.T, *stack)) {
	t.Run("handler", func(t *testing.T) { f(t, newStack(t)) })
	t.Run("processes", func(t *testing.T) { f(t, processes(t)) })
}

// newStack is a stack on the demo upstream.
func newStack(t testing.TB) *stack {
	t.Helper()
	up, origin, client := newUpstream(t)
	s := wire(t, origin, client)
	s.seen = func(since int64) ([]upstream.Request, int64) { return up.Seen().Since(since), up.Seen().Count() }
	return s
}

// wire runs the real gateway handler and the real hop in this process. The custodian's side is scripted: it swaps the key,
// refuses more than 100,000 tokens as the demo's policy does, and passes everything else through to origin.
func wire(t testing.TB, origin string, client *http.Client) *stack {
	t.Helper()
	e := estatetest.New(t)
	c := &custodian{origin: origin, client: client}
	dir, err := os.MkdirTemp("", "hop") // short: a socket's path has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	server := hop.NewServer(hop.ServerConfig{Peers: func(hop.Peer) string { return "g1" }, Handler: c.serve})
	go server.Serve(l)
	to := hop.NewClient(hop.ClientConfig{Dial: hop.Unix(filepath.Join(dir, "s"))})
	g := gateway.New(gateway.Parts{ID: "g1", Custodian: to, Proofs: &workload.Verifier{Keys: e.Workloads()}, Journal: process.NewJournal(io.Discard, "g1"), Metrics: new(metrics.Registry)})
	if err := g.Use(e.Set); err != nil {
		t.Fatal(err)
	}
	front := httptest.NewUnstartedServer(g)
	front.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	front.Start()
	t.Cleanup(func() {
		front.CloseClientConnections()
		front.Close()
		to.Close()
		done, cancel := context.WithCancel(context.Background())
		cancel()
		server.Shutdown(done)
	})
	return &stack{url: front.URL, key: string(e.Keys["research-agent"].Reveal()), live: c.live.Load}
}

// newUpstream serves the demo upstream and returns its origin and a client that trusts it.
func newUpstream(t testing.TB) (*upstream.Server, string, *http.Client) {
	t.Helper()
	state := filepath.Join(t.TempDir(), "upstream")
	up, err := upstream.New(upstream.Config{State: state})
	if err != nil {
		t.Fatal(err)
	}
	var keys []upstream.Key
	for _, dialect := range []string{"openai", "anthropic"} {
		keys = append(keys, upstream.HashKey("research-"+dialect, dialect, []byte(upstreamKey("research-"+dialect))))
	}
	if err := upstream.WriteKeys(state, keys); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- up.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		<-ended
		up.Close()
	})
	pool := x509.NewCertPool()
	ca, err := os.ReadFile(filepath.Join(state, "demo-ca", "ca.pem"))
	if block, _ := pem.Decode(ca); err != nil || block == nil || !pool.AppendCertsFromPEM(ca) {
		t.Fatalf("the demo upstream's CA: %v", err)
	}
	client := &http.Client{
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableCompression: true, MaxIdleConnsPerHost: 64},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	t.Cleanup(client.CloseIdleConnections)
	return up, "https://" + l.Addr().String(), client
}

func upstreamKey(credential string) string { return "demo-upstream-key-of-" + credential }

// custodian is the scripted custodian's side.
type custodian struct {
	origin string
	client *http.Client
	live   atomic.Int64
}

func (c *custodian) serve(ctx context.Context, _ hop.Peer, o *hop.Open, w *hop.Writer) {
	c.live.Add(1)
	defer c.live.Add(-1)
	if call, err := scan.Body(o.Body); err == nil && call.MaxTokens > 100_000 {
		w.Refuse(&hop.Refusal{Code: "policy_denied", Status: 403, Message: "Policy denies this request.", Receipt: "v1.test.0.x.y"})
		return
	}
	path := strings.TrimPrefix(strings.TrimPrefix(o.Path, "/openai"), "/anthropic")
	req, err := http.NewRequestWithContext(ctx, o.Method, c.origin+path, bytes.NewReader(o.Body))
	if err != nil {
		w.Refuse(&hop.Refusal{Code: "bad_path", Status: 400, Message: err.Error()})
		return
	}
	for _, f := range o.Header {
		req.Header.Add(f.Name, f.Value)
	}
	if strings.HasSuffix(o.Credential, "-anthropic") {
		req.Header.Set("X-Api-Key", upstreamKey(o.Credential))
	} else {
		req.Header.Set("Authorization", "Bearer "+upstreamKey(o.Credential))
	}
	resp, err := c.client.Do(req)
	if err != nil {
		w.Refuse(&hop.Refusal{Code: "upstream_unreachable", Status: 502, Message: err.Error(), Sent: true})
		return
	}
	defer resp.Body.Close()
	head := []hop.Field{{Name: "Reeve-Receipt", Value: "v1.test.1.x.y"}}
	for name, values := range resp.Header {
		for _, v := range values {
			head = append(head, hop.Field{Name: name, Value: v})
		}
	}
	w.Head(resp.StatusCode, head)
	if _, err := io.Copy(w, resp.Body); err != nil {
		w.Break("the upstream broke off")
		return
	}
	w.End(nil)
}

// eventually waits for what happens in another process or goroutine, at most some seconds.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(what + ": did not happen")
		}
	}
}
