// Package captured holds the table "what a captured party can do" against random estates and random captures: whatever the party
// produces with what it has, no path from a workload over a gateway and a credential to a destination opens beyond its row.
package captured

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math/rand"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/policy"
	"github.com/reevehq/reeve/internal/reach"
	"github.com/reevehq/reeve/internal/statement"
)

var (
	seed    = flag.Int64("seed", 1, "of the random estates; 0 takes the time")
	estates = flag.Int("estates", 4, "how many random estates")
	attacks = flag.Int("attacks", 60, "how many attacks on each, of each kind")
)

// world is a random estate, its store in memory, and who can sign.
type world struct {
	*estatetest.Estate
	rng   *rand.Rand
	by    map[string]*estate.Signer
	store estatetest.Store
	files estate.Dir // where a changed plan is written
	paths map[string]bool
	pin   statement.Pin // with the memory of the last lock
}

func (w *world) pick(list ...string) string { return list[w.rng.Intn(len(list))] }

// some picks one or two.
func (w *world) some(list []string) []string {
	w.rng.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return slices.Clone(list[:1+w.rng.Intn(2)])
}

// newWorld makes an estate of two to three units with one or two owners of each role, drawn from pools that do not meet, a root
// quorum of two of three, gateways that serve some units, a grant, a person whose attestation has run out, and his deputy.
func newWorld(t *testing.T, rng *rand.Rand, more ...estatetest.Option) *world {
	w := &world{rng: rng, by: map[string]*estate.Signer{}, files: estate.Dir(t.TempDir())}
	var people []*estate.Signer
	for _, id := range []string{"abe", "amy", "ben", "carl", "cleo", "dan", "eve"} {
		s, err := estate.NewSigner(id)
		if err != nil {
			t.Fatal(err)
		}
		w.by[id], people = s, append(people, s)
	}
	now := time.Now().UTC().Truncate(time.Second)
	pools := map[string][]string{"policy": {"ada", "abe", "amy"}, "operations": {"bea", "ben"}, "lifecycle": {"cora", "carl", "cleo"}}
	options := []estatetest.Option{estatetest.At(now.Add(-time.Hour)), estatetest.With(people...), estatetest.Edit(func(p *estate.Plan) {
		c := &p.Charter
		if rng.Intn(2) == 0 {
			addUnit(p, "legal")
		}
		root := []string{w.pick(pools["policy"]...), w.pick(pools["operations"]...), w.pick(pools["lifecycle"]...)}
		c.Roles = statement.Roles{Root: root, Operations: w.some(pools["operations"]), Units: map[string]statement.UnitRoles{}}
		for i, u := range c.Units {
			r := statement.UnitRoles{Policy: w.some(pools["policy"]), Lifecycle: w.some(pools["lifecycle"])}
			c.Roles.Units[u.ID] = r
			for j := range p.Custody[u.ID].Credentials {
				p.Custody[u.ID].Credentials[j].Owner = w.pick(r.Lifecycle...)
			}
			if i == 0 {
				p.Operations.Gateways[0].Owners = statement.GatewayOwners{Policy: w.pick(r.Policy...), Operations: w.pick(c.Roles.Operations...), Lifecycle: w.pick(r.Lifecycle...)}
			}
		}
		for _, u := range []string{"research", "support"} { // one of its two credentials only, so that policy has something to open
			p.Cedar[u]["use.cedar"] = fmt.Sprintf("permit (principal == Workload::%q, action == Action::\"use\", resource == Credential::%q);\n", u+"-agent", u+w.pick("-openai", "-anthropic"))
		}
		p.Operations.Gateways[0].Units = []string{"research"}
		if rng.Intn(2) == 0 {
			p.Operations.Gateways[0].Units = []string{"research", "support"}
		}
		for i := range c.People {
			q := &c.People[i]
			if q.AttestedBy = c.Roles.Operations[0]; slices.Contains(pools["operations"], q.ID) {
				q.AttestedBy = c.Roles.Units["research"].Lifecycle[0]
			}
		}
		if rng.Intn(2) == 0 { // somebody is not attested any more, and has a deputy
			q := &c.People[rng.Intn(3)]
			q.AttestedUntil, q.Deputies = now.Add(-time.Minute), []string{"dan"}
		}
	})}
	w.Estate = estatetest.New(t, append(options, more...)...)
	w.by["ada"], w.by["bea"], w.by["cora"] = w.Ada, w.Bea, w.Cora
	w.Republish(t, func(p *estate.Plan) { p.Policies["research"].Ceilings[0].Concurrent++ }, "policy-research")
	w.Now, w.store, w.pin = now, estatetest.CopyStore(t, w.Dir), w.Pin
	w.pin.LastLock = w.Set.Locked()
	w.paths = w.open(t, w.Set)
	return w
}

