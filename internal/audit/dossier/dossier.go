// Package dossier gathers what controls are judged from beside the books: documents that people signed for, and what was compared with providers.
package dossier

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/books"
	"github.com/reevehq/reeve/internal/audit/control"
	"github.com/reevehq/reeve/internal/audit/drills"
	"github.com/reevehq/reeve/internal/audit/incident"
	"github.com/reevehq/reeve/internal/audit/usage"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/ledger/offline"
)

// Where says where evidence lies.
type Where struct {
	Dir    string     // in which the folders evidence and drills have the documents
	State  string     // of the auditor: its folder usage has what was compared with providers
	Estate estate.Dir // its signed store has the records that vouch for the documents, and its journals of incidents
}

// Read reads all of it. What does not count is in refused, a sentence each.
func Read(ctx context.Context, w Where, b *books.Books) (all *control.Evidence, refused []string, err error) {
	signed, err := readVouchers(ctx, w.Estate.Store(), b)
	if err != nil {
		return nil, nil, err
	}
	all, refused, err = control.ReadEvidence(os.DirFS(filepath.Join(w.Dir, control.EvidenceDir)), func(_ string, document []byte) (control.Voucher, error) {
		sum := sha256.Sum256(document)
		return signed.of(hex.EncodeToString(sum[:]))
	})
	if err != nil {
		return nil, nil, fmt.Errorf("reading evidence: %w", err)
	}
	played, err := drills.Load(filepath.Join(w.Dir, drills.Folder))
	if err != nil {
		return nil, nil, err
	}
	for _, d := range played {
		v, err := signed.of(d.Record)
		if err == nil {
			refused = append(refused, all.Take(filepath.Join(drills.Folder, d.File), d.Evidence(), v)...)
		} else {
			refused = append(refused, fmt.Sprintf("%s: %v", filepath.Join(drills.Folder, d.File), err))
		}
	}
	compared, err := usage.Load(w.State)
	if err != nil {
		return nil, nil, err
	}
	for _, r := range compared { // nobody signed for these: they count where they speak against the estate, and show nothing for it
		for _, x := range r.Evidence().Reconciliations {
			if x.Strays > 0 || x.Undecided != "" {
				all.Reconciliations = append(all.Reconciliations, x)
			}
		}
	}
	journals := incident.In(w.Estate, b.History)
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
		all.Incidents = append(all.Incidents, j.Course())
	}
	return all, refused, nil
}

// Payloads opens what decisions looked at, from the ledger of a custodian where this host has it and the reader may read it. It is nil where there is no
// such ledger. logs says which volume a log is.
func Payloads(folder string, volume func(log string) int) func(string, *entry.Entry) ([]byte, error) {
	if _, err := os.ReadDir(filepath.Join(folder, "keys")); err != nil {
		return nil
	}
	return func(log string, e *entry.Entry) ([]byte, error) { return offline.Payload(folder, volume(log), e) }
}
