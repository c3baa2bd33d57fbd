package sidecar

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/pop"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/workload"
)

const (
	agent  = "https://agent.example"
	forUse = "reeve:demo"
)

// rig is a sidecar before a gateway that verifies what it gets as gateway and custodian do, with the proof's own code.
type rig struct {
	*Sidecar
	t      testing.TB
	client *http.Client
	end    func()     // ends Serve
	ended  chan error // what Serve returned

	mu      sync.Mutex   // guards what follows
	nonce   string       // that is taken
	stale   bool         // every nonce is refused
	asked   []*pop.Proof // of every request whose signature held
	who     []workload.Identity
	seen    []*http.Request
	bodies  []string
	spent   map[string]bool
	limit   int64
	refused []error
	answer  http.HandlerFunc // what answers a request that was taken; by default an empty object
}

type option func(*Config)

func newRig(t testing.TB, options ...option) *rig {
	t.Helper()
	r := &rig{t: t, nonce: "first", spent: map[string]bool{}, limit: 32 << 20}
	key := filepath.Join(t.TempDir(), "agent.key")
	jwks, err := CreateKey(key, "ed25519")
	must(t, err)
	gateway := httptest.NewUnstartedServer(nil)
	url := "http://" + gateway.Listener.Addr().String()
	e := estatetest.New(t, estatetest.Gateway(url), estatetest.Edit(func(p *estate.Plan) {
		p.Charter.Issuers = []statement.Issuer{{ID: "agent", Issuer: agent, JWKS: jwks, Algorithms: []string{"EdDSA"}}}
		p.Charter.Workloads[0].Identities = append(p.Charter.Workloads[0].Identities, statement.Identity{Issuer: "agent", Audience: forUse, Subject: agent})
	}))
	tokens, err := workload.NewTokens(e.Set, nil, nil)
	must(t, err)
	verifier := &workload.Verifier{Tokens: tokens}
	gateway.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { r.gateway(w, req, url, verifier) })
	gateway.Start()
	t.Cleanup(gateway.Close)
	cfg := &Config{Gateway: url, Listen: "127.0.0.1:0", Memory: defaultMemory, Key: key, Token: Token{Own: &Own{Issuer: agent, Audience: forUse}}}
	for _, o := range options {
		o(cfg)
	}
	must(t, cfg.Check())
	door, err := Open(cfg.Listen)
	must(t, err)
	r.Sidecar, err = New(cfg, Parts{Door: door, Log: slog.New(slog.DiscardHandler), Now: time.Now})
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	r.end, r.ended = cancel, make(chan error, 1)
	go func() { r.ended <- r.Serve(ctx, time.Minute) }()
	r.client = &http.Client{Transport: &http.Transport{DisableCompression: true, DialContext: func(context.Context, string, string) (net.Conn, error) {
		return net.Dial(door.Addr().Network(), door.Addr().String())
	}}}
	t.Cleanup(func() {
		r.client.CloseIdleConnections()
		cancel()
		must(t, <-r.ended)
	})
	return r
}