func addUnit(p *estate.Plan, id string) {
	p.Charter.Units = append(p.Charter.Units, statement.Unit{ID: id, Tenant: "acme"})
	p.Charter.Workloads = append(p.Charter.Workloads, statement.Workload{ID: id + "-agent", Unit: id, Identities: []statement.Identity{{Issuer: "reeve"}}})
	cu := clone(p.Custody["research"])
	cu.Unit = id
	for i := range cu.Credentials {
		cu.Credentials[i].ID = strings.Replace(cu.Credentials[i].ID, "research", id, 1)
	}
	pol := clone(p.Policies["research"])
	pol.Unit = id
	p.Custody[id], p.Policies[id] = cu, pol
	p.Cedar[id] = map[string]string{"use.cedar": strings.ReplaceAll(p.Cedar["research"]["use.cedar"], "research", id)}
}

// clone copies what is plain data.
func clone[T any](v *T) *T {
	b, err := json.Marshal(v)
	next := new(T)
	if err == nil {
		err = json.Unmarshal(b, next)
	}
	if err != nil {
		panic(err)
	}
	return next
}

// open are the paths of a set, each with everything that it is made of: who vouches for the workload, the gateway's and the
// custodians' keys, the credential's record. A path through anything else is another path.
func (w *world) open(t *testing.T, set *statement.Set) map[string]bool {
	t.Helper()
	paths, err := reach.Paths(set, w.Now, "", "")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]bool{}
	for _, path := range paths {
		all[describe(set, path)] = true
	}
	return all
}

func describe(set *statement.Set, path reach.Path) string {
	work, _, _ := set.Workload(path.Workload)
	cred, unit, _ := set.Credential(path.Credential)
	gateway, _ := set.Gateway(path.Gateway)
	path.Conditional, path.Rules = false, nil
	b, err := json.Marshal([]any{path, work, set.Charter.Issuers, cred, set.Custody[unit.ID].Custodians, gateway})
	if err != nil {
		panic(err)
	}
	return string(b)
}

// edit is a change of the estate that would open something, and the statements that say it.
type edit struct {
	name       string
	statements []string
	do         func(w *world, p *estate.Plan, who string)
}

