package usage

import (
	"fmt"

	"github.com/reevehq/reeve/internal/audit/control"
)

// Evidence is what the controls are judged from: a reconciliation for each credential that could be decided. What is undecided is left out, and so
// stays unknown.
func (r *Result) Evidence() *control.Evidence {
	e := &control.Evidence{}
	for _, j := range r.Judged {
		c := control.Reconciliation{Credential: j.Credential, Source: r.Provider + "-" + string(j.Kind), From: r.From, To: r.To, Provider: j.Counted, Ledger: j.Ledger}
		unsure := !r.Whole
		for _, s := range r.Strays {
			if s.Credential != j.Credential || s.Kind != j.Kind {
				continue
			}
			if s.Confidence == Certain {
				c.Strays += s.Difference
			} else {
				unsure = true
			}
		}
		if c.Strays == 0 && unsure {
			continue
		}
		c.Detail = fmt.Sprintf("%d of what the ledgers have the provider did not count", j.Spare)
		e.Reconciliations = append(e.Reconciliations, c)
	}
	return e
}