// gateway is the gateway and the custodian behind it.
func (r *rig) gateway(w http.ResponseWriter, req *http.Request, url string, v *workload.Verifier) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	proof := workload.Proof{Kind: workload.Pop, Value: []byte(strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer "))}
	if req.Header.Get(pop.FieldInput) == "" {
		proof.Kind = workload.Token
	}
	who, err := v.Verify(proof, &pop.Request{Method: req.Method, URL: url + req.RequestURI, Header: req.Header.Values, Body: body}, time.Now())
	r.mu.Lock()
	if err == nil && who.Pop != nil {
		r.asked = append(r.asked, who.Pop)
	}
	if req.RequestURI == mePath && err == nil {
		r.mu.Unlock()
		fmt.Fprintf(w, `{"workload":%q,"level":"W%d","credentials":[{"name":"research-openai","dialect":"openai","custodians":["c1","c2"]},{"name":"research-anthropic","dialect":"anthropic","custodians":["c3"]}],"limits":{"body_bytes":%d}}`, who.Workload, who.Level, r.limit)
		return
	}
	w.Header().Set(pop.FieldNonce, r.nonce)
	switch {
	case err != nil:
		r.refused = append(r.refused, err)
		w.WriteHeader(http.StatusUnauthorized)
	case who.Pop != nil && (r.stale || who.Pop.Terms.Nonce != r.nonce):
		w.Header().Set("Reeve-Refusal", "use_reeve_nonce")
		w.WriteHeader(http.StatusUnauthorized)
	case who.Pop != nil && r.spent[who.Pop.ClientNonce]:
		r.refused = append(r.refused, errors.New("replayed"))
		w.WriteHeader(http.StatusUnauthorized)
	default:
		if who.Pop != nil {
			r.spent[who.Pop.ClientNonce] = true
		}
		r.who, r.seen, r.bodies = append(r.who, who), append(r.seen, req), append(r.bodies, string(body))
		answer := r.answer
		r.mu.Unlock()
		if answer == nil {
			answer = func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "{}") }
		}
		answer(w, req)
		return
	}
	r.mu.Unlock()
}

