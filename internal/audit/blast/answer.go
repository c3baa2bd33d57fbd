package blast

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/reevehq/reeve/internal/audit/control"
	"github.com/reevehq/reeve/internal/audit/keyring"
)

// answer makes the answer of the drafts.
func (r *radius) answer() *Answer {
	a := &Answer{Subject: r.subject.String(), Component: r.component.Component, From: r.from, To: r.to, AsOf: r.asOf, Rows: []Row{}, Keys: append([]keyring.Key{}, r.power.keys...), Counts: map[Class]int{}, Units: []string{}, Logs: []Log{}, Complete: true}
	if r.subject.Kind == Component {
		a.Subject = string(r.component.Kind) + ":" + r.component.ID
	}
	for _, c := range Classes {
		a.Counts[c] = 0
	}
	exposed := map[string]bool{}
	for _, d := range r.rows {
		r.account(d)
		r.classify(d)
		r.live(d)
		for log, s := range d.seqs {
			d.Refs = append(d.Refs, control.Ref{Log: log, Seq: s[0]})
			if s[1] != s[0] {
				d.Refs = append(d.Refs, control.Ref{Log: log, Seq: s[1]})
			}
		}
		slices.SortFunc(d.Refs, func(a, b control.Ref) int { return cmp.Or(cmp.Compare(a.Log, b.Log), cmp.Compare(a.Seq, b.Seq)) })
		d.Custodians = slices.Sorted(maps.Keys(d.keepers))
		for _, list := range []*[]string{&d.Custodians, &d.Fingerprints, &d.Workloads, &d.Gateways, &d.Policies, &d.Accountable.Policy, &d.Accountable.Operations, &d.Accountable.Approvers} {
			if *list == nil {
				*list = []string{}
			}
		}
		if d.Refs == nil {
			d.Refs = []control.Ref{}
		}
		a.Counts[d.Class]++
		if d.Class != Excluded {
			a.Units = insert(a.Units, d.Unit)
		}
		if d.Live && d.Class != Reachable && d.Class != Excluded && !exposed[d.Credential] {
			exposed[d.Credential] = true
			r.remain(d, &a.Residual)
		}
		a.Rows = append(a.Rows, d.Row)
	}
	for _, k := range a.Keys {
		if k.Taken && k.Live {
			a.Residual.Keys++
		}
	}
	slices.SortFunc(a.Rows, func(x, y Row) int {
		return cmp.Or(cmp.Compare(slices.Index(Classes, x.Class), slices.Index(Classes, y.Class)), cmp.Compare(x.Credential, y.Credential), cmp.Compare(x.Unit, y.Unit))
	})
	r.judge(a)
	r.tasked(a, r.now)
	return a
}

// judge says how complete the ledgers are, and what cannot be known.
func (r *radius) judge(a *Answer) {
	var unknown int64
	for _, d := range r.rows {
		unknown += d.Unknown
	}
	tail := r.to
	for _, p := range slices.Sorted(maps.Keys(r.ledgers.found)) {
		l := r.ledgers.found[p]
		a.Logs, a.Complete = append(a.Logs, l), a.Complete && l.Complete
		switch {
		case !l.Complete:
			r.cannot = append(r.cannot, fmt.Sprintf("Whether %s did more than its ledger says: %s.", p, l.Why))
		case l.Cosigned.Before(tail):
			tail = l.Cosigned
		}
	}
	if tail.Before(r.to) {
		r.cannot = append(r.cannot, fmt.Sprintf("What happened after %s, %s before the window's end: the newest entries that the auditor has verified and cosigned are of then.",
			tail.Format("2006-01-02T15:04:05.000Z"), r.to.Sub(tail).Round(time.Millisecond)))
	}
	if unknown > 0 {
		r.cannot = append(r.cannot, unanswered(unknown))
	}
	a.Cannot = append(append([]string{}, r.cannot...), r.power.cannot...)
	a.Cannot = append(a.Cannot, "Uses that went round every custodian: the providers' own records alone show them (class OUT-OF-BAND).")
}

// unanswered says that uses have no outcome.
func unanswered(n int64) string {
	return fmt.Sprintf("What became of %s without an outcome: it has an intent, and counts as used.", plural(int(n), "use"))
}
