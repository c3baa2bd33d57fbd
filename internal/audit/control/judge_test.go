package control_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/books"
	"github.com/reevehq/reeve/internal/audit/control"
	"github.com/reevehq/reeve/internal/audit/history"
	"github.com/reevehq/reeve/internal/audit/index"
	"github.com/reevehq/reeve/internal/audit/register"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/verify"
)

func judge(t testing.TB, b *books.Books, o control.Options) map[string]control.Result {
	t.Helper()
	list, err := control.Judge(t.Context(), b, o)
	must(t, err)
	all := map[string]control.Result{}
	for _, r := range list {
		all[r.Control] = r
	}
	return all
}

// TestClean: with everything there and nothing wrong, every control passes.
func TestClean(t *testing.T) {
	for id, r := range judgeWorld(t, clean()) {
		if r.State != control.Pass || r.Summary == "" {
			t.Errorf("%s: %s, %s: %+v", id, r.State, r.Summary, r.Findings)
		}
	}
}

func judgeWorld(t testing.TB, w *world) map[string]control.Result {
	t.Helper()
	b, o := w.build(t)
	return judge(t, b, o)
}

// TestNothing: without data nothing is satisfied.
func TestNothing(t *testing.T) {
	b := &books.Books{Trust: new(verify.Trust), Index: index.NewMemory(), History: history.New(), Now: now}
	for id, r := range judge(t, b, control.Options{}) {
		if r.State != control.Unknown {
			t.Errorf("%s: %s, %s", id, r.State, r.Summary)
		}
	}
}

