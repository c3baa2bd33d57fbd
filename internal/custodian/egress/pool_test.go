package egress

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/reevehq/reeve/internal/hop"
)

const okAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

func sendOK(t testing.TB, p *Pool) {
	t.Helper()
	r, err := p.Send(context.Background(), post("{}"))
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(r.Body); err != nil || string(b) != "ok" {
		t.Fatalf("%q, %v", b, err)
	}
}

func (p *Pool) counts() (open, idle int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.conns), len(p.idle)
}

func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it did not come to pass that %s", what)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for name, edit := range map[string]func(*Config){
		"http":             func(c *Config) { c.Destination.Origin = "http://example.com" },
		"path":             func(c *Config) { c.Destination.Origin = "https://example.com/v1" },
		"slash":            func(c *Config) { c.Destination.Origin = "https://example.com/" },
		"user":             func(c *Config) { c.Destination.Origin = "https://a:b@example.com" },
		"query":            func(c *Config) { c.Destination.Origin = "https://example.com?a" },
		"fragment":         func(c *Config) { c.Destination.Origin = "https://example.com#a" },
		"no host":          func(c *Config) { c.Destination.Origin = "https://" },
		"no host but port": func(c *Config) { c.Destination.Origin = "https://:443" },
		"port":             func(c *Config) { c.Destination.Origin = "https://example.com:0" },
		"port too high":    func(c *Config) { c.Destination.Origin = "https://example.com:65536" },
		"empty port":       func(c *Config) { c.Destination.Origin = "https://example.com:" },
		"line break":       func(c *Config) { c.Destination.Origin = "https://example.com\r\nX: y" },
		"zone":             func(c *Config) { c.Destination.Origin = "https://[fe80::1%25eth0]" },
		"network":          func(c *Config) { c.Destination.Networks = []string{"10.0.0.1/8"} },
		"network word":     func(c *Config) { c.Destination.Networks = []string{"loopback"} },
		"proxy network":    func(c *Config) { c.Destination.ProxyNetworks = []string{"10.0.0.0"} },
		"proxy scheme":     func(c *Config) { c.Destination.Proxy = "https://proxy:3128" },
		"proxy port":       func(c *Config) { c.Destination.Proxy = "http://proxy" },
		"ca":               func(c *Config) { c.Destination.CA = "no PEM" },
	} {
		cfg := Config{}
		cfg.Destination.Origin = "https://example.com"
		if _, err := New(cfg); err != nil {
			t.Fatal(err)
		}
		edit(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: %+v was taken", name, cfg.Destination)
		}
	}
}

func TestTLSRefused(t *testing.T) {
	for name, edit := range map[string]func(*Config, *upstream){
		"unknown issuer": func(c *Config, _ *upstream) { c.Destination.CA = "" },
		"other name":     func(c *Config, u *upstream) { c.Destination.Origin = "https://other.test" + u.port() },
		"TLS 1.1":        func(_ *Config, u *upstream) { u.tls.MaxVersion = tls.VersionTLS11; u.tls.MinVersion = tls.VersionTLS10 },
		"other protocol": func(_ *Config, u *upstream) { u.tls.NextProtos = []string{"other"} },
		"asks for our key": func(_ *Config, u *upstream) {
			u.tls.ClientAuth = tls.RequireAnyClientCert
			u.tls.MaxVersion = tls.VersionTLS12
		},
		"not TLS, but a name": func(_ *Config, u *upstream) { u.plain = true },
	} {
		t.Run(name, func(t *testing.T) {
			u := serve(t, answering(okAnswer), func(u *upstream) { edit(new(Config), u) })
			p := pool(t, u, func(c *Config) {
				edit(c, &upstream{origin: u.origin, tls: new(tls.Config)})
				c.Resolve = func(context.Context, string) ([]netip.Addr, error) {
					return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
				}
			})
			if _, err := p.Send(context.Background(), post("{}")); !errors.Is(err, ErrNotSent) {
				t.Errorf("got %v", err)
			}
			if u.requests.Load() != 0 {
				t.Error("the upstream saw a request")
			}
		})
	}
}

