package hop

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// acceptPause is how long Serve waits after a failed accept, such as when no file descriptor is left.
const acceptPause = 20 * time.Millisecond

// Handler serves one stream on the custodian's side. It runs in a goroutine of its own; ctx ends when the peer cancels or
// goes away. It calls w.Refuse, or w.Head and then w.Write until w.End; returning without End breaks the stream off.
// o is the handler's own: setting o.Body to nil when it has been sent frees it while the answer streams.
type Handler func(ctx context.Context, peer Peer, o *Open, w *Writer)

// ServerConfig is what a Server is made of.
type ServerConfig struct {
	Handler Handler
	// Peers names the gateway that a peer is, by its UID for a Unix socket (Key is empty) or by its Key for TLS (UID is
	// -1), or returns "" for a stranger, who is refused. It is asked once for each connection.
	Peers  func(Peer) string
	Limits Limits
	Admit  func() bool  // asked before each stream; false refuses it as overloaded. Nil admits all
	Log    *slog.Logger // connections refused or broken, handlers that panicked
}

// Server is a custodian's end.
type Server struct {
	cfg     ServerConfig
	streams atomic.Int64 // whose handler has not returned
	memory  atomic.Int64 // bytes of their request bodies

	mu        sync.Mutex
	listeners map[net.Listener]struct{}
	conns     map[*serverConn]struct{}
	closing   bool
	idle      chan struct{} // closed when closing and the last connection is gone
}

// NewServer returns a server; Serve starts it.
func NewServer(cfg ServerConfig) *Server {
	cfg.Limits = cfg.Limits.withDefaults()
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Server{cfg: cfg, listeners: map[net.Listener]struct{}{}, conns: map[*serverConn]struct{}{}, idle: make(chan struct{})}
}

// Serve accepts connections until Shutdown, and then returns net.ErrClosed. It may be called for several listeners: Unix
// sockets, or TLS ones made with ServerTLS.
func (s *Server) Serve(ln net.Listener) error {
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		ln.Close()
		return net.ErrClosed
	}
	s.listeners[ln] = struct{}{}
	s.mu.Unlock()
	for {
		nc, err := ln.Accept()
		if err == nil {
			s.welcome(nc)
			continue
		}
		s.mu.Lock()
		closing := s.closing
		s.mu.Unlock()
		if closing || errors.Is(err, net.ErrClosed) {
			return net.ErrClosed
		}
		s.cfg.Log.Error("hop: accepting failed", "err", err)
		time.Sleep(acceptPause)
	}
}

// welcome counts the connection and serves it.
func (s *Server) welcome(nc net.Conn) {
	c := &serverConn{server: s, streams: map[uint32]*Writer{}}
	c.init(nc, &s.cfg.Limits)
	s.mu.Lock()
	if s.closing || len(s.conns) >= s.cfg.Limits.Conns {
		s.mu.Unlock()
		nc.SetDeadline(time.Now().Add(acceptPause))
		nc.Write(appendPreface(nil, statusBusy, 0))
		nc.Close()
		return
	}
	s.conns[c] = struct{}{}
	s.mu.Unlock()
	go c.serve()
}

// Shutdown accepts nothing new, tells the gateways with GOAWAY, lets the streams in flight finish until ctx ends, and
// breaks off the rest. It returns when every connection is closed; handlers that were broken off may still be returning.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	if !s.closing {
		s.closing = true
		if len(s.conns) == 0 {
			close(s.idle)
		}
	}
	for ln := range s.listeners {
		ln.Close()
	}
	for c := range s.conns {
		c.goaway()
	}
	s.mu.Unlock()
	select {
	case <-s.idle:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	for c := range s.conns {
		c.mu.Lock()
		c.fail(net.ErrClosed)
		c.mu.Unlock()
	}
	s.mu.Unlock()
	<-s.idle
	return ctx.Err()
}

// Streams returns how many streams are in flight.
func (s *Server) Streams() int { return int(s.streams.Load()) }

// serverConn is one connection of the server.
type serverConn struct {
	conn
	server *Server
	peer   Peer
	window int // what the client lets each stream send before WINDOW

	// Under mu.
	ready   bool // the prefaces are exchanged
	streams map[uint32]*Writer
	last    uint32 // highest id seen
}

// Writer is the server's end of one stream: it answers it.
type Writer struct {
	c      *serverConn
	id     uint32
	open   Open
	size   int64 // bytes that the body was announced with
	cancel context.CancelFunc

	// Under c.mu.
	window  int
	wake    chan struct{} // made when the stream first waits
	running bool
	headed  bool
	ended   bool // END or ERROR was sent, or the peer is gone
}

func (c *serverConn) serve() {
	err := c.meet()
	if err == nil {
		go c.write()
		c.mu.Lock()
		c.ready = true
		c.mu.Unlock()
		c.server.mu.Lock()
		if c.server.closing {
			c.goaway()
		}
		c.server.mu.Unlock()
		err = c.read(true, c.take)
	}
	c.mu.Lock()
	c.fail(err)
	if err := c.err; !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
		c.server.cfg.Log.Warn("hop: connection ended", "gateway", c.peer.Name, "uid", c.peer.UID, "pid", c.peer.PID, "err", err)
	}
	for _, w := range c.streams {
		c.abandon(w)
	}
	c.mu.Unlock()
	s := c.server
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	if s.closing && len(s.conns) == 0 {
		close(s.idle)
	}
}

