package hop

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// key is a new key of the hop.
func key(t testing.TB) *Key {
	t.Helper()
	peer, text, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "hop.key")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	k, err := ReadKey(path)
	if err != nil || k.Peer() != peer {
		t.Fatalf("read %v, error %v", k, err)
	}
	return k
}

func TestTLS(t *testing.T) {
	custodian, gateway, other := key(t), key(t), key(t)
	ln, err := tls.Listen("tcp", "127.0.0.1:0", ServerTLS(custodian))
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(ServerConfig{Handler: func(ctx context.Context, p Peer, o *Open, w *Writer) {
		if p.Name != "g1" || p.UID != -1 || p.Key != gateway.Peer() || p.Apart {
			t.Errorf("peer %+v", p)
		}
		echo(ctx, p, o, w)
	}, Peers: func(p Peer) string { return map[string]string{gateway.Peer(): "g1"}[p.Key] }, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	go s.Serve(ln)
	defer s.Shutdown(context.Background())
	expired, err := gateway.certificate()
	if err != nil {
		t.Fatal(err)
	}
	old := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour)}
	if expired.Certificate[0], err = x509.CreateCertificate(rand.Reader, old, old, gateway.private.Public(), gateway.private); err != nil {
		t.Fatal(err)
	}
	const closed = "custodian closed the connection"
	for name, c := range map[string]struct {
		key    *Key
		peer   string
		change func(*tls.Config)
		want   string
	}{
		"both known":        {gateway, custodian.Peer(), nil, ""},
		"unknown gateway":   {other, custodian.Peer(), nil, "does not know this gateway"},
		"unknown custodian": {gateway, other.Peer(), nil, "the custody statement has"},
		"no certificate": {gateway, custodian.Peer(), func(c *tls.Config) {
			c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &tls.Certificate{}, nil }
		}, closed},
		"expired certificate": {gateway, custodian.Peer(), func(c *tls.Config) {
			c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return expired, nil }
		}, closed},
		"no ALPN": {gateway, custodian.Peer(), func(c *tls.Config) { c.NextProtos, c.VerifyConnection = nil, nil }, closed},
		"TLS 1.2": {gateway, custodian.Peer(), func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 }, "protocol version"},
	} {
		config := ClientTLS(c.key, c.peer)
		if c.change != nil {
			c.change(config)
		}
		client := NewClient(ClientConfig{Dial: func(ctx context.Context) (net.Conn, error) {
			return (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", ln.Addr().String())
		}})
		r, err := client.Do(context.Background(), request([]byte("hello")))
		if c.want != "" {
			if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v", name, err)
			}
		} else if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if b, err := io.ReadAll(r.Body); string(b) != "hello" || err != nil {
			t.Errorf("%s: %q, %v", name, b, err)
		}
		client.Close()
	}
	plain := NewClient(ClientConfig{Dial: func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", ln.Addr().String())
	}})
	defer plain.Close()
	if _, err := plain.Do(context.Background(), request(nil)); !errors.Is(err, ErrUnavailable) {
		t.Errorf("plain TCP: %v", err)
	}
}

// TestStrangersTakeNoPlace: connections that never say who they are keep no gateway out.
func TestStrangersTakeNoPlace(t *testing.T) {
	p := newPair(t, echo, func(s *ServerConfig, c *ClientConfig) { s.Limits.Conns, c.Conns = 2, 2 })
	for range 8 {
		nc, err := net.Dial("unix", p.path)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
	}
	if _, err := p.Do(context.Background(), request(nil)); err != nil {
		t.Error(err)
	}
}

