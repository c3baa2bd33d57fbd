package control

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"testing/fstest"
	"time"
)

func TestReadEvidence(t *testing.T) {
	dir, now := t.TempDir(), time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	exemption := func(approver string, until time.Time) Exemption {
		return Exemption{Control: "RV-10", From: now, Until: until, Approver: approver, Reason: "a provider without federation"}
	}
	write := func(name string, e *Evidence) {
		if _, err := e.Write(dir, name); err != nil {
			t.Fatal(err)
		}
	}
	write("drill", &Evidence{Drills: []Drill{{Scenario: "S1", Time: now, Passed: true}}})
	write("signed", &Evidence{Exemptions: []Exemption{exemption("cora", now.Add(time.Hour)), exemption("ada", now.Add(time.Hour)), exemption("cora", now)}})
	write("forged", &Evidence{Drills: []Drill{{Scenario: "S2", Time: now, Passed: true}}})
	if err := os.WriteFile(filepath.Join(dir, EvidenceDir, "torn.json"), []byte(`{"drills":[`), 0o644); err != nil {
		t.Fatal(err)
	}
	write("early", &Evidence{Drills: []Drill{{Scenario: "S3", Time: now.Add(time.Hour), Passed: true}}, Incidents: []Incident{{ID: "inc-1", AsOf: now}}})
	open := func(name string, _ []byte) (Voucher, error) {
		if name == "forged" {
			return Voucher{}, errors.New("it is not the document that was signed")
		}
		return Voucher{Record: "record of " + name, By: []string{"cora"}, Made: now}, nil
	}
	e, refused, err := ReadEvidence(os.DirFS(filepath.Join(dir, EvidenceDir)), open)
	if err != nil {
		t.Fatal(err)
	}
	if len(e.Drills) != 1 || e.Drills[0].Record != "record of drill" || len(e.Exemptions) != 1 || e.Exemptions[0].Approver != "cora" || len(e.Incidents) != 0 || len(refused) != 6 {
		t.Fatalf("%+v; refused %q", e, refused)
	}
	if e, _, err := ReadEvidence(os.DirFS(filepath.Join(dir, "absent")), open); err != nil || e.Drills != nil {
		t.Fatalf("%+v, %v", e, err)
	}
}

// Whatever bytes a document has, reading it ends, and what was read is the same when it is written and read again.
func FuzzReadEvidence(f *testing.F) {
	at := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	whole, err := json.Marshal(Evidence{Drills: []Drill{{Scenario: "S1", Time: at, Passed: true}}, Reconciliations: []Reconciliation{{Credential: "x", From: at, To: at, Undecided: "no"}},
		Discoveries: []Discovery{{Where: "here", Time: at, Found: []Found{{Component: "v1"}}}}, Stores: []Store{{Credential: "x", Time: at}},
		Exemptions: []Exemption{{Control: "RV-10", From: at, Until: at.Add(1), Approver: "cora"}}, Incidents: []Incident{{ID: "inc-1", Opened: at, AsOf: at}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add([]byte(`{"drills":null}{}`))
	f.Add([]byte(`{"discoveries":[{"found":[{}]}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		folder := fstest.MapFS{"d.json": {Data: b}}
		read := func() (*Evidence, []string) {
			e, refused, err := ReadEvidence(folder, func(string, []byte) (Voucher, error) {
				return Voucher{Record: "r", By: []string{"cora"}, Made: at, Two: true}, nil
			})
			if err != nil {
				t.Fatal(err)
			}
			return e, refused
		}
		e, _ := read()
		for _, r := range e.records() {
			if r != "r" {
				t.Fatalf("something says itself who vouches for it: %q", r)
			}
		}
		again, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		folder["d.json"] = &fstest.MapFile{Data: again}
		if same, refused := read(); len(refused) > 0 || !reflect.DeepEqual(same, e) {
			t.Fatalf("%+v is read again as %+v, refused %q", e, same, refused)
		}
	})
}
