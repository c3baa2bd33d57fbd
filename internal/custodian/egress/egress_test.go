package egress

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/reevehq/reeve/internal/hop"
	"github.com/reevehq/reeve/internal/statement"
)

// upstream is a TLS server whose connections a test handles itself.
type upstream struct {
	origin, ca string
	conns      atomic.Int64
	requests   atomic.Int64
	tls        *tls.Config
	plain      bool // it answers in plain text
}

// port is ":" and the port.
func (u *upstream) port() string { return u.origin[strings.LastIndexByte(u.origin, ':'):] }

// gathered is an upstream's connection below TLS: what is written between hold and release leaves at once.
type gathered struct {
	net.Conn
	holds bool
	held  []byte
}

func (g *gathered) Write(p []byte) (int, error) {
	if !g.holds {
		return g.Conn.Write(p)
	}
	g.held = append(g.held, p...)
	return len(p), nil
}

func (g *gathered) hold() { g.holds = true }

func (g *gathered) release() {
	g.Conn.Write(g.held)
	g.holds, g.held = false, nil
}

// serve starts an upstream. handle gets each connection after the TLS handshake; it is closed when handle returns.
func serve(t testing.TB, handle func(u *upstream, c *tls.Conn, in *bufio.Reader), edit ...func(*upstream)) *upstream {
	cert := httptest.NewUnstartedServer(nil)
	cert.StartTLS()
	defer cert.Close()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u := &upstream{origin: "https://" + ln.Addr().String(), tls: &tls.Config{Certificates: cert.TLS.Certificates, NextProtos: []string{"http/1.1"}}}
	u.ca = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate().Raw}))
	for _, e := range edit {
		e(u)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	wg.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			u.conns.Add(1)
			mu.Lock()
			open[nc] = true
			mu.Unlock()
			wg.Go(func() {
				defer nc.Close()
				if u.plain {
					io.WriteString(nc, okAnswer)
					return
				}
				if c := tls.Server(&gathered{Conn: nc}, u.tls); c.Handshake() == nil {
					handle(u, c, bufio.NewReader(c))
				}
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		mu.Lock()
		for c := range open {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return u
}

// answering reads whole requests and answers each with the same bytes.
func answering(answer string) func(*upstream, *tls.Conn, *bufio.Reader) {
	return func(u *upstream, c *tls.Conn, in *bufio.Reader) {
		for {
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			io.Copy(io.Discard, r.Body)
			u.requests.Add(1)
			io.WriteString(c, answer)
		}
	}
}

func pool(t testing.TB, u *upstream, edit ...func(*Config)) *Pool {
	cfg := Config{Destination: statement.Destination{Origin: u.origin, CA: u.ca, Networks: []string{"127.0.0.1/32"}}}
	for _, e := range edit {
		e(&cfg)
	}
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func post(body string) *Request {
	return &Request{Method: "POST", Target: []byte("/v1/chat/completions"), Header: []hop.Field{{Name: "Content-Type", Value: "application/json"}},
		Secrets: [2]Secret{{"Authorization", []byte("Bearer demo-upstream-key-1")}}, Body: []byte(body)}
}

func TestSend(t *testing.T) {
	got := make(chan string, 8)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got <- fmt.Sprintf("%s %s %s %d %v %s", r.Method, r.RequestURI, r.Header.Get("Authorization"), len(b), r.TransferEncoding, r.Host)
		w.Header().Set("Trailer", "X-T")
		w.Header().Set("X-A", "1")
		w.WriteHeader(201)
		w.(http.Flusher).Flush()
		w.Write(b)
		w.Header().Set("X-T", "end")
	}))
	s.StartTLS()
	defer s.Close()
	u := &upstream{origin: s.URL, ca: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))}
	p := pool(t, u)
	for _, size := range []int{0, 1, 4096, 16 << 10, 100_000, 3 << 20} {
		r, err := p.Send(context.Background(), post(strings.Repeat("x", size)))
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r.Body)
		if err != nil || len(b) != size || r.Status != 201 {
			t.Fatalf("status %d, %d bytes of %d, %v", r.Status, len(b), size, err)
		}
		if d := cmp.Diff([]hop.Field{{Name: "X-T", Value: "end"}}, r.Trailer()); d != "" {
			t.Error(d)
		}
		want := fmt.Sprintf("POST /v1/chat/completions Bearer demo-upstream-key-1 %d [] %s", size, strings.TrimPrefix(s.URL, "https://"))
		if g := <-got; g != want {
			t.Errorf("upstream saw %q, want %q", g, want)
		}
	}
}

