// Package oscal writes controls and what was judged of them as OSCAL: a catalog, a profile, a component definition, a system security plan, an
// assessment plan and assessment results, each naming the one before it, as importers want them. The same answers give the same bytes.
package oscal

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/reevehq/reeve/internal/audit/control"
	"github.com/reevehq/reeve/internal/durable"
)

const (
	// Version is of OSCAL.
	Version = "1.2.1"
	// NS is the name space of properties that are reeve's own.
	NS = "https://github.com/reevehq/reeve/ns/oscal"
)

// The files, in the order in which they build on one another.
const (
	CatalogFile    = "catalog.json"
	ProfileFile    = "profile.json"
	ComponentsFile = "component-definition.json"
	PlanFile       = "system-security-plan.json"
	AssessmentFile = "assessment-plan.json"
	ResultsFile    = "assessment-results.json"
)

// Files is all of them.
var Files = []string{CatalogFile, ProfileFile, ComponentsFile, PlanFile, AssessmentFile, ResultsFile}

// Input is what is written.
type Input struct {
	Estate    string // id
	Release   string // of reeve; "unreleased" when empty
	Catalogue *control.Catalogue
	Results   []Assessment // one, or those of before and after an incident; at least one
}

// Assessment is one judgement of the controls.
type Assessment struct {
	Title    string // such as "before the incident"
	From, To time.Time
	Results  []control.Result
}

// Documents are the files by name.
func Documents(in Input) (map[string][]byte, error) {
	if in.Catalogue == nil || len(in.Results) == 0 {
		return nil, fmt.Errorf("OSCAL documents take a catalogue and at least one assessment")
	}
	if in.Release == "" {
		in.Release = "unreleased"
	}
	w := writer{in: in}
	for _, a := range in.Results {
		if a.To.After(w.time) {
			w.time = a.To
		}
	}
	c, p, d, s, a, r := w.catalog(), w.profile(), w.components(), w.plan(), w.assessmentPlan(), w.results()
	files := map[string][]byte{}
	for _, f := range []struct {
		name, root string
		id         *string
		doc        any
	}{{CatalogFile, "catalog", &c.UUID, c}, {ProfileFile, "profile", &p.UUID, p}, {ComponentsFile, "component-definition", &d.UUID, d},
		{PlanFile, "system-security-plan", &s.UUID, s}, {AssessmentFile, "assessment-plan", &a.UUID, a}, {ResultsFile, "assessment-results", &r.UUID, r}} {
		var err error
		if *f.id, err = idOf(f.root, f.doc); err != nil {
			return nil, err
		}
		b, err := json.MarshalIndent(map[string]any{f.root: f.doc}, "", "  ")
		if err != nil {
			return nil, err
		}
		files[f.name] = append(b, '\n')
	}
	return files, nil
}

// Write writes the files into a folder, and makes it.
func Write(dir string, in Input) error {
	files, err := Documents(in)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, name := range Files {
		if err := durable.Replace(filepath.Join(dir, name), files[name], 0o600); err != nil {
			return err
		}
	}
	return nil
}

// writer makes the documents of one input.
type writer struct {
	in   Input
	time time.Time // of the newest assessment: when all of it was last modified
}

// about is the metadata of every document.
func (w *writer) about(title string) metadata {
	who := id("party", w.in.Estate)
	return metadata{
		Title: title, LastModified: stamp(w.time), Version: w.in.Release, OSCAL: Version,
		Roles:       []role{{"creator", "Who has it written"}, {"owner", "Policy, operations and credential-lifecycle owners"}},
		Parties:     []party{{who, "organization", w.in.Estate}},
		Responsible: []responsibleParty{{"creator", []string{who}}},
	}
}

func own(name, value string) prop { return prop{Name: name, NS: NS, Value: value} }