// TestKeyFiles: what is no Ed25519 key of ours alone is refused.
func TestKeyFiles(t *testing.T) {
	_, good, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(ecKey)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		text []byte
		mode os.FileMode
		want string
	}{
		{"good", good, 0o600, ""},
		{"readable by others", good, 0o644, "others can read it"},
		{"no PEM", []byte("key"), 0o600, "no private key in PEM"},
		{"cut off", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")}), 0o600, "can be read"},
		{"another kind", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600, "Ed25519"},
	} {
		path := filepath.Join(t.TempDir(), "hop.key")
		if err := errors.Join(os.WriteFile(path, c.text, 0o600), os.Chmod(path, c.mode)); err != nil {
			t.Fatal(err)
		}
		_, err := ReadKey(path)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestStrangerRefused(t *testing.T) {
	p := newPair(t, func(context.Context, Peer, *Open, *Writer) { t.Error("the handler ran") }, func(s *ServerConfig, _ *ClientConfig) {
		s.Peers = func(p Peer) string { return map[int]string{os.Getuid() + 1: "g1"}[p.UID] }
	})
	for range 3 {
		if _, err := p.Do(context.Background(), request(nil)); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "does not know this gateway") {
			t.Fatalf("got %v", err)
		}
	}
}

// blocked returns a handler that sends its head and waits for release or for the end of its context.
func blocked(release <-chan struct{}) Handler {
	return func(ctx context.Context, _ Peer, _ *Open, w *Writer) {
		w.Head(200, nil)
		select {
		case <-release:
			w.End(nil)
		case <-ctx.Done():
		}
	}
}

func TestLimits(t *testing.T) {
	release := make(chan struct{})
	var admit atomic.Bool
	admit.Store(true)
	p := newPair(t, blocked(release), func(s *ServerConfig, c *ClientConfig) {
		s.Limits = Limits{Streams: 3, Memory: 32 << 10, Body: 20 << 10}
		s.Admit = admit.Load
	})
	refused := func(name string, o *Open, code string, status int) {
		t.Helper()
		var r *Refusal
		if _, err := p.Do(context.Background(), o); !errors.As(err, &r) || r.Code != code || r.Status != status || r.Sent {
			t.Errorf("%s: %v", name, err)
		}
	}
	taken := func(o *Open) *Response {
		t.Helper()
		r, err := p.Do(context.Background(), o)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	refused("body", request(make([]byte, 20<<10+1)), "too_large", 413)
	long := request(nil)
	long.Path = strings.Repeat("a", 128<<10)
	refused("header bytes", long, "too_large", 431)
	many := request(nil)
	many.Header = make([]Field, 257)
	refused("header fields", many, "too_large", 431)
	admit.Store(false)
	refused("descriptors", request(nil), "overloaded", 503)
	admit.Store(true)
	a := taken(request(make([]byte, 6<<10)))
	refused("memory", request(make([]byte, 20<<10)), "overloaded", 503)
	taken(request(make([]byte, 4<<10)))
	taken(request(nil))
	refused("streams", request(nil), "overloaded", 503)
	a.Body.Close()
	waitFor(t, "the cancelled stream's place is free", func() bool { return p.server.Streams() == 2 })
	taken(request(make([]byte, 6<<10)))
	close(release)
	waitFor(t, "all places are free", func() bool { return p.server.Streams() == 0 && p.server.memory.Load() == 0 })

	small := NewClient(ClientConfig{Dial: Unix(p.path), Limits: Limits{Body: 10}})
	defer small.Close()
	var r *Refusal
	if _, err := small.Do(context.Background(), request(make([]byte, 11))); !errors.As(err, &r) || r.Code != "too_large" {
		t.Errorf("the client's own bound: %v", err)
	}
}

// A body that the handler let go before its answer streams no longer counts.
func TestBodyLetGo(t *testing.T) {
	release := make(chan struct{})
	p := newPair(t, func(ctx context.Context, peer Peer, o *Open, w *Writer) {
		o.Body = nil
		blocked(release)(ctx, peer, o, w)
	}, func(s *ServerConfig, _ *ClientConfig) { s.Limits.Memory = 100 << 10 })
	for range 3 {
		if _, err := p.Do(context.Background(), request(make([]byte, 40<<10))); err != nil {
			t.Fatal(err)
		}
	}
	close(release)
	waitFor(t, "all is counted down once", func() bool { return p.server.Streams() == 0 && p.server.memory.Load() == 0 })
}

// Memory that a handler gave back carries another body and no longer counts. What it did not give back stays as it is.
func TestBodyLent(t *testing.T) {
	var kept [][]byte
	lent := map[*byte]int{}
	p := newPair(t, func(_ context.Context, _ Peer, o *Open, w *Writer) {
		lent[&o.Body[0]]++
		if o.Body[0] == 'k' {
			kept = append(kept, o.Body)
		} else {
			o.Free()
			if o.Body != nil || o.Free != nil {
				t.Error("what was given back is still there")
			}
		}
		w.Head(200, nil)
		w.End(nil)
	}, func(s *ServerConfig, _ *ClientConfig) { s.Limits.Memory = 100 << 10 })
	for i := range 100 {
		body := bytes.Repeat([]byte{"fk"[i%2]}, 40<<10)
		r, err := p.Do(context.Background(), request(body))
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, r.Body)
		r.Body.Close()
		waitFor(t, "the stream is counted down", func() bool { return p.server.Streams() == 0 && p.server.memory.Load() == 0 })
	}
	for _, b := range kept {
		if len(b) != 40<<10 || bytes.Count(b, []byte("k")) != len(b) {
			t.Fatal("a body that was kept was written over")
		}
	}
	if len(lent) == 100 {
		t.Error("no memory carried two bodies")
	}
}

// A context that has ended sends nothing.
func TestContextThatHasEnded(t *testing.T) {
	p := newPair(t, func(context.Context, Peer, *Open, *Writer) { t.Error("the handler ran") })
	if err := p.Ready(context.Background()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for range 20 {
		if _, err := p.Do(ctx, request(nil)); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
}

func TestConnsLimit(t *testing.T) {
	p := newPair(t, echo, func(s *ServerConfig, c *ClientConfig) { s.Limits.Conns, c.Conns = 1, 1 })
	if r, err := p.Do(context.Background(), request(nil)); err != nil || r.Status != 200 {
		t.Fatal(err)
	}
	other := NewClient(ClientConfig{Dial: Unix(p.path)})
	defer other.Close()
	if _, err := other.Do(context.Background(), request(nil)); !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}

// Giving up reaches the handler at once, whether in Do, between reads, or while a Read or a Write waits.
func TestCancel(t *testing.T) {
	for _, name := range []string{"in Do", "in Read", "by Close", "in Write"} {
		t.Run(name, func(t *testing.T) {
			running, ended := make(chan struct{}), make(chan error, 1)
			p := newPair(t, func(ctx context.Context, _ Peer, _ *Open, w *Writer) {
				close(running)
				if name != "in Do" {
					w.Head(200, nil)
				}
				if name == "in Write" {
					_, err := w.Write(make([]byte, 1<<20))
					ended <- err
				} else {
					<-ctx.Done()
					_, err := w.Write([]byte("late"))
					ended <- err
				}
				if ctx.Err() == nil {
					t.Error("the context still holds")
				}
			})
			ctx, cancel := context.WithCancel(context.Background())
			if name == "in Do" {
				go func() { <-running; cancel() }()
			}
			r, err := p.Do(ctx, request([]byte("x")))
			switch name {
			case "in Do":
			case "in Read":
				go func() { <-running; cancel() }()
				_, err = r.Body.Read(make([]byte, 1))
			default:
				r.Body.Close()
				if _, err := r.Body.Read(make([]byte, 1)); !errors.Is(err, ErrBroken) {
					t.Errorf("read after close: %v", err)
				}
				err = context.Canceled
			}
			if !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
			if err := <-ended; name != "in Do" && !errors.Is(err, ErrBroken) {
				t.Errorf("Write after the end: %v", err)
			}
			cancel()
		})
	}
}

// A client that does not read stops the writer at the window, and only that stream's writer.
func TestSlowReader(t *testing.T) {
	const window = 64 << 10
	var written atomic.Int64
	payload := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // 1 MiB
	p := newPair(t, func(ctx context.Context, peer Peer, o *Open, w *Writer) {
		if o.RequestID != "slow" {
			echo(ctx, peer, o, w)
			return
		}
		w.Head(200, nil)
		for i := 0; i < len(payload); i += 1000 {
			n, err := w.Write(payload[i:min(i+1000, len(payload))])
			written.Add(int64(n))
			if err != nil {
				t.Error(err)
				return
			}
		}
		w.End(nil)
	}, func(_ *ServerConfig, c *ClientConfig) { c.Limits.Window = window; c.Conns = 1 })
	slow := request(nil)
	slow.RequestID = "slow"
	r, err := p.Do(context.Background(), slow)
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the writer has filled the window", func() bool { return written.Load() >= window-1000 })
	for i := range 100 { // others pass meanwhile
		o := request(bytes.Repeat([]byte("x"), 50_000))
		q, err := p.Do(context.Background(), o)
		if err != nil {
			t.Fatal(i, err)
		}
		if b, err := io.ReadAll(q.Body); len(b) != len(o.Body) || err != nil {
			t.Fatal(i, len(b), err)
		}
	}
	if n := written.Load(); n > window {
		t.Errorf("%d bytes written into a window of %d", n, window)
	}
	if b, err := io.ReadAll(r.Body); err != nil || !bytes.Equal(b, payload) {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

// A server that does not read at all stops the stream that sends, not the one that gives up waiting.
func TestServerThatDoesNotRead(t *testing.T) {
	c, accept := rawServer(t, Limits{})
	go accept()
	if err := c.Ready(context.Background()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := c.Do(ctx, request(make([]byte, 4<<20))); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
		})
	}
	wg.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, cc := range c.open {
		cc.mu.Lock()
		if n := cap(cc.out) + cap(cc.spare); n > 4*queueLimit {
			t.Errorf("%d bytes queued for a server that does not read", n)
		}
		cc.mu.Unlock()
	}
}

// A client that opens streams only to be refused, and does not read, is cut off before the refusals pile up.
func TestFlood(t *testing.T) {
	p := newPair(t, echo, func(s *ServerConfig, _ *ClientConfig) { s.Admit = func() bool { return false } })
	r := rawClient(t, p.path)
	r.SetWriteDeadline(time.Now().Add(patience))
	for i := uint32(1); i < 1<<20; i++ {
		if _, err := r.Write(frame(frameOpen, i, openPayload(0))); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal("the server neither reads nor ends the connection")
			}
			return
		}
	}
	t.Error("a million refusals were kept for a client that does not read")
}

// After a custodian's restart new streams go to the new one, and while none is there dials are few.
func TestReconnect(t *testing.T) {
	var dials atomic.Int64
	path := socketPath(t)
	c := NewClient(ClientConfig{Dial: func(ctx context.Context) (net.Conn, error) {
		dials.Add(1)
		return Unix(path)(ctx)
	}})
	defer c.Close()
	for round := range 3 {
		begin, before := time.Now(), dials.Load()
		for time.Since(begin) < 100*time.Millisecond {
			if _, err := c.Do(context.Background(), request(nil)); !errors.Is(err, ErrUnavailable) {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond / 2)
		}
		// 20 ms, 40 ms, 80 ms …; a slow machine makes it fewer.
		if n := dials.Load() - before; n > 5 {
			t.Errorf("%d dials in 100 ms", n)
		}
		ln, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		s := NewServer(ServerConfig{Handler: echo, Peers: anyone})
		go s.Serve(ln)
		waitFor(t, "the new custodian is found", func() bool { return c.Ready(context.Background()) == nil })
		for range 10 {
			r, err := c.Do(context.Background(), request([]byte("x")))
			if err != nil {
				t.Fatal(round, err)
			}
			if _, err := io.ReadAll(r.Body); err != nil {
				t.Fatal(err)
			}
		}
		s.Shutdown(context.Background())
	}
}

// Shutdown's limit breaks off what does not end, on either side.
func TestShutdownLimit(t *testing.T) {
	for _, side := range []string{"server", "client"} {
		p := newPair(t, blocked(nil))
		r, err := p.Do(context.Background(), request(nil))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		if side == "server" {
			err = p.server.Shutdown(ctx)
		} else {
			err = p.Client.Shutdown(ctx)
		}
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", side, err)
		}
		if _, err := io.ReadAll(r.Body); !errors.Is(err, ErrBroken) {
			t.Errorf("%s: %v", side, err)
		}
		if _, err := p.Do(context.Background(), request(nil)); !errors.Is(err, ErrUnavailable) {
			t.Errorf("%s: %v", side, err)
		}
		waitFor(t, "the handler has returned", func() bool { return p.server.Streams() == 0 })
	}
}

