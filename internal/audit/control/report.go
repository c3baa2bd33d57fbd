package control

import (
	"context"
	"slices"
	"time"

	"github.com/reevehq/reeve/internal/audit/books"
)

// Report is the controls as they were judged.
type Report struct {
	Estate    string    `json:"estate,omitempty"`
	AsOf      time.Time `json:"as_of"`
	Unit      string    `json:"unit,omitempty"`
	Framework string    `json:"framework,omitempty"`
	Lock      string    `json:"lock,omitempty"` // hex hash of the set that was in force
	State     State     `json:"state"`          // the worst
	Results   []Result  `json:"results"`
	Groups    []Group   `json:"groups,omitempty"`    // of the framework
	Uncovered []string  `json:"uncovered,omitempty"` // ids of the framework that no control answers to: nothing is said of them
	Refused   []string  `json:"refused,omitempty"`   // evidence that does not count, a sentence each
	Waiting   []string  `json:"waiting,omitempty"`   // evidence that no ledger has yet, and that so shows nothing good: records
	Lacks     []string  `json:"lacks,omitempty"`     // what is not known of components, a sentence each
	Evidence  []string  `json:"evidence,omitempty"`  // records of the documents that were taken into account
}

// Group is one id of a framework with what answers to it.
type Group struct {
	ID       string   `json:"id"`
	Title    string   `json:"title"`
	State    State    `json:"state"` // the worst of its controls: what is not known is not satisfied
	Controls []string `json:"controls"`
}

// worse orders states, the worst first.
func worse(a, b State) State {
	for _, s := range []State{Fail, Unknown, Exempt} {
		if a == s || b == s {
			return s
		}
	}
	return Pass
}

// Make judges, and sums up by framework where one is named.
func Make(ctx context.Context, b *books.Books, o Options) (*Report, error) {
	if o.AsOf.IsZero() {
		o.AsOf = b.Now
	}
	f, err := newFacts(ctx, b, o)
	if err != nil {
		return nil, err
	}
	results, err := f.judge(ctx)
	if err != nil {
		return nil, err
	}
	r := &Report{AsOf: o.AsOf.UTC(), Unit: o.Unit, Framework: o.Framework, State: Pass, Results: results}
	if r.Lacks, err = b.Lacks(ctx, f.from, f.end()); err != nil {
		return nil, err
	}
	if span, err := b.History.At(o.AsOf); err == nil { // else ErrBefore, and the results say so
		r.Estate, r.Lock = span.Charter.Estate, span.Hash
	}
	states := map[string]State{}
	for _, x := range results {
		states[x.Control], r.State = x.State, worse(r.State, x.State)
	}
	if o.Evidence != nil {
		r.Evidence = o.Evidence.records()
		r.Waiting = slices.DeleteFunc(slices.Clone(r.Evidence), f.anchored)
	}
	if o.Framework == "" {
		return r, nil
	}
	c, err := Catalog()
	if err != nil {
		return nil, err
	}
	framework, _ := c.Framework(o.Framework)
	ids, by := c.IDs(o.Framework)
	r.Uncovered = c.Uncovered(o.Framework)
	for _, id := range ids {
		g := Group{ID: id, Title: framework.Titles[id], State: Pass, Controls: by[id]}
		for _, x := range by[id] {
			if s, judged := states[x]; judged {
				g.State = worse(g.State, s)
			} else {
				g.State = worse(g.State, Unknown)
			}
		}
		r.Groups = append(r.Groups, g)
	}
	return r, nil
}
