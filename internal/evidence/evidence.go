// Package evidence gives documents a time that nobody can set back: a person signs a record with a document's hash, and an authority writes it into
// its cosigned ledger as an attest entry whose reason is the kind of document. The record lies in the estate's signed store as well, where an
// authority that was away finds it.
package evidence

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/dispatch"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/statement"
)

// Kinds of documents.
const (
	Component      = "component"      // a record of the register
	Drill          = "drill"          // a drill's result
	Incident       = "incident"       // an event of an incident
	Reconciliation = "reconciliation" // of a provider's usage with the ledgers
)

// Place is where evidence goes.
type Place struct {
	Dir         estate.Dir // its signed store gets the record
	Authorities []string   // base URLs, asked in order
}

// Anchored is a document's record.
type Anchored struct {
	Record string `json:"record"` // hex SHA-256: the record member of its ledger entry
	statement.Evidence
	// Waits says why no authority has taken it yet; empty once one has, and durably entered it. `reeve audit anchor` sends it again.
	Waits string `json:"waits,omitempty"`
}

// Seal signs evidence of a document. Others may countersign it before it is entered.
func Seal(set *statement.Set, kind, subject string, document []byte, now time.Time, by ...*estate.Signer) (*statement.Envelope, error) {
	sum := sha256.Sum256(document)
	return estate.Seal("evidence", statement.Evidence{Estate: set.Charter.Estate, Kind: kind, Subject: subject, SHA256: hex.EncodeToString(sum[:]), Created: now.UTC().Truncate(time.Second)}, by...)
}

// Enter keeps a record of evidence in the signed store and has it entered in the ledger. That no authority could be reached is no error: the record then
// waits in the signed store, and Waits says why.
func Enter(ctx context.Context, to Place, set *statement.Set, env *statement.Envelope) (*Anchored, error) {
	e, _, err := set.OpenEvidence(env, time.Now())
	if err != nil {
		return nil, err
	}
	a := &Anchored{Record: name(env), Evidence: *e}
	if err := to.Dir.WriteRecord(a.Record, env); err != nil {
		return nil, fmt.Errorf("keeping evidence of the %s %s: %w", e.Kind, e.Subject, err)
	}
	a.Waits = to.send(ctx, env)
	return a, nil
}

// Anchor signs evidence of a document and enters it.
func Anchor(ctx context.Context, to Place, set *statement.Set, kind, subject string, document []byte, by ...*estate.Signer) (*Anchored, error) {
	env, err := Seal(set, kind, subject, document, time.Now(), by...)
	if err != nil {
		return nil, err
	}
	return Enter(ctx, to, set, env)
}

// Again sends what is in the signed store and in no ledger yet, the oldest first. entered reports whether a ledger has the record.
func Again(ctx context.Context, to Place, entered func(record string) bool) (list []Anchored, err error) {
	all, err := Read(to.Dir.Store())
	if err != nil {
		return nil, err
	}
	for _, a := range all {
		if !entered(a.Record) {
			a.Waits = to.send(ctx, a.envelope)
			list = append(list, a.Anchored)
		}
	}
	return list, nil
}

// Kept is evidence as it lies in a signed store. Its signatures are as they were: the authority verified them before it entered the record.
type Kept struct {
	Anchored
	envelope *statement.Envelope
}

// Signers are the people of the set who signed it and were live when it was made, by its own word; none when it does not hold.
func (k *Kept) Signers(set *statement.Set) []string {
	_, by, err := set.OpenEvidence(k.envelope, k.Created)
	if err != nil {
		return nil
	}
	return by
}

// Read lists the evidence in a signed store, the oldest first. A file whose name is not its record's is an error.
func Read(store statement.Store) (list []Kept, err error) {
	records, err := estate.ReadRecords(store, "evidence")
	if err != nil {
		return nil, err
	}
	for _, n := range slices.Sorted(maps.Keys(records)) {
		k := Kept{Anchored{Record: name(records[n])}, records[n]}
		if k.Record != n {
			return nil, fmt.Errorf("records/evidence/%s.json holds another record, %.16s: it was changed", n, k.Record)
		}
		if k.Evidence, err = statement.ReadEvidence(records[n]); err != nil {
			return nil, fmt.Errorf("records/evidence/%s.json: %w", n, err)
		}
		list = append(list, k)
	}
	slices.SortStableFunc(list, func(a, b Kept) int { return a.Created.Compare(b.Created) })
	return list, nil
}

func name(env *statement.Envelope) string {
	id := env.ID()
	return hex.EncodeToString(id[:])
}

// send posts a record to the first authority that takes it, and says why none did.
func (p Place) send(ctx context.Context, env *statement.Envelope) (why string) {
	file, err := statement.Canonical(env)
	if err != nil {
		return err.Error()
	}
	failed := []error{errors.New("no authority took it")}
	for _, url := range p.Authorities {
		attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := dispatch.Post("authority", strings.TrimSuffix(url, "/")+"/v1/records").Send(attempt, file)
		cancel()
		if err == nil {
			return ""
		}
		failed = append(failed, err)
	}
	return strings.ReplaceAll(errors.Join(failed...).Error(), "\n", "; ")
}
