package gateway

import (
	"encoding/hex"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/reevehq/reeve/internal/metrics"
)

// measures are the gateway's metrics.
type measures struct {
	registry   *metrics.Registry
	flight     *metrics.Gauge
	in, out    *metrics.Counter
	hop        *metrics.Set
	first, all *metrics.Histogram

	mu       sync.RWMutex
	requests map[outcome]*metrics.Counter
}

type outcome struct {
	route  string
	status int
}

func newMeasures(r *metrics.Registry) *measures {
	return &measures{
		registry: r,
		flight:   r.Gauge("reeve_gateway_in_flight", "Requests in flight."),
		in:       r.Counter("reeve_gateway_request_bytes_total", "Bytes of request bodies read."),
		out:      r.Counter("reeve_gateway_answer_bytes_total", "Bytes of answer bodies written."),
		hop:      r.CounterSet("reeve_gateway_hop_errors_total", "Requests that the custodian refused or could not take, by the reason's word.", "code"),
		first:    r.Histogram("reeve_gateway_first_byte_seconds", "Time from a request's header to the first byte of a forwarded answer's body."),
		all:      r.Histogram("reeve_gateway_request_seconds", "Time from a request's header to the end of its answer."),
		requests: map[outcome]*metrics.Counter{},
	}
}

// request is the counter of one route and status. Both come from small sets.
func (m *measures) request(o outcome) *metrics.Counter {
	m.mu.RLock()
	c := m.requests[o]
	m.mu.RUnlock()
	if c != nil {
		return c
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if c = m.requests[o]; c == nil {
		c = m.registry.Counter("reeve_gateway_requests_total", "Requests answered.", "route", o.route, "status", strconv.Itoa(o.status))
		m.requests[o] = c
	}
	return c
}

func (m *measures) hopError(code string) { m.hop.Of(code).Inc() }

// done logs and counts a request, however it ended.
func (c *call) done() {
	route := "none"
	if c.route != nil {
		route = c.route.Name
	}
	took := time.Since(c.start)
	m := c.g.metrics
	m.flight.Add(-1)
	m.in.Add(c.in)
	m.out.Add(c.out)
	m.request(outcome{route, c.status}).Inc()
	m.all.Observe(took)
	if c.first > 0 {
		m.first.Observe(c.first)
	}
	c.g.cfg.Journal.Begin("request").
		Text("request_id", c.id).
		Text("client", c.client).
		Text("method", method(c.r.Method)).
		Text("route", route).
		Int("status", int64(c.status)).
		Int("in", c.in).
		Int("out", c.out).
		Int("us", took.Microseconds()).
		Text("workload", c.who.Workload).
		Text("key", c.who.KeyID).
		Text("credential", c.target.credential).
		Text("model", c.model).
		Bool("stream", c.stream).
		Int("first_us", c.first.Microseconds()).
		Text("code", c.code).
		Text("receipt", c.receipt).
		End()
}

// ask is the request's id: the client's own if it is sane, so that it finds its request in the logs, or a new one.
func ask(h http.Header) string {
	if v := h[requestID]; len(v) == 1 && sane(v[0]) {
		return v[0]
	}
	var b [12]byte
	for i := 0; i < len(b); i += 4 {
		n := rand.Uint32()
		b[i], b[i+1], b[i+2], b[i+3] = byte(n), byte(n>>8), byte(n>>16), byte(n>>24)
	}
	return "req_" + hex.EncodeToString(b[:])
}

// sane: 1 to 128 letters, digits and marks that need no quoting anywhere.
func sane(id string) bool {
	for i := 0; i < len(id); i++ {
		switch b := id[i]; {
		case 'a' <= b && b <= 'z', 'A' <= b && b <= 'Z', '0' <= b && b <= '9', b == '-', b == '_', b == '.', b == ':':
		default:
			return false
		}
	}
	return 0 < len(id) && len(id) <= 128
}
