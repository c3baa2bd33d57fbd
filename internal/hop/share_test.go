package hop

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand"
	"net"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
)

// named serves gateways that call themselves by the name that is set when they connect.
func named(t *testing.T, h Handler, l Limits) (*pair, *atomic.Pointer[string]) {
	var name atomic.Pointer[string]
	name.Store(new("captured"))
	return newPair(t, h, func(s *ServerConfig, _ *ClientConfig) {
		s.Peers, s.Limits, s.Log = func(Peer) string { return *name.Load() }, l, slog.New(slog.DiscardHandler)
	}), &name
}

// A captured gateway that opens as many streams as it can and never ends one leaves another its share of streams, of memory for
// bodies and for headers, and of connections.
func TestShares(t *testing.T) {
	wide := request(nil)
	for range 60 {
		wide.Header = append(wide.Header, Field{"X", string(bytes.Repeat([]byte("x"), 1<<10))})
	}
	for name, open := range map[string][]byte{"streams": openPayload(0), "bodies": openPayload(64 << 10), "headers": appendOpen(nil, wide)} {
		t.Run(name, func(t *testing.T) {
			p, name := named(t, echo, Limits{Streams: 100, Memory: 2 << 20, Body: 64 << 10})
			r := rawClient(t, p.path)
			for id := uint32(1); id <= 200; id++ {
				r.write(frame(frameOpen, id, open))
			}
			r.write(append(frame(frameOpen, 201, openPayload(1<<20)), frame(frameCancel, 201, nil)...)) // too large: answered when all others are
			refused := 0
			for {
				h, payload, _ := r.next()
				if h.stream == 201 {
					break
				}
				if f, err := decodeRefusal(payload); h.kind != frameError || err != nil || f.Code != "overloaded" {
					t.Fatalf("%+v: %+v, %v", h, f, err)
				}
				refused++
			}
			if refused == 0 || refused > 190 {
				t.Errorf("%d of 200 streams were refused", refused)
			}
			name.Store(new("other"))
			for range 3 {
				resp, err := p.Do(context.Background(), request(make([]byte, 64<<10)))
				if err != nil {
					t.Fatalf("the other gateway: %v", err)
				}
				resp.Body.Close()
			}
			r.Close()
			waitFor(t, "all is counted down", func() bool {
				return p.server.Streams() == 0 && p.server.memory.Load() == 0 && p.server.of("captured").memory.Load() == 0 && p.server.of("captured").conns.Load() == 0
			})
		})
	}
	t.Run("connections", func(t *testing.T) {
		p, name := named(t, echo, Limits{Conns: 8})
		kept := 0
		for range 20 {
			nc, err := net.Dial("unix", p.path)
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			nc.SetDeadline(time.Now().Add(patience))
			nc.Write(preface(Version, 0, 1<<16))
			if n, _ := io.ReadFull(nc, make([]byte, prefaceSize)); n == prefaceSize {
				kept++
			}
		}
		name.Store(new("other"))
		if err := p.Ready(context.Background()); err != nil || kept == 0 || kept == 8 {
			t.Errorf("the captured gateway keeps %d connections, the other: %v", kept, err)
		}
	})
}

// TestBodiesInPlace sends bodies of all lengths in pieces of all lengths, streams in turns, some given up half-way, the connection's
// bytes cut anywhere: each handler gets its own stream's body and no other, in memory that carried others before.
func TestBodiesInPlace(t *testing.T) {
	seed := time.Now().UnixNano()
	if s := os.Getenv("HOP_SEED"); s != "" {
		seed, _ = strconv.ParseInt(s, 10, 64)
	}
	t.Logf("HOP_SEED=%d", seed)
	rnd := rand.New(rand.NewSource(seed))
	p := newPair(t, func(_ context.Context, _ Peer, o *Open, w *Writer) {
		sum := sha256.Sum256(o.Body)
		if o.Free != nil {
			o.Free()
		}
		w.Head(200, []Field{{"Sum", fmt.Sprintf("%x", sum)}})
		w.End(nil)
	})
	r := rawClient(t, p.path)
	type stream struct {
		id   uint32
		body []byte
		at   int
	}
	var open []*stream
	want := map[uint32]string{}
	var out []byte
	flush := func() {
		for len(out) > 0 {
			n := 1 + rnd.Intn(min(len(out), 20<<10))
			r.write(out[:n])
			out = out[n:]
		}
	}
	lengths := []int{0, 1, lendFrom, lendFrom + 1, 4 << 10, readAhead - headerSize, readAhead - headerSize + 1, readAhead, maxBody, maxBody + 1, 3*maxBody + 5}
	for last := uint32(0); last < 300 || len(open) > 0; {
		if last < 300 && len(open) < 5 {
			last++
			s := &stream{id: last, body: make([]byte, lengths[rnd.Intn(len(lengths))])}
			rnd.Read(s.body)
			out = append(out, frame(frameOpen, s.id, openPayload(len(s.body)))...)
			open = append(open, s)
		}
		i := rnd.Intn(len(open))
		s := open[i]
		switch rest := s.body[s.at:]; {
		case rnd.Intn(20) == 0:
			out = append(out, frame(frameCancel, s.id, nil)...)
			if len(rest) > 0 { // what was on the way
				out = append(out, frame(frameBody, s.id, rest[:1])...)
			}
			open = append(open[:i], open[i+1:]...)
		case len(rest) == 0:
			out = append(out, frame(frameEnd, s.id, nil)...)
			want[s.id] = fmt.Sprintf("%x", sha256.Sum256(s.body))
			open = append(open[:i], open[i+1:]...)
		default:
			n := min(len(rest), 1+rnd.Intn(maxBody))
			out = append(out, frame(frameBody, s.id, rest[:n])...)
			s.at += n
		}
		if rnd.Intn(8) == 0 {
			flush()
		}
	}
	flush()
	for range 2 * len(want) {
		h, payload, ok := r.next()
		if !ok {
			t.Fatal("the server ended the connection")
		}
		if h.kind == frameEnd {
			continue
		}
		_, fields, err := decodeHead(payload, &p.server.cfg.Limits)
		if err != nil || h.kind != frameHead || len(fields) != 1 || fields[0].Value != want[h.stream] {
			t.Errorf("stream %d: %+v %v, want %s", h.stream, fields, err, want[h.stream])
		}
	}
	r.Close()
	waitFor(t, "all is counted down", func() bool { return p.server.Streams() == 0 && p.server.memory.Load() == 0 })
}

// A connection that ends, or is ended by a shutdown, within a body's frame runs no handler and counts all down.
func TestEndsWithinBody(t *testing.T) {
	for _, name := range []string{"gateway", "shutdown"} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, func(context.Context, Peer, *Open, *Writer) { t.Error("the handler ran") })
			r := rawClient(t, p.path)
			r.write(append(frame(frameOpen, 1, openPayload(40<<10)), frame(frameBody, 1, make([]byte, 30<<10))[:20<<10]...))
			waitFor(t, "the stream is open", func() bool { return p.server.Streams() == 1 })
			if name == "gateway" {
				r.Close()
			} else {
				now, cancel := context.WithCancel(context.Background())
				cancel()
				if err := p.server.Shutdown(now); !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			}
			waitFor(t, "all is counted down", func() bool { return p.server.Streams() == 0 && p.server.memory.Load() == 0 })
		})
	}
}
