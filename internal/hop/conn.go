package hop

import (
	"bufio"
	"context"
	"encoding/binary"
	"io"
	"net"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// queueLimit is how many bytes may wait for a connection's writer before HEAD, BODY, TRAILER and OPEN frames, and so
	// their streams, wait. Other frames do not.
	queueLimit = 256 << 10
	// floodLimit is how many bytes of frames that do not wait may pile up before the peer counts as gone.
	floodLimit  = 1 << 20
	meetTimeout = 5 * time.Second // connecting, TLS and prefaces together
)

// conn is what both ends of a connection share: a queue of frames and the goroutine that writes it. Whatever is queued
// during one write leaves with the next.
type conn struct {
	net.Conn
	limits *Limits

	mu      sync.Mutex
	work    sync.Cond       // the writer waits here; L is &mu
	out     []byte          // queued frames
	spare   []byte          // the buffer that was written last
	waiting []chan struct{} // streams that wait for room in out
	drained atomic.Bool     // takes no new streams; set under mu
	finish  bool            // ends when out is empty
	err     error           // why it ended, drained then too; nil while it lives
}

func (c *conn) init(nc net.Conn, l *Limits) {
	c.Conn, c.limits = nc, l
	c.work.L = &c.mu
}

// greet writes this end's preface and gives the other end meetTimeout for its own.
func (c *conn) greet(status byte, window int) error {
	c.SetDeadline(time.Now().Add(meetTimeout))
	b := append(append(make([]byte, 0, prefaceSize), magic...), Version, status, 0, 0)
	_, err := c.Write(binary.BigEndian.AppendUint32(b, uint32(window)))
	return err
}

// greeting reads the other end's preface. The version is judged by the caller.
func (c *conn) greeting() (version, status byte, window int, err error) {
	var b [prefaceSize]byte
	if _, err := io.ReadFull(c, b[:]); err != nil {
		return 0, 0, 0, err
	}
	w := binary.BigEndian.Uint32(b[12:])
	if string(b[:8]) != magic || w > maxNumber {
		return 0, 0, 0, violation("the other end does not speak it")
	}
	return b[8], b[9], int(w), c.SetDeadline(time.Time{})
}

// put queues a frame whose payload fill appends and that has so many fields, or returns ErrTooLarge. Holds mu.
func (c *conn) put(kind byte, stream uint32, fields int, fill func([]byte) []byte) error {
	start := len(c.out)
	b := binary.BigEndian.AppendUint32(append(c.out, kind, 0, 0, 0), stream)
	if fill != nil {
		b = fill(b)
	}
	n := len(b) - start - headerSize
	if n > c.limits.limit(kind) || fields > c.limits.Fields {
		c.out = b[:start]
		return ErrTooLarge
	}
	b[start+1], b[start+2], b[start+3] = byte(n>>16), byte(n>>8), byte(n)
	c.out = b
	if len(b) > queueLimit+floodLimit+c.limits.Header {
		c.fail(violation("the other end does not read"))
	}
	c.work.Signal()
	return nil
}

// body queues as much of p as one BODY frame takes and returns how much that is. Holds mu.
func (c *conn) body(stream uint32, p []byte) int {
	p = p[:min(len(p), maxBody)]
	c.put(frameBody, stream, 0, func(b []byte) []byte { return append(b, p...) })
	return len(p)
}

// full reports whether a stream must wait; wake is signalled when that may have changed. Holds mu.
func (c *conn) full(wake chan struct{}) bool {
	if len(c.out) < queueLimit || c.err != nil {
		return false
	}
	c.waiting = append(c.waiting, wake)
	return true
}

// freed wakes the streams that wait for room. Holds mu.
func (c *conn) freed() {
	for i, w := range c.waiting {
		wake(w)
		c.waiting[i] = nil
	}
	c.waiting = c.waiting[:0]
}

// wake signals a stream that may be waiting. A stream checks its condition again after every signal.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// fail ends the connection; the reader then breaks its streams. Holds mu.
func (c *conn) fail(err error) {
	if c.err == nil {
		c.err = err
		c.drained.Store(true)
		c.Close()
		c.work.Signal()
		c.freed()
	}
}

// end ends the connection at once.
func (c *conn) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fail(net.ErrClosed)
}

// write sends what is queued until the connection ends.
func (c *conn) write() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.err == nil {
		if len(c.out) == 0 {
			if c.finish {
				c.fail(net.ErrClosed)
			} else {
				c.work.Wait()
			}
			continue
		}
		c.mu.Unlock()
		runtime.Gosched() // under load others queue their frames first: half the system calls, and nothing lost when idle
		c.mu.Lock()
		b := c.out
		c.out, c.spare = c.spare[:0], nil
		c.freed()
		c.mu.Unlock()
		_, err := c.Write(b)
		c.mu.Lock()
		if cap(b) <= 2*queueLimit {
			c.spare = b
		}
		if err != nil {
			c.fail(err)
		}
	}
}

// readAhead is how much of what comes is read at once: many short frames, and little of a long body.
const readAhead = 8 << 10

// read hands each frame to take, which must not keep the payload, until either fails. Payloads of BODY frames for which place
// returns memory of their size are read straight into it and not handed over; place may be nil.
func (c *conn) read(fromClient bool, place func(header) []byte, take func(header, []byte) error) error {
	r := bufio.NewReaderSize(c, readAhead)
	var long []byte // a payload that is longer than what is read ahead
	for {
		b, err := r.Peek(headerSize)
		if err != nil {
			return err
		}
		h := parseHeader(b)
		if err := h.check(c.limits, fromClient); err != nil {
			return err
		}
		if h.kind == frameBody && place != nil {
			if to := place(h); to != nil {
				r.Discard(headerSize)
				if _, err := io.ReadFull(r, to); err != nil {
					return err
				}
				continue
			}
		}
		size := headerSize + h.size
		if size <= readAhead {
			b, err = r.Peek(size)
		} else {
			long = slices.Grow(long[:0], size)[:size]
			b = long
			_, err = io.ReadFull(r, b)
		}
		if err != nil {
			return err
		}
		if err := take(h, b[headerSize:]); err != nil {
			return err
		}
		if size <= readAhead {
			r.Discard(size)
		}
	}
}

// ender is a connection or a listener as its group sees it.
type ender interface {
	drain() // end with the last stream
	end()   // end now
}

// group is the connections of a client, or the connections and listeners of a server.
type group struct {
	mu      sync.Mutex
	members map[ender]struct{}
	closing bool
	running sync.WaitGroup
}

// add keeps c until remove, unless the group is closing or has limit members.
func (g *group) add(c ender, limit int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closing || len(g.members) >= limit {
		return false
	}
	if g.members == nil {
		g.members = map[ender]struct{}{}
	}
	g.members[c] = struct{}{}
	g.running.Add(1)
	return true
}

func (g *group) remove(c ender) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.members, c)
	g.running.Done()
}

// shutdown lets every member end with its last stream, or at once when ctx ends before that.
func (g *group) shutdown(ctx context.Context) error {
	g.each(ender.drain)
	done := make(chan struct{})
	go func() { g.running.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	g.each(ender.end)
	<-done
	return ctx.Err()
}

// each calls do for every member; none is added from then on.
func (g *group) each(do func(ender)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closing = true
	for c := range g.members {
		do(c)
	}
}
