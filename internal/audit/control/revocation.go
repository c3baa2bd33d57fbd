package control

import (
	"context"
	"fmt"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/index"
)

// revoked is one revocation of a credential, and what became of a version of its secret.
type revoked struct {
	index.Event // the revocation as the first ledger has it
	version     *index.Version
	dead        time.Time // proven, or run out by itself; zero for not
	worked      []Ref     // probes that were answered
}

// apart is how long after a probe that was refused the next has to be, for both to prove that the secret is dead.
const apart = time.Minute

// answers are the outcomes of probes, by version, in the order of time.
type answers map[[3]string][]*index.Event // by log, credential and lease

func (f *facts) answers(ctx context.Context) (answers, error) {
	events, err := f.events(ctx, f.opts.Window, entry.Outcome)
	all := answers{}
	for i := range events {
		e := &events[i]
		at := [3]string{e.Log, e.Credential, e.Lease}
		all[at] = append(all[at], e)
	}
	return all, err
}

// proven is when a version was proven dead at its provider: its custodian says so, or two probes in a row after a time were refused and none was answered
// since. That its bytes were destroyed here proves nothing: whoever has a copy goes on. Zero for not.
func (a answers) proven(v *index.Version, after int64) (dead time.Time) {
	if v.State == "revoked-proven" {
		return time.Unix(0, v.Since)
	}
	var refused *index.Event
	for _, e := range a[[3]string{v.Log, v.Credential, v.Lease}] {
		switch {
		case e.Time <= after:
		case e.Reason != "refused":
			refused, dead = nil, time.Time{}
		case refused == nil:
			refused = e
		case dead.IsZero() && e.Time-refused.Time >= int64(apart):
			dead = time.Unix(0, e.Time)
		}
	}
	return dead
}

// worked is the last answer after a time that was none of a dead secret.
func (a answers) worked(v *index.Version, after int64) (refs []Ref) {
	for _, e := range a[[3]string{v.Log, v.Credential, v.Lease}] {
		if e.Time > after && (e.Reason == "works" || e.Reason == "unclear") {
			refs = []Ref{{e.Log, e.Seq}}
		}
	}
	return refs
}

// endings are the revocations of credentials up to asOf, as far back as the window goes, with each version that there was. One that was opened again
// while nothing had ended its versions is none.
func (f *facts) endings(ctx context.Context) (list []revoked, err error) {
	events, err := f.events(ctx, f.opts.Window, entry.Revoke, entry.Unfreeze)
	if err != nil {
		return nil, err
	}
	closed, opened := map[string][]*index.Event{}, map[string]int64{}
	for i := range events {
		switch e := &events[i]; {
		case e.Credential == "":
		case e.Type == entry.Unfreeze:
			opened[e.Credential] = e.Time
		default:
			closed[e.Credential] = append(closed[e.Credential], e)
		}
	}
	answers, err := f.answers(ctx)
	if err != nil {
		return nil, err
	}
	versions, err := f.bound(ctx)
	if err != nil {
		return nil, err
	}
	for i := range versions {
		v := &versions[i]
		for _, e := range closed[v.Credential] {
			dead := answers.proven(v, e.Time)
			if over := time.Unix(v.Expires, 0); v.Expires != 0 && !over.After(f.asOf) && (dead.IsZero() || over.Before(dead)) {
				dead = over
			}
			usable := v.State == "active" || v.State == "overlapping" || v.State == "pending"
			if v.Bound > e.Time || !dead.IsZero() && dead.UnixNano() < e.Time || usable && dead.IsZero() && opened[v.Credential] > e.Time {
				continue
			}
			list = append(list, revoked{Event: *e, version: v, dead: dead, worked: answers.worked(v, e.Time)})
			break // the first that concerns the version
		}
	}
	return list, nil
}

// revocations judges RV-14: what was revoked does not work, because its source said so twice or its time is over. What incidents left is not known until
// somebody has looked again.
func revocations(ctx context.Context, f *facts, t *tally) error {
	t.of = "revoked versions"
	if _, err := f.ledger(ctx, t); err != nil {
		return err
	}
	list, err := f.endings(ctx)
	if err != nil {
		return err
	}
	for _, r := range list {
		v := r.version
		finding := f.ofCredential(v.Credential).saying("", append([]Ref{{r.Log, r.Seq}, {v.Log, v.StateSeq}}, r.worked...)...)
		age := f.asOf.UnixNano() - r.Time
		switch {
		case !r.dead.IsZero():
			t.pass(finding.Unit, 1)
		case len(r.worked) > 0:
			finding.What = fmt.Sprintf("version %s was revoked, and a probe after that was not refused: it may still work at its provider", v.Lease)
			t.fail(finding)
		case v.State == "destroyed":
			finding.What = fmt.Sprintf("version %s was revoked and its bytes were destroyed here, and no probe had shown that it is dead at its provider: whoever has a copy may still use it; end it there by hand", v.Lease)
			t.fail(finding)
		case age > int64(settled):
			finding.What = fmt.Sprintf("version %s was revoked %s ago, and no probe has shown that it is dead at its provider (%s)", v.Lease, span(time.Duration(age)), v.State)
			t.fail(finding)
		default:
			finding.What = fmt.Sprintf("version %s was revoked and its proof is under way (%s)", v.Lease, v.State)
			t.unknown(finding)
		}
	}
	for _, i := range f.courses() {
		if n := i.Unproven; n > 0 && !i.Closed.IsZero() && f.asOf.Sub(i.Closed) <= f.opts.Window {
			t.unknown(f.ofIncident(i, fmt.Sprintf("%d secrets that were to end were not proven dead on %s, %d of them without an end of their own: see that they are, and sign a report of it (reeve incident report)",
				n, i.AsOf.UTC().Format(time.DateOnly), i.NoEnd)))
		}
	}
	if t.checked == 0 && len(t.findings) == 0 {
		t.unknown(Finding{Subject: "estate", Owner: f.operator(), What: fmt.Sprintf("nothing was revoked in %s, so nothing shows that it works; revoke a canary", span(f.opts.Window))})
	}
	return nil
}
