// Package gateway routes: it speaks the client APIs, authenticates workloads, applies the operations owners' limits, chooses the
// credential by name and hands the request to the custodian. It holds no downstream secret, changes no body, and cannot
// widen what a workload may use: the custodian decides each use by its own copy of what the owners signed.
package gateway

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/closing"
	"github.com/reevehq/reeve/internal/gateway/anthropic"
	"github.com/reevehq/reeve/internal/gateway/dialect"
	"github.com/reevehq/reeve/internal/gateway/openai"
	"github.com/reevehq/reeve/internal/hop"
	"github.com/reevehq/reeve/internal/metrics"
	"github.com/reevehq/reeve/internal/pop"
	"github.com/reevehq/reeve/internal/process"
	"github.com/reevehq/reeve/internal/scan"
	"github.com/reevehq/reeve/internal/serve"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/workload"
)

// Custodian is the hop to the custodian.
type Custodian interface {
	Do(ctx context.Context, o *hop.Open) (*hop.Response, error)
}

// Proofs verifies workloads' proofs by the statements and records in force.
type Proofs interface {
	Verify(p workload.Proof, r *pop.Request, now time.Time) (workload.Identity, error)
}

// Parts are what a Gateway is made of.
type Parts struct {
	ID        string // in the operations statement
	Custodian Custodian
	Proofs    Proofs
	Gate      *closing.Gate             // what is closed; by default nothing is
	Journal   *process.Journal          // a line for each request
	Accept    func(record []byte) error // takes a signed record that was posted, or says why not; nil takes none
	Metrics   *metrics.Registry
	KeepAlive time.Duration // silence in a stream of events before a comment is sent; 15 s by default
	Memory    int64         // bytes of request bodies held at one time; 512 MiB by default
	Conns     int64         // client connections above which new requests are refused; 0 for no bound
}

// Gateway serves the client APIs. It refuses everything until Use has put a set into force.
type Gateway struct {
	cfg       Parts
	openai    dialect.Dialect
	claude    dialect.Dialect
	force     atomic.Pointer[force]
	draining  atomic.Bool
	conns     atomic.Int64
	records   *serve.Pace // of records that are posted
	bodies    buffers
	pieces    sync.Pool // of *[piece]byte
	limiter   limiter
	refusals  refusals
	metrics   *measures
	keepAlive atomic.Int64 // nanoseconds; Parts.KeepAlive at first
}

// New returns a Gateway.
func New(p Parts) *Gateway {
	if p.KeepAlive == 0 {
		p.KeepAlive = 15 * time.Second
	}
	if p.Memory == 0 {
		p.Memory = 512 << 20
	}
	if p.Gate == nil {
		p.Gate = closing.NewGate(closing.NewState(0, nil))
	}
	g := &Gateway{cfg: p, openai: openai.Dialect{}, claude: anthropic.Dialect{}, records: serve.NewPace(recordPace, recordBurst)}
	g.Bound(p.KeepAlive, p.Memory)
	g.limiter.tally = map[string]*tally{}
	g.refusals.pending = map[refusalKey]*entry.Entry{}
	g.metrics = newMeasures(p.Metrics)
	return g
}

// Use puts a verified set into force. When it cannot, the set that was in force stays.
func (g *Gateway) Use(set *statement.Set) error {
	f, err := newForce(g.cfg.ID, set, []dialect.Dialect{g.openai, g.claude})
	if err != nil {
		return err
	}
	g.force.Store(f)
	return nil
}

// Bound changes what Parts.KeepAlive and Parts.Memory began with.
func (g *Gateway) Bound(keepAlive time.Duration, memory int64) {
	g.keepAlive.Store(int64(keepAlive))
	g.bodies.most.Store(memory)
}

// Drain refuses new requests from now on; those in flight go on.
func (g *Gateway) Drain() { g.draining.Store(true) }

// Flush writes the refusals counted so far: once a second, and before the ledger is closed.
func (g *Gateway) Flush(l Ledger) error { return g.refusals.flush(l) }

// errClosing cancels the requests that outlast the drain.
var errClosing = errors.New("the gateway is closing")

// givenUp reports whether a request's context ended because of the gateway, and not its client.
func givenUp(ctx context.Context) bool { return errors.Is(context.Cause(ctx), errClosing) }

// ConnState counts client connections: it belongs into http.Server.ConnState.
func (g *Gateway) ConnState(_ net.Conn, s http.ConnState) {
	switch s {
	case http.StateNew:
		g.conns.Add(1)
	case http.StateClosed, http.StateHijacked:
		g.conns.Add(-1)
	}
}

