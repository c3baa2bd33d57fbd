package hop

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/reevehq/reeve/internal/lend"
)

// acceptPause is how long Serve waits after a failed accept, such as when no file descriptor is left.
const acceptPause = 20 * time.Millisecond

// maxResting is how many goroutines of handlers that returned wait for the next stream.
const maxResting = 256

// maxStrangers is how many connections of each listener may be at their beginning, for meetTimeout at most.
const maxStrangers = 256

// Handler serves one stream on the custodian's side. It runs in a goroutine that no other stream has until it returns; ctx ends when the peer
// cancels or goes away, or when the handler returns. It calls w.Refuse, or w.Head and then w.Write until w.End; returning without End
// breaks the stream off. o is the handler's own: calling o.Free when it has been sent and before Head, or
// setting o.Body to nil, frees it while the answer streams, also for Limits.Memory.
type Handler func(ctx context.Context, peer Peer, o *Open, w *Writer)

// ServerConfig is what a Server is made of.
type ServerConfig struct {
	Handler Handler
	// Peers names the gateway that a peer is, by its UID for a Unix socket (Key is empty) or by its Key for TLS (UID is
	// -1), or returns "" for a stranger, who is refused. It is asked once for each connection. Required.
	Peers func(Peer) string
	// Record is given the signed records that gateways pass on, one at a time for each connection and some a second; it keeps none
	// of the bytes. Nil drops them.
	Record func(peer Peer, file []byte)
	Limits Limits
	Admit  func() bool  // asked before each stream; false refuses it as overloaded. Nil admits all
	Log    *slog.Logger // connections refused or broken, handlers that panicked
}

// Server is a custodian's end.
type Server struct {
	cfg     ServerConfig
	tally   // of all gateways
	bodies  lend.Pool
	resting atomic.Int64 // goroutines that wait for work, or have begun to
	work    chan *Writer // whole requests, for them; closed at the end
	over    sync.Once
	group   group

	mu    sync.Mutex
	peers map[string]*tally // by gateway; under mu
}

// tally is what gateways have of the server.
type tally struct {
	conns   atomic.Int64
	streams atomic.Int64 // whose handler has not returned
	memory  atomic.Int64 // bytes of their requests
}

// of returns what one gateway has. Only those that Peers names get one.
func (s *Server) of(gateway string) *tally {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.peers[gateway]
	if t == nil {
		t = &tally{}
		s.peers[gateway] = t
	}
	return t
}

// take counts n for one gateway and for all, and reports whether that is within its share. give counts it down, whatever take said.
func take(own, all *atomic.Int64, n int64, most int) bool {
	return lend.Fair(own.Add(n), all.Add(n), n, int64(most))
}

func give(own, all *atomic.Int64, n int64) {
	own.Add(-n)
	all.Add(-n)
}

// NewServer returns a server; Serve starts it.
func NewServer(cfg ServerConfig) *Server {
	cfg.Limits = cfg.Limits.withDefaults()
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Server{cfg: cfg, work: make(chan *Writer), peers: map[string]*tally{}}
}

// Serve accepts connections until Shutdown or until ln is closed, and returns net.ErrClosed then. It may be called for
// several listeners: Unix sockets, or TLS ones made with ServerTLS.
func (s *Server) Serve(ln net.Listener) error {
	defer ln.Close()
	l := &listener{Listener: ln}
	if !s.group.add(l, math.MaxInt) {
		return net.ErrClosed
	}
	defer s.group.remove(l)
	for {
		nc, err := ln.Accept()
		switch {
		case err == nil:
			s.welcome(l, nc)
		case errors.Is(err, net.ErrClosed):
			return err
		default:
			s.cfg.Log.Error("hop: accepting failed", "err", err)
			time.Sleep(acceptPause)
		}
	}
}

// listener is a member of the server's group.
type listener struct {
	net.Listener
	strangers atomic.Int64 // connections whose peer is not known yet
}

