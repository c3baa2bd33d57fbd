package incident

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/blast"
	"github.com/reevehq/reeve/internal/audit/books"
	"github.com/reevehq/reeve/internal/audit/contain"
	"github.com/reevehq/reeve/internal/audit/control"
	"github.com/reevehq/reeve/internal/audit/history"
	"github.com/reevehq/reeve/internal/audit/index"
	"github.com/reevehq/reeve/internal/audit/logs"
	"github.com/reevehq/reeve/internal/audit/register"
	"github.com/reevehq/reeve/internal/custody"
	"github.com/reevehq/reeve/internal/statement"
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

// taken says of a sum of the index whether it is what a subject did or had done, and whether a workload's signature proves that the workload did it.
type taken func(*index.Uses) (through, proves bool)

// taken is what was in the subjects' hands. A signature by a workload's key proves nothing once the workload is captured, nor does the word of a
// captured custodian that it verified one, or of an authority that the key is the workload's.
func (m *maker) taken() taken {
	type use struct{ credential, unit, workload string }
	var all []taken
	for i, s := range m.Subjects {
		b := subject(s.ID)
		used := map[use]bool{} // of those that stand in entries under no name of their own
		for _, r := range m.Blast[i].Rows {
			for _, w := range r.Workloads {
				used[use{r.Credential, r.Unit, w}] = r.Uses > 0
			}
		}
		own := func(u *index.Uses) bool { return used[use{u.Credential, u.Unit, u.Workload}] }
		all = append(all, func(u *index.Uses) (bool, bool) {
			switch {
			case b.Kind == blast.Workload:
				return u.Workload == b.ID, false
			case b.Kind == blast.Credential:
				return u.Credential == b.ID, true
			case b.Kind == blast.Unit:
				return u.Unit == b.ID, true
			case b.Kind == blast.Tenant:
				return u.Tenant == b.ID, true
			case b.Kind == blast.Person: // the keys that he issued
				return u.Level == "W0" && own(u), false
			case s.Kind == string(register.Authority):
				return u.Level != "W0" && own(u), false
			case m.process[u.Log] == b.ID:
				return true, false
			}
			return u.Gateway == b.ID, true
		})
	}
	return func(u *index.Uses) (through, proves bool) {
		proves = true
		for _, of := range all {
			if is, signed := of(u); is {
				through, proves = true, proves && signed
			}
		}
		return through, proves
	}
}

// challenge is the refusal that only asks for a signature with a fresh nonce: no attempt at anything.
const challenge = "use_reeve_nonce"

// misuse finds what an attacker can have done: its first and its last entry.
func (m *maker) misuse(ctx context.Context) error {
	x := &m.Misuse
	x.Credentials, x.Workloads, x.Units, x.Owners, x.Reasons = []string{}, []string{}, []string{}, []string{}, map[string]int64{}
	uses, err := m.in.Books.Index.Uses(ctx, index.Filter{From: m.From, To: m.To, Types: []entry.Type{entry.Intent, entry.Deny}},
		index.ByLog, index.ByType, index.ByTenant, index.ByUnit, index.ByWorkload, index.ByGateway, index.ByCredential, index.ByLevel, index.ByProof, index.ByReason)
	if err != nil {
		return err
	}
	taken := m.taken()
	for i := range uses {
		u := &uses[i]
		through, proves := taken(u)
		first, last := time.Unix(0, u.First).UTC(), time.Unix(0, u.Last).UTC()
		from, to := control.Ref{Log: u.Log, Seq: u.FirstSeq}, control.Ref{Log: u.Log, Seq: u.LastSeq}
		switch {
		case !through, u.Reason == challenge:
		case u.Type == entry.Deny:
			x.Denied += u.Count
			x.Reasons[u.Reason] += u.Count
			if x.FirstDenied.IsZero() || first.Before(x.FirstDenied) {
				x.FirstDenied, x.FirstRefuse = first, from
			}
			if last.After(x.LastDenied) {
				x.LastDenied, x.LastRefuse = last, to
			}
		case u.Proof == "pop" && proves:
			x.Proven += u.Count
		default:
			x.Uses += u.Count
			if x.First.IsZero() || first.Before(x.First) {
				x.First, x.FirstEntry = first, from
			}
			if last.After(x.Last) {
				x.Last, x.LastEntry = last, to
			}
			x.Credentials, x.Workloads, x.Units = add(x.Credentials, u.Credential), add(x.Workloads, u.Workload), add(x.Units, u.Unit)
			if owner, ok := m.span.Set.Owner(u.Credential, m.From); ok {
				x.Owners = add(x.Owners, owner.ID)
			}
		}
	}
	return nil
}