// edits are what somebody who wants more would write. who is a person of his choosing, himself for one.
func edits() []edit {
	charter := []string{"charter"}
	person := func(p *estate.Plan, id string) *statement.Person {
		return &p.Charter.People[slices.IndexFunc(p.Charter.People, func(q statement.Person) bool { return q.ID == id })]
	}
	unit := func(w *world, p *estate.Plan) string { return p.Charter.Units[w.rng.Intn(len(p.Charter.Units))].ID }
	return []edit{
		{"a permit for everything in a unit", []string{"policy-research"}, func(_ *world, p *estate.Plan, _ string) {
			p.Cedar["research"]["use.cedar"] = "permit (principal, action, resource);\n"
		}},
		{"a permit for everything in another unit", []string{"policy-support"}, func(_ *world, p *estate.Plan, _ string) {
			p.Cedar["support"]["use.cedar"] = "permit (principal, action, resource);\n"
		}},
		{"another destination", []string{"custody-research"}, func(w *world, p *estate.Plan, _ string) {
			k := p.Custody["research"].Credentials
			k[w.rng.Intn(len(k))].Destination.Origin = "https://elsewhere.example"
		}},
		{"another path", []string{"custody-support"}, func(w *world, p *estate.Plan, _ string) {
			k := p.Custody["support"].Credentials
			d := &k[w.rng.Intn(len(k))].Destination
			d.Paths = append(d.Paths, "/v1/organization/**")
		}},
		{"another custodian's key", []string{"custody-research"}, func(_ *world, p *estate.Plan, _ string) {
			r := []byte(p.Custody["research"].Custodians[0].Recipient)
			r[12] = map[bool]byte{true: 'q', false: 'p'}[r[12] == 'p']
			p.Custody["research"].Custodians[0].Recipient = string(r)
		}},
		{"another owner of a credential", []string{"custody-research"}, func(w *world, p *estate.Plan, _ string) {
			k := p.Custody["research"].Credentials
			k[w.rng.Intn(len(k))].Owner = w.pick(p.Charter.Roles.Units["research"].Lifecycle...)
		}},
		{"a grant", []string{"custody-research", "policy-support"}, func(_ *world, p *estate.Plan, _ string) {
			p.Custody["research"].Grants = []statement.Grant{{Credential: "research-openai", Unit: "support"}}
			p.Cedar["support"]["use.cedar"] = `permit (principal, action, resource == Credential::"research-openai");` + "\n"
		}},
		{"a gateway for every unit", []string{"operations"}, func(_ *world, p *estate.Plan, _ string) {
			g := &p.Operations.Gateways[0]
			g.Units = nil
			for _, u := range p.Charter.Units {
				g.Units = append(g.Units, u.ID)
			}
		}},
		{"another key of a gateway", []string{"operations"}, func(_ *world, p *estate.Plan, _ string) {
			p.Operations.Gateways[0].Peer = "sha256:" + strings.Repeat("ab", 32)
		}},
		{"a gateway of one's own", []string{"operations"}, func(w *world, p *estate.Plan, _ string) {
			g := *clone(&p.Operations.Gateways[0])
			g.ID, g.URL = "g9", "http://127.0.0.1:9999"
			p.Operations.Gateways = append(p.Operations.Gateways, g)
		}},
		{"another model", []string{"operations"}, func(_ *world, p *estate.Plan, _ string) {
			p.Operations.Providers[0].Models = append(p.Operations.Providers[0].Models, "demo-huge")
		}},
		{"a workload more", charter, func(w *world, p *estate.Plan, _ string) {
			p.Charter.Workloads = append(p.Charter.Workloads, statement.Workload{ID: "extra", Unit: unit(w, p), Identities: []statement.Identity{{Issuer: "reeve"}}})
		}},
		{"a workload in another unit", charter, func(_ *world, p *estate.Plan, _ string) { p.Charter.Workloads[1].Unit = "research" }},
		{"a role", charter, func(w *world, p *estate.Plan, who string) {
			r := p.Charter.Roles.Units["research"]
			switch w.rng.Intn(3) {
			case 0:
				r.Policy = []string{who}
			case 1:
				r.Lifecycle = append(r.Lifecycle, who)
			default:
				p.Charter.Roles.Root = []string{who, w.pick("dan", "eve")}
			}
			p.Charter.Roles.Units["research"] = r
		}},
		{"another's key", charter, func(w *world, p *estate.Plan, who string) {
			k := w.by[who].Key()
			k.ID = "more-1"
			q := person(p, w.pick("ada", "bea", "cora"))
			q.Keys = append(q.Keys, k)
		}},
		{"an attestation", charter, func(w *world, p *estate.Plan, who string) {
			person(p, who).AttestedUntil = w.Now.Add(1000 * time.Hour)
		}},
	}
}