// call makes a call as an SDK does.
func (r *rig) call(method, path, body string, change func(*http.Request)) *http.Response {
	r.t.Helper()
	resp, err := r.try(r.t.Context(), method, path, body, change)
	must(r.t, err)
	r.t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func (r *rig) try(ctx context.Context, method, path, body string, change func(*http.Request)) (*http.Response, error) {
	base := r.Door.URL()
	if base == "" {
		base = "http://sidecar"
	}
	req, err := http.NewRequestWithContext(ctx, method, base+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body == "" {
		req.Body, req.ContentLength = nil, 0
	} else {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Authorization", "Bearer "+r.Door.Key())
	if change != nil {
		change(req)
	}
	return r.client.Do(req)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

const chat = `{"model":"openai/demo-small","messages":[]}`

func TestProves(t *testing.T) {
	for _, c := range []struct {
		name, method, path, body string
		change                   func(*http.Request)
		credential, audience     string
	}{
		{"a chat", "POST", "/v1/chat/completions", chat, nil, "openai/demo-small", "c1"},
		{"a message", "POST", "/v1/messages?beta=true", `{"model":"anthropic/demo-claude"}`, nil, "anthropic/demo-claude", "c3"},
		{"without a body", "GET", "/v1/responses/resp_1?include[]=a%2Fb&x", "", nil, "none", "c1"},
		{"an odd path", "GET", "/v1/models/openai%2Fdemo;a=b?", "", nil, "none", "c1"},
		{"a body that is no model call", "POST", "/v1/chat/completions", "{", nil, "none", "c1"},
		{"of an unknown length", "POST", "/v1/chat/completions", chat, func(r *http.Request) { r.ContentLength = -1 }, "openai/demo-small", "c1"},
		{"a header field twice", "POST", "/v1/chat/completions", chat, func(r *http.Request) { r.Header["X-Many"] = []string{"a", "b"} }, "openai/demo-small", "c1"},
		{"what the client names", "POST", "/v1/chat/completions", chat, func(r *http.Request) { r.Header.Set("Reeve-Credential", "research-anthropic") }, "research-anthropic", "c3"},
		{"fields that are not the client's to set", "POST", "/v1/chat/completions", chat, func(r *http.Request) {
			for _, name := range []string{"Signature", "Signature-Input", "Content-Digest", "Reeve-Nonce", "Reeve-Key", "Reeve-Svid", "Reeve-Audience", "Reeve-Fallbacks", "X-Forwarded-For", "Cookie"} {
				r.Header.Set(name, "forged")
			}
		}, "openai/demo-small", "c1"},
		{"no User-Agent", "POST", "/v1/chat/completions", chat, func(r *http.Request) { r.Header["User-Agent"] = []string{""} }, "openai/demo-small", "c1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			resp := r.call(c.method, c.path, c.body, c.change)
			if resp.StatusCode != http.StatusOK || len(r.who) != 1 {
				t.Fatalf("%d, %v", resp.StatusCode, r.refused)
			}
			who, seen := r.who[0], r.seen[0]
			if who.Level != 2 || who.Pop.Terms.Credential != c.credential || who.Pop.Audience != c.audience {
				t.Errorf("W%d, signed for %+v", who.Level, who.Pop.Terms)
			}
			if seen.RequestURI != c.path || r.bodies[0] != c.body {
				t.Errorf("%s %q", seen.RequestURI, r.bodies[0])
			}
			if many := seen.Header["X-Many"]; c.name == "a header field twice" && !slices.Equal(many, []string{"a, b"}) {
				t.Errorf("X-Many: %q", many)
			}
			for name, values := range seen.Header {
				text := strings.Join(values, " ")
				if strings.Contains(text, r.Door.Key()) || strings.Contains(text, "forged") {
					t.Errorf("%s goes on: %s", name, text)
				}
				if own := strings.HasPrefix(name, "Reeve-") || slices.Contains([]string{"Signature", "Signature-Input", "Content-Digest", "Content-Length"}, name); !own && !who.Pop.Covers(name) {
					t.Errorf("%s is not covered", name)
				}
			}
		})
	}
}

// Every header field that SDKs put a key into is emptied, and the SDK's other fields go on.
func TestKeyStays(t *testing.T) {
	for _, name := range keyFields {
		r := newRig(t)
		resp := r.call("POST", "/v1/chat/completions", chat, func(req *http.Request) {
			req.Header.Del("Authorization")
			req.Header.Set(name, map[bool]string{true: "bearer "}[name == "Authorization"]+r.Door.Key())
			req.Header.Set("Anthropic-Version", "2023-06-01")
		})
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %d", name, resp.StatusCode)
		}
		if got := fmt.Sprint(r.seen[0].Header); strings.Contains(got, r.Door.Key()) || !strings.Contains(got, "2023-06-01") {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func TestNonces(t *testing.T) {
	r := newRig(t)
	for i, want := range []int{2, 3, 4} { // the first of all is refused once
		if resp := r.call("POST", "/v1/chat/completions", chat, nil); resp.StatusCode != http.StatusOK {
			t.Fatalf("call %d: %d", i, resp.StatusCode)
		}
		if got := len(r.who) + 1; got != want {
			t.Errorf("call %d: %d attempts in all, want %d", i, got, want)
		}
	}
	var attempts int
	r.mu.Lock()
	r.stale = true
	r.mu.Unlock()
	c := &request{method: "POST", uri: "/v1/chat/completions", header: http.Header{}, body: []byte(chat), terms: pop.Terms{Credential: "x", Audience: "c1"}}
	resp, err := r.send(t.Context(), c)
	must(t, err)
	resp.Body.Close()
	if attempts = c.attempts; attempts != 2 || resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("%d attempts, then %d: a nonce that is refused again is the client's to see", attempts, resp.StatusCode)
	}
	if len(r.refused) != 0 {
		t.Errorf("each attempt is signed anew: %v", r.refused)
	}
	if a := r.asked[len(r.asked)-2:]; a[0].ClientNonce != a[1].ClientNonce || !a[0].Created.Equal(a[1].Created) {
		t.Error("a gateway that passes the first attempt on gets a second one that counts too")
	}
}

func TestDoor(t *testing.T) {
	r := newRig(t)
	_, port, err := net.SplitHostPort(r.Door.Addr().String())
	must(t, err)
	for _, c := range []struct {
		name   string
		change func(*http.Request)
		status int
		code   string
	}{
		{"the key", nil, 200, ""},
		{"by the name localhost", func(q *http.Request) { q.Host = "localhost:" + port }, 200, ""},
		{"the same key twice", func(q *http.Request) { q.Header.Set("X-Api-Key", r.Door.Key()) }, 200, ""},
		{"no key", func(q *http.Request) { q.Header.Del("Authorization") }, 401, "sidecar_key"},
		{"an empty key", func(q *http.Request) { q.Header.Set("Authorization", "Bearer ") }, 401, "sidecar_key"},
		{"another key", func(q *http.Request) { q.Header.Set("Authorization", "Bearer sk-other") }, 401, "sidecar_key"},
		{"a part of the key", func(q *http.Request) { q.Header.Set("Authorization", "Bearer "+r.Door.Key()[:20]) }, 401, "sidecar_key"},
		{"another scheme", func(q *http.Request) { q.Header.Set("Authorization", "Basic "+r.Door.Key()) }, 401, "sidecar_key"},
		{"another key beside it", func(q *http.Request) { q.Header.Set("X-Api-Key", "sk-other") }, 401, "sidecar_key"},
		{"a name that somebody's DNS points here", func(q *http.Request) { q.Host = "rebound.example:" + port }, 403, "sidecar_host"},
		{"another port", func(q *http.Request) { q.Host = "127.0.0.1:1" }, 403, "sidecar_host"},
		{"no port", func(q *http.Request) { q.Host = "127.0.0.1" }, 403, "sidecar_host"},
		{"a page", func(q *http.Request) { q.Header.Set("Origin", "https://page.example") }, 403, "sidecar_origin"},
		{"a page of this machine", func(q *http.Request) { q.Header.Set("Origin", "http://127.0.0.1:"+port) }, 403, "sidecar_origin"},
		{"a sandboxed page", func(q *http.Request) { q.Header.Set("Origin", "null") }, 403, "sidecar_origin"},
	} {
		resp := r.call("POST", "/v1/chat/completions", chat, c.change)
		if resp.StatusCode != c.status || resp.Header.Get("Reeve-Refusal") != c.code {
			t.Errorf("%s: %d %s", c.name, resp.StatusCode, resp.Header.Get("Reeve-Refusal"))
		}
	}
	if len(r.who) != 3 {
		t.Errorf("%d requests went on", len(r.who))
	}
	if other := newRig(t); other.Door.Key() == r.Door.Key() || len(r.Door.Key()) < 40 {
		t.Error("a key is not that of one run")
	}
}

// As a proxy it would lend its proof to whatever the client names.
func TestNoProxy(t *testing.T) {
	r := newRig(t)
	for _, line := range []string{"GET http://elsewhere.example/v1/models HTTP/1.1", "GET //elsewhere.example/v1/models HTTP/1.1", "CONNECT elsewhere.example:443 HTTP/1.1"} {
		c, err := net.Dial("tcp", r.Door.Addr().String())
		must(t, err)
		defer c.Close()
		fmt.Fprintf(c, "%s\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n", line, r.Door.Addr(), r.Door.Key())
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		must(t, err)
		if code := resp.Header.Get("Reeve-Refusal"); code != "sidecar_path" && code != "sidecar_host" {
			t.Errorf("%s: %d %s", line, resp.StatusCode, code)
		}
	}
	if len(r.seen) != 0 {
		t.Error("something went on")
	}
}

func TestSocket(t *testing.T) {
	dir, err := os.MkdirTemp("", "s") // short: a socket's path has at most 107 bytes
	must(t, err)
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "s")
	r := newRig(t, func(c *Config) { c.Listen = "unix:" + path })
	info, err := os.Stat(path)
	must(t, err)
	if info.Mode().Perm() != 0o600 || r.Door.Key() != "" {
		t.Errorf("mode %o, key %q", info.Mode().Perm(), r.Door.Key())
	}
	if resp := r.call("POST", "/v1/chat/completions", chat, func(q *http.Request) { q.Header.Set("Authorization", "Bearer whatever") }); resp.StatusCode != 200 || strings.Contains(fmt.Sprint(r.seen[0].Header), "whatever") {
		t.Errorf("%d %v", resp.StatusCode, r.seen[0].Header)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("%v %v", left, err)
	}
	path += "2"
	second, err := Open("unix:" + path)
	must(t, err)
	second.Close()
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the socket stays: %v", err)
	}
	must(t, os.WriteFile(path, nil, 0o600))
	if _, err := Open("unix:" + path); err == nil {
		t.Error("a file was replaced by a socket")
	}
}

// Each event reaches the client before the next one is sent.
func TestStreamsAreUnbuffered(t *testing.T) {
	next := make(chan struct{})
	r := newRig(t)
	r.answer = func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 3 {
			fmt.Fprintf(w, "data: %d\n\n", i)
			w.(http.Flusher).Flush()
			select {
			case <-next:
			case <-q.Context().Done():
				return
			}
		}
	}
	resp := r.call("POST", "/v1/chat/completions", chat, nil)
	lines := bufio.NewReader(resp.Body)
	for i := range 3 {
		line, err := lines.ReadString('\n')
		if err != nil || line != fmt.Sprintf("data: %d\n", i) {
			t.Fatalf("%q %v", line, err)
		}
		lines.ReadString('\n')
		next <- struct{}{}
	}
	if rest, err := io.ReadAll(lines); err != nil || len(rest) != 0 {
		t.Errorf("%q %v", rest, err)
	}
}

// An answer that breaks off is not made to look whole.
func TestBrokenAnswers(t *testing.T) {
	r := newRig(t)
	r.answer = func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "data: 1\n\n")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	resp := r.call("POST", "/v1/chat/completions", chat, nil)
	if b, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("whole: %q", b)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.seen) != 1 {
		t.Errorf("sent %d times", len(r.seen))
	}
}

