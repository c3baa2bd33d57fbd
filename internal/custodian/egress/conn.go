package egress

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// inline is how many bytes of header and body share a buffer, and so a record. What a send buffer has no room for is written
	// beside the reading (golang/go#40747).
	inline = 16 << 10
	// afterwards is how long a body's writer may take to notice that it is done, once the answer has been read.
	afterwards = 50 * time.Millisecond
	bufferSize = 4 << 10 // of a connection's reader

	// joined is how many bytes of TLS records leave in one write: a write for each record costs more than encrypting it.
	joined = 128 << 10
	plain  = 16 << 10        // bytes of plain text in the largest TLS record
	sealed = plain + 256 + 5 // bytes of that record at most (RFC 8446, section 5.2)
)

// rawConn is the connection below TLS. It knows what TLS does not tell: whether a byte of this request left, and whether
// the peer just went away. Between begin and part, the records that TLS writes leave together.
type rawConn struct {
	net.Conn
	sent atomic.Int64 // bytes since the last mark
	eof  atomic.Bool

	mu   sync.Mutex // spans every write: TLS may answer a key update while a body is written, and records have an order
	held *[]byte    // records that wait to leave together; nil while each leaves at once
}

func (r *rawConn) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.held == nil {
		return r.write(p)
	}
	if len(*r.held)+len(p) > cap(*r.held) {
		if err := r.flush(); err != nil {
			return 0, err
		}
	}
	*r.held = append(*r.held, p...)
	return len(p), nil
}

// write is under mu, as flush is.
func (r *rawConn) write(p []byte) (int, error) {
	n, err := r.Conn.Write(p)
	r.sent.Add(int64(n))
	return n, err
}

func (r *rawConn) flush() error {
	b := *r.held
	*r.held = b[:0]
	if len(b) == 0 {
		return nil
	}
	_, err := r.write(b)
	return err
}

// push writes of what is held as much as the send buffer takes, one byte at least, and reports whether that was all.
func (r *rawConn) push() (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n, err := 0, error(nil)
	if sc, ok := r.Conn.(syscall.Conn); ok {
		var raw syscall.RawConn
		if raw, err = sc.SyscallConn(); err == nil {
			err = raw.Write(func(fd uintptr) bool {
				n, _ = unix.Write(int(fd), *r.held)
				return true
			})
		}
	}
	if err == nil && n <= 0 { // no room, or a fault that comes again
		n, err = r.Conn.Write((*r.held)[:1])
	}
	if err != nil {
		return false, err
	}
	r.sent.Add(int64(n))
	*r.held = (*r.held)[:copy(*r.held, (*r.held)[n:])]
	return len(*r.held) == 0, nil
}

func (r *rawConn) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p)
	if err == io.EOF {
		r.eof.Store(true)
	}
	return n, err
}

func (r *rawConn) written() int64 { return r.sent.Load() }

// conn is one connection of a pool. It carries one request at a time.
type conn struct {
	pool   *Pool
	raw    *rawConn
	tls    *tls.Conn
	in     *bufio.Reader
	readBy time.Time // the deadline of reading
	since  time.Time // unused since then; under pool.mu
}

// dial connects to a checked address, through the proxy if there is one, and speaks TLS with the origin.
func (p *Pool) dial(ctx context.Context) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.DialTimeout)
	defer cancel()
	to, g := p.origin, &p.guard
	if p.proxy.host != "" {
		if a, err := netip.ParseAddr(to.host); err == nil { // a name is resolved by the proxy alone
			if err := p.guard.Check(a); err != nil {
				return nil, err
			}
		}
		to, g = p.proxy, &p.proxyGuard
	}
	nc, err := g.Dial(ctx, p.cfg.Resolve, to.host, to.port)
	if err != nil {
		return nil, err
	}
	c := &conn{pool: p, raw: &rawConn{Conn: nc}}
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	if p.proxy.host != "" {
		err = c.tunnel()
	}
	if err == nil {
		err = c.shake(ctx)
	}
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err == nil {
		c.in = bufio.NewReaderSize(c.tls, bufferSize)
		err = p.add(c)
	}
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("connecting to %s: %w", p.origin.field, err)
	}
	return c, nil
}

