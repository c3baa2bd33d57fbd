package incident

import (
	"testing"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/blast"
	"github.com/reevehq/reeve/internal/audit/books"
	"github.com/reevehq/reeve/internal/audit/history"
	"github.com/reevehq/reeve/internal/audit/index"
	"github.com/reevehq/reeve/internal/audit/register"
)

// A workload's signature clears a use of a captured gateway, and not of a captured workload, custodian or authority; what rests on a captured
// authority or person counts although no entry bears its name.
func TestMisuse(t *testing.T) {
	e, _ := journals(t)
	x := index.NewMemory(index.Log{ID: "00000000000000c1", Process: "c1", Origin: "reeve/demo/c1"})
	at := time.Now().Add(-time.Hour)
	for i, proof := range []string{"bearer", "token", "pop"} {
		err := x.Add(&entry.Entry{V: 1, Type: entry.Intent, Log: "00000000000000c1", Seq: int64(i), TimeNS: at.Add(time.Duration(i)).UnixNano(), Tenant: "acme", Unit: "research", Workload: "agent", Gateway: "g1",
			Credential: "research-openai", Level: []string{"W0", "W1", "W2"}[i], Proof: proof})
		if err != nil {
			t.Fatal(err)
		}
	}
	used := []blast.Row{{Credential: "research-openai", Unit: "research", Workloads: []string{"agent"}, Uses: 3}}
	idle := []blast.Row{{Credential: "research-openai", Unit: "research", Workloads: []string{"agent"}}}
	for _, c := range []struct {
		subject      string
		kind         register.Kind
		rows         []blast.Row
		uses, proven int64
	}{
		{"gateway:g1", register.Gateway, used, 2, 1},
		{"gateway:g2", register.Gateway, nil, 0, 0},
		{"credential:research-openai", "", used, 2, 1},
		{"unit:research", "", used, 2, 1},
		{"workload:agent", "", used, 3, 0},
		{"custodian:c1", register.Custodian, used, 3, 0},
		{"authority:a1", register.Authority, used, 2, 0},
		{"authority:a1", register.Authority, idle, 0, 0},
		{"person:ada", "", used, 1, 0},
		{"person:ada", "", idle, 0, 0},
	} {
		m := &maker{in: Input{Books: &books.Books{Index: x}}, process: map[string]string{"00000000000000c1": "c1"}, span: history.New(e.Set).Newest(), Report: &Report{
			From: at.Add(-time.Minute), To: at.Add(time.Minute), Subjects: []Subject{{ID: c.subject, Kind: string(c.kind)}}, Blast: []*blast.Answer{{Rows: c.rows}}}}
		m.in.Journal = &Journal{Steps: []Signed{{Step: Step{Subjects: []string{c.subject}}}}}
		if err := m.misuse(t.Context()); err != nil {
			t.Fatal(err)
		}
		if m.Misuse.Uses != c.uses || m.Misuse.Proven != c.proven {
			t.Errorf("%s: %d uses and %d proven, not %d and %d", c.subject, m.Misuse.Uses, m.Misuse.Proven, c.uses, c.proven)
		}
	}
}