func TestReuse(t *testing.T) {
	u := serve(t, answering(okAnswer))
	p := pool(t, u)
	for range 10 {
		r, err := p.Send(context.Background(), post("{}"))
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(r.Body); err != nil || string(b) != "ok" {
			t.Fatal(string(b), err)
		}
	}
	if n := u.conns.Load(); n != 1 {
		t.Errorf("%d connections for ten requests one after the other", n)
	}
}

// What the upstream may not answer, and what counts as a cut.
func TestAnswers(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\n"
	for _, c := range []struct {
		name, answer string
		hold         bool // the upstream leaves the connection open
		notify       bool // it ends it with close_notify
		want         string
		err          error
		head         bool // the error comes with the header
	}{
		{name: "length", answer: ok + "Content-Length: 3\r\n\r\nabc", want: "abc"},
		{name: "length cut", answer: ok + "Content-Length: 4\r\n\r\nabc", want: "abc", err: io.ErrUnexpectedEOF},
		{name: "length cut with close_notify", answer: ok + "Content-Length: 4\r\n\r\nabc", notify: true, want: "abc", err: io.ErrUnexpectedEOF},
		{name: "chunked", answer: ok + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", want: "abc"},
		{name: "chunked, no last chunk", answer: ok + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", notify: true, want: "abc", err: io.ErrUnexpectedEOF},
		{name: "chunked, no trailer end", answer: ok + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n", notify: true, want: "abc", err: io.ErrUnexpectedEOF},
		{name: "chunk cut", answer: ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nabc", want: "abc", err: io.ErrUnexpectedEOF},
		{name: "chunk size is no number", answer: ok + "Transfer-Encoding: chunked\r\n\r\nx\r\nabc\r\n0\r\n\r\n", err: errAny},
		{name: "chunk without CRLF", answer: ok + "Transfer-Encoding: chunked\r\n\r\n3\r\nabcd0\r\n\r\n", want: "abc", err: errAny},
		{name: "until close, close_notify", answer: ok + "\r\nabc", notify: true, want: "abc"},
		{name: "until close, cut", answer: ok + "\r\nabc", want: "abc", err: io.ErrUnexpectedEOF},
		{name: "interim", answer: "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + ok + "Content-Length: 1\r\n\r\na", want: "a"},
		{name: "endless interim", answer: strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 9) + ok + "\r\n", err: ErrResponse, head: true},
		{name: "protocol change", answer: "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", err: ErrResponse, head: true},
		{name: "no content", answer: "HTTP/1.1 204 No Content\r\n\r\n"},
		{name: "both", answer: ok + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", err: ErrResponse, head: true},
		{name: "two lengths", answer: ok + "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", err: ErrResponse, head: true},
		{name: "length list", answer: ok + "Content-Length: 3, 3\r\n\r\nabc", err: ErrResponse, head: true},
		{name: "length with sign", answer: ok + "Content-Length: +3\r\n\r\nabc", err: ErrResponse, head: true},
		{name: "length empty", answer: ok + "Content-Length:\r\n\r\nabc", err: ErrResponse, head: true},
		{name: "negative length", answer: ok + "Content-Length: -3\r\n\r\nabc", err: ErrResponse, head: true},
		{name: "other encoding", answer: ok + "Transfer-Encoding: gzip, chunked\r\n\r\n", err: ErrResponse, head: true},
		{name: "two encodings", answer: ok + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", err: ErrResponse, head: true},
		{name: "folded line", answer: ok + "X-A: 1\r\n b\r\n\r\n", err: ErrResponse, head: true},
		{name: "space before colon", answer: ok + "Content-Length : 3\r\n\r\nabc", err: ErrResponse, head: true},
		{name: "bare LF", answer: ok + "X-A: 1\n\r\n", err: ErrResponse, head: true},
		{name: "line of one byte", answer: ok + "x\n\r\n", err: ErrResponse, head: true},
		{name: "bare CR", answer: ok + "X-A: 1\rb\r\n\r\n", err: ErrResponse, head: true},
		{name: "NUL", answer: ok + "X-A: 1\x00\r\n\r\n", err: ErrResponse, head: true},
		{name: "not HTTP", answer: "SSH-2.0-x\r\n\r\n", err: ErrResponse, head: true},
		{name: "HTTP/2", answer: "HTTP/2.0 200 OK\r\n\r\n", err: ErrResponse, head: true},
		{name: "header too long", answer: ok + "X-A: " + strings.Repeat("a", 70_000) + "\r\n\r\n", err: ErrResponse, head: true},
		{name: "too many fields", answer: ok + strings.Repeat("X-A: 1\r\n", 300) + "\r\n", err: ErrResponse, head: true},
		{name: "header cut", answer: ok + "X-A: 1\r\n", err: io.ErrUnexpectedEOF, head: true},
		{name: "no answer", answer: "", err: io.ErrUnexpectedEOF, head: true},
		{name: "trailer too long", answer: ok + "Transfer-Encoding: chunked\r\n\r\n0\r\nX-A: " + strings.Repeat("a", 70_000) + "\r\n\r\n", err: ErrResponse},
		{name: "idle header", answer: ok, hold: true, err: errTimeout, head: true},
		{name: "idle body", answer: ok + "Content-Length: 3\r\n\r\na", hold: true, want: "a", err: errTimeout},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			u := serve(t, func(u *upstream, tc *tls.Conn, in *bufio.Reader) {
				r, err := http.ReadRequest(in)
				if err != nil {
					return
				}
				io.Copy(io.Discard, r.Body)
				u.requests.Add(1)
				io.WriteString(tc, c.answer)
				switch {
				case c.hold:
					in.ReadByte()
				case c.notify:
					tc.Close()
				default:
					tc.NetConn().(*gathered).Conn.(*net.TCPConn).CloseWrite()
					in.ReadByte()
				}
			})
			p := pool(t, u, func(cfg *Config) {
				if c.hold && c.head {
					cfg.HeaderTimeout = 200 * time.Millisecond
				} else if c.hold {
					cfg.IdleTimeout = 200 * time.Millisecond
				}
			})
			r, err := p.Send(context.Background(), post("{}"))
			if c.head {
				if !wants(err, c.err) || !errors.Is(err, ErrSent) || errors.Is(err, ErrNotSent) {
					t.Fatalf("got %v", err)
				}
			} else {
				if err != nil {
					t.Fatal(err)
				}
				b, err := io.ReadAll(r.Body)
				if string(b) != c.want || !wants(err, c.err) {
					t.Fatalf("read %q, %v", b, err)
				}
				if _, again := r.Body.Read(make([]byte, 1)); c.err != nil && again == io.EOF {
					t.Error("a broken body ends cleanly when it is read again")
				}
			}
			if n := u.requests.Load(); n != 1 {
				t.Errorf("the upstream saw %d requests", n)
			}
		})
	}
}

var (
	errAny     = errors.New("any")
	errTimeout = errors.New("timeout")
)

func wants(err, want error) bool {
	var ne net.Error
	switch {
	case want == errAny:
		return err != nil && err != io.EOF
	case want == errTimeout:
		return errors.As(err, &ne) && ne.Timeout()
	}
	return errors.Is(err, want)
}

// Every address of the answer counts, and the name is resolved once: what was checked is what is dialled.
func TestRebinding(t *testing.T) {
	u := serve(t, answering(okAnswer))
	var asked atomic.Int64
	answers := [][]netip.Addr{{netip.MustParseAddr("127.0.0.1")}, {netip.MustParseAddr("169.254.169.254")}}
	p := pool(t, u, func(c *Config) {
		c.Destination.Origin = "https://example.com" + u.port()
		c.Resolve = func(context.Context, string) ([]netip.Addr, error) { return answers[min(asked.Add(1), 2)-1], nil }
	})
	r, err := p.Send(context.Background(), post("{}"))
	if err != nil || asked.Load() != 1 {
		t.Fatalf("%v after %d look-ups", err, asked.Load())
	}
	r.Body.Close() // the next one needs a new connection
	if _, err := p.Send(context.Background(), post("{}")); !errors.Is(err, ErrAddress) || !errors.Is(err, ErrNotSent) {
		t.Fatalf("got %v", err)
	}
	mixed := pool(t, u, func(c *Config) {
		c.Destination.Origin = "https://example.com" + u.port()
		c.Resolve = func(context.Context, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("10.0.0.1")}, nil
		}
	})
	if _, err := mixed.Send(context.Background(), post("{}")); !errors.Is(err, ErrAddress) || !errors.Is(err, ErrNotSent) {
		t.Fatalf("got %v", err)
	}
}

// A pooled connection that died is replaced before a byte is written; a request that the upstream has read is never sent again.
func TestNoReplay(t *testing.T) {
	t.Run("died while unused", func(t *testing.T) {
		gone := make(chan struct{}, 16)
		u := serve(t, func(u *upstream, c *tls.Conn, in *bufio.Reader) {
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			io.Copy(io.Discard, r.Body)
			u.requests.Add(1)
			io.WriteString(c, okAnswer)
			c.Close()
			gone <- struct{}{}
		})
		p := pool(t, u)
		for i := range 5 {
			r, err := p.Send(context.Background(), post("{}"))
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, r.Body)
			<-gone
			if n := u.requests.Load(); n != int64(i+1) {
				t.Errorf("%d requests after %d", n, i+1)
			}
		}
	})
	t.Run("closed after reading", func(t *testing.T) {
		u := serve(t, func(u *upstream, c *tls.Conn, in *bufio.Reader) {
			for {
				r, err := http.ReadRequest(in)
				if err != nil {
					return
				}
				io.Copy(io.Discard, r.Body)
				if u.requests.Add(1) == 2 {
					return
				}
				io.WriteString(c, okAnswer)
			}
		})
		p := pool(t, u)
		r, err := p.Send(context.Background(), post("{}"))
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, r.Body)
		if _, err := p.Send(context.Background(), &Request{Method: "GET", Target: []byte("/")}); !errors.Is(err, ErrSent) {
			t.Fatalf("got %v", err)
		}
		if n := u.requests.Load(); n != 2 || u.conns.Load() != 1 {
			t.Errorf("%d requests, %d connections", n, u.conns.Load())
		}
	})
}

// An upstream that answers before it has read the body (golang/go#40747): the answer arrives whole.
func TestEarlyAnswer(t *testing.T) {
	answer, release := bytes.Repeat([]byte("data: x\n\n"), 20_000), make(chan struct{})
	u := serve(t, func(u *upstream, c *tls.Conn, in *bufio.Reader) {
		if _, err := http.ReadRequest(in); err != nil {
			return
		}
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(answer))
		c.Write(answer)
		<-release // without reading
	})
	defer close(release)
	p := pool(t, u)
	for range 20 {
		r, err := p.Send(context.Background(), post(strings.Repeat("x", 8<<20)))
		if err != nil {
			t.Fatal(err)
		}
		if r.Sent {
			t.Fatal("a body that is still written counts as sent: its memory would be written over")
		}
		b, err := io.ReadAll(r.Body)
		if err != nil || !bytes.Equal(b, answer) {
			t.Fatalf("%d bytes of %d, %v", len(b), len(answer), err)
		}
	}
	if n := u.conns.Load(); n != 20 {
		t.Errorf("%d connections: one whose request was not read was used again", n)
	}
}