func TestClientShutdownFinishesStreams(t *testing.T) {
	release := make(chan struct{})
	p := newPair(t, blocked(release))
	r, err := p.Do(context.Background(), request(nil))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- p.Client.Shutdown(context.Background()) }()
	waitFor(t, "new streams are refused", func() bool {
		q, err := p.Do(context.Background(), request(nil))
		if err == nil {
			q.Body.Close()
		}
		return errors.Is(err, ErrUnavailable)
	})
	close(release)
	if _, err := io.ReadAll(r.Body); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A Writer that is used wrongly says so and harms nothing.
func TestWriterMisuse(t *testing.T) {
	errs := make(chan error, 16)
	p := newPair(t, func(_ context.Context, _ Peer, _ *Open, w *Writer) {
		_, err := w.Write([]byte("x"))
		for _, err := range []error{err, w.End(nil), w.Head(99, nil), w.Refuse(&Refusal{Code: "x", Status: 200})} {
			errs <- err
		}
		w.Head(200, nil)
		errs <- w.Head(200, nil)
		errs <- w.Refuse(&Refusal{Code: "x", Status: 403})
		errs <- w.End([]Field{{"A", strings.Repeat("a", 128<<10)}})
		w.End(nil)
		errs <- w.End(nil)
		_, err = w.Write([]byte("x"))
		errs <- err
		close(errs)
	})
	r, err := p.Do(context.Background(), request(nil))
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(r.Body); len(b) != 0 || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	i := 0
	for err := range errs {
		if i++; err == nil {
			t.Errorf("misuse %d was accepted", i)
		}
	}
}

