package control

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cedar-policy/cedar-go"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/history"
	"github.com/reevehq/reeve/internal/audit/index"
	"github.com/reevehq/reeve/internal/audit/logs"
	"github.com/reevehq/reeve/internal/policy"
	"github.com/reevehq/reeve/internal/reach"
)

// covered judges RV-07. Every way that something was used is held against the policy that its entries name: by partial evaluation, so that what
// the ledger does not say (model, path, size) counts as anything. Where that decides, single uses are replayed from what the decision looked at:
// the first and the last of their kind. A secret in a custodian that no statement names for it is wider than the custody statement.
func covered(ctx context.Context, f *facts, t *tally) error {
	t.of = "uses and stores"
	uses, err := f.uses(ctx)
	if err != nil {
		return err
	}
	dark, replayed := map[string]*Finding{}, 0
	for i := range uses {
		u := &uses[i]
		s := f.books.History.Of(u.Estate)
		verdict, why := reach.Depends, "the set that it was decided under is not in the store"
		if s != nil {
			p, err := f.policies(s)
			if err != nil {
				return err
			}
			verdict = reach.Alike(p, u.Workload, u.Credential, cedar.RecordMap{
				"gateway": cedar.String(u.Gateway), "level": cedar.Long(level(u.Level)), "proof": cedar.String(u.Proof)})
			if verdict != reach.Always {
				n := 0
				verdict, n, why = f.replay(u, p, verdict)
				replayed += n
			}
		}
		switch verdict {
		case reach.Always:
			t.pass(u.Unit, int(u.Count))
		case reach.Never:
			t.fail(Finding{Subject: "credential:" + u.Credential, Unit: u.Unit, Owner: f.policyOwner(u.Unit), Refs: refs(u),
				What: fmt.Sprintf("%d uses by %s at level %s through %s, which the policy then in force does not allow", u.Count, u.Workload, u.Level, u.Gateway)})
		case reach.Depends:
			d := dark[u.Unit+why]
			if d == nil {
				d = &Finding{Subject: "unit:" + u.Unit, Unit: u.Unit, Owner: f.policyOwner(u.Unit), What: why, Refs: refs(u)}
				dark[u.Unit+why] = d
			}
		}
	}
	for _, d := range dark {
		d.What = "uses cannot be replayed: " + d.What
		t.unknown(*d)
	}
	if t.note = "by partial evaluation"; replayed > 0 {
		t.note = fmt.Sprintf("%d replayed, the first and the last of uses that are alike: those between them count as these; the others by partial evaluation", replayed)
	}
	return f.stores(ctx, t)
}

// level is the number of a level's word.
func level(word string) int { return max(0, slices.Index([]string{"W0", "W1", "W2", "W3"}, word)) }

// replay looks at the first and the last of uses that are alike. Those under a break-glass need no permit.
func (f *facts) replay(u *index.Uses, p *policy.Policies, v reach.Verdict) (_ reach.Verdict, n int, why string) {
	i := slices.IndexFunc(f.books.Logs, func(l *logs.Log) bool { return l.ID == u.Log })
	if i < 0 {
		return v, 0, "the auditor's copy of the log is not here"
	}
	for _, r := range refs(u) {
		e, _, err := f.books.Logs[i].Entry(r.Seq)
		if err != nil {
			return v, n, "the auditor's copy of the log does not have the entry"
		}
		if e.Reason == "break_glass" && len(e.Policies) == 1 && strings.HasPrefix(e.Policies[0], "break-glass:") {
			continue // RV-22 judges those
		}
		if v == reach.Never {
			return v, n, ""
		}
		if f.opts.Payload == nil {
			return v, n, "what the decisions looked at lies with the custodian, sealed; run this where it can be read"
		}
		b, err := f.opts.Payload(u.Log, e)
		if err != nil {
			return v, n, "what the decisions looked at was erased, or is not with this copy"
		}
		r, err := request(e, b)
		if err != nil {
			return v, n, "what the decisions looked at is not readable: " + err.Error()
		}
		n++
		if !p.Decide(r).Allow {
			return reach.Never, n, ""
		}
	}
	return reach.Always, n, ""
}

// request is what a decision looked at: who, what and through which gateway by the entry, the rest by its payload (docs/formats/ledger.md).
func request(e *entry.Entry, payload []byte) (*policy.Request, error) {
	var in struct {
		Actors    []string          `json:"actors"`
		Asserted  map[string]string `json:"asserted"`
		Authority bool              `json:"authority_asserted"`
		Isolation string            `json:"isolation"`
		MaxTokens int64             `json:"max_tokens"`
		Method    string            `json:"method"`
		Model     string            `json:"model"`
		Stream    bool              `json:"stream"`
		Target    string            `json:"target"`
		Time      time.Time         `json:"time"`
	}
	if err := json.Unmarshal(payload, &in); err != nil {
		return nil, err
	}
	path, _, _ := strings.Cut(in.Target, "?")
	return &policy.Request{Workload: e.Workload, Level: level(e.Level), Proof: e.Proof, Actors: in.Actors, AuthorityAsserted: in.Authority, Credential: e.Credential,
		Gateway: e.Gateway, Method: in.Method, Path: path, Model: in.Model, MaxTokens: in.MaxTokens, Stream: in.Stream, Isolation: in.Isolation, Time: in.Time,
		Asserted: in.Asserted}, nil
}

