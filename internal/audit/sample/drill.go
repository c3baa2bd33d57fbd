package sample

import (
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/drills"
	"github.com/reevehq/reeve/internal/evidence"
)

// Drilled is how a scenario stands at the end of the month, by what was planted.
type Drilled struct {
	State  string    `json:"state"`
	Time   time.Time `json:"time"`   // when the drill ended whose result that is
	Played int       `json:"played"` // how often it was played, also in part
	Signed string    `json:"signed"` // record by which somebody signed for that drill
}

// drill is the company's three drills: before the compromise, when chaining was not stopped; after it, all but the last scenario, which held; and one
// in part, on the processes that run, which says nothing of how a scenario stands.
func (m *month) drill(dir string) error {
	m.Drilled = map[string]Drilled{}
	for _, d := range []struct {
		at        time.Time
		played    string
		scenarios int
		fails     string
		part      bool
	}{
		{m.start.Add(5*day + 3*time.Hour), drills.Own, 10, "S9", false},
		{m.start.Add(23*day + 4*time.Hour), drills.Own, 9, "", false},
		{m.start.Add(24*day + 5*time.Hour), drills.Running, 3, "", true},
	} {
		doc := &drills.Document{Estate: ID, Played: d.played, Began: d.at, Ended: d.at.Add(4 * time.Minute), Version: "sample", Level: "none"}
		for n := range d.scenarios {
			r := drills.Result{Scenario: fmt.Sprintf("S%d", n+1), Title: "invented", State: drills.Held, Double: 1, Detail: "nothing found; the double: 1", Part: d.part, TookMS: 20_000}
			if r.Scenario == "S9" {
				r.Figures = map[string]int64{"stopped_ms": 31, "used_count": 5}
			}
			if r.Scenario == d.fails {
				r.State, r.Found, r.Detail = drills.NotHeld, 40, "chaining over 40 credentials went on to its end"
			}
			doc.Results = append(doc.Results, r)
		}
		record, err := m.file(dir, doc, d.at.Add(5*time.Minute))
		if err != nil {
			return err
		}
		for _, r := range doc.Results {
			s := m.Drilled[r.Scenario]
			if s.Played++; !r.Part {
				s.State, s.Time, s.Signed = r.State, doc.Ended, record
			}
			m.Drilled[r.Scenario] = s
		}
	}
	return nil
}

// file keeps a drill's document and what controls are judged by, as reeve drill does: olga signs for both.
func (m *month) file(dir string, doc *drills.Document, t time.Time) (record string, err error) {
	if err := doc.Write(filepath.Join(dir, drills.Folder)); err != nil {
		return "", err
	}
	whole, err := doc.Encode()
	if err != nil {
		return "", err
	}
	name := "drill-" + strings.TrimSuffix(doc.File, ".json")
	part, err := doc.Evidence().Write(dir, name)
	if err != nil {
		return "", err
	}
	record, err = m.attest(t, evidence.Drill, drills.Folder+"/"+doc.File, whole, "olga")
	_, also := m.attest(t.Add(time.Second), evidence.Drill, name, part, "olga")
	return record, errors.Join(err, also)
}

// attest has somebody sign for a document, and the authority enter that. It returns the record.
func (m *month) attest(t time.Time, kind, subject string, document []byte, by string) (record string, err error) {
	set := m.setAt(t)
	env, err := evidence.Seal(set, kind, subject, document, t, m.signers[by])
	if err == nil {
		_, _, err = set.OpenEvidence(env, t)
	}
	if err != nil {
		return "", fmt.Errorf("evidence of the %s %s: %w", kind, subject, err)
	}
	id := env.ID()
	record = hex.EncodeToString(id[:])
	m.journals["a1"].add(t.Add(time.Second), entry.Entry{Type: entry.Attest, Reason: kind, Record: record, Actor: []string{by}, Proof: "feed", Estate: m.lockAt(t)}, nil)
	return record, m.dir.WriteRecord(record, env)
}
