// Package dossier gathers what controls are judged from beside the books: documents that people signed for, and what was compared with providers.
package dossier

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/control"
	"github.com/reevehq/reeve/internal/audit/drills"
	"github.com/reevehq/reeve/internal/audit/history"
	"github.com/reevehq/reeve/internal/audit/incident"
	"github.com/reevehq/reeve/internal/audit/usage"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/ledger/offline"
	"github.com/reevehq/reeve/internal/statement"
)

// ErrUnsigned means that nobody has signed for a document.
var ErrUnsigned = errors.New("nobody has signed for it, so it counts for nothing; reeve controls record signs")

// Where says where evidence lies.
type Where struct {
	Dir    string     // in which the folders evidence and drills have the documents
	State  string     // of the auditor: its folder usage has what was compared with providers
	Estate estate.Dir // its signed store has the records that vouch for the documents, and its journals of incidents
}

// Read reads all of it. What does not count is in refused, a sentence each.
func Read(w Where, h *history.History, now time.Time) (all *control.Evidence, refused []string, err error) {
	signed, err := signatures(w.Estate.Store(), h.Newest().Set, now)
	if err != nil {
		return nil, nil, err
	}
	all, refused, err = control.ReadEvidence(os.DirFS(filepath.Join(w.Dir, control.EvidenceDir)), func(_ string, document []byte) (string, []string, error) {
		sum := sha256.Sum256(document)
		v, ok := signed[hex.EncodeToString(sum[:])]
		if !ok {
			return "", nil, ErrUnsigned
		}
		return v.record, v.by, nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("reading evidence: %w", err)
	}
	played, err := drills.Load(filepath.Join(w.Dir, drills.Folder))
	if err != nil {
		return nil, nil, err
	}
	for _, d := range played {
		if v, ok := signed[d.Record]; ok {
			for _, x := range d.Evidence().Drills {
				x.Record = v.record
				all.Drills = append(all.Drills, x)
			}
		} else {
			refused = append(refused, fmt.Sprintf("%s: %v", filepath.Join(drills.Folder, d.File), ErrUnsigned))
		}
	}
	compared, err := usage.Load(w.State)
	if err != nil {
		return nil, nil, err
	}
	for _, r := range compared { // nobody signed for these: they count where they speak against the estate, and show nothing for it
		for _, x := range r.Evidence().Reconciliations {
			if x.Strays > 0 {
				all.Reconciliations = append(all.Reconciliations, x)
			}
		}
	}
	journals := incident.In(w.Estate, h)
	ids, err := journals.List()
	if err != nil {
		return nil, nil, err
	}
	for _, id := range ids {
		j, err := journals.Read(id)
		if err != nil {
			refused = append(refused, fmt.Sprintf("incident %s: %v", id, err))
			continue
		}
		if j.Broken != "" {
			refused = append(refused, fmt.Sprintf("incident %s: its journal was changed %s", id, j.Broken))
			continue
		}
		all.Incidents = append(all.Incidents, course(id, j))
	}
	return all, refused, nil
}

// course is how an incident went: its first report names everybody accountable.
func course(id string, j *incident.Journal) control.Incident {
	c := control.Incident{ID: id, Opened: j.Opened().Time}
	for _, s := range j.Steps {
		if s.Kind == incident.KindReport && c.Attributed.IsZero() {
			c.Attributed = s.Time
		}
	}
	return c
}

// voucher is a record, and who signed it.
type voucher struct {
	record string
	by     []string
}

// signatures are the evidence records of the store that hold, by the hash of their document.
func signatures(store statement.Store, set *statement.Set, now time.Time) (map[string]voucher, error) {
	records, err := estate.ReadRecords(store, "evidence")
	if err != nil {
		return nil, fmt.Errorf("reading the records of evidence: %w", err)
	}
	all := map[string]voucher{}
	for _, env := range records {
		e, by, err := set.OpenEvidence(env, now)
		if err != nil {
			continue // of somebody who is no more, or not to be believed
		}
		id := env.ID()
		v := all[e.SHA256]
		all[e.SHA256] = voucher{hex.EncodeToString(id[:]), append(v.by, by...)}
	}
	return all, nil
}

// Payloads opens what decisions looked at, from the ledger of a custodian where this host has it and the reader may read it. It is nil where there is no
// such ledger. logs says which volume a log is.
func Payloads(folder string, volume func(log string) int) func(string, *entry.Entry) ([]byte, error) {
	if _, err := os.ReadDir(filepath.Join(folder, "keys")); err != nil {
		return nil
	}
	return func(log string, e *entry.Entry) ([]byte, error) { return offline.Payload(folder, volume(log), e) }
}
