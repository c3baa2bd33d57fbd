package incident

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/blast"
	"github.com/reevehq/reeve/internal/audit/contain"
	"github.com/reevehq/reeve/internal/audit/control"
	"github.com/reevehq/reeve/internal/audit/index"
	"github.com/reevehq/reeve/internal/audit/register"
)

// Measure is how an incident went so far: by its journal, and of its containment by the books. It is what people sign for, so that controls can be
// judged by it.
func Measure(ctx context.Context, in Input) (c control.Incident, err error) {
	if len(in.Journal.Steps) == 0 || in.Journal.Broken != "" {
		return c, bad("the journal of %s does not hold: %s", in.Journal.ID, in.Journal.Broken)
	}
	m := &maker{in: in, Report: &Report{Made: in.Books.Now.UTC(), Opened: in.Journal.Opened().Time.UTC()}}
	if _, err := m.outcomes(ctx); err != nil {
		return c, fmt.Errorf("measuring %s: %w", in.Journal.ID, err)
	}
	c = in.Journal.Course()
	c.AsOf, c.Begun, c.Contained = m.Made, m.Containment.Begun, m.Containment.Contained
	c.NoEnd, c.Residual = m.Residual.NoEnd, m.Residual.Seconds
	for _, o := range m.Containment.Outcomes {
		c.Dead, c.Unproven = c.Dead+len(o.Dead), c.Unproven+len(o.Unproven)
	}
	return c, nil
}

// outcomes looks up what became of everything that was contained for the incident. took is how many seconds each custodian took for each record.
func (m *maker) outcomes(ctx context.Context) (took []float64, err error) {
	c := &m.Containment
	c.Outcomes, c.Unanswered, c.Contain, c.Exposure = []*contain.Outcome{}, []string{}, -1, -1
	m.Contained = true
	for _, s := range m.scopes() {
		p, err := m.in.Plan(ctx, s)
		if err != nil {
			return nil, err
		}
		o, err := p.Look(ctx, m.in.Books.History.Newest().Set, m.in.Books.Index, m.in.Books.Logs, m.Made)
		if err != nil {
			return nil, err
		}
		c.Outcomes = append(c.Outcomes, o)
		m.Contained = m.Contained && o.Contained
		if len(o.Records) == 0 {
			c.Unanswered = append(c.Unanswered, s.String())
		}
		if len(o.Records)+len(o.Past) > 0 && (c.Begun.IsZero() || o.Begun.Before(c.Begun)) {
			c.Begun = o.Begun
		}
		if o.Denied.After(c.Contained) {
			c.Contained = o.Denied
		}
		m.Residual.Seconds, m.Residual.NoEnd = m.Residual.Seconds+o.Residual.Seconds, m.Residual.NoEnd+o.Residual.NoEnd
		m.Residual.Keys += o.Residual.Keys
		for _, r := range slices.Concat(o.Records, o.Past) {
			for _, k := range r.Custodians {
				if k.Known {
					took = append(took, max(k.At.Sub(r.Begun).Seconds(), 0))
				}
			}
		}
	}
	c.Held = together(c.Outcomes)
	if m.Contained = m.Contained && len(c.Outcomes) > 0; !m.Contained {
		if c.Contained = (time.Time{}); len(c.Held) > 0 {
			c.Contained = c.Held[0].From
		}
	}
	return took, nil
}

// together are the times that are over in which every scope was closed: each begins with the last one's closing and ends with the first one's opening.
func together(all []*contain.Outcome) (list []contain.Held) {
	list = []contain.Held{}
	for i, o := range all {
		held := slices.Clone(o.Held)
		if o.Contained {
			held = append(held, contain.Held{From: o.Denied}) // and goes on
		}
		if i == 0 {
			list = held
			continue
		}
		var both []contain.Held
		for _, x := range list {
			for _, y := range held {
				if x.Until.IsZero() || !y.Until.IsZero() && y.Until.Before(x.Until) {
					x, y = y, x // x ends first
				}
				if y.From.After(x.From) {
					x.From = y.From
				}
				if x.Until.IsZero() || x.From.Before(x.Until) {
					both = append(both, x)
				}
			}
		}
		list = both
	}
	return slices.DeleteFunc(list, func(h contain.Held) bool { return h.Until.IsZero() })
}

