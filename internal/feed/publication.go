package feed

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/witness"
)

// ErrUnpublished is wrapped when nothing shows that a lock was published.
var ErrUnpublished = errors.New("nothing shows that this lock is in the authority's cosigned log")

// errNotYet is no refusal: the publication comes when it is cosigned.
var errNotYet = fmt.Errorf("%w yet", ErrUnpublished)

// Publication shows that an authority published a lock: the entry in its log, and the checkpoint that enough witnesses cosigned.
type Publication struct {
	Entry      []byte      `json:"entry"`      // of type publish, naming the lock
	Proof      []tlog.Hash `json:"proof"`      // that it is in the checkpoint's tree (RFC 6962, section 2.1.1)
	Checkpoint []byte      `json:"checkpoint"` // a C2SP checkpoint with cosignatures
}

// Check verifies the publication of a set's lock with the keys that the set's own charter has at the time. No publication is
// ErrUnpublished too.
func (p *Publication) Check(set *statement.Set, now time.Time) error {
	if p == nil {
		return errNotYet
	}
	e, err := entry.Parse(p.Entry)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnpublished, err)
	}
	if e.Type != entry.Publish || e.Estate != hex.EncodeToString(set.LockHash[:]) {
		return fmt.Errorf("%w: the entry is another lock's", ErrUnpublished)
	}
	origin, _, _ := bytes.Cut(p.Checkpoint, []byte("\n"))
	log, err := logKey(set, string(origin), now)
	if err != nil {
		return err
	}
	n, err := note.Open(p.Checkpoint, note.VerifierList(log))
	if err != nil {
		return fmt.Errorf("%w: its checkpoint: %w", ErrUnpublished, err)
	}
	tree, err := ledger.ParseCheckpoint(string(origin), n.Text)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnpublished, err)
	}
	if err := tlog.CheckRecord(p.Proof, tree.N, tree.Hash, e.Seq, tlog.RecordHash(p.Entry)); err != nil {
		return fmt.Errorf("%w: %w", ErrUnpublished, err)
	}
	cosigned := map[string]bool{}
	for _, k := range set.ServiceKeys("witness", now) {
		v, err := witness.NewVerifier(k.Key)
		if err != nil {
			return err
		}
		if _, err := note.Open(p.Checkpoint, note.VerifierList(v)); err == nil {
			cosigned[k.Process] = true
		}
	}
	if need := max(set.Charter.Witnesses.Need, 1); len(cosigned) < need {
		return fmt.Errorf("%w: %d of %d witnesses have cosigned it", ErrUnpublished, len(cosigned), need)
	}
	return nil
}

// logKey is the key that the charter has for an authority's log by its origin: the last one that is named after it or after a log before it.
func logKey(set *statement.Set, origin string, now time.Time) (v note.Verifier, err error) {
	speaks := map[string]bool{}
	for _, k := range set.ServiceKeys("feed", now) {
		speaks[k.Process] = true
	}
	first, number := entry.Successor(origin)
	last := -1
	for _, k := range set.ServiceKeys("log", now) {
		name, _, public, err := statement.ParseNoteKey(k.Key)
		if err != nil {
			return nil, err
		}
		if base, from := entry.Successor(name); speaks[k.Process] && base == first && from <= number && from > last {
			text, err := note.NewEd25519VerifierKey(origin, public)
			if err != nil {
				return nil, err
			}
			if v, err = note.NewVerifier(text); err != nil {
				return nil, err
			}
			last = from
		}
	}
	if v == nil {
		return nil, fmt.Errorf("%w: the charter has no authority whose log is %q", ErrUnpublished, origin)
	}
	return v, nil
}