// proxy is a CONNECT proxy. answer, if not empty, is sent instead of the tunnel.
type proxy struct {
	addr   string
	answer string
	asked  atomic.Value // of string: the last target
}

func startProxy(t testing.TB, answer string) *proxy {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{addr: ln.Addr().String(), answer: answer}
	var wg sync.WaitGroup
	t.Cleanup(func() { ln.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer nc.Close()
				r, err := http.ReadRequest(bufio.NewReader(nc))
				if err != nil || r.Method != "CONNECT" {
					return
				}
				p.asked.Store(r.RequestURI + " " + r.Host)
				if p.answer != "" {
					io.WriteString(nc, p.answer)
					return
				}
				_, port, _ := net.SplitHostPort(r.RequestURI)
				up, err := net.Dial("tcp", "127.0.0.1:"+port)
				if err != nil {
					return
				}
				defer up.Close()
				io.WriteString(nc, "HTTP/1.1 200 Connection established\r\n\r\n")
				go func() { io.Copy(up, nc); up.Close() }()
				io.Copy(nc, up)
			})
		}
	})
	return p
}

func TestProxy(t *testing.T) {
	loopback := []string{"127.0.0.1/32"}
	for _, c := range []struct {
		name, answer, host string
		networks           []string // of the proxy
		want               error
	}{
		{name: "tunnel", host: "example.com", networks: loopback},
		{name: "TLS name is the origin's", host: "other.test", networks: loopback, want: errAny},
		{name: "proxy in a private network", host: "example.com", want: ErrAddress},
		{name: "origin is a private address", host: "10.0.0.1", networks: loopback, want: ErrAddress},
		{name: "origin is the metadata address", host: "169.254.169.254", networks: loopback, want: ErrAddress},
		{name: "refused", host: "example.com", networks: loopback, answer: "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", want: errAny},
		{name: "bytes before TLS", host: "example.com", networks: loopback, answer: "HTTP/1.1 200 OK\r\n\r\nabc", want: ErrResponse},
		{name: "not HTTP", host: "example.com", networks: loopback, answer: "hello\r\n\r\n", want: ErrResponse},
		{name: "closes", host: "example.com", networks: loopback, answer: "HTTP/1.1 200 OK\r\n", want: io.ErrUnexpectedEOF},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := serve(t, answering(okAnswer))
			x := startProxy(t, c.answer)
			p := pool(t, u, func(cfg *Config) {
				cfg.Destination.Origin = "https://" + c.host + u.port()
				cfg.Destination.Networks = nil
				cfg.Destination.Proxy = "http://" + x.addr
				cfg.Destination.ProxyNetworks = c.networks
				cfg.Resolve = func(context.Context, string) ([]netip.Addr, error) { return nil, errors.New("no name may be resolved") }
			})
			if c.want == nil {
				sendOK(t, p)
				if want := c.host + u.port() + " " + c.host + u.port(); x.asked.Load() != want {
					t.Errorf("asked for %v, want %s", x.asked.Load(), want)
				}
				return
			}
			_, err := p.Send(context.Background(), post("{}"))
			if !wants(err, c.want) || !errors.Is(err, ErrNotSent) || c.name == "refused" && !strings.Contains(err.Error(), "407") {
				t.Errorf("got %v", err)
			}
			if u.requests.Load() != 0 {
				t.Error("the upstream saw a request")
			}
		})
	}
}

