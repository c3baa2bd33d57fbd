package blast

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/books"
	"github.com/reevehq/reeve/internal/audit/control"
	"github.com/reevehq/reeve/internal/audit/history"
	"github.com/reevehq/reeve/internal/audit/index"
	"github.com/reevehq/reeve/internal/audit/register"
	"github.com/reevehq/reeve/internal/closing"
	"github.com/reevehq/reeve/internal/reach"
	"github.com/reevehq/reeve/internal/statement"
)

// Options say what else an answer is made from. The zero value is good.
type Options struct {
	AsOf      time.Time     // as recorded by then; zero for the books' time
	OutOfBand []Stray       // what reconciliation found
	Silence   time.Duration // of a custodian's ledger that says nothing; zero for Silence
}

// ErrWindow means that a window is empty.
var ErrWindow = errors.New("the window is empty")

// pair names a row.
type pair struct{ credential, unit string }

// radius is one call of Radius.
type radius struct {
	b         *books.Books
	subject   Subject
	component register.Component
	from, to  time.Time
	asOf      time.Time
	spans     []*history.Span
	ledgers   *ledgers
	closings  *closings
	versions  map[string][]index.Version // by credential, as of asOf; bound at any time, not over before the window
	power     power
	rows      map[pair]*draft
	units     map[*history.Span]map[string]*statement.Unit
	cannot    []string
	gap       string // why not all statements of the window are known; empty when they are
}

// draft is a row that is being made.
type draft struct {
	Row
	proven, asserted int64
	held             []held
	strays           []Stray
	scoped           bool                // the unit owns it, or it is lent to the unit
	open             bool                // the policy in force let the subject reach it
	served           bool                // the subject reaches it whatever policy says
	glass            bool                // a break-glass opened it
	closed           *change             // what kept it closed for the whole window, where policy let it be reached
	target           statement.Target    // of that
	seqs             map[string][2]int64 // first and last number, by log
	keepers          map[string]bool     // custodians that serve the credential
}

// Radius is the blast radius of the subject in [from, to): the class of each credential and business unit, and who answers for it. The error wraps
// ErrUnknown when nothing has the subject's name, and ErrWindow.
func Radius(ctx context.Context, b *books.Books, s Subject, from, to time.Time, o Options) (*Answer, error) {
	r := newRadius(b, s, from, to, o.AsOf)
	if !r.from.Before(r.to) {
		return nil, fmt.Errorf("%w: from %s to %s", ErrWindow, stamp(r.from), stamp(r.to))
	}
	steps := []func(context.Context) error{
		func(ctx context.Context) error { return r.open(ctx, o) },
		r.universe, r.used, r.reached, r.glass, func(ctx context.Context) error { return r.held(o.OutOfBand) },
	}
	for _, step := range steps {
		if err := errors.Join(ctx.Err(), step(ctx)); err != nil {
			return nil, err
		}
	}
	return r.answer(), nil
}

// newRadius is one that has read nothing yet. What came after asOf, which is now when it is zero, was not recorded yet.
func newRadius(b *books.Books, s Subject, from, to, asOf time.Time) *radius {
	if asOf.IsZero() {
		asOf = b.Now
	}
	if asOf.Before(to) {
		to = asOf
	}
	return &radius{b: b, subject: s, from: from.UTC(), to: to.UTC(), asOf: asOf.UTC(), rows: map[pair]*draft{}, units: map[*history.Span]map[string]*statement.Unit{}}
}

// open reads what all rows are made from.
func (r *radius) open(ctx context.Context, o Options) (err error) {
	if r.spans, err = r.inForce(ctx); err != nil {
		return err
	}
	if r.component, err = find(r.b, r.subject, r.spans, r.from, r.to, r.asOf); err != nil {
		return err
	}
	if r.ledgers, err = openLedgers(ctx, r.b, r.from, r.to, cmp.Or(o.Silence, Silence)); err != nil {
		return err
	}
	if r.closings, err = readClosings(ctx, r.b.Index, r.ledgers.process, r.asOf.Add(1)); err != nil {
		return err
	}
	list, err := r.b.Index.Versions(ctx, index.Filter{From: r.from, To: r.asOf.Add(1)})
	if err != nil {
		return err
	}
	r.versions = map[string][]index.Version{}
	for _, v := range list {
		r.versions[v.Credential] = append(r.versions[v.Credential], v)
	}
	r.power, err = r.wield(ctx)
	return err
}

