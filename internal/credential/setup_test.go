package credential

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/reevehq/reeve/internal/custody"
	"github.com/reevehq/reeve/internal/estate/estatetest"
)

// TestSetup: for every template and source there is something to do at the provider, which names what the estate's tokens say; documents
// to paste are JSON as they stand, but for the words that only a person knows.
func TestSetup(t *testing.T) {
	e := estatetest.New(t, estatetest.Federated(t))
	unit := e.Set.Custody["research"]
	for _, tt := range custody.Templates() {
		for _, way := range tt.Ways {
			if _, ok := custody.FindKind(way.Source); !ok {
				continue
			}
			c, err := answer(t, e.Set, map[string]string{"unit": "research", "template": tt.Name, "source": way.Source, "name": "research-new"})
			if err != nil {
				t.Fatal(err)
			}
			for _, each := range []bool{false, true} {
				c.From.PerWorkload = each
				filled, err := custody.Fill(c)
				if err != nil {
					t.Fatal(err)
				}
				id := IdentityOf(unit, &filled)
				steps := Setup(filled, id)
				if len(steps) == 0 {
					t.Errorf("%s by %s: nothing to do at the provider", tt.Name, way.Source)
				}
				var all strings.Builder
				for _, s := range steps {
					all.WriteString(s.Do + "\n" + s.Paste + "\n")
					if strings.HasPrefix(s.Paste, "{") && !strings.Contains(s.Paste, "<KEYS") && !json.Valid([]byte(s.Paste)) {
						t.Errorf("%s by %s: not JSON:\n%s", tt.Name, way.Source, s.Paste)
					}
				}
				if strings.Contains(all.String(), "${") {
					t.Errorf("%s by %s: something is not filled in:\n%s", tt.Name, way.Source, all.String())
				}
				if way.Source != "federation" {
					continue
				}
				subject := "spiffe://acme.example/unit/research/credential/research-new"
				if each {
					subject += "/workload/"
				}
				_, issuer, _ := strings.Cut(id.Issuer, "https://")
				for _, want := range []string{subject, issuer, id.Audience} {
					if want == "" || !strings.Contains(all.String(), want) {
						t.Errorf("%s: %q is not in what is to be set up:\n%s", tt.Name, want, all.String())
					}
				}
				if strings.Contains(all.String(), "<SUBJECT>") || strings.Contains(all.String(), "<ISSUER>") {
					t.Errorf("%s: not filled in:\n%s", tt.Name, all.String())
				}
			}
		}
	}
}
