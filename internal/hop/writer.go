package hop

import (
	"context"
	"fmt"
	"runtime/debug"
)

// lendFrom is the length of a body in bytes above which its memory is lent: less is the allocator's own business.
const lendFrom = 2 << 10

// errGone is what a Writer's methods return when nobody waits for the answer any more, or when it has been ended.
var errGone = fmt.Errorf("%w: it was ended, or the gateway cancelled it or is gone", ErrBroken)

// Writer answers one stream. It is the handler's, for one goroutine at a time.
type Writer struct {
	c      *serverConn
	id     uint32
	open   Open
	size   int             // bytes that the body was announced with
	opened int64           // bytes of the OPEN, counted until the handler returns
	lent   int64           // bytes that the body takes, counted until the handler lets it go
	ctx    context.Context // the handler's, as cancel is
	cancel context.CancelFunc
	headed bool

	// Under c.mu.
	window  int
	wake    chan struct{} // made when the stream first waits
	running bool          // the request is whole: the handler has it
	ended   bool          // END or ERROR was sent, or the peer is gone
}

// lend gives w memory for its body.
func (w *Writer) lend() {
	bodies := &w.c.server.bodies
	lent := bodies.Take(w.size)
	w.open.Body = lent[:0]
	w.open.Free = func() {
		w.open.Body, w.open.Free = nil, nil
		bodies.Give(lent)
	}
}

// release counts w down.
func (w *Writer) release() {
	own, all := w.c.own, &w.c.server.tally
	give(&own.streams, &all.streams, 1)
	give(&own.memory, &all.memory, w.opened+w.lent)
}

// run calls the handler and breaks off what it did not end.
func (w *Writer) run() {
	defer w.release()
	defer w.cancel()
	defer func() {
		if r := recover(); r != nil {
			w.c.server.cfg.Log.Error("hop: handler panicked", "request", w.open.RequestID, "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
		}
		w.Break("the custodian did not finish the answer")
	}()
	w.c.server.cfg.Handler(w.ctx, w.c.peer, &w.open, w)
}

// room waits until the stream may queue a frame, of its body or another. Holds c.mu.
func (w *Writer) room(body bool) error {
	for !w.ended {
		if w.wake == nil && (body && w.window == 0 || len(w.c.out) >= queueLimit) {
			w.wake = make(chan struct{}, 1)
		}
		if (!body || w.window > 0) && !w.c.full(w.wake) {
			return nil
		}
		w.c.mu.Unlock()
		<-w.wake
		w.c.mu.Lock()
	}
	return errGone
}

// frame queues a frame with fields when there is room.
func (w *Writer) frame(kind byte, fields int, fill func([]byte) []byte) error {
	w.c.mu.Lock()
	defer w.c.mu.Unlock()
	if err := w.room(false); err != nil {
		return err
	}
	err := w.c.put(kind, w.id, fields, fill)
	if err == nil && (kind == frameEnd || kind == frameError) {
		w.c.over(w)
	}
	return err
}

// Head sends status and header fields.
func (w *Writer) Head(status int, header []Field) error {
	if w.headed || status < 200 || status > 999 {
		return violation("Head called twice, or with status %d", status)
	}
	w.headed = true
	if w.open.Body == nil {
		give(&w.c.own.memory, &w.c.server.memory, w.lent)
		w.lent = 0
	}
	return w.frame(frameHead, len(header), func(b []byte) []byte { return appendHead(b, status, header) })
}

// Write sends body bytes, blocking on the peer's window. Each Write reaches the peer without delay.
func (w *Writer) Write(p []byte) (n int, err error) {
	if !w.headed {
		return 0, violation("Write before Head")
	}
	w.c.mu.Lock()
	defer w.c.mu.Unlock()
	for n < len(p) {
		if err := w.room(true); err != nil {
			return n, err
		}
		m := w.c.body(w.id, p[n:min(len(p), n+w.window)])
		w.window -= m
		n += m
	}
	return n, nil
}

// End ends the body cleanly, with trailers if any.
func (w *Writer) End(trailer []Field) error {
	if !w.headed {
		return violation("End before Head")
	}
	if len(trailer) > 0 {
		if err := w.frame(frameTrailer, len(trailer), func(b []byte) []byte { return appendFields(b, trailer) }); err != nil {
			return err
		}
	}
	return w.frame(frameEnd, 0, nil)
}

// Break ends the stream as broken off.
func (w *Writer) Break(reason string) {
	r := Refusal{Code: codeBroken, Status: 502, Message: reason, Sent: true}
	w.frame(frameError, 0, func(b []byte) []byte { return appendRefusal(b, &r) })
}

// Refuse answers with a typed error; only before Head.
func (w *Writer) Refuse(r *Refusal) error {
	if w.headed || r.Status < 400 || r.Status > 599 || r.Code == codeBroken {
		return violation("Refuse after Head, or with status %d and code %q", r.Status, r.Code)
	}
	return w.frame(frameError, 0, func(b []byte) []byte { return appendRefusal(b, r) })
}
