package hop

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	dialTimeout  = 5 * time.Second         // connecting, TLS and preface together
	firstBackoff = 20 * time.Millisecond   // after one failed dial; doubles
	lastBackoff  = 1000 * time.Millisecond // at most
)

// ClientConfig is what a Client is made of.
type ClientConfig struct {
	// Dial connects to the custodian: Unix(path), or a TLS dialer with ClientTLS for another host. Required.
	Dial   func(ctx context.Context) (net.Conn, error)
	Conns  int // connections kept, 2 by default
	Limits Limits
	Admit  func() bool // asked before each stream; false refuses it as overloaded. Nil admits all
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
	cfg     ClientConfig
	slots   []slot
	next    atomic.Uint32
	streams atomic.Int64
	chunks  sync.Pool // *chunk
	ctx     context.Context
	cancel  context.CancelFunc

	mu     sync.Mutex
	conns  map[*clientConn]struct{} // all that live, drained ones included
	closed bool
	idle   chan struct{} // closed when closed and the last connection is gone
}

// NewClient returns a client that dials when it is first used.
func NewClient(cfg ClientConfig) *Client {
	cfg.Limits = cfg.Limits.withDefaults()
	if cfg.Conns <= 0 {
		cfg.Conns = 2
	}
	c := &Client{cfg: cfg, slots: make([]slot, cfg.Conns), conns: map[*clientConn]struct{}{}, idle: make(chan struct{})}
	c.chunks.New = func() any { return new(chunk) }
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

// Do sends the request and returns when the response's head is there. The error is a *Refusal, ErrUnavailable (nothing was
// sent), ErrBroken (what happened upstream is not known) or ctx's. Cancelling ctx sends CANCEL, in Do at once and later
// when Body is read or closed. The caller closes Body.
func (c *Client) Do(ctx context.Context, o *Open) (*Response, error) {
	if int64(len(o.Body)) > c.cfg.Limits.Body {
		return nil, tooLarge("The request body", int64(len(o.Body)), c.cfg.Limits.Body)
	}
	if c.cfg.Admit != nil && !c.cfg.Admit() {
		return nil, overloaded("The gateway has too many files open")
	}
	if c.streams.Add(1) > int64(c.cfg.Limits.Streams) {
		c.streams.Add(-1)
		return nil, overloaded("The gateway has too many requests in flight")
	}
	for try := 0; ; try++ {
		cc, err := c.pick(ctx)
		if err != nil {
			c.streams.Add(-1)
			return nil, err
		}
		// A custodian that says that it did not take the stream up has sent nothing: that one case is tried again.
		r, err := cc.do(ctx, o)
		if err == nil {
			return r, nil
		}
		if try == 2 || !errors.Is(err, ErrUnavailable) {
			c.streams.Add(-1)
			return nil, err
		}
	}
}

// Ready dials where needed and returns nil once a custodian answers, or ErrUnavailable with the reason.
func (c *Client) Ready(ctx context.Context) error {
	_, err := c.pick(ctx)
	return err
}

// Close ends all connections at once: streams in flight return ErrBroken.
func (c *Client) Close() error {
	done, cancel := context.WithCancel(context.Background())
	cancel()
	c.Shutdown(done)
	return nil
}

// Shutdown refuses new streams, lets those in flight finish until ctx ends, and closes the connections.
func (c *Client) Shutdown(ctx context.Context) error {
	c.mu.Lock()
	if !c.closed {
		c.closed = true
		if len(c.conns) == 0 {
			close(c.idle)
		}
	}
	for cc := range c.conns {
		cc.drain(maxStream)
	}
	c.mu.Unlock()
	c.cancel()
	select {
	case <-c.idle:
		return nil
	case <-ctx.Done():
	}
	c.mu.Lock()
	for cc := range c.conns {
		cc.mu.Lock()
		cc.fail(net.ErrClosed)
		cc.mu.Unlock()
	}
	c.mu.Unlock()
	<-c.idle
	return ctx.Err()
}

// slot is the place of one of the client's connections.
type slot struct {
	mu      sync.Mutex
	conn    *clientConn   // the last one; nil before the first
	dialing chan struct{} // closed when the dial in flight is done; nil when none is
	err     error         // of the last dial
	delay   time.Duration // before the next one
	until   time.Time
}

// live returns the slot's connection if it takes new streams. Holds s.mu.
func (s *slot) live() *clientConn {
	if s.conn == nil || s.conn.drained.Load() {
		return nil
	}
	return s.conn
}

// pick returns a connection that takes new streams. One missing connection of several is dialled on the side.
func (c *Client) pick(ctx context.Context) (*clientConn, error) {
	first := int(c.next.Add(1))
	for i := range c.slots {
		s := &c.slots[(first+i)%len(c.slots)]
		s.mu.Lock()
		cc := s.live()
		if cc == nil {
			c.dial(s)
		}
		s.mu.Unlock()
		if cc != nil {
			return cc, nil
		}
	}
	s := &c.slots[first%len(c.slots)]
	s.mu.Lock()
	dialing := s.dialing
	s.mu.Unlock()
	if dialing != nil {
		select {
		case <-dialing:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if cc := s.live(); cc != nil {
		return cc, nil
	}
	return nil, fmt.Errorf("%w: %w", ErrUnavailable, s.err)
}

// dial starts a dial unless one is in flight or the last failed a moment ago. Holds s.mu.
func (c *Client) dial(s *slot) {
	if s.dialing != nil || time.Now().Before(s.until) {
		return
	}
	done := make(chan struct{})
	s.dialing = done
	go func() {
		cc, err := c.connect()
		s.mu.Lock()
		defer s.mu.Unlock()
		defer close(done)
		s.dialing, s.conn, s.err = nil, cc, err
		if err != nil {
			s.delay = min(max(2*s.delay, firstBackoff), lastBackoff)
			s.until = time.Now().Add(s.delay)
			return
		}
		s.delay = 0
		go cc.write()
		go cc.serve()
	}()
}

func (c *Client) connect() (*clientConn, error) {
	ctx, cancel := context.WithTimeout(c.ctx, dialTimeout)
	defer cancel()
	nc, err := c.cfg.Dial(ctx)
	if err != nil {
		return nil, err
	}
	deadline, _ := ctx.Deadline()
	nc.SetDeadline(deadline)
	b := appendPreface(make([]byte, 0, prefaceSize), 0, c.cfg.Limits.Window)
	if _, err = nc.Write(b); err == nil {
		_, err = io.ReadFull(nc, b[:prefaceSize])
	}
	var version, status byte
	if err == nil {
		version, status, _, err = parsePreface(b)
	}
	switch {
	case err != nil:
	case status == statusPeer:
		err = errors.New("the custodian does not know this gateway: its uid or key is not in the custodian's configuration")
	case version != Version || status == statusVersion:
		err = fmt.Errorf("the custodian speaks hop version %d and this gateway %d: install the same release on both", version, Version)
	case status != statusReady:
		err = errors.New("the custodian is closing or has too many connections")
	}
	cc := &clientConn{client: c, streams: map[uint32]*stream{}}
	cc.init(nc, &c.cfg.Limits)
	nc.SetDeadline(time.Time{})
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil && c.closed {
		err = net.ErrClosed
	}
	if err != nil {
		nc.Close()
		return nil, err
	}
	c.conns[cc] = struct{}{}
	return cc, nil
}

// clientConn is one connection of the client.
type clientConn struct {
	conn
	client *Client

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
	headed      bool
	trailers    bool
	trailer     []Field
	first, last *chunk // unread bytes
	unread      int
	credit      int   // bytes read and not yet given back to the custodian's window
	err         error // why nothing more comes; io.EOF for the clean end
}

// chunk is a piece of an answer that waits to be read.
type chunk struct {
	next       *chunk
	start, end int
	buf        [4096 - 32]byte
}

func (c *clientConn) do(ctx context.Context, o *Open) (*Response, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s := &stream{c: c, ctx: ctx, wake: make(chan struct{}, 1)}
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.drained.Load() && c.full(s.wake) {
		if err := c.wait(s); err != nil {
			return nil, err
		}
	}
	if c.drained.Load() {
		return nil, fmt.Errorf("%w: the connection has just ended", ErrUnavailable)
	}
	start := len(c.out)
	c.out = appendOpen(begin(c.out, frameOpen, c.last+1), o)
	if size := len(c.out) - start - headerSize; size > c.limits.Header || len(o.Header)+len(o.Asserted) > c.limits.Fields {
		c.out = c.out[:start]
		return nil, tooLarge("The request's header", int64(size), int64(c.limits.Header))
	}
	finish(c.out, start)
	c.last++
	s.id = c.last
	c.streams[s.id] = s
	if c.last == maxStream {
		c.drained.Store(true)
	}
	for body := o.Body; len(body) > 0 && s.err == nil; {
		if c.full(s.wake) {
			c.work.Signal()
			if err := c.wait(s); err != nil {
				c.abandon(s, err)
			}
			continue
		}
		n := min(len(body), maxBody)
		c.body(s.id, body[:n])
		body = body[n:]
	}
	if s.err == nil {
		c.simple(frameEnd, s.id)
	}
	for !s.headed && s.err == nil {
		if err := c.wait(s); err != nil {
			c.abandon(s, err)
		}
	}
	if !s.headed {
		return nil, s.err
	}
	s.resp.Body, s.resp.Trailer = s, s.trailerFields
	return &s.resp, nil
}

// wait lets mu go until s is woken or its context ends.
func (c *clientConn) wait(s *stream) error {
	c.mu.Unlock()
	defer c.mu.Lock()
	select {
	case <-s.wake:
		return nil
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}

// abandon ends s from this side: the custodian is told, and what still comes is dropped. Holds mu.
func (c *clientConn) abandon(s *stream, err error) {
	if s.err == nil {
		c.simple(frameCancel, s.id)
		c.end(s, err)
	}
	for s.first != nil {
		c.drop(s)
	}
}

// end takes s out of the connection. Holds mu.
func (c *clientConn) end(s *stream, err error) {
	s.err = err
	delete(c.streams, s.id)
	if s.headed {
		c.client.streams.Add(-1) // otherwise Do counts it down
	}
	if c.drained.Load() && len(c.streams) == 0 {
		c.finish = true
		c.work.Signal()
	}
	wake(s.wake)
}

// drop gives the first chunk back. Holds mu.
func (c *clientConn) drop(s *stream) {
	k := s.first
	if s.first = k.next; s.first == nil {
		s.last = nil
	}
	s.unread -= k.end - k.start
	k.next, k.start, k.end = nil, 0, 0
	c.client.chunks.Put(k)
}

// Read implements io.Reader for Response.Body. With an empty p it waits until there is something to read, so that whoever
// waits needs no buffer.
func (s *stream) Read(p []byte) (n int, err error) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	for s.first == nil && s.err == nil {
		if err := c.wait(s); err != nil {
			c.abandon(s, err)
		}
	}
	for s.first != nil && n < len(p) {
		k := s.first
		m := copy(p[n:], k.buf[k.start:k.end])
		k.start, s.unread, n = k.start+m, s.unread-m, n+m
		if k.start == k.end {
			c.drop(s)
		}
	}
	if s.err != nil {
		if s.first == nil {
			return n, s.err
		}
		return n, nil
	}
	if s.credit += n; s.credit >= c.limits.Window/2 && c.err == nil {
		start := len(c.out)
		c.out = finish(binary.BigEndian.AppendUint32(begin(c.out, frameWindow, s.id), uint32(s.credit)), start)
		c.queued()
		s.credit = 0
	}
	return n, nil
}

// Close implements io.Closer for Response.Body.
func (s *stream) Close() error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.c.abandon(s, fmt.Errorf("%w: closed", ErrBroken))
	return nil
}

func (s *stream) trailerFields() []Field {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.trailer
}

// serve reads until the connection ends and then breaks its streams.
func (c *clientConn) serve() {
	err := c.read(false, c.take)
	c.mu.Lock()
	c.fail(err)
	for _, s := range c.streams {
		c.end(s, fmt.Errorf("%w: the connection to the custodian ended: %w", ErrBroken, c.err))
	}
	c.mu.Unlock()
	c.client.mu.Lock()
	defer c.client.mu.Unlock()
	delete(c.client.conns, c)
	if c.client.closed && len(c.client.conns) == 0 {
		close(c.client.idle)
	}
}

// drain stops new streams and fails those above last, which the custodian will not take up.
func (c *clientConn) drain(last uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drained.Store(true)
	for id, s := range c.streams {
		if id > last {
			c.end(s, fmt.Errorf("%w: the custodian is closing", ErrUnavailable))
		}
	}
	if len(c.streams) == 0 {
		c.finish = true
		c.work.Signal()
	}
}

// take handles one frame of the custodian.
func (c *clientConn) take(h header, p []byte) error {
	if h.kind == frameGoaway {
		if len(p) < 4 {
			return violation("GOAWAY cut short")
		}
		c.drain(binary.BigEndian.Uint32(p))
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.streams[h.stream]
	if s == nil {
		if h.stream > c.last {
			return violation("stream %d was never opened", h.stream)
		}
		return nil // abandoned; what was on the way is dropped
	}
	switch h.kind {
	case frameHead:
		status, fields, err := decodeHead(p, c.limits)
		if err != nil || s.headed {
			return violation("HEAD on stream %d", h.stream)
		}
		s.headed, s.resp.Status, s.resp.Header = true, status, fields
		wake(s.wake)
		return nil
	case frameError:
		r, err := decodeRefusal(p)
		if err != nil {
			return err
		}
		if r.Code == codeBroken || s.headed {
			c.end(s, fmt.Errorf("%w: %s", ErrBroken, r.Message))
		} else {
			c.end(s, r)
		}
		return nil
	}
	if !s.headed || s.trailers && h.kind != frameEnd {
		return violation("frame type %d on stream %d out of order", h.kind, h.stream)
	}
	switch h.kind {
	case frameBody:
		if s.unread+s.credit+len(p) > c.limits.Window {
			return violation("stream %d went beyond its window", h.stream)
		}
		c.store(s, p)
		wake(s.wake)
	case frameTrailer:
		fields, err := decodeFields(p, c.limits)
		s.trailer, s.trailers = fields, true
		return err
	case frameEnd:
		c.end(s, io.EOF)
	}
	return nil
}

// store keeps p until it is read. Holds mu.
func (c *clientConn) store(s *stream, p []byte) {
	s.unread += len(p)
	for len(p) > 0 {
		if s.last == nil || s.last.end == len(s.last.buf) {
			k := c.client.chunks.Get().(*chunk)
			if s.last == nil {
				s.first = k
			} else {
				s.last.next = k
			}
			s.last = k
		}
		n := copy(s.last.buf[s.last.end:], p)
		s.last.end += n
		p = p[n:]
	}
}