// TestFaults plants one fault in a clean estate, and wants the controls that it concerns to fail, and no other to change.
func TestFaults(t *testing.T) {
	cora := func(w *world, f func(*statement.Person)) {
		w.plan = append(w.plan, func(p *estate.Plan) {
			for i := range p.Charter.People {
				if p.Charter.People[i].ID == "cora" {
					f(&p.Charter.People[i])
				}
			}
		})
	}
	for _, c := range []struct {
		name    string
		fault   func(*world)
		after   func(*testing.T, *world, *books.Books)
		options func(*control.Options)
		fails   string // ids
		unknown string
		subject string // of the first finding of the first of them
		owner   string
		says    string
		noRefs  bool // the fault is not in a ledger
	}{
		{name: "a secret of no credential", fails: "RV-01", subject: "credential:gone-openai", owner: "cora", says: "nobody answers for it",
			fault: func(w *world) { w.put(30*day, "gone-openai", "research", "1", "fp-gone") }},
		{name: "an owner who left", fails: "RV-01 RV-02 RV-04", subject: "credential:research-anthropic", owner: "ada", says: "left on", noRefs: true,
			fault: func(w *world) { cora(w, func(p *statement.Person) { p.Left = now.Add(-day) }) }},
		{name: "two owners of a gateway are one", fails: "RV-02", subject: "gateway:g1", owner: "ada", says: "ada answers for policy and operations", noRefs: true,
			after: func(_ *testing.T, w *world, _ *books.Books) {
				w.estate.Set.Operations.Gateways[0].Owners.Operations = "ada"
			}},
		{name: "a vendor's gateway without an owner", fails: "RV-02", subject: "gateway:v1", says: "nobody owns its lifecycle", owner: "bea", noRefs: true,
			fault: func(w *world) { w.components[0].Owners.Lifecycle = "" }},
		{name: "who signs policy may have secrets recovered", fails: "RV-03", subject: "person:ada", owner: "bea", says: "recovered", noRefs: true,
			after: func(_ *testing.T, w *world, _ *books.Books) {
				w.estate.Set.Charter.People[0].Recipient = w.estate.Identity.Recipient().String()
			}},
		{name: "a deputy who could do both", fails: "RV-03", subject: "person:ada", owner: "bea", says: "as a deputy of cora", noRefs: true,
			after: func(_ *testing.T, w *world, _ *books.Books) {
				for i := range w.estate.Set.Charter.People {
					if p := &w.estate.Set.Charter.People[i]; p.ID == "cora" {
						p.Deputies = []string{"ada"}
					}
				}
			}},
		{name: "a key file signed", fails: "RV-04", subject: "person:ada", owner: "bea", says: "AAL1", noRefs: true,
			fault: func(w *world) {
				s, err := estate.NewSigner("ada")
				if err != nil {
					panic(err)
				}
				w.options = append(w.options, estatetest.Person(s))
			}},
		{name: "an attestation of long ago", fails: "RV-04", subject: "person:ada", owner: "bea", says: "100 days ago; 99 are allowed", noRefs: true,
			options: func(o *control.Options) { o.Attested = 99 * day }},
		{name: "a drill found a secret", fails: "RV-05 RV-15", subject: "drill:S1", owner: "bea", says: "2 secrets",
			fault: func(w *world) { w.drill("S1", func(d *control.Drill) { d.Found, d.Passed = 2, false }) }},
		{name: "a drill that a ledger vouches for", fails: "RV-05 RV-15", subject: "drill:S5", owner: "bea", says: "1 secrets",
			fault: func(w *world) {
				w.drill("S5", func(d *control.Drill) { d.Found, d.Passed, d.Record = 1, false, strings.Repeat("ef", 32) })
				w.write(9*day, entry.Entry{Type: entry.Attest, Reason: "drill", Record: strings.Repeat("ef", 32)})
			}},
		{name: "a replayed call succeeded", fails: "RV-06 RV-15", subject: "drill:S3", owner: "bea", says: "replayed",
			fault: func(w *world) { w.drill("S3", func(d *control.Drill) { d.Found, d.Passed = 1, false }) }},
		{name: "a use that policy forbids", fails: "RV-07", subject: "credential:research-openai", owner: "ada", says: "does not allow",
			fault: func(w *world) {
				w.plan = append(w.plan, func(p *estate.Plan) {
					p.Cedar["research"]["use.cedar"] = `permit (principal, action, resource) when { context.proof == "token" };`
				})
				w.edit(entry.Intent, "research-openai", func(x *written) { x.entry.Proof = "bearer" })
			}},
		{name: "a use that policy forbids for its size", fails: "RV-07", subject: "credential:research-openai", owner: "ada", says: "does not allow",
			fault: func(w *world) {
				w.edit(entry.Intent, "research-openai", func(x *written) { x.payload = strings.Replace(x.payload, `"max_tokens":100`, `"max_tokens":200000`, 1) })
			}},
		{name: "a use between others that policy forbids for its size", fails: "RV-07", subject: "credential:research-openai", owner: "ada", says: "1 uses of 22 that were replayed",
			fault: func(w *world) { w.busy(20, 11) }},
		{name: "more uses than are replayed", unknown: "RV-07", subject: "unit:research", owner: "ada", says: "uses cannot be said to be as policy was: they are more than were replayed",
			fault: func(w *world) { w.busy(20, -1) }, options: func(o *control.Options) { o.Replays = 20 }},
		{name: "all of many uses", fault: func(w *world) { w.busy(20, -1) }, options: func(o *control.Options) { o.Replays = -1 }},
		{name: "a use under a break-glass", fault: func(w *world) { w.glass(20*day - 30*time.Minute) }},
		{name: "a use under a break-glass that was over", fails: "RV-07", subject: "credential:research-openai", owner: "ada", says: "does not allow",
			fault: func(w *world) { w.glass(19 * day) }},
		{name: "what decisions looked at was erased", unknown: "RV-07", subject: "unit:research", owner: "ada", says: "lies with the custodian, sealed",
			fault: func(w *world) { w.payloads = false }},
		{name: "a store that lets somebody else read", fails: "RV-07", subject: "credential:research-openai", owner: "cora", says: "lets intruder read it",
			fault: func(w *world) {
				w.evidence.Stores = []control.Store{{Credential: "research-openai", Time: now.Add(-day), Readers: []string{"c1", "intruder"}}}
			},
			after: func(_ *testing.T, w *world, _ *books.Books) {
				c, _, _ := w.estate.Set.Credential("research-openai")
				c.Source = "vault"
			}},
		{name: "a store that nobody looked at", unknown: "RV-07", subject: "unit:research", owner: "cora", says: "1 credentials in their store", noRefs: true,
			fault: func(w *world) { // the answer is too old
				w.evidence.Stores = []control.Store{{Credential: "research-openai", Time: now.Add(-91 * day), Readers: []string{"c1"}}}
			},
			after: func(_ *testing.T, w *world, _ *books.Books) {
				c, _, _ := w.estate.Set.Credential("research-openai")
				c.Source = "vault"
			}},
		{name: "a custodian that the statement does not name", fails: "RV-07", subject: "credential:research-openai", owner: "cora", says: "does not name",
			after: func(_ *testing.T, w *world, _ *books.Books) {
				c, _, _ := w.estate.Set.Credential("research-openai")
				c.Custodians = []string{"c2"}
			}},
		{name: "an intent without an outcome", fails: "RV-08", subject: "credential:research-openai", owner: "cora", says: "nothing says what became of them",
			fault: func(w *world) {
				w.use(time.Hour*50, "research-agent", "research", "research-openai", nil)
				w.entries = w.entries[:len(w.entries)-1]
			}},
		{name: "a use that goes on", unknown: "RV-08", subject: "credential:research-openai", owner: "cora", says: "no outcome yet",
			fault: func(w *world) {
				w.use(time.Minute, "research-agent", "research", "research-openai", nil)
				w.entries = w.entries[:len(w.entries)-1]
			}},
		{name: "a log that vouches for less", fails: "RV-08", subject: "log:reeve/demo/c1/1", owner: "bea", says: "gap",
			after: func(t *testing.T, _ *world, b *books.Books) {
				old := b.Index.(*index.Memory)
				b.Index = withSuccessor{old, b.Logs[0].ID}
			}},
		{name: "a tile that was changed", fails: "RV-09", subject: "ledger:c1", owner: "bea", says: "does not verify",
			after: func(t *testing.T, w *world, _ *books.Books) {
				tile, err := filepath.Glob(filepath.Join(w.tiles, "tile", "0", "000.p", "*"))
				must(t, err)
				b, err := os.ReadFile(tile[0])
				must(t, err)
				b[40] ^= 1
				must(t, os.WriteFile(tile[0], b, 0o644))
			}},
		{name: "a witness of the log's own process", fails: "RV-09", subject: "witness:c1", owner: "bea", says: "one hand", noRefs: true,
			after: func(_ *testing.T, w *world, _ *books.Books) {
				for i := range w.estate.Set.Charter.ServiceKeys {
					if k := &w.estate.Set.Charter.ServiceKeys[i]; k.Use == "witness" {
						k.Process = "c1"
					}
				}
			}},
		{name: "nobody cosigned", unknown: "RV-09", subject: "ledger:c1", owner: "bea", says: "not enough witnesses",
			after: func(t *testing.T, w *world, _ *books.Books) { must(t, os.Remove(filepath.Join(w.tiles, "checkpoint"))) }},
		{name: "a key that lives for months", fails: "RV-10", subject: "credential:support-anthropic", owner: "cora", says: "until somebody ends it",
			fault: func(w *world) {
				w.plan = append(w.plan, func(p *estate.Plan) { p.Custody["support"].Credentials[1].MaxLifetime = statement.Duration(90 * day) })
			}},
		{name: "a fetched secret without an end", fails: "RV-10", subject: "credential:support-anthropic", owner: "cora", says: "until somebody ends it",
			after: func(_ *testing.T, w *world, _ *books.Books) {
				c, _, _ := w.estate.Set.Credential("support-anthropic")
				c.Source = "federation"
			}},
		{name: "a credential that nobody uses", fails: "RV-11", subject: "credential:support-anthropic", owner: "cora", says: "nobody has used it", noRefs: true,
			fault: func(w *world) {
				w.entries = slices.DeleteFunc(w.entries, func(x written) bool {
					return x.entry.Credential == "support-anthropic" && (x.entry.Type == entry.Intent || x.entry.Type == entry.Outcome)
				})
			}},
		{name: "a grant that nobody uses", fails: "RV-11", subject: "credential:support-anthropic", owner: "cora", says: "support-night", noRefs: true,
			fault: func(w *world) {
				w.plan = append(w.plan, func(p *estate.Plan) {
					p.Charter.Workloads = append(p.Charter.Workloads, statement.Workload{ID: "support-night", Unit: "support", Identities: []statement.Identity{{Issuer: "cluster", Audience: "reeve", Subject: "system:serviceaccount:support:night"}}})
					p.Cedar["support"]["use.cedar"] += `permit (principal == Workload::"support-night", action, resource == Credential::"support-anthropic");`
				})
			}},
		{name: "one secret for two credentials", fails: "RV-12", subject: "credential:research-openai", owner: "cora", says: "2 credentials (research-openai, support-anthropic), 2 business units",
			fault: func(w *world) {
				for _, typ := range []entry.Type{entry.Publish, entry.Intent} {
					w.edit(typ, "support-anthropic", func(x *written) { x.entry.CredFP = "fp-research-openai" })
				}
			}},
		{name: "a person as a workload", fails: "RV-13", subject: "workload:research-agent", owner: "ada", says: "the person bea",
			fault: func(w *world) {
				w.plan = append(w.plan, func(p *estate.Plan) { p.Charter.Workloads[0].Identities[0].Subject = "bea" })
			}},
		{name: "a revocation that nobody proved", fails: "RV-14", subject: "credential:support-openai", owner: "cora", says: "no probe has shown",
			fault: func(w *world) {
				w.entries = slices.DeleteFunc(w.entries, func(x written) bool { return x.entry.State == "revoked-proven" && x.entry.Lease == "2" })
			}},
		{name: "a revoked secret that works", fails: "RV-14", subject: "credential:support-openai", owner: "cora", says: "was not refused",
			fault: func(w *world) {
				w.entries = slices.DeleteFunc(w.entries, func(x written) bool { return x.entry.State == "revoked-proven" && x.entry.Lease == "2" })
				w.probe(38*day, "support-openai", "2", "works")
			}},
		{name: "a secret that was destroyed and not proven dead", fails: "RV-14", subject: "credential:support-openai", owner: "cora", says: "whoever has a copy may still use it",
			fault: func(w *world) { w.destroy() }},
		{name: "a secret that was probed once and destroyed", fails: "RV-14", subject: "credential:support-openai", owner: "cora", says: "whoever has a copy may still use it",
			fault: func(w *world) { w.probe(40*day-2*time.Minute, "support-openai", "2", "refused"); w.destroy() }},
		{name: "a secret that was probed twice at once and destroyed", fails: "RV-14", subject: "credential:support-openai", owner: "cora", says: "whoever has a copy may still use it",
			fault: func(w *world) {
				w.probe(40*day-2*time.Minute, "support-openai", "2", "refused")
				w.probe(40*day-2*time.Minute-10*time.Second, "support-openai", "2", "refused")
				w.destroy()
			}},
		{name: "a secret that worked between two probes and was destroyed", fails: "RV-14", subject: "credential:support-openai", owner: "cora", says: "was not refused",
			fault: func(w *world) {
				w.probe(40*day-2*time.Minute, "support-openai", "2", "refused")
				w.probe(40*day-4*time.Minute, "support-openai", "2", "works")
				w.probe(40*day-6*time.Minute, "support-openai", "2", "refused")
				w.destroy()
			}},
		{name: "a secret that was proven dead and destroyed",
			fault: func(w *world) {
				w.probe(40*day-2*time.Minute, "support-openai", "2", "refused")
				w.probe(40*day-4*time.Minute, "support-openai", "2", "refused")
				w.destroy()
			}},
		{name: "an incident that left secrets alive", unknown: "RV-14", subject: "incident:inc-1", owner: "bea", says: "2 secrets that were to end were not proven dead",
			fault: func(w *world) { w.incident(control.Incident{Contained: now.Add(-5 * day), Unproven: 2}) }},
		{name: "an incident that was closed and not contained", fails: "RV-15", subject: "incident:inc-1", owner: "bea", says: "not every custodian",
			fault: func(w *world) { w.incident(control.Incident{Dead: 1}) }},
		{name: "an incident that nobody signed for", unknown: "RV-15", subject: "incident:inc-1", owner: "bea", says: "nobody has signed for how it was contained", noRefs: true,
			fault: func(w *world) {
				w.evidence.Incidents = []control.Incident{{ID: "inc-1", Opened: now.Add(-6 * day), Closed: now.Add(-5 * day)}}
			}},
		{name: "an incident that was contained", fault: func(w *world) { w.incident(control.Incident{Contained: now.Add(-5 * day), Dead: 2}) }},
		{name: "a drill that no ledger has", unknown: "RV-05 RV-15", subject: "drill:S1", owner: "bea", says: "no ledger has that somebody signed for it", noRefs: true,
			fault: func(w *world) { w.waits("drill-0") }},
		{name: "a drill that found something and that no ledger has", fails: "RV-05 RV-15", subject: "drill:S1", owner: "bea", says: "2 secrets", noRefs: true,
			fault: func(w *world) {
				w.drill("S1", func(d *control.Drill) { d.Found, d.Passed = 2, false })
				w.waits("drill-0")
			}},
		{name: "a drill that the custodian says was signed for", unknown: "RV-05 RV-15", subject: "drill:S1", owner: "bea", says: "no ledger has that somebody signed for it", noRefs: true,
			fault: func(w *world) {
				w.waits("drill-0")
				w.write(4*time.Hour, entry.Entry{Type: entry.Attest, Reason: "drill", Record: "drill-0", Actor: []string{"bea"}})
			}},
		{name: "a comparison that no ledger has", unknown: "RV-16", subject: "unit:research", owner: "cora", says: "no ledger has that somebody signed for it", noRefs: true,
			fault: func(w *world) { w.waits("reconciliation-10") }},
		{name: "a search that no ledger has", unknown: "RV-19", subject: "estate", owner: "bea", says: "no ledger has that yet", noRefs: true,
			fault: func(w *world) { w.waits("discovery-14") }},
		{name: "a comparison that could not be decided", unknown: "RV-16", subject: "unit:support", owner: "cora", says: "1 keys in the export are of no credential that is known: 1 credentials: support-openai", noRefs: true,
			fault: func(w *world) {
				w.evidence.Reconciliations[2].Undecided = "1 keys in the export are of no credential that is known"
			}},
		{name: "a component that no ledger has", unknown: "RV-02 RV-18 RV-19", subject: "component:v1", owner: "bea", says: "in no ledger yet", noRefs: true,
			fault: func(w *world) { w.components[0].Anchored = false }},
		{name: "a register whose end was cut off", unknown: "RV-02 RV-03 RV-18 RV-19", subject: "register", owner: "bea", says: "lacks a record", noRefs: true,
			after: func(_ *testing.T, _ *world, b *books.Books) { b.Register = short{b.Register} }},
		{name: "nothing was ever revoked", unknown: "RV-14", subject: "estate", owner: "bea", says: "nothing shows that it works", noRefs: true,
			fault: func(w *world) {
				w.entries = slices.DeleteFunc(w.entries, func(x written) bool { return x.entry.Type == entry.Version || x.entry.Type == entry.Revoke })
				w.components, w.evidence.Discoveries[0].Found = nil, nil
			}},
		{name: "a version that came after the revocation",
			fault: func(w *world) {
				w.entries = slices.DeleteFunc(w.entries, func(x written) bool { return x.entry.Type == entry.Unfreeze })
			}},
		{name: "a drill of long ago", fails: "RV-15", subject: "drill:S10", owner: "bea", says: "90 are allowed",
			fault: func(w *world) { w.drill("S10", func(d *control.Drill) { d.Time = now.Add(-91 * day) }) }},
		{name: "a use that only the provider saw", fails: "RV-16", subject: "credential:support-openai", owner: "cora", says: "7 uses",
			fault: func(w *world) { w.evidence.Reconciliations[2].Strays = 7 }},
		{name: "a comparison of a day", unknown: "RV-16", subject: "unit:support", owner: "cora", says: "support-openai", noRefs: true,
			fault: func(w *world) { w.evidence.Reconciliations[2].From = now.Add(-2 * day) }},
		{name: "a provider that was not asked", unknown: "RV-16", subject: "unit:support", owner: "cora", says: "support-openai", noRefs: true,
			fault: func(w *world) { w.evidence.Reconciliations = slices.Delete(w.evidence.Reconciliations, 2, 3) }},
		{name: "chaining that went on", fails: "RV-17", subject: "drill:S9", owner: "bea", says: "10.5 s",
			fault: func(w *world) { w.drill("S9", func(d *control.Drill) { d.Seconds = 10.5 }) }},
		{name: "a workload without a limit", fails: "RV-17", subject: "workload:support-agent", owner: "ada", says: "no signed limit", noRefs: true,
			fault: func(w *world) {
				w.plan = append(w.plan, func(p *estate.Plan) { p.Policies["support"].Limits = nil })
			}},
		{name: "a verdict that ran out", fails: "RV-18", subject: "gateway:v1", owner: "bea", says: "ran out",
			fault: func(w *world) { w.components[0].Probed = now.Add(-day) }},
		{name: "a probe that could not see everything", unknown: "RV-18", subject: "gateway:v1", owner: "bea", says: "cache, mint",
			fault: func(w *world) {
				w.components[0].Verdict = &register.Verdict{Unseen: []register.Flag{register.Cache, register.Mint}}
			}},
		{name: "nobody searched", unknown: "RV-19 RV-18", subject: "estate", owner: "bea", says: "nobody has searched", noRefs: true,
			fault: func(w *world) { w.evidence.Discoveries, w.components = nil, nil }},
		{name: "a gateway that nobody registered", fails: "RV-19", subject: "component:shadow", owner: "bea", says: "the register does not have it",
			fault: func(w *world) {
				w.evidence.Discoveries[0].Found = append(w.evidence.Discoveries[0].Found, control.Found{Component: "shadow", What: "a proxy", Place: "10.0.0.7"})
			}},
		{name: "a use of another tenant", fails: "RV-20", subject: "credential:research-openai", owner: "cora", says: "tenant other",
			fault: func(w *world) { w.edit(entry.Intent, "research-openai", func(x *written) { x.entry.Tenant = "other" }) }},
		{name: "a static key", fails: "RV-21", subject: "workload:research-agent", owner: "ada", says: "static key", noRefs: true,
			fault: func(w *world) {
				w.plan = append(w.plan, func(p *estate.Plan) {
					x := &p.Charter.Workloads[0]
					x.Identities = append(x.Identities, statement.Identity{Issuer: statement.IssuerReeve})
				})
			}},
		{name: "a subject that anybody can have", fails: "RV-21", subject: "workload:research-agent", owner: "ada", says: "system:serviceaccount:research:*", noRefs: true,
			fault: func(w *world) {
				w.plan = append(w.plan, func(p *estate.Plan) {
					p.Charter.Workloads[0].Identities[0].Subject = "system:serviceaccount:research:*"
				})
			}},
		{name: "a break-glass that nobody reviewed", fails: "RV-22", subject: "credential:research-openai", owner: "cora", says: "not reviewed",
			fault: func(w *world) {
				w.entries = slices.DeleteFunc(w.entries, func(x written) bool { return strings.HasPrefix(x.entry.Reason, "reviewed") })
			}},
		{name: "a break-glass of one person", fails: "RV-22", subject: "credential:research-openai", owner: "cora", says: "by ada alone",
			fault: func(w *world) {
				w.edit(entry.BreakGlass, "research-openai", func(x *written) {
					if strings.HasPrefix(x.entry.Reason, "open") {
						x.entry.Actor = []string{"ada", "ada"}
					}
				})
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := clean()
			if c.fault != nil {
				c.fault(w)
			}
			b, o := w.build(t)
			if c.after != nil {
				c.after(t, w, b)
			}
			if c.options != nil {
				c.options(&o)
			}
			all := judge(t, b, o)
			want := map[string]control.State{}
			for _, id := range strings.Fields(c.fails) {
				want[id] = control.Fail
			}
			for _, id := range strings.Fields(c.unknown) {
				want[id] = control.Unknown
			}
			got := map[string]control.State{}
			for id, r := range all {
				if r.State != control.Pass {
					got[id] = r.State
				}
			}
			if d := cmp.Diff(want, got); d != "" {
				for id := range got {
					t.Logf("%s: %s: %+v", id, all[id].Summary, all[id].Findings)
				}
				t.Fatal(d)
			}
			if len(want) == 0 {
				return
			}
			id := strings.Fields(c.fails + " " + c.unknown)[0]
			f := all[id].Findings[0]
			if f.Subject != c.subject || f.Owner != c.owner || !strings.Contains(f.What, c.says) || (len(f.Refs) == 0) != c.noRefs {
				t.Errorf("%s says %+v, not of %s, %s, with %q", id, f, c.subject, c.owner, c.says)
			}
		})
	}
}

