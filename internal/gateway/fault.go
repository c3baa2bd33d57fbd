package gateway

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/reevehq/reeve/internal/gateway/dialect"
	"github.com/reevehq/reeve/internal/hop"
	"github.com/reevehq/reeve/internal/pop"
	"github.com/reevehq/reeve/internal/workload"
)

// gone is a fault of a client that went away: nobody reads it, but the access log.
const gone = "client_gone"

// hopFault says to a client what the hop said to the gateway.
func hopFault(err error) *dialect.Fault {
	var r *hop.Refusal
	switch {
	case errors.As(err, &r):
		return refusalFault(r)
	case errors.Is(err, context.Canceled):
		return &dialect.Fault{Status: 499, Code: gone, Message: "The client went away."}
	case errors.Is(err, context.DeadlineExceeded):
		return &dialect.Fault{Status: http.StatusGatewayTimeout, Code: "upstream_timeout",
			Message: "The upstream did not answer in time. Whether it acted on the request is not known."}
	case errors.Is(err, hop.ErrUnavailable):
		return &dialect.Fault{Status: http.StatusServiceUnavailable, Code: "custodian_unavailable", RetryAfter: 1,
			Message: "The gateway cannot reach its custodian. Nothing was sent. Try again shortly; operators see reeve status."}
	}
	return &dialect.Fault{Status: http.StatusServiceUnavailable, Code: "custodian_broken", RetryAfter: 1,
		Message: "The custodian broke off before an answer came. Whether the upstream acted on the request is not known; the ledger says whether it was sent."}
}

// refusalFault maps the custodian's refusal. What is refused for good is said to be final, so that clients do not retry it.
func refusalFault(r *hop.Refusal) *dialect.Fault {
	f := &dialect.Fault{Status: r.Status, Code: r.Code, Message: r.Message, RetryAfter: r.RetryAfter, Receipt: r.Receipt, Nonce: r.Nonce}
	if f.Status < 400 || f.Status > 599 {
		f.Status = http.StatusBadGateway
	}
	switch f.Status {
	case http.StatusRequestTimeout, http.StatusTooEarly:
	default:
		f.Final = f.Status < 500 && f.RetryAfter == 0
	}
	return f
}

// proofFault says why a workload's proof was not accepted.
func proofFault(err error) *dialect.Fault {
	f := &dialect.Fault{Status: http.StatusUnauthorized, Code: "unauthenticated", Final: true}
	switch {
	case errors.Is(err, workload.ErrKeys):
		f.Status, f.Code, f.Final, f.RetryAfter = http.StatusServiceUnavailable, "issuer_unreachable", false, 2
		f.Message = "The token cannot be verified now: " + err.Error() + ". Nothing was sent. Operators see in the gateway's log why the issuer does not answer."
	case errors.Is(err, workload.ErrExpired):
		f.Message = "This workload key or token has expired. Ask the unit's policy owner for a new key (reeve workload key issue), or get a new token."
	case errors.Is(err, workload.ErrRevoked):
		f.Message = "This workload key was revoked. Ask the unit's policy owner why, and for a new one."
	case errors.Is(err, workload.ErrBound), errors.Is(err, workload.ErrSignature), errors.Is(err, pop.ErrMalformed), errors.Is(err, pop.ErrTime), errors.Is(err, pop.ErrSignature):
		f.Message = "The workload's proof was not accepted: " + err.Error() + ". Nothing was sent. docs/formats/proof.md says how a request is signed; reeve sidecar does it."
	default:
		f.Message = "Incorrect API key provided: this gateway knows no workload with this key or token. Workload keys begin with rv_; a token must be of an issuer, audience and subject that the charter names. A provider's own key does not work here."
	}
	return f
}

// unread is how long a client may take to send the rest of a request that is answered already.
const unread = 2 * time.Second

// refuse answers with a fault in the client's dialect.
func (c *call) refuse(f *dialect.Fault) {
	f.RequestID = c.id
	c.code = f.Code
	c.g.refusals.count(c, f)
	if f.Code == gone {
		c.status = f.Status
		return
	}
	h := c.w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set(refusalField, f.Code)
	if c.dialect.Name() == "anthropic" {
		h.Set("Request-Id", c.id) // where Anthropic's SDKs look for it
	}
	if f.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(f.RetryAfter))
	}
	if f.Final {
		h.Set("X-Should-Retry", "false") // honoured by OpenAI's and Anthropic's SDKs
	}
	if f.Receipt != "" {
		h.Set(receiptField, f.Receipt)
		c.receipt = f.Receipt
	}
	if f.Nonce != "" {
		h.Set(nonceField, f.Nonce)
	}
	if f.Allow != "" {
		h.Set("Allow", f.Allow)
	}
	c.answerWith(f.Status, c.dialect.Error(f))
}

// answerWith sends a whole answer of the gateway's own.
func (c *call) answerWith(status int, body []byte) {
	c.deadline()
	if c.r.Body != http.NoBody && !c.read {
		c.readBy(time.Now().Add(unread)) // net/http reads on for a while, so that the connection can be used again
	}
	c.w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	c.status = status
	c.w.WriteHeader(status)
	if c.r.Method != http.MethodHead {
		n, _ := c.w.Write(body) // a client that does not read its error has gone
		c.out += int64(n)
	}
}

// clip shortens what a client sent before it goes into a message.
func clip(s string) string {
	const most = 100
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