// attack changes the plan, has what changed signed by the people, at some time of their choosing, with a lock, and offers it to a
// verifier that has a set in force and to one that remembers its lock. It returns the set that was accepted, or nil.
func (w *world) attack(t *testing.T, list []edit, people []string) (*statement.Set, error) {
	t.Helper()
	m, plan, statements := maps.Clone(w.store), clone(w.Plan), map[string]bool{}
	for _, e := range list {
		e.do(w, plan, people[0])
		for _, s := range e.statements {
			statements[s] = true
		}
	}
	if err := plan.Write(w.files); err != nil {
		t.Fatal(err)
	}
	made := w.Now.Add([]time.Duration{0, 0, 0, -30 * time.Minute, time.Minute, time.Hour}[w.rng.Intn(6)])
	for _, name := range slices.Sorted(maps.Keys(statements)) {
		files, err := w.files.Files(name)
		if err != nil {
			t.Fatal(err)
		}
		version, err := statement.Newest(m, name)
		if err != nil {
			t.Fatal(err)
		}
		m.Put(t, name, version+1, files, func(man *statement.Manifest) { man.Created = made }, w.signers(people)...)
	}
	m.Lock(t, 3, func(_ *statement.Lock, man *statement.Manifest) { man.Created = made }, w.signers(people)...)
	return w.load(t, m)
}

// load offers a store.
func (w *world) load(t *testing.T, m estatetest.Store) (*statement.Set, error) {
	t.Helper()
	set, err := statement.Load(m, w.Pin, w.Set, w.Now)
	if set == w.Set {
		return set, err // the one in force needs nothing of the store
	}
	again, err2 := statement.Load(m, w.pin, nil, w.Now)
	if (err == nil) != (err2 == nil) || err == nil && set.LockHash != again.LockHash {
		t.Fatalf("seed %d: who has the set in force and who remembers its lock judge differently: %v, %v", *seed, err, err2)
	}
	if err == nil {
		if _, err = policy.Compile(set); err != nil {
			return nil, err
		}
	}
	return set, err
}

// signers are the people in some order, so that each is the author at times.
func (w *world) signers(people []string) (list []*estate.Signer) {
	for _, i := range w.rng.Perm(len(people)) {
		list = append(list, w.by[people[i]])
	}
	return list
}

// acts is who stands for a person now, by the table's words: he, or when he is not attested his deputy.
func (w *world) acts(id string) string { return w.acted(id, w.Now) }

// acted is acts at a time.
func (w *world) acted(id string, at time.Time) string {
	for _, p := range w.Plan.Charter.People {
		if p.ID == id && !at.Before(p.AttestedUntil) {
			return strings.Join(p.Deputies, "")
		}
	}
	return id
}