// withSuccessor is an index with one more log, which vouches for fewer entries than the log before it has.
type withSuccessor struct {
	*index.Memory
	of string
}

func (s withSuccessor) Logs(ctx context.Context) ([]index.Log, error) {
	list, err := s.Memory.Logs(ctx)
	return append(list, index.Log{ID: "0123456789abcdef", Process: "c1", Origin: "reeve/demo/c1/1", Size: 1, First: now.UnixNano(), PrevOrigin: "reeve/demo/c1", PrevSize: 3}), err
}

// short is a register that lacks records.
type short struct{ register.Reader }

func (short) Lacks() error { return register.ErrMissing }

// TestLacks: a report says what is not known of components.
func TestLacks(t *testing.T) {
	w := clean()
	w.components[0].Anchored = false
	w.use(3*day, "research-agent", "research", "research-openai", func(e *entry.Entry, _ map[string]any) { e.Gateway = "g7" })
	w.waits("drill-0")
	b, o := w.build(t)
	b.Register = short{b.Register}
	r, err := control.Make(t.Context(), b, o)
	must(t, err)
	all := strings.Join(r.Lacks, "\n")
	if len(r.Lacks) != 3 || !strings.Contains(all, "may be less than was said") || !strings.Contains(all, "vendor-gateway v1 is in no ledger") || !strings.Contains(all, "name the gateway g7") {
		t.Errorf("%q", r.Lacks)
	}
	if d := cmp.Diff([]string{"drill-0"}, r.Waiting); d != "" {
		t.Error(d)
	}
}