// call is one request on its way through the gateway.
type call struct {
	g      *Gateway
	w      http.ResponseWriter
	r      *http.Request
	start  time.Time
	id     string
	client string // IP address, or empty

	dialect dialect.Dialect
	route   *dialect.Route
	force   *force
	who     workload.Identity
	proof   workload.Proof
	tally   *tally          // of who
	use     closing.Use     // what the request stands or falls with
	ctx     context.Context // of the request at the custodian: it ends with the client's, and when something of use is closed
	left    func()          // takes use out of the gate
	target  target
	model   string // as the client named it
	stream  bool   // the client asked for a stream of events

	read    bool // the body is
	entered bool // the custodian's ledger has it
	status  int
	in, out int64         // body bytes
	first   time.Duration // to the first byte of the answer's body, or to its head
	receipt string
	code    string    // of a refusal
	writeBy time.Time // the deadline of writing to the client
}

// ServeHTTP serves one request.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := &call{g: g, w: w, r: r, start: time.Now(), id: ask(r.Header), client: client(r)}
	w.Header()[requestID] = []string{c.id}
	c.alone()
	g.metrics.flight.Add(1)
	defer c.done()
	if harmless(r) {
		c.route = &dialect.Route{Name: "HEAD"}
		c.dialect = g.openai
		c.answerWith(http.StatusOK, nil)
		return
	}
	serve := c.serve
	if r.Method == http.MethodPost && r.RequestURI == RecordsPath {
		serve = c.record
	}
	if f := serve(); f != nil {
		c.refuse(f)
	}
}

// alone makes a request that came in chunks the last of its connection. It may have had a length too, of which net/http says nothing: a
// proxy before the gateway that went by that length would take another's request for this one's rest (RFC 9112, section 6.1).
func (c *call) alone() {
	if len(c.r.TransferEncoding) > 0 {
		c.w.Header()["Connection"] = []string{"close"}
	}
}

// harmless: Claude Code asks HEAD before it begins.
func harmless(r *http.Request) bool {
	return r.Method == http.MethodHead && (r.RequestURI == "/" || r.RequestURI == "/api/hello")
}

// serve is the order of steps. A fault that it returns is answered in the client's dialect.
func (c *call) serve() *dialect.Fault {
	if f := c.find(); f != nil {
		return f
	}
	if f := c.room(); f != nil {
		return f
	}
	if f := c.authenticate(); f != nil {
		return f
	}
	tally, f := c.g.limiter.enter(c.who.Workload, &c.force.limits, c.start)
	if f != nil {
		return f
	}
	defer c.g.limiter.leave(tally)
	c.tally = tally
	switch c.route.Serve {
	case dialect.List:
		return c.list()
	case dialect.Get:
		return c.get()
	case dialect.Me:
		return c.tell()
	}
	return c.forward()
}

// find finds dialect and route by the exact bytes of the path.
func (c *call) find() *dialect.Fault {
	path, _, _ := strings.Cut(c.r.RequestURI, "?")
	if path == mePath && c.r.Method == http.MethodGet {
		c.dialect, c.route = c.g.openai, &dialect.Route{Name: mePath, Serve: dialect.Me}
		return nil
	}
	if id := native(path); id != "" {
		c.dialect, c.route = c.g.openai, &dialect.Route{Name: nativePath + "{id}", Credential: id}
		return nil
	}
	var candidates [2]dialect.Dialect
	switch rest, prefix := cutPrefix(path); prefix {
	case "/openai":
		path, candidates[0] = rest, c.g.openai
	case "/anthropic":
		path, candidates[0] = rest, c.g.claude
	default:
		candidates = [2]dialect.Dialect{c.g.openai, c.g.claude}
		if len(c.r.Header["Anthropic-Version"]) > 0 || strings.HasPrefix(path, "/v1/messages") {
			candidates = [2]dialect.Dialect{c.g.claude, c.g.openai}
		}
	}
	c.dialect = candidates[0]
	for _, d := range candidates {
		if d == nil {
			continue
		}
		route, allow := d.Route(c.r.Method, path)
		if route != nil {
			c.dialect, c.route = d, route
			return nil
		}
		if allow != "" {
			c.dialect = d
			return &dialect.Fault{Status: http.StatusMethodNotAllowed, Code: "method_not_allowed", Final: true, Allow: allow,
				Message: "Not allowed to " + method(c.r.Method) + " on " + clip(path) + " (HINT: use " + allow + ")."}
		}
	}
	return &dialect.Fault{Status: http.StatusNotFound, Code: "not_found", Final: true,
		Message: "Invalid URL (" + method(c.r.Method) + " " + clip(path) + "): this gateway serves /v1/chat/completions, /v1/responses, /v1/embeddings, /v1/messages, /v1/models, and a provider's own API under /credentials/NAME."}
}

