package hop

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"sync"
	"time"
)

const (
	firstBackoff = 20 * time.Millisecond // after a failed dial; doubles with each
	lastBackoff  = time.Second
)

// errClosed is what reading returns after Close.
var errClosed = fmt.Errorf("%w: closed", ErrBroken)

// ClientConfig is what a Client is made of.
type ClientConfig struct {
	// Dial connects to the custodian: Unix(path), or a TLS dialer with ClientTLS for another machine. Required.
	Dial   func(ctx context.Context) (net.Conn, error)
	Conns  int // connections kept: 2
	Limits Limits
}

// Unix returns a dial function for a socket path.
func Unix(path string) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}
}

// Client is a gateway's end: a few connections, many streams. Safe for concurrent use.
type Client struct {
	cfg   ClientConfig
	group group // all connections, those too that only finish their streams

	mu      sync.Mutex
	open    []*clientConn // those that take new streams
	next    int           // takes turns through open
	dialing chan struct{} // closed when the dial in flight is done; nil when none is
	err     error         // of the last dial
	delay   time.Duration // after it, before the next one
	until   time.Time
}

// NewClient returns a client that dials when it is first used.
func NewClient(cfg ClientConfig) *Client {
	cfg.Limits, cfg.Conns = cfg.Limits.withDefaults(), cmp.Or(cfg.Conns, 2)
	return &Client{cfg: cfg}
}

// Do sends the request and returns when the response's head is there. The error is a *Refusal, ErrUnavailable (nothing was
// sent), ErrBroken (what happened upstream is not known) or ctx's. Cancelling ctx sends CANCEL, in Do at once and later
// when Body is read or closed. The caller closes Body.
func (c *Client) Do(ctx context.Context, o *Open) (*Response, error) {
	if l := &c.cfg.Limits; len(o.Body) > l.Body {
		return nil, tooLarge("The request body", len(o.Body), l.Body)
	}
	for try := 0; ; try++ {
		cc, err := c.pick(ctx)
		if err != nil {
			return nil, err
		}
		// A custodian that says that it did not take the stream up has sent nothing: that one case is tried again.
		r, err := cc.do(ctx, o)
		if try == 2 || !errors.Is(err, ErrUnavailable) {
			return r, err
		}
	}
}

// Record hands the custodian the file of a signed record, of at most 16 KiB. There is no answer: its ledger says what became of it.
func (c *Client) Record(ctx context.Context, file []byte) error {
	cc, err := c.pick(ctx)
	if err != nil {
		return err
	}
	cc.mu.Lock()
	defer cc.mu.Unlock()
	return cc.put(frameRecord, 0, 0, func(b []byte) []byte { return append(b, file...) })
}

// Ready dials where needed and returns nil once a custodian answers, or ErrUnavailable with the reason.
func (c *Client) Ready(ctx context.Context) error {
	_, err := c.pick(ctx)
	return err
}

// Close ends all connections at once: streams in flight return ErrBroken.
func (c *Client) Close() {
	now, cancel := context.WithCancel(context.Background())
	cancel()
	c.group.shutdown(now)
}

// Shutdown refuses new streams, lets those in flight finish until ctx ends, and closes the connections.
func (c *Client) Shutdown(ctx context.Context) error { return c.group.shutdown(ctx) }

