// Package drills keeps what drills found: one document a drill, in a folder of the estate's directory (docs/formats/drill.md).
package drills

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/audit/control"
	"github.com/reevehq/reeve/internal/durable"
)

// Folder is where an estate's directory has them.
const Folder = "drills"

// The states of a scenario.
const (
	Held      = "held"      // nothing was found, and the same attack did find something elsewhere, or did work where it may
	NotHeld   = "not held"  // an attacker got, or did, something that he may not
	Undecided = "undecided" // nothing was found, and nothing was found in the double either
)

// The estates that a drill is played on.
const (
	Own     = "own"     // one that the drill made, with the real processes
	Running = "running" // the processes that run the estate
)

// Document is what one drill found.
type Document struct {
	V       int       `json:"v"`      // 1
	Estate  string    `json:"estate"` // id of the estate that it is filed with
	Played  string    `json:"played"` // Own or Running
	Began   time.Time `json:"began"`
	Ended   time.Time `json:"ended"`
	Version string    `json:"version"` // of the programs
	Level   string    `json:"level"`   // of isolation between gateway and custodian
	Results []Result  `json:"results"` // a scenario each, S1 first
	NotHeld []string  `json:"not_held,omitempty"`
	NotDone []string  `json:"not_done,omitempty"` // what this drill could not do, and why

	Record string `json:"-"` // hex SHA-256 of the file: what the ledger's entry names
	File   string `json:"-"` // its name in the folder
}

// Result is one scenario's.
type Result struct {
	Scenario string           `json:"scenario"` // S1 … S10
	Title    string           `json:"title"`
	State    string           `json:"state"`
	Found    int              `json:"found"`  // hits in reeve
	Double   int              `json:"double"` // hits of the same attack elsewhere
	Detail   string           `json:"detail"`
	Dry      bool             `json:"dry,omitempty"`  // worked out from the statements: nothing was tried
	Part     bool             `json:"part,omitempty"` // played in part only
	TookMS   int64            `json:"took_ms"`
	Figures  map[string]int64 `json:"figures,omitempty"` // what was measured, in the unit that the name ends in: _ms, _count
}

// Passed reports whether the scenario held.
func (r *Result) Passed() bool { return r.State == Held }

// Encode is the bytes of the document's file.
func (d *Document) Encode() ([]byte, error) {
	b, err := json.MarshalIndent(d, "", "  ")
	return append(b, '\n'), err
}

// Write writes the document into the folder, under the time that it ended, and sets its Record and File.
func (d *Document) Write(folder string) error {
	d.V = 1
	b, err := d.Encode()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return fmt.Errorf("filing the drill: %w", err)
	}
	d.File = d.Ended.UTC().Format("20060102T150405.000Z") + ".json"
	if err := durable.Replace(filepath.Join(folder, d.File), b, 0o600); err != nil {
		return fmt.Errorf("filing the drill: %w", err)
	}
	d.Record = sum(b)
	return nil
}

// Parse reads a document. It refuses members that it does not know, scenarios without a known state, and what comes after the document.
func Parse(b []byte) (*Document, error) {
	var d Document
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&d); err != nil {
		return nil, err
	}
	if dec.More() {
		return nil, errors.New("something follows the document")
	}
	if d.V != 1 || d.Ended.IsZero() || d.Ended.Before(d.Began) || (d.Played != Own && d.Played != Running) {
		return nil, errors.New("it is not a drill's document of version 1")
	}
	for _, r := range d.Results {
		if r.Scenario == "" || r.State != Held && r.State != NotHeld && r.State != Undecided || r.State == Held && r.Found != 0 {
			return nil, fmt.Errorf("the scenario %q says %q with %d found", r.Scenario, r.State, r.Found)
		}
	}
	d.Record = sum(b)
	return &d, nil
}

// Load reads every document in a folder, the oldest first. A folder that is not there has none.
func Load(folder string) ([]*Document, error) {
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the drills: %w", err)
	}
	var all []*Document
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".json") {
			continue
		}
		b, err := os.ReadFile(filepath.Join(folder, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("reading the drills: %w", err)
		}
		d, err := Parse(b)
		if err != nil {
			return nil, fmt.Errorf("the drill in %s: %w", filepath.Join(folder, e.Name()), err)
		}
		d.File = e.Name()
		all = append(all, d)
	}
	slices.SortStableFunc(all, func(a, b *Document) int { return a.Ended.Compare(b.Ended) })
	return all, nil
}

// whole reports whether the scenario was played, and all of it.
func (r *Result) whole() bool { return !r.Dry && !r.Part }

// Evidence is what controls are judged from: every scenario that was played whole and decided.
func (d *Document) Evidence() *control.Evidence {
	e := new(control.Evidence)
	for _, r := range d.Results {
		if r.State == Undecided || !r.whole() {
			continue
		}
		e.Drills = append(e.Drills, control.Drill{Scenario: r.Scenario, Time: d.Ended.UTC(), Passed: r.Passed(), Found: r.Found, Detail: r.Detail,
			Seconds: float64(r.Figures[Stopped]) / 1000})
	}
	return e
}

// Stopped is the figure that says how long an attack went on before it was stopped.
const Stopped = "stopped_ms"

// Standing is how a scenario stands: its newest result, and those before it.
type Standing struct {
	Scenario string    `json:"scenario"`
	Title    string    `json:"title,omitempty"`
	State    string    `json:"state"` // of the newest that was played whole: held, not held, undecided, or never
	Time     time.Time `json:"time,omitzero"`
	Found    int       `json:"found"`
	Detail   string    `json:"detail,omitempty"`
	History  []Past    `json:"history"` // the oldest first, all of them
}

// Past is one result of a scenario.
type Past struct {
	Time    time.Time        `json:"time"`
	Played  string           `json:"played"`
	Whole   bool             `json:"whole"` // neither dry nor in part
	State   string           `json:"state"`
	Found   int              `json:"found"`
	TookMS  int64            `json:"took_ms"`
	Figures map[string]int64 `json:"figures,omitempty"`
	Version string           `json:"version"`
	Record  string           `json:"record"`
}

// Never is the state of a scenario that no drill has played.
const Never = "never"

// Stand says how each of the scenarios stands by the documents, which are the oldest first.
func Stand(all []*Document, scenarios []string) []Standing {
	list := make([]Standing, len(scenarios))
	for i, id := range scenarios {
		s := &list[i]
		s.Scenario, s.State, s.History = id, Never, []Past{}
		for _, d := range all {
			for _, r := range d.Results {
				if r.Scenario != id {
					continue
				}
				s.Title = r.Title
				s.History = append(s.History, Past{d.Ended, d.Played, r.whole(), r.State, r.Found, r.TookMS, r.Figures, d.Version, d.Record})
				if r.whole() {
					s.State, s.Time, s.Found, s.Detail = r.State, d.Ended, r.Found, r.Detail
				}
			}
		}
	}
	return list
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}
