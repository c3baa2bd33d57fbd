package statement_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/statement"
)

// standingEstate has a second lifecycle owner of research, carl, and dan, who is a policy owner of support alone.
func standingEstate(t *testing.T) (e *estatetest.Estate, carl, dan *estate.Signer) {
	t.Helper()
	carl, err := estate.NewSigner("carl")
	if err != nil {
		t.Fatal(err)
	}
	if dan, err = estate.NewSigner("dan"); err != nil {
		t.Fatal(err)
	}
	return estatetest.New(t, estatetest.With(carl, dan), estatetest.Edit(func(p *estate.Plan) {
		research, support := p.Charter.Roles.Units["research"], p.Charter.Roles.Units["support"]
		research.Lifecycle = append(research.Lifecycle, "carl")
		support.Policy = append([]string{"dan"}, support.Policy...)
		p.Charter.Roles.Units["research"], p.Charter.Roles.Units["support"] = research, support
	})), carl, dan
}

func sealed(t *testing.T, r statement.Revocation, by ...*estate.Signer) *statement.Envelope {
	t.Helper()
	r.Estate, r.Number, r.Reason, r.Signer = "demo", 1, "test", by[0].Person
	env, err := estate.Seal("revocation", r, by...)
	if err != nil {
		t.Fatal(err)
	}
	return env
}

// What was closed stays closed for whoever starts anew, when its signer has handed it on or left; and nothing else does.
func TestStanding(t *testing.T) {
	e, carl, dan := standingEstate(t)
	openai := statement.Target{Kind: "credential", ID: "research-openai"}
	leaves := e.Now.Add(time.Hour)
	before, after := e.Now.Add(30*time.Minute), e.Now.Add(2*time.Hour)
	e.Republish(t, func(p *estate.Plan) {
		for i := range p.Custody["research"].Credentials {
			p.Custody["research"].Credentials[i].Owner = "carl"
		}
	}, "custody-research")
	handedOn := e.Set
	e.Republish(t, func(p *estate.Plan) {
		for i, person := range p.Charter.People {
			if person.ID == "cora" {
				p.Charter.People[i].Left = leaves
			}
		}
		for _, c := range p.Custody {
			for i := range c.Credentials {
				c.Credentials[i].Owner = "carl"
			}
		}
		support := p.Charter.Roles.Units["support"]
		support.Lifecycle = append(support.Lifecycle, "carl")
		p.Charter.Roles.Units["support"] = support
	}, "charter", "custody-research", "custody-support")
	for _, c := range []struct {
		name     string
		set      *statement.Set
		r        statement.Revocation
		at       time.Time
		by       []*estate.Signer
		new, old bool // accepted as a new record, as a published one
	}{
		{"by who has handed it on", handedOn, statement.Revocation{Target: openai, Time: e.Now}, e.Now, []*estate.Signer{e.Cora}, false, true},
		{"that ends it too", handedOn, statement.Revocation{Target: openai, Time: e.Now, End: true}, e.Now, []*estate.Signer{e.Cora}, false, true},
		{"by its owner", handedOn, statement.Revocation{Target: openai, Time: e.Now}, e.Now, []*estate.Signer{carl}, true, true},
		{"by who has left since", e.Set, statement.Revocation{Target: openai, Time: before}, after, []*estate.Signer{e.Cora}, false, true},
		{"by who had left", e.Set, statement.Revocation{Target: openai, Time: after}, after, []*estate.Signer{e.Cora}, false, false},
		{"from the future", e.Set, statement.Revocation{Target: openai, Time: after.Add(time.Hour)}, after, []*estate.Signer{e.Cora}, false, false},
		{"by an owner of another unit", handedOn, statement.Revocation{Target: openai, Time: e.Now}, e.Now, []*estate.Signer{dan}, false, false},
		{"in the name of one who did not sign", handedOn, statement.Revocation{Target: openai, Time: e.Now}, e.Now, []*estate.Signer{dan, e.Cora}, false, false},
		{"of everything, by one", handedOn, statement.Revocation{Target: statement.Target{Kind: "everything"}, Time: e.Now}, e.Now, []*estate.Signer{e.Bea}, false, false},
		{"of what is not there", handedOn, statement.Revocation{Target: statement.Target{Kind: "credential", ID: "gone"}, Time: e.Now}, e.Now, []*estate.Signer{e.Cora}, false, false},
		{"opening, by who has handed it on", handedOn, statement.Revocation{Target: openai, Open: true, Time: e.Now}, e.Now, []*estate.Signer{e.Cora, e.Ada}, false, false},
		{"opening, by who has left since", e.Set, statement.Revocation{Target: openai, Open: true, Time: before}, after, []*estate.Signer{e.Cora, e.Ada}, false, false},
	} {
		env := sealed(t, c.r, c.by...)
		_, isNew := c.set.OpenRevocation(env, c.at)
		r, isOld := c.set.Standing(env, c.at)
		if (isNew == nil) != c.new || (isOld == nil) != c.old {
			t.Errorf("%s: as a new record %v, as a published one %v", c.name, isNew, isOld)
		}
		if isOld == nil && isNew != nil && r.End {
			t.Errorf("%s: it ends the secret", c.name)
		}
		for channel, want := range map[string]bool{"feed": c.old, "folder": c.old, "kept": c.old, "auditor": c.new, "gateway": c.new, "admin": c.new, "": c.new} {
			if _, err := c.set.Revocation(&statement.Record{Kind: "revocation", Envelope: env, Channel: channel}, c.at); (err == nil) != want {
				t.Errorf("%s, by %q: %v", c.name, channel, err)
			}
		}
	}
}

