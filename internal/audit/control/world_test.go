package control_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/books"
	"github.com/reevehq/reeve/internal/audit/control"
	"github.com/reevehq/reeve/internal/audit/history"
	"github.com/reevehq/reeve/internal/audit/index"
	"github.com/reevehq/reeve/internal/audit/logs"
	"github.com/reevehq/reeve/internal/audit/register"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/internal/ledger/offline"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/verify"
)

const day = 24 * time.Hour

// now is when the test world is judged, and begun when its estate was signed and its ledger began.
var (
	now   = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	begun = now.Add(-100 * day)
)

// written is an entry that the custodian writes at a time, with what its decision looked at.
type written struct {
	ago     time.Duration
	entry   entry.Entry
	payload string
	of      *int64 // number of the intent, which its outcome names
}

// world is an estate with everything that controls are judged from, all of it as it should be. Faults change it before it is built.
type world struct {
	plan       []func(*estate.Plan)
	options    []estatetest.Option
	entries    []written
	evidence   *control.Evidence
	components []register.Component
	payloads   bool
	waiting    func(record string) bool // of evidence that no ledger has

	exempt string // record of exemptions
	tiles  string // of the ledger, once it is built
	estate *estatetest.Estate
}

// clean is a world without a fault.
func clean() *world {
	w := &world{payloads: true, evidence: new(control.Evidence)}
	uses := func(unit string, days ...int) {
		for _, d := range days {
			for _, provider := range []string{"openai", "anthropic"} {
				w.use(time.Duration(d)*day, unit+"-agent", unit, unit+"-"+provider, nil)
			}
		}
	}
	for _, unit := range []string{"research", "support"} {
		for _, provider := range []string{"openai", "anthropic"} {
			w.put(95*day, unit+"-"+provider, unit, "1", "fp-"+unit+"-"+provider)
		}
	}
	uses("research", 60, 2)
	uses("support", 60, 2)
	// support-openai was rotated, and the version before it proven dead.
	w.put(41*day, "support-openai", "support", "2", "fp-support-openai-2")
	w.write(40*day, entry.Entry{Type: entry.Revoke, Credential: "support-openai", Unit: "support", Tenant: "acme", Record: strings.Repeat("ab", 32), Actor: []string{"cora"}})
	for _, state := range []string{"frozen", "revoked-unproven", "revoked-proven"} {
		for _, lease := range []string{"1", "2"} {
			w.write(40*day-time.Minute, entry.Entry{Type: entry.Version, Credential: "support-openai", Unit: "support", Tenant: "acme", Lease: lease, State: state})
		}
	}
	w.write(39*day, entry.Entry{Type: entry.Unfreeze, Credential: "support-openai", Unit: "support", Tenant: "acme", Record: strings.Repeat("ac", 32), Actor: []string{"ada", "cora"}})
	w.put(39*day, "support-openai", "support", "3", "fp-support-openai-3")
	glass := entry.Entry{Type: entry.BreakGlass, Credential: "research-openai", Unit: "research", Tenant: "acme", Record: strings.Repeat("cd", 32)}
	for i, step := range []struct {
		word string
		by   []string
	}{{"open: the feed was down", []string{"ada", "cora"}}, {"ended", []string{"ada", "cora"}}, {"reviewed: it was needed", []string{"bea"}}} {
		e := glass
		e.Reason, e.Actor = step.word, step.by
		w.write(20*day-time.Duration(i)*time.Hour, e)
	}

	for n := 1; n <= 10; n++ {
		d := control.Drill{Scenario: fmt.Sprintf("S%d", n), Time: now.Add(-10 * day), Passed: true}
		if n == 9 {
			d.Seconds = 2.5
		}
		w.evidence.Drills = append(w.evidence.Drills, d)
	}
	for _, unit := range []string{"research", "support"} {
		for _, provider := range []string{"openai", "anthropic"} {
			w.evidence.Reconciliations = append(w.evidence.Reconciliations, control.Reconciliation{Credential: unit + "-" + provider, Source: provider + "-usage", From: now.Add(-30 * day), To: now.Add(-day), Provider: 1, Ledger: 1})
		}
	}
	w.evidence.Discoveries = []control.Discovery{{Where: "every host", Time: now.Add(-5 * day), Found: []control.Found{{Component: "v1", What: "a gateway", Place: "10.0.0.9"}}}}
	w.components = []register.Component{{ID: "v1", Kind: register.Vendor, Anchored: true, Owners: register.Owners{Policy: "ada", Operations: "bea", Lifecycle: "cora", Contract: "bea"},
		Probed: now.Add(60 * day), Credentials: []string{"support-openai"}, Valid: begun, Recorded: begun}}
	return w
}