// pick returns a connection that takes new streams. A missing one is dialled on the side while others are there.
func (c *Client) pick(ctx context.Context) (*clientConn, error) {
	for {
		c.mu.Lock()
		var cc *clientConn
		for cc == nil && len(c.open) > 0 {
			c.next = (c.next + 1) % len(c.open)
			if cc = c.open[c.next]; cc.drained.Load() {
				c.open, cc = append(c.open[:c.next:c.next], c.open[c.next+1:]...), nil
			}
		}
		if len(c.open) < c.cfg.Conns && c.dialing == nil && !time.Now().Before(c.until) {
			c.dialing = make(chan struct{})
			go c.dial()
		}
		dialing, err := c.dialing, c.err
		c.mu.Unlock()
		if cc != nil {
			return cc, nil
		}
		if dialing == nil {
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		select {
		case <-dialing:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// dial adds a connection, or sets when to try again.
func (c *Client) dial() {
	cc, err := c.meet()
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.dialing)
	c.dialing, c.err = nil, err
	if err != nil {
		c.delay = min(max(2*c.delay, firstBackoff), lastBackoff)
		c.until = time.Now().Add(c.delay)
		return
	}
	c.delay = 0
	c.open = append(c.open, cc)
}

// meet connects and exchanges prefaces.
func (c *Client) meet() (*clientConn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), meetTimeout)
	defer cancel()
	nc, err := c.cfg.Dial(ctx)
	if err != nil {
		return nil, err
	}
	cc := &clientConn{streams: map[uint32]*stream{}}
	cc.init(nc, &c.cfg.Limits)
	cc.greet(statusReady, c.cfg.Limits.Window) // a custodian that refuses may have closed already: its preface says why
	version, status, _, err := cc.greeting()
	switch {
	case err != nil:
		err = fmt.Errorf("the custodian closed the connection: it is closing, has too many, or is another program: %w", err)
	case status == statusPeer:
		err = errors.New("the custodian does not know this gateway: its uid is not in the custodian's configuration, or its key is not in the operations statement")
	case version != Version || status == statusVersion:
		err = fmt.Errorf("the custodian speaks hop version %d and this gateway %d: install the same release on both", version, Version)
	case !c.group.add(cc, math.MaxInt):
		err = net.ErrClosed
	}
	if err != nil {
		nc.Close()
		return nil, err
	}
	go func() {
		defer c.group.remove(cc)
		cc.serve()
	}()
	return cc, nil
}

// clientConn is one connection of the client.
type clientConn struct {
	conn

	// Under mu.
	streams map[uint32]*stream
	last    uint32 // highest id given out
}

// stream is the client's end of one request. It is the response's body.
type stream struct {
	c    *clientConn
	id   uint32
	ctx  context.Context
	wake chan struct{}
	resp Response

	// Under c.mu.
	headed    bool
	trailered bool
	trailer   []Field
	buf       []byte // what has come, from off on unread
	off       int
	read      int       // bytes read and not yet given back to the custodian's window
	err       error     // why nothing more comes; io.EOF for the clean end
	small     [256]byte // the first buf: an event fits
}

// do sends o as one stream and waits for its head.
func (c *clientConn) do(ctx context.Context, o *Open) (*Response, error) {
	s := &stream{c: c, ctx: ctx, wake: make(chan struct{}, 1)}
	s.buf = s.small[:0]
	room := func() bool { return !c.full(s.wake) }
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := cmp.Or(ctx.Err(), s.until(room)); err != nil {
		return nil, err
	}
	if c.drained.Load() {
		return nil, fmt.Errorf("%w: the connection has just ended", ErrUnavailable)
	}
	if err := c.put(frameOpen, c.last+1, max(len(o.Header), len(o.Asserted)), func(b []byte) []byte { return appendOpen(b, o) }); err != nil {
		return nil, &Refusal{Code: "too_large", Status: 431, Message: "The request's header is beyond the limits. Nothing was sent. Send less in it."}
	}
	c.last++
	s.id = c.last
	c.streams[s.id] = s
	if c.last == maxNumber {
		c.drained.Store(true)
	}
	for body := o.Body; len(body) > 0 && s.until(room) == nil; {
		body = body[c.body(s.id, body):]
	}
	if s.err == nil {
		c.put(frameEnd, s.id, 0, nil)
	}
	if s.until(func() bool { return s.headed }); !s.headed {
		return nil, s.err
	}
	s.resp.Body, s.resp.Trailer = s, s.trailerFields
	return &s.resp, nil
}

// until lets c.mu go until ok holds or the stream ends. Its context's end ends it.
func (s *stream) until(ok func() bool) error {
	for s.err == nil && !ok() {
		s.c.mu.Unlock()
		select {
		case <-s.wake:
			s.c.mu.Lock()
		case <-s.ctx.Done():
			s.c.mu.Lock()
			s.c.abandon(s, s.ctx.Err())
		}
	}
	return s.err
}

// abandon ends s from this side: the custodian is told, and what has come or still comes is dropped. Holds mu.
func (c *clientConn) abandon(s *stream, err error) {
	if s.err == nil && s.id != 0 {
		c.put(frameCancel, s.id, 0, nil)
	}
	switch {
	case s.err == nil:
		c.over(s, err)
	case s.off < len(s.buf):
		s.err = err // whole, but not read: no clean end
	}
	s.buf, s.off = nil, 0
}

// over takes s out of the connection. Holds mu.
func (c *clientConn) over(s *stream, err error) {
	s.err = err
	delete(c.streams, s.id)
	c.settle()
	wake(s.wake)
}

// settle ends a drained connection after its last stream. Holds mu.
func (c *clientConn) settle() {
	if c.drained.Load() && len(c.streams) == 0 {
		c.finish = true
		c.work.Signal()
	}
}

// Read implements io.Reader for Response.Body. With an empty p it waits until there is something to read, so that a reader
// of many idle streams needs no buffer for each.
func (s *stream) Read(p []byte) (int, error) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	s.until(func() bool { return s.off < len(s.buf) })
	n := copy(p, s.buf[s.off:])
	s.off += n
	if s.off == len(s.buf) {
		s.buf, s.off = s.buf[:0], 0
		if cap(s.buf) > 16<<10 {
			s.buf = s.small[:0] // a stream that has become quiet keeps little
		}
		if s.err != nil {
			return n, s.err
		}
	}
	if s.read += n; s.read >= c.limits.Window/2 && s.err == nil {
		c.put(frameWindow, s.id, 0, func(b []byte) []byte { return binary.AppendUvarint(b, uint64(s.read)) })
		s.read = 0
	}
	return n, nil
}

