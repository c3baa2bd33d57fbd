package incident

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/audit/blast"
	"github.com/reevehq/reeve/internal/audit/books"
	"github.com/reevehq/reeve/internal/audit/contain"
	"github.com/reevehq/reeve/internal/audit/control"
	"github.com/reevehq/reeve/internal/audit/history"
)

// Input is what a report is made from.
type Input struct {
	Books    *books.Books
	Journal  *Journal
	Anchors  map[string]*Anchor
	Findings []string // why the journal does not hold
	Remarks  []string
	Blast    blast.Options
	Controls control.Options // AsOf is set by the report
	// Plan makes a plan of what a scope's containment is.
	Plan func(context.Context, contain.Scope) (*contain.Plan, error)
}

// maker is a report being made.
type maker struct {
	in Input
	*Report
	span    *history.Span // in force at the begin of the window
	process map[string]string
	people  map[string]bool
}

// Make makes the report of an incident whose journal has its opening.
func Make(ctx context.Context, in Input) (*Report, error) {
	if len(in.Journal.Steps) == 0 {
		return nil, bad("the journal of %s has no opening that holds: %s", in.Journal.ID, in.Journal.Broken)
	}
	open := in.Journal.Opened()
	m := &maker{in: in, process: map[string]string{}, people: map[string]bool{}, Report: &Report{
		Incident: in.Journal.ID, Estate: open.Estate, Made: in.Books.Now.UTC(), State: "open", From: open.From.UTC(), To: open.To.UTC(), Why: open.Text,
		Opened: open.Time.UTC(), Findings: slices.Clip(append([]string{}, in.Findings...)), Remarks: append([]string{}, in.Remarks...),
		Counts: map[blast.Class]int{}, Accountable: []Duty{}, Credentials: []Credential{}, Units: []Unit{}, Unproven: []string{}, Controls: []Control{}, Complete: true}}
	if m.To.IsZero() || m.To.After(m.Made) {
		m.To = m.Made
	}
	if c := in.Journal.Closed(); c != nil {
		m.State, m.Closed, m.Outcome = "closed", c.Time.UTC(), c.Text
	}
	m.setting()
	for _, step := range []func(context.Context) error{m.radius, m.misuse, m.brackets, m.containment, m.timeline, m.controls} {
		if err := step(ctx); err != nil {
			return nil, fmt.Errorf("making the report of %s: %w", m.Incident, err)
		}
	}
	m.account()
	m.credentials()
	m.units()
	m.unproven()
	m.answer()
	m.name()
	return m.Report, nil
}

// setting finds what was in force.
func (m *maker) setting() {
	span, err := m.in.Books.History.At(m.From)
	if errors.Is(err, history.ErrBefore) {
		if all := m.in.Books.History.In(m.From, m.To); len(all) > 0 {
			span = all[0]
			m.Remarks = append(m.Remarks, "the signed store begins at "+span.From.UTC().Format(time.RFC3339)+", within the window: who answered before that is not known here")
		} else {
			span = m.in.Books.History.Newest()
		}
	}
	m.span = span
	for _, l := range m.in.Books.Logs {
		m.process[l.ID] = l.Process
	}
	open := m.in.Journal.Opened()
	m.Commander = m.person(open.Commander)
	for i := range m.in.Journal.Steps {
		s := &m.in.Journal.Steps[i]
		for _, id := range s.Signers {
			m.Acknowledged = append(m.Acknowledged, Ack{Person: m.person(id), Step: s.Number, Kind: s.Kind, Time: s.Time.UTC()})
		}
	}
}

func (m *maker) person(id string) Person {
	m.people[id] = true
	p := Person{ID: id}
	if x, ok := m.span.Set.Person(id); ok {
		p.Name = x.Name
	}
	return p
}

// subject reads what a step names: gateway:g1, credential:x. What is no kind of question is a component.
func subject(s string) blast.Subject {
	kind, id, ok := strings.Cut(s, ":")
	if !ok {
		kind, id = string(blast.Component), s
	}
	switch k := blast.Kind(kind); k {
	case blast.Credential, blast.Workload, blast.Person, blast.Tenant, blast.Unit:
		return blast.Subject{Kind: k, ID: id}
	}
	return blast.Subject{Kind: blast.Component, ID: id}
}