// write has the custodian write an entry so long ago.
func (w *world) write(ago time.Duration, e entry.Entry) {
	w.entries = append(w.entries, written{ago: ago, entry: e})
}

func (w *world) put(ago time.Duration, credential, unit, lease, fingerprint string) {
	w.write(ago, entry.Entry{Type: entry.Publish, Reason: "handover", Credential: credential, Unit: unit, Tenant: "acme", Lease: lease, CredFP: fingerprint, State: "active"})
}

// use writes an intent as change leaves it, and its outcome.
func (w *world) use(ago time.Duration, workload, unit, credential string, change func(*entry.Entry, map[string]any)) {
	e := entry.Entry{Type: entry.Intent, Tenant: "acme", Unit: unit, Workload: workload, Gateway: "g1", Credential: credential, CredFP: "fp-" + credential, Lease: "1", Decision: "allow",
		Reason: "allowed", Level: "W1", Proof: "token", Actor: []string{"token:0123456789abcdef", "issuer:cluster"}, Policies: []string{unit + "/use.cedar#agent"}}
	in := map[string]any{"level": 1, "max_tokens": 100, "method": "POST", "model": "demo-small", "target": "/v1/chat/completions", "time": now.Add(-ago), "workload": workload}
	if change != nil {
		change(&e, in)
	}
	b, err := json.Marshal(in)
	if err != nil {
		panic(err)
	}
	seq := new(int64)
	w.entries = append(w.entries, written{ago, e, string(b), seq},
		written{ago - time.Second, entry.Entry{Type: entry.Outcome, HasIntent: true, Credential: credential, Status: 200, Bytes: 10}, "", seq})
}

// busy writes uses that are alike but for one, which is too large for policy.
func (w *world) busy(n, large int) {
	for i := range n {
		w.use(50*day-time.Duration(i)*time.Hour, "research-agent", "research", "research-openai", func(_ *entry.Entry, in map[string]any) {
			if i == large {
				in["max_tokens"] = 200_000
			}
		})
	}
}

// glass writes a use that policy forbids and a break-glass let, so long ago.
func (w *world) glass(ago time.Duration) {
	w.plan = append(w.plan, func(p *estate.Plan) {
		p.Cedar["research"]["use.cedar"] = `permit (principal, action, resource) when { context.proof == "token" };`
	})
	w.use(ago, "research-agent", "research", "research-openai", func(e *entry.Entry, _ map[string]any) {
		e.Proof, e.Reason, e.Policies = "bearer", "break_glass", []string{"break-glass:" + strings.Repeat("cd", 32)}
	})
}

// destroy has version 2 of support-openai, which was revoked, destroyed instead of proven dead.
func (w *world) destroy() {
	w.edit(entry.Version, "support-openai", func(x *written) {
		if x.entry.State == "revoked-proven" && x.entry.Lease == "2" {
			x.ago, x.entry.State = 39*day+time.Hour, "destroyed"
		}
	})
}

// incident is one that was opened and closed days ago, and how two people say that it went.
func (w *world) incident(i control.Incident) {
	i.ID, i.Opened, i.AsOf = "inc-1", now.Add(-6*day), now.Add(-5*day)
	w.evidence.Incidents = []control.Incident{{ID: i.ID, Opened: i.Opened, Closed: i.AsOf}, i}
}

// waits has no ledger have the record.
func (w *world) waits(record string) { w.waiting = func(r string) bool { return r == record } }

