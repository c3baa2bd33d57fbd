package control

import (
	"flag"
	"fmt"
	"os"
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
