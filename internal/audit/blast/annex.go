package blast

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/books"
	"github.com/reevehq/reeve/internal/audit/control"
	"github.com/reevehq/reeve/internal/audit/history"
	"github.com/reevehq/reeve/internal/audit/keyring"
	"github.com/reevehq/reeve/internal/audit/register"
	"github.com/reevehq/reeve/verify"
)

// Another stands for every other business unit in an annex.
const Another = "another unit"

// Annex is what an answer says to one business unit, and nothing of the others: no id, no count, no name. A credential that is lent keeps its own
// id on both sides, because the policy of either names it.
type Annex struct {
	Unit   string  `json:"unit"`
	Of     string  `json:"of,omitempty"` // what it belongs to, such as an incident's report
	Answer *Answer `json:"answer"`
	Proofs []Proof `json:"proofs"`
}

// Proof is the proof of an entry that a row points to.
type Proof struct {
	control.Ref
	File   string         `json:"file"`
	Bundle *verify.Bundle `json:"-"`
}

// AnnexOf cuts an answer down to a business unit, with a proof of the first and the last entry of each row, which `reeve verify` takes. The error wraps
// ErrUnknown when the unit has nothing in the answer.
func AnnexOf(ctx context.Context, b *books.Books, a *Answer, unit string) (*Annex, error) {
	x := &Annex{Unit: unit, Proofs: []Proof{}, Answer: &Answer{
		Subject: a.Subject, From: a.From, To: a.To, AsOf: a.AsOf, Rows: []Row{}, Keys: []keyring.Key{}, Counts: map[Class]int{}, Units: []string{unit}, Logs: []Log{}, Tasks: []Task{}, Cannot: []string{}, Complete: true,
		Component: register.Component{ID: a.Component.ID, Kind: a.Component.Kind, Name: a.Component.Name, Owners: register.Owners{Operations: a.Component.Owners.Operations}},
	}}
	if subject := strings.SplitN(a.Subject, ":", 2); len(subject) == 2 && (subject[0] == string(Unit) && subject[1] != unit || subject[0] == string(Workload) || subject[0] == string(Tenant)) {
		x.Answer.Subject = subject[0] // its name is another's
	}
	spans := b.History.In(a.From, a.To)
	for _, k := range a.Keys { // the custodian's own say nothing of a unit
		if k.Unit == unit {
			x.Answer.Keys = append(x.Answer.Keys, k)
		}
	}
	for _, t := range a.Tasks {
		if t.Do != "contain" && slices.Contains(t.Units, unit) {
			x.Answer.Tasks = append(x.Answer.Tasks, x.task(t, a))
		}
	}
	lent := map[string]Class{} // of this unit's credentials, what others did
	for _, r := range a.Rows {
		switch {
		case r.Unit == unit && r.Owning != unit && len(r.Policies) == 0 && (r.Class == Excluded || r.Class == Reachable): // it tried what is not its business
		case r.Unit == unit:
			x.Answer.Rows = append(x.Answer.Rows, own(r, unit, spans))
		case r.Owning == unit:
			if was, ok := lent[r.Credential]; !ok || slices.Index(Classes, r.Class) < slices.Index(Classes, was) {
				lent[r.Credential] = r.Class
			}
		}
	}
	for _, r := range a.Rows {
		if class, is := lent[r.Credential]; is && r.Owning == unit && r.Unit != unit {
			delete(lent, r.Credential)
			x.Answer.Rows = append(x.Answer.Rows, ofAnother(r, class))
		}
	}
	if len(x.Answer.Rows) == 0 {
		return nil, fmt.Errorf("the unit %q is %w here: no row of the answer concerns it", unit, ErrUnknown)
	}
	x.sum(a)
	return x, x.prove(ctx, b)
}

// task is a person's task as far as it is the unit's.
func (x *Annex) task(t Task, a *Answer) Task {
	t.What, t.Units = slices.DeleteFunc(slices.Clone(t.What), func(what string) bool {
		return !slices.ContainsFunc(a.Rows, func(r Row) bool { return r.Credential == what && cmp.Or(r.Owning, r.Unit) == x.Unit }) &&
			!slices.ContainsFunc(x.Answer.Keys, func(k keyring.Key) bool { return what == rotated(&k) })
	}), []string{x.Unit}
	return t
}