// stores judges who holds secrets, and who may read them where they come from, against the custody statements.
func (f *facts) stores(ctx context.Context, t *tally) error {
	set, ok := f.statements(t)
	if !ok {
		return nil
	}
	versions, err := f.bound(ctx)
	if err != nil {
		return err
	}
	for i := range versions {
		v := &versions[i]
		custodian, err := f.process(ctx, v.Log)
		if err != nil {
			return err
		}
		if _, _, known := set.Credential(v.Credential); !known || !f.live(v) {
			continue // RV-01 has those of no credential
		}
		if set.Serves(custodian, v.Credential) {
			t.pass(f.home(v.Credential), 1)
			continue
		}
		t.fail(Finding{Subject: "credential:" + v.Credential, Unit: f.home(v.Credential), Owner: f.ownerOf(v.Credential), Refs: []Ref{{v.Log, v.StateSeq}},
			What: fmt.Sprintf("custodian %s holds version %s of its secret, and the custody statement does not name that custodian for it", custodian, v.Lease)})
	}
	for _, u := range set.Charter.Units {
		var blind []string
		for _, c := range set.Custody[u.ID].Credentials {
			if c.Source != "vault" {
				continue
			}
			finding := Finding{Subject: "credential:" + c.ID, Unit: u.ID, Owner: f.ownerOf(c.ID)}
			var newest *Store
			for i := range f.evidence.Stores {
				if s := &f.evidence.Stores[i]; s.Credential == c.ID && !s.Time.After(f.asOf) && (newest == nil || s.Time.After(newest.Time)) {
					newest = s
				}
			}
			if newest == nil || f.asOf.Sub(newest.Time) > fresh {
				blind = append(blind, c.ID)
				continue
			}
			wider := slices.DeleteFunc(slices.Clone(newest.Readers), func(r string) bool { return set.Serves(r, c.ID) })
			if len(wider) == 0 {
				t.pass(u.ID, 1)
				continue
			}
			finding.What = "its store lets " + strings.Join(wider, ", ") + " read it, and the custody statement does not"
			t.fail(finding)
		}
		if len(blind) > 0 {
			t.unknown(Finding{Subject: "unit:" + u.ID, Unit: u.ID, Owner: f.ownerOf(blind[0]),
				What: fmt.Sprintf("who may read %d credentials in their store was not looked at in 90 days: %s", len(blind), some(blind))})
		}
	}
	return nil
}

// authentication judges RV-21: no workload may prove itself by a key that lives on, and every issuer is trusted for one exact audience and subject.
func authentication(ctx context.Context, f *facts, t *tally) error {
	t.of = "workloads"
	set, ok := f.statements(t)
	if !ok {
		return nil
	}
	uses, err := f.uses(ctx)
	if err != nil {
		return err
	}
	static, at := map[string]int64{}, map[string][]Ref{}
	for i := range uses {
		if u := &uses[i]; u.Level == "W0" {
			static[u.Workload] += u.Count
			at[u.Workload] = refs(u)
		}
	}
	for _, w := range set.Charter.Workloads {
		var wrong []string
		for _, id := range w.Identities {
			switch {
			case id.Issuer == "reeve":
				wrong = append(wrong, "may prove itself by a static key")
			case strings.Contains(id.Subject, "*"):
				wrong = append(wrong, fmt.Sprintf("is anybody whom %s calls %s", id.Issuer, id.Subject))
			}
		}
		if n := static[w.ID]; n > 0 {
			wrong = append(wrong, fmt.Sprintf("has done so %d times", n))
		}
		if len(wrong) == 0 {
			t.pass(w.Unit, 1)
			continue
		}
		t.fail(Finding{Subject: "workload:" + w.ID, Unit: w.Unit, Owner: f.policyOwner(w.Unit), Refs: at[w.ID], What: "it " + strings.Join(slices.Compact(wrong), ", and ")})
	}
	return nil
}

// interactive judges RV-13. A person shows where a workload's identity is a person's: of the charter's people, of those whom an identity provider's
// signals speak of, or by an e-mail address. A key that anybody can type in shows nobody.
func interactive(ctx context.Context, f *facts, t *tally) error {
	t.of = "workloads that used something"
	set, ok := f.statements(t)
	if !ok {
		return nil
	}
	uses, err := f.uses(ctx)
	if err != nil {
		return err
	}
	people := map[string]string{}
	for _, p := range set.Charter.People {
		people[p.ID] = p.ID
	}
	for _, s := range set.Charter.Signals {
		for _, m := range s.Subjects {
			if m.Kind == "person" {
				people[m.Subject] = m.ID
			}
		}
	}
	type use struct {
		count, typed int64
		refs, typist []Ref
	}
	by := map[string]*use{}
	for i := range uses {
		u := &uses[i]
		if by[u.Workload] == nil {
			by[u.Workload] = new(use)
		}
		w := by[u.Workload]
		w.count, w.refs = w.count+u.Count, refs(u)
		if u.Level == "W0" {
			w.typed, w.typist = w.typed+u.Count, refs(u)
		}
	}
	for _, w := range set.Charter.Workloads {
		used := by[w.ID]
		if used == nil {
			continue
		}
		finding := Finding{Subject: "workload:" + w.ID, Unit: w.Unit, Owner: f.policyOwner(w.Unit), Refs: used.refs}
		for _, id := range w.Identities {
			who := people[id.Subject]
			if who == "" && strings.Contains(id.Subject, "@") {
				who = id.Subject
			}
			if who != "" {
				finding.What = fmt.Sprintf("%d uses as a workload that %s proves to be as the person %s", used.count, id.Issuer, who)
			}
		}
		switch {
		case finding.What != "":
			t.fail(finding)
		case used.typed > 0:
			finding.What, finding.Refs = fmt.Sprintf("%d uses with a key that anybody who has it can type in: whether a person did cannot be said", used.typed), used.typist
			t.unknown(finding)
		default:
			t.pass(w.Unit, 1)
		}
	}
	return nil
}

// spanAt is the span in force at a time, or nil.
func (f *facts) spanAt(t time.Time) *history.Span {
	s, _ := f.books.History.At(t) // the error is ErrBefore
	return s
}