func (l *listener) drain() { l.Close() }
func (l *listener) end()   { l.Close() }

// Shutdown accepts nothing new, tells the gateways with GOAWAY, lets the streams in flight finish until ctx ends, and
// breaks off the rest. It returns when every connection is closed; handlers that were broken off may still be returning.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.group.shutdown(ctx)
	s.over.Do(func() { close(s.work) }) // no connection is left that gives any
	return err
}

// Streams returns how many streams are in flight.
func (s *Server) Streams() int { return int(s.streams.Load()) }

// welcome serves a connection. Those whose peer is not known yet are counted for each listener: strangers on the network keep
// nobody out who comes by the socket, and take no place of a gateway's.
func (s *Server) welcome(l *listener, nc net.Conn) {
	c := &serverConn{server: s, streams: map[uint32]*Writer{}}
	c.init(nc, &s.cfg.Limits)
	if l.strangers.Add(1) <= maxStrangers && s.group.add(c, math.MaxInt) {
		go c.serve(l)
		return
	}
	l.strangers.Add(-1)
	nc.Close()
}

// serverConn is one connection of the server.
type serverConn struct {
	conn
	server *Server
	peer   Peer
	window int       // what the client lets each stream send before WINDOW
	own    *tally    // of the peer; nil until the connection is counted in it
	record time.Time // until when the records that came are paid for; the reader's

	// Under mu.
	streams map[uint32]*Writer
	last    uint32 // highest id seen
}

// serve runs the connection until it ends and then cancels its streams.
func (c *serverConn) serve(l *listener) {
	defer c.server.group.remove(c)
	err := c.meet()
	l.strangers.Add(-1)
	if c.own != nil {
		defer give(&c.own.conns, &c.server.conns, 1)
	}
	if err == nil {
		go c.write()
		err = c.read(true, c.place, c.take)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fail(err)
	if !errors.Is(c.err, io.EOF) && !errors.Is(c.err, net.ErrClosed) {
		c.server.cfg.Log.Warn("hop: connection ended", "gateway", c.peer.Name, "uid", c.peer.UID, "pid", c.peer.PID, "err", c.err)
	}
	for _, w := range c.streams {
		c.abandon(w)
	}
}

// meet finds out who the peer is before it reads a byte of him, and exchanges prefaces.
func (c *serverConn) meet() (err error) {
	c.SetDeadline(time.Now().Add(meetTimeout))
	if c.peer, err = identify(c.Conn); err != nil {
		return err
	}
	if c.peer.Name = c.server.cfg.Peers(c.peer); c.peer.Name == "" {
		c.greet(statusPeer, 0)
		return fmt.Errorf("refused: uid %d %s is no gateway of this custodian", c.peer.UID, c.peer.Key)
	}
	version, _, window, err := c.greeting()
	switch {
	case err != nil:
		return err
	case version != Version:
		c.greet(statusVersion, 0)
		return violation("the gateway speaks version %d", version)
	}
	c.window, c.own = window, c.server.of(c.peer.Name)
	if most := c.limits.Conns; !take(&c.own.conns, &c.server.conns, 1, most) {
		return fmt.Errorf("refused: of %d connections %d are open, %d of them this gateway's", most, c.server.conns.Load()-1, c.own.conns.Load()-1)
	}
	return cmp.Or(c.greet(statusReady, 0), c.SetDeadline(time.Time{}))
}

// drain implements ender: GOAWAY makes the client close the connection after its last stream.
func (c *serverConn) drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.drained.Swap(true) {
		c.put(frameGoaway, 0, 0, func(b []byte) []byte { return binary.AppendUvarint(b, uint64(c.last)) })
	}
}

// place is where a part of a request's body goes, or nil for one that is not expected: take judges it.
func (c *serverConn) place(h header) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.streams[h.stream]
	if w == nil || w.running || len(w.open.Body)+h.size > w.size {
		return nil
	}
	n := len(w.open.Body)
	w.open.Body = w.open.Body[:n+h.size]
	return w.open.Body[n:]
}

