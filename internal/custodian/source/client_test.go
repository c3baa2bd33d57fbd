package source

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/reevehq/reeve/internal/custodian/egress"
	"github.com/reevehq/reeve/internal/hop"
	"github.com/reevehq/reeve/internal/statement"
)

const value = "demo-client-secret-0001"

// serve starts an endpoint under the name example.com, which the certificate of httptest is for.
func serve(t *testing.T, handle http.HandlerFunc) (statement.From, *atomic.Int64) {
	var calls atomic.Int64
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		handle(w, r)
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return statement.From{
		URL: strings.Replace(s.URL, "127.0.0.1", "example.com", 1) + "/token", Networks: []string{"127.0.0.1/32"},
		CA: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})),
	}, &calls
}

func to(addrs ...string) Resolver {
	return func(context.Context, string) (list []netip.Addr, _ error) {
		for _, a := range addrs {
			list = append(list, netip.MustParseAddr(a))
		}
		return list, nil
	}
}

func do(t *testing.T, from statement.From, resolve Resolver, r Request) (*Answer, error) {
	t.Helper()
	c, err := NewClient(from, resolve)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	r.Secret = egress.Secret{Name: "Authorization", Value: []byte("Bearer " + value)}
	a, err := c.Do(context.Background(), r)
	if err != nil && strings.Contains(fmt.Sprintf("%+v %#v", err, err), value) {
		t.Errorf("the error holds the secret: %v", err)
	}
	return a, err
}

func TestClientAsks(t *testing.T) {
	var got *http.Request
	var body []byte
	from, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		w.Header().Set("X-A", "1")
		w.WriteHeader(201)
		io.WriteString(w, `{"a":1}`)
	})
	for path, want := range map[string]string{"": "/token", "/other?q=1": "/other?q=1"} {
		a, err := do(t, from, to("127.0.0.1"), Request{Method: "POST", Path: path, Body: []byte("b=2"), Header: []hop.Field{{Name: "Content-Type", Value: "text/plain"}}})
		if err != nil {
			t.Fatal(err)
		}
		if a.Status != 201 || string(a.Body) != `{"a":1}` || got.Method != "POST" || got.RequestURI != want || string(body) != "b=2" ||
			got.Header.Get("Authorization") != "Bearer "+value || got.Header.Get("Accept-Encoding") != "identity" || got.Header.Get("Accept") != "application/json" {
			t.Errorf("%d %s; asked %s %s %v %s", a.Status, a.Body, got.Method, got.RequestURI, got.Header, body)
		}
	}
}

// Every answer that is not to be read is an error of the right kind, and what was asked is asked once.
func TestClientRefuses(t *testing.T) {
	elsewhere := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a redirect was followed") }))
	t.Cleanup(elsewhere.Close)
	for name, tt := range map[string]struct {
		handle http.HandlerFunc
		want   error
	}{
		"error is an answer": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }, nil},
		"as long as allowed": {func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, maxAnswer)) }, nil},
		"identity":           {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Encoding", "identity") }, nil},
		"302":                {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, http.StatusFound) }, ErrRefused},
		"307": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
		}, ErrRefused},
		"304": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(304) }, ErrRefused},
		"announced too long": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(maxAnswer+1))
		}, ErrMalformed},
		"too long": {func(w http.ResponseWriter, _ *http.Request) {
			w.(http.Flusher).Flush()
			w.Write(make([]byte, maxAnswer+1))
		}, ErrMalformed},
		"gzip": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			io.WriteString(w, value)
		}, ErrMalformed},
		"broken off": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, value)
			panic(http.ErrAbortHandler)
		}, ErrDown},
		"broken off, chunked": {func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, value)
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, ErrDown},
		"hung up": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, ErrDown},
	} {
		from, calls := serve(t, tt.handle)
		a, err := do(t, from, to("127.0.0.1"), Request{Method: "POST"})
		if !errors.Is(err, tt.want) || (a == nil) == (err == nil) || calls.Load() != 1 {
			t.Errorf("%s: %v, %v after %d calls; want %v", name, a, err, calls.Load(), tt.want)
		}
	}
}

