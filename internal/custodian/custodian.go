// Package custodian holds an estate's credentials and decides, by its own copy of what the owners signed, about each use of
// one. The order of events is its reason to be: admit, append, fetch, inject, send, scan, account.
//
// Every field of a hop.Open is hostile: a gateway may have been taken over. Nothing in it is believed but the workload's
// proof, and that only after it was verified here.
package custodian

import (
	"context"
	"crypto/tls"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/custodian/closed"
	"github.com/reevehq/reeve/internal/custodian/egress"
	"github.com/reevehq/reeve/internal/custodian/glass"
	"github.com/reevehq/reeve/internal/custodian/guard"
	"github.com/reevehq/reeve/internal/custodian/isolation"
	"github.com/reevehq/reeve/internal/custodian/sealed"
	"github.com/reevehq/reeve/internal/custodian/source"
	"github.com/reevehq/reeve/internal/hop"
	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/internal/metrics"
	"github.com/reevehq/reeve/internal/process"
	"github.com/reevehq/reeve/internal/replay"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/workload/jwks"
)

// Fuse is how old the oldest entry may be that no witness has cosigned, before secrets are no longer used.
const Fuse = 30 * time.Second

// Ledger is the custodian's own log: a *ledger.Log.
type Ledger interface {
	Append(*entry.Entry, []byte) (ledger.Durable, error)
	AppendClosing(*entry.Entry) (ledger.Durable, error)
	Enqueue(e *entry.Entry, closing bool) error
	Uncosigned() (oldest time.Duration, count int64) // entries without enough cosignatures
}

// Answer is the stream that a use answers: a *hop.Writer.
type Answer interface {
	Head(status int, header []hop.Field) error
	Write([]byte) (int, error)
	End(trailer []hop.Field) error
	Break(reason string)
	Refuse(*hop.Refusal) error
}

// Connections are those of one credential to its one destination: an *egress.Pool.
type Connections interface {
	Send(context.Context, *egress.Request) (*egress.Response, error)
	Close()  // ends every connection at once
	Retire() // ends every connection when its request is done
}

// Parts are what a Custodian is made of. All are needed.
type Parts struct {
	ID        string // as the custody statements name it
	Ledger    Ledger
	Secrets   *sealed.Store
	Gate      *closed.Gate
	Glass     *glass.Cabinet
	Notify    func(Notice, []*statement.Person) // tells people, without waiting
	Isolation *isolation.Judge
	News      func() time.Duration // age of the newest news of revocations; negative when unknown
	Replay    *replay.Guard
	// IssuerKeys are the published keys of an issuer of the charter, by its id, or nil; kid is what a token asks for.
	IssuerKeys func(issuer, kid string) *jwks.Set
	// Dial makes the connections to a destination, with a client certificate or none.
	Dial func(statement.Destination, *tls.Certificate) (Connections, error)
	// Source makes the source that a record names; nil for one whose secrets an owner hands over.
	Source  func(source.Config) (source.Source, error)
	Clock   func() time.Time
	Log     *slog.Logger
	Journal *process.Journal // a line for each use and each denial that the ledger has
	Metrics *metrics.Registry
}

// Custodian decides, makes and accounts for every use of its credentials. Safe for concurrent use.
type Custodian struct {
	Parts
	view    atomic.Pointer[view] // nil before the first set
	extra   extensions
	ends    ends
	tally   tally
	traps   traps
	told    sync.Mutex   // held while the entries of closings are written
	unsaved atomic.Int64 // changes of what is closed that nobody has written to disk yet, while somebody writes
	meters  *meters
	pieces  sync.Pool // *[pieceSize]byte

	changing   sync.Mutex            // spans changes of view, and the fields below
	keyRecords []*statement.Envelope // of workload keys, as they were signed
	newKeys    bool                  // some of them are not in the view yet
}

// New returns a custodian without statements: it refuses everything until Adopt.
func New(p Parts) *Custodian {
	c := &Custodian{Parts: p}
	c.meters = newMeters(c)
	c.pieces.New = func() any { return new([pieceSize]byte) }
	return c
}

// Serve makes one use, or refuses it. This is the order of the design's "One request": a refusal at any step before the
// sending means that nothing was sent and that an entry says so.
func (c *Custodian) Serve(ctx context.Context, peer hop.Peer, open *hop.Open, answer Answer) {
	u := &use{peer: peer, open: open, start: c.Clock(), view: c.view.Load()}
	u.admitted = u.start
	u.Of = u
	defer c.finish(u, answer)
	if no := c.admit(ctx, u); no != nil {
		answer.Refuse(c.renew(u, c.deny(u, no)))
		return
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	u.Cut = func(cause error) {
		cancel(cause)
		time.AfterFunc(grace, func() { answer.Break(cause.Error()) }) // frees a write that the gateway does not read
	}
	defer c.Gate.Enter(&u.Use)()
	if err := c.intend(u); err != nil {
		answer.Refuse(c.renew(u, c.unwritten(u, err)))
		return
	}
	resp, patterns, no := c.send(ctx, u)
	if no != nil {
		answer.Refuse(c.renew(u, no))
		return
	}
	defer resp.Body.Close()
	c.pass(ctx, u, resp, patterns, answer)
}

// intend makes the intent durable. Nothing that follows can be done without it.
func (c *Custodian) intend(u *use) (err error) {
	begun := time.Now()
	u.intent, err = c.Ledger.Append(u.intention())
	c.meters.ledgerWait.Observe(time.Since(begun))
	return err
}

// send is the one send of an intent: fetch, look once more, inject, send. There is no retry and no redirect.
func (c *Custodian) send(ctx context.Context, u *use) (*egress.Response, *guard.Patterns, *hop.Refusal) {
	secret, parts, err := u.secret.Fetch(u.intent)
	var to Connections
	if err == nil {
		to, err = c.connections(u.credential, parts.Certificate)
	}
	if err != nil {
		c.Log.Error("a secret cannot be used", "credential", u.Credential, "error", err)
		return nil, nil, u.unsent(refuseNoSecret(u.Credential))
	}
	if no := c.still(u); no != nil {
		return nil, nil, u.unsent(no)
	}
	req := &egress.Request{Method: u.open.Method, Header: u.header, Body: u.body}
	u.credential.pin.Inject(req, u.target, &secret, c.Clock())
	resp, err := to.Send(ctx, req)
	req.Wipe()
	if err == nil && resp.Sent && u.open.Free != nil {
		u.open.Free()
	}
	u.body, u.open.Body = nil, nil // free while the answer streams
	if err != nil {
		return nil, nil, c.unanswered(ctx, u, err)
	}
	return resp, parts.Patterns, nil
}

// still looks once more at what may have closed since admit, and whether the news is fresh: writing the intent may have taken long. The use is registered by now: a closing that is not seen here
// finds it there and cuts ctx.
func (c *Custodian) still(u *use) *refusal {
	if no := c.live(u); no != nil {
		return no
	}
	if no := c.fresh(u, c.News(), c.Clock(), nil); no != nil {
		return no
	}
	if now := c.view.Load(); now.set != u.view.set {
		return c.again(u, now)
	}
	return nil
}