// meet finds out who the peer is before it reads a byte of him, and exchanges prefaces.
func (c *serverConn) meet() error {
	c.nc.SetDeadline(time.Now().Add(dialTimeout))
	err := c.identify()
	if err != nil {
		c.nc.Write(appendPreface(nil, statusPeer, 0))
		return err
	}
	b := make([]byte, prefaceSize)
	if _, err := io.ReadFull(c.nc, b); err != nil {
		return fmt.Errorf("reading the preface: %w", err)
	}
	version, _, window, err := parsePreface(b)
	if err != nil {
		return err
	}
	status := statusReady
	if version != Version {
		status = statusVersion
		err = violation("the gateway speaks version %d", version)
	}
	c.window = window
	if _, werr := c.nc.Write(appendPreface(b[:0], status, 0)); err == nil {
		err = werr
	}
	c.nc.SetDeadline(time.Time{})
	return err
}

func (c *serverConn) identify() (err error) {
	switch nc := c.nc.(type) {
	case *net.UnixConn:
		if c.peer, err = kernelPeer(nc); err != nil {
			return fmt.Errorf("asking who the peer is: %w", err)
		}
	case *tls.Conn:
		if err := nc.Handshake(); err != nil {
			return err
		}
		state := nc.ConnectionState()
		if state.NegotiatedProtocol != protocol || len(state.PeerCertificates) == 0 {
			return violation("a TLS peer without ALPN %s or certificate", protocol)
		}
		c.peer = Peer{UID: -1, Key: Pin(state.PeerCertificates[0])}
	default:
		return fmt.Errorf("a %T does not tell who the peer is", nc)
	}
	if c.server.cfg.Peers != nil {
		c.peer.Name = c.server.cfg.Peers(c.peer)
	}
	if c.peer.Name == "" {
		return fmt.Errorf("refused: uid %d %s is no gateway of this custodian", c.peer.UID, c.peer.Key)
	}
	return nil
}

// goaway makes the client close the connection after its last stream. Holds server.mu.
func (c *serverConn) goaway() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ready || c.drained.Swap(true) {
		return
	}
	start := len(c.out)
	c.out = finish(appendString(binary.BigEndian.AppendUint32(begin(c.out, frameGoaway, 0), c.last), "closing"), start)
	c.queued()
}