// may says whether the people, who are no root quorum, may open the path together: the table's rows and "three keys open".
func (w *world) may(before, after *statement.Set, path reach.Path, people []string) string {
	have := func(list ...string) bool {
		return slices.ContainsFunc(list, func(id string) bool { return slices.Contains(people, w.acts(id)) })
	}
	all := func(list ...string) bool {
		return !slices.ContainsFunc(list, func(id string) bool { return !have(id) })
	}
	roles := before.Charter.Roles
	same := func(a, b any) bool {
		x, _ := json.Marshal(a)
		y, _ := json.Marshal(b)
		return string(x) == string(y)
	}
	work, home, _ := before.Workload(path.Workload)
	now, _, _ := after.Workload(path.Workload)
	old, unit, known := before.Credential(path.Credential)
	next, _, _ := after.Credential(path.Credential)
	was, served := before.Gateway(path.Gateway)
	is, _ := after.Gateway(path.Gateway)
	switch {
	case len(people) < 2:
		return "one person opens nothing"
	case work == nil || !same(work, now) || !same(before.Charter.Issuers, after.Charter.Issuers):
		return "the charter is the root quorum's"
	case !known:
		return "no edit makes a credential"
	}
	if !same(old, next) || !same(before.Custody[unit.ID].Custodians, after.Custody[unit.ID].Custodians) {
		if !all(old.Owner, next.Owner) {
			return "the credential's owner did not sign"
		}
	}
	if !served || !same(was, is) {
		if !all(is.Owners.Policy, is.Owners.Operations, is.Owners.Lifecycle) {
			return "the gateway's owners did not sign"
		}
		if (!served || !slices.Contains(was.Units, unit.ID)) && (!have(roles.Units[unit.ID].Policy...) || !all(old.Owner)) {
			return "the unit behind the gateway did not sign"
		}
	}
	changed := func(u string) bool { return !same(before.Cedar[u], after.Cedar[u]) }
	lent := home.ID != unit.ID
	switch {
	case changed(home.ID) && !have(roles.Units[home.ID].Policy...):
		return "the workload's unit did not sign its policy"
	case lent && !before.Lent(path.Credential, home.ID) && (!have(roles.Units[home.ID].Policy...) || !have(roles.Units[unit.ID].Policy...) || !all(old.Owner)):
		return "a grant that both units did not sign"
	}
	return ""
}

// One person alone opens nothing, whoever it is and whatever he signs. Several together open nothing whose owner is not among them,
// unless they are the root quorum.
func TestPeople(t *testing.T) {
	list := edits()
	accepted, opened, refusals := 0, 0, map[string]int{}
	each(t, func(t *testing.T, w *world) {
		everybody := slices.Sorted(maps.Keys(w.by))
		for n := range *attacks {
			var chosen []edit
			for range 1 + w.rng.Intn(2) {
				chosen = append(chosen, list[w.rng.Intn(len(list))])
			}
			people := []string{everybody[w.rng.Intn(len(everybody))]}
			if n%3 > 0 {
				people = w.enough(chosen)
			}
			if n%3 == 1 && len(people) > 1 { // one is missing
				people = slices.Delete(people, 0, 1)
			}
			if extra := w.pick(everybody...); n%3 > 0 && !slices.Contains(people, extra) && !w.quorum(append(slices.Clone(people), extra)) {
				people = append(people, extra) // of another role, for the lock
			}
			set, err := w.attack(t, chosen, people)
			if err != nil {
				if rule := w.rule(t, err); len(people) > 1 {
					refusals[rule]++
				}
				continue
			}
			if len(people) < 2 {
				t.Fatalf("seed %d: %s alone had a set accepted: %v", *seed, people[0], names(chosen))
			}
			if accepted++; w.quorum(people) {
				continue // may appoint anybody
			}
			now, err := reach.Paths(set, w.Now, "", "")
			if err != nil {
				t.Fatal(err)
			}
			for _, path := range now {
				if w.paths[describe(set, path)] {
					continue
				}
				opened++
				if why := w.may(w.Set, set, path, people); why != "" {
					t.Fatalf("seed %d: %v, signed by %v: %s now uses %s at %s: %s", *seed, names(chosen), people, path.Workload, path.Credential, path.Destination, why)
				}
			}
		}
	})
	t.Logf("%d sets were accepted, which opened %d paths; refused: %v", accepted, opened, refusals)
	if *estates**attacks >= 200 && (accepted < 10 || opened < 10 || refusals["items"] < 5 || refusals["approvers"] < 5) {
		t.Error("too few attacks came through, or failed for the sake of the rules that are tried here")
	}
}

