package contain

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/closings"
	"github.com/reevehq/reeve/internal/audit/index"
	"github.com/reevehq/reeve/internal/audit/logs"
	"github.com/reevehq/reeve/internal/dispatch"
	"github.com/reevehq/reeve/internal/statement"
)

// Look says what became of the plan so far, from the auditor's verified copies alone: nothing is signed and nothing sent. What no record closes yet
// is in Waiting. A custodian denies what its ledger says that it closed last, whoever asked for that, and does not deny what it opened since.
func (p *Plan) Look(ctx context.Context, set *statement.Set, x index.Reader, all []*logs.Log, now time.Time) (*Outcome, error) {
	o := &Outcome{Plan: p, Records: []Record{}, Past: []Record{}, Dead: []Death{}, Unproven: []Death{}, Waiting: []Waiting{}, Closed: []Closing{}}
	process := map[string]string{}
	for _, l := range all {
		process[l.ID] = l.Process
	}
	denied, err := closings.Read(ctx, x, process, now.Add(1))
	if err != nil {
		return nil, err
	}
	for i := range p.Steps {
		s := &p.Steps[i]
		ids := custodians(set, s)
		if s.Record == "" {
			o.Waiting = append(o.Waiting, Waiting{Target: s.Target.String(), End: s.End, Needs: s.Needs(), Denied: p.covered(s) || o.local(s, ids, denied, now), Command: "reeve contain " + p.Scope.String()})
			if s.Was != nil {
				if err := o.past(ctx, x, all, s, ids, now); err != nil {
					return nil, err
				}
			}
			continue
		}
		r := Record{Target: s.Target.String(), End: s.End, By: s.By, Report: &dispatch.Report{Record: s.Record, Begun: s.Signed, Sent: []dispatch.Sent{}}}
		events, err := closed(ctx, x, s, s.Signed, now)
		if err != nil {
			return nil, err
		}
		for _, id := range ids {
			c, err := o.custodian(s, id, all, events, denied, now)
			if err != nil {
				return nil, err
			}
			r.Custodians = append(r.Custodians, c)
		}
		o.Records = append(o.Records, r)
	}
	o.judge()
	return o, o.glass(ctx, x, now)
}

// closed are the custodians' entries of closings since a record was signed.
func closed(ctx context.Context, x index.Reader, s *Step, signed, now time.Time) ([]index.Event, error) {
	events, err := x.Events(ctx, index.Filter{From: signed.Add(-time.Hour), To: now.Add(1), Types: []entry.Type{entry.Revoke, entry.Freeze}})
	if err != nil {
		return nil, fmt.Errorf("when %s was closed: %w", s.Target, err)
	}
	return events, nil
}

// past says what became of a record that closed a target until another opened it, and of the secrets that it ended: they do not live again.
func (o *Outcome) past(ctx context.Context, x index.Reader, all []*logs.Log, s *Step, ids []string, now time.Time) error {
	events, err := closed(ctx, x, s, s.Was.Signed, now)
	if err != nil {
		return err
	}
	r := Record{Target: s.Target.String(), End: s.End, By: s.Was.By, Report: &dispatch.Report{Record: s.Was.Record, Begun: s.Was.Signed, Sent: []dispatch.Sent{}}}
	for _, id := range ids {
		c, err := o.heard(s, s.Was.Record, id, all, events, now)
		if err != nil {
			return err
		}
		c.MS = max(c.At.Sub(s.Was.Signed), 0).Milliseconds()
		r.Custodians = append(r.Custodians, c)
	}
	o.Past = append(o.Past, r)
	return nil
}

// glass warns of break-glasses since the containment began. None opens what is closed; a recovery hands a secret to a person.
func (o *Outcome) glass(ctx context.Context, x index.Reader, now time.Time) error {
	if o.Begun.IsZero() {
		return nil
	}
	events, err := x.Events(ctx, index.Filter{From: o.Begun, To: now.Add(1), Types: []entry.Type{entry.BreakGlass}})
	if err != nil {
		return fmt.Errorf("break-glasses since: %w", err)
	}
	for _, e := range events {
		if !slices.ContainsFunc(o.Credentials, func(c Credential) bool { return c.ID == e.Credential }) {
			continue
		}
		at, by := time.Unix(0, e.Time).UTC().Format(time.RFC3339), strings.Join(e.Actor, " and ")
		switch {
		case strings.HasPrefix(e.Reason, "recover"):
			o.Warnings = append(o.Warnings, fmt.Sprintf("the secret of %s left its custodian at %s: %s signed its recovery (entry %d of log %s); end it at its provider", e.Credential, at, by, e.Seq, e.Log))
		case strings.HasPrefix(e.Reason, "open"):
			o.Warnings = append(o.Warnings, fmt.Sprintf("%s opened a break-glass of %s for %s at %s (entry %d of log %s): it opens nothing that is closed, and what else reaches that credential", by, e.Credential, e.Workload, at, e.Seq, e.Log))
		}
	}
	return nil
}