// inForce is the sets of the window, and those that entries of the window name although a newer one was published: a custodian may not have had it.
func (r *radius) inForce(ctx context.Context) ([]*history.Span, error) {
	spans := r.b.History.In(r.from, r.to)
	uses, err := r.b.Index.Uses(ctx, index.Filter{From: r.from, To: r.to, Types: []entry.Type{entry.Intent}}, index.ByEstate)
	if err != nil {
		return nil, err
	}
	var lost int64
	for _, u := range uses {
		s := r.b.History.Of(u.Estate)
		if s == nil {
			lost += u.Count
		} else if !slices.Contains(spans, s) {
			spans = append(spans, s)
		}
	}
	slices.SortFunc(spans, func(a, b *history.Span) int { return a.From.Compare(b.From) })
	for _, s := range spans {
		if v := s.Lock.Version + 1; s.Next > v && s.Until.After(r.from) {
			r.gap = fmt.Sprintf("the signed store does not have version %d of the lock complete", v)
			r.cannot = append(r.cannot, fmt.Sprintf("What could be reached before %s: %s.", stamp(s.Until), r.gap))
		}
	}
	if lost > 0 {
		r.gap = "the signed store does not have the statements any more by which uses were decided"
		r.cannot = append(r.cannot, fmt.Sprintf("Under which policies %d uses were decided: the signed store does not have their statements any more.", lost))
	}
	switch {
	case len(spans) == 0:
		r.gap = "the signed store has no statements of that time"
		r.cannot = append(r.cannot, "What could be reached in the window: the signed store has no statements of that time.")
	case spans[0].From.After(r.from) && spans[0].Lock.Version > 1:
		r.gap = "the signed store does not reach back to before " + stamp(spans[0].From)
		r.cannot = append(r.cannot, fmt.Sprintf("What could be reached before %s: the signed store does not reach back to that time.", stamp(spans[0].From)))
	}
	return spans, nil
}

// row is the row of a credential and a unit.
func (r *radius) row(credential, unit string) *draft {
	d := r.rows[pair{credential, unit}]
	if d == nil {
		d = &draft{Row: Row{Credential: credential, Unit: unit, Proofs: map[string]int64{}}, seqs: map[string][2]int64{}, keepers: map[string]bool{}}
		r.rows[pair{credential, unit}] = d
	}
	return d
}

// universe makes the rows of the subject's scope: each credential for the unit that owns it and those that it is lent to.
func (r *radius) universe(context.Context) error {
	if r.power.scope == nil {
		return nil
	}
	for _, s := range r.spans {
		units := r.unitsOf(s)
		for _, u := range s.Charter.Units {
			lent := map[string][]string{}
			for _, g := range s.Custody[u.ID].Grants {
				lent[g.Credential] = append(lent[g.Credential], g.Unit)
			}
			for i := range s.Custody[u.ID].Credentials {
				c := &s.Custody[u.ID].Credentials[i]
				using := append([]string{u.ID}, lent[c.ID]...)
				if r.power.every {
					using = slices.Collect(maps.Keys(units))
				}
				for _, id := range using {
					if of := units[id]; of != nil && r.power.scope(c, &u, of) {
						r.row(c.ID, id).scoped = true
					}
				}
			}
		}
	}
	return nil
}

// used adds what the ledgers have.
func (r *radius) used(ctx context.Context) error {
	seen := map[index.Key]bool{} // of several queries
	for _, f := range r.power.uses {
		f.From, f.To, f.Types = r.from, r.to, []entry.Type{entry.Intent, entry.Deny}
		uses, err := r.b.Index.Uses(ctx, f, index.ByLog, index.ByType, index.ByTenant, index.ByUnit, index.ByWorkload, index.ByGateway, index.ByCredential,
			index.ByFingerprint, index.ByLevel, index.ByProof)
		if err != nil {
			return err
		}
		for i := range uses {
			u := &uses[i]
			if u.Credential == "" || u.Unit == "" || seen[u.Key] || r.power.own != nil && !r.power.own(u) {
				continue // who is not known, or asked for nothing that exists, used nothing
			}
			seen[u.Key] = true
			r.row(u.Credential, u.Unit).add(u, r.power.proven)
		}
	}
	return nil
}