// A gateway that closes the connection without an answer gets the request once: also a GET, which net/http would send again.
func TestSentOnce(t *testing.T) {
	for _, method := range []string{"GET", "POST"} {
		r := newRig(t)
		r.call("GET", "/v1/models", "", nil) // a connection that is there, and a nonce
		r.mu.Lock()
		before := len(r.seen)
		r.answer = func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
		r.mu.Unlock()
		body := map[string]string{"POST": chat}[method]
		if resp := r.call(method, "/v1/responses/x", body, func(q *http.Request) { q.Header.Set("Idempotency-Key", "k") }); resp.StatusCode != http.StatusBadGateway {
			t.Errorf("%s: %d", method, resp.StatusCode)
		}
		r.mu.Lock()
		if n := len(r.seen) - before; n != 1 || len(r.refused) != 0 {
			t.Errorf("%s: sent %d times, %v", method, n, r.refused)
		}
		r.mu.Unlock()
	}
}

func TestClientLeaves(t *testing.T) {
	arrived, gone := make(chan struct{}), make(chan struct{})
	r := newRig(t)
	r.answer = func(_ http.ResponseWriter, q *http.Request) {
		close(arrived)
		<-q.Context().Done()
		close(gone)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-arrived
		cancel()
	}()
	if _, err := r.try(ctx, "POST", "/v1/chat/completions", chat, nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	<-gone
}

func TestBodiesAreBounded(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Memory = 10_000 })
	r.limit = 6_000
	r.call("GET", "/v1/models", "", nil)
	for _, c := range []struct {
		size   int
		length bool
		status int
	}{{6_000, true, 200}, {6_001, true, 413}, {6_001, false, 413}, {100, false, 200}} {
		resp := r.call("POST", "/v1/chat/completions", strings.Repeat("x", c.size), func(q *http.Request) {
			if !c.length {
				q.ContentLength = -1
			}
		})
		if resp.StatusCode != c.status {
			t.Errorf("%d bytes: %d", c.size, resp.StatusCode)
		}
	}
	r.lent.Add(9_000)
	if resp := r.call("POST", "/v1/chat/completions", strings.Repeat("x", 1_000), nil); resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("beyond the memory: %d", resp.StatusCode)
	}
	r.lent.Add(-9_000)
	for end := time.Now().Add(10 * time.Second); r.lent.Load() != 0; time.Sleep(time.Millisecond) { // a handler ends after its answer
		if time.Now().After(end) {
			t.Fatalf("%d bytes were not given back", r.lent.Load())
		}
	}
}