// Each piece arrives by itself: nothing waits for more.
func TestEventsLeaveAtOnce(t *testing.T) {
	next := make(chan struct{})
	p := newPair(t, func(_ context.Context, _ Peer, _ *Open, w *Writer) {
		w.Head(200, nil)
		for i := range 50 {
			<-next
			fmt.Fprintf(w, "data: %d\n\n", i)
		}
		w.End(nil)
	})
	r, err := p.Do(context.Background(), request(nil))
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	for i := range 50 {
		next <- struct{}{}
		n, err := r.Body.Read(buf)
		if want := fmt.Sprintf("data: %d\n\n", i); string(buf[:n]) != want || err != nil && err != io.EOF {
			t.Fatalf("read %q, %v", buf[:n], err)
		}
	}
}

// 10,000 idle streams: what both ends together hold for each, besides the handler's and the caller's goroutines.
func TestIdleMemory(t *testing.T) {
	const streams, most = 10_000, 6 << 10
	release := make(chan struct{})
	p := newPair(t, func(ctx context.Context, _ Peer, o *Open, w *Writer) {
		w.Head(200, []Field{{"Content-Type", "text/event-stream"}})
		w.Write([]byte("data: hello\n\n"))
		o.Body = nil
		<-release
		w.End(nil)
	})
	body := make([]byte, 2000)
	responses := make([]*Response, 0, streams)
	used := func() int64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc + m.StackInuse)
	}
	before := used()
	for range streams {
		r, err := p.Do(context.Background(), request(body))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Body.Read(make([]byte, 64)); err != nil {
			t.Fatal(err)
		}
		responses = append(responses, r)
	}
	each := (used() - before) / streams
	t.Logf("%d bytes for each of %d idle streams, both ends together with the handler's stack", each, streams)
	if !race && each > most {
		t.Errorf("more than %d bytes for an idle stream", most)
	}
	close(release)
	for _, r := range responses {
		if _, err := io.ReadAll(r.Body); err != nil {
			t.Fatal(err)
		}
	}
}