// Known is nil when something has each of the names that an opening is about. Else the error wraps blast.ErrUnknown.
func (s *Step) Known(ctx context.Context, b *books.Books) error {
	to := s.To
	if to.IsZero() {
		to = b.Now
	}
	for _, of := range s.Subjects {
		if err := blast.Known(ctx, b, subject(of), s.From, to); err != nil {
			return err
		}
	}
	return nil
}

// radius asks for the blast radius of each subject.
func (m *maker) radius(ctx context.Context) error {
	for _, s := range m.in.Journal.Opened().Subjects {
		a, err := blast.Radius(ctx, m.in.Books, subject(s), m.From, m.To, m.in.Blast)
		if err != nil {
			return err
		}
		m.Blast = append(m.Blast, a)
		one := Subject{ID: s, Kind: string(a.Component.Kind)}
		var flags []string
		for _, f := range a.Component.Declared {
			flags = append(flags, string(f))
		}
		one.Flags = strings.Join(flags, ", ")
		o := a.Component.Owners
		one.Owners = Duty{Of: s, Policy: some(o.Policy), Operations: some(o.Operations), Lifecycle: some(o.Lifecycle)}
		m.Subjects = append(m.Subjects, one)
		m.Complete = m.Complete && a.Complete
		for _, l := range a.Logs {
			if !slices.Contains(m.Logs, l) {
				m.Logs = append(m.Logs, l)
			}
		}
	}
	matrix := map[string]*UnitCounts{}
	for _, r := range m.rows() {
		m.Counts[r.Class]++
		if r.Class == blast.Excluded {
			continue
		}
		u := matrix[r.Unit]
		if u == nil {
			u = &UnitCounts{Unit: r.Unit, Tenant: r.Tenant, Counts: map[blast.Class]int{}}
			matrix[r.Unit] = u
		}
		u.Counts[r.Class]++
	}
	m.Read = m.Counts[blast.Read]
	for _, id := range slices.Sorted(maps.Keys(matrix)) {
		m.Matrix = append(m.Matrix, *matrix[id])
	}
	return nil
}

func some(id string) []string {
	if id == "" {
		return []string{}
	}
	return []string{id}
}

// rows are those of all subjects, the most serious for each credential and unit.
func (m *maker) rows() (list []blast.Row) {
	at := map[[2]string]int{}
	rank := func(c blast.Class) int { return slices.Index(blast.Classes, c) }
	for _, a := range m.Blast {
		for _, r := range a.Rows {
			k := [2]string{r.Credential, r.Unit}
			i, ok := at[k]
			switch {
			case !ok:
				at[k], list = len(list), append(list, r)
			case rank(r.Class) < rank(list[i].Class):
				list[i] = r
			}
		}
	}
	sort.SliceStable(list, func(i, j int) bool { return rank(list[i].Class) < rank(list[j].Class) })
	return list
}

// controls judges the controls before and after.
func (m *maker) controls(ctx context.Context) error {
	catalogue, err := control.Catalog()
	if err != nil {
		return err
	}
	o := m.in.Controls
	o.AsOf = m.Made
	after, err := control.Judge(ctx, m.in.Books, o)
	if err != nil {
		return err
	}
	o.AsOf = m.From
	if at := m.span.From; at.After(o.AsOf) {
		o.AsOf = at
	}
	before, err := control.Judge(ctx, m.in.Books, o)
	if err != nil {
		m.ControlsNote = "what held before cannot be said: " + err.Error()
	}
	for _, r := range after {
		c := Control{ID: r.Control, Before: control.Unknown, After: r.State, Why: r.Summary}
		if x, ok := catalogue.Control(r.Control); ok {
			c.Title = x.Title
		}
		if i := slices.IndexFunc(before, func(b control.Result) bool { return b.Control == r.Control }); i >= 0 {
			c.Before = before[i].State
		}
		m.Controls = append(m.Controls, c)
	}
	m.Judged = [2][]control.Result{before, after}
	return nil
}

// name lists everybody whom the report names.
func (m *maker) name() {
	for _, s := range m.Subjects {
		for _, ids := range [][]string{s.Owners.Policy, s.Owners.Operations, s.Owners.Lifecycle} {
			for _, id := range ids {
				m.people[id] = true
			}
		}
	}
	m.People = []Person{}
	for _, id := range slices.Sorted(maps.Keys(m.people)) {
		m.People = append(m.People, m.person(id))
	}
}