// take handles one frame of the gateway.
func (c *serverConn) take(h header, p []byte) error {
	if h.kind == frameOpen {
		return c.open(h.stream, p)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.streams[h.stream]
	if w == nil {
		if h.stream > c.last && !c.drained.Load() {
			return violation("stream %d was never opened", h.stream)
		}
		return nil // refused, ended or cancelled; what was on the way is dropped
	}
	switch h.kind {
	case frameBody:
		if w.running || int64(len(w.open.Body)+len(p)) > w.size {
			return violation("stream %d has more body than announced", h.stream)
		}
		w.open.Body = append(w.open.Body, p...)
	case frameEnd:
		if w.running || int64(len(w.open.Body)) != w.size {
			return violation("stream %d ended with %d bytes of %d", h.stream, len(w.open.Body), w.size)
		}
		w.running = true
		ctx, cancel := context.WithCancel(context.Background())
		w.cancel = cancel
		go w.run(ctx)
	case frameCancel:
		c.abandon(w)
	case frameWindow:
		if len(p) != 4 {
			return violation("WINDOW cut short")
		}
		add := int64(binary.BigEndian.Uint32(p))
		if add == 0 || int64(w.window)+add > maxWindow {
			return violation("WINDOW of %d on stream %d", add, h.stream)
		}
		w.window += int(add)
		wake(w.wake)
	}
	return nil
}

// open takes a new stream up or refuses it.
func (c *serverConn) open(id uint32, p []byte) error {
	w := &Writer{c: c, id: id, window: c.window}
	size, err := decodeOpen(p, &w.open, c.limits)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.drained.Load() {
		return nil // GOAWAY has told the client that this one is not taken up
	}
	if id <= c.last {
		return violation("stream %d opened after %d", id, c.last)
	}
	c.last = id
	w.size = size
	s := c.server
	var refusal *Refusal
	streams, memory := s.streams.Add(1), s.memory.Add(size)
	switch {
	case size > c.limits.Body:
		refusal = tooLarge("The request body", size, c.limits.Body)
	case s.cfg.Admit != nil && !s.cfg.Admit():
		refusal = overloaded("The custodian has too many files open")
	case streams > int64(c.limits.Streams):
		refusal = overloaded("The custodian has too many requests in flight")
	case memory > c.limits.Memory:
		refusal = overloaded("The custodian holds too many request bodies")
	default:
		c.streams[id] = w
		if size > 0 {
			w.open.Body = make([]byte, 0, size)
		}
		return nil
	}
	c.refuse(id, refusal)
	s.streams.Add(-1)
	s.memory.Add(-size)
	return nil
}

// refuse queues an ERROR frame. Holds mu.
func (c *serverConn) refuse(id uint32, r *Refusal) {
	start := len(c.out)
	c.out = finish(appendRefusal(begin(c.out, frameError, id), r), start)
	c.queued()
}

// end takes w out of the connection and frees what it holds; its handler may still be running. Holds mu.
func (c *serverConn) end(w *Writer) {
	w.ended = true
	delete(c.streams, w.id)
	if !w.running {
		w.running = true
		c.release(w)
	}
	wake(w.wake)
}

// abandon ends w because nobody waits for its answer any more. Holds mu.
func (c *serverConn) abandon(w *Writer) {
	if w.cancel != nil {
		w.cancel()
	}
	c.end(w)
}

// release counts w down. Holds mu.
func (c *serverConn) release(w *Writer) {
	c.server.streams.Add(-1)
	c.server.memory.Add(-w.size)
}

// run calls the handler and breaks off what it did not end.
func (w *Writer) run(ctx context.Context) {
	defer func() {
		if r := recover(); r != nil {
			w.c.server.cfg.Log.Error("hop: handler panicked", "request", w.open.RequestID, "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
		}
		w.Break("the custodian did not finish the answer")
		w.cancel()
		w.c.mu.Lock()
		defer w.c.mu.Unlock()
		w.c.release(w)
	}()
	w.c.server.cfg.Handler(ctx, w.c.peer, &w.open, w)
}

// room waits until the stream may queue a frame, with body reporting whether it needs its window too. Holds c.mu.
func (w *Writer) room(body bool) error {
	for !w.ended {
		if (w.window > 0 || !body) && len(w.c.out) < queueLimit {
			return nil
		}
		if w.wake == nil {
			w.wake = make(chan struct{}, 1)
		}
		w.c.full(w.wake)
		w.c.mu.Unlock()
		<-w.wake
		w.c.mu.Lock()
	}
	return fmt.Errorf("%w: the gateway cancelled it or is gone", ErrBroken)
}

// Head sends status and header fields.
func (w *Writer) Head(status int, header []Field) error {
	w.c.mu.Lock()
	defer w.c.mu.Unlock()
	if err := w.room(false); err != nil {
		return err
	}
	if w.headed {
		return violation("Head called twice")
	}
	start := len(w.c.out)
	out := appendHead(begin(w.c.out, frameHead, w.id), status, header)
	if size := len(out) - start - headerSize; size > w.c.limits.Header || len(header) > w.c.limits.Fields || status < 200 || status > 999 {
		return fmt.Errorf("hop: an answer with status %d, %d header fields and %d bytes of header cannot be sent", status, len(header), size)
	}
	w.c.out = finish(out, start)
	w.headed = true
	w.c.queued()
	return nil
}

// Write sends body bytes, blocking on the peer's window. Each Write reaches the peer without delay.
func (w *Writer) Write(p []byte) (n int, err error) {
	w.c.mu.Lock()
	defer w.c.mu.Unlock()
	if !w.headed {
		return 0, violation("Write before Head")
	}
	for n < len(p) {
		if err := w.room(true); err != nil {
			return n, err
		}
		m := min(len(p)-n, w.window, maxBody)
		w.c.body(w.id, p[n:n+m])
		w.window -= m
		n += m
	}
	return n, nil
}

// End ends the body cleanly, with trailers if any.
func (w *Writer) End(trailer []Field) error {
	w.c.mu.Lock()
	defer w.c.mu.Unlock()
	if !w.headed {
		return violation("End before Head")
	}
	if err := w.room(false); err != nil {
		return err
	}
	if len(trailer) > 0 {
		start := len(w.c.out)
		out := appendFields(begin(w.c.out, frameTrailer, w.id), trailer)
		if size := len(out) - start - headerSize; size > w.c.limits.Header || len(trailer) > w.c.limits.Fields {
			return fmt.Errorf("hop: a trailer of %d fields and %d bytes cannot be sent", len(trailer), size)
		}
		w.c.out = finish(out, start)
	}
	w.c.simple(frameEnd, w.id)
	w.c.end(w)
	return nil
}

// Break ends the stream as broken off.
func (w *Writer) Break(reason string) {
	w.c.mu.Lock()
	defer w.c.mu.Unlock()
	if !w.ended {
		w.c.refuse(w.id, &Refusal{Code: codeBroken, Status: 502, Message: reason, Sent: true})
		w.c.end(w)
	}
}

// Refuse answers with a typed error; only before Head.
func (w *Writer) Refuse(r *Refusal) error {
	w.c.mu.Lock()
	defer w.c.mu.Unlock()
	if w.headed || r.Status < 400 || r.Status > 599 || r.Code == codeBroken {
		return violation("Refuse after Head, or with status %d and code %q", r.Status, r.Code)
	}
	if err := w.room(false); err != nil {
		return err
	}
	w.c.refuse(w.id, r)
	w.c.end(w)
	return nil
}
