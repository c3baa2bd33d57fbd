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
	dead        time.Time // proven, destroyed or run out by itself; zero for not
	worked      []Ref     // probes that were answered
}

// endings are the revocations of credentials up to asOf, as far back as the window goes, with each version that there was. One that was opened again
// while nothing had ended its versions is none.
func (f *facts) endings(ctx context.Context) (list []revoked, err error) {
	events, err := f.events(ctx, f.opts.Window, entry.Revoke, entry.Unfreeze, entry.Outcome)
	if err != nil {
		return nil, err
	}
	closed, opened, answered := map[string][]*index.Event{}, map[string]int64{}, map[string][]*index.Event{}
	for i := range events {
		e := &events[i]
		switch {
		case e.Credential == "":
		case e.Type == entry.Outcome:
			if e.Reason == "works" || e.Reason == "unclear" {
				answered[e.Log+e.Credential+e.Lease] = append(answered[e.Log+e.Credential+e.Lease], e)
			}
		case e.Type == entry.Unfreeze:
			opened[e.Credential] = e.Time
		default:
			closed[e.Credential] = append(closed[e.Credential], e)
		}
	}
	versions, err := f.bound(ctx)
	if err != nil {
		return nil, err
	}
	for i := range versions {
		v := &versions[i]
		dead := time.Time{}
		switch {
		case v.State == "revoked-proven" || v.State == "destroyed":
			dead = time.Unix(0, v.Since)
		case v.Expires != 0 && !time.Unix(v.Expires, 0).After(f.asOf):
			dead = time.Unix(v.Expires, 0)
		}
		for _, e := range closed[v.Credential] {
			usable := v.State == "active" || v.State == "overlapping" || v.State == "pending"
			if v.Bound > e.Time || !dead.IsZero() && dead.UnixNano() < e.Time || usable && dead.IsZero() && opened[v.Credential] > e.Time {
				continue
			}
			r := revoked{Event: *e, version: v, dead: dead}
			for _, w := range answered[v.Log+v.Credential+v.Lease] {
				if w.Time > e.Time {
					r.worked = []Ref{{w.Log, w.Seq}}
				}
			}
			list = append(list, r)
			break // the first that concerns the version
		}
	}
	return list, nil
}

// revocations judges RV-14: what was revoked does not work, because its source said so twice or its time is over.
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
		finding := Finding{Subject: "credential:" + v.Credential, Unit: f.home(v.Credential), Owner: f.ownerOf(v.Credential), Refs: append([]Ref{{r.Log, r.Seq}, {v.Log, v.StateSeq}}, r.worked...)}
		age := f.asOf.UnixNano() - r.Time
		switch {
		case !r.dead.IsZero():
			t.pass(finding.Unit, 1)
		case len(r.worked) > 0:
			finding.What = fmt.Sprintf("version %s was revoked, and a probe after that was not refused: it may still work at its provider", v.Lease)
			t.fail(finding)
		case age > int64(settled):
			finding.What = fmt.Sprintf("version %s was revoked %s ago, and no probe has shown that it is dead at its provider (%s)", v.Lease, span(time.Duration(age)), v.State)
			t.fail(finding)
		default:
			finding.What = fmt.Sprintf("version %s was revoked and its proof is under way (%s)", v.Lease, v.State)
			t.unknown(finding)
		}
	}
	if t.checked == 0 && len(t.findings) == 0 {
		t.unknown(Finding{Subject: "estate", Owner: f.operator(), What: fmt.Sprintf("nothing was revoked in %s, so nothing shows that it works; revoke a canary", span(f.opts.Window))})
	}
	return nil
}
