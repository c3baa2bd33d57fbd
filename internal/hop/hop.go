// Package hop is the protocol between gateway and custodian, both ends: length-prefixed multiplexed frames with per-stream flow
// control over a few Unix sockets, or inside mutual TLS 1.3 to another host. docs/formats/hop.md has the format.
//
// A stream is one request and its answer. Request bodies are whole in memory on both ends; answers flow, and each Write of
// the custodian reaches the gateway at once. A stream ends cleanly only by an END frame: whatever else ends it is ErrBroken.
package hop

import (
	"cmp"
	"errors"
	"fmt"
	"io"

	"github.com/reevehq/reeve/internal/workload"
)

// Field is one header field. Names keep the case they were sent in. CR, LF and NUL are refused in both.
type Field struct{ Name, Value string }

// Open asks the custodian for one upstream request. It names a credential, never a host.
type Open struct {
	RequestID  string
	Credential string
	Method     string
	Path       string // public path with query, the exact bytes; the custodian maps it to the provider's path
	URL        string // public URL that the client used
	Header     []Field
	Proof      workload.Proof // Value has memory of its own: the custodian may wipe it
	Asserted   []Field        // attributes that only the gateway vouches for
	Body       []byte         // sent as BODY frames; whole in memory on both ends, bounded by Limits.Body
	Free       func()         `json:"-"` // lends Body's memory to another request, and sets Body to nil: nobody may read it any more. Nil where it was not lent
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
	Status     int    // HTTP status that fits, 400 to 599
	Message    string // what happened, what it means, what to do: safe to show to the client
	Receipt    string // Reeve-Receipt of the denial entry, or empty
	RetryAfter int    // seconds, 0 for none
	Nonce      string // Reeve-Nonce for the next signed request, or empty
	Sent       bool   // the request, or a part of it, went to the upstream
}

func (r *Refusal) Error() string { return r.Code + ": " + r.Message }

var (
	// ErrBroken is a stream that ended before its end: never to be shown to a client as a clean end. What the upstream did
	// is not known.
	ErrBroken = errors.New("stream broken off")
	// ErrUnavailable means that no custodian could be reached, or that it did not take the stream up: nothing was sent.
	ErrUnavailable = errors.New("custodian unavailable")
	// ErrTooLarge means that a header, a trailer or a refusal is beyond Limits and was not sent.
	ErrTooLarge = errors.New("hop: beyond the limits of one frame")
)

// Limits bound what one end sends and accepts; both ends must have the same Header and Fields. Zero values take the default given.
// Of Streams, Conns and Memory each gateway has its share of a server's, as of lend.Fair: three quarters while it is alone.
type Limits struct {
	Streams int // streams in flight, over all connections: 16384. Above it: overloaded, 503
	Conns   int // connections that a server keeps: 256
	Body    int // bytes of one request body: 32 MiB, at most 256 MiB. Above it: too_large, 413
	Memory  int // bytes of all requests in flight at a server, with their headers: 512 MiB. Above it: overloaded, 503
	Header  int // bytes of one OPEN, HEAD, TRAILER, ERROR or GOAWAY payload: 128 KiB, at most 16 MiB
	Fields  int // header fields in one list: 256
	Window  int // bytes of one answer that a client holds unread: 256 KiB, at most 256 MiB
}

func (l Limits) withDefaults() Limits {
	return Limits{
		Streams: cmp.Or(l.Streams, 16384),
		Conns:   cmp.Or(l.Conns, 256),
		Body:    min(cmp.Or(l.Body, 32<<20), maxNumber),
		Memory:  cmp.Or(l.Memory, 512<<20),
		Header:  min(cmp.Or(l.Header, 128<<10), 1<<24-1),
		Fields:  cmp.Or(l.Fields, 256),
		Window:  min(cmp.Or(l.Window, 256<<10), maxNumber),
	}
}

func overloaded(what string) *Refusal {
	return &Refusal{Code: "overloaded", Status: 503, RetryAfter: 1,
		Message: what + ". Nothing was sent. Try again shortly; if it stays, raise the limit or add a process."}
}

func tooLarge(what string, size, limit int) *Refusal {
	return &Refusal{Code: "too_large", Status: 413,
		Message: fmt.Sprintf("%s has %d bytes and at most %d are taken. Nothing was sent. Send less, or raise the limit.", what, size, limit)}
}
