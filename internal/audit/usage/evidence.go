package usage

import (
	"fmt"

	"github.com/reevehq/reeve/internal/audit/control"
)

// Evidence is what the controls are judged from: a reconciliation for each credential, which says why it could not be decided where it could not. A key
// that no credential is known by may be any credential's, so that nothing in the export is decided but what is out of band.
func (r *Result) Evidence() *control.Evidence {
	e := &control.Evidence{}
	why := ""
	switch {
	case len(r.Unmapped) > 0:
		why = fmt.Sprintf("%d keys in the export are of no credential that is known", len(r.Unmapped))
	case !r.Whole:
		why = "the export may not be whole"
	}
	for _, j := range r.Judged {
		c := control.Reconciliation{Credential: j.Credential, Source: r.Provider + "-" + string(j.Kind), From: r.From, To: r.To, Provider: j.Counted, Ledger: j.Ledger, Undecided: why}
		for _, s := range r.Strays {
			if s.Credential != j.Credential || s.Kind != j.Kind {
				continue
			}
			if s.Confidence == Certain {
				c.Strays += s.Difference
			} else {
				c.Undecided = "the provider saw uses at a time that the ledgers do not cover whole"
			}
		}
		if c.Strays > 0 {
			c.Undecided = ""
		}
		c.Detail = fmt.Sprintf("%d of what the ledgers have the provider did not count", j.Spare)
		e.Reconciliations = append(e.Reconciliations, c)
	}
	return e
}
