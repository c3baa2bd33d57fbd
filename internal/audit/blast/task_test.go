package blast_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/internal/audit/blast"
	"github.com/reevehq/reeve/internal/audit/register"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
)

// todo is the tasks of an answer in short.
func todo(a *blast.Answer) (list []string) {
	for _, t := range a.Tasks {
		list = append(list, fmt.Sprintf("%s%s %s %s of %s", t.Person, strings.Join(t.Escalated, "|"), t.Do, strings.Join(t.What, "|"), strings.Join(t.Units, "|")))
	}
	return list
}

// Who has to do what: those who answer now, not those who did when the window began; for a credential of nobody the root holders name somebody; for a
// vendor's gateway whoever operates it here; for what is outside the statements the component's own owner.
func TestTasks(t *testing.T) {
	leaves := estatetest.Edit(func(p *estate.Plan) { // within the window, and nobody stands in
		for i := range p.Charter.People {
			if p.Charter.People[i].ID == "cora" {
				p.Charter.People[i].Left = start().Add(10 * minute)
			}
		}
	})
	stays := newEstate(t)
	left := estatetest.New(t, estatetest.At(start()), estatetest.Service("log", "c2"), estatetest.Service("log", "g2"), estatetest.Edit(shape), leaves)
	strays := blast.Options{OutOfBand: []blast.Stray{{Credential: "support-openai", Provider: "openai", Count: 7, Why: "it counted 7"}}}
	for _, c := range []struct {
		name    string
		e       *estatetest.Estate
		subject blast.Subject
		options blast.Options
		edit    func(*world)
		want    []string
	}{
		{"a gateway: what others saw is revoked, what it vouched for is looked at, what was signed is nobody's task", stays, component("g1"), strays, nil, []string{
			"bea contain g1 of ", "cora revoke support-openai of support", "cora look research-openai of research"}},
		{"an orphan", left, component("g1"), strays, nil, []string{
			"bea contain g1 of ", "ada|bea revoke support-openai of support", "ada|bea look research-openai of research"}},
		{"a vendor's gateway that nobody owns", stays, component("v1"), blast.Options{}, vendor(register.Transport), []string{
			"ada|bea|cora contain v1 of ", "ada|bea|cora revoke outside-key of support", "cora revoke support-openai of support"}},
		{"a vendor's gateway", stays, component("v1"), blast.Options{}, func(w *world) {
			vendor(register.Transport)(w)
			w.others[0].Owners = register.Owners{Operations: "bea", Lifecycle: "cora", Contract: "ada"}
		}, []string{"bea contain v1 of ", "cora revoke outside-key|support-openai of support"}},
		{"a vendor's gateway of which nothing is listed", stays, component("v1"), blast.Options{}, func(w *world) {
			vendor(register.Transport)(w)
			w.others[0].Owners, w.others[0].Credentials = register.Owners{Operations: "bea", Contract: "ada"}, nil
		}, []string{"bea contain v1 of ", "ada look v1 of "}},
		{"a custodian", stays, component("c2"), blast.Options{}, nil, []string{
			"bea contain c2 of ", "cora rotate identity c2|log-key c2 of ", "ada rotate log-key c2 of ", "bea rotate log-key c2 of ", "cora revoke lab-openai of lab"}},
		{"a workload", stays, blast.Subject{Kind: blast.Workload, ID: "research-agent"}, blast.Options{}, nil, []string{
			"ada contain research-agent of research", "cora look research-openai of research"}},
		{"a unit that is asked about is not captured", stays, blast.Subject{Kind: blast.Unit, ID: "support"}, blast.Options{}, nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, c.e)
			w.use(2, 5*minute, "research-agent", "g1", "research-openai", "bearer")
			w.use(3, 6*minute, "support-agent", "g1", "support-openai", "pop")
			if c.edit != nil {
				c.edit(w)
			}
			a := w.ask(c.subject, c.options)
			if diff := cmp.Diff(c.want, todo(a)); diff != "" {
				t.Error(diff)
			}
		})
	}
}