// A proxy that says nothing holds a caller no longer than the caller's context or DialTimeout.
func TestSilentProxy(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0") // the kernel accepts, nobody else does
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for _, limit := range []string{"context", "DialTimeout"} {
		ctx, cancel := context.WithCancel(context.Background())
		p := pool(t, &upstream{origin: "https://example.com"}, func(c *Config) {
			c.Destination.Proxy = "http://" + ln.Addr().String()
			c.Destination.ProxyNetworks = []string{"127.0.0.1/32"}
			if limit == "DialTimeout" {
				c.DialTimeout = 50 * time.Millisecond
			} else {
				time.AfterFunc(50*time.Millisecond, cancel)
			}
		})
		if _, err := p.Send(ctx, post("{}")); !errors.Is(err, ErrNotSent) {
			t.Errorf("%s: %v", limit, err)
		}
		cancel()
	}
}

// A pool that is closed while it connects sends nothing over the new connection.
func TestCloseWhileConnecting(t *testing.T) {
	u := serve(t, answering(okAnswer))
	var p *Pool
	p = pool(t, u, func(c *Config) {
		c.Destination.Origin = "https://example.com" + u.port()
		c.Resolve = func(context.Context, string) ([]netip.Addr, error) {
			p.Close()
			return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
		}
	})
	if _, err := p.Send(context.Background(), post("{}")); !errors.Is(err, ErrClosed) || !errors.Is(err, ErrNotSent) || u.requests.Load() != 0 {
		t.Errorf("%v, %d requests", err, u.requests.Load())
	}
}

// Which answers leave a connection for the next request, and that the timeouts of one request do not outlive it.
func TestWhichConnectionsAreKept(t *testing.T) {
	for name, c := range map[string]struct {
		answer string
		kept   bool
	}{
		"length":           {okAnswer, true},
		"chunked":          {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", true},
		"connection close": {"HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 2\r\n\r\nok", false},
		"HTTP/1.0":         {"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", false},
	} {
		t.Run(name, func(t *testing.T) {
			u := serve(t, answering(c.answer))
			p := pool(t, u, func(cfg *Config) { cfg.HeaderTimeout, cfg.IdleTimeout = time.Second, 10*time.Millisecond })
			sendOK(t, p)
			time.Sleep(30 * time.Millisecond)
			sendOK(t, p)
			if n := u.conns.Load(); (n == 1) != c.kept {
				t.Errorf("%d connections for two requests", n)
			}
		})
	}
}

// An address that does not answer is followed by the next one of the same look-up.
func TestNextAddress(t *testing.T) {
	u := serve(t, answering(okAnswer))
	p := pool(t, u, func(c *Config) {
		c.Destination.Origin = "https://example.com" + u.port()
		c.Destination.Networks = []string{"127.0.0.0/8"}
		c.Resolve = func(context.Context, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("127.0.0.9"), netip.MustParseAddr("127.0.0.1")}, nil
		}
	})
	sendOK(t, p)
	none := pool(t, u, func(c *Config) {
		c.Destination.Origin = "https://example.com"
		c.Resolve = func(context.Context, string) ([]netip.Addr, error) { return nil, nil }
	})
	if _, err := none.Send(context.Background(), post("{}")); !errors.Is(err, ErrNotSent) {
		t.Errorf("got %v", err)
	}
}

// The header block held the secret: no buffer keeps it.
func TestSecretIsWiped(t *testing.T) {
	u := serve(t, answering(okAnswer))
	p := pool(t, u)
	var mu sync.Mutex
	var buffers []*[]byte
	fresh := p.buffers.New
	p.buffers.New = func() any {
		b := fresh().(*[]byte)
		mu.Lock()
		defer mu.Unlock()
		buffers = append(buffers, b)
		return b
	}
	for _, size := range []int{0, 100, 20_000, 60_000} {
		r := post("{}")
		r.Header = append(r.Header, hop.Field{Name: "X-Long", Value: strings.Repeat("a", size)})
		resp, err := p.Send(context.Background(), r)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
	}
	for _, b := range buffers {
		if bytes.Contains((*b)[:cap(*b)], []byte("demo-upstream-key")) {
			t.Error("a buffer still holds the secret")
		}
	}
	if len(buffers) == 0 {
		t.Error("no buffer was looked at")
	}
}