// add counts a sum of the index.
func (d *draft) add(u *index.Uses, proven func(*index.Uses) bool) {
	d.Tenant = cmp.Or(d.Tenant, u.Tenant)
	s, had := d.seqs[u.Log]
	if !had {
		s = [2]int64{u.FirstSeq, u.LastSeq}
	}
	if u.Type == entry.Deny {
		d.Denied += u.Count
		return
	}
	d.seqs[u.Log] = [2]int64{min(s[0], u.FirstSeq), max(s[1], u.LastSeq)}
	if d.Uses == 0 || instant(u.First).Before(d.First) {
		d.First = instant(u.First)
	}
	if instant(u.Last).After(d.Last) {
		d.Last = instant(u.Last)
	}
	d.Uses += u.Count
	d.Unknown += u.Count - u.Done
	d.Proofs[strings.TrimSpace(u.Level+" "+u.Proof)] += u.Count
	if u.Proof == "pop" && u.Level >= "W2" && (proven == nil || proven(u)) {
		d.proven += u.Count
	} else {
		d.asserted += u.Count
	}
	d.Workloads, d.Gateways, d.Fingerprints = insert(d.Workloads, u.Workload), insert(d.Gateways, u.Gateway), insert(d.Fingerprints, u.Fingerprint)
}

// insert adds a word to a sorted list of distinct ones.
func insert(list []string, s string) []string {
	i, found := slices.BinarySearch(list, s)
	if found || s == "" {
		return list
	}
	return slices.Insert(list, i, s)
}

// reached adds what the policy in force let the subject reach.
func (r *radius) reached(context.Context) error {
	var last *history.Span
	var pairs []reach.Pair
	for _, s := range r.spans {
		from, to := s.From, s.Until
		if from.Before(r.from) {
			from = r.from
		}
		if to.IsZero() || to.After(r.to) {
			to = r.to
		}
		if r.power.serves != nil {
			r.serves(s)
		}
		if r.power.ask == nil {
			continue
		}
		if last == nil || !maps.Equal(last.Lock.Statements, s.Lock.Statements) || !from.Before(last.Expires) {
			var err error
			// What a set opens only becomes less while it is in force: people leave, attestations run out.
			if pairs, err = reach.Pairs(r.without(s, from, to), from, *r.power.ask); err != nil {
				return fmt.Errorf("reading the policies of version %d of the lock: %w", s.Lock.Version, err)
			}
		}
		last = s
		for i := range pairs {
			r.reach(s, &pairs[i], from, to)
		}
	}
	return nil
}

// without is the set as if those people had left who were closed at every custodian all the time.
func (r *radius) without(s *history.Span, from, to time.Time) *statement.Set {
	var gone []string
	custodians := map[string]bool{}
	for _, cu := range s.Custody {
		for _, k := range cu.Custodians {
			custodians[k.ID] = true
		}
	}
	all := slices.Sorted(maps.Keys(custodians))
	for _, p := range s.Charter.People {
		if x, _ := r.closings.every(all, []statement.Target{{Kind: closing.Person, ID: p.ID}}, from, to); x != nil {
			gone = append(gone, p.ID)
		}
	}
	return s.Without(gone...)
}

// serves adds what the subject reaches whatever policy says.
func (r *radius) serves(s *history.Span) {
	for _, u := range s.Charter.Units {
		for i := range s.Custody[u.ID].Credentials {
			if c := &s.Custody[u.ID].Credentials[i]; r.power.serves(s, c) {
				d := r.row(c.ID, u.ID)
				d.served = true
				d.Accountable.Approvers = union(d.Accountable.Approvers, approvers(s.Set, "custody-"+u.ID)) // who enrolled it
			}
		}
	}
}

