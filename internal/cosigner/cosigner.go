package cosigner

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/internal/witness"
)

// Bounds of a request: bytes, and the specification's of proof lines.
const (
	maxBody  = 64 << 10
	maxProof = 63
)

// Request is what a log asks: a witness.Request.
type Request struct{ witness.Request }

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
		return nil, fmt.Errorf("%w: not a checkpoint", witness.ErrMalformed)
	}
	size, err := witness.ParseSize(lines[1])
	root, err2 := tlog.ParseHash(lines[2])
	if err != nil || err2 != nil {
		return nil, fmt.Errorf("%w: checkpoint has size %q and root %q", witness.ErrMalformed, lines[1], lines[2])
	}
	return &Checkpoint{lines[0], tlog.Tree{N: size, Hash: root}, text}, nil
}

// ParseRequest parses a request body.
func ParseRequest(body []byte) (*Request, error) {
	head, signed, ok := bytes.Cut(body, []byte("\n\n"))
	lines := strings.Split(string(head), "\n")
	old, isOld := strings.CutPrefix(lines[0], "old ")
	size, err := witness.ParseSize(old)
	if !ok || !isOld || err != nil || len(lines) > 1+maxProof || len(body) > maxBody {
		return nil, fmt.Errorf("%w: want an old size, at most %d hashes, an empty line and a checkpoint", witness.ErrMalformed, maxProof)
	}
	r := &Request{witness.Request{Old: size, Note: signed}}
	for _, line := range lines[1:] {
		h, err := tlog.ParseHash(line)
		if err != nil || h.String() != line {
			return nil, fmt.Errorf("%w: proof line %q", witness.ErrMalformed, line)
		}
		r.Proof = append(r.Proof, h)
	}
	if size == 0 && r.Proof != nil {
		return nil, fmt.Errorf("%w: a proof from size 0", witness.ErrMalformed)
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
		return nil, fmt.Errorf("%w: %v", witness.ErrSignature, err)
	}
	c, err := ParseCheckpoint(n.Text)
	switch {
	case err != nil:
		return nil, err
	case c.Origin != origin:
		return nil, fmt.Errorf("%w: %q", witness.ErrUnknownLog, c.Origin)
	case r.Old > c.Tree.N:
		return nil, fmt.Errorf("%w: old size %d is beyond the checkpoint's %d", witness.ErrMalformed, r.Old, c.Tree.N)
	case r.Old != last.N, last.N == c.Tree.N && last.N > 0 && last.Hash != c.Tree.Hash:
		return nil, &ledger.ConflictError{Size: last.N}
	case last.N == 0 || last.N == c.Tree.N:
		if len(r.Proof) > 0 {
			return nil, fmt.Errorf("%w: a proof where none is needed", witness.ErrInconsistent)
		}
		return c, nil
	}
	if err := tlog.CheckTree(r.Proof, c.Tree.N, c.Tree.Hash, last.N, last.Hash); err != nil {
		return nil, fmt.Errorf("%w: from %d to %d", witness.ErrInconsistent, last.N, c.Tree.N)
	}
	return c, nil
}

// Handler serves add-checkpoint below its submission prefix. add returns signature lines, a *ledger.ConflictError or one of this package's errors.
func Handler(add func(context.Context, *Request) ([]byte, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		var req *Request
		if err != nil {
			err = fmt.Errorf("%w: %v", witness.ErrMalformed, err)
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
			w.Header().Set("Content-Type", witness.SizeType)
			w.WriteHeader(http.StatusConflict)
			fmt.Fprintf(w, "%d\n", conflict.Size)
		default:
			http.Error(w, err.Error(), witness.Status(err))
		}
	})
}