// nativePath is where a provider's own API is called: behind it the credential's name, and then the path as the provider has it.
const nativePath = "/credentials/"

// native is the credential's name in such a path, or empty.
func native(path string) string {
	rest, ok := strings.CutPrefix(path, nativePath)
	id, rest, found := strings.Cut(rest, "/")
	if !ok || !found || rest == "" {
		return ""
	}
	return id
}

// cutPrefix takes /openai or /anthropic off a path.
func cutPrefix(path string) (rest, prefix string) {
	for _, p := range [...]string{"/openai", "/anthropic"} {
		if rest, ok := strings.CutPrefix(path, p); ok && strings.HasPrefix(rest, "/") {
			return rest, p
		}
	}
	return path, ""
}

// room refuses what this process cannot take on now.
func (c *call) room() *dialect.Fault {
	c.force = c.g.force.Load()
	code, message := "", ""
	switch {
	case c.force == nil:
		code, message = "not_ready", "This gateway has no verified statements yet. Nothing was sent. Operators see /readyz on its ops listener."
	case c.g.draining.Load():
		code, message = "draining", "This gateway is closing. Nothing was sent. Try again."
	case c.g.cfg.Conns > 0 && c.g.conns.Load() > c.g.cfg.Conns:
		code, message = "overloaded", "This gateway has as many connections as its limit of open files allows. Nothing was sent. Try again shortly."
	default:
		return nil
	}
	c.w.Header().Set("Connection", "close")
	return &dialect.Fault{Status: http.StatusServiceUnavailable, Code: code, Message: message, RetryAfter: 1}
}

// live refuses what is closed, early: the custodian, which decides, would refuse it too.
func (c *call) live() *dialect.Fault {
	closed := c.g.cfg.Gate.State().Of(&c.use)
	if closed == nil {
		return nil
	}
	return &dialect.Fault{Status: http.StatusForbidden, Code: "frozen", Final: true,
		Message: "This use is closed: " + closed.Error() + ". Nothing was sent. A record signed by an owner and one other role opens it again."}
}

// list answers GET /v1/models.
func (c *call) list() *dialect.Fault {
	models := c.force.models(c.dialect.Name(), c.caller())
	c.w.Header().Set("Content-Type", "application/json")
	c.answerWith(http.StatusOK, c.dialect.Models(models, c.r.URL.Query()))
	return nil
}

// get answers GET /v1/models/{id}, for every name that a request may use.
func (c *call) get() *dialect.Fault {
	c.model = clip(c.route.Model)
	t, ok := c.force.resolve(c.route.Model, c.dialect.Name(), c.who.Unit)
	if !ok || t.provider.Dialect != c.dialect.Name() || !c.force.may(t, c.caller()) {
		return noModel(c.route.Model)
	}
	c.w.Header().Set("Content-Type", "application/json")
	c.answerWith(http.StatusOK, c.dialect.Model(dialect.Model{ID: c.route.Model, Provider: t.provider.Name}))
	return nil
}

func noModel(name string) *dialect.Fault {
	return &dialect.Fault{Status: http.StatusNotFound, Code: "model_not_found", Param: "model", Final: true,
		Message: "The model `" + clip(name) + "` does not exist or you do not have access to it. GET /v1/models lists what this workload may use."}
}

// forward hands the request to the custodian and its answer to the client.
func (c *call) forward() *dialect.Fault {
	open := &hop.Open{
		RequestID: c.id,
		Method:    c.r.Method,
		Path:      c.r.RequestURI,
		URL:       c.url(),
		Header:    forward(c.r.Header, c.proof.Kind == workload.Pop),
		Proof:     c.proof,
	}
	if c.client != "" {
		open.Asserted = []hop.Field{{Name: "client_ip", Value: c.client}}
	}
	var body []byte
	if c.r.Body != http.NoBody {
		b, n, f := c.g.readBody(c)
		if f != nil {
			return f
		}
		body, open.Body, c.in, c.read = b, b[:n], int64(n), true
	}
	defer c.leave()
	resp, f := c.send(open)
	if body != nil {
		c.g.bodies.give(body, &c.tally.bodies) // Do has copied what it still needs
	}
	if f != nil {
		return f
	}
	defer resp.Body.Close()
	return c.answer(resp)
}