// TestExemptions: what a live exemption names does not fail; what it does not name does.
func TestExemptions(t *testing.T) {
	w := clean()
	w.plan = append(w.plan, func(p *estate.Plan) {
		for i := range p.Custody["support"].Credentials {
			p.Custody["support"].Credentials[i].MaxLifetime = statement.Duration(90 * day)
		}
	})
	b, o := w.build(t)
	exempt := func(subject string, until time.Time) control.Exemption {
		return control.Exemption{Control: "RV-10", Subject: subject, From: now.Add(-day), Until: until, Approver: "ada", Reason: "no federation there"}
	}
	for _, c := range []struct {
		name string
		list []control.Exemption
		want control.State
	}{
		{"none", nil, control.Fail},
		{"of one", []control.Exemption{exempt("credential:support-openai", now.Add(day))}, control.Fail},
		{"of both", []control.Exemption{exempt("credential:support-openai", now.Add(9*day)), exempt("credential:support-anthropic", now.Add(day))}, control.Exempt},
		{"of all", []control.Exemption{exempt("", now.Add(day))}, control.Exempt},
		{"by who has to put it right", []control.Exemption{{Control: "RV-10", From: now.Add(-day), Until: now.Add(day), Approver: "cora"}}, control.Fail},
		{"over", []control.Exemption{exempt("", now)}, control.Fail},
		{"of another control", []control.Exemption{{Control: "RV-11", From: now.Add(-day), Until: now.Add(day), Approver: "ada"}}, control.Fail},
	} {
		for i := range c.list {
			c.list[i].Record = w.exempt
		}
		o.Evidence.Exemptions, o.Controls = c.list, []string{"RV-10"}
		r := judge(t, b, o)["RV-10"]
		for i := range c.list { // in no ledger
			c.list[i].Record = "another"
		}
		if r := judge(t, b, o)["RV-10"]; r.State != control.Fail {
			t.Errorf("%s, in no ledger: %+v", c.name, r)
		}
		if r.State != c.want || r.State == control.Exempt && (r.Approver != "ada" || !r.Until.Equal(now.Add(day)) || r.Findings[0].Exempt == "") {
			t.Errorf("%s: %+v", c.name, r)
		}
	}
}

