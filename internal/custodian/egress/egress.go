// Package egress is the custodian's HTTP/1.1 client. It dials only checked addresses of one pinned origin, writes the
// request's bytes itself and sends each request at most once: there is no replay, no redirect, no HTTP/2, no cookie.
package egress

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/reevehq/reeve/internal/hop"
	"github.com/reevehq/reeve/internal/netguard"
	"github.com/reevehq/reeve/internal/statement"
)

var (
	// ErrNotSent means that no byte of the request left: the upstream knows nothing of it.
	ErrNotSent = errors.New("not sent")
	// ErrSent means that a part of the request may have left, or all of it: the upstream may have acted on it.
	ErrSent = errors.New("sent, answer unknown")
	// ErrAddress means that the name led to an address that may not be dialled. ErrNotSent holds too.
	ErrAddress = netguard.ErrAddress
	// ErrResponse means that the upstream's answer is not well-formed HTTP/1.1, or could be read in two ways.
	ErrResponse = errors.New("malformed answer of the upstream")
	// ErrClosed means that the pool was closed: frozen, rotated or shutting down.
	ErrClosed = errors.New("connections of this credential are closed")
	// ErrUnasked means that the upstream did not ask for the client certificate that is the credential. ErrNotSent holds too.
	ErrUnasked = errors.New("the upstream did not ask for a client certificate, so nothing would show who sends; look whether the origin and its port are right")
)

// Config is what a Pool is made of. Zero durations and numbers take the default given.
type Config struct {
	Destination statement.Destination
	// Resolve looks a host up; nil means the system's resolver. It is asked once for each connection.
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)
	// Certificate is shown to an origin that asks for one; nil for none.
	Certificate *tls.Certificate

	DialTimeout   time.Duration // resolving, connecting and TLS together: 10 s
	HeaderTimeout time.Duration // from the first byte sent to the end of the answer's header: 10 min
	IdleTimeout   time.Duration // between two pieces of an answer's body: 5 min
	KeepAlive     time.Duration // how long an unused connection is kept: 60 s
	IdleConns     int           // unused connections kept: 64

	HeaderBytes int // bytes of an answer's header, and of its trailer: 64 KiB
	Fields      int // header fields of an answer: 256
}

// Request is one HTTP/1.1 request. Host, Content-Length and Connection are Send's to write.
type Request struct {
	Method string
	Target []byte // origin-form, the exact bytes: path and query
	Header []hop.Field
	// Secrets are the fields that carry the credential, if header fields do; written after Header. Their bytes are not kept.
	Secrets [2]Secret
	Body    []byte // must not change until the response's body is closed
}

// Wipe overwrites the bytes that may hold the credential: those of Target and Secrets.
func (r *Request) Wipe() {
	clear(r.Target)
	for _, s := range r.Secrets {
		clear(s.Value)
	}
}

// Secret is a header field whose value is not a string, so that its owner can wipe it.
type Secret struct {
	Name  string // empty for none
	Value []byte
}

// Response is the upstream's answer. Header has the fields in their order; those that only concern the connection are there too.
type Response struct {
	Status  int
	Header  []hop.Field
	Length  int64         // of Body in bytes, -1 if not known before
	Body    io.ReadCloser // every end but io.EOF means that the answer was cut; Close before io.EOF ends the connection
	Trailer func() []hop.Field
	Sent    bool // the whole request was written when the answer began: nobody reads its body any more
}

// Pool is the connections to the destination of one credential. Safe for concurrent use.
type Pool struct {
	cfg    Config
	origin place
	proxy  place // without host if there is none
	tls    *tls.Config

	guard, proxyGuard netguard.Guard
	buffers           sync.Pool // *[]byte for requests' headers, wiped
	records           sync.Pool // *[]byte for what TLS has encrypted

	mu     sync.Mutex
	conns  map[*conn]struct{} // all that are open
	idle   []*conn            // the last used is last
	prune  *time.Timer        // nil while idle is empty
	closed bool
}

// New checks the destination and returns a pool without connections. The error says which member is wrong.
func New(cfg Config) (*Pool, error) {
	set(&cfg.DialTimeout, 10*time.Second)
	set(&cfg.HeaderTimeout, 10*time.Minute)
	set(&cfg.IdleTimeout, 5*time.Minute)
	set(&cfg.KeepAlive, time.Minute)
	set(&cfg.IdleConns, 64)
	set(&cfg.HeaderBytes, 64<<10)
	set(&cfg.Fields, 256)
	p := &Pool{cfg: cfg, conns: map[*conn]struct{}{}}
	p.buffers.New = func() any { b := make([]byte, 0, inline); return &b }
	p.records.New = func() any { b := make([]byte, 0, joined); return &b }
	d := &cfg.Destination
	var err error
	if p.origin, err = locate(d.Origin, "https", 443); err != nil {
		return nil, fmt.Errorf("origin: %w", err)
	}
	if d.Proxy != "" {
		if p.proxy, err = locate(d.Proxy, "http", 0); err != nil {
			return nil, fmt.Errorf("proxy: %w", err)
		}
	}
	if p.guard, err = netguard.New(d.Networks); err != nil {
		return nil, fmt.Errorf("networks: %w", err)
	}
	if p.proxyGuard, err = netguard.New(d.ProxyNetworks); err != nil {
		return nil, fmt.Errorf("proxy_networks: %w", err)
	}
	p.tls = &tls.Config{
		ServerName:                  p.origin.host,
		MinVersion:                  tls.VersionTLS12,
		NextProtos:                  []string{"http/1.1"},
		ClientSessionCache:          tls.NewLRUClientSessionCache(8),
		DynamicRecordSizingDisabled: true,
	}
	if cfg.Certificate != nil {
		p.tls.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cfg.Certificate, nil }
	}
	if d.CA != "" {
		roots, err := x509.SystemCertPool()
		if err != nil {
			roots = x509.NewCertPool() // no system roots: the record's own are all there is
		}
		if !roots.AppendCertsFromPEM([]byte(d.CA)) {
			return nil, errors.New("ca: no certificate in PEM form")
		}
		p.tls.RootCAs = roots
	}
	return p, nil
}