func TestClose(t *testing.T) {
	u := serve(t, func(u *upstream, c *tls.Conn, in *bufio.Reader) {
		http.ReadRequest(in)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok")
		io.Copy(io.Discard, in)
	})
	p := pool(t, u)
	r, err := p.Send(context.Background(), post("{}"))
	if err != nil {
		t.Fatal(err)
	}
	p.Close()
	if _, err := io.ReadAll(r.Body); err == nil {
		t.Error("a body in flight ends cleanly although the pool was closed")
	}
	if _, err := p.Send(context.Background(), post("{}")); !errors.Is(err, ErrClosed) || !errors.Is(err, ErrNotSent) {
		t.Errorf("got %v", err)
	}
}

func TestCancel(t *testing.T) {
	began := make(chan struct{})
	u := serve(t, func(u *upstream, c *tls.Conn, in *bufio.Reader) {
		http.ReadRequest(in)
		close(began)
		io.Copy(io.Discard, in)
	})
	p := pool(t, u)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-began; cancel() }()
	if _, err := p.Send(ctx, post("{}")); !errors.Is(err, context.Canceled) || !errors.Is(err, ErrSent) {
		t.Errorf("got %v", err)
	}
}

func TestRequestRefused(t *testing.T) {
	u := serve(t, answering("HTTP/1.1 200 OK\r\n\r\n"))
	p := pool(t, u)
	for name, edit := range map[string]func(*Request){
		"method":           func(r *Request) { r.Method = "GET / HTTP/1.1\r\nX: y" },
		"CONNECT":          func(r *Request) { r.Method = "CONNECT" },
		"no target":        func(r *Request) { r.Target = nil },
		"absolute target":  func(r *Request) { r.Target = []byte("https://x/") },
		"space in target":  func(r *Request) { r.Target = []byte("/a b") },
		"break in target":  func(r *Request) { r.Target = []byte("/a\r\nX: y") },
		"fragment":         func(r *Request) { r.Target = []byte("/a#b") },
		"break in value":   func(r *Request) { r.Header[0].Value = "a\r\nX: y" },
		"break in name":    func(r *Request) { r.Header[0].Name = "a\r\nX" },
		"host":             func(r *Request) { r.Header[0].Name = "hOst" },
		"length":           func(r *Request) { r.Header[0].Name = "content-length" },
		"encoding":         func(r *Request) { r.Header[0].Name = "Transfer-Encoding" },
		"expect":           func(r *Request) { r.Header[0].Name = "Expect" },
		"break in secret":  func(r *Request) { r.Secrets[0].Value = []byte("a\r\nX: y") },
		"secret as length": func(r *Request) { r.Secrets[1].Name = "Content-Length" },
	} {
		r := post("{}")
		edit(r)
		if _, err := p.Send(context.Background(), r); !errors.Is(err, errRequest) || !errors.Is(err, ErrNotSent) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if u.conns.Load() != 0 {
		t.Error("a refused request reached the upstream")
	}
}

// TestBodyArrives: records leave together, those that the send buffer has no room for later, and all in their order.
func TestBodyArrives(t *testing.T) {
	u := serve(t, func(u *upstream, c *tls.Conn, in *bufio.Reader) {
		for {
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			h := sha256.New()
			n, _ := io.Copy(h, r.Body)
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: 64\r\nX-Size: %d\r\n\r\n%x", n, h.Sum(nil))
		}
	})
	p := pool(t, u)
	for _, head := range []int{0, 20_000, 140_000} {
		for _, c := range p.idle {
			c.raw.Conn.(*net.TCPConn).SetWriteBuffer(32 << 10)
		}
		for _, size := range []int{1, plain - 500, plain, 64 << 10, joined - plain, joined - 1, joined, 3*joined + 1} {
			body := make([]byte, size)
			rand.Read(body)
			r := post(string(body))
			r.Header = append(r.Header, hop.Field{Name: "X-Long", Value: strings.Repeat("a", head)})
			resp, err := p.Send(context.Background(), r)
			if err != nil {
				t.Fatalf("%d bytes behind %d: %v", size, head, err)
			}
			if small := head+size < 16<<10; small && !resp.Sent {
				t.Errorf("%d bytes behind %d are in the send buffer and do not count as sent", size, head)
			}
			if sum, err := io.ReadAll(resp.Body); err != nil || string(sum) != fmt.Sprintf("%x", sha256.Sum256(body)) {
				t.Errorf("%d bytes behind %d: other bytes arrived, %v", size, head, err)
			}
		}
	}
	if n := u.conns.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}