// Who writes the store, as the authority does, and has the keys of every service: sets that were published are accepted again in
// their order, and nothing else is, however their files are mixed, cut, and signed with keys of no person.
func TestStore(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		honest := map[[32]byte]bool{w.Set.LockHash: true}
		files := slices.Sorted(maps.Keys(w.store))
		accepted := 0
		for range *attacks {
			m := maps.Clone(w.store)
			for range 1 + w.rng.Intn(3) {
				a, b := w.pick(files...), w.pick(files...)
				switch w.rng.Intn(6) {
				case 0:
					delete(m, a)
				case 1:
					m[a] = m[b]
				case 2: // the next version, made of what was signed before
					name, rest, _ := strings.Cut(a, "/")
					_, file, _ := strings.Cut(rest, "/")
					m[name+"/3/"+file] = m[a]
				case 3:
					m[a] = append(slices.Clone(m[a]), ' ')
				case 4: // everything of the older set
					for f := range m {
						if strings.HasPrefix(f, "lock/2/") {
							delete(m, f)
						}
					}
				default: // a new lock and policy, signed by services under the ids of people
					m = maps.Clone(w.store)
					forged := w.services(t)
					m.Put(t, "policy-research", 3, map[string][]byte{"use.cedar": []byte("permit (principal, action, resource);\n")}, nil, forged...)
					m.Lock(t, 3, nil, forged...)
				}
			}
			set, err := w.load(t, m)
			if err != nil {
				w.rule(t, err)
				continue
			}
			if accepted++; !honest[set.LockHash] || len(w.more(t, set)) > 0 {
				t.Fatalf("seed %d: the store's writer had another set accepted", *seed)
			}
		}
		t.Logf("%d of %d corrupted stores still held the set in force", accepted, *attacks)
	})
}

// service signs with a service's key as a person would.
type service struct{ key ed25519.PrivateKey }

func (s service) Sign(m *estate.Message) (statement.Signature, error) {
	return statement.Signature{Sig: ed25519.Sign(s.key, statement.PAE(m.PayloadType, m.Payload))}, nil
}

// services are the services' keys, under the ids of people's.
func (w *world) services(t *testing.T) (list []*estate.Signer) {
	t.Helper()
	for _, person := range []string{"ada", "bea", "cora"} {
		key := w.Service[w.pick(slices.Sorted(maps.Keys(w.Service))...)]
		public := base64.StdEncoding.EncodeToString(key.Public().(ed25519.PublicKey))
		list = append(list, &estate.Signer{Person: person, Keys: []statement.Key{{ID: person + "-1", Type: "ed25519", Public: public}}, Hand: service{key}})
	}
	return list
}

// more are the paths that a set opens and the one in force does not.
func (w *world) more(t *testing.T, set *statement.Set) (list []string) {
	for path := range w.open(t, set) {
		if !w.paths[path] {
			list = append(list, path)
		}
	}
	return list
}