func TestIdleIsBounded(t *testing.T) {
	gate := make(chan struct{})
	u := serve(t, func(u *upstream, c *tls.Conn, in *bufio.Reader) {
		for {
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			io.Copy(io.Discard, r.Body)
			u.requests.Add(1)
			<-gate
			io.WriteString(c, okAnswer)
		}
	})
	p := pool(t, u, func(c *Config) { c.IdleConns = 3 })
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { sendOK(t, p) })
	}
	waitFor(t, "all requests are in flight", func() bool { return u.requests.Load() == 8 })
	close(gate)
	wg.Wait()
	waitFor(t, "three connections are kept", func() bool { open, idle := p.counts(); return open == 3 && idle == 3 })

	p.Retire()
	waitFor(t, "a retired pool keeps none", func() bool { open, idle := p.counts(); return open == 0 && idle == 0 })
	sendOK(t, p)
	waitFor(t, "a retired pool keeps none", func() bool { open, idle := p.counts(); return open == 0 && idle == 0 })
}

func TestIdleGrowsOld(t *testing.T) {
	u := serve(t, answering(okAnswer))
	p := pool(t, u, func(c *Config) { c.KeepAlive = 50 * time.Millisecond })
	sendOK(t, p)
	waitFor(t, "the unused connection is closed", func() bool { open, idle := p.counts(); return open == 0 && idle == 0 })
	sendOK(t, p)
	if n := u.conns.Load(); n != 2 {
		t.Errorf("%d connections", n)
	}
}

// Bytes that nobody asked for would be taken for the next answer: such a connection is not used again.
func TestUnaskedBytes(t *testing.T) {
	for name, answer := range map[string]string{
		"with the answer":                         okAnswer + "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
		"with the answer, in a record of its own": okAnswer, // with TLS by then: neither in the socket nor in the reader's buffer
		"later": okAnswer,
	} {
		t.Run(name, func(t *testing.T) {
			later := make(chan struct{}, 8)
			u := serve(t, func(u *upstream, c *tls.Conn, in *bufio.Reader) {
				for {
					if _, err := http.ReadRequest(in); err != nil {
						return
					}
					below := c.NetConn().(*gathered)
					below.hold()
					io.WriteString(c, answer)
					if strings.HasSuffix(name, "of its own") {
						io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
					}
					below.release()
					if name == "later" {
						time.Sleep(20 * time.Millisecond)
						io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
						later <- struct{}{}
					}
				}
			})
			p := pool(t, u)
			for range 3 {
				r, err := p.Send(context.Background(), &Request{Method: "GET", Target: []byte("/")})
				if err != nil {
					t.Fatal(err)
				}
				if b, err := io.ReadAll(r.Body); string(b) != "ok" || err != nil {
					t.Fatalf("%q, %v", b, err)
				}
				if name == "later" {
					<-later
				}
			}
			if n := u.conns.Load(); n != 3 {
				t.Errorf("%d connections for three answers with more behind them", n)
			}
		})
	}
}

// Cancelling while the answer flows ends the connection and the body.
func TestCancelBody(t *testing.T) {
	gone := make(chan struct{})
	u := serve(t, func(u *upstream, c *tls.Conn, in *bufio.Reader) {
		http.ReadRequest(in)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
		io.Copy(io.Discard, in)
		close(gone)
	})
	p := pool(t, u)
	ctx, cancel := context.WithCancel(context.Background())
	r, err := p.Send(ctx, post("{}"))
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 8)
	if n, err := io.ReadFull(r.Body, b[:3]); err != nil {
		t.Fatal(n, err)
	}
	cancel()
	if _, err := r.Body.Read(b); err == nil || err == io.EOF {
		t.Errorf("got %v", err)
	}
	<-gone
	waitFor(t, "nothing is open", func() bool { open, _ := p.counts(); return open == 0 })
}