// TestScope: a unit's results are of that unit and of what concerns all, and a framework's of its controls.
func TestScope(t *testing.T) {
	w := clean()
	w.plan = append(w.plan, func(p *estate.Plan) { p.Custody["support"].Credentials[0].MaxLifetime = statement.Duration(90 * day) })
	b, o := w.build(t)
	for unit, want := range map[string]control.State{"research": control.Pass, "support": control.Fail, "": control.Fail} {
		o.Unit = unit
		all := judge(t, b, o)
		if got := all["RV-10"].State; got != want || all["RV-15"].State != control.Pass {
			t.Errorf("unit %q: %s, %s", unit, got, all["RV-15"].State)
		}
	}
	o.Unit, o.Framework = "", "soc2"
	if all := judge(t, b, o); len(all) != 1 || all["RV-01"].Control == "" {
		t.Errorf("soc2: %v", all)
	}
	o.Framework, o.AsOf = "", begun.Add(-day)
	for id, r := range judge(t, b, o) {
		if r.State != control.Unknown {
			t.Errorf("before there was anything: %s: %s, %s", id, r.State, fmt.Sprint(r.Findings))
		}
	}
	for want, o := range map[error]control.Options{control.ErrControl: {Controls: []string{"RV-23"}}, control.ErrFramework: {Framework: "soc3"}, control.ErrUnit: {Unit: "sales"}} {
		if _, err := control.Judge(t.Context(), b, o); !errors.Is(err, want) {
			t.Errorf("%v: %v", want, err)
		}
	}
}

