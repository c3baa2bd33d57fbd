package control

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
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
	open := func(name string, _ []byte) (string, []string, error) {
		if name == "forged" {
			return "", nil, errors.New("it is not the document that was signed")
		}
		return "record of " + name, []string{"cora"}, nil
	}
	e, refused, err := ReadEvidence(os.DirFS(filepath.Join(dir, EvidenceDir)), open)
	if err != nil {
		t.Fatal(err)
	}
	if len(e.Drills) != 1 || e.Drills[0].Record != "record of drill" || len(e.Exemptions) != 1 || e.Exemptions[0].Approver != "cora" || len(refused) != 4 {
		t.Fatalf("%+v; refused %q", e, refused)
	}
	if e, _, err := ReadEvidence(os.DirFS(filepath.Join(dir, "absent")), open); err != nil || e.Drills != nil {
		t.Fatalf("%+v, %v", e, err)
	}
}
