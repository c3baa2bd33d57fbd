package hop

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math/rand"
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"
)

// plan is what both ends of one stream will do. It travels as the request's body.
type plan struct {
	Refuse  bool
	Pieces  []int // sizes of the handler's writes
	End     string
	Padding []byte

	cut    int  // the client gives up after so many bytes; -1 for never
	cancel bool // by its context rather than Close
	read   int  // size of its reads
}

func randomPlan(r *rand.Rand) *plan {
	p := &plan{Refuse: r.Intn(10) == 0, End: []string{"end", "end", "trailer", "break", "return", "panic"}[r.Intn(6)], cut: -1, read: 1 + r.Intn(1<<uint(1+r.Intn(16)))}
	for range r.Intn(8) {
		p.Pieces = append(p.Pieces, r.Intn(1<<uint(r.Intn(18))))
	}
	p.Padding = make([]byte, r.Intn(1<<uint(r.Intn(18))))
	if r.Intn(4) == 0 {
		p.cut, p.cancel = r.Intn(1+p.total()), r.Intn(2) == 0
	}
	return p
}

func (p *plan) total() (n int) {
	for _, piece := range p.Pieces {
		n += piece
	}
	return n
}

// perform is the handler's part.
func perform(ctx context.Context, _ Peer, o *Open, w *Writer) {
	var p plan
	if err := json.Unmarshal(o.Body, &p); err != nil {
		w.Refuse(&Refusal{Code: "body", Status: 400, Message: err.Error()})
		return
	}
	if p.Refuse {
		w.Refuse(&Refusal{Code: "planned", Status: 403})
		return
	}
	w.Head(200, []Field{{"Request", o.RequestID}})
	at := 0
	for _, piece := range p.Pieces {
		b := make([]byte, piece)
		for i := range b {
			b[i] = byte((at + i) * 31)
		}
		if _, err := w.Write(b); err != nil {
			return
		}
		if at += piece; at%7 == 0 {
			runtime.Gosched()
		}
	}
	switch p.End {
	case "end":
		w.End(nil)
	case "trailer":
		w.End([]Field{{"Trailer", o.RequestID}})
	case "break":
		w.Break("planned")
	case "panic":
		panic("planned")
	}
}

// follow is the client's part: it compares what it sees with what the plan allows.
func (p *plan) follow(t *testing.T, c *Client, id string) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	body, err := json.Marshal(p)
	if err != nil {
		t.Error(err)
		return
	}
	o := request(body)
	o.RequestID = id
	r, err := c.Do(ctx, o)
	var refusal *Refusal
	switch {
	case p.Refuse:
		if !errors.As(err, &refusal) || refusal.Code != "planned" {
			t.Errorf("%s: a planned refusal came as %v", id, err)
		}
		return
	case err != nil:
		t.Errorf("%s: %v", id, err)
		return
	case r.Header[0] != Field{"Request", id}:
		t.Errorf("%s: answered with %v", id, r.Header)
	}
	at, buf := 0, make([]byte, p.read)
	for err == nil {
		if p.cut >= 0 && at >= p.cut {
			if p.cancel {
				cancel()
			} else {
				r.Body.Close()
			}
		}
		var n int
		n, err = r.Body.Read(buf)
		for _, b := range buf[:n] {
			if b != byte(at*31) {
				t.Errorf("%s: byte %d is wrong", id, at)
				return
			}
			at++
		}
	}
	r.Body.Close()
	cut := p.cut >= 0 && at >= p.cut
	switch clean := p.End == "end" || p.End == "trailer"; {
	case err == io.EOF && clean && at == p.total():
		if trailer := r.Trailer(); (p.End == "trailer") != (len(trailer) == 1) {
			t.Errorf("%s: trailer %v", id, trailer)
		}
	case cut && (errors.Is(err, context.Canceled) || errors.Is(err, ErrBroken)):
	case !clean && errors.Is(err, ErrBroken) && at == p.total():
	default:
		t.Errorf("%s: %d bytes of %d, ended with %v after plan %q, cut %d", id, at, p.total(), err, p.End, p.cut)
	}
}

// TestModel runs random streams beside one another and compares each with its plan.
func TestModel(t *testing.T) {
	seed := time.Now().UnixNano()
	if s := os.Getenv("HOP_SEED"); s != "" {
		seed, _ = strconv.ParseInt(s, 10, 64)
	}
	t.Logf("HOP_SEED=%d", seed)
	p := newPair(t, perform, func(s *ServerConfig, c *ClientConfig) {
		s.Log = slog.New(slog.DiscardHandler)
		c.Limits.Window = 1 << 14
	})
	var wg sync.WaitGroup
	for worker := range 12 {
		r := rand.New(rand.NewSource(seed + int64(worker)))
		wg.Go(func() {
			for i := range 60 {
				randomPlan(r).follow(t, p.Client, strconv.Itoa(worker)+"-"+strconv.Itoa(i))
			}
		})
	}
	wg.Wait()
	waitFor(t, "every handler has returned", func() bool { return p.server.Streams() == 0 && p.server.memory.Load() == 0 })
	p.Client.mu.Lock()
	defer p.Client.mu.Unlock()
	for _, cc := range p.Client.open {
		cc.mu.Lock()
		if n := len(cc.streams); n != 0 || cc.err != nil {
			t.Errorf("%d streams left on a connection, %v", n, cc.err)
		}
		cc.mu.Unlock()
	}
}