// TestGroups: an id of a framework stands as its worst control does.
func TestGroups(t *testing.T) {
	w := clean()
	w.evidence.Reconciliations = nil // RV-16 is not known
	w.drill("S10", func(d *control.Drill) { d.Passed = false })
	b, o := w.build(t)
	for framework, want := range map[string]map[string]control.State{
		"csf2":      {"DE.CM-06": control.Unknown, "ID.IM-02": control.Fail, "PR.AA-05": control.Pass},
		"800-53":    {"AU-6(3)": control.Unknown, "IR-3": control.Fail, "AC-5": control.Pass},
		"eu-ai-act": {"Article 12": control.Pass},
		"owasp-nhi": {"NHI1": control.Pass},
		"iso42001":  {"A.3.2": control.Pass},
		"owasp-mcp": {"MCP01": control.Pass},
		"800-63":    {"AAL2": control.Pass},
		"ai-rmf":    {"GOVERN 4.3": control.Fail},
	} {
		o.Framework = framework
		r, err := control.Make(t.Context(), b, o)
		must(t, err)
		got := map[string]control.State{}
		for _, g := range r.Groups {
			if g.Title == "" || len(g.Controls) == 0 {
				t.Errorf("%s: %+v", framework, g)
			}
			if _, asked := want[g.ID]; asked {
				got[g.ID] = g.State
			}
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", framework, d)
		}
	}
}