// add inserts into a sorted list what is not in it.
func add(list []string, s string) []string {
	if i, ok := slices.BinarySearch(list, s); !ok && s != "" {
		return slices.Insert(list, i, s)
	}
	return list
}

// brackets finds the window in each log.
func (m *maker) brackets(context.Context) error {
	m.Brackets = []Bracket{}
	for _, l := range m.in.Books.Logs {
		before, err := number(l, m.From)
		if err != nil {
			return err
		}
		last, err := number(l, m.To)
		if err != nil {
			return err
		}
		m.Brackets = append(m.Brackets, Bracket{Process: l.Process, Log: l.ID, Origin: l.Checkpoint.Log.Origin, Before: before - 1, Last: last - 1, Size: l.Checkpoint.N,
			Root: base64.StdEncoding.EncodeToString(l.Checkpoint.Hash[:]), Cosigned: l.Checkpoint.Time.UTC()})
		m.Commands = append(m.Commands, fmt.Sprintf("reeve verify --ledger logs/%s --trust trust.json --need included", l.ID))
	}
	return nil
}

// number is that of the first entry of a log at t or later.
func number(l *logs.Log, t time.Time) (int64, error) {
	var failed error
	n := sort.Search(int(l.Checkpoint.N), func(i int) bool {
		e, _, err := l.Entry(int64(i))
		if err != nil {
			failed = err
			return true
		}
		return e.TimeNS >= t.UnixNano()
	})
	return int64(n), failed
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

// account says who answered for what.
func (m *maker) account() {
	for _, r := range m.rows() {
		if r.Class == blast.Excluded {
			continue
		}
		d := Duty{Of: r.Credential + " for " + r.Unit, Policy: r.Accountable.Policy, Operations: r.Accountable.Operations, Lifecycle: some(r.Accountable.Lifecycle), Approvers: r.Accountable.Approvers}
		m.Accountable = append(m.Accountable, d)
		for _, ids := range [][]string{d.Policy, d.Operations, d.Lifecycle, d.Approvers} {
			for _, id := range ids {
				m.people[id] = true
			}
		}
	}
}

// credentials fills the credential annex: whatever was read, used or reached.
func (m *maker) credentials() {
	at := map[string]int{}
	for _, r := range m.rows() { // the most serious first
		if r.Class == blast.Excluded {
			continue
		}
		i, ok := at[r.Credential]
		if !ok {
			i, at[r.Credential] = len(m.Credentials), len(m.Credentials)
			m.Credentials = append(m.Credentials, m.credential(&r))
		}
		c := &m.Credentials[i]
		for _, f := range r.Fingerprints {
			c.Fingerprints = add(c.Fingerprints, f)
		}
		c.Uses += r.Uses
		if r.Last.After(c.LastUse) {
			c.LastUse = r.Last
		}
	}
}

func (m *maker) credential(r *blast.Row) Credential {
	c := Credential{ID: r.Credential, Unit: r.Owning, Owner: r.Accountable.Lifecycle, Class: r.Class, Fingerprints: []string{}, Destination: r.Destination, Scope: []string{},
		State: r.State, Live: r.Live, LiveUntil: r.LiveUntil, Probe: "not ended, so not probed"}
	if x, _, ok := m.span.Set.Credential(r.Credential); ok {
		filled, err := custody.Read(*x)
		if err != nil {
			filled = *x
		}
		c.Destination = cmp.Or(c.Destination, filled.Destination.Origin)
		c.Scope = append([]string{strings.Join(filled.Destination.Methods, ", ")}, filled.Destination.Paths...)
		c.Lifetime = time.Duration(filled.MaxLifetime).String()
	}
	for _, o := range m.Containment.Outcomes {
		for _, d := range slices.Concat(o.Dead, o.Unproven) {
			if d.Credential == r.Credential {
				c.Probe = fmt.Sprintf("%s: %s (entry %d of log %s)", d.Custodian, d.Why, d.Entry.Seq, d.Entry.Log)
			}
		}
	}
	return c
}

// units fills the annexes: each has what concerns the unit, and nothing of others but what they used of its.
func (m *maker) units() {
	by := map[string]*Unit{}
	for _, r := range m.rows() {
		if r.Class == blast.Excluded {
			continue
		}
		for _, id := range slices.Compact([]string{r.Unit, r.Owning}) {
			u := by[id]
			if u == nil {
				u = &Unit{Unit: id, Rows: []blast.Row{}, Accountable: []Duty{}}
				if i := slices.IndexFunc(m.span.Charter.Units, func(x statement.Unit) bool { return x.ID == id }); i >= 0 {
					u.Tenant = m.span.Charter.Units[i].Tenant
				}
				by[id] = u
			}
			u.Rows = append(u.Rows, r)
			u.Accountable = append(u.Accountable, Duty{Of: r.Credential + " for " + r.Unit, Policy: r.Accountable.Policy, Operations: r.Accountable.Operations, Lifecycle: some(r.Accountable.Lifecycle), Approvers: r.Accountable.Approvers})
		}
	}
	for _, id := range slices.Sorted(maps.Keys(by)) {
		m.Units = append(m.Units, *by[id])
	}
}

// unproven lists what cannot be known.
func (m *maker) unproven() {
	say := func(s string) {
		if !slices.Contains(m.Unproven, s) {
			m.Unproven = append(m.Unproven, s)
		}
	}
	for _, a := range m.Blast {
		for _, s := range a.Cannot {
			say(s)
		}
	}
	for _, r := range m.rows() {
		if slices.Contains(r.Classes, blast.OutOfBand) {
			say(fmt.Sprintf("%s was used outside reeve: %s", r.Credential, r.Why))
		}
		if r.Unknown > 0 {
			say(fmt.Sprintf("%d uses of %s by %s have no outcome in the ledger: they count as used", r.Unknown, r.Credential, r.Unit))
		}
	}
	for _, o := range m.Containment.Outcomes {
		for _, d := range o.Unproven {
			say(fmt.Sprintf("%s at %s is not proven dead: %s", d.Credential, d.Custodian, d.Why))
		}
		for _, w := range o.Waiting {
			say(fmt.Sprintf("%s waits for a signature: %s", w.Target, w.Needs))
		}
	}
	if m.Misuse.Uses > 0 {
		say("Which of the uses that no signature proves in the window the attacker made and which the workloads: all of them count as misuse.")
	}
}

// answer says the outcome in sentences.
func (m *maker) answer() {
	say := func(format string, args ...any) { m.Answer = append(m.Answer, fmt.Sprintf(format, args...)) }
	names := strings.Join(m.in.Journal.Opened().Subjects, " and ")
	if m.Read == 0 {
		say("No credential's plaintext was in %s: READ = 0.", names)
	} else {
		say("The plaintext of %d credentials was in %s: READ = %d. Each has to be ended at its provider.", m.Read, names, m.Read)
	}
	day := "2006-01-02 15:04:05.000Z"
	if x := &m.Misuse; x.Uses > 0 {
		say("%s could have been the attacker's, from %s to %s, of %s of %s.", many(x.Uses, "use"), x.First.Format(day), x.Last.Format("15:04:05.000Z"),
			many(int64(len(x.Credentials)), "credential"), many(int64(len(x.Units)), "business unit"))
	} else {
		say("Nothing was used by a proof that an attacker can have had: no window of misuse.")
	}
	if x := &m.Misuse; x.Denied > 0 {
		say("%s refused, from %s to %s.", many(x.Denied, "attempt"), x.FirstDenied.Format(day), x.LastDenied.Format("15:04:05.000Z"))
	}
	if m.Misuse.Proven > 0 {
		say("%s in the window by the workloads' own signatures cannot be the attacker's.", many(m.Misuse.Proven, "use"))
	}
	switch {
	case m.Contained:
		say("It is contained since %s, %s after it was opened or acted upon; %s followed.", m.Containment.Contained.Format(day), span(m.Containment.Contain), many(m.Containment.AfterUses, "use"))
	case len(m.Containment.Outcomes) == 0:
		say("Nothing has been contained for it.")
	default:
		say("It is NOT contained.")
	}
	if !m.Complete {
		say("The ledgers do not cover the whole window: what is not listed is not excluded.")
	}
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

// many counts something in words.
func many(n int64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
