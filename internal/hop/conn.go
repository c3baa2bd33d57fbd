package hop

import (
	"bufio"
	"net"
	"sync"
	"sync/atomic"
)

// queueLimit is how many bytes may wait for a connection's writer, in bytes. A stream that would go beyond it waits; END,
// CANCEL, WINDOW and ERROR frames do not.
const queueLimit = 256 << 10

// floodLimit is how many bytes of frames that do not wait may be queued beyond queueLimit before the peer counts as gone.
const floodLimit = 1 << 20

// conn is what both ends share: a queue of frames and the goroutine that writes it. Whatever was queued during one write
// leaves with the next.
type conn struct {
	nc     net.Conn
	limits *Limits

	mu      sync.Mutex
	work    sync.Cond       // the writer waits here; L is &mu
	out     []byte          // queued frames
	spare   []byte          // the buffer that was written last
	waiting []chan struct{} // streams that wait for room in out
	drained atomic.Bool     // takes no new streams; set under mu
	err     error           // why the connection ended, drained then too; nil while it lives
	finish  bool            // close once out is empty
}

func (c *conn) init(nc net.Conn, l *Limits) {
	c.nc, c.limits = nc, l
	c.work.L = &c.mu
}

// full reports whether a stream must wait; wake is then signalled when the writer has taken the queue. Holds mu.
func (c *conn) full(wake chan struct{}) bool {
	if len(c.out) < queueLimit {
		return false
	}
	c.waiting = append(c.waiting, wake)
	return true
}

// queued tells the writer that out has grown. Holds mu.
func (c *conn) queued() {
	if len(c.out) > queueLimit+floodLimit+c.limits.Header {
		c.fail(violation("the other end does not read"))
	}
	c.work.Signal()
}

// simple queues a frame without payload. Holds mu.
func (c *conn) simple(kind byte, stream uint32) {
	c.out = begin(c.out, kind, stream)
	c.queued()
}

// body queues one BODY frame. Holds mu.
func (c *conn) body(stream uint32, p []byte) {
	start := len(c.out)
	c.out = finish(append(begin(c.out, frameBody, stream), p...), start)
	c.queued()
}

// fail ends the connection; the reader then breaks its streams. Holds mu.
func (c *conn) fail(err error) {
	if c.err == nil {
		c.err = err
		c.drained.Store(true)
		c.nc.Close()
		c.work.Signal()
		c.wakeAll()
	}
}

// wakeAll wakes the streams that wait for room. Holds mu.
func (c *conn) wakeAll() {
	for i, w := range c.waiting {
		wake(w)
		c.waiting[i] = nil
	}
	c.waiting = c.waiting[:0]
}

// write sends what is queued until the connection fails or is finished.
func (c *conn) write() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		for len(c.out) == 0 && !c.finish && c.err == nil {
			c.work.Wait()
		}
		if c.err != nil {
			return
		}
		if len(c.out) == 0 {
			c.fail(net.ErrClosed)
			return
		}
		b := c.out
		c.out, c.spare = c.spare[:0], nil
		c.wakeAll()
		c.mu.Unlock()
		_, err := c.nc.Write(b)
		c.mu.Lock()
		if cap(b) <= 2*queueLimit {
			c.spare = b
		}
		if err != nil {
			c.fail(err)
		}
	}
}

// read hands each frame to take, which must not keep the payload, until either fails. fromClient tells the direction.
func (c *conn) read(fromClient bool, take func(header, []byte) error) error {
	r := bufio.NewReaderSize(c.nc, headerSize+max(c.limits.Header, maxBody))
	for {
		b, err := r.Peek(headerSize)
		if err != nil {
			return err
		}
		h := parseHeader(b)
		if err := h.check(c.limits, fromClient); err != nil {
			return err
		}
		if b, err = r.Peek(headerSize + h.size); err != nil {
			return err
		}
		if err := take(h, b[headerSize:]); err != nil {
			return err
		}
		r.Discard(headerSize + h.size)
	}
}

// wake signals a stream that may be waiting. A stream checks its condition again after every signal.
func wake(c chan struct{}) {
	if c != nil {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}
