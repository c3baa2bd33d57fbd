package contain

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/index"
	"github.com/reevehq/reeve/internal/audit/logs"
	"github.com/reevehq/reeve/internal/dispatch"
	"github.com/reevehq/reeve/internal/statement"
)

// Look says what became of the plan so far, from the auditor's verified copies alone: nothing is signed and nothing sent. What no record closes yet
// is in Waiting.
func (p *Plan) Look(ctx context.Context, set *statement.Set, x index.Reader, all []*logs.Log, now time.Time) (*Outcome, error) {
	o := &Outcome{Plan: p, Records: []Record{}, Dead: []Death{}, Unproven: []Death{}, Waiting: []Waiting{}, Closed: []Closing{}}
	for i := range p.Steps {
		s := &p.Steps[i]
		if s.Record == "" {
			o.Waiting = append(o.Waiting, Waiting{Target: s.Target.String(), End: s.End, Needs: s.Needs(), Denied: p.covered(s), Command: "reeve contain " + p.Scope.String()})
			continue
		}
		r := Record{Target: s.Target.String(), End: s.End, By: s.By, Report: &dispatch.Report{Record: s.Record, Begun: s.Signed, Sent: []dispatch.Sent{}}}
		events, err := x.Events(ctx, index.Filter{From: s.Signed.Add(-time.Hour), Types: []entry.Type{entry.Revoke, entry.Freeze}})
		if err != nil {
			return nil, fmt.Errorf("when %s was closed: %w", s.Target, err)
		}
		for _, id := range custodians(set, s) {
			c := dispatch.Custodian{ID: id, Error: "its ledger has no entry of the record"}
			for _, l := range all {
				i := slices.IndexFunc(events, func(e index.Event) bool { return e.Log == l.ID && e.Record == s.Record })
				if l.Process != id || i < 0 || c.Known {
					continue
				}
				e := &events[i]
				c = dispatch.Custodian{ID: id, Known: true, At: time.Unix(0, e.Time).UTC(), Channel: e.Proof, Entry: string(e.Type), Log: e.Log, Seq: e.Seq, Level: "verified by the auditor"}
				c.MS = c.At.Sub(s.Signed).Milliseconds()
				if k := slices.IndexFunc(p.Credentials, func(k Credential) bool { return s.End && k.ID == s.Target.ID }); k >= 0 {
					end, err := follow(l, e, s)
					if err != nil {
						return nil, err
					}
					o.add(&p.Credentials[k], end, now)
				}
			}
			r.Custodians = append(r.Custodians, c)
		}
		o.Records = append(o.Records, r)
	}
	o.judge()
	return o, nil
}

// custodians are those whom a step concerns.
func custodians(set *statement.Set, s *Step) (ids []string) {
	for _, c := range set.Custody {
		for _, k := range c.Custodians {
			if !slices.Contains(ids, k.ID) && (s.Target.Kind != "credential" || set.Serves(k.ID, s.Target.ID)) {
				ids = append(ids, k.ID)
			}
		}
	}
	slices.Sort(ids)
	return ids
}

// follow reads what a custodian wrote of the secrets that the record ended.
func follow(l *logs.Log, from *index.Event, s *Step) (*dispatch.End, error) {
	end := &dispatch.End{Custodian: l.Process, Log: l.ID, Seq: from.Seq, Frozen: time.Unix(0, from.Time).UTC(), Versions: []dispatch.Ended{}}
	err := l.Raw(from.Seq, func(_ int64, raw []byte) error {
		e, err := entry.Parse(raw)
		if err == nil {
			end.Take(e, s.Target.ID, s.Record)
		}
		return err
	})
	return end, err
}