// The log has neither bodies nor keys.
func TestLogIsQuiet(t *testing.T) {
	lines := make(writes, 8)
	r := newRig(t)
	r.Log = slog.New(slog.NewJSONHandler(lines, nil))
	r.call("POST", "/v1/chat/completions?q=in-the-query", `{"model":"m","messages":"in-the-body"}`, nil)
	got := <-lines
	r.call("POST", "/v1/chat/completions", chat, func(q *http.Request) { q.Header.Set("Authorization", "Bearer in-a-header") })
	got += <-lines
	if strings.Contains(got, "in-") || strings.Contains(got, r.Door.Key()) || !strings.Contains(got, `"status":401`) {
		t.Error(got)
	}
}

// writes is a writer that passes on each write.
type writes chan string

func (w writes) Write(p []byte) (int, error) {
	w <- string(p)
	return len(p), nil
}

// Ready is a sidecar whose proof the gateway took when it was last asked.
func TestReadiness(t *testing.T) {
	r := newRig(t)
	var h Health
	ready := func() (int, string) {
		w := httptest.NewRecorder()
		h.ready(w, nil)
		return w.Code, w.Body.String()
	}
	if status, text := ready(); status != http.StatusServiceUnavailable || !strings.Contains(text, "not asked yet") {
		t.Errorf("before: %d %s", status, text)
	}
	if err := r.Ask(t.Context()); err != nil || !h.Tell(err) || h.Tell(err) {
		t.Errorf("asked: %v", err)
	}
	if status, text := ready(); status != http.StatusOK {
		t.Errorf("after: %d %s", status, text)
	}
	if workload, level := r.Who(); workload != "research-agent" || level != "W2" {
		t.Errorf("%s %s", workload, level)
	}
	r.source = newHeld(func(context.Context) (string, error) { return bound(t, "", time.Now().Add(time.Hour)), nil }, nil, time.Now)
	if err := r.Ask(t.Context()); err == nil || !h.Tell(err) {
		t.Errorf("a token of a stranger is taken: %v", err)
	}
	if status, text := ready(); status != http.StatusServiceUnavailable || !strings.Contains(text, "does not take this sidecar's proof (401)") {
		t.Errorf("refused: %d %s", status, text)
	}
}

