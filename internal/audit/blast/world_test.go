package blast_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/blast"
	"github.com/reevehq/reeve/internal/audit/books"
	"github.com/reevehq/reeve/internal/audit/history"
	"github.com/reevehq/reeve/internal/audit/index"
	"github.com/reevehq/reeve/internal/audit/register"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/statement"
)

// start is when the test's estate was signed. The window that is asked about is the half hour after it.
func start() time.Time { return time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC) }

const window = 30 * time.Minute

// ids of the logs.
const (
	logC1 = "00000000000000c1"
	logC2 = "00000000000000c2"
)

// world is an estate, what its custodians wrote, and the books of both.
type world struct {
	t      testing.TB
	e      *estatetest.Estate
	logs   map[string][]entry.Entry // by id, in any order
	quiet  map[string][2]time.Duration
	others []register.Component
	found  map[string]seen // of gateways of the estate
}

// shape is the test's estate: research and support as estatetest has them; lab, which lends lab-openai to support; bait; custodian c2 for lab alone;
// gateway g2 for support alone; an agent that the authority alone vouches for, and one that signs.
func shape(p *estate.Plan) {
	c := &p.Charter
	c.Units = append(c.Units, statement.Unit{ID: "lab", Tenant: "acme"})
	c.Roles.Units["lab"] = c.Roles.Units["research"]
	c.Workloads = append(c.Workloads, statement.Workload{ID: "lab-agent", Unit: "lab", Identities: []statement.Identity{{Issuer: statement.IssuerReeve}}},
		statement.Workload{ID: "vouched-agent", Unit: "research", Identities: []statement.Identity{{Issuer: statement.IssuerAuthority}}})
	lab := *p.Custody["research"]
	lab.Unit, lab.Custodians = "lab", slices.Clone(lab.Custodians)
	lab.Custodians[0].ID = "c2"
	for _, k := range c.ServiceKeys {
		if k.Use == "log" && k.Process == "c2" {
			lab.Custodians[0].Log = k.Key
		}
	}
	lab.Credentials = []statement.Credential{lab.Credentials[0], lab.Credentials[1]}
	lab.Credentials[0].ID, lab.Credentials[1].ID = "lab-openai", "lab-bait"
	lab.Credentials[1].Honey = "alarm"
	lab.Grants = []statement.Grant{{Credential: "lab-openai", Unit: "support"}}
	p.Custody["lab"] = &lab
	p.Policies["lab"] = &statement.PolicyStatement{Unit: "lab", Cedar: []string{"use.cedar"}}
	p.Cedar["lab"] = map[string]string{"use.cedar": `permit (principal in Unit::"lab", action, resource in Unit::"lab");`}
	p.Cedar["support"]["lent.cedar"] = `permit (principal == Workload::"support-agent", action, resource == Credential::"lab-openai");`
	p.Policies["support"].Cedar = append(p.Policies["support"].Cedar, "lent.cedar")
	p.Cedar["research"]["use.cedar"] = `@id("agent") permit (principal in Unit::"research", action, resource == Credential::"research-openai");`
	g := &p.Operations.Gateways[0]
	g.Custodians, g.Units = []string{"c1", "c2"}, append(g.Units, "lab")
	g2 := *g
	g2.ID, g2.URL, g2.Custodians, g2.Units = "g2", "http://127.0.0.1:7801", []string{"c1"}, []string{"support"}
	p.Operations.Gateways = append(p.Operations.Gateways, g2)
}

// newEstate signs the test's estate.
func newEstate(t testing.TB) *estatetest.Estate {
	return estatetest.New(t, estatetest.At(start()), estatetest.Service("log", "c2"), estatetest.Service("log", "g2"), estatetest.Edit(shape))
}

// newWorld is an estate of which nothing was used yet: every secret was handed over at the start.
func newWorld(t testing.TB, e *estatetest.Estate) *world {
	w := &world{t: t, e: e, logs: map[string][]entry.Entry{}, quiet: map[string][2]time.Duration{}}
	for _, c := range []string{"research-openai", "research-anthropic", "support-openai", "support-anthropic"} {
		w.hand(logC1, c, "1", 0)
	}
	w.hand(logC2, "lab-openai", "1", 0)
	return w
}

