package dossier_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/internal/audit/control"
	"github.com/reevehq/reeve/internal/audit/dossier"
	"github.com/reevehq/reeve/internal/audit/drills"
	"github.com/reevehq/reeve/internal/audit/history"
	"github.com/reevehq/reeve/internal/audit/usage"
	"github.com/reevehq/reeve/internal/audit/usage/export"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/evidence"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestRead: a document counts when a live person has signed for its very bytes, an exemption when its approver has. What was worked out or played in part
// is no drill, and a comparison that nobody signed for counts only where it found strays.
func TestRead(t *testing.T) {
	e, dir := estatetest.New(t), t.TempDir()
	now := time.Now().UTC()
	exemption := control.Exemption{Control: "RV-10", From: now.Add(-time.Hour), Until: now.Add(time.Hour), Approver: "ada", Reason: "no federation there"}
	for _, d := range []struct {
		name     string
		evidence control.Evidence
		signs    bool
	}{
		{"drill", control.Evidence{Drills: []control.Drill{{Scenario: "S1", Time: now, Passed: true}}}, true},
		{"forged", control.Evidence{Drills: []control.Drill{{Scenario: "S2", Time: now, Passed: true}}}, false},
		{"exemption", control.Evidence{Exemptions: []control.Exemption{exemption}}, true},
	} {
		b, err := d.evidence.Write(dir, d.name)
		must(t, err)
		if d.signs {
			_, err = evidence.Anchor(t.Context(), evidence.Place{Dir: e.Dir}, e.Set, "drill", d.name, b, e.Ada)
			must(t, err)
		}
	}
	must(t, func() error {
		_, err := usage.Write(dir, &usage.Result{V: 1, Provider: "openai", State: usage.OutOfBand, Whole: true,
			Judged: []usage.Judged{{Credential: "research-openai", Kind: export.Use, Counted: 5, Ledger: 3}, {Credential: "support-openai", Kind: export.Use, Counted: 5, Ledger: 5}},
			Strays: []usage.Stray{{Credential: "research-openai", Kind: export.Use, Difference: 2, Confidence: usage.Certain}}})
		return err
	}())
	played := &drills.Document{Estate: "demo", Played: drills.Own, Began: now.Add(-time.Minute), Ended: now, Results: []drills.Result{
		{Scenario: "S9", State: drills.Held, Figures: map[string]int64{drills.Stopped: 2500}}, {Scenario: "S4", State: drills.Held, Dry: true}, {Scenario: "S5", State: drills.Held, Part: true}, {Scenario: "S2", State: drills.NotHeld, Found: 3}, {Scenario: "S3", State: drills.Undecided}}}
	must(t, played.Write(filepath.Join(dir, drills.Folder)))
	file, err := os.ReadFile(filepath.Join(dir, drills.Folder, played.File))
	must(t, err)
	_, err = evidence.Anchor(t.Context(), evidence.Place{Dir: e.Dir}, e.Set, evidence.Drill, played.File, file, e.Bea)
	must(t, err)
	played.Ended = now.Add(time.Minute) // nobody signs for this one
	must(t, played.Write(filepath.Join(dir, drills.Folder)))
	got, refused, err := dossier.Read(dossier.Where{Dir: dir, State: dir, Estate: e.Dir}, history.New(e.Set), now.Add(time.Second))
	must(t, err)
	want := []control.Drill{{Scenario: "S1", Time: now, Passed: true}, {Scenario: "S9", Time: now, Passed: true, Seconds: 2.5}, {Scenario: "S2", Time: now, Found: 3}}
	for i := range got.Drills {
		if len(got.Drills[i].Record) != 64 {
			t.Errorf("no record vouches for %+v", got.Drills[i])
		}
		got.Drills[i].Record = ""
	}
	if d := cmp.Diff(want, got.Drills); d != "" {
		t.Error(d)
	}
	if len(got.Exemptions) != 1 || len(got.Reconciliations) != 1 || got.Reconciliations[0].Strays != 2 ||
		len(refused) != 2 || !strings.Contains(refused[0], "forged.json: nobody has signed for it") {
		t.Fatalf("%+v; refused %q", got, refused)
	}
	_, err = (&control.Evidence{Drills: []control.Drill{{Scenario: "S1", Time: now, Passed: true, Detail: "later"}}}).Write(dir, "drill")
	must(t, err)
	if got, _, err = dossier.Read(dossier.Where{Dir: dir, State: dir, Estate: e.Dir}, history.New(e.Set), now.Add(time.Second)); err != nil || len(got.Drills) != 2 {
		t.Fatalf("a document that was changed after it was signed: %+v, %v", got, err)
	}
}

// TestBrokenJournal: a journal that was changed counts for nothing, and is named; it ends no command.
func TestBrokenJournal(t *testing.T) {
	e := estatetest.New(t)
	dir := filepath.Join(string(e.Dir), "incidents")
	must(t, os.MkdirAll(dir, 0o755))
	for name, text := range map[string]string{"empty": "", "other": "{}\n", "torn": "{"} {
		must(t, os.WriteFile(filepath.Join(dir, name+".jsonl"), []byte(text), 0o644))
	}
	got, refused, err := dossier.Read(dossier.Where{Dir: t.TempDir(), State: t.TempDir(), Estate: e.Dir}, history.New(e.Set), time.Now())
	must(t, err)
	if len(got.Incidents) != 0 || len(refused) != 3 {
		t.Errorf("%+v; refused %q", got.Incidents, refused)
	}
}
