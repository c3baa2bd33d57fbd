package blast_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/internal/audit/blast"
	"github.com/reevehq/reeve/internal/audit/register"
)

var update = flag.Bool("update", false, "write testdata/answer.json anew")

// The JSON of an answer is a format (docs/formats/blast.md): a change of it is seen here.
func TestJSON(t *testing.T) {
	w := newWorld(t, newEstate(t))
	shared(w)
	a := w.ask(component("g1"), blast.Options{OutOfBand: []blast.Stray{{Credential: "support-anthropic", Provider: "anthropic", Count: 7, First: start(), Last: start().Add(minute), Why: "it counted 7"}}})
	a.Component = register.Component{ID: a.Component.ID, Kind: a.Component.Kind} // the register's own
	text, err := json.MarshalIndent(a, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	const file = "testdata/answer.json"
	if *update {
		if err := os.WriteFile(file, append(text, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(text)+"\n"); d != "" {
		t.Error(d)
	}
}

// The page needs nothing else, runs nothing, and takes nothing of what others named for markup.
func TestPage(t *testing.T) {
	w := newWorld(t, newEstate(t))
	shared(w)
	a := w.ask(component("g1"), blast.Options{})
	a.Component.Name = `<script>alert(1)</script>`
	a.Rows[0].Why = `"><img alt=x>`
	var page bytes.Buffer
	if err := blast.WritePage(&page, a); err != nil {
		t.Fatal(err)
	}
	html := page.String()
	for _, never := range []string{"<script", "<img", "http://", "src=", "@import", "url("} {
		if strings.Contains(html, never) {
			t.Errorf("the page has %q", never)
		}
	}
	for _, want := range []string{"Blast radius of gateway:g1", "USED-ASSERTED", "research-openai", "<svg", "What cannot be known", "cora", "Not for single business units", "--annex UNIT"} {
		if !strings.Contains(html, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	for _, r := range a.Rows {
		if r.Class != blast.Excluded && !strings.Contains(html, r.Credential) {
			t.Errorf("the page lacks %s", r.Credential)
		}
	}
	// Nothing to draw is no picture.
	page.Reset()
	if err := blast.WritePage(&page, w.ask(component("w1"), blast.Options{})); err != nil || strings.Contains(page.String(), "<svg") {
		t.Errorf("%v", err)
	}
}
