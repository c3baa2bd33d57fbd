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
	// maxBody bounds a request, maxAnswer a response, in bytes; maxProof is the specification's bound on proof lines.
	maxBody   = 64 << 10
	maxAnswer = 64 << 10
	maxProof  = 63
	sizeType  = "text/x.tlog.size"
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

// Checkpoint is the text of a checkpoint, parsed.
type Checkpoint struct {
	Origin string
	Tree   tlog.Tree
	Text   string // all of it, extension lines included; what is signed
}

// ParseCheckpoint parses a checkpoint's text (a signed note's, without the signatures).
func ParseCheckpoint(text string) (*Checkpoint, error) {
	lines := strings.SplitN(text, "\n", 4)
	if len(lines) != 4 || lines[0] == "" {
		return nil, fmt.Errorf("%w: not a checkpoint", ErrMalformed)
	}
	size, err := parseSize(lines[1])
	root, err2 := tlog.ParseHash(lines[2])
	if err != nil || err2 != nil {
		return nil, fmt.Errorf("%w: checkpoint has size %q and root %q", ErrMalformed, lines[1], lines[2])
	}
	return &Checkpoint{lines[0], tlog.Tree{N: size, Hash: root}, text}, nil
}

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

// ParseRequest parses a request body.
func ParseRequest(body []byte) (*Request, error) {
	head, signed, ok := bytes.Cut(body, []byte("\n\n"))
	lines := strings.Split(string(head), "\n")
	old, isOld := strings.CutPrefix(lines[0], "old ")
	size, err := parseSize(old)
	if !ok || !isOld || err != nil || len(lines) > 1+maxProof || len(body) > maxBody {
		return nil, fmt.Errorf("%w: want an old size, at most %d hashes, an empty line and a checkpoint", ErrMalformed, maxProof)
	}
	r := &Request{Old: size, Note: signed}
	for _, line := range lines[1:] {
		h, err := tlog.ParseHash(line)
		if err != nil || h.String() != line {
			return nil, fmt.Errorf("%w: proof line %q", ErrMalformed, line)
		}
		r.Proof = append(r.Proof, h)
	}
	if size == 0 && r.Proof != nil {
		return nil, fmt.Errorf("%w: a proof from size 0", ErrMalformed)
	}
	return r, nil
}

// Origin is the unverified first line of the request's checkpoint: it says which log's state to take.
func (r *Request) Origin() string {
	origin, _, _ := bytes.Cut(r.Note, []byte("\n"))
	return string(origin)
}

// Check makes the protocol's checks: the checkpoint is the log's, signed by one of its keys, and consistent with last, the
// tree that the witness last cosigned (the zero Tree before the first). A witness with further conditions applies them next.
func (r *Request) Check(origin string, keys note.Verifiers, last tlog.Tree) (*Checkpoint, error) {
	n, err := note.Open(r.Note, keys)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrSignature, err)
	}
	c, err := ParseCheckpoint(n.Text)
	switch {
	case err != nil:
		return nil, err
	case c.Origin != origin:
		return nil, fmt.Errorf("%w: %q", ErrUnknownLog, c.Origin)
	case r.Old > c.Tree.N:
		return nil, fmt.Errorf("%w: old size %d is beyond the checkpoint's %d", ErrMalformed, r.Old, c.Tree.N)
	case r.Old != last.N, last.N == c.Tree.N && last.N > 0 && last.Hash != c.Tree.Hash:
		return nil, &ledger.ConflictError{Size: last.N}
	case last.N == 0 || last.N == c.Tree.N:
		if len(r.Proof) > 0 {
			return nil, fmt.Errorf("%w: a proof where none is needed", ErrInconsistent)
		}
		return c, nil
	}
	if err := tlog.CheckTree(r.Proof, c.Tree.N, c.Tree.Hash, last.N, last.Hash); err != nil {
		return nil, fmt.Errorf("%w: from %d to %d", ErrInconsistent, last.N, c.Tree.N)
	}
	return c, nil
}

// Client submits checkpoints to one witness. It is a ledger.Witness.
type Client struct {
	URL  string                // submission prefix
	Keys func() note.Verifiers // the charter's witness keys now, from Verifiers; cosignatures by other keys are ignored
	HTTP *http.Client          // with a timeout; default http.DefaultClient
}

// Cosign implements ledger.Witness: it submits a signed checkpoint with the consistency proof from oldSize, and returns
// the witness's verified signature lines, a *ledger.ConflictError or one of this package's errors.
func (c *Client) Cosign(ctx context.Context, oldSize int64, checkpoint []byte, proof []tlog.Hash) ([]byte, error) {
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
	var lines []byte
	for _, sig := range n.Sigs {
		lines = fmt.Appendf(lines, "— %s %s\n", sig.Name, sig.Base64)
	}
	return lines, nil
}

// refusal maps an answer to this package's error.
func refusal(resp *http.Response, answer []byte) error {
	text := strings.TrimSpace(string(answer[:min(len(answer), 300)]))
	if resp.StatusCode == http.StatusConflict && resp.Header.Get("Content-Type") == sizeType {
		if size, err := parseSize(text); err == nil {
			return &ledger.ConflictError{Size: size}
		}
	}
	for _, e := range []error{ErrMalformed, ErrSignature, ErrUnknownLog, ErrInconsistent} {
		if status(e) == resp.StatusCode {
			return fmt.Errorf("%w: %q", e, text)
		}
	}
	return fmt.Errorf("%w: %s: %q", ErrNotYet, resp.Status, text)
}

// Handler serves add-checkpoint below its submission prefix. add returns signature lines, a *ledger.ConflictError or one of this package's errors.
func Handler(add func(context.Context, *Request) ([]byte, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		var req *Request
		if err != nil {
			err = fmt.Errorf("%w: %v", ErrMalformed, err)
		} else {
			req, err = ParseRequest(body)
		}
		var lines []byte
		if err == nil {
			lines, err = add(r.Context(), req)
		}
		var conflict *ledger.ConflictError
		switch {
		case err == nil:
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			w.Write(lines)
		case errors.As(err, &conflict):
			w.Header().Set("Content-Type", sizeType)
			w.WriteHeader(http.StatusConflict)
			fmt.Fprintf(w, "%d\n", conflict.Size)
		default:
			http.Error(w, err.Error(), status(err))
		}
	})
}

func status(err error) int {
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

// parseSize parses a decimal without leading zeroes.
func parseSize(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || strconv.FormatInt(n, 10) != s {
		return 0, fmt.Errorf("%w: size %q", ErrMalformed, s)
	}
	return n, nil
}