// A name that leads to an address which its record does not allow is not followed there, neither at first nor later.
func TestClientChecksAddresses(t *testing.T) {
	from, calls := serve(t, func(http.ResponseWriter, *http.Request) {})
	private := from
	private.Networks = nil
	for name, tt := range map[string]struct {
		from    statement.From
		resolve Resolver
	}{
		"loopback":     {private, to("127.0.0.1")},
		"one of two":   {from, to("127.0.0.1", "10.0.0.1")},
		"metadata":     {from, to("169.254.169.254")},
		"mapped":       {private, to("::ffff:127.0.0.1")},
		"of no record": {from, to("192.168.1.1")},
	} {
		_, err := do(t, tt.from, tt.resolve, Request{Method: "GET"})
		if !errors.Is(err, ErrDown) || !errors.Is(err, egress.ErrAddress) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if calls.Load() != 0 {
		t.Error("it was called all the same")
	}
	// Rebinding: the second connection is resolved and checked anew.
	lookups := 0
	c, err := NewClient(from, func(context.Context, string) ([]netip.Addr, error) {
		lookups++
		if lookups == 1 {
			return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
		}
		return []netip.Addr{netip.MustParseAddr("127.0.0.2")}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Do(context.Background(), Request{Method: "GET"}); err != nil {
		t.Fatal(err)
	}
	c.pool.Retire() // the kept connection ends; the next call connects anew
	if _, err := c.Do(context.Background(), Request{Method: "GET"}); !errors.Is(err, egress.ErrAddress) || calls.Load() != 1 {
		t.Errorf("after the name moved: %v, %d calls", err, calls.Load())
	}
}

func TestClientPinsTheName(t *testing.T) {
	from, calls := serve(t, func(http.ResponseWriter, *http.Request) {})
	for name, edit := range map[string]func(*statement.From){
		"another name": func(f *statement.From) { f.URL = strings.Replace(f.URL, "example.com", "example.org", 1) },
		"no CA":        func(f *statement.From) { f.CA = "" },
	} {
		other := from
		edit(&other)
		if _, err := do(t, other, to("127.0.0.1"), Request{Method: "GET"}); !errors.Is(err, ErrDown) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if calls.Load() != 0 {
		t.Error("it was called all the same")
	}
	for _, url := range []string{"http://example.com/token", "https://user:pass@example.com/", "://", "https:///token", "example.com"} {
		if _, err := NewClient(statement.From{URL: url}, nil); err == nil {
			t.Errorf("%s: made a client", url)
		}
	}
}

func TestClientEnds(t *testing.T) {
	reached, end := make(chan struct{}, 2), make(chan struct{})
	from, calls := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		reached <- struct{}{}
		select {
		case <-r.Context().Done():
		case <-end:
		}
	})
	defer close(end)
	c, err := NewClient(from, to("127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-reached; cancel() }()
	if _, err := c.Do(ctx, Request{Method: "GET"}); !errors.Is(err, ErrDown) || !errors.Is(err, context.Canceled) {
		t.Errorf("its context ended: %v", err)
	}
	go func() { <-reached; c.Close() }()
	if _, err := c.Do(context.Background(), Request{Method: "GET"}); !errors.Is(err, ErrDown) {
		t.Errorf("closed while it waited: %v", err)
	}
	before := calls.Load()
	if _, err := c.Do(context.Background(), Request{Method: "GET"}); !errors.Is(err, egress.ErrClosed) || calls.Load() != before {
		t.Errorf("after Close: %v", err)
	}
}

// What grows leaves no copy behind.
func TestReadWipes(t *testing.T) {
	for _, n := range []int{0, 1, 4 << 10, 4<<10 + 1, 100_000, maxAnswer} {
		r := &keeper{b: bytes.Repeat([]byte{'x'}, n)}
		b, err := read(r)
		if err != nil || len(b) != n {
			t.Fatalf("%d of %d bytes, %v", len(b), n, err)
		}
		for _, old := range r.given {
			if len(b) > 0 && &old[0] != &b[:1][0] && bytes.ContainsRune(old, 'x') && cap(old) != cap(b) && !inside(old, b) {
				t.Errorf("of %d bytes, %d were left behind", n, len(old))
			}
		}
	}
}

// keeper remembers the buffers that it was given.
type keeper struct {
	b     []byte
	given [][]byte
}

func (k *keeper) Read(p []byte) (int, error) {
	if len(k.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, k.b)
	k.given = append(k.given, p[:n])
	k.b = k.b[n:]
	return n, nil
}

// inside reports whether two slices share memory.
func inside(old, b []byte) bool {
	was := old[0]
	old[0]++
	defer func() { old[0] = was }()
	return bytes.ContainsRune(b, rune(was+1))
}
