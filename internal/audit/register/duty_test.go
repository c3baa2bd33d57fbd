package register_test

import (
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/internal/audit/register"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/statement"
)

// short writes duties as "rule task of: person".
func short(all []register.Duty, component string) (list []string) {
	for _, d := range all {
		if d.Component == component {
			who := d.Person
			if d.Orphan {
				who = "nobody, told to " + strings.Join(d.Escalated, " ")
			}
			list = append(list, strings.TrimSpace(fmt.Sprintf("%s %s %s", d.Rule, d.Task, d.Of))+": "+who)
		}
	}
	return list
}

// The rules, each by an example.
func TestRules(t *testing.T) {
	now := time.Now().UTC().Truncate(time.Second)
	dan, err := estate.NewSigner("dan")
	if err != nil {
		t.Fatal(err)
	}
	b := newBook(t, estatetest.At(now), estatetest.With(dan), estatetest.Edit(func(p *estate.Plan) {
		for i := range p.Charter.People {
			switch q := &p.Charter.People[i]; q.ID {
			case "bea":
				q.Left, q.Deputies = now.Add(2*time.Hour), []string{"dan"}
			case "cora":
				q.Left = now.Add(3 * time.Hour)
			}
		}
	}))
	acme := vendor("acme", now, register.Transport)
	acme.Credentials = []string{"acme-login", "support-openai"}
	b.add(t, now, acme)
	team := register.Said{ID: "team", Kind: register.Foreign, Declared: []register.Flag{register.Transport}, Observed: []register.Flag{register.Cache}, Valid: now, Owners: register.Owners{Operations: "bea"}}
	b.add(t, now, team)
	known := vendor("known", now, register.Transport)
	known.Verdict = &register.Verdict{URL: "https://ai.example", Begun: now, Ended: now, Found: []register.Finding{}, Cannot: []string{}}
	known.Probed = now.Add(90 * time.Minute)
	b.add(t, now, known)
	r := b.open(t, now.Add(time.Hour))
	duties := func(at time.Time) []register.Duty {
		list, err := r.At(at, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		return register.Duties(b.Set, list, at)
	}
	reach := []string{"R4 reach unit:research: ada", "R4 reach unit:support: ada"} // bea, who wrote it, did not approve
	soon := duties(now.Add(time.Hour))
	for component, want := range map[string][]string{
		"g1": append([]string{"R3 caller authentication: ada", "R3 routing integrity: bea", "R3 misuse in the window: cora"}, reach...), // R3, R4
		"c1": append([]string{"R2 containment: bea", "R2 audit unit:research: ada", "R2 audit unit:support: ada", "R2 revocation credential:research-anthropic: cora",
			"R2 revocation credential:research-openai: cora", "R2 revocation credential:support-anthropic: cora", "R2 revocation credential:support-openai: cora"}, reach...), // R2
		"acme":  {"R2 containment: bea", "R2 audit: ada", "R2 revocation credential:acme-login: cora", "R2 revocation credential:support-openai: cora", "R5 classification: bea"}, // R5: never probed
		"known": {"R3 caller authentication: ada", "R3 routing integrity: bea", "R3 misuse in the window: cora", "R5 classification: bea"},                                        // R5: its verdict holds
		"team":  {"R2 containment: bea", "R6 audit: nobody, told to ada bea cora", "R6 revocation: nobody, told to ada bea cora"},                                                 // R1 observed, R6
	} {
		if d := cmp.Diff(want, short(soon, component)); d != "" {
			t.Errorf("%s (-want +got):\n%s", component, d)
		}
	}
	later := duties(now.Add(150 * time.Minute)) // bea has left, dan is her deputy; the verdict is over
	if d := cmp.Diff([]string{"R2 containment: dan", "R2 audit: ada", "R2 revocation: cora", "R5 classification: dan"}, short(later, "known")); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"R4 reach unit:research: ada", "R4 reach unit:support: ada"}, short(later, "g1")[3:]); d != "" {
		t.Error(d) // a deputy did not approve what was approved before him
	}
	last := duties(now.Add(4 * time.Hour)) // cora has left, and has no deputy
	if d := cmp.Diff([]string{"R3 caller authentication: ada", "R3 routing integrity: dan", "R6 misuse in the window: nobody, told to ada"}, short(last, "g1")[:3]); d != "" {
		t.Error(d)
	}
	if got := register.Orphans(last); len(got) != len(register.Escalated(last, "ada")) || len(got) == 0 || len(register.Of(last, "cora")) > 0 {
		t.Errorf("orphans %v", got)
	}
}