// local reports whether every custodian keeps a target closed that no record of the plan closes, and notes where.
func (o *Outcome) local(s *Step, ids []string, denied *closings.Closings, now time.Time) bool {
	var found []Closing
	for _, id := range ids {
		in := denied.All(id, s.Target, now, now)
		if in == nil {
			return false
		}
		found = append(found, Closing{Target: s.Target.String(), Custodian: id, At: in.At, Channel: "by " + in.By, Entry: in.Entry, Level: verified})
	}
	o.Closed = append(o.Closed, found...)
	return len(ids) > 0
}

// verified is the level of what the auditor's copies say.
const verified = "verified by the auditor"

// custodian says whether one denies what the step closes, and what it ended by that.
func (o *Outcome) custodian(s *Step, id string, all []*logs.Log, events []index.Event, denied *closings.Closings, now time.Time) (c dispatch.Custodian, err error) {
	in := denied.All(id, s.Target, now, now)
	if c, err = o.heard(s, s.Record, id, all, events, now); err != nil {
		return c, err
	}
	switch opened := denied.Opened(id, s.Target, now); {
	case opened != nil && in == nil:
		c.Known, c.Error = false, fmt.Sprintf("%s opened it again at %s: entry %d of log %s", opened.By, opened.At.Format(time.RFC3339), opened.Entry.Seq, opened.Entry.Log)
	case !c.Known && in != nil: // the record has not come, and it is closed all the same
		c = dispatch.Custodian{ID: id, Known: true, At: in.At, Channel: "by " + in.By, Entry: string(entry.Freeze), Log: in.Entry.Log, Seq: in.Entry.Seq, Level: verified}
		if s.End {
			o.Unproven = append(o.Unproven, Death{Credential: s.Target.ID, Custodian: id, Frozen: in.At, NoEnd: true, Entry: in.Entry,
				Why: "it is frozen there, and its ledger has no entry of the record that ends it"})
			o.Residual.NoEnd++
		}
	}
	c.MS = max(c.At.Sub(s.Signed), 0).Milliseconds()
	return c, nil
}

// heard says when a custodian entered a record, and adds what it ended by it.
func (o *Outcome) heard(s *Step, record, id string, all []*logs.Log, events []index.Event, now time.Time) (c dispatch.Custodian, err error) {
	c = dispatch.Custodian{ID: id, Error: "its ledger has no entry of the record"}
	for _, l := range all {
		i := slices.IndexFunc(events, func(e index.Event) bool { return e.Log == l.ID && e.Record == record })
		if l.Process != id || i < 0 || c.Known {
			continue
		}
		e := &events[i]
		c = dispatch.Custodian{ID: id, Known: true, At: time.Unix(0, e.Time).UTC(), Channel: e.Proof, Entry: string(e.Type), Log: e.Log, Seq: e.Seq, Level: verified}
		if k := slices.IndexFunc(o.Credentials, func(k Credential) bool { return s.End && k.ID == s.Target.ID }); k >= 0 {
			end, err := follow(l, e, s.Target.ID, record)
			if err != nil {
				return c, err
			}
			o.add(&o.Credentials[k], end, now)
		}
	}
	return c, nil
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
func follow(l *logs.Log, from *index.Event, credential, record string) (*dispatch.End, error) {
	end := &dispatch.End{Custodian: l.Process, Log: l.ID, Seq: from.Seq, Frozen: time.Unix(0, from.Time).UTC(), Versions: []dispatch.Ended{}}
	err := l.Raw(from.Seq, func(_ int64, raw []byte) error {
		e, err := entry.Parse(raw)
		if err == nil {
			end.Take(e, credential, record)
		}
		return err
	})
	return end, err
}
