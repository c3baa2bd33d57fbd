package drill

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/audit/drills"
)

// Scenario is one of the catalogue's.
type Scenario struct {
	ID    string `json:"id"`
	Title string `json:"title"`
	// Controlled means that each of its refusals follows a use that went through: it is decided without the double.
	Controlled bool `json:"controlled"`
}

// scripted is a scenario with what plays it.
type scripted struct {
	Scenario
	play func(*field, context.Context, *Report, *doubled) error
}

// script is every scenario, in the order in which they are played: S3 closes what those before it use, S8 kills the custodian, and S10 leaves
// every credential without an owner.
func script() []scripted {
	return []scripted{
		{Scenario{"S1", "code execution as the gateway", false}, (*field).s1},
		{Scenario{"S2", "forged calls to the custodian", false}, (*field).s2},
		{Scenario{"S4", "an upstream that reflects the credential, a source that is an attacker's", false}, (*field).s4},
		{Scenario{"S5", "theft of the gateway's and the authority's databases and keys", false}, (*field).s5},
		{Scenario{"S6", "a malicious dependency in the gateway", false}, (*field).s6},
		{Scenario{"S7", "a honey credential is used", false}, (*field).s7},
		{Scenario{"S9", "machine-speed chaining over many credentials", false}, (*field).s9},
		{Scenario{"S3", "replay of captured workload proofs", true}, (*field).s3},
		{Scenario{"S8", "ledger, custodian or authority down or partitioned", true}, (*field).s8},
		{Scenario{"S10", "an owner leaves", true}, (*field).s10},
	}
}

// Scenarios lists them, S1 first.
func Scenarios() []Scenario {
	var all []Scenario
	for _, s := range script() {
		all = append(all, s.Scenario)
	}
	slices.SortFunc(all, func(a, b Scenario) int { return number(a.ID) - number(b.ID) })
	return all
}

// choose picks the scenarios by id; none for all.
func choose(ids []string) ([]scripted, error) {
	all := script()
	if len(ids) == 0 {
		return all, nil
	}
	for _, id := range ids {
		if !slices.ContainsFunc(all, func(s scripted) bool { return s.ID == id }) {
			return nil, fmt.Errorf("there is no scenario %q: they are S1 to S%d", id, len(all))
		}
	}
	return slices.DeleteFunc(all, func(s scripted) bool { return !slices.Contains(ids, s.ID) }), nil
}

// Check reports an id that no scenario has.
func Check(ids []string) error {
	_, err := choose(ids)
	return err
}

// number is the 10 of S10.
func number(id string) int {
	n, err := strconv.Atoi(strings.TrimPrefix(id, "S"))
	if err != nil {
		return 0
	}
	return n
}

// end sums up a scenario's lines.
func (r *Report) end(s Scenario, took time.Duration) {
	res := drills.Result{Scenario: s.ID, Title: s.Title, State: drills.Held, TookMS: took.Milliseconds(), Figures: r.figures}
	r.figures = nil
	lines := 0
	var wrong []string
	for _, l := range r.Scenarios {
		if l.ID != s.ID {
			continue
		}
		lines++
		res.Found += l.Reeve
		res.Double += l.Double
		if l.Reeve > 0 {
			wrong = append(wrong, l.Place+": "+l.Detail)
		}
	}
	switch {
	case res.Found > 0:
		res.State, res.Detail = drills.NotHeld, strings.Join(wrong, "; ")
	case lines == 0 || res.Double == 0 && !s.Controlled:
		res.State, res.Detail = drills.Undecided, "the same attack found nothing in the double either"
	default:
		res.Detail = fmt.Sprintf("nothing found at %d places; the double: %d", lines, res.Double)
		if s.Controlled {
			res.Detail = fmt.Sprintf("nothing found at %d places, each after a use that went through", lines)
		}
	}
	r.Results = append(r.Results, res)
}

// measure notes a figure of the scenario that is played. Its name ends in its unit: _ms or _count.
func (r *Report) measure(name string, n int64) {
	if r.figures == nil {
		r.figures = map[string]int64{}
	}
	r.figures[name] = n
}

// sort puts lines and results into the catalogue's order.
func (r *Report) sort() {
	slices.SortStableFunc(r.Scenarios, func(a, b Line) int { return number(a.ID) - number(b.ID) })
	slices.SortStableFunc(r.Results, func(a, b drills.Result) int { return number(a.Scenario) - number(b.Scenario) })
}