// reach adds one pair that a set opens, unless it was closed for all of the span that lies in the window.
func (r *radius) reach(s *history.Span, p *reach.Pair, from, to time.Time) {
	c, owning, _ := s.Credential(p.Credential)
	using := r.unit(s, p.Unit)
	if d := r.rows[pair{p.Credential, p.Unit}]; d == nil && r.power.scope != nil && !r.power.scope(c, owning, using) {
		return
	}
	d := r.row(p.Credential, p.Unit)
	if d.Uses == 0 { // nobody used it: who could have
		d.Gateways = union(d.Gateways, p.Gateways)
	}
	targets := []statement.Target{{Kind: closing.Everything}, {Kind: closing.Credential, ID: p.Credential}, {Kind: closing.Unit, ID: owning.ID}, {Kind: closing.Unit, ID: p.Unit},
		{Kind: closing.Tenant, ID: owning.Tenant}}
	var closed *change
	var of statement.Target
	ways, could := 0, []string{}
	for _, g := range p.Gateways {
		custodians := s.Custodians(g, p.Credential)
		for _, w := range p.Workloads {
			own := append(targets[:len(targets):len(targets)], statement.Target{Kind: closing.Gateway, ID: g}, statement.Target{Kind: closing.Workload, ID: w})
			x, t := r.closings.every(custodians, own, from, to)
			if x == nil {
				ways, could = ways+1, append(could, w)
			} else {
				closed, of = x, t
			}
		}
	}
	if ways == 0 {
		if !d.open {
			d.closed, d.target = closed, of
		}
		return
	}
	d.open, d.closed = true, nil
	if d.Uses == 0 {
		d.Workloads = union(d.Workloads, could)
	}
	d.Policies = union(d.Policies, p.Permits)
	for _, id := range p.Permits {
		d.Accountable.Approvers = union(d.Accountable.Approvers, approvers(s.Set, statementOf(id)))
	}
	if owning.ID != p.Unit { // who lent it answers too
		d.Accountable.Approvers = union(d.Accountable.Approvers, approvers(s.Set, "custody-"+owning.ID))
	}
}

// unit is a unit of a set, or nil.
func (r *radius) unit(s *history.Span, id string) *statement.Unit { return r.unitsOf(s)[id] }

// unitsOf are the units of a set by id.
func (r *radius) unitsOf(s *history.Span) map[string]*statement.Unit {
	m := r.units[s]
	if m == nil {
		m = make(map[string]*statement.Unit, len(s.Charter.Units))
		for i := range s.Charter.Units {
			m[s.Charter.Units[i].ID] = &s.Charter.Units[i]
		}
		r.units[s] = m
	}
	return m
}

// statementOf is the statement that a policy is of, by its id ("<unit>/<file>#<id>").
func statementOf(policy string) string {
	unit, _, _ := strings.Cut(policy, "/")
	if unit == "*" {
		return "charter"
	}
	return "policy-" + unit
}

// approvers are the people who signed a statement of a set.
func approvers(s *statement.Set, name string) (people []string) {
	for _, a := range s.Approvals[name] {
		people = insert(people, a.Person)
	}
	return people
}

// union merges into a sorted list of distinct words.
func union(list, more []string) []string {
	for _, s := range more {
		list = insert(list, s)
	}
	return list
}

// glass adds what break-glass opened beyond policy: each is over within an hour.
func (r *radius) glass(ctx context.Context) error {
	if r.power.ask == nil {
		return nil
	}
	events, err := r.b.Index.Events(ctx, index.Filter{From: r.from.Add(-time.Hour), To: r.to, Types: []entry.Type{entry.BreakGlass}})
	if err != nil {
		return err
	}
	for _, e := range events {
		if e.Workload == "" || e.Credential == "" || !strings.HasPrefix(e.Reason, "open") {
			continue
		}
		for _, s := range r.spans {
			w, using, ok := s.Workload(e.Workload)
			c, owning, known := s.Credential(e.Credential)
			if ask := r.power.ask; ok && known && (ask.Workload == nil || ask.Workload(w)) && (ask.Credential == "" || ask.Credential == c.ID) &&
				(r.power.scope == nil || r.power.scope(c, owning, using)) && (ask.Gateway == "" || len(s.Custodians(ask.Gateway, c.ID)) > 0) {
				r.row(c.ID, using.ID).glass = true
			}
		}
	}
	return nil
}

// held adds plaintext and what providers saw.
func (r *radius) held(strays []Stray) error {
	of := map[string][]*draft{}
	for p, d := range r.rows {
		of[p.credential] = append(of[p.credential], d)
	}
	for _, h := range r.power.holds {
		rows := of[h.credential]
		if len(rows) == 0 {
			d := r.row(h.credential, cmp.Or(h.unit, r.owning(h.credential)))
			rows, of[h.credential] = []*draft{d}, append(of[h.credential], d)
		}
		for _, d := range rows {
			if h.unit == d.Unit || h.unit == "" && (d.scoped || d.Uses > 0 || d.open || d.served || d.Unit == r.owning(d.Credential)) { // not of who was refused
				d.held, d.Fingerprints = append(d.held, h), insert(d.Fingerprints, h.fingerprint)
			}
		}
	}
	for _, s := range strays {
		if !s.First.IsZero() && !s.First.Before(r.to) || !s.Last.IsZero() && s.Last.Before(r.from) {
			continue
		}
		for _, d := range of[s.Credential] {
			if d.concerned() && d.Unit == cmp.Or(s.Unit, r.owning(s.Credential)) {
				d.strays = append(d.strays, s)
			}
		}
	}
	return nil
}