// Close implements io.Closer for Response.Body.
func (s *stream) Close() error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.c.abandon(s, errClosed)
	return nil
}

func (s *stream) trailerFields() []Field {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.trailer
}

// store keeps p until it is read. Holds c.mu.
func (s *stream) store(p []byte) {
	if len(s.buf)+len(p) > cap(s.buf) {
		s.buf, s.off = s.buf[:copy(s.buf, s.buf[s.off:])], 0
	}
	s.buf = append(s.buf, p...)
	wake(s.wake)
}

// serve runs the connection until it ends and then breaks its streams.
func (c *clientConn) serve() {
	go c.write()
	err := c.read(false, nil, c.take)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fail(err)
	for _, s := range c.streams {
		c.over(s, fmt.Errorf("%w: the connection to the custodian ended: %w", ErrBroken, c.err))
	}
}

// drain implements ender.
func (c *clientConn) drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drained.Store(true)
	c.settle()
}

// take handles one frame of the custodian.
func (c *clientConn) take(h header, p []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.streams[h.stream]
	switch {
	case h.kind == frameGoaway:
		return c.goaway(p)
	case h.stream > c.last:
		return violation("stream %d was never opened", h.stream)
	case s == nil:
		return nil // abandoned; what was on the way is dropped
	case h.kind == frameHead && !s.headed:
		status, fields, err := decodeHead(p, c.limits)
		s.headed, s.resp.Status, s.resp.Header = err == nil, status, fields
		wake(s.wake)
		return err
	case h.kind == frameError:
		r, err := decodeRefusal(p)
		if err == nil && !s.headed && r.Code != codeBroken {
			c.over(s, r)
		} else if err == nil {
			c.over(s, fmt.Errorf("%w: %s", ErrBroken, r.Message))
		}
		return err
	case h.kind == frameBody && s.headed && !s.trailered && len(s.buf)-s.off+s.read+len(p) <= c.limits.Window:
		s.store(p)
		return nil
	case h.kind == frameTrailer && s.headed && !s.trailered:
		fields, err := decodeTrailer(p, c.limits)
		s.trailer, s.trailered = fields, true
		return err
	case h.kind == frameEnd && s.headed:
		c.over(s, io.EOF)
		return nil
	}
	return violation("frame of type %d on stream %d out of order or beyond its window", h.kind, h.stream)
}

// goaway fails the streams that the custodian will not take up. Holds mu.
func (c *clientConn) goaway(p []byte) error {
	d := decoder{rest: string(p)}
	last := uint32(d.number())
	if err := d.end(); err != nil {
		return err
	}
	c.drained.Store(true)
	for id, s := range c.streams {
		if id > last {
			c.over(s, fmt.Errorf("%w: it is closing", ErrUnavailable))
		}
	}
	c.settle()
	return nil
}