func TestConflicts(t *testing.T) {
	now := time.Now().UTC().Truncate(time.Second)
	b := newBook(t, estatetest.At(now))
	if got := register.Conflicts(b.Set, nil, now); len(got) > 0 {
		t.Errorf("the demo's three owners: %v", got)
	}
	set := *b.Set
	set.Charter.Roles.Units = map[string]statement.UnitRoles{"research": {Policy: []string{"ada"}, Lifecycle: []string{"cora", "ada"}}, "support": {Policy: []string{"cora"}, Lifecycle: []string{"bea"}}}
	custody := *set.Custody["research"]
	custody.Grants = []statement.Grant{{Credential: "research-openai", Unit: "support"}}
	set.Custody = map[string]*statement.CustodyStatement{"research": &custody, "support": {}}
	all := []register.Component{{ID: "acme", Kind: register.Vendor, Named: register.Owners{Policy: "ada", Operations: "bea", Lifecycle: "ada"}}}
	var got []string
	for _, c := range register.Conflicts(&set, all, now) {
		got = append(got, fmt.Sprint(c.Person, " ", c.Where, " ", c.Latent))
	}
	want := []string{"ada unit:research false", "ada vendor-gateway:acme false", "bea unit:support false", "cora grant:research-openai to support false"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	for i := range set.Charter.People {
		if p := &set.Charter.People[i]; p.ID == "ada" {
			p.Deputies = []string{"bea"}
		}
	}
	latent := 0
	for _, c := range register.Conflicts(&set, nil, now) {
		if c.Latent && c.Person == "bea" {
			latent++
		}
	}
	if latent == 0 {
		t.Error("bea would act for ada, who signs policy and custody")
	}
}

// Of whatever estate and register: nobody answers for what he did not own then, every task of every component is exactly one live person's or an
// orphan's, and orphans are always listed. Held against the charter's words, not against the code's.
func TestDutiesProperty(t *testing.T) {
	seed := time.Now().UnixNano()
	r := rand.New(rand.NewSource(seed))
	defer func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	}()
	for range 6 {
		now := time.Now().UTC().Truncate(time.Second)
		dan, _ := estate.NewSigner("dan")
		eve, _ := estate.NewSigner("eve")
		hour := func() time.Time { return now.Add(time.Duration(1+r.Intn(100)) * time.Hour) }
		b := newBook(t, estatetest.At(now), estatetest.With(dan, eve), estatetest.Edit(func(p *estate.Plan) {
			for i := range p.Charter.People {
				q := &p.Charter.People[i]
				if q.AttestedUntil = hour(); r.Intn(3) == 0 {
					q.Left = hour()
				}
				if q.ID == "ada" || q.ID == "bea" || q.ID == "cora" {
					q.Deputies = [][]string{nil, {"dan"}, {"eve"}, {"dan", "eve"}}[r.Intn(4)]
					if q.ID != "bea" { // one deputy of two roles would be refused
						q.Deputies = nil
					}
				}
			}
		}))
		people := []string{"", "ada", "bea", "cora", "dan", "eve"}
		flags := func() (list []register.Flag) {
			for _, f := range register.Flags {
				if r.Intn(3) == 0 {
					list = append(list, f)
				}
			}
			return list
		}
		for i := range 1 + r.Intn(8) {
			s := register.Said{ID: fmt.Sprint("x", r.Intn(4)), Kind: register.Kinds[4+r.Intn(4)], Declared: flags(), Discovered: flags(), Observed: flags(), Valid: now.Add(time.Duration(r.Intn(20)) * time.Hour)}
			s.Owners = register.Owners{Policy: people[r.Intn(6)], Operations: people[r.Intn(6)], Lifecycle: people[r.Intn(6)]}
			if s.Kind == register.Vendor {
				s.Owners.Contract = people[r.Intn(6)]
			}
			if r.Intn(2) == 0 {
				s.Credentials = []string{"research-openai", "foreign"}[:1+r.Intn(2)]
			}
			if r.Intn(2) == 0 {
				s.Verdict = &register.Verdict{URL: "https://ai.example", Begun: now, Ended: now, Found: []register.Finding{}, Cannot: []string{}}
				for _, f := range s.Discovered {
					s.Verdict.Found = append(s.Verdict.Found, register.Finding{Flag: f})
				}
				s.Probed = hour()
			}
			b.add(t, now.Add(time.Duration(i)*time.Second), s)
		}
		reg := b.open(t, now.Add(200*time.Hour))
		for range 40 {
			at := now.Add(time.Duration(r.Intn(110*60)) * time.Minute)
			list, err := reg.At(at, time.Time{})
			if err != nil {
				t.Fatal(err)
			}
			checkDuties(t, b, list, register.Duties(b.Set, list, at), at)
		}
	}
}

