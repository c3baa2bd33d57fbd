package blast

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/books"
	"github.com/reevehq/reeve/internal/audit/closings"
	"github.com/reevehq/reeve/internal/audit/history"
	"github.com/reevehq/reeve/internal/audit/index"
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
	component component
	from, to  time.Time
	asOf      time.Time
	spans     []*history.Span
	now       *history.Span // in force as of asOf: by it people act
	ledgers   *ledgers
	closings  *closings.Closings
	versions  map[string][]index.Version // by credential, as of asOf; bound at any time, not over before the window
	power     power
	rows      map[pair]*draft
	units     map[*history.Span]map[string]*statement.Unit
	cannot    []string
	gap       string // why not all statements of the window are known; empty when they are
}

// Radius is the blast radius of the subject in [from, to): the class of each credential and business unit, and who answers for it. The error wraps
// ErrUnknown when nothing has the subject's name, and ErrWindow.
func Radius(ctx context.Context, b *books.Books, s Subject, from, to time.Time, o Options) (_ *Answer, err error) {
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
	a := r.answer()
	if a.Lacks, err = b.Lacks(ctx, r.from, r.to); err != nil {
		return nil, err
	}
	return a, nil
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
	if r.now, err = r.b.History.At(r.asOf); errors.Is(err, history.ErrBefore) {
		r.now = r.b.History.Newest()
	} else if err != nil {
		return err
	}
	if r.component, err = find(r.b, r.subject, r.spans, r.from, r.to, r.asOf); err != nil {
		return err
	}
	if r.ledgers, err = openLedgers(ctx, r.b, r.from, r.to, cmp.Or(o.Silence, Silence)); err != nil {
		return err
	}
	if r.closings, err = closings.Read(ctx, r.b.Index, r.ledgers.process, r.asOf.Add(1)); err != nil {
		return err
	}
	held := index.Filter{From: r.from, To: r.asOf.Add(1)}
	if r.subject.Kind == Credential {
		held.Credential = r.subject.ID
	}
	list, err := r.b.Index.Versions(ctx, held)
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