// put adds an entry to a log, so long after the start.
func (w *world) put(log string, at time.Duration, e entry.Entry) {
	e.TimeNS = start().Add(at).UnixNano()
	w.logs[log] = append(w.logs[log], e)
}

// hand hands a version of a secret over.
func (w *world) hand(log, credential, lease string, at time.Duration) {
	w.put(log, at, entry.Entry{Type: entry.Publish, Reason: "handover", Credential: credential, Lease: lease, CredFP: "fp-" + credential + "-" + lease, State: "active", Actor: []string{w.e.Cora.Key().ID}})
}

// use adds n uses with their outcomes.
func (w *world) use(n int, at time.Duration, workload, gateway, credential, proof string) {
	for i := range n {
		w.intent(at+time.Duration(i)*time.Second, workload, gateway, credential, proof)
		w.put(w.log(credential), at+time.Duration(i)*time.Second+time.Millisecond, entry.Entry{Type: entry.Outcome, HasIntent: true, Status: 200})
	}
}

func (w *world) log(credential string) string {
	if c, _, _ := w.e.Set.Credential(credential); c != nil && !w.e.Set.Serves("c1", credential) {
		return logC2
	}
	return logC1
}

// levels are those of the proofs.
func level(proof string) string {
	return map[string]string{"bearer": "W0", "token": "W1", "pop": "W2"}[proof]
}

func (w *world) intent(at time.Duration, workload, gateway, credential, proof string) {
	_, unit, _ := w.e.Set.Workload(workload)
	w.put(w.log(credential), at, entry.Entry{Type: entry.Intent, Tenant: unit.Tenant, Unit: unit.ID, Workload: workload, Gateway: gateway, Credential: credential,
		CredFP: "fp-" + credential + "-1", Lease: "1", Level: level(proof), Proof: proof, Decision: "allow", Estate: fmt.Sprintf("%x", w.e.Set.LockHash)})
}

// books are the books at the end of the window, with heartbeats every ten seconds but for when a log is quiet.
func (w *world) books() *books.Books {
	w.t.Helper()
	now := start().Add(window)
	h, err := history.Open(w.e.Dir.Store(), w.e.Pin, now)
	if err != nil {
		w.t.Fatal(err)
	}
	logs := []index.Log{{ID: logC1, Process: "c1", Origin: "reeve/demo/c1"}, {ID: logC2, Process: "c2", Origin: "reeve/demo/c2"}}
	m := index.NewMemory(logs...)
	for _, l := range logs {
		all := slices.Clone(w.logs[l.ID])
		for d := time.Duration(0); d < window; d += 10 * time.Second {
			if q := w.quiet[l.ID]; d <= q[0] || d >= q[1] {
				all = append(all, entry.Entry{Type: entry.Heartbeat, TimeNS: start().Add(d).UnixNano()})
			}
		}
		slices.SortStableFunc(all, func(a, b entry.Entry) int { return int(a.TimeNS - b.TimeNS) })
		var intent int64
		for i := range all {
			e := &all[i]
			e.Log, e.Seq = l.ID, int64(i)
			if e.Type == entry.Intent {
				intent = e.Seq
			}
			if e.Type == entry.Outcome {
				e.IntentSeq = intent
			}
			if err := m.Add(e); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	return &books.Books{Index: m, History: h, Register: others{register.New(h, nil), w.others, w.found}, Now: now}
}

// others is a register with components besides those of the estate.
type others struct {
	register.Reader
	more  []register.Component
	found map[string]seen
}

// seen is what a component was found to do from then on.
type seen struct {
	from  time.Time
	flags []register.Flag
}

func (o others) At(valid, recorded time.Time) ([]register.Component, error) {
	list, err := o.Reader.At(valid, recorded)
	for i := range list {
		if f, ok := o.found[list[i].ID]; ok && !valid.Before(f.from) {
			list[i].Observed = f.flags
		}
	}
	return append(list, o.more...), err
}

// ask is the answer for the window.
func (w *world) ask(s blast.Subject, o blast.Options) *blast.Answer {
	w.t.Helper()
	a, err := blast.Radius(w.t.Context(), w.books(), s, start(), start().Add(window), o)
	if err != nil {
		w.t.Fatal(err)
	}
	return a
}