// take handles one frame of the gateway.
func (c *serverConn) take(h header, p []byte) error {
	switch h.kind {
	case frameOpen:
		return c.open(h.stream, p)
	case frameRecord:
		c.pass(p)
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.streams[h.stream]
	switch {
	case w == nil && h.stream > c.last && !c.drained.Load():
		return violation("stream %d was never opened", h.stream)
	case w == nil: // refused, ended or cancelled, or not taken up; what was on the way is dropped
		return nil
	case h.kind == frameEnd && !w.running && len(w.open.Body) == w.size:
		w.running = true
		w.ctx, w.cancel = context.WithCancel(context.Background())
		select {
		case c.server.work <- w:
		default:
			go c.server.serve(w)
		}
		return nil
	case h.kind == frameCancel:
		c.abandon(w)
		return nil
	case h.kind == frameWindow:
		if add, n := number(p); add > 0 && n == len(p) && w.window+add <= maxNumber {
			w.window += add
			wake(w.wake)
			return nil
		}
	}
	return violation("frame of type %d on stream %d out of order or beyond what was announced", h.kind, h.stream)
}

// Records cost a signature's check each: so many may come at once, and one in each pace after that. More are dropped.
const (
	recordPace  = 20 * time.Millisecond
	recordBurst = 100
)

// pass hands on a record.
func (c *serverConn) pass(file []byte) {
	now := time.Now()
	if c.record.Before(now) {
		c.record = now
	}
	if c.server.cfg.Record == nil || c.record.Sub(now) > recordBurst*recordPace {
		return
	}
	c.record = c.record.Add(recordPace)
	c.server.cfg.Record(c.peer, file)
}

// open takes a new stream up or refuses it.
func (c *serverConn) open(id uint32, p []byte) (err error) {
	w := &Writer{c: c, id: id, window: c.window, opened: int64(len(p))}
	if w.size, err = decodeOpen(p, &w.open, c.limits); err != nil {
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
	c.streams[id] = w
	s := c.server
	w.lent = int64(w.size)
	if w.size > lendFrom {
		w.lent = int64(lend.Size(w.size))
	}
	streams := take(&c.own.streams, &s.streams, 1, c.limits.Streams)
	memory := take(&c.own.memory, &s.memory, w.opened+w.lent, c.limits.Memory)
	var refusal *Refusal
	switch {
	case w.size > c.limits.Body:
		refusal = tooLarge("The request body", w.size, c.limits.Body)
	case s.cfg.Admit != nil && !s.cfg.Admit():
		refusal = overloaded("The custodian has too many files open")
	case !streams:
		refusal = overloaded("The custodian has too many requests in flight, or too many of this gateway")
	case !memory:
		refusal = overloaded("The custodian holds too many request bodies, or too many of this gateway")
	case w.size > lendFrom:
		w.lend()
	case w.size > 0:
		w.open.Body = make([]byte, 0, w.size)
	}
	if refusal != nil {
		c.put(frameError, id, 0, func(b []byte) []byte { return appendRefusal(b, refusal) })
		c.over(w)
	}
	return nil
}

// over takes w out of the connection; its handler may still be running. Holds mu.
func (c *serverConn) over(w *Writer) {
	w.ended = true
	delete(c.streams, w.id)
	if !w.running {
		w.running = true
		w.release()
	}
	wake(w.wake)
}

// abandon ends w because nobody waits for its answer any more. Holds mu.
func (c *serverConn) abandon(w *Writer) {
	if w.cancel != nil {
		w.cancel()
	}
	c.over(w)
}

// serve runs one stream after the other: a goroutine that has grown its stack for one need not grow another for the next.
func (s *Server) serve(w *Writer) {
	for ok := true; ok; {
		w.run()
		w = nil // not kept while there is no other
		if ok = s.resting.Add(1) <= maxResting; ok {
			w, ok = <-s.work
		}
		s.resting.Add(-1)
	}
}
