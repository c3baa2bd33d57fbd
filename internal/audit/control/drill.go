package control

import (
	"context"
	"fmt"
)

// newest is the newest result of a scenario up to asOf, or nil.
func (f *facts) newest(scenario string) (best *Drill) {
	for i := range f.evidence.Drills {
		d := &f.evidence.Drills[i]
		if d.Scenario == scenario && !d.Time.After(f.asOf) && (best == nil || d.Time.After(best.Time)) {
			best = d
		}
	}
	return best
}

// stale reports whether a drill is too old to say anything of now.
func (f *facts) stale(d *Drill) bool { return f.asOf.Sub(d.Time) > fresh }

// drills judges by scenarios: none of them, or an old one, shows nothing.
func (f *facts) drills(ctx context.Context, t *tally, scenarios []string, wrong func(*Drill) string) (err error) {
	t.of = "scenarios of drills"
	for _, s := range scenarios {
		finding := Finding{Subject: "drill:" + s, Owner: f.operator()}
		d := f.newest(s)
		if d != nil {
			if finding.Refs, err = f.vouched(ctx, d.Record); err != nil {
				return err
			}
		}
		switch {
		case d == nil:
			finding.What = fmt.Sprintf("no drill has played %s; run reeve drill", s)
			t.unknown(finding)
		case f.stale(d):
			finding.What = fmt.Sprintf("%s was played %d days ago, which says nothing of today; run reeve drill", s, int(f.asOf.Sub(d.Time)/day))
			t.unknown(finding)
		default:
			if finding.What = wrong(d); finding.What != "" {
				t.fail(finding)
			} else {
				t.pass("", 1)
			}
		}
	}
	return nil
}

// holdsNothing judges RV-05: what drills that look for secrets found.
func holdsNothing(ctx context.Context, f *facts, t *tally) error {
	return f.drills(ctx, t, []string{"S1", "S4", "S5", "S6"}, func(d *Drill) string {
		if d.Found > 0 {
			return fmt.Sprintf("%s found %d secrets in an attacker's hands: %s", d.Scenario, d.Found, d.Detail)
		}
		return ""
	})
}

// verifiesItself judges RV-06: forged calls, and replayed proofs.
func verifiesItself(ctx context.Context, f *facts, t *tally) error {
	return f.drills(ctx, t, []string{"S2", "S3"}, func(d *Drill) string {
		if d.Found > 0 || !d.Passed {
			return fmt.Sprintf("%s: %d forged or replayed calls succeeded: %s", d.Scenario, d.Found, d.Detail)
		}
		return ""
	})
}

// drilled judges RV-15: every scenario was played within 90 days, and the newest time passed.
func drilled(ctx context.Context, f *facts, t *tally) (err error) {
	t.of = "scenarios of drills"
	for n := 1; n <= 10; n++ {
		s := fmt.Sprintf("S%d", n)
		finding := Finding{Subject: "drill:" + s, Owner: f.operator()}
		d := f.newest(s)
		if d != nil {
			if finding.Refs, err = f.vouched(ctx, d.Record); err != nil {
				return err
			}
		}
		switch {
		case d == nil:
			finding.What = "no drill has played it; run reeve drill"
			t.unknown(finding)
			continue
		case !d.Passed:
			finding.What = fmt.Sprintf("it did not pass on %s: %s", d.Time.UTC().Format("2006-01-02"), d.Detail)
		case f.stale(d):
			finding.What = fmt.Sprintf("it was played %d days ago; 90 are allowed", int(f.asOf.Sub(d.Time)/day))
		default:
			t.pass("", 1)
			continue
		}
		t.fail(finding)
	}
	return nil
}

// chainLimit is how long machine-speed chaining may go on, in seconds.
const chainLimit = 10

// chaining judges RV-17: a drill shows that it is stopped in time, and every workload has a signed limit that stops it.
func chaining(ctx context.Context, f *facts, t *tally) error {
	err := f.drills(ctx, t, []string{"S9"}, func(d *Drill) string {
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
		t.fail(Finding{Subject: "workload:" + w.ID, Unit: w.Unit, Owner: f.policyOwner(w.Unit), What: "no signed limit bounds how many credentials it may use in a minute"})
	}
	return nil
}