// A reader of an idle stream needs no buffer: reading nothing waits.
func TestReadNothingWaits(t *testing.T) {
	next := make(chan struct{})
	u := serve(t, func(u *upstream, c *tls.Conn, in *bufio.Reader) {
		http.ReadRequest(in)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
		<-next
		io.WriteString(c, "ok")
		io.Copy(io.Discard, in)
	})
	r, err := pool(t, u).Send(context.Background(), post("{}"))
	if err != nil {
		t.Fatal(err)
	}
	waited := make(chan error)
	go func() { _, err := r.Body.Read(nil); waited <- err }()
	select {
	case <-waited:
		t.Error("it did not wait")
	case <-time.After(30 * time.Millisecond):
	}
	close(next)
	if err := <-waited; err != nil {
		t.Error(err)
	}
	if b, err := io.ReadAll(r.Body); string(b) != "ok" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
}

// An upstream that refuses a body without reading it: its answer is delivered although writing failed.
func TestAnswerAfterFailedWrite(t *testing.T) {
	u := serve(t, func(u *upstream, c *tls.Conn, in *bufio.Reader) {
		if _, err := http.ReadRequest(in); err != nil {
			return
		}
		io.WriteString(c, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
		c.CloseWrite()
		time.Sleep(50 * time.Millisecond) // then the connection is reset under the writer
	})
	p := pool(t, u)
	r, err := p.Send(context.Background(), post(strings.Repeat("x", 16<<20)))
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(r.Body); r.Status != 413 || string(b) != "no" || err != nil {
		t.Errorf("%d %q, %v", r.Status, b, err)
	}
	waitFor(t, "nothing is open", func() bool { open, _ := p.counts(); return open == 0 })
}

// TestAtMostOnce plays upstreams that fail at random. Whatever happens, a request is seen at most once; what is reported as
// not sent was not seen, and what was answered was.
func TestAtMostOnce(t *testing.T) {
	seed := time.Now().UnixNano()
	if s := os.Getenv("EGRESS_SEED"); s != "" {
		seed, _ = strconv.ParseInt(s, 10, 64)
	}
	t.Logf("EGRESS_SEED=%d", seed)
	var mu sync.Mutex
	chance := rand.New(rand.NewSource(seed))
	roll := func(n int) int {
		mu.Lock()
		defer mu.Unlock()
		return chance.Intn(n)
	}
	seen := map[string]int{}
	u := serve(t, func(u *upstream, c *tls.Conn, in *bufio.Reader) {
		for {
			if roll(20) == 0 {
				return // closes while unused
			}
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			mu.Lock()
			seen[r.URL.Path]++
			mu.Unlock()
			if roll(10) == 0 {
				return // with the body unread
			}
			io.Copy(io.Discard, r.Body)
			switch roll(8) {
			case 0:
				return
			case 1:
				io.WriteString(c, okAnswer[:roll(len(okAnswer))])
				return
			case 2:
				io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")
				return
			case 3:
				io.WriteString(c, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
				return
			default:
				io.WriteString(c, okAnswer)
			}
		}
	})
	p := pool(t, u)
	outcomes := map[string]int{}
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for i := range 60 {
				r := post(strings.Repeat("x", roll(2)*roll(100_000)))
				r.Target = fmt.Appendf(nil, "/%d/%d", worker, i)
				resp, err := p.Send(context.Background(), r)
				outcome := "answered"
				switch {
				case err == nil:
					if b, err := io.ReadAll(resp.Body); err != nil {
						outcome = "cut"
					} else if string(b) != "ok" {
						t.Errorf("%s: read %q", r.Target, b)
					}
				case errors.Is(err, ErrNotSent) == errors.Is(err, ErrSent):
					t.Errorf("%s: %v is neither or both", r.Target, err)
				case errors.Is(err, ErrNotSent):
					outcome = "not sent"
				default:
					outcome = "unknown"
				}
				mu.Lock()
				n := seen[string(r.Target)]
				outcomes[outcome]++
				mu.Unlock()
				if n > 1 || outcome == "not sent" && n != 0 || (outcome == "answered" || outcome == "cut") && n != 1 {
					t.Errorf("%s: %s, and the upstream saw it %d times", r.Target, outcome, n)
				}
			}
		})
	}
	wg.Wait()
	t.Log(outcomes)
	if outcomes["answered"] == 0 || outcomes["unknown"] == 0 {
		t.Error("the upstream did not fail in every way")
	}
}