// A person's records alone: none reopens, none stops a fuse, none hands over or vouches for what is not his, at no time that he
// writes into it.
func TestRecords(t *testing.T) {
	taken := map[string]int{}
	each(t, func(t *testing.T, w *world) {
		c := &w.Set.Charter
		for range *attacks {
			who := w.pick(slices.Sorted(maps.Keys(w.by))...)
			by := w.by[who]
			made := w.Now.Add([]time.Duration{0, -2 * time.Minute, -40 * time.Minute, time.Minute}[w.rng.Intn(4)])
			unit := c.Units[w.rng.Intn(len(c.Units))].ID
			cred := w.Set.Custody[unit].Credentials[0]
			targets := []statement.Target{{Kind: "credential", ID: cred.ID}, {Kind: "workload", ID: unit + "-agent"}, {Kind: "unit", ID: unit}, {Kind: "gateway", ID: "g1"}, {Kind: "everything"}}
			target := targets[w.rng.Intn(len(targets))]
			for _, r := range []struct {
				kind string
				v    any
				may  bool
			}{
				{"revocation", statement.Revocation{Estate: "demo", Signer: who, Number: 1, Target: target, Open: true, Reason: "x", Time: made}, false},
				{"revocation", statement.Revocation{Estate: "demo", Signer: who, Number: 1, Target: statement.Target{Kind: "everything"}, Reason: "x", Time: made}, false},
				{"extension", statement.Extension{Estate: "demo", Custodian: "c1", What: "feed", Created: made, Until: made.Add(50 * time.Minute), Reason: "x"}, false},
				{"retirement", statement.Retirement{Estate: "demo", Log: "reeve/demo/c1", Root: strings.Repeat("A", 43) + "=", Reason: "x", Created: made}, false},
				{"recovery", statement.Announcement{Estate: "demo", Version: 2, SHA256: strings.Repeat("0", 64), Reason: "x", Created: made}, false},
				{"break-glass", w.glass(cred.ID, made, ""), false},
				{"break-glass", w.glass(cred.ID, made, w.pick("dan", "eve")), false},
				{"handover", statement.Handover{Estate: "demo", Credential: cred.ID, Version: 2, Custodian: "c1", SHA256: strings.Repeat("0", 64), Created: made}, cred.Owner == who || w.acts(cred.Owner) == who},
				{"workload-key", statement.WorkloadKey{Estate: "demo", Workload: unit + "-agent", Prefix: "rv_", SHA256: strings.Repeat("0", 64), NotBefore: made, NotAfter: made.Add(time.Hour)},
					slices.ContainsFunc(c.Roles.Units[unit].Policy, func(id string) bool { return w.acts(id) == who })},
			} {
				env, err := estate.Seal(r.kind, r.v, by)
				if err != nil {
					t.Fatal(err)
				}
				err = estate.Take(w.Set, env, w.Now)
				if err == nil {
					taken[r.kind]++
				} else {
					w.rule(t, err)
				}
				if err == nil && !r.may {
					t.Fatalf("seed %d: %s alone had a %s accepted: %s", *seed, who, r.kind, env.Payload)
				}
			}
		}
	})
	t.Logf("taken: %v", taken)
	if *estates**attacks >= 200 && (taken["handover"] < 5 || taken["workload-key"] < 5) {
		t.Error("too few records of their owners came through")
	}
}

// glass is a break-glass that nothing is wrong with: for a use, or for a recovery to somebody.
func (w *world) glass(credential string, made time.Time, recipient string) statement.BreakGlass {
	b := statement.BreakGlass{Estate: "demo", Credential: credential, Waive: []string{}, Recipient: recipient, Reason: "x", Created: made, Until: made.Add(30 * time.Minute)}
	if recipient == "" {
		b.Waive = []string{statement.WaiveFeed}
	}
	return b
}

// A gateway names any credential, for any workload whose bearer key it saw, and asserts what it likes: what policy, custody and
// operations let through is on a path that the set opens.
func TestGateway(t *testing.T) {
	allowed := 0
	each(t, func(t *testing.T, w *world) {
		p, err := policy.Compile(w.Set)
		if err != nil {
			t.Fatal(err)
		}
		paths, err := reach.Paths(w.Set, w.Now, "", "")
		if err != nil {
			t.Fatal(err)
		}
		open := map[string]bool{}
		for _, path := range paths {
			open[path.Workload+" "+path.Credential+" "+path.Gateway] = true
		}
		var workloads, credentials []string
		for _, wl := range w.Set.Charter.Workloads {
			workloads = append(workloads, wl.ID)
		}
		for _, u := range w.Set.Charter.Units {
			for _, c := range w.Set.Custody[u.ID].Credentials {
				credentials = append(credentials, c.ID)
			}
		}
		for range *attacks * 10 {
			r := policy.Request{Workload: w.pick(workloads...), Credential: w.pick(credentials...), Gateway: w.pick("g1", "g2"), Method: w.pick("GET", "POST"), Path: "/v1/models",
				Model: w.pick("", "demo-small", "demo-large", "demo-claude"), MaxTokens: int64(w.rng.Intn(3) - 1), Level: w.rng.Intn(3), Proof: "bearer", Isolation: "none", Time: w.Now,
				Asserted: map[string]string{"client_ip": w.pick("10.0.0.1", "203.0.113.7"), "spend": w.pick("0", "-1", "99999999")}}
			if !p.Decide(&r).Allow || w.Set.Route(r.Gateway, w.pick("c1", "c2"), r.Credential, w.Now) != "" {
				continue
			}
			if allowed++; !open[r.Workload+" "+r.Credential+" "+r.Gateway] {
				t.Fatalf("seed %d: %+v is let through on no path", *seed, r)
			}
		}
	})
	t.Logf("%d requests were let through", allowed)
}