func checkDuties(t *testing.T, b *book, list []register.Component, duties []register.Duty, at time.Time) {
	t.Helper()
	live := func(id string) bool {
		for _, p := range b.Set.Charter.People {
			if p.ID == id {
				return at.Before(p.AttestedUntil) && (p.Left.IsZero() || at.Before(p.Left))
			}
		}
		return false
	}
	deputies := func(id string) []string {
		for _, p := range b.Set.Charter.People {
			if p.ID == id {
				return p.Deputies
			}
		}
		return nil
	}
	seen := map[string]int{}
	tasks := map[string]map[register.Task]bool{}
	for _, d := range duties {
		key := d.Component + "|" + string(d.Task) + "|" + d.Of
		if seen[key]++; seen[key] > 1 && d.Task != register.Reach {
			t.Fatalf("at %s: two have %s", at, key)
		}
		if tasks[d.Component] == nil {
			tasks[d.Component] = map[register.Task]bool{}
		}
		tasks[d.Component][d.Task] = true
		switch {
		case d.Orphan != (d.Person == "") || d.Orphan != (d.Rule == register.R6):
			t.Fatalf("neither a person's nor an orphan: %+v", d)
		case d.Orphan:
			if d.Task != register.Reach && live(d.Named) {
				t.Fatalf("%s is live at %s: %+v", d.Named, at, d)
			}
			for _, id := range append(deputies(d.Named), "") {
				if live(id) {
					t.Fatalf("a deputy is live at %s: %+v", at, d)
				}
			}
			for _, id := range b.Set.Charter.Roles.Root {
				if live(id) != slices.Contains(d.Escalated, id) {
					t.Fatalf("escalated to other than the live root holders at %s: %+v", at, d)
				}
			}
		case !live(d.Person):
			t.Fatalf("%s is not live at %s: %+v", d.Person, at, d)
		case d.Person != d.Named && (live(d.Named) || !slices.Contains(deputies(d.Named), d.Person)):
			t.Fatalf("%s did not own it at %s: %+v", d.Person, at, d)
		}
	}
	for _, c := range list {
		control := c.Kind == register.Vendor && !c.Probed.After(at)
		any := control
		for _, f := range slices.Concat(c.Declared, c.Discovered, c.Observed) {
			any = true
			control = control || f == register.Forward || f == register.Cache || f == register.Retrieve || f == register.Mint
		}
		has := tasks[c.ID]
		for _, task := range []register.Task{register.Containment, register.Audit, register.Revocation} {
			if has[task] != control {
				t.Fatalf("%s is in the control plane: %v; has %s: %v", c.ID, control, task, has[task])
			}
		}
		for _, task := range []register.Task{register.Routing, register.Authentication, register.Misuse} {
			if has[task] != (any && !control) {
				t.Fatalf("%s has narrow duties: %v; has %s: %v", c.ID, any && !control, task, has[task])
			}
		}
		if (c.Kind == register.Gateway || c.Kind == register.Custodian) != has[register.Reach] || (c.Kind == register.Vendor) != has[register.Classification] {
			t.Fatalf("%s has reach %v, classification %v", c.ID, has[register.Reach], has[register.Classification])
		}
	}
}
