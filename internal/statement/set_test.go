package statement_test

import (
	"maps"
	"os"
	"path"
	"slices"
	"testing"
	"time"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/statement"
)

// What a later lock binds unchanged is judged by the later charter all the same.
func TestUnchangedUnderAnotherCharter(t *testing.T) {
	e := estatetest.New(t)
	dan, err := estate.NewSigner("dan")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, rule string
		charter    func(*statement.Charter)
	}{
		{"nothing else", "", func(*statement.Charter) {}},
		{"an owner has the role no more", "owner", func(c *statement.Charter) {
			c.Roles.Units = maps.Clone(c.Roles.Units)
			u := c.Roles.Units["research"]
			u.Lifecycle = []string{"dan"}
			c.Roles.Units["research"] = u
			p := &c.People[len(c.People)-1]
			p.AttestedUntil, p.Deputies = p.AttestedUntil.Add(-24*time.Hour), []string{"cora"} // she still approves, and owns nothing
		}},
		{"a signer has another key", "approvers", func(c *statement.Charter) {
			p := slices.IndexFunc(c.People, func(p statement.Person) bool { return p.ID == "cora" })
			k := dan.Key()
			k.ID = c.People[p].Keys[0].ID
			c.People[p].Keys = []statement.Key{k}
			c.People = slices.DeleteFunc(c.People, func(p statement.Person) bool { return p.ID == "dan" })
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			plan := *e.Plan
			plan.Charter.People = append(slices.Clone(plan.Charter.People), statement.Person{ID: "dan", Name: "dan", AttestedUntil: e.Now.Add(time.Hour), AttestedBy: "ada", Keys: []statement.Key{dan.Key()}})
			c.charter(&plan.Charter)
			dir := estate.Dir(t.TempDir())
			if err := plan.Write(dir); err != nil {
				t.Fatal(err)
			}
			charter, err := os.ReadFile(path.Join(string(dir), "charter.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			m := copyStore(t, e)
			m.Put(t, "charter", 2, map[string][]byte{"charter.yaml": charter}, nil, e.Ada, e.Bea)
			m.Lock(t, 2, nil, e.Ada, e.Bea)
			for _, prev := range []*statement.Set{nil, e.Set} {
				_, err := statement.Load(m, e.Pin, prev, e.Now)
				if c.rule != "" {
					refused(t, err, c.rule, "custody-research/1")
				} else if err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
