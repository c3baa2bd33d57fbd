package custodian

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/closing"
	"github.com/reevehq/reeve/internal/custodian/ceiling"
	"github.com/reevehq/reeve/internal/custodian/egress"
	"github.com/reevehq/reeve/internal/custodian/guard"
	"github.com/reevehq/reeve/internal/custodian/pin"
	"github.com/reevehq/reeve/internal/hop"
	"github.com/reevehq/reeve/internal/pop"
)

const (
	pieceSize = 8 << 10                // bytes of an answer that are read at once
	stall     = 5 * time.Minute        // how long a gateway may leave one piece of an answer unread
	grace     = 200 * time.Millisecond // from a cut to breaking off whatever still writes
)

// errStalled is a gateway that stopped reading.
var errStalled = errors.New("the gateway stopped reading the answer")

// pass streams the answer back through the guard, and says in the outcome how it ended.
func (c *Custodian) pass(ctx context.Context, u *use, resp *egress.Response, patterns *guard.Patterns, answer Answer) {
	u.outcome.status = resp.Status
	headed, err := c.relay(u, resp, patterns, answer)
	if err == nil {
		u.outcome.reason = "complete"
		return
	}
	var closed *closing.Closed
	var over *overrun
	message := "The answer broke off: " + err.Error()
	switch cause := context.Cause(ctx); {
	case errors.Is(err, guard.ErrReflected): // whatever else ended it
		u.outcome.reason, message = "reflected", err.Error()
		c.reflected(u)
	case errors.As(err, &over):
		u.outcome.reason = "ceiling_" + over.Bound
		c.exceed(u, over.Excess)
	case errors.As(cause, &closed):
		u.outcome.reason, message = "closed_"+closed.Target.Kind, closed.Error()
	case errors.Is(cause, closing.ErrCut):
		u.outcome.reason, message = "narrowed", cause.Error()
	case errors.Is(err, guard.ErrBounds), errors.Is(err, guard.ErrEncoding):
		u.outcome.reason, message = "unscannable", err.Error()
	case errors.Is(cause, errStalled):
		u.outcome.reason = "client_stalled"
	case cause != nil, errors.Is(err, hop.ErrBroken):
		u.outcome.reason = "client_gone"
	default:
		u.outcome.reason = "broken"
	}
	if headed {
		answer.Break(message)
		return
	}
	answer.Refuse(&hop.Refusal{Code: u.outcome.reason, Status: 502, Message: message, Receipt: u.intent.Receipt(), Sent: true})
}

// relay copies head, body and trailer. Nothing passes that the guard has not searched.
func (c *Custodian) relay(u *use, resp *egress.Response, patterns *guard.Patterns, answer Answer) (headed bool, err error) {
	header, body, err := guard.Decode(resp.Header, resp.Body)
	if err != nil {
		return false, err
	}
	if err := patterns.Header(header); err != nil {
		return false, err
	}
	header = append(pin.Response(header), hop.Field{Name: "Reeve-Receipt", Value: u.intent.Receipt()}, hop.Field{Name: "Reeve-Credential-Age", Value: u.secret.Age()})
	if nonce := c.nonce(u); nonce != "" {
		header = append(header, hop.Field{Name: pop.FieldNonce, Value: nonce})
	}
	if err := answer.Head(resp.Status, header); err != nil {
		return false, err
	}
	passed := &passed{u: u, answer: answer, clock: c.Clock, stalled: time.AfterFunc(stall, func() { u.Cut(errStalled) })}
	passed.stalled.Stop()
	if err := c.pump(patterns.Stream(passed, u.contentType(header)), body); err != nil {
		return true, err
	}
	trailer := resp.Trailer()
	if err := patterns.Header(trailer); err != nil {
		return true, err
	}
	return true, answer.End(pin.Response(trailer))
}

// pump reads piece by piece, so that each reaches the client without delay.
func (c *Custodian) pump(to *guard.Stream, from io.Reader) error {
	for {
		from.Read(nil) // waits, as egress bodies do: a stream that says nothing holds no buffer
		err := c.piece(to, from)
		if err == io.EOF {
			return to.Flush()
		}
		if err != nil {
			return err
		}
	}
}

// piece passes one piece on. It returns io.EOF behind the last.
func (c *Custodian) piece(to *guard.Stream, from io.Reader) error {
	buf := c.pieces.Get().(*[pieceSize]byte)
	defer c.pieces.Put(buf)
	n, err := from.Read(buf[:])
	defer clear(buf[:n]) // what the guard withheld stays nowhere
	if n > 0 {
		if _, err := to.Write(buf[:n]); err != nil {
			return err
		}
	}
	if err != nil && err != io.EOF {
		return fmt.Errorf("reading the upstream's answer: %w", err)
	}
	return err
}

// passed counts what goes to the gateway. A gateway that leaves a piece unread for too long is cut: it must not keep an
// outcome from being written.
type passed struct {
	u       *use
	answer  Answer
	clock   func() time.Time
	stalled *time.Timer
}

func (p *passed) Write(b []byte) (int, error) {
	p.stalled.Reset(stall)
	defer p.stalled.Stop()
	if x := p.u.slot.Add(int64(len(b)), p.clock()); x != nil {
		return 0, &overrun{x}
	}
	n, err := p.answer.Write(b)
	p.u.outcome.bytes += int64(n)
	return n, err
}

// overrun is an answer that went past a bound of the signed policy.
type overrun struct{ *ceiling.Excess }

func (o *overrun) Error() string {
	return "the workload has reached its signed ceiling (" + o.Bound + "); wait, or have the unit's policy owner raise it"
}

// contentType is what the guard takes the body for. An answer to a request for a stream is searched as events, whatever the
// upstream calls it: clients read it as that.
func (u *use) contentType(header []hop.Field) string {
	if u.ask.Stream {
		return "text/event-stream"
	}
	for _, f := range header {
		if strings.EqualFold(f.Name, "Content-Type") {
			return f.Value
		}
	}
	return ""
}
