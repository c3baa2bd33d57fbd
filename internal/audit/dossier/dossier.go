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
			all.Drills = append(all.Drills, scenarios(d, v.record)...)
		} else {
			refused = append(refused, fmt.Sprintf("%s: %v", filepath.Join(drills.Folder, d.File), ErrUnsigned))
		}
	}
	compared, err := usage.Load(w.State)
	if err != nil {
		return nil, nil, err
	}
	for _, r := range compared {
		all.Reconciliations = append(all.Reconciliations, reconciliations(&r)...)
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

// scenarios are what a drill found, each scenario for itself. One that could not be decided proves nothing, and is not among them.
func scenarios(d *drills.Document, record string) (list []control.Drill) {
	for _, r := range d.Results {
		if r.State != drills.Undecided {
			list = append(list, control.Drill{Scenario: r.Scenario, Time: d.Ended, Passed: r.Passed(), Found: r.Found, Detail: r.Detail, Seconds: float64(r.Figures["chain_stopped_ms"]) / 1000, Record: record})
		}
	}
	return list
}

// reconciliations are a comparison by credential. What it could not decide is not among them, unless it found strays.
func reconciliations(r *usage.Result) (list []control.Reconciliation) {
	strays := map[string]int64{}
	for _, s := range r.Strays {
		strays[s.Credential] += s.Difference
	}
	for _, j := range r.Judged {
		if r.State == usage.Undecided && strays[j.Credential] == 0 {
			continue
		}
		list = append(list, control.Reconciliation{Credential: j.Credential, Source: r.Provider, From: r.From, To: r.To, Provider: j.Counted, Ledger: j.Ledger, Strays: strays[j.Credential], Detail: r.Summary})
		delete(strays, j.Credential) // its reads are a row of their own
	}
	return list
}

// Payloads opens what decisions looked at, from the ledger of a custodian where this host has it and the reader may read it. It is nil where there is no
// such ledger. logs says which volume a log is.
func Payloads(folder string, volume func(log string) int) func(string, *entry.Entry) ([]byte, error) {
	if _, err := os.ReadDir(filepath.Join(folder, "keys")); err != nil {
		return nil
	}
	return func(log string, e *entry.Entry) ([]byte, error) { return offline.Payload(folder, volume(log), e) }
}
