package control

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestCatalogue holds the data to itself: 22 controls in order, and no id of a framework without its title.
func TestCatalogue(t *testing.T) {
	c, err := Catalog()
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Controls) != 22 {
		t.Fatalf("%d controls", len(c.Controls))
	}
	for i, x := range c.Controls {
		if want := fmt.Sprintf("RV-%02d", i+1); x.ID != want {
			t.Errorf("control %d is %s, not %s", i, x.ID, want)
		}
		if x.Title == "" || x.Fails == "" || x.Act == "" || len(x.Maps) == 0 {
			t.Errorf("%s lacks a title, when it fails, what to do, or a framework: %+v", x.ID, x)
		}
		for f, ids := range x.Maps {
			framework, ok := c.Framework(f)
			if !ok {
				t.Errorf("%s maps to %s, which is no framework", x.ID, f)
				continue
			}
			for _, id := range ids {
				if framework.Titles[id] == "" {
					t.Errorf("%s maps to %s of %s, which has no title", x.ID, id, f)
				}
			}
		}
	}
	for _, f := range c.Frameworks {
		if f.Title == "" || f.Source == "" {
			t.Errorf("%s has no title or source", f.ID)
		}
		if ids, _ := c.IDs(f.ID); len(ids) == 0 {
			t.Errorf("no control answers to %s", f.ID)
		}
	}
}

var update = flag.Bool("update", false, "write docs/controls.md")

// TestDocument keeps docs/controls.md in step with the catalogue.
func TestDocument(t *testing.T) {
	c, err := Catalog()
	if err != nil {
		t.Fatal(err)
	}
	const file = "../../../docs/controls.md"
	if *update {
		if err := os.WriteFile(file, []byte(c.Markdown()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(file)
	if err != nil || string(b) != c.Markdown() {
		t.Fatalf("docs/controls.md is not what the catalogue makes (%v); run go test ./internal/audit/control -run Document -update", err)
	}
}

// TestIDs: ids stand as a person counts them, and those that nothing answers to are told.
func TestIDs(t *testing.T) {
	c, err := Catalog()
	if err != nil {
		t.Fatal(err)
	}
	for framework, want := range map[string]string{
		"owasp-nhi":     "NHI1 NHI2 NHI3 NHI4 NHI5 NHI6 NHI7 NHI8 NHI9 NHI10",
		"owasp-agentic": "ASI03 ASI08 ASI10",
		"soc2":          "CC6.2",
	} {
		if ids, _ := c.IDs(framework); strings.Join(ids, " ") != want {
			t.Errorf("%s: %q", framework, ids)
		}
	}
	ids, _ := c.IDs("800-53")
	if i, j := slices.Index(ids, "AU-9(2)"), slices.Index(ids, "AU-10"); i < 0 || j < i {
		t.Errorf("AU-9(2) stands after AU-10: %q", ids)
	}
	for framework, want := range map[string]string{"owasp-agentic": "ASI01 ASI02 ASI04 ASI05 ASI06 ASI07 ASI09", "owasp-nhi": "", "nothing": ""} {
		if got := strings.Join(c.Uncovered(framework), " "); got != want {
			t.Errorf("%s: nothing answers to %q, not %q", framework, got, want)
		}
	}
}
