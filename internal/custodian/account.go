package custodian

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/closing"
	"github.com/reevehq/reeve/internal/custodian/ceiling"
	"github.com/reevehq/reeve/internal/custodian/egress"
	"github.com/reevehq/reeve/internal/hop"
	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/internal/statement"
)

// deny writes the denial and returns it as the gateway gets it.
func (c *Custodian) deny(u *use, no *refusal) *hop.Refusal {
	quiet := no.quiet || no.claimed && !c.tally.few(u.start)
	if !quiet {
		x, many := u.view.ceilings.Denied(u.who.Workload, no.counts, u.start)
		if x != nil {
			no = c.exceed(u, x)
		}
		quiet = quiet || no.quiet || many
	}
	c.meters.denials.Of(no.word()).Inc()
	if quiet {
		c.tally.add(no.word(), u)
		return no.hop("")
	}
	e := u.entry(entry.Deny)
	e.Decision, e.Reason = "deny", no.word()
	d, err := c.Ledger.Append(e, u.payload(nil))
	if err != nil {
		return c.unwritten(u, err)
	}
	c.access(u, d, no.word())
	return no.hop(d.Receipt())
}

// unwritten refuses what could not be accounted for.
func (c *Custodian) unwritten(u *use, err error) *hop.Refusal {
	if errors.Is(err, ledger.ErrActors) {
		no := refuseActors()
		c.meters.denials.Of(no.word()).Inc()
		c.tally.add(no.word(), u)
		return no.hop("")
	}
	c.Log.Error("nothing can be written to the ledger, so nothing is used", "request", clip(u.open.RequestID, maxName), "error", err)
	no := refuseLedger()
	c.meters.denials.Of(no.word()).Inc()
	return no.hop("")
}

// unsent ends a use between its intent and the sending.
func (u *use) unsent(no *refusal) *hop.Refusal {
	u.outcome.reason = "not_sent_" + no.word()
	return no.hop(u.intent.Receipt())
}

// unanswered ends a use whose request got no answer. The outcome says whether a part of it may have left.
func (c *Custodian) unanswered(ctx context.Context, u *use, err error) *hop.Refusal {
	sent, prefix := !errors.Is(err, egress.ErrNotSent), "not_sent_"
	if sent {
		prefix = "sent_"
	}
	var closed *closing.Closed
	cause := context.Cause(ctx)
	no := refuseUpstream(sent)
	switch {
	case errors.As(cause, &closed):
		no = refuseClosed(closed)
	case errors.Is(cause, closing.ErrCut):
		no = refusePolicy("narrowed")
	case cause != nil:
		no = &refusal{code: "client_gone", status: 499, message: "The request was cancelled."}
	default:
		c.Log.Warn("an upstream did not answer", "credential", u.Credential, "request", clip(u.open.RequestID, maxName), "sent", sent, "error", err)
	}
	u.outcome.reason = prefix + no.word()
	answer := no.hop(u.intent.Receipt())
	answer.Sent = sent
	return answer
}

// finish leaves an outcome behind every durable intent, also when the way out is a panic.
func (c *Custodian) finish(u *use, answer Answer) {
	if p := recover(); p != nil {
		c.Log.Error("a request met a fault in the custodian", "request", clip(u.open.RequestID, maxName), "fault", fault(p), "stack", string(debug.Stack()))
		u.outcome.reason = "panic"
		c.alarm(u.entry(entry.Alarm), "panic")
		if !u.intent.Valid() {
			answer.Refuse(refuseFault().hop(""))
		}
		answer.Break("The custodian met a fault of its own.")
	}
	u.slot.Leave()
	if u.secret != nil {
		u.secret.Leave()
	}
	if !u.intent.Valid() {
		return
	}
	c.meters.outcomes.Of(u.outcome.reason).Inc()
	c.note(&entry.Entry{
		Type: entry.Outcome, Tenant: u.who.Tenant, Unit: u.who.Unit, Workload: u.who.Workload, Gateway: u.Gateway, Credential: u.Credential,
		Estate: u.view.lock, HasIntent: true, IntentSeq: u.intent.Seq(), IntentLog: u.intent.Log(), Status: u.outcome.status, Bytes: u.outcome.bytes, Reason: u.outcome.reason,
	})
	c.access(u, u.intent, u.outcome.reason)
}

// access writes a line for people who look for a request, by the id that the gateway's log has too. Denials that are only counted have
// none: a log must not grow faster than the ledger.
func (c *Custodian) access(u *use, d ledger.Durable, reason string) {
	c.Journal.Begin("use").
		Text("request_id", clip(u.open.RequestID, maxName)).
		Text("gateway", u.Gateway).
		Text("workload", u.who.Workload).
		Text("credential", u.Credential).
		Text("reason", reason).
		Int("status", int64(u.outcome.status)).
		Int("out", u.outcome.bytes).
		Int("us", c.Clock().Sub(u.start).Microseconds()).
		Int("seq", d.Seq()).
		End()
}

// exceed answers an excess: an alarm for the first in a minute, a freeze where policy asks for it. Further ones are counted.
func (c *Custodian) exceed(u *use, x *ceiling.Excess) *refusal {
	if x.First {
		c.alarm(u.entry(entry.Alarm), "ceiling_"+x.Bound)
	}
	if x.Freeze && c.Gate.State().Of(&u.Use) == nil {
		c.Close(closing.Closed{Target: statement.Target{Kind: closing.Workload, ID: u.who.Workload}, Reason: "ceiling " + x.Bound, By: "ceiling", Time: c.Clock()})
	}
	no := refuseExcess(x)
	no.quiet = !x.First
	return no
}

// reflected answers an upstream that sent the secret back.
func (c *Custodian) reflected(u *use) {
	c.alarm(u.entry(entry.Alarm), "reflected")
	if u.credential.OnReflection == "freeze" {
		c.Close(closing.Closed{Target: statement.Target{Kind: closing.Credential, ID: u.Credential}, Reason: "the upstream sent the secret back", By: "guard", Time: c.Clock()})
	}
}

// Alarm writes down what a person should look at.
func (c *Custodian) Alarm(reason string) {
	c.alarm((&use{view: c.view.Load(), age: c.News()}).entry(entry.Alarm), reason)
}

func (c *Custodian) alarm(e *entry.Entry, reason string) {
	e.Reason = reason
	c.meters.alarms.Of(reason).Inc()
	c.Log.Warn("alarm", "reason", reason, "workload", e.Workload, "credential", e.Credential, "gateway", e.Gateway)
	c.note(e)
}

// note writes an entry that gates nothing.
func (c *Custodian) note(e *entry.Entry) {
	if err := c.Ledger.Enqueue(e, false); err != nil {
		c.meters.lost.Inc()
		c.Log.Error("an entry could not be written", "type", e.Type, "reason", e.Reason, "error", err)
	}
}

// fault describes a panic without values that it may have met.
func fault(p any) string {
	if err, ok := p.(interface{ RuntimeError() }); ok {
		return fmt.Sprint(err)
	}
	return fmt.Sprintf("%T", p)
}

// milliseconds is an age as entries have it: -1 when it is unknown.
func milliseconds(age time.Duration) int64 {
	if age < 0 {
		return -1
	}
	return age.Milliseconds()
}
