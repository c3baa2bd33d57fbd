package oscal

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/internal/audit/control"
)

var update = flag.Bool("update", false, "write the golden files")

var noon = time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)

func input(t testing.TB) Input {
	t.Helper()
	c, err := control.Catalog()
	if err != nil {
		t.Fatal(err)
	}
	return Input{Estate: "example", Release: "v1", Catalogue: c, Results: []Assessment{{From: noon.Add(-time.Hour), To: noon, Results: []control.Result{
		{Control: "RV-01", State: control.Pass, Summary: "3 credentials, each with one live owner", Checked: 3, AsOf: noon},
		{Control: "RV-10", State: control.Exempt, Summary: "1 of 3 credentials lives too long", Checked: 3, AsOf: noon, Until: noon.Add(24 * time.Hour), Approver: "ada"},
		{Control: "RV-16", State: control.Fail, Summary: "1 credential was used out of band", Checked: 3, AsOf: noon, Findings: []control.Finding{
			{What: "the provider saw 2 uses\nthat no ledger has: revoke it", Subject: "credential:research-openai", Unit: "research", Owner: "bob", Refs: []control.Ref{{Log: "0123456789abcdef", Seq: 12}}}}},
		{Control: "RV-19", State: control.Unknown, Summary: "", AsOf: noon, Findings: []control.Finding{{What: "nothing was searched", Subject: "estate", Unknown: true}}},
	}}}}
}

func TestGolden(t *testing.T) {
	files, err := Documents(input(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{AssessmentFile, ResultsFile} { // the others say what the catalogue says
		golden := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(golden, files[name], 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(want), string(files[name])); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

// The same answers give the same bytes; another answer gives another document.
func TestSameInSameOut(t *testing.T) {
	a, err := Documents(input(t))
	if err != nil {
		t.Fatal(err)
	}
	b, _ := Documents(input(t))
	if d := cmp.Diff(a, b); d != "" {
		t.Fatal(d)
	}
	other := input(t)
	other.Results[0].Results[0].Checked = 4
	c, _ := Documents(other)
	if !bytes.Equal(a[CatalogFile], c[CatalogFile]) || root(t, a[ResultsFile])["uuid"] == root(t, c[ResultsFile])["uuid"] {
		t.Fatal("a changed result gives the same document, or another catalog")
	}
}

func root(t *testing.T, b []byte) map[string]any {
	t.Helper()
	var doc map[string]map[string]any
	if err := json.Unmarshal(b, &doc); err != nil {
		t.Fatal(err)
	}
	for _, v := range doc {
		return v
	}
	return nil
}

// Every id is there once in its document, and what a document names is there: files, resources, components, observations, risks, parts of controls.
func TestNamesResolve(t *testing.T) {
	in := input(t)
	in.Results = append(in.Results, Assessment{Title: "after", To: noon.Add(time.Hour), Results: in.Results[0].Results})
	files, err := Documents(in)
	if err != nil {
		t.Fatal(err)
	}
	objective := string(files[CatalogFile])
	there := map[string]bool{}
	for name, b := range files {
		seen := map[string]bool{}
		for _, m := range regexp.MustCompile(`"uuid": "([^"]+)"`).FindAllSubmatch(b, -1) {
			if seen[string(m[1])] {
				t.Errorf("%s has %s twice", name, m[1])
			}
			seen[string(m[1])], there[string(m[1])] = true, true
		}
	}
	for name, b := range files {
		for _, m := range regexp.MustCompile(`"(?:actor|component|observation|risk)-uuid": "([^"]+)"`).FindAllSubmatch(b, -1) {
			if !there[string(m[1])] {
				t.Errorf("%s names %s, which is not there", name, m[0])
			}
		}
		for _, m := range regexp.MustCompile(`"(?:href|source)": "([^"]+)"`).FindAllSubmatch(b, -1) {
			to := string(m[1])
			if fragment, ok := strings.CutPrefix(to, "#"); ok && there[fragment] || files[to] != nil || strings.HasPrefix(to, "https://") {
				continue
			}
			t.Errorf("%s names %s, which is not there", name, to)
		}
		for _, m := range regexp.MustCompile(`"target-id": "([^"]+)"`).FindAllSubmatch(b, -1) {
			if !strings.Contains(objective, `"id": "`+string(m[1])+`"`) {
				t.Errorf("%s decides %s, which no control has", name, m[1])
			}
		}
	}
}

// Whatever is not pass is not satisfied, and says what it is.
func TestOnlyPassIsSatisfied(t *testing.T) {
	files, err := Documents(input(t))
	if err != nil {
		t.Fatal(err)
	}
	results := root(t, files[ResultsFile])["results"].([]any)[0].(map[string]any)
	want := map[string]string{"pass": "satisfied pass", "exempt": "not-satisfied other", "fail": "not-satisfied fail", "unknown": "not-satisfied other"}
	for _, f := range results["findings"].([]any) {
		f := f.(map[string]any)
		state := f["props"].([]any)[0].(map[string]any)["value"].(string)
		s := f["target"].(map[string]any)["status"].(map[string]any)
		if got := s["state"].(string) + " " + s["reason"].(string); got != want[state] {
			t.Errorf("%s is %s", state, got)
		}
	}
}

// The processes name controls of the catalogue alone, and every control has one that implements it.
func TestEveryControlIsImplemented(t *testing.T) {
	in := input(t)
	by := map[string]int{}
	for _, p := range processes() {
		for c := range p.controls {
			if _, ok := in.Catalogue.Control(c); !ok {
				t.Errorf("%s implements %s, which is no control", p.name, c)
			}
			by[c]++
		}
	}
	for _, c := range in.Catalogue.Controls {
		if by[c.ID] == 0 {
			t.Errorf("nothing implements %s", c.ID)
		}
	}
}

func TestWrite(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	if err := Write(dir, input(t)); err != nil {
		t.Fatal(err)
	}
	for _, f := range Files {
		if b, err := os.ReadFile(filepath.Join(dir, f)); err != nil || len(b) == 0 {
			t.Error(f, err)
		}
	}
	if err := Write(dir, Input{}); err == nil {
		t.Error("nothing was written as OSCAL")
	}
}