// probe writes that a version was tried, and what came of it.
func (w *world) probe(ago time.Duration, credential, lease, reason string) {
	e, seq := entry.Entry{Type: entry.Probe, Credential: credential, Lease: lease}, new(int64)
	w.entries = append(w.entries, written{ago, e, "", seq})
	e.Type, e.HasIntent, e.Reason = entry.Outcome, true, reason
	w.entries = append(w.entries, written{ago - 1, e, "", seq})
}

// edit finds entries of a type and credential and changes them.
func (w *world) edit(typ entry.Type, credential string, change func(*written)) {
	for i := range w.entries {
		if x := &w.entries[i]; x.entry.Type == typ && x.entry.Credential == credential {
			change(x)
		}
	}
}

// drill changes the result of a scenario.
func (w *world) drill(scenario string, change func(*control.Drill)) {
	for i := range w.evidence.Drills {
		if d := &w.evidence.Drills[i]; d.Scenario == scenario {
			change(d)
		}
	}
}

// fixed is a register of components that do not change.
type fixed struct {
	register.Reader
	more []register.Component
}

func (f fixed) At(valid, recorded time.Time) ([]register.Component, error) {
	list, err := f.Reader.At(valid, recorded)
	return append(list, f.more...), err
}

// build signs the estate, writes the ledger, and opens books over both.
func (w *world) build(t testing.TB) (*books.Books, control.Options) {
	t.Helper()
	key, err := ledger.GenerateKey("reeve/demo/c1")
	must(t, err)
	opts := []estatetest.Option{estatetest.At(begun), estatetest.ServiceKey("log", "c1", key.Verifier()),
		estatetest.Lives(estate.Lives{Statements: 300 * day, Lock: 300 * day}), estatetest.Edit(func(p *estate.Plan) {
			p.Charter.Issuers = append(p.Charter.Issuers, statement.Issuer{ID: "cluster", Issuer: "https://cluster.example", Discovery: true, Algorithms: []string{"RS256"}})
			for i := range p.Charter.Workloads {
				x := &p.Charter.Workloads[i]
				x.Identities = []statement.Identity{{Issuer: "cluster", Audience: "reeve", Subject: "system:serviceaccount:" + x.Unit + ":agent"}}
			}
			for i := range p.Charter.People {
				p.Charter.People[i].AttestedUntil = now.Add(60 * day)
			}
			for _, cu := range p.Custody {
				for i := range cu.Credentials {
					cu.Credentials[i].MaxLifetime = statement.Duration(day)
				}
			}
			for _, f := range w.plan {
				f(p)
			}
		})}
	for _, person := range []string{"ada", "bea", "cora"} {
		opts = append(opts, estatetest.Person(estatetest.NewPasskey(t, true).Signer(t, person, nil)))
	}
	w.estate = estatetest.New(t, append(opts, w.options...)...)

	dir := t.TempDir()
	copies := filepath.Join(dir, "copies")
	w.tiles = filepath.Join(copies, "c1")
	state := filepath.Join(dir, "c1")
	w.keep(t, key, state)
	trust := &verify.Trust{Estate: "demo", Need: 1}
	for _, k := range w.estate.Set.Charter.ServiceKeys {
		name, _, _ := strings.Cut(k.Key, "+")
		switch k.Use {
		case "log":
			trust.Logs = append(trust.Logs, verify.Log{Process: k.Process, Origin: name, Key: k.Key})
		case "witness":
			trust.Witnesses = append(trust.Witnesses, verify.Witness{Name: name, Key: k.Key})
		}
	}
	text, err := json.Marshal(trust)
	must(t, err)
	trust, err = verify.ParseTrust(text)
	must(t, err)
	all, err := logs.Read(copies, trust)
	must(t, err)

	b := &books.Books{Trust: trust, Logs: all, History: history.New(w.estate.Set), Now: now}
	b.Register = fixed{register.New(b.History, nil), w.components}
	names := []index.Log{{ID: authorityLog, Process: "a1", Origin: "reeve/demo/a1"}}
	for _, l := range all {
		names = append(names, index.Log{ID: l.ID, Process: l.Process, Origin: l.Checkpoint.Log.Origin})
	}
	m := index.NewMemory(names...)
	for _, l := range all {
		must(t, l.Raw(0, func(_ int64, raw []byte) error {
			e, err := entry.Parse(raw)
			if err != nil {
				return err
			}
			return m.Add(e)
		}))
	}
	w.enter(t, m)
	b.Index = m
	o := control.Options{AsOf: now, Evidence: w.evidence}
	if w.payloads {
		o.Payload = func(_ string, e *entry.Entry) ([]byte, error) {
			return offline.Payload(filepath.Join(state, "ledger"), 0, e)
		}
	}
	return b, o
}