// shake speaks TLS with the origin. A resumed session rests on a handshake in which the certificate was asked for.
func (c *conn) shake(ctx context.Context) error {
	cfg, asked := c.pool.tls, true
	if own := cfg.GetClientCertificate; own != nil {
		asked = false
		cfg = cfg.Clone()
		cfg.GetClientCertificate = func(i *tls.CertificateRequestInfo) (*tls.Certificate, error) { asked = true; return own(i) }
	}
	c.tls = tls.Client(c.raw, cfg)
	if err := c.tls.HandshakeContext(ctx); err != nil {
		return err
	}
	if !asked && !c.tls.ConnectionState().DidResume {
		return ErrUnasked
	}
	return nil
}

func (p *Pool) add(c *conn) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return ErrClosed
	}
	p.conns[c] = struct{}{}
	return nil
}

// tunnel asks the proxy for the origin. TLS inside it is still the origin's.
func (c *conn) tunnel() error {
	p := c.pool
	target := net.JoinHostPort(p.origin.host, strconv.Itoa(int(p.origin.port)))
	if _, err := fmt.Fprintf(c.raw, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", target, target); err != nil {
		return err
	}
	in := bufio.NewReaderSize(c.raw, 1024)
	h, err := readHead(in, &p.cfg)
	if err != nil {
		return fmt.Errorf("proxy %s: %w", p.proxy.field, err)
	}
	if h.status/100 != 2 {
		return fmt.Errorf("proxy %s refused the connection with status %d", p.proxy.field, h.status)
	}
	if in.Buffered() > 0 {
		return fmt.Errorf("%w: proxy %s sent bytes before TLS", ErrResponse, p.proxy.field)
	}
	return nil
}

// quiet reports whether an unused connection is open and silent. Bytes that nobody asked for count as dead: they would be
// taken for the next answer. They may be in the socket, or read from it already and wait in TLS.
func (c *conn) quiet() bool {
	sc, ok := c.raw.Conn.(*net.TCPConn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	quiet := false
	err = raw.Read(func(fd uintptr) bool {
		var b [1]byte
		_, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		quiet = err == unix.EAGAIN
		return true
	})
	if err != nil || !quiet {
		return false
	}
	c.raw.SetReadDeadline(time.Unix(1, 0)) // nothing is waited for; roundTrip sets another
	_, err = c.in.Peek(1)
	return errors.Is(err, os.ErrDeadlineExceeded)
}

func (c *conn) close() {
	c.pool.mu.Lock()
	delete(c.pool.conns, c)
	c.pool.mu.Unlock()
	c.raw.Close()
}

// roundTrip writes r and reads the answer's header.
func (c *conn) roundTrip(ctx context.Context, r *Request) (*Response, error) {
	cfg := &c.pool.cfg
	c.raw.sent.Store(0)
	c.readBy = time.Now().Add(cfg.HeaderTimeout)
	c.raw.SetDeadline(c.readBy)
	b := &body{c: c, stop: context.AfterFunc(ctx, func() { c.raw.Close() })}
	rest, all, err := c.begin(r)
	if err == nil && !all {
		b.wrote = make(chan error, 1)
		go func() {
			_, err := c.tls.Write(rest)
			b.wrote <- c.part(err)
		}()
	} else {
		err = c.part(err)
	}
	b.keep = err == nil
	if err != nil && c.raw.written() == 0 {
		b.stop()
		return nil, fmt.Errorf("writing the request: %w", err)
	}
	// After a failed write the answer may be there all the same: an upstream may refuse a body that it did not read.
	h, readErr := readFinal(c.in, cfg)
	if readErr != nil {
		b.stop()
		if ctx.Err() != nil {
			readErr = ctx.Err()
		} else if err != nil {
			readErr = err
		}
		return nil, fmt.Errorf("waiting for the answer: %w", readErr)
	}
	if err := b.frame(h, r.Method); err != nil {
		b.stop()
		return nil, err
	}
	resp := &Response{Status: h.status, Header: h.fields, Length: b.length, Body: b, Trailer: b.trailerFields, Sent: b.wrote == nil}
	if b.length == 0 {
		b.finish()
	}
	return resp, nil
}

// begin writes the header and as much of the body as the send buffer takes without waiting. Unless that is all, the rest of the
// body is to be written, and then part called.
func (c *conn) begin(r *Request) (rest []byte, all bool, err error) {
	held := c.pool.records.Get().(*[]byte)
	c.raw.held = held // nobody else has the connection yet
	rest, err = c.writeHead(r)
	n := min(len(rest), (cap(*held)-len(*held))/sealed*plain)
	if err == nil && n > 0 {
		_, err = c.tls.Write(rest[:n])
	}
	if err == nil {
		all, err = c.raw.push()
	}
	return rest[n:], all && n == len(rest), err
}

// part ends what begin began: it writes what is still held, unless err says that there is no use.
func (c *conn) part(err error) error {
	r := c.raw
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		err = r.flush()
	}
	*r.held = (*r.held)[:0]
	c.pool.records.Put(r.held)
	r.held = nil
	return err
}

