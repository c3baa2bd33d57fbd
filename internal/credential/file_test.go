package credential

import (
	"errors"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/internal/statement"
)

const head = `# Who holds what.
unit: research
custodians:
  - id: c1 # the only one
`

// TestInsert: one record comes to the end of the list and no other byte changes.
func TestInsert(t *testing.T) {
	c := statement.Credential{ID: "new", Owner: "cora", Class: "normal", Template: "groq", Source: "sealed"}
	item := []string{"- id: new", "  owner: cora", "  class: normal", "  template: groq", "  source: sealed"}
	at := func(by int) string {
		return strings.Repeat(" ", by) + strings.Join(item, "\n"+strings.Repeat(" ", by)) + "\n"
	}
	for _, tt := range []struct{ name, before, after, rest string }{
		{"at the end", head + "credentials:\n  - id: a # first\n    # of a\n    owner: cora\n", at(2), ""},
		{"without a last newline", head + "credentials:\n  - id: a", "\n" + at(2), ""},
		{"before another member", head + "credentials:\n  - id: a\n    paths:\n      - /a\n", at(2), "\n# What is lent.\ngrants:\n  - credential: a\n"},
		{"dashes at the margin", head + "credentials:\n- id: a\n  x: |\n    - not a dash\n\n    end\n", at(0), "grants: []\n"},
		{"none yet", head + "credentials:\n", at(2), "grants: []\n"},
		{"no member", head, "credentials:\n" + at(2), ""},
	} {
		got, err := Insert([]byte(tt.before+tt.rest), c)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if diff := cmp.Diff(tt.before+tt.after+tt.rest, string(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
		var back struct{ Credentials []map[string]any }
		if err := yaml.Unmarshal(got, &back); err != nil || len(back.Credentials) == 0 || back.Credentials[len(back.Credentials)-1]["id"] != "new" {
			t.Errorf("%s: %v, %v", tt.name, back, err)
		}
	}
	if got, err := Insert([]byte(head+"credentials: [] # none\n"), c); err != nil || string(got) != head+"credentials:\n"+at(2) {
		t.Errorf("an empty list: %q, %v", got, err)
	}
	for _, flow := range []string{"credentials: [{id: a}]\n", "credentials: x\n", "- a\n", ""} {
		if got, err := Insert([]byte(flow), c); !errors.Is(err, errShape) {
			t.Errorf("%q: %q, %v", flow, got, err)
		}
	}
}
