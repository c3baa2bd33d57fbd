package drills

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/internal/audit/control"
)

func document(ended time.Time, results ...Result) *Document {
	return &Document{Estate: "acme", Played: Own, Began: ended.Add(-time.Minute), Ended: ended, Version: "1", Level: "separate-uid", Results: results}
}

var noon = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

func TestWriteAndLoad(t *testing.T) {
	dir := filepath.Join(t.TempDir(), Folder)
	if all, err := Load(dir); err != nil || all != nil {
		t.Fatalf("%v, %v", all, err)
	}
	later, sooner := document(noon.Add(time.Hour), Result{Scenario: "S9", State: NotHeld, Found: 2}), document(noon, Result{Scenario: "S9", State: Held, Figures: map[string]int64{Stopped: 1500}})
	for _, d := range []*Document{later, sooner} {
		if err := d.Write(dir); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, later.File): 0o600} { // where an attack got through is for few
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	all, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]*Document{sooner, later}, all); diff != "" {
		t.Fatal(diff)
	}
	if err := os.WriteFile(filepath.Join(dir, "torn.json"), []byte(`{"v":1`), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "torn.json") {
		t.Fatalf("a torn document: %v", err)
	}
}

func TestParseRefuses(t *testing.T) {
	good, err := func() ([]byte, error) {
		d := document(noon, Result{Scenario: "S1", State: Held})
		d.V = 1
		return d.Encode()
	}()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Parse(good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string][2]string{
		"another version": {`"v": 1`, `"v": 2`}, "an unknown member": {`"v": 1`, `"v": 1, "x": 2`}, "an unknown state": {`"held"`, `"fine"`},
		"held with something found": {`"found": 0`, `"found": 1`}, "no end": {`"ended": "2026-11-01T12:00:00Z"`, `"ended": "0001-01-01T00:00:00Z"`},
		"ended before it began": {`"began": "2026-11-01T11:59:00Z"`, `"began": "2026-11-02T11:59:00Z"`}, "played nowhere": {`"own"`, `"there"`},
		"no scenario": {`"S1"`, `""`},
	} {
		b := []byte(strings.Replace(string(good), change[0], change[1], 1))
		if bytes.Equal(b, good) {
			t.Fatalf("%s: changes nothing", name)
		}
		if _, err := Parse(b); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	if _, err := Parse(append(good, "{}"...)); err == nil {
		t.Error("a second document is taken")
	}
}

// What was not decided, or only worked out, shows nothing.
func TestEvidence(t *testing.T) {
	d := document(noon, Result{Scenario: "S1", State: Undecided}, Result{Scenario: "S10", State: Held, Dry: true}, Result{Scenario: "S2", State: Held, Part: true},
		Result{Scenario: "S9", State: Held, Detail: "x", Figures: map[string]int64{Stopped: 1500}}, Result{Scenario: "S2", State: NotHeld, Found: 3})
	want := []control.Drill{{Scenario: "S9", Time: noon, Passed: true, Detail: "x", Seconds: 1.5}, {Scenario: "S2", Time: noon, Found: 3}}
	if diff := cmp.Diff(want, d.Evidence().Drills); diff != "" {
		t.Error(diff)
	}
}

func TestStand(t *testing.T) {
	all := []*Document{document(noon, Result{Scenario: "S1", State: Held}), document(noon.Add(time.Hour), Result{Scenario: "S1", State: NotHeld, Found: 1}),
		document(noon.Add(2*time.Hour), Result{Scenario: "S1", State: Held, Dry: true}, Result{Scenario: "S2", State: Held, Dry: true})}
	var got []string
	for _, s := range Stand(all, []string{"S1", "S2", "S3"}) {
		got = append(got, s.Scenario+" "+s.State+" "+strings.Repeat("|", len(s.History)))
	}
	if diff := cmp.Diff([]string{"S1 not held |||", "S2 never |", "S3 never "}, got); diff != "" {
		t.Error(diff)
	}
}

func FuzzParse(f *testing.F) {
	d := document(noon, Result{Scenario: "S1", State: Held, Figures: map[string]int64{Stopped: 1}})
	d.V = 1
	b, err := d.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := Parse(b)
		if err != nil {
			return
		}
		again, err := d.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Parse(again); err != nil {
			t.Fatalf("what was written is not read: %v", err)
		}
	})
}

// The format's example is read.
func TestExample(t *testing.T) {
	b, err := os.ReadFile("../../../docs/formats/drill.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(b), "```json\n")
	text, _, _ = strings.Cut(text, "```")
	d, err := Parse([]byte(text))
	if err != nil || d.Results[0].Figures[Stopped] != 19 {
		t.Fatalf("%+v, %v", d, err)
	}
}
