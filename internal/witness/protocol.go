package witness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/reevehq/reeve/internal/ledger"
)

const (
	maxAnswer = 64 << 10 // bytes of a response

	// SizeType is the content type of a 409 that names a size.
	SizeType = "text/x.tlog.size"
)

// What a witness says to a checkpoint that it does not cosign, each with the HTTP status that the specification gives it.
// The remaining one, 409, is a *ledger.ConflictError: the old size, or the root of that size, is not what was last cosigned.
var (
	ErrMalformed    = errors.New("malformed request")                                         // 400
	ErrSignature    = errors.New("not signed by a key that the witness trusts for the log")   // 403
	ErrUnknownLog   = errors.New("the witness does not know the log")                         // 404
	ErrInconsistent = fmt.Errorf("the consistency proof does not hold: %w", ledger.ErrForked) // 422
	ErrNotYet       = errors.New("the witness cannot check the leaves now")                   // 503
)

// Request is the body of add-checkpoint.
type Request struct {
	Old   int64          // size that the witness last cosigned, as far as the log knows
	Proof tlog.TreeProof // from Old to the checkpoint's size; empty when Old is 0
	Note  []byte         // the signed checkpoint
}

// Encode returns the request body.
func (r *Request) Encode() []byte {
	b := fmt.Appendf(nil, "old %d\n", r.Old)
	for _, h := range r.Proof {
		b = fmt.Appendf(b, "%s\n", h)
	}
	return append(append(b, '\n'), r.Note...)
}

// Client submits checkpoints to one witness. It is a ledger.Witness.
type Client struct {
	URL  string                // submission prefix
	Keys func() note.Verifiers // the charter's witness keys now, from Verifiers; cosignatures by other keys are ignored
	HTTP *http.Client          // with a timeout; default http.DefaultClient
}

// Cosign implements ledger.Witness: it submits a signed checkpoint with the consistency proof from oldSize, and returns
// the witness's verified cosignatures, a *ledger.ConflictError or one of this package's errors.
func (c *Client) Cosign(ctx context.Context, oldSize int64, checkpoint []byte, proof []tlog.Hash) ([]note.Signature, error) {
	body := (&Request{oldSize, proof, checkpoint}).Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(c.URL, "/")+"/add-checkpoint", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	hc := c.HTTP
	if hc == nil {
		hc = http.DefaultClient
	}
	resp, err := hc.Do(req)
	if err != nil {
		return nil, fmt.Errorf("asking witness %s: %w", c.URL, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil || len(answer) > maxAnswer {
		return nil, fmt.Errorf("asking witness %s: answer of %d bytes: %w", c.URL, len(answer), errors.Join(err, ErrNotYet))
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("witness %s: %w", c.URL, refusal(resp, answer))
	}
	// Opened afresh, the checkpoint's text with the answer's lines alone: what the log signed does not count here.
	text, _, _ := bytes.Cut(checkpoint, []byte("\n\n"))
	n, err := note.Open(append(append(bytes.Clone(text), "\n\n"...), answer...), c.Keys())
	if err != nil {
		return nil, fmt.Errorf("witness %s: its cosignature does not verify: %w", c.URL, err)
	}
	return n.Sigs, nil
}

// refusal maps an answer to this package's error.
func refusal(resp *http.Response, answer []byte) error {
	text := strings.TrimSpace(string(answer[:min(len(answer), 300)]))
	if resp.StatusCode == http.StatusConflict && resp.Header.Get("Content-Type") == SizeType {
		if size, err := ParseSize(text); err == nil {
			return &ledger.ConflictError{Size: size}
		}
	}
	for _, e := range []error{ErrMalformed, ErrSignature, ErrUnknownLog, ErrInconsistent} {
		if Status(e) == resp.StatusCode {
			return fmt.Errorf("%w: %q", e, text)
		}
	}
	return fmt.Errorf("%w: %s: %q", ErrNotYet, resp.Status, text)
}

// Status is the HTTP status that the specification gives an error of this package, 503 for any other.
func Status(err error) int {
	switch {
	case errors.Is(err, ErrMalformed):
		return http.StatusBadRequest
	case errors.Is(err, ErrSignature):
		return http.StatusForbidden
	case errors.Is(err, ErrUnknownLog):
		return http.StatusNotFound
	case errors.Is(err, ErrInconsistent):
		return http.StatusUnprocessableEntity
	}
	return http.StatusServiceUnavailable
}

// ParseSize parses a decimal without leading zeroes.
func ParseSize(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || strconv.FormatInt(n, 10) != s {
		return 0, fmt.Errorf("%w: size %q", ErrMalformed, s)
	}
	return n, nil
}