// own is a row of the unit, without what is the owner's whose credential it is lent.
func own(r Row, unit string, spans []*history.Span) Row {
	if r.Owning == unit {
		return r
	}
	r.Owning = Another
	r.Policies = slices.DeleteFunc(slices.Clone(r.Policies), func(p string) bool { return !strings.HasPrefix(p, unit+"/") && !strings.HasPrefix(p, "*/") })
	of := Accountable{Policy: []string{}, Operations: r.Accountable.Operations, Approvers: []string{}}
	for i, s := range spans {
		if i == 0 {
			of.Policy = union(of.Policy, s.Charter.Roles.Units[unit].Policy)
		}
		if len(r.Accountable.Approvers) > 0 {
			of.Approvers = union(of.Approvers, approvers(s.Set, "policy-"+unit))
		}
	}
	r.Accountable = of
	return r
}

// ofAnother is a row of the unit's credential that others used or could use.
func ofAnother(r Row, class Class) Row {
	return Row{Credential: r.Credential, Unit: Another, Owning: r.Owning, Class: class, Classes: []Class{class}, Destination: r.Destination, State: r.State, Complete: r.Complete,
		Fingerprints: []string{}, Proofs: map[string]int64{}, Workloads: []string{}, Gateways: []string{}, Policies: []string{}, Custodians: []string{}, Refs: []control.Ref{},
		Live: r.Live, LiveUntil: r.LiveUntil, Accountable: Accountable{Policy: []string{}, Operations: []string{}, Lifecycle: r.Accountable.Lifecycle, Approvers: []string{}},
		Why: "It is lent: what another unit did with it is in that unit's annex."}
}

// sum counts the annex's own rows, and says what cannot be known of them.
func (x *Annex) sum(a *Answer) {
	y := x.Answer
	for _, c := range Classes {
		y.Counts[c] = 0
	}
	slices.SortStableFunc(y.Rows, func(a, b Row) int {
		return cmp.Or(cmp.Compare(slices.Index(Classes, a.Class), slices.Index(Classes, b.Class)), cmp.Compare(a.Credential, b.Credential), cmp.Compare(a.Unit, b.Unit))
	})
	var custodians []string
	var unknown int64
	counted := map[string]bool{}
	for _, r := range y.Rows {
		y.Counts[r.Class]++
		unknown += r.Unknown
		custodians = union(custodians, r.Custodians)
		if r.Live && r.Class != Reachable && r.Class != Excluded && !counted[r.Credential] {
			counted[r.Credential] = true
			if y.Residual.Credentials++; r.LiveUntil.IsZero() {
				y.Residual.Unbounded++
			} else {
				y.Residual.Seconds += int64(r.LiveUntil.Sub(y.AsOf).Seconds())
			}
		}
	}
	for _, k := range y.Keys {
		if k.Taken && k.Live {
			y.Residual.Keys++
		}
	}
	for _, l := range a.Logs {
		if slices.Contains(custodians, l.Process) {
			l.Size = 0 // of all units
			y.Logs, y.Complete = append(y.Logs, l), y.Complete && l.Complete
			if !l.Complete {
				y.Cannot = append(y.Cannot, fmt.Sprintf("Whether %s did more than its ledger says: %s.", l.Process, l.Why))
			}
		}
	}
	if unknown > 0 {
		y.Cannot = append(y.Cannot, unanswered(unknown))
	}
	y.Cannot = append(y.Cannot, "Uses that went round every custodian: the providers' own records alone show them (class OUT-OF-BAND).")
}

// errFound ends the search for an outcome.
var errFound = errors.New("found")

// outcomeWithin is how many entries after an intent its outcome is looked for.
const outcomeWithin = 100_000

// prove adds the proofs, as far as the auditor's copies have the entries.
func (x *Annex) prove(ctx context.Context, b *books.Books) error {
	for _, r := range x.Answer.Rows {
		for _, ref := range r.Refs {
			held := copyOf(b, ref.Log)
			if held == nil {
				continue
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			e, _, err := held.Entry(ref.Seq)
			if err != nil {
				return err
			}
			if e.Unit != x.Unit {
				return fmt.Errorf("entry %d of log %s is of another unit: it does not go into this annex", ref.Seq, ref.Log)
			}
			outcome := int64(-1)
			err = held.Raw(ref.Seq+1, func(seq int64, raw []byte) error {
				if seq > ref.Seq+outcomeWithin {
					return errFound
				}
				o, err := entry.Parse(raw)
				if err == nil && o.Type == entry.Outcome && o.HasIntent && o.IntentLog == "" && o.IntentSeq == ref.Seq {
					outcome, err = seq, errFound
				}
				return err
			})
			if err != nil && !errors.Is(err, errFound) {
				return err
			}
			p := Proof{Ref: ref, File: fmt.Sprintf("%s-%d.json", ref.Log, ref.Seq)}
			if p.Bundle, err = held.Proof(ref.Seq, outcome); err != nil {
				return err
			}
			x.Proofs = append(x.Proofs, p)
		}
	}
	return nil
}