// FuzzAnswer: whatever an upstream sends, nothing panics, what is kept is bounded, and a body ends cleanly only as framed.
func FuzzAnswer(f *testing.F) {
	for _, s := range []string{okAnswer, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-T: t\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n",
		"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.0 200\r\n\r\nabc", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"} {
		f.Add(s)
	}
	cfg := Config{HeaderBytes: 4096, Fields: 16, IdleTimeout: time.Minute}
	f.Fuzz(func(t *testing.T, s string) {
		near, far := net.Pipe()
		near.Close()
		far.Close()
		c := &conn{pool: &Pool{cfg: cfg}, raw: &rawConn{Conn: near}, in: bufio.NewReaderSize(strings.NewReader(s), bufferSize)}
		h, err := readFinal(c.in, &cfg)
		if err != nil {
			return
		}
		if h.status < 200 || len(h.fields) > cfg.Fields {
			t.Errorf("%+v", h)
		}
		for _, f := range h.fields {
			if !token(f.Name) || !text(f.Value) {
				t.Errorf("field %q", f)
			}
		}
		b := &body{c: c, stop: func() bool { return false }, keep: true}
		if b.frame(h, "POST") != nil {
			return
		}
		c.raw.eof.Store(true) // as a connection that just ended
		if b.left == 0 {
			return
		}
		data, err := io.ReadAll(b)
		if err == nil {
			switch {
			case b.length >= 0 && int64(len(data)) != b.length:
				t.Errorf("%d bytes of %d end cleanly", len(data), b.length)
			case b.left == toClose:
				t.Error("a body without frame ends cleanly with a bare end of the connection")
			case b.left == chunked && !strings.Contains(s, "\r\n\r\n"):
				t.Error("a chunked body without its end")
			}
		}
	})
}

// deadlines counts what is set, and remembers the last.
type deadlines struct {
	net.Conn
	n    int
	last time.Time
}

func (d *deadlines) SetReadDeadline(t time.Time) error {
	d.n, d.last = d.n+1, t
	return nil
}

// A piece has the idle time, or seven eighths of it: the deadline moves on with the pieces, but not with each.
func TestPatience(t *testing.T) {
	const idle = 8 * time.Hour
	for name, c := range map[string]struct {
		left    time.Duration // of the deadline in force
		body    int64
		ready   bool // something was read ahead
		renewed bool
	}{
		"the header's, later":          {left: 9 * time.Hour, body: chunked, renewed: true},
		"the header's, sooner":         {left: time.Hour, body: chunked, renewed: true},
		"just set":                     {left: idle - time.Minute, body: chunked},
		"an eighth is gone":            {left: 7*time.Hour - time.Minute, body: chunked, renewed: true},
		"run out":                      {left: -time.Minute, body: toClose, renewed: true},
		"nothing to wait for":          {left: time.Minute, body: 1, ready: true},
		"a chunk may be cut in pieces": {left: time.Minute, body: chunked, ready: true, renewed: true},
	} {
		t.Run(name, func(t *testing.T) {
			d := &deadlines{}
			in := bufio.NewReader(strings.NewReader("x"))
			if c.ready {
				in.Peek(1)
			}
			b := &body{c: &conn{pool: &Pool{cfg: Config{IdleTimeout: idle}}, raw: &rawConn{Conn: d}, in: in, readBy: time.Now().Add(c.left)}, left: c.body}
			b.patience()
			if (d.n == 1) != c.renewed {
				t.Errorf("the deadline was set %d times", d.n)
			}
			if left := time.Until(d.last); c.renewed && (left > idle || left < idle-time.Hour) {
				t.Errorf("it is in %s", left)
			}
		})
	}
}
