package statement_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/statement"
)

// large is an estate with two owners of each role besides operations: ada and abe for policy, bea and ben for operations, cora and
// carl for lifecycle of research; dora owns support's policy, cleo its credentials; the root quorum is bea, ben and cora.
type large struct {
	*estatetest.Estate
	by map[string]*estate.Signer
}

func newLarge(t *testing.T, edits ...func(*estate.Plan)) *large {
	t.Helper()
	l := &large{by: map[string]*estate.Signer{}}
	for _, id := range []string{"abe", "ben", "carl", "dora", "cleo"} {
		s, err := estate.NewSigner(id)
		if err != nil {
			t.Fatal(err)
		}
		l.by[id] = s
	}
	l.Estate = estatetest.New(t, estatetest.Lives(estate.Lives{Statements: 100 * time.Hour, Lock: 100 * time.Hour}), estatetest.With(l.by["abe"], l.by["ben"], l.by["carl"], l.by["dora"], l.by["cleo"]), estatetest.Edit(func(p *estate.Plan) {
		c := &p.Charter
		c.Roles = statement.Roles{Root: []string{"bea", "ben", "cora"}, Operations: []string{"bea", "ben"}, Units: map[string]statement.UnitRoles{
			"research": {Policy: []string{"ada", "abe"}, Lifecycle: []string{"cora", "carl"}},
			"support":  {Policy: []string{"dora"}, Lifecycle: []string{"cleo"}},
		}}
		for i := range p.Custody["support"].Credentials {
			p.Custody["support"].Credentials[i].Owner = "cleo"
		}
		for i := range c.People {
			if c.People[i].ID == "ben" {
				c.People[i].AttestedBy = "cora"
			}
		}
		c.Issuers = []statement.Issuer{{ID: "ci", Issuer: "https://ci.example", Discovery: true, Algorithms: []string{"EdDSA"}}}
		c.Workloads[0].Identities = append(c.Workloads[0].Identities, statement.Identity{Issuer: "ci", Audience: "reeve", Subject: "repo/acme/agent"})
		g := &p.Operations.Gateways[0]
		g.Units = []string{"research"}
		delete(p.Operations.Providers[1].Credentials, "research")
		for _, f := range edits {
			f(p)
		}
	}))
	l.by["ada"], l.by["bea"], l.by["cora"] = l.Ada, l.Bea, l.Cora
	return l
}

// change writes the plan as it is after edit, has the statement signed by the people named, the first as its author, and a new
// lock by bea and ada, and loads it over the set in force and afresh.
func (l *large) change(t *testing.T, name string, edit func(*estate.Plan), by string) error {
	t.Helper()
	m := copyStore(t, l.Estate)
	l.sign(t, m, 2, name, edit, by)
	m.Lock(t, 2, nil, l.Bea, l.Ada)
	_, err := statement.Load(m, l.Pin, l.Set, l.Now)
	_, fresh := statement.Load(m, l.Pin, nil, l.Now)
	if diff := cmp.Diff(said(err), said(fresh)); diff != "" {
		t.Errorf("who has the set before and who has not judge differently: %s", diff)
	}
	return err
}

// copyPlan is a plan that shares nothing with the one given.
func copyPlan(t *testing.T, p *estate.Plan) *estate.Plan {
	t.Helper()
	b, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	next := new(estate.Plan)
	if err := json.Unmarshal(b, next); err != nil {
		t.Fatal(err)
	}
	return next
}

