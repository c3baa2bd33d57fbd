package hop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/reevehq/reeve/internal/workload"
)

// pair is a server and a client over a Unix socket.
type pair struct {
	*Client
	server *Server
	path   string
}

func anyone(Peer) string { return "g1" }

// socketPath is short enough for a Unix socket whatever the test's name.
func socketPath(t testing.TB) string {
	dir, err := os.MkdirTemp("", "hop")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}

func start(t testing.TB, path string, cfg ServerConfig) *Server {
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Peers == nil {
		cfg.Peers = anyone
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	s := NewServer(cfg)
	done := make(chan struct{})
	go func() { defer close(done); s.Serve(ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		s.Shutdown(ctx)
		<-done
	})
	return s
}

func newPair(t testing.TB, h Handler, edit ...func(*ServerConfig, *ClientConfig)) *pair {
	path := socketPath(t)
	sc := ServerConfig{Handler: h}
	cc := ClientConfig{Dial: Unix(path)}
	for _, e := range edit {
		e(&sc, &cc)
	}
	p := &pair{server: start(t, path, sc), Client: NewClient(cc), path: path}
	t.Cleanup(func() { p.Client.Close() })
	return p
}

// echo answers with the request's body.
func echo(ctx context.Context, peer Peer, o *Open, w *Writer) {
	w.Head(200, []Field{{"Content-Type", "application/json"}})
	w.Write(o.Body)
	w.End(nil)
}

func request(body []byte) *Open {
	return &Open{RequestID: "r-1", Credential: "research-openai", Method: "POST", Path: "/v1/chat/completions", URL: "http://127.0.0.1:7800",
		Header: []Field{{"Content-Type", "application/json"}, {"User-Agent", "test"}},
		Proof:  workload.Proof{Kind: "bearer", Value: []byte("rv_demo")}, Asserted: []Field{{"client_network", "127.0.0.0/8"}}, Body: body}
}

func TestRoundTrip(t *testing.T) {
	var mu sync.Mutex
	var got Open
	p := newPair(t, func(ctx context.Context, peer Peer, o *Open, w *Writer) {
		mu.Lock()
		got = *o
		mu.Unlock()
		if peer.Name != "g1" || peer.UID != os.Getuid() {
			t.Errorf("peer %+v", peer)
		}
		w.Head(201, []Field{{"X-A", "1"}, {"x-a", ""}})
		w.Write(o.Body)
		w.End([]Field{{"X-T", "t"}})
	})
	for _, size := range []int{0, 1, 4064, 32 << 10, 32<<10 + 1, 1 << 20} {
		o := request(bytes.Repeat([]byte("ab"), (size+1)/2)[:size])
		r, err := p.Do(context.Background(), o)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r.Body)
		if err != nil || !bytes.Equal(body, o.Body) {
			t.Fatalf("size %d: read %d bytes, %v", size, len(body), err)
		}
		r.Body.Close()
		mu.Lock()
		if got.Body == nil {
			got.Body = []byte{}
		}
		got.Free = nil
		if d := cmp.Diff(*o, got); d != "" {
			t.Errorf("size %d: OPEN differs:\n%s", size, d)
		}
		mu.Unlock()
		if d := cmp.Diff([]Field{{"X-T", "t"}}, r.Trailer()); d != "" || r.Status != 201 || len(r.Header) != 2 || r.Header[1] != (Field{"x-a", ""}) {
			t.Errorf("response %+v, trailer %s", r, d)
		}
	}
}

func TestRefusal(t *testing.T) {
	want := &Refusal{Code: "policy_denied", Status: 403, Message: "no", Receipt: "v1.a.1.b.c", RetryAfter: 7, Sent: true}
	p := newPair(t, func(ctx context.Context, peer Peer, o *Open, w *Writer) { w.Refuse(want) })
	_, err := p.Do(context.Background(), request(nil))
	var got *Refusal
	if !errors.As(err, &got) || !cmp.Equal(got, want) {
		t.Errorf("got %v", err)
	}
}