// writeHead writes the header and as much of the body as fits beside it, wipes its copy, and returns the rest of the body.
func (c *conn) writeHead(r *Request) (rest []byte, err error) {
	p := c.pool.buffers.Get().(*[]byte)
	b := *p
	size := len(r.Method) + len(r.Target) + len(c.pool.origin.field) + 96
	for i := range r.Header {
		size += len(r.Header[i].Name) + len(r.Header[i].Value) + 4
	}
	for i := range r.Secrets {
		size += len(r.Secrets[i].Name) + len(r.Secrets[i].Value) + 4
	}
	if cap(b) < size { // grown before the secret is in it: no copy of it stays behind
		b = make([]byte, 0, size)
	}
	b = append(append(append(append(b, r.Method...), ' '), r.Target...), " HTTP/1.1\r\nHost: "...)
	b = append(append(b, c.pool.origin.field...), "\r\n"...)
	for i := range r.Header {
		b = append(append(append(append(b, r.Header[i].Name...), ": "...), r.Header[i].Value...), "\r\n"...)
	}
	from := len(b)
	for i := range r.Secrets {
		if s := &r.Secrets[i]; s.Name != "" {
			b = append(append(append(append(b, s.Name...), ": "...), s.Value...), "\r\n"...)
		}
	}
	to := len(b)
	if len(r.Body) > 0 || r.Method == "POST" || r.Method == "PUT" || r.Method == "PATCH" {
		b = append(strconv.AppendInt(append(b, "Content-Length: "...), int64(len(r.Body)), 10), "\r\n"...)
	}
	b = append(b, "\r\n"...)
	n := min(max(cap(b)-len(b), 0), len(r.Body))
	b = append(b, r.Body[:n]...)
	err = c.writeApart(b, from, to)
	clear(b)
	if cap(b) <= 4*inline {
		*p = b[:0]
	}
	c.pool.buffers.Put(p)
	return r.Body[n:], err
}

// writeApart writes b, the secret of which stands between from and to. crypto/tls gathers a record in a buffer, and where that is too small
// it copies it into a larger one and leaves it behind as it is. So no record with a part of the secret is larger than the one before it.
func (c *conn) writeApart(b []byte, from, to int) (err error) {
	most := from
	for at, end := 0, from; err == nil && at < len(b); at = end {
		switch {
		case at > 0 && at < to:
			end = min(at+most, to)
		case at > 0:
			end = len(b)
		}
		_, err = c.tls.Write(b[at:end])
	}
	return err
}

var errRequest = errors.New("malformed request")

// check refuses a request that could become two, or whose framing is not Send's own.
func (r *Request) check() error {
	if !token(r.Method) || r.Method == "CONNECT" || r.Method == "TRACE" {
		return fmt.Errorf("%w: method %q", errRequest, r.Method)
	}
	if len(r.Target) == 0 || r.Target[0] != '/' {
		return fmt.Errorf("%w: the target does not begin with /", errRequest)
	}
	for _, c := range r.Target {
		if c <= ' ' || c >= 0x7f || c == '#' {
			return fmt.Errorf("%w: the target has byte %#x", errRequest, c)
		}
	}
	for i := range r.Header {
		f := &r.Header[i]
		if !token(f.Name) || !text(f.Value) || reserved(f.Name) {
			return fmt.Errorf("%w: header field %q", errRequest, f.Name)
		}
	}
	for i := range r.Secrets {
		if s := &r.Secrets[i]; s.Name != "" && (!token(s.Name) || !text(s.Value) || reserved(s.Name)) {
			return fmt.Errorf("%w: header field %q that carries the credential", errRequest, s.Name)
		}
	}
	return nil
}

// reserved names the fields that frame a message or concern one connection only.
func reserved(name string) bool {
	for _, n := range [...]string{"Host", "Content-Length", "Transfer-Encoding", "Connection", "Keep-Alive", "TE", "Trailer", "Upgrade",
		"Expect", "Proxy-Connection", "Proxy-Authorization", "Proxy-Authenticate"} {
		if strings.EqualFold(n, name) {
			return true
		}
	}
	return false
}

// token reports whether s is an RFC 9110 token, as methods and field names are.
func token(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}

// text reports whether s may be a field value: no control character but the tab.
func text[T string | []byte](s T) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}