func said(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func (l *large) sign(t *testing.T, m mem, version int64, name string, edit func(*estate.Plan), by string) {
	t.Helper()
	plan := copyPlan(t, l.Plan)
	edit(plan)
	dir := estate.Dir(t.TempDir())
	if err := plan.Write(dir); err != nil {
		t.Fatal(err)
	}
	files, err := dir.Files(name)
	if err != nil {
		t.Fatal(err)
	}
	var people []*estate.Signer
	for _, id := range strings.Fields(by) {
		people = append(people, l.by[id])
	}
	m.Put(t, name, version, files, nil, people...)
}

// Who answers for a thing has signed what is done with it; those who approve the statement are not enough.
func TestItems(t *testing.T) {
	l := newLarge(t)
	credential := func(p *estate.Plan) *statement.Credential { return &p.Custody["research"].Credentials[0] }
	gateway := func(p *estate.Plan) *statement.Gateway { return &p.Operations.Gateways[0] }
	for _, c := range []struct {
		name, statement string
		edit            func(*estate.Plan)
		enough, lacks   string // the signers with whom it holds, the author first; and those without the one who is missing
		person, what    string
		place           string // file and line that a refusal names
	}{
		{"a credential's destination", "custody-research", func(p *estate.Plan) { credential(p).Destination.Origin = "https://elsewhere.example" },
			"ada cora carl", "ada carl", "cora", "the credential research-openai is changed in version 2 of custody-research, and cora (lifecycle of research) did not sign", "custody.yaml:"},
		{"its owner may be the author", "custody-research", func(p *estate.Plan) { credential(p).Destination.Methods = []string{"GET"} }, "cora carl", "", "", "", ""},
		{"a credential given away", "custody-research", func(p *estate.Plan) { credential(p).Owner = "carl" }, "ada cora carl", "ada cora", "carl", "carl (lifecycle of research) did not sign", "custody.yaml:"},
		{"a credential taken away", "custody-research", func(p *estate.Plan) { credential(p).Owner = "carl" }, "ada cora carl", "ada carl", "cora", "cora (lifecycle of research) did not sign", "custody.yaml:"},
		{"a new credential in another's name", "custody-research", func(p *estate.Plan) {
			next := *credential(p)
			next.ID = "research-new"
			p.Custody["research"].Credentials = append(p.Custody["research"].Credentials, next)
		}, "ada cora", "ada carl", "cora", "the credential research-new is added", "custody.yaml:"},
		{"a credential less", "custody-research", func(p *estate.Plan) {
			k := p.Custody["research"].Credentials
			p.Custody["research"].Credentials = k[:1]
		}, "ada cora", "ada carl", "cora", "the credential research-anthropic is removed", "custody-research/2: "},
		{"a custodian's other key reaches what it serves", "custody-research", func(p *estate.Plan) {
			r := []byte(p.Custody["research"].Custodians[0].Recipient)
			r[10] = map[bool]byte{true: 'q', false: 'p'}[r[10] == 'p']
			p.Custody["research"].Custodians[0].Recipient = string(r)
		}, "ada cora", "ada carl", "cora", "the credential research-anthropic is changed", "custody.yaml:"},

		{"a gateway's URL", "operations", func(p *estate.Plan) { gateway(p).URL = "http://127.0.0.1:7999" }, "ada bea ben cora", "ada ben cora", "bea", "the gateway g1 is changed", "operations.yaml:"},
		{"without its policy owner", "operations", func(p *estate.Plan) { gateway(p).URL = "http://127.0.0.1:7999" }, "ada bea cora", "ben bea cora", "ada", "ada (policy) did not sign", "operations.yaml:"},
		{"without its lifecycle owner", "operations", func(p *estate.Plan) { gateway(p).URL = "http://127.0.0.1:7999" }, "ada bea cora", "ada ben bea", "cora", "cora (lifecycle) did not sign", "operations.yaml:"},
		{"a gateway comes to serve a unit, without its policy owner", "operations", func(p *estate.Plan) { gateway(p).Units = []string{"research", "support"} },
			"ada bea cora dora cleo", "ada bea cora cleo", "dora", "the gateway unit g1 for support is added in version 2 of operations, and an owner of policy of support did not sign", "operations.yaml:"},
		{"a gateway comes to serve a unit, without the owner of its credentials", "operations", func(p *estate.Plan) { gateway(p).Units = []string{"research", "support"} },
			"ada bea cora dora cleo", "ada bea cora dora", "cleo", "cleo (lifecycle of support) did not sign", "operations.yaml:"},
		{"a route is the operations owners' own", "operations", func(p *estate.Plan) { p.Operations.Aliases["slow"] = "openai/demo-large" }, "ada ben", "", "", "", ""},

		{"a new workload in a unit", "charter", func(p *estate.Plan) {
			p.Charter.Workloads = append(p.Charter.Workloads, statement.Workload{ID: "new", Unit: "research", Identities: []statement.Identity{{Issuer: "reeve"}}})
		}, "bea cora abe", "bea cora ben", "ada", "the workload new is added in version 2 of charter, and an owner of policy of research did not sign", "charter.yaml:"},
		{"a workload moves to another unit", "charter", func(p *estate.Plan) {
			p.Charter.Workloads[0].Unit = "support"
		}, "", "bea cora ada", "dora", "the workload research-agent is changed", "charter.yaml:"},
		{"another key of an issuer reaches the workloads that it vouches for", "charter", func(p *estate.Plan) { p.Charter.Issuers[0].Issuer = "https://other.example" },
			"bea cora ada", "bea cora ben", "ada", "the workload research-agent is changed", "charter.yaml:"},
		{"an attestation in another's name", "charter", func(p *estate.Plan) {
			p.Charter.People[0].AttestedUntil = p.Charter.People[0].AttestedUntil.Add(time.Hour)
		}, "bea cora", "ben cora", "bea", "the attestation ada is changed in version 2 of charter, and bea (attester) did not sign", "charter.yaml:"},
		{"a grant, without the owner of what is lent", "custody-research", func(p *estate.Plan) {
			p.Custody["research"].Grants = []statement.Grant{{Credential: "research-openai", Unit: "support"}}
		}, "abe carl cora dora", "abe carl dora", "cora", "the grant research-openai to support is added", "custody.yaml:"},
		{"a grant, without the unit that borrows", "custody-research", func(p *estate.Plan) {
			p.Custody["research"].Grants = []statement.Grant{{Credential: "research-openai", Unit: "support"}}
		}, "abe carl cora dora", "abe carl cora", "dora", "an owner of policy of support did not sign", "custody.yaml:"},
		{"a grant, without the policy of the unit that lends", "custody-research", func(p *estate.Plan) {
			p.Custody["research"].Grants = []statement.Grant{{Credential: "research-openai", Unit: "support"}}
		}, "", "dora carl cora", "ada", "an owner of policy of research did not sign", "custody.yaml:"},
		{"thresholds are the root quorum's own", "charter", func(p *estate.Plan) { p.Charter.Revocation.High = statement.Duration(4 * time.Second) }, "ben cora", "", "", "", ""},
		{"a ceiling is the policy owners' own", "policy-research", func(p *estate.Plan) { p.Policies["research"].Ceilings[0].Concurrent = 7 }, "bea abe", "", "", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.enough != "" {
				if err := l.change(t, c.statement, c.edit, c.enough); err != nil {
					t.Errorf("signed by %s: %v", c.enough, err)
				}
			}
			if c.lacks == "" {
				return
			}
			e := refused(t, l.change(t, c.statement, c.edit, c.lacks), "items", c.statement+"/2")
			if !strings.Contains(e.What, c.what) || e.Person != c.person || !strings.Contains(e.Error(), c.place) || strings.HasSuffix(c.place, ".yaml:") && e.Line == 0 {
				t.Errorf("person %q, line %d: %v", e.Person, e.Line, e)
			}
		})
	}
}

// A verifier without memory begins with the oldest set that the store has whole, and says so; one with memory wants all that came
// since.
func TestSince(t *testing.T) {
	e := estatetest.New(t)
	m := copyStore(t, e)
	for v := range int64(3) {
		m.Put(t, "policy-research", v+2, nil, nil, e.Bea, e.Ada)
		m.Lock(t, v+2, nil, e.Ada, e.Cora)
	}
	since := func(pin statement.Pin) int64 {
		set, err := statement.Load(m, pin, nil, e.Now)
		if err != nil {
			t.Fatal(err)
		}
		return set.Since
	}
	if got := since(e.Pin); got != 1 {
		t.Errorf("with the whole store: since %d", got)
	}
	first := e.Pin
	first.LastLock = e.Set.Locked()
	delete(m, "policy-research/2/policy.yaml")
	if got := since(e.Pin); got != 3 {
		t.Errorf("without a file of the second set: since %d", got)
	}
	_, err := statement.Load(m, first, nil, e.Now)
	refused(t, err, "missing", "policy-research/2/policy.yaml")
	delete(m, "lock/3/manifest.json")
	if got := since(e.Pin); got != 4 {
		t.Errorf("without the third lock: since %d", got)
	}
}