// Whatever ends a stream but END is ErrBroken, and what came before it is still delivered.
func TestBroken(t *testing.T) {
	for name, h := range map[string]Handler{
		"break": func(ctx context.Context, _ Peer, o *Open, w *Writer) {
			w.Head(200, nil)
			w.Write([]byte("part"))
			w.Break("upstream cut")
		},
		"return": func(ctx context.Context, _ Peer, o *Open, w *Writer) { w.Head(200, nil); w.Write([]byte("part")) },
		"panic": func(ctx context.Context, _ Peer, o *Open, w *Writer) {
			w.Head(200, nil)
			w.Write([]byte("part"))
			panic("x")
		},
		"return bare": func(ctx context.Context, _ Peer, o *Open, w *Writer) {},
		"lost": func(ctx context.Context, _ Peer, o *Open, w *Writer) {
			w.Head(200, nil)
			w.Write([]byte("part"))
			w.c.end()
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, h)
			r, err := p.Do(context.Background(), request([]byte("x")))
			if err == nil {
				var b []byte
				if b, err = io.ReadAll(r.Body); string(b) != "part" && name != "lost" {
					t.Errorf("read %q before the break", b)
				}
			} else if name != "return bare" && name != "lost" {
				t.Error("the head is missing")
			}
			if !errors.Is(err, ErrBroken) {
				t.Fatalf("got %v", err)
			}
		})
	}
}

func TestConcurrent(t *testing.T) {
	p := newPair(t, echo)
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for j := range 50 {
				body := []byte(strings.Repeat(fmt.Sprintf("%d-%d;", i, j), 1+(i*j*37)%3000))
				r, err := p.Do(context.Background(), request(body))
				if err != nil {
					t.Error(err)
					return
				}
				got, err := io.ReadAll(r.Body)
				if err != nil || !bytes.Equal(got, body) {
					t.Errorf("%d bytes of %d, %v", len(got), len(body), err)
				}
				r.Body.Close()
			}
		})
	}
	wg.Wait()
}

func TestShutdownFinishesStreams(t *testing.T) {
	release := make(chan struct{})
	p := newPair(t, func(ctx context.Context, _ Peer, o *Open, w *Writer) {
		w.Head(200, nil)
		if o.RequestID == "late" {
			<-release
			w.Write([]byte("late"))
		}
		w.End(nil)
	})
	late := request(nil)
	late.RequestID = "late"
	r, err := p.Do(context.Background(), late)
	if err != nil {
		t.Fatal(err)
	}
	down := make(chan error)
	go func() { down <- p.server.Shutdown(context.Background()) }()
	for { // until the client has seen GOAWAY and finds nobody
		r, err := p.Do(context.Background(), request(nil))
		if errors.Is(err, ErrUnavailable) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(r.Body); err != nil {
			t.Fatal(err)
		}
	}
	close(release)
	if b, err := io.ReadAll(r.Body); string(b) != "late" || err != nil {
		t.Fatalf("read %q, %v", b, err)
	}
	if err := <-down; err != nil {
		t.Fatal(err)
	}
}

// A goroutine that served a stream serves another, also after a panic, and ends with the server.
func TestHandlersShareGoroutines(t *testing.T) {
	var mu sync.Mutex
	ran := map[string]int{} // by goroutine
	p := newPair(t, func(_ context.Context, _ Peer, o *Open, w *Writer) {
		id, _, _ := strings.Cut(string(debug.Stack()), " [")
		mu.Lock()
		ran[id]++
		mu.Unlock()
		panic("in a handler")
	})
	most := func() (n int) {
		mu.Lock()
		defer mu.Unlock()
		for _, times := range ran {
			n = max(n, times)
		}
		return n
	}
	for i := 0; most() < 3; i++ {
		if _, err := p.Client.Do(t.Context(), request(nil)); !errors.Is(err, ErrBroken) || i == 10_000 {
			t.Fatalf("request %d: %v; no goroutine ran more than %d", i, err, most())
		}
	}
	p.server.Shutdown(t.Context())
	for start := time.Now(); p.server.resting.Load() > 0; time.Sleep(time.Millisecond) {
		if time.Since(start) > 20*time.Second {
			t.Fatal("a goroutine outlives its server")
		}
	}
}