// A version that would let go of a closing, or of an opening, is refused before anybody has it.
func TestVersionsKeepClosings(t *testing.T) {
	e, carl, _ := standingEstate(t)
	openai := statement.Target{Kind: "credential", ID: "research-openai"}
	revoke := func(open bool, at time.Time, by ...*estate.Signer) {
		t.Helper()
		if _, err := e.Dir.Revoke(e.Set, statement.Revocation{Target: openai, Open: open, Reason: "test"}, at, by...); err != nil {
			t.Fatal(err)
		}
	}
	publish := func(edit func(*estate.Plan), names ...string) error {
		t.Helper()
		edit(e.Plan)
		if err := e.Plan.Write(e.Dir); err != nil {
			t.Fatal(err)
		}
		if err := e.Dir.SignAll(&e.Plan.Charter, append(names, "lock"), e.People(), e.Now, e.Lives); err != nil {
			t.Fatal(err)
		}
		set, err := e.Dir.Publish(e.Pin, e.Now.Add(time.Minute))
		if err == nil {
			e.Set = set
		}
		return err
	}
	without := func(role []string, person string) (rest []string) {
		for _, id := range role {
			if id != person {
				rest = append(rest, id)
			}
		}
		return rest
	}
	handOn := func(p *estate.Plan) { // to carl alone
		for i := range p.Custody["research"].Credentials {
			p.Custody["research"].Credentials[i].Owner = "carl"
		}
		research := p.Charter.Roles.Units["research"]
		research.Lifecycle = without(research.Lifecycle, "cora")
		p.Charter.Roles.Units["research"] = research
	}
	revoke(false, e.Now, e.Cora)
	err := publish(handOn, "charter", "custody-research")
	if no := new(statement.Error); !errors.As(err, &no) || no.Rule != "closing" || no.Person != "cora" || !strings.Contains(no.What, "credential research-openai is closed by record 1 of cora") {
		t.Fatalf("a version that lets go of a closing: %v", err)
	}
	revoke(false, e.Now.Add(time.Second), carl, e.Ada) // as it asks for
	if err := publish(func(*estate.Plan) {}); err != nil {
		t.Fatalf("after two others closed it: %v", err)
	}
	if closed, err := e.Dir.Closed(e.Set, e.Now.Add(time.Minute)); err != nil || closed[openai] == nil {
		t.Fatalf("%v %v", closed, err)
	}
	revoke(true, e.Now.Add(2*time.Second), carl, e.Ada)
	err = publish(func(p *estate.Plan) { // back to cora, and carl goes
		for i := range p.Custody["research"].Credentials {
			p.Custody["research"].Credentials[i].Owner = "cora"
		}
		research := p.Charter.Roles.Units["research"]
		research.Lifecycle = append(research.Lifecycle, "cora")
		p.Charter.Roles.Units["research"] = research
	}, "charter", "custody-research")
	if no := new(statement.Error); !errors.As(err, &no) || no.Rule != "closing" || !strings.Contains(no.What, "was opened after") {
		t.Fatalf("a version that lets go of an opening: %v", err)
	}
}