// containment says how everything that was contained for the incident was.
func (m *maker) containment(ctx context.Context) error {
	took, err := m.outcomes(ctx)
	if err != nil {
		return err
	}
	c := &m.Containment
	if !c.Contained.IsZero() {
		begun := m.Opened
		if !c.Begun.IsZero() && c.Begun.Before(begun) {
			begun = c.Begun
		}
		c.Contain = c.Contained.Sub(begun).Seconds()
		if !m.Misuse.First.IsZero() {
			c.Exposure = c.Contained.Sub(m.Misuse.First).Seconds()
		}
	}
	slices.Sort(took)
	if n := len(took); n > 0 {
		c.RevokeP50, c.RevokeP95, c.RevokeMax = took[(n-1)/2], took[(n*95+99)/100-1], took[n-1]
	}
	done := m.Made
	for i := range m.in.Journal.Steps {
		if m.in.Journal.Steps[i].Kind == KindReport {
			done = m.in.Journal.Steps[i].Time
			break
		}
	}
	c.Attribute = done.Sub(m.Opened).Seconds()
	return m.after(ctx)
}

// after counts uses through the subjects since they were contained, and how many uses resolve to one live owner.
func (m *maker) after(ctx context.Context) error {
	c, taken := &m.Containment, m.taken()
	sum := func(from, to time.Time, each func(*index.Uses)) error {
		uses, err := m.in.Books.Index.Uses(ctx, index.Filter{From: from, To: to, Types: []entry.Type{entry.Intent}},
			index.ByLog, index.ByTenant, index.ByUnit, index.ByWorkload, index.ByGateway, index.ByCredential, index.ByLevel)
		for i := range uses {
			if through, _ := taken(&uses[i]); through {
				each(&uses[i])
			}
		}
		return err
	}
	after := slices.Clone(c.Held)
	if m.Contained {
		after = append(after, contain.Held{From: c.Contained, Until: m.Made})
	}
	for _, h := range after {
		if err := sum(h.From, h.Until, func(u *index.Uses) { c.AfterUses += u.Count }); err != nil {
			return err
		}
	}
	var all, one int64
	err := sum(m.From, m.To, func(u *index.Uses) {
		all += u.Count
		if _, ok := m.span.Set.Owner(u.Credential, m.From); ok {
			one += u.Count
		}
	})
	if c.OneOwner = 1; all > 0 {
		c.OneOwner = float64(one) / float64(all)
	}
	for _, a := range m.Blast {
		c.OutOfBand += a.Counts[blast.OutOfBand]
	}
	return err
}

// scopes are what the steps say was contained, else the subjects that can be.
func (m *maker) scopes() (list []contain.Scope) {
	for i := range m.in.Journal.Steps {
		for _, s := range m.in.Journal.Steps[i].Contains {
			if !slices.Contains(list, s) {
				list = append(list, s)
			}
		}
	}
	if len(list) > 0 {
		return list
	}
	set := m.in.Books.History.Newest().Set
	for _, s := range m.in.Journal.Opened().Subjects {
		b := subject(s)
		scope := contain.Scope{Kind: string(b.Kind), ID: b.ID}
		if _, ok := set.Gateway(b.ID); ok && b.Kind == blast.Component {
			scope.Kind = contain.OfGateway
		}
		if b.Kind == blast.Component && slices.ContainsFunc(m.Blast, func(a *blast.Answer) bool { return a.Component.ID == b.ID && a.Component.Kind == register.Custodian }) {
			scope.Kind = contain.OfCustodian
		}
		if slices.Contains([]string{contain.OfGateway, contain.OfCustodian, contain.OfWorkload, contain.OfCredential, contain.OfUnit}, scope.Kind) {
			list = append(list, scope)
		}
	}
	return list
}
