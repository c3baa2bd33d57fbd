package drill

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/audit/drills"
	"github.com/reevehq/reeve/internal/table"
	"github.com/reevehq/reeve/internal/terminal"
)

// Report is what a drill found.
type Report struct {
	Began      time.Time       `json:"began"`
	Ended      time.Time       `json:"ended"`
	Version    string          `json:"version"`     // of the programs
	Played     string          `json:"played"`      // own or running
	Level      string          `json:"level"`       // isolation level of the estate that was attacked
	ReeveHits  int             `json:"reeve_hits"`  // downstream secrets, or doors to one, that an attacker got from reeve, and what went through or unentered that may not
	DoubleHits int             `json:"double_hits"` // the same from a gateway of one process with the keys in it
	Calls      int             `json:"calls"`       // made through each before the attack
	Replayed   int             `json:"replayed"`    // captured bearer proofs used again, within grants and ledgered
	Scenarios  []Line          `json:"scenarios"`
	Results    []drills.Result `json:"results"`            // what the lines of each scenario come to
	NotHeld    []string        `json:"not_held"`           // what this level or this system does not defend
	NotDone    []string        `json:"not_done,omitempty"` // what this drill does not do, and why

	figures map[string]int64 // of the scenario that is played
}

// Line is an attack at one place.
type Line struct {
	ID     string `json:"id"`    // S1 … S10
	Place  string `json:"place"` // memory, environment, files …
	Reeve  int    `json:"reeve"` // hits
	Double int    `json:"double"`
	// NotHeld marks a place that this level does not defend: it is never reported as 0 hits.
	NotHeld bool   `json:"not_held,omitempty"`
	Detail  string `json:"detail"`
}

// add counts a scenario.
func (r *Report) add(s Line) {
	r.Scenarios = append(r.Scenarios, s)
	r.ReeveHits += s.Reeve
	r.DoubleHits += s.Double
}

// Held reports whether the drill passed: no hit in reeve, and every scenario decided.
func (r *Report) Held() bool {
	return len(r.Results) > 0 && !slices.ContainsFunc(r.Results, func(s drills.Result) bool { return !s.Passed() })
}

// Document is what is filed of it, with the estate that it is filed with.
func (r *Report) Document(estate string) *drills.Document {
	return &drills.Document{V: 1, Estate: estate, Played: r.Played, Began: r.Began, Ended: r.Ended, Version: r.Version, Level: r.Level,
		Results: r.Results, NotHeld: r.NotHeld, NotDone: r.NotDone}
}

// WriteTable writes the report for people.
func (r *Report) WriteTable(w io.Writer) {
	if r.Played == drills.Running {
		terminal.Printf(w, "Isolation level: %s. Played on the processes that run the estate.\n\n", r.Level)
	} else {
		terminal.Printf(w, "Isolation level: %s. %d calls went through each before the attack.\n\n", r.Level, r.Calls)
	}
	t := table.New(w)
	fmt.Fprintln(t, "SCENARIO\tPLACE\tREEVE\tDOUBLE\tDETAIL")
	for _, s := range r.Scenarios {
		reeve := fmt.Sprint(s.Reeve)
		if s.NotHeld {
			reeve = "NOT HELD"
		}
		terminal.Printf(t, "%s\t%s\t%s\t%d\t%s\n", s.ID, s.Place, reeve, s.Double, s.Detail)
	}
	t.Flush()
	for _, n := range r.NotHeld {
		terminal.Printf(w, "NOT HELD: %v\n", n)
	}
	for _, n := range r.NotDone {
		terminal.Printf(w, "NOT DONE: %v\n", n)
	}
	fmt.Fprintln(w)
	fmt.Fprintln(t, "SCENARIO\tSTATE\tTOOK\tWHAT")
	for _, s := range r.Results {
		state := s.State + map[bool]string{true: ", dry"}[s.Dry] + map[bool]string{true: ", in part"}[s.Part]
		terminal.Printf(t, "%s\t%s\t%s\t%s\n", s.Scenario, state, (time.Duration(s.TookMS) * time.Millisecond).Round(100*time.Millisecond), s.Title+Figures(s.Figures))
	}
	t.Flush()
	if r.Played == drills.Running {
		terminal.Printf(w, "\nreeve: %d hits.\n", r.ReeveHits)
	} else {
		terminal.Printf(w, "\nreeve: %d hits. The double, a gateway of one process with the keys in it: %d hits.\n", r.ReeveHits, r.DoubleHits)
	}
	switch {
	case r.ReeveHits > 0:
		fmt.Fprintln(w, "NOT HELD: an attacker got a downstream secret, or had something done that he may not. Read the lines above that are not 0.")
	case !r.Held():
		fmt.Fprintln(w, "UNDECIDED: an attack found nothing in the double either, so that it found nothing in reeve proves nothing.")
	case !slices.ContainsFunc(r.Results, func(s drills.Result) bool { return s.Scenario == "S1" }):
		fmt.Fprintln(w, "HELD: what was played.")
	default:
		fmt.Fprintln(w, "HELD: whoever takes the gateway takes no key.")
	}
}

// Figures writes what a scenario measured, for people.
func Figures(all map[string]int64) string {
	var words []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		word := strings.ReplaceAll(strings.TrimSuffix(strings.TrimSuffix(name, "_ms"), "_count"), "_", " ") + fmt.Sprintf(" %d", all[name])
		if strings.HasSuffix(name, "_ms") {
			word += " ms"
		}
		words = append(words, word)
	}
	if len(words) == 0 {
		return ""
	}
	return ": " + strings.Join(words, ", ")
}