// Many calls at one time, with nonces that end meanwhile: each is taken once.
func TestTogether(t *testing.T) {
	r := newRig(t)
	var all sync.WaitGroup
	for i := range 24 {
		all.Go(func() {
			resp, err := r.try(t.Context(), "POST", "/v1/chat/completions", chat, nil)
			if err != nil {
				t.Error(err)
				return
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK && resp.Header.Get("Reeve-Refusal") != "use_reeve_nonce" {
				t.Errorf("%d", resp.StatusCode)
			}
		})
		if i == 12 {
			r.mu.Lock()
			r.nonce = "second"
			r.mu.Unlock()
		}
	}
	all.Wait()
	if len(r.refused) != 0 || len(r.who) != len(r.spent) {
		t.Errorf("%v, %d of %d", r.refused, len(r.spent), len(r.who))
	}
}

// A sidecar that is told to end takes nothing new and lets what is in flight end.
func TestDrain(t *testing.T) {
	r := newRig(t)
	begun, further := make(chan struct{}), make(chan struct{})
	r.answer = func(w http.ResponseWriter, _ *http.Request) {
		w.(http.Flusher).Flush()
		close(begun)
		<-further
		io.WriteString(w, "the end")
	}
	resp := r.call("POST", "/v1/chat/completions", chat, nil)
	<-begun
	r.end()
	for { // until the door is shut
		c, err := net.Dial("tcp", r.Door.Addr().String())
		if err != nil {
			break
		}
		c.Close()
	}
	close(further)
	if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "the end" {
		t.Errorf("%q %v", b, err)
	}
}
