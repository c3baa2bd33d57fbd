// Package hop is the protocol between gateway and custodian, both ends: length-prefixed multiplexed frames with per-stream flow
// control over a few Unix sockets. docs/formats/hop.md has the format.
package hop

import (
	"context"
	"errors"
	"io"

	"github.com/reevehq/reeve/internal/workload"
)

// Field is one header field. Names keep the case they were sent in.
type Field struct{ Name, Value string }

// Open asks the custodian for one upstream request. It names a credential, never a host.
type Open struct {
	RequestID  string
	Credential string
	Method     string
	Path       string // public path with query, the exact bytes; the custodian maps it to the provider's path
	URL        string // public URL that the client used
	Header     []Field
	Proof      workload.Proof
	Asserted   []Field // attributes that only the gateway vouches for
	Body       []byte  // sent as BODY frames; whole in memory on both ends, bounded by Limits.Body
}

// Response is the custodian's answer, from the upstream or its own refusal.
type Response struct {
	Status  int
	Header  []Field
	Body    io.ReadCloser  // Read returns ErrBroken wrapped when the upstream or the custodian broke off; Close before EOF sends CANCEL
	Trailer func() []Field // after Body returned io.EOF
}

// Refusal is a typed error of the custodian: nothing was sent upstream unless Sent.
type Refusal struct {
	Code       string // stable word, such as policy_denied, unauthenticated, ceiling, frozen, stale, ledger, upstream_unreachable
	Status     int    // HTTP status that fits
	Message    string // what happened, what it means, what to do: safe to show to the client
	Receipt    string // Reeve-Receipt of the denial entry, or empty
	RetryAfter int    // seconds, 0 for none
}

func (r *Refusal) Error() string { return r.Code + ": " + r.Message }

// ErrBroken is a stream that ended before its end: never to be shown to a client as a clean end.
var ErrBroken = errors.New("stream broken off")

// ErrUnavailable means that no custodian could be reached: nothing was sent.
var ErrUnavailable = errors.New("custodian unavailable")

// Client is a gateway's end: a few connections, many streams. Safe for concurrent use.
type Client struct{}

// Do sends the request and returns when the response's head is there. The error is a *Refusal, ErrUnavailable or ctx's.
// Cancelling ctx sends CANCEL.
func (c *Client) Do(ctx context.Context, o *Open) (*Response, error) { return nil, ErrUnavailable }

// Peer is who is at the other end of a connection, as the kernel or TLS says.
type Peer struct {
	UID, PID int
	Name     string // gateway id from the server's configuration
}

// Handler serves one stream on the custodian's side. It runs in a goroutine of its own; ctx ends when the peer cancels or
// goes away. It calls w.Refuse, or w.Head and then w.Write until w.End; returning without End breaks the stream off.
type Handler func(ctx context.Context, peer Peer, o *Open, w *Writer)

// Writer answers one stream.
type Writer struct{}

// Head sends status and header fields.
func (w *Writer) Head(status int, header []Field) error { return ErrBroken }

// Write sends body bytes, blocking on the peer's window. Each Write reaches the peer without delay.
func (w *Writer) Write(p []byte) (int, error) { return 0, ErrBroken }

// End ends the body cleanly, with trailers if any.
func (w *Writer) End(trailer []Field) error { return ErrBroken }

// Break ends the stream as broken off.
func (w *Writer) Break(reason string) {}

// Refuse answers with a typed error; only before Head.
func (w *Writer) Refuse(r *Refusal) error { return ErrBroken }