const authorityLog = "00000000000000a1"

// enter has somebody sign for all evidence, and the authority enter that four days ago.
func (w *world) enter(t testing.TB, to *index.Memory) {
	t.Helper()
	seq, n := int64(0), 0
	vouch := func(kind string, record *string) {
		if n++; *record == "" {
			*record = fmt.Sprintf("%s-%d", kind, n-1)
		}
		if w.waiting != nil && w.waiting(*record) {
			return
		}
		must(t, to.Add(&entry.Entry{V: 1, Type: entry.Attest, Log: authorityLog, Seq: seq, TimeNS: now.Add(-4*time.Hour).UnixNano() + seq, Reason: "document", Record: *record, Actor: []string{"bea"}, Estate: w.estate.Set.Locked().SHA256}))
		seq++
	}
	e := w.evidence
	for i := range e.Drills {
		vouch("drill", &e.Drills[i].Record)
	}
	for i := range e.Reconciliations {
		vouch("reconciliation", &e.Reconciliations[i].Record)
	}
	for i := range e.Discoveries {
		vouch("discovery", &e.Discoveries[i].Record)
	}
	for i := range e.Stores {
		vouch("store", &e.Stores[i].Record)
	}
	for i := range e.Incidents {
		if i := &e.Incidents[i]; !i.AsOf.IsZero() {
			vouch("incident", &i.Record)
		}
	}
	vouch("exemption", &w.exempt)
}

// keep writes the custodian's ledger, cosigned by the witness.
func (w *world) keep(t testing.TB, key ledger.Key, state string) {
	t.Helper()
	var clock atomic.Int64
	clock.Store(begun.UnixNano())
	l, err := ledger.Open(t.Context(), ledger.Config{Key: key, Dir: filepath.Join(state, "ledger"), Tiles: w.tiles, SegmentSize: 1 << 20, Interval: time.Hour,
		Clock: func() time.Time { return time.Unix(0, clock.Load()).UTC() }})
	must(t, err)
	_, err = l.Append(&entry.Entry{Type: entry.Publish, Reason: "lock", Estate: w.estate.Set.Locked().SHA256}, nil)
	must(t, err)
	slices.SortStableFunc(w.entries, func(a, b written) int { return cmp.Compare(b.ago, a.ago) })
	for _, x := range w.entries {
		clock.Store(now.Add(-x.ago).UnixNano())
		e := x.entry
		if e.Estate = w.estate.Set.Locked().SHA256; e.Type == entry.Outcome && e.HasIntent {
			e.IntentSeq = *x.of
		}
		d, err := l.Append(&e, []byte(x.payload))
		must(t, err)
		if x.of != nil && e.Type != entry.Outcome {
			*x.of = d.Seq()
		}
	}
	must(t, l.Close())
	raw, err := os.ReadFile(filepath.Join(w.tiles, "checkpoint.signed"))
	must(t, err)
	body, _, _ := bytes.Cut(raw, []byte("\n\n"))
	cosigned, err := note.Sign(&note.Note{Text: string(body) + "\n"}, w.estate.Cosigner(t, "w1"))
	must(t, err)
	_, line, _ := bytes.Cut(cosigned, []byte("\n\n"))
	must(t, os.WriteFile(filepath.Join(w.tiles, "checkpoint"), append(raw, line...), 0o644))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
