// Package detect finds what a person does not do by hand: credentials chained at machine speed, one proof shown to many services, bursts of
// refusals. It reads entries in their order and needs no index.
package detect

import (
	"slices"
	"time"
)

// Severity is how soon a person has to look.
type Severity string

// The severities.
const (
	High   Severity = "high"   // now
	Medium Severity = "medium" // today
)

// Rule is one pattern. A finding begins when more than Limit of what it counts lie within Window.
type Rule struct {
	ID       string        `json:"id"`
	What     string        `json:"what"`   // that is counted
	Limit    int64         `json:"limit"`  // that is still ordinary
	Window   time.Duration `json:"window"` // in nanoseconds; zero where one entry says it all
	Severity Severity      `json:"severity"`
	Why      string        `json:"why"` // the limit is what it is
}

// The rules' ids.
const (
	Chaining  = "chaining"
	FirstSeen = "first-seen"
	Proof     = "one-proof"
	Denials   = "denials"
	Fanout    = "fan-out"
	Depth     = "delegation"
	Bait      = "bait"
)

// Rules are the defaults.
func Rules() []Rule {
	return []Rule{
		{Chaining, "credentials that a workload used", 10, time.Minute, High, "an agent at work uses a handful of credentials a minute; who goes through what he found uses all of them"},
		{FirstSeen, "credentials that a workload used for the first time", 8, time.Hour, Medium, "a release or a new task adds a few credentials at once; more are a takeover until somebody says what they are"},
		{Proof, "services that one token was shown to", 6, 10 * time.Minute, Medium, "a token is one task's; a task that calls more services in ten minutes is rare and worth a look"},
		{Denials, "refusals of a workload", 30, time.Minute, High, "a broken configuration repeats one refusal slowly; trying doors is fast"},
		{Fanout, "places (origin, method and path) that a workload called", 60, 10 * time.Minute, Medium, "tools are called again and again; a crawl of an API calls each place once"},
		{Depth, "agents that act one for another in a token", 3, 0, Medium, "a person, his agent and a tool are three; each further link is one that nobody saw begin"},
		{Bait, "uses of a honey credential", 0, 0, High, "nobody has a reason to use it"},
	}
}

// learning is how long after a ledger's first entry first uses are only learned: everything is new in a new estate.
const learning = 7 * 24 * time.Hour

// quiet is how long nothing may cross a limit before a next crossing is another finding.
const quiet = 15 * time.Minute

func ruleOf(rules []Rule, id string) *Rule {
	if i := slices.IndexFunc(rules, func(r Rule) bool { return r.ID == id }); i >= 0 {
		return &rules[i]
	}
	return nil
}
