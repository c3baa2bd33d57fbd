package gateway

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/reevehq/reeve/internal/closing"
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
	if resp.Status < 200 || resp.Status > 599 {
		return c.instead(&dialect.Fault{Status: http.StatusBadGateway, Code: "upstream_status", Message: "The upstream answered with a status that HTTP does not have for final answers."})
	}
	kind, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	p := &passage{call: c, body: resp.Body, status: resp.Status}
	switch kind = strings.ToLower(strings.TrimSpace(kind)); {
	case kind == "text/event-stream":
		p.sse, p.flush = true, true
		h.Del("Content-Length")
		h["X-Accel-Buffering"] = []string{"no"} // proxies before the gateway: pass each event on
	case resp.Status < 300 && (kind == "text/html" || c.stream && resp.Status == http.StatusOK):
		// SDKs take a page for an empty success, and so they do anything but events where they asked for events.
		f := &dialect.Fault{Status: http.StatusBadGateway, Code: "upstream_content_type",
			Message: "The upstream answered with content of the type " + clip(h.Get("Content-Type")) + " where its API has none. Its address or a proxy before it may be wrong."}
		return c.instead(f)
	default:
		p.flush = kind != "application/json" && h.Get("Content-Length") == "" // nobody reads JSON by halves
	}
	err := p.pass()
	if err == nil {
		c.trailers(resp.Trailer())
		return nil
	}
	if ctx := c.r.Context(); ctx.Err() != nil && !givenUp(ctx) {
		c.code = gone
	} else if c.code = "broken"; !p.begun {
		return c.instead(&dialect.Fault{Status: http.StatusBadGateway, Code: c.code,
			Message: "The answer broke off before anything of it came: " + reason(err) + "."})
	}
	panic(http.ErrAbortHandler)
}

// instead clears an answer of which nothing was sent, but for what names the request.
func (c *call) instead(f *dialect.Fault) *dialect.Fault {
	h := c.w.Header()
	clear(h)
	h[requestID] = []string{c.id}
	c.alone()
	f.Receipt = c.receipt
	return f
}

func (c *call) trailers(fields []hop.Field) {
	if len(fields) == 0 {
		return
	}
	_ = http.NewResponseController(c.w).Flush() // a short answer would get a length instead
	for _, f := range fields {
		c.w.Header().Add(http.TrailerPrefix+f.Name, f.Value)
	}
}

// deadline gives the client the stream's idle time, or seven eighths of it at least, to read what is written next: setting one
// for every piece costs as much as writing it.
func (c *call) deadline() {
	idle := 300 * time.Second
	if c.force != nil {
		idle = time.Duration(c.force.limits.StreamIdle)
	}
	now := time.Now()
	if c.writeBy.Sub(now) < idle-idle/8 {
		c.writeBy = now.Add(idle)
		_ = http.NewResponseController(c.w).SetWriteDeadline(c.writeBy) // not every test writer has deadlines
	}
}

// passage is an answer's body on its way to the client.
type passage struct {
	call   *call
	body   io.ReadCloser
	status int
	sse    bool // server-sent events
	flush  bool // after each piece

	mu     sync.Mutex // guards the writer and what follows, while watch may write a comment
	begun  bool       // the head is sent
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

// pass copies the body. The head of a stream of events is sent at once, every other with the first piece.
func (p *passage) pass() error {
	p.mu.Lock()
	if p.sse {
		p.begin()
		_ = http.NewResponseController(p.call.w).Flush()
	}
	p.last = time.Now()
	p.watch = time.AfterFunc(p.patience(), p.tick)
	p.mu.Unlock()
	err := p.copy()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	p.watch.Stop()
	if p.silent {
		err = errSilent
	}
	if cut := p.call.cut(); cut != nil && err != nil {
		err = cut
	}
	if err == nil && p.sse {
		err = p.complete()
	}
	switch {
	case err == nil:
		p.begin()
	case p.sse:
		p.say(err)
	}
	return err
}

// begin sends the head, once.
func (p *passage) begin() {
	if p.begun {
		return
	}
	p.begun, p.call.status = true, p.status
	p.call.deadline()
	p.call.w.WriteHeader(p.status)
}

// copy holds a piece of memory only while there is something to put into it: most streams are idle most of the time.
func (p *passage) copy() error {
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
			werr = p.write(b[:n])
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

func (p *passage) write(b []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.call
	p.last = time.Now()
	if c.first == 0 {
		c.first = p.last.Sub(c.start)
	}
	if p.sse {
		p.events.write(b)
	}
	p.begin()
	c.deadline()
	n, err := c.w.Write(b)
	c.out += int64(n)
	if err == nil && p.flush {
		err = http.NewResponseController(c.w).Flush()
	}
	return err
}

// patience is how long watch sleeps: until a comment is due, or until the upstream is given up.
func (p *passage) patience() time.Duration {
	idle := time.Duration(p.call.force.limits.StreamIdle)
	if p.sse {
		return min(time.Duration(p.call.g.keepAlive.Load()), idle)
	}
	return idle
}

// tick runs when a stream may have been silent. It sends a comment between two events, which clients pass over, and ends
// what has been silent for the stream's idle time.
func (p *passage) tick() {
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
	wait := p.patience()
	if silence < wait {
		p.watch.Reset(wait - silence)
		return
	}
	if p.sse && p.events.between() {
		p.call.deadline()
		n, _ := io.WriteString(p.call.w, ": keep-alive\n\n") // a client that has gone shows in the request's context
		p.call.out += int64(n)
		_ = http.NewResponseController(p.call.w).Flush()
	}
	p.watch.Reset(wait)
}

// complete checks that a stream of events, ended cleanly by the upstream, has had its last event.
func (p *passage) complete() error {
	ends := p.call.route.Ends
	if ends == nil || p.status != http.StatusOK {
		return nil
	}
	p.events.finish()
	if ends(p.events.last()) {
		return nil
	}
	return errShort
}

// say tells the client in its stream that the answer broke off. In the middle of an event only the connection's end can say so.
func (p *passage) say(err error) {
	c := p.call
	if !p.events.between() || c.r.Context().Err() != nil && !givenUp(c.r.Context()) {
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
	case errors.Is(err, errSilent), errors.Is(err, errShort), errors.Is(err, closing.ErrCut):
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
