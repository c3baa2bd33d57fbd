// Package register lists every component that touches credentials, whose it is and what it can do: our own gateways and custodians from the signed
// statements, and others from records that people sign, each with the time that it holds for and the time that it was recorded. From that, and by
// the rules R1 to R6, it says who answers for what.
package register

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/audit/history"
)

// Reader answers what was known of components: valid at the first time, as recorded by the second (zero for now).
type Reader interface {
	At(valid, recorded time.Time) ([]Component, error)
	// Lacks is ErrMissing when the ledgers have evidence of records that are not there: what is answered may be less than was said. Answers come all
	// the same: nobody is to hold them up.
	Lacks() error
}

// Register implements Reader from the statements in time and a journal of records. It does not change.
type Register struct {
	history *history.History
	journal *Journal
}

// New makes a register. A nil journal has no records.
func New(h *history.History, j *Journal) *Register { return &Register{h, j} }

// Lacks implements Reader.
func (r *Register) Lacks() error {
	if r.journal == nil {
		return nil
	}
	return r.journal.lacks
}

// At implements Reader: components sorted by kind and id. A signed record about a component of this estate adds what was discovered and observed
// of it; whose it is and what it was declared to be are the statements'. The error is history.ErrBefore when the store does not reach back.
func (r *Register) At(valid, recorded time.Time) ([]Component, error) {
	known := valid
	if !recorded.IsZero() && recorded.Before(valid) {
		known = recorded // what was signed after that was not known yet
	}
	span, err := r.history.At(known)
	if err != nil {
		return nil, err
	}
	list := components(span, valid)
	for _, c := range r.journal.at(valid, recorded) {
		i := slices.IndexFunc(list, func(own Component) bool { return own.ID == c.ID })
		if i < 0 {
			c.Owners = c.Named.acting(&span.Charter, valid)
			list = append(list, c)
			continue
		}
		own := &list[i]
		own.Discovered, own.Observed, own.Probed, own.Verdict = c.Discovered, c.Observed, c.Probed, c.Verdict
		own.Recorded, own.Record, own.Anchored, own.Signers = c.Recorded, c.Record, c.Anchored, c.Signers
	}
	slices.SortFunc(list, func(a, b Component) int {
		return cmp.Or(cmp.Compare(slices.Index(Kinds, a.Kind), slices.Index(Kinds, b.Kind)), strings.Compare(a.ID, b.ID))
	})
	return list, nil
}
