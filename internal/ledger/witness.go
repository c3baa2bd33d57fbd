package ledger

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Witness cosigns checkpoints (C2SP tlog-witness).
type Witness interface {
	// Cosign asks for a cosignature on checkpoint, a signed note. proof shows that it extends the tree of oldSize entries,
	// the last size that this witness is known to have. It returns its cosignatures after it has verified them. A witness that knows another size answers with a *ConflictError, one that knows another history with
	// an error that wraps ErrForked.
	Cosign(ctx context.Context, oldSize int64, checkpoint []byte, proof []tlog.Hash) ([]note.Signature, error)
}

// ErrForked means that what a witness has seen of a log is not the beginning of what it was shown.
var ErrForked = errors.New("the witness has seen another history of this log")

// ConflictError is a witness's answer that the last size it has seen is not the one it was told (HTTP status 409).
type ConflictError struct{ Size int64 }

func (e *ConflictError) Error() string { return fmt.Sprintf("the witness has seen %d entries", e.Size) }

const (
	cosignTimeout = 10 * time.Second       // bounds one round of witnesses
	cosignGrace   = 250 * time.Millisecond // what the others get after enough have answered
)

// cosign asks every witness at once and counts distinct keys. Enough answers end the round soon: a witness that is slow
// or away does not hold up the others.
func (p *publisher) cosign(ctx context.Context, l *Log) error {
	n := len(l.cfg.Witnesses)
	if p.asked && p.cosigned.Load() == p.signed.N {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, cosignTimeout)
	defer cancel()
	type answer struct {
		sigs []note.Signature
		err  error
	}
	answers := make(chan answer, n)
	for i, w := range l.cfg.Witnesses {
		go func() {
			sigs, err := p.ask(ctx, w, &p.known[i])
			answers <- answer{sigs, err}
		}()
	}
	raw, keys := p.signed.raw[:len(p.signed.raw):len(p.signed.raw)], map[string]bool{}
	var problem error
	claims := 0
	for range n {
		a := <-answers
		problem = errors.Join(problem, a.err)
		if errors.Is(a.err, ErrRolledBack) {
			claims++
		}
		for _, sig := range a.sigs {
			if key := fmt.Sprintf("%s+%08x", sig.Name, sig.Hash); !keys[key] {
				keys[key] = true
				raw = fmt.Appendf(raw, "— %s %s\n", sig.Name, sig.Base64)
				break // one for each witness
			}
		}
		if len(keys) >= l.cfg.Need {
			time.AfterFunc(cosignGrace, cancel)
		}
	}
	if int64(claims) > p.disputed.Swap(int64(claims)) {
		l.cfg.Logger.Error("a witness says that it has seen more of this log, or another history: it lies, or an older copy was restored", "witnesses", claims, "err", problem)
	}
	switch {
	case len(keys) >= l.cfg.Need:
		p.asked = true
		return p.settle(l, raw, problem)
	case claims > n-l.cfg.Need: // the others are too few to ever cosign what is here
		return problem
	}
	p.say(fmt.Errorf("%d of %d cosignatures: %w", len(keys), l.cfg.Need, problem))
	return nil
}

// ask gets one witness's cosignature. known is the size that it has; a conflict corrects it once.
func (p *publisher) ask(ctx context.Context, w Witness, known *int64) ([]note.Signature, error) {
	for try := 0; ; try++ {
		proof, err := p.prove(*known)
		if err != nil {
			return nil, err
		}
		sigs, err := w.Cosign(ctx, *known, p.signed.raw, proof)
		var conflict *ConflictError
		if err == nil {
			*known = p.signed.N
			return sigs, nil
		}
		isConflict := errors.As(err, &conflict)
		switch {
		case errors.Is(err, ErrForked), isConflict && (conflict.Size > p.signed.N || conflict.Size == *known && try > 0):
			return nil, fmt.Errorf("%w: %s has %d entries on this disk, but a witness has seen more of it, or others (%w); an older copy was restored, or the disk lost what it had promised to keep. "+
				"Nothing is appended, because that would make a second history. Bring the newer files back, or close this log with 'reeve ledger retire' (two owners sign) to begin a successor",
				ErrRolledBack, p.v.origin, p.signed.N, err)
		case !isConflict || try > 0:
			return nil, err
		}
		*known = conflict.Size
	}
}

// prove makes the consistency proof from old to the signed checkpoint, from the published tiles.
func (p *publisher) prove(old int64) ([]tlog.Hash, error) {
	if old == 0 || old == p.signed.N {
		return nil, nil
	}
	return tlog.ProveTree(p.signed.N, old, tlog.TileHashReader(p.signed.Tree, tileFiles(p.v.tiles)))
}

// tileFiles reads published tiles.
type tileFiles string

func (tileFiles) Height() int                     { return 8 }
func (tileFiles) SaveTiles([]tlog.Tile, [][]byte) {}
func (d tileFiles) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, t := range tiles {
		b, err := os.ReadFile(filepath.Join(string(d), tilePath(t.L, t.N, t.W)))
		if os.IsNotExist(err) { // the tile has become full since
			b, err = os.ReadFile(filepath.Join(string(d), tilePath(t.L, t.N, tileWidth)))
		}
		if err != nil {
			return nil, err
		}
		if len(b) < t.W*tlog.HashSize {
			return nil, fmt.Errorf("tile %s is too short", t.Path())
		}
		all = append(all, b[:t.W*tlog.HashSize])
	}
	return all, nil
}