// A custodian's clock that is wrong by no more than its bound keeps nothing alive for longer than that.
func TestClock(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		const bound = 5 * time.Minute
		ends := w.Set.Expires
		for range *attacks / 10 {
			skew := time.Duration(w.rng.Int63n(int64(2*bound))) - bound
			_, err := statement.Load(w.store, w.pin, w.Set, ends.Add(bound+skew))
			if err == nil {
				t.Fatalf("seed %d: a set lives %v after its end by a clock that is wrong by %v", *seed, bound, skew)
			}
			w.rule(t, err)
			if why := w.Set.Route("g1", "c1", "research-openai", ends.Add(bound+skew)); why == "" {
				t.Fatalf("seed %d: and is used", *seed)
			}
		}
	})
}

// each runs f over random estates, with more in them.
func each(t *testing.T, f func(*testing.T, *world), more ...estatetest.Option) {
	if *seed == 0 {
		*seed = time.Now().UnixNano()
	}
	t.Logf("seed %d", *seed)
	rng := rand.New(rand.NewSource(*seed))
	for range *estates {
		f(t, newWorld(t, rng, more...))
	}
}

// enough are people who together can have the edits accepted: an author, and for each statement whoever approves it or answers
// for what is in it. They are chosen by role, not by the rules under test.
func (w *world) enough(list []edit) []string {
	c := &w.Plan.Charter
	people := map[string]bool{w.pick("dan", "eve"): true, w.acts(w.pick(c.Roles.Operations...)): true}
	add := func(ids ...string) {
		for _, id := range ids {
			people[w.acts(id)] = true
		}
	}
	for _, e := range list {
		for _, name := range e.statements {
			kind, unit, _ := strings.Cut(name, "-")
			switch kind {
			case "charter":
				add(c.Roles.Root...)
				for _, r := range c.Roles.Units {
					add(r.Policy...)
				}
			case "policy":
				add(c.Roles.Units[unit].Policy...)
			case "custody":
				add(c.Roles.Units[unit].Lifecycle...)
				if e.name == "a grant" {
					add(c.Roles.Units["research"].Policy[0], c.Roles.Units["support"].Policy[0])
				}
			default:
				add(c.Roles.Operations...)
				g := w.Plan.Operations.Gateways[0].Owners
				add(g.Policy, g.Lifecycle)
				for _, r := range c.Roles.Units {
					add(r.Policy...)
					add(r.Lifecycle...)
				}
			}
		}
	}
	delete(people, "")
	ids := slices.Sorted(maps.Keys(people))
	w.rng.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	return ids
}

func (w *world) quorum(people []string) bool {
	n := 0
	for _, id := range w.Plan.Charter.Roles.Root {
		if slices.Contains(people, id) {
			n++
		}
	}
	return n >= 2
}

func names(list []edit) (all []string) {
	for _, e := range list {
		all = append(all, e.name)
	}
	return all
}

// rule is the rule of a refusal; an error that is none fails the test.
func (w *world) rule(t *testing.T, err error) string {
	t.Helper()
	e, ok := err.(*statement.Error)
	if !ok {
		t.Fatalf("seed %d: %v", *seed, err)
	}
	return fmt.Sprint(e.Rule)
}
