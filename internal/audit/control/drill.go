package control

import (
	"context"
	"fmt"
	"time"
)

// newest is the newest result of a scenario up to asOf that counts, and one that passed since and is in no ledger yet; nil for none.
func (f *facts) newest(scenario string) (best, waits *Drill) {
	for i := range f.evidence.Drills {
		d := &f.evidence.Drills[i]
		if d.Scenario != scenario || d.Time.After(f.asOf) {
			continue
		}
		to := &best
		if d.Passed && d.Found == 0 && !f.anchored(d.Record) {
			to = &waits
		}
		if *to == nil || d.Time.After((*to).Time) {
			*to = d
		}
	}
	if best != nil && waits != nil && waits.Time.Before(best.Time) {
		waits = nil
	}
	return best, waits
}

// stale reports whether a drill is too old to say anything of now.
func (f *facts) stale(d *Drill) bool { return f.asOf.Sub(d.Time) > fresh }

// played judges one scenario: wrong says what a result shows. None shows nothing, nor does an old one, unless it has to be fresh.
func (f *facts) played(t *tally, scenario string, fails bool, wrong func(*Drill) string) {
	finding := Finding{Subject: "drill:" + scenario, Owner: f.operator()}
	d, waits := f.newest(scenario)
	if waits != nil {
		finding.What = fmt.Sprintf("; %s was played on %s, and no ledger has that somebody signed for it: run reeve audit anchor", scenario, waits.Time.UTC().Format(time.DateOnly))
	}
	if d == nil {
		finding.What = fmt.Sprintf("no drill that counts has played %s; run reeve drill", scenario) + finding.What
		t.unknown(finding)
		return
	}
	finding.Refs = f.vouched(d.Record)
	switch what := wrong(d); {
	case what != "":
		finding.What = what + finding.What
		t.fail(finding)
	case f.stale(d) && fails:
		finding.What = fmt.Sprintf("it was played %d days ago; 90 are allowed", int(f.asOf.Sub(d.Time)/day)) + finding.What
		t.fail(finding)
	case f.stale(d):
		finding.What = fmt.Sprintf("%s was played %d days ago, which says nothing of today; run reeve drill", scenario, int(f.asOf.Sub(d.Time)/day)) + finding.What
		t.unknown(finding)
	default:
		t.pass("", 1)
	}
}

// drills judges by scenarios.
func (f *facts) drills(t *tally, scenarios []string, wrong func(*Drill) string) error {
	t.of = "scenarios of drills"
	for _, s := range scenarios {
		f.played(t, s, false, wrong)
	}
	return nil
}

// holdsNothing judges RV-05: what drills that look for secrets found.
func holdsNothing(_ context.Context, f *facts, t *tally) error {
	return f.drills(t, []string{"S1", "S4", "S5", "S6"}, func(d *Drill) string {
		if d.Found > 0 {
			return fmt.Sprintf("%s found %d secrets in an attacker's hands: %s", d.Scenario, d.Found, d.Detail)
		}
		return ""
	})
}

// verifiesItself judges RV-06: forged calls, and replayed proofs.
func verifiesItself(_ context.Context, f *facts, t *tally) error {
	return f.drills(t, []string{"S2", "S3"}, func(d *Drill) string {
		if d.Found > 0 || !d.Passed {
			return fmt.Sprintf("%s: %d forged or replayed calls succeeded: %s", d.Scenario, d.Found, d.Detail)
		}
		return ""
	})
}

// drilled judges RV-15: every scenario was played within 90 days, and the newest time passed. What happened in earnest meanwhile is no drill, and shows
// as much: an incident that was closed and not contained fails as one does.
func drilled(_ context.Context, f *facts, t *tally) error {
	t.of = "scenarios of drills and incidents"
	for n := 1; n <= 10; n++ {
		f.played(t, fmt.Sprintf("S%d", n), true, func(d *Drill) string {
			if d.Passed {
				return ""
			}
			return fmt.Sprintf("it did not pass on %s: %s", d.Time.UTC().Format(time.DateOnly), d.Detail)
		})
	}
	for _, i := range f.courses() {
		switch {
		case i.Closed.IsZero() || f.asOf.Sub(i.Closed) > fresh:
		case i.AsOf.IsZero():
			t.unknown(f.ofIncident(i, "it was closed, and nobody has signed for how it was contained: sign a report of it (reeve incident report)"))
		case i.Contained.IsZero():
			t.fail(f.ofIncident(i, "it was closed, and not every custodian was known to deny what it was about"))
		default:
			t.pass("", 1)
		}
	}
	return nil
}

// chainLimit is how long machine-speed chaining may go on, in seconds.
const chainLimit = 10

// chaining judges RV-17: a drill shows that it is stopped in time, and every workload has a signed limit that stops it.
func chaining(_ context.Context, f *facts, t *tally) error {
	err := f.drills(t, []string{"S9"}, func(d *Drill) string {
		switch {
		case !d.Passed || d.Seconds == 0:
			return "S9: chaining over many credentials was not stopped: " + d.Detail
		case d.Seconds > chainLimit:
			return fmt.Sprintf("S9: chaining over many credentials was stopped after %.1f s; %d are allowed", d.Seconds, chainLimit)
		}
		return ""
	})
	t.of = "workloads and scenarios of drills"
	set, ok := f.statements(t)
	if !ok || err != nil {
		return err
	}
	for _, w := range set.Charter.Workloads {
		limited := false
		for _, l := range set.Policies[w.Unit].Limits {
			limited = limited || (l.Workload == w.ID || l.Workload == "*") && l.CredentialsPerMinute > 0
		}
		if limited {
			t.pass(w.Unit, 1)
			continue
		}
		t.fail(f.ofWorkload(&w).saying("no signed limit bounds how many credentials it may use in a minute"))
	}
	return nil
}