// concerned reports whether anything but a policy that denied speaks of the row.
func (d *draft) concerned() bool {
	return d.Uses+d.Denied > 0 || d.open || d.served || d.glass || d.closed != nil || len(d.held) > 0
}

// answer makes the answer of the drafts.
func (r *radius) answer() *Answer {
	a := &Answer{Subject: r.subject.String(), Component: r.component, From: r.from, To: r.to, AsOf: r.asOf, Rows: []Row{}, Counts: map[Class]int{}, Units: []string{}, Logs: []Log{}, Complete: true}
	if r.subject.Kind == Component {
		a.Subject = string(r.component.Kind) + ":" + r.component.ID
	}
	for _, c := range Classes {
		a.Counts[c] = 0
	}
	exposed := map[string]bool{}
	for _, d := range r.rows {
		r.account(d)
		r.classify(d)
		r.live(d)
		for log, s := range d.seqs {
			d.Refs = append(d.Refs, control.Ref{Log: log, Seq: s[0]})
			if s[1] != s[0] {
				d.Refs = append(d.Refs, control.Ref{Log: log, Seq: s[1]})
			}
		}
		slices.SortFunc(d.Refs, func(a, b control.Ref) int { return cmp.Or(cmp.Compare(a.Log, b.Log), cmp.Compare(a.Seq, b.Seq)) })
		d.Custodians = slices.Sorted(maps.Keys(d.keepers))
		for _, list := range []*[]string{&d.Custodians, &d.Fingerprints, &d.Workloads, &d.Gateways, &d.Policies, &d.Accountable.Policy, &d.Accountable.Operations, &d.Accountable.Approvers} {
			if *list == nil {
				*list = []string{}
			}
		}
		if d.Refs == nil {
			d.Refs = []control.Ref{}
		}
		a.Counts[d.Class]++
		if d.Class != Excluded {
			a.Units = insert(a.Units, d.Unit)
		}
		if d.Live && d.Class != Reachable && d.Class != Excluded && !exposed[d.Credential] {
			exposed[d.Credential] = true
			r.remain(d, &a.Residual)
		}
		a.Rows = append(a.Rows, d.Row)
	}
	slices.SortFunc(a.Rows, func(x, y Row) int {
		return cmp.Or(cmp.Compare(slices.Index(Classes, x.Class), slices.Index(Classes, y.Class)), cmp.Compare(x.Credential, y.Credential), cmp.Compare(x.Unit, y.Unit))
	})
	r.judge(a)
	return a
}

// judge says how complete the ledgers are, and what cannot be known.
func (r *radius) judge(a *Answer) {
	var unknown int64
	for _, d := range r.rows {
		unknown += d.Unknown
	}
	tail := r.to
	for _, p := range slices.Sorted(maps.Keys(r.ledgers.found)) {
		l := r.ledgers.found[p]
		a.Logs, a.Complete = append(a.Logs, l), a.Complete && l.Complete
		switch {
		case !l.Complete:
			r.cannot = append(r.cannot, fmt.Sprintf("Whether %s did more than its ledger says: %s.", p, l.Why))
		case l.Cosigned.Before(tail):
			tail = l.Cosigned
		}
	}
	if tail.Before(r.to) {
		r.cannot = append(r.cannot, fmt.Sprintf("What happened after %s, %s before the window's end: the newest entries that the auditor has verified and cosigned are of then.",
			tail.Format("2006-01-02T15:04:05.000Z"), r.to.Sub(tail).Round(time.Millisecond)))
	}
	if unknown > 0 {
		r.cannot = append(r.cannot, fmt.Sprintf("What became of %d uses: they have an intent and no outcome, and count as used.", unknown))
	}
	a.Cannot = append(append([]string{}, r.cannot...), r.power.cannot...)
	a.Cannot = append(a.Cannot, "Uses that went round every custodian: the providers' own records alone show them (class OUT-OF-BAND).")
}
