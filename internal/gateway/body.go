package gateway

import (
	"errors"
	"io"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/reevehq/reeve/internal/gateway/dialect"
	"github.com/reevehq/reeve/internal/lend"
)

// Request bodies are read whole before anything goes on: an upstream that answers before it has read the request would
// otherwise cut the answer (golang/go#40747), and the model is read from the body.

// buffers lends memory for request bodies, and bounds what is lent to each workload, as of lend.Fair, and to all.
type buffers struct {
	most atomic.Int64 // bytes lent at one time
	lent atomic.Int64
	pool lend.Pool
}

// take lends a buffer for at least n bytes, or nil when too much is lent. own is what the workload has.
func (p *buffers) take(n int64, own *atomic.Int64) []byte {
	if n > lend.Most {
		return nil
	}
	size := int64(lend.Size(int(n)))
	if !lend.Fair(own.Add(size), p.lent.Add(size), size, p.most.Load()) {
		own.Add(-size)
		p.lent.Add(-size)
		return nil
	}
	return p.pool.Take(int(n))
}

func (p *buffers) give(b []byte, own *atomic.Int64) {
	own.Add(-int64(len(b)))
	p.lent.Add(-int64(len(b)))
	p.pool.Give(b)
}

var (
	errTooLarge = errors.New("request body too large")
	errMemory   = errors.New("request bodies, or this workload's, take all the memory that they may")
)

// atFirst is what is lent at most before anything came: what a client announces costs it nothing.
const atFirst = 256 << 10

// read reads all of r into a lent buffer. size is what the client announced, or -1; limit is in bytes.
func (p *buffers) read(r io.Reader, size, limit int64, own *atomic.Int64) ([]byte, int, error) {
	if size > limit {
		return nil, 0, errTooLarge
	}
	b := p.take(min(max(size, 0), atFirst), own)
	if b == nil {
		return nil, 0, errMemory
	}
	n := 0
	for {
		m, err := r.Read(b[n:])
		n += m
		switch {
		case int64(n) > limit:
			p.give(b, own)
			return nil, 0, errTooLarge
		case err == io.EOF:
			return b, n, nil
		case err != nil:
			p.give(b, own)
			return nil, 0, err
		case int64(n) == size:
			return b, n, drained(r)
		case n == len(b):
			more := p.take(int64(n)+1, own)
			if more == nil {
				p.give(b, own)
				return nil, 0, errMemory
			}
			copy(more, b[:n])
			p.give(b, own)
			b = more
		}
	}
}

// drained reads the end of a body whose announced length has been read: net/http watches for a client that goes away only
// after that.
func drained(r io.Reader) error {
	var one [1]byte
	if _, err := r.Read(one[:]); err != io.EOF && err != nil {
		return err
	}
	return nil
}

// readBody reads the request's body within the limits in force.
func (g *Gateway) readBody(c *call) ([]byte, int, *dialect.Fault) {
	if e := c.r.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		return nil, 0, &dialect.Fault{Status: http.StatusUnsupportedMediaType, Code: "content_encoding", Final: true,
			Message: "The request's body is encoded as " + clip(e) + ". The model cannot be read from it; send it as it is."}
	}
	c.readBy(c.start.Add(time.Duration(c.force.limits.BodyTimeout)))
	b, n, err := g.bodies.read(c.r.Body, c.r.ContentLength, c.force.limits.BodyBytes, &c.tally.bodies)
	if err == nil {
		c.readBy(time.Time{}) // from here on reading watches for the client's going away, and that has no deadline
		return b, n, nil
	}
	c.w.Header().Set("Connection", "close")
	switch {
	case errors.Is(err, errTooLarge):
		return nil, 0, &dialect.Fault{Status: http.StatusRequestEntityTooLarge, Code: "too_large", Final: true,
			Message: "The request's body is larger than this gateway takes. Send less, or ask the operations owners to raise body_bytes."}
	case errors.Is(err, errMemory):
		return nil, 0, &dialect.Fault{Status: http.StatusServiceUnavailable, Code: "overloaded", RetryAfter: 1,
			Message: "This gateway holds as many request bodies as it may, or as many of this workload. Nothing was sent. Try again shortly."}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, 0, &dialect.Fault{Status: http.StatusRequestTimeout, Code: "body_timeout",
			Message: "The request's body did not arrive in time. Nothing was sent."}
	}
	return nil, 0, &dialect.Fault{Status: http.StatusBadRequest, Code: "body_broken", Final: true,
		Message: "The request's body broke off. Nothing was sent."}
}

// readBy sets the deadline for reading from the client. The zero time is none.
func (c *call) readBy(t time.Time) {
	_ = http.NewResponseController(c.w).SetReadDeadline(t) // not every test writer has deadlines
}