func set[T int | time.Duration](p *T, v T) {
	if *p <= 0 {
		*p = v
	}
}

// place is where to connect to.
type place struct {
	field string // host and port as they were written: the Host field
	host  string
	port  uint16
}

// locate takes scheme://host[:port] and nothing more apart. A port of 0 must be written out.
func locate(s, scheme string, port uint16) (place, error) {
	u, err := url.Parse(s)
	if err == nil && u.Port() != "" {
		var n uint64
		n, err = strconv.ParseUint(u.Port(), 10, 16)
		port = uint16(n)
	}
	if err != nil || port == 0 || u.Hostname() == "" || s != scheme+"://"+u.Host || strings.HasSuffix(s, ":") || strings.Contains(s, "%") || !text(s) {
		return place{}, fmt.Errorf("%q is not %s://host:port", s, scheme)
	}
	return place{u.Host, u.Hostname(), port}, nil
}

// Send sends r once and returns when the answer's header is there. Every error is ErrNotSent or ErrSent, so that the
// ledger can say which. The caller reads Body to io.EOF or closes it; ctx holds until then.
func (p *Pool) Send(ctx context.Context, r *Request) (*Response, error) {
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	for {
		c, reused, err := p.get(ctx)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNotSent, err)
		}
		resp, err := c.roundTrip(ctx, r)
		if err == nil {
			return resp, nil
		}
		c.close()
		switch {
		case c.raw.written() > 0:
			return nil, fmt.Errorf("%w: %w", ErrSent, err)
		case !reused || ctx.Err() != nil:
			return nil, fmt.Errorf("%w: %w", ErrNotSent, err)
		}
		// An unused connection had died and not one byte went out on it: another one may carry the request.
	}
}

// get returns an unused connection that is still alive, or a new one.
func (p *Pool) get(ctx context.Context) (c *conn, reused bool, err error) {
	for {
		p.mu.Lock()
		if p.closed {
			p.mu.Unlock()
			return nil, false, ErrClosed
		}
		n := len(p.idle)
		if n == 0 {
			p.mu.Unlock()
			c, err := p.dialAside(ctx)
			return c, false, err
		}
		c = p.idle[n-1]
		p.idle[n-1] = nil
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		if c.quiet() {
			return c, true, nil
		}
		c.close()
	}
}

// dialAside dials in a goroutine of its own: a TLS handshake grows a stack that the caller would keep for as long as its stream is
// open.
func (p *Pool) dialAside(ctx context.Context) (c *conn, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err = p.dial(ctx)
	}()
	<-done
	return c, err
}

// put keeps a connection for the next request.
func (p *Pool) put(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.idle) >= p.cfg.IdleConns {
		go c.close() // close takes mu
		return
	}
	c.since = time.Now()
	p.idle = append(p.idle, c)
	if p.prune == nil {
		p.prune = time.AfterFunc(p.cfg.KeepAlive, p.pruneIdle)
	}
}

// pruneIdle closes the connections that were not used for long.
func (p *Pool) pruneIdle() {
	p.mu.Lock()
	n := 0
	for n < len(p.idle) && time.Since(p.idle[n].since) >= p.cfg.KeepAlive {
		n++
	}
	old := append([]*conn(nil), p.idle[:n]...)
	p.idle = append(p.idle[:0], p.idle[n:]...)
	p.prune = nil
	if len(p.idle) > 0 && !p.closed {
		p.prune = time.AfterFunc(p.cfg.KeepAlive-time.Since(p.idle[0].since), p.pruneIdle)
	}
	p.mu.Unlock()
	for _, c := range old {
		c.close()
	}
}

// Close ends every connection at once, those in use too. Send returns ErrClosed from then on.
func (p *Pool) Close() {
	p.mu.Lock()
	p.closed = true
	p.idle = nil
	if p.prune != nil {
		p.prune.Stop()
	}
	for c := range p.conns {
		c.raw.Close()
	}
	clear(p.conns)
	p.mu.Unlock()
}

// Retire ends every connection when its request is done, the unused ones at once. Send still works, without keeping
// connections, for callers that got the pool before it was retired.
func (p *Pool) Retire() {
	p.mu.Lock()
	p.cfg.IdleConns = 0
	idle := p.idle
	p.idle = nil
	p.mu.Unlock()
	for _, c := range idle {
		c.close()
	}
}
