package estate_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/statement"
)

// Who is live, who acts for whom, and what hangs on one person alone.
func TestPeople(t *testing.T) {
	dan, err := estate.NewSigner("dan")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC().Truncate(time.Second)
	e := estatetest.New(t, estatetest.At(now), estatetest.With(dan), estatetest.Edit(func(p *estate.Plan) {
		cora := &p.Charter.People[2]
		cora.AttestedUntil, cora.Deputies = now.Add(6*24*time.Hour), []string{"dan"}
		p.Charter.People[0].AttestedUntil = now.Add(20 * time.Hour)
	}))
	at := func(when time.Time, id string) estate.PersonState {
		for _, p := range estate.People(e.Set, when) {
			if p.ID == id {
				return p
			}
		}
		t.Fatalf("no %s", id)
		return estate.PersonState{}
	}
	if p := at(now, "cora"); p.State != "live" || len(p.Credentials) != 4 || len(p.Alone) != 0 || p.Acting != "" {
		t.Errorf("while cora is here: %+v", p)
	}
	if p := at(now.Add(7*24*time.Hour), "cora"); p.State != "not attested" || p.Acting != "dan" {
		t.Errorf("when her attestation has run out: %+v", p)
	}
	if p := at(now, "ada"); !slices.Equal(p.Alone, []string{"gateway g1"}) || !slices.Equal(p.Roles, []string{"root", "policy of research", "policy of support"}) {
		t.Errorf("ada: %+v", p)
	}
	warned := strings.Join(estate.Warnings(e.Set, now), "\n")
	for _, want := range []string{"orphaned within a day, at", "unless ada is attested (reeve attest): gateway g1", "orphaned within 30 days"} {
		if !strings.Contains(warned, want) {
			t.Errorf("no warning %q in\n%s", want, warned)
		}
	}
	if strings.Contains(warned, "orphaned within 7 days") {
		t.Errorf("a credential with a deputy is said to be orphaned:\n%s", warned)
	}
	if late := strings.Join(estate.Warnings(e.Set, now.Add(24*24*time.Hour)), "\n"); !strings.Contains(late, "orphaned within 7 days") ||
		!strings.Contains(late, "credential research-openai") || !strings.Contains(late, "for neither ada nor a deputy is live: gateway g1") || !strings.Contains(late, "dan acts for cora") {
		t.Errorf("after 24 days:\n%s", late)
	}
}

// What hangs on a person who leaves; a revocation of the person closes what he alone held.
func TestLeave(t *testing.T) {
	e := estatetest.New(t)
	l, err := e.Dir.Leave(e.Set, "ada", e.Now)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"the role root (charter.yaml)", "the role policy of research (charter.yaml)", "the role policy of support (charter.yaml)",
		"the gateway g1 (operations.yaml: owners)", "the attestation of cora, by somebody else when it is renewed"}
	if d := cmp.Diff(want, l.Transfer); d != "" {
		t.Error(d)
	}
	if len(l.Rotate) != 2 || !strings.Contains(l.Rotate[0], "which he alone signed") {
		t.Errorf("rotate: %v", l.Rotate)
	}
	if l, err = e.Dir.Leave(e.Set, "cora", e.Now); err != nil || len(l.Person.Alone) != 5 || len(l.Rotate) != 4 {
		t.Errorf("cora: %+v, %v", l, err)
	}
	if why := e.Set.Without("cora").Route("g1", "c1", "research-openai", e.Now); why == "" {
		t.Error("what cora alone held is still used")
	}
	if _, err := e.Dir.Leave(e.Set, "nobody", e.Now); err == nil {
		t.Error("nobody leaves")
	}
}

// An attestation changes two members of the charter and nothing else, is signed by who gives it, and by nobody in his name.
func TestAttest(t *testing.T) {
	e := estatetest.New(t)
	name := filepath.Join(string(e.Dir), "charter.yaml")
	before, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	commented := append([]byte("# Who we are.\n"), before...)
	if err := os.WriteFile(name, commented, 0o600); err != nil {
		t.Fatal(err)
	}
	until := e.Now.Add(1000 * time.Hour)
	if err := e.Dir.Attest("ada", "cora", until); err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	changed := 0
	a, b := strings.Split(string(commented), "\n"), strings.Split(string(after), "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			changed++
		}
	}
	if len(a) != len(b) || changed != 2 || !strings.HasPrefix(b[0], "# Who we are.") {
		t.Errorf("%d lines changed:\n%s", changed, cmp.Diff(string(commented), string(after)))
	}
	terms := estate.Terms{Created: e.Now, Expires: e.Now.Add(time.Hour)}
	publish := func(by ...*estate.Signer) error {
		for _, name := range []string{"charter", "lock"} {
			if _, err := e.Dir.Sign("demo", name, by[0], terms); err != nil {
				t.Fatal(err)
			}
			for _, s := range by[1:] {
				if err := e.Dir.Approve(name, s); err != nil {
					t.Fatal(err)
				}
			}
		}
		_, err := e.Dir.Publish(e.Pin, e.Now)
		return err
	}
	err = publish(e.Ada, e.Bea)
	if e, ok := err.(*statement.Error); !ok || e.Rule != "items" || e.Person != "cora" {
		t.Fatalf("attested in cora's name: %v", err)
	}
	if err := publish(e.Cora, e.Bea); err != nil {
		t.Fatal(err)
	}
	set, err := e.Dir.InForce(e.Pin)
	if err != nil || !set.Charter.People[0].AttestedUntil.Equal(until) || set.Charter.People[0].AttestedBy != "cora" {
		t.Errorf("%v, %v", set.Charter.People[0], err)
	}
}
