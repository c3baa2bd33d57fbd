package gateway

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/reevehq/reeve/internal/gateway/dialect"
	"github.com/reevehq/reeve/internal/hop"
)

// piece is how much of an answer is read at a time, in bytes.
const piece = 32 << 10

// answer passes the custodian's answer on. A fault is returned only while nothing has been sent. An answer that breaks off
// never ends cleanly: clients take a clean end for success.
func (c *call) answer(resp *hop.Response) *dialect.Fault {
	h := c.w.Header()
	copyAnswer(h, resp.Header)
	resp.Header = nil // not kept while the body streams
	c.receipt = h.Get(receiptField)
	events, f := c.checkType(resp.Status, h)
	if f != nil {
		clear(h)
		h[requestID] = []string{c.id}
		if c.receipt != "" {
			h.Set(receiptField, c.receipt)
		}
		return f
	}
	if events {
		h.Del("Content-Length")
		h["X-Accel-Buffering"] = []string{"no"} // proxies before the gateway: pass each event on
	}
	c.status = resp.Status
	c.deadline()
	c.w.WriteHeader(resp.Status)
	p := &passage{call: c, body: resp.Body, flush: events || h.Get("Content-Length") == ""}
	err := p.pass(events)
	if err == nil {
		for _, f := range resp.Trailer() {
			h.Add(http.TrailerPrefix+f.Name, f.Value)
		}
		return nil
	}
	c.code = "broken"
	if ctx := c.r.Context(); ctx.Err() != nil && !closing(ctx) {
		c.code = gone
	}
	panic(http.ErrAbortHandler)
}

// checkType refuses answers that SDKs take for an empty success: a page instead of JSON, anything but events instead of events.
func (c *call) checkType(status int, h http.Header) (events bool, f *dialect.Fault) {
	kind, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	kind = strings.ToLower(strings.TrimSpace(kind))
	events = kind == "text/event-stream"
	if status >= 300 || events {
		return events, nil
	}
	if kind == "text/html" || c.stream && status == http.StatusOK {
		return false, &dialect.Fault{Status: http.StatusBadGateway, Code: "upstream_content_type",
			Message: "The upstream answered with content of the type " + clip(h.Get("Content-Type")) + " where its API has none. Its address or a proxy before it may be wrong."}
	}
	return false, nil
}

// deadline gives the client until then to read what is written next.
func (c *call) deadline() {
	idle := 300 * time.Second
	if c.force != nil {
		idle = time.Duration(c.force.limits.StreamIdle)
	}
	_ = http.NewResponseController(c.w).SetWriteDeadline(time.Now().Add(idle)) // not every test writer has deadlines
}

// passage is an answer's body on its way to the client.
type passage struct {
	call  *call
	body  io.ReadCloser
	flush bool // after each piece

	mu     sync.Mutex // guards the writer and what follows, while watch may write a comment
	events events
	last   time.Time // of the last piece
	ended  bool
	silent bool // watch gave the upstream up
	watch  *time.Timer
}

var (
	errSilent = errors.New("the upstream was silent for too long")
	errShort  = errors.New("the stream ended before its last event")
)

// pass copies the body, each piece at once.
func (p *passage) pass(events bool) error {
	if p.flush {
		_ = http.NewResponseController(p.call.w).Flush()
	}
	p.mu.Lock()
	p.last = time.Now()
	p.watch = time.AfterFunc(p.patience(events), func() { p.tick(events) })
	p.mu.Unlock()
	err := p.copy(events)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	p.watch.Stop()
	if p.silent {
		err = errSilent
	}
	if err == nil && events {
		err = p.complete()
	}
	if err != nil && events {
		p.say(err)
	}
	return err
}

// copy holds a piece of memory only while there is something to put into it: most streams are idle most of the time.
func (p *passage) copy(events bool) error {
	pool := &p.call.g.pieces
	for {
		if _, err := p.body.Read(nil); err != nil { // waits
			return ended(err)
		}
		b, ok := pool.Get().(*[piece]byte)
		if !ok {
			b = new([piece]byte)
		}
		n, err := p.body.Read(b[:])
		var werr error
		if n > 0 {
			werr = p.write(b[:n], events)
		}
		pool.Put(b)
		switch {
		case werr != nil:
			return werr
		case err != nil:
			return ended(err)
		}
	}
}

// ended is nil for a clean end.
func ended(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}

func (p *passage) write(b []byte, events bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.call
	p.last = time.Now()
	if c.first == 0 {
		c.first = p.last.Sub(c.start)
	}
	if events {
		p.events.write(b)
	}
	if p.flush {
		c.deadline()
	}
	n, err := c.w.Write(b)
	c.out += int64(n)
	if err == nil && p.flush {
		err = http.NewResponseController(c.w).Flush()
	}
	return err
}

// patience is how long watch sleeps: until a comment is due, or until the upstream is given up.
func (p *passage) patience(events bool) time.Duration {
	idle := time.Duration(p.call.force.limits.StreamIdle)
	if events {
		return min(p.call.g.cfg.KeepAlive, idle)
	}
	return idle
}

// tick runs when a stream may have been silent. It sends a comment between two events, which clients pass over, and ends
// what has been silent for the stream's idle time.
func (p *passage) tick(events bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return
	}
	silence := time.Since(p.last)
	if silence >= time.Duration(p.call.force.limits.StreamIdle) {
		p.silent = true
		p.body.Close()
		return
	}
	wait := p.patience(events)
	if silence < wait {
		p.watch.Reset(wait - silence)
		return
	}
	if events && p.events.between() {
		p.call.deadline()
		n, _ := io.WriteString(p.call.w, ": keep-alive\n\n") // a client that has gone shows in the request's context
		p.call.out += int64(n)
		_ = http.NewResponseController(p.call.w).Flush()
	}
	p.watch.Reset(wait)
}

// complete checks that a stream of events, ended cleanly by the upstream, has had its last event.
func (p *passage) complete() error {
	c := p.call
	if c.route.Ends == nil || c.status != http.StatusOK {
		return nil
	}
	p.events.finish()
	if c.route.Ends(p.events.last()) {
		return nil
	}
	return errShort
}

// say tells the client in its stream that the answer broke off. In the middle of an event only the connection's end can say so.
func (p *passage) say(err error) {
	c := p.call
	if !p.events.between() || c.r.Context().Err() != nil && !closing(c.r.Context()) {
		return
	}
	f := &dialect.Fault{Status: http.StatusBadGateway, Code: "broken", RequestID: c.id,
		Message: "The answer broke off: " + reason(err) + ". What came before is not complete; the request id is " + c.id + "."}
	c.deadline()
	n, _ := c.w.Write(c.dialect.Frame(f)) // the connection is ended in any case
	c.out += int64(n)
	_ = http.NewResponseController(c.w).Flush()
}

// reason is what a client may read of why an answer broke off.
func reason(err error) string {
	switch {
	case errors.Is(err, errSilent), errors.Is(err, errShort):
		return err.Error()
	case errors.Is(err, context.Canceled):
		return errClosing.Error()
	case errors.Is(err, hop.ErrBroken):
		if text := err.Error(); strings.HasPrefix(text, hop.ErrBroken.Error()+": ") {
			return clip(text[len(hop.ErrBroken.Error())+2:])
		}
	}
	return "the upstream or the custodian ended the connection"
}
