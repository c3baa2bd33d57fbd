package drill

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// Report is what a drill found.
type Report struct {
	Level      string     `json:"level"`       // isolation level of the estate that was attacked
	ReeveHits  int        `json:"reeve_hits"`  // downstream secrets, or doors to one, that an attacker got from reeve, and what went through or unentered that may not
	DoubleHits int        `json:"double_hits"` // the same from a gateway of one process with the keys in it
	Calls      int        `json:"calls"`       // made through each before the attack
	Replayed   int        `json:"replayed"`    // captured bearer proofs used again, within grants and ledgered
	Scenarios  []Scenario `json:"scenarios"`
	NotHeld    []string   `json:"not_held"` // what this level or this system does not defend
}

// Scenario is one line: an attack at one place.
type Scenario struct {
	ID     string `json:"id"`    // S1 … S5
	Place  string `json:"place"` // memory, environment, files …
	Reeve  int    `json:"reeve"` // hits
	Double int    `json:"double"`
	// NotHeld marks a place that this level does not defend: it is never reported as 0 hits.
	NotHeld bool   `json:"not_held,omitempty"`
	Detail  string `json:"detail"`
}

// add counts a scenario.
func (r *Report) add(s Scenario) {
	r.Scenarios = append(r.Scenarios, s)
	r.ReeveHits += s.Reeve
	r.DoubleHits += s.Double
}

// Held reports whether the drill passed: no hit in reeve, and the same attack did find something in the double.
func (r *Report) Held() bool { return r.ReeveHits == 0 && r.DoubleHits > 0 }

// WriteTable writes the report for people.
func (r *Report) WriteTable(w io.Writer) {
	fmt.Fprintf(w, "Isolation level: %s. %d calls went through each before the attack.\n\n", r.Level, r.Calls)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "SCENARIO\tPLACE\tREEVE\tDOUBLE\tDETAIL")
	for _, s := range r.Scenarios {
		reeve := fmt.Sprint(s.Reeve)
		if s.NotHeld {
			reeve = "NOT HELD"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%s\n", s.ID, s.Place, reeve, s.Double, s.Detail)
	}
	t.Flush()
	for _, n := range r.NotHeld {
		fmt.Fprintln(w, "NOT HELD:", n)
	}
	fmt.Fprintf(w, "\nreeve: %d hits. The double, a gateway of one process with the keys in it: %d hits.\n", r.ReeveHits, r.DoubleHits)
	switch {
	case r.ReeveHits > 0:
		fmt.Fprintln(w, "NOT HELD: an attacker got a downstream secret, or had something done that he may not. Read the lines above that are not 0.")
	case r.DoubleHits == 0:
		fmt.Fprintln(w, "UNDECIDED: the attack found nothing in the double either, so that it found nothing in reeve proves nothing.")
	default:
		fmt.Fprintln(w, "HELD: whoever takes the gateway takes no key.")
	}
}
