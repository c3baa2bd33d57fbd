package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/audit/control"
	"github.com/reevehq/reeve/internal/audit/oscal"
	"github.com/reevehq/reeve/internal/audit/pack"
	"github.com/reevehq/reeve/internal/terminal"
)

// incidentEvidence writes the pack of an incident: report and page, an annex for each business unit, proofs of the entries that they rest on, OSCAL,
// the journal, the ledgers' signed heads, the keys to check them with, and a manifest of hashes.
func incidentEvidence(cmd *cobra.Command, id, out string, s *signing) error {
	m, err := openReport(cmd, id)
	if err != nil {
		return err
	}
	defer m.books.Close()
	text, err := m.text(cmd.Context(), "")
	if err != nil {
		return failed(err)
	}
	files := map[string][]byte{"report.json": text}
	for _, add := range []func(*cobra.Command, map[string][]byte) error{m.addPage, m.addUnits, m.addProofs, m.addOSCAL, m.addRecord} {
		if err := add(cmd, files); err != nil {
			return failed(err)
		}
	}
	manifest := pack.Manifest{Estate: m.made.Estate, Title: "Incident " + id, AsOf: m.made.Made, Lock: m.books.History.Newest().Hash}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		sum := sha256.Sum256(files[name])
		manifest.Files = append(manifest.Files, pack.File{Name: name, Size: len(files[name]), SHA256: hex.EncodeToString(sum[:])})
	}
	if files[pack.ManifestFile], err = indented(manifest); err != nil {
		return failed(err)
	}
	if err := pack.Write(out, files); err != nil {
		return failed(err)
	}
	terminal.Printf(cmd.OutOrStdout(), "%s: %d files\n", filepath.Join(out, pack.ManifestFile), len(files)-1)
	if s.as != "" {
		if err := vouch(cmd, m.dir, m.books.History.Newest().Set, s, "pack", id, files[pack.ManifestFile]); err != nil {
			return err
		}
	}
	return m.conclude(cmd, "")
}

func indented(v any) ([]byte, error) {
	b, err := json.MarshalIndent(v, "", "  ")
	return append(b, '\n'), err
}

func (m *reporting) addPage(cmd *cobra.Command, files map[string][]byte) (err error) {
	files["report.html"], err = m.page(cmd, files["report.json"], "")
	return err
}

// addUnits adds what can be shown to one business unit: nothing of the others.
func (m *reporting) addUnits(_ *cobra.Command, files map[string][]byte) error {
	for _, u := range m.made.Units {
		b, err := indented(u)
		if err != nil {
			return err
		}
		files["units/"+u.Unit+".json"] = b
	}
	return nil
}

// addProofs adds a bundle for each entry that the report points to, which reeve verify takes.
func (m *reporting) addProofs(_ *cobra.Command, files map[string][]byte) error {
	var refs []control.Ref
	for _, t := range m.made.Timeline {
		if t.Entry != nil {
			refs = append(refs, *t.Entry)
		}
	}
	for _, u := range m.made.Units {
		for _, r := range u.Rows {
			refs = append(refs, r.Refs...)
		}
	}
	for _, l := range m.books.Logs {
		for _, r := range refs {
			name := fmt.Sprintf("proofs/%s-%d.json", r.Log, r.Seq)
			if r.Log != l.ID || files[name] != nil || r.Seq >= l.Checkpoint.N {
				continue
			}
			b, err := l.Proof(r.Seq, -1)
			if err != nil {
				return err
			}
			files[name] = b.Encode()
		}
		files["checkpoints/"+l.ID+".txt"] = l.Checkpoint.Raw
	}
	return nil
}

func (m *reporting) addOSCAL(_ *cobra.Command, files map[string][]byte) error {
	in, err := m.assessments()
	if err != nil {
		return err
	}
	documents, err := oscal.Documents(in)
	for name, b := range documents {
		files["oscal/"+name] = b
	}
	return err
}

// addRecord adds the incident's own journal, and the keys of the logs.
func (m *reporting) addRecord(_ *cobra.Command, files map[string][]byte) (err error) {
	var journal bytes.Buffer
	for _, s := range m.incident.Steps {
		journal.Write(append(bytes.Clone(s.Line), '\n'))
	}
	files["journal.jsonl"] = journal.Bytes()
	files["trust.json"], err = os.ReadFile(m.dir.Trust())
	return err
}