// send chooses the credential and asks the custodian.
func (c *call) send(open *hop.Open) (*hop.Response, *dialect.Fault) {
	if f := c.choose(open.Body); f != nil {
		return nil, f
	}
	c.enter()
	open.Credential = c.target.credential
	if f := c.live(); f != nil { // it is entered by now: what is closed from here on cuts it
		return nil, f
	}
	resp, err := c.g.cfg.Custodian.Do(c.ctx, open)
	if err != nil {
		f := hopFault(err)
		if cut := c.cut(); cut != nil && f.Code == gone {
			f = &dialect.Fault{Status: http.StatusForbidden, Code: "frozen", Final: true,
				Message: "This use was closed while it was made: " + cut.Error() + ". Whether the upstream acted on it is not known; the ledger says whether it was sent."}
		}
		if f.Code == gone && givenUp(c.r.Context()) {
			f = &dialect.Fault{Status: http.StatusServiceUnavailable, Code: "draining", RetryAfter: 1,
				Message: "This gateway is closing and gave the request up. Whether the upstream acted on it is not known."}
		}
		c.entered = f.Receipt != ""
		c.g.metrics.hopError(f.Code)
		return nil, f
	}
	c.entered = true
	return resp, nil
}

// enter registers the request to be cut when something of it is closed, until leave.
func (c *call) enter() {
	c.use.Credential = c.target.credential
	if _, unit, ok := c.force.set.Credential(c.use.Credential); ok {
		c.use.Units[1] = unit.ID
	}
	c.ctx, c.use.Cut = context.WithCancelCause(c.r.Context())
	c.left = c.g.cfg.Gate.Enter(&c.use)
}

func (c *call) leave() {
	if c.left != nil {
		c.left()
		c.use.Cut(nil)
	}
}

// cut is why the request was cut, or nil.
func (c *call) cut() error {
	if cause := context.Cause(c.ctx); errors.Is(cause, closing.ErrCut) {
		return cause
	}
	return nil
}

// choose finds the credential: by its name in the path, by the model in the body, or by what the client says when there is neither.
func (c *call) choose(body []byte) *dialect.Fault {
	if id := c.route.Credential; id != "" {
		t, ok := c.force.named(id, c.who.Tenant)
		if !ok {
			return &dialect.Fault{Status: http.StatusNotFound, Code: "not_found", Final: true,
				Message: "There is no credential `" + clip(id) + "` at this gateway. Whoever answers for this workload sees its credentials with: reeve can."}
		}
		c.target = t
		return nil
	}
	if !c.route.Named {
		t, ok := c.force.sole(c.r.Header.Get("Reeve-Provider"), c.dialect.Name(), c.who.Unit)
		if !ok {
			return &dialect.Fault{Status: http.StatusBadRequest, Code: "provider_unclear", Final: true,
				Message: "This request names no model, so the gateway cannot tell which provider it is for. Name one that this workload's unit has in the header Reeve-Provider."}
		}
		c.target = t
		return nil
	}
	call, err := scan.Body(body)
	if err != nil {
		return &dialect.Fault{Status: http.StatusBadRequest, Code: "invalid_body", Final: true, Message: err.Error()}
	}
	c.stream = call.Stream
	if call.Model.Absent() {
		return &dialect.Fault{Status: http.StatusBadRequest, Code: "no_model", Param: "model", Final: true,
			Message: "you must provide a model parameter. GET /v1/models lists what this workload may use."}
	}
	name := string(call.Name)
	c.model = clip(name)
	t, ok := c.force.resolve(name, c.dialect.Name(), c.who.Unit)
	switch {
	case !ok:
		return noModel(name)
	case t.provider.Dialect != c.dialect.Name():
		return &dialect.Fault{Status: http.StatusBadRequest, Code: "dialect", Param: "model", Final: true,
			Message: "The model `" + clip(name) + "` is served in the " + t.provider.Dialect + " API, and this is a request of the " + c.dialect.Name() + " API. Use the other API's path and client."}
	}
	c.target = t
	return nil
}

// caller is who asks, for policy.
func (c *call) caller() caller { return caller{who: &c.who, client: c.client, now: c.start} }

// client is the client's address, or empty when the connection has none.
func client(r *http.Request) string {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	return at.Addr().Unmap().WithZone("").String()
}
