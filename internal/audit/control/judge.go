package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/books"
	"github.com/reevehq/reeve/internal/statement"
)

// Options say what is judged.
type Options struct {
	AsOf      time.Time // zero for the books' now
	Unit      string    // business unit; empty for all. What concerns no one unit is judged with any.
	Framework string    // only controls that answer to it; empty for all
	Controls  []string  // only these; empty for all

	Window   time.Duration // that uses are looked at for; 0 means 90 days
	Life     time.Duration // longest life of a credential (RV-10); 0 means 24 hours
	Replays  int           // that RV-07 makes at most; 0 means Replays, negative all
	Attested time.Duration // longest time since an attestation (RV-04); 0 means 180 days

	Evidence *Evidence // nil for none
	// Payload opens what a use's decision looked at, which lies outside the ledger; nil where that cannot be had, and such uses are unknown.
	Payload func(log string, e *entry.Entry) ([]byte, error)
}

const (
	day     = 24 * time.Hour
	fresh   = 90 * day         // for which a drill or a use counts
	settled = 15 * time.Minute // after which a use has its outcome, and a revocation its proof
)

// What is asked for and is not there.
var (
	ErrControl   = errors.New("there is no control")
	ErrFramework = errors.New("there is no framework")
	ErrUnit      = errors.New("there is no business unit")
)

// check judges one control.
type check func(context.Context, *facts, *tally) error

// checks are the judges, by control.
func checks() map[string]check {
	return map[string]check{
		"RV-01": owners, "RV-02": gatewayOwners, "RV-03": separation, "RV-04": attestations,
		"RV-05": holdsNothing, "RV-06": verifiesItself, "RV-07": covered, "RV-08": before, "RV-09": ledgers,
		"RV-10": lifetimes, "RV-11": dormant, "RV-12": reuse, "RV-13": interactive, "RV-14": revocations,
		"RV-15": drilled, "RV-16": outOfBand, "RV-17": chaining, "RV-18": vendors, "RV-19": unregistered,
		"RV-20": scoping, "RV-21": authentication, "RV-22": brokenGlass,
	}
}

// Judge judges the controls of the catalogue, in its order. An error means that the books could not be read; what could not be known is in the
// results.
func Judge(ctx context.Context, b *books.Books, o Options) ([]Result, error) {
	f, err := newFacts(ctx, b, o)
	if err != nil {
		return nil, err
	}
	return f.judge(ctx)
}

// ofUnit checks that there is the business unit that is asked about.
func (f *facts) ofUnit() error {
	id := f.opts.Unit
	if f.span != nil && id != "" && !slices.ContainsFunc(f.span.Charter.Units, func(u statement.Unit) bool { return u.ID == id }) {
		return fmt.Errorf("%w %q: the charter then in force has no such one", ErrUnit, id)
	}
	return nil
}

func (f *facts) judge(ctx context.Context) ([]Result, error) {
	o := &f.opts
	c, err := Catalog()
	if err != nil {
		return nil, err
	}
	if _, ok := c.Framework(o.Framework); o.Framework != "" && !ok {
		return nil, fmt.Errorf("%w %q: %s are known", ErrFramework, o.Framework, strings.Join(c.names(), ", "))
	}
	if err := f.ofUnit(); err != nil {
		return nil, err
	}
	if len(o.Controls) > 0 {
		for _, id := range o.Controls {
			if _, ok := c.Control(id); !ok {
				return nil, fmt.Errorf("%w %q: they are %s to %s", ErrControl, id, c.Controls[0].ID, c.Controls[len(c.Controls)-1].ID)
			}
		}
	}
	list, all := []Result{}, checks()
	for _, x := range c.Controls {
		if o.Framework != "" && len(x.Maps[o.Framework]) == 0 || len(o.Controls) > 0 && !slices.Contains(o.Controls, x.ID) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		t := newTally(x.ID, f)
		if err := all[x.ID](ctx, f, t); err != nil {
			return nil, fmt.Errorf("judging %s: %w", x.ID, err)
		}
		list = append(list, t.result())
	}
	return list, nil
}

// tally gathers what a check says of its subjects.
type tally struct {
	id        string
	of        string // what the subjects are
	unit      string
	asOf      time.Time
	exempting []Exemption

	// Satisfied without a subject: that there is none is what is wanted, and known.
	vacuous bool
	note    string // beside the counts

	checked, bad, dark, excused int
	findings                    []Finding
	until                       time.Time
	approver                    string
}

func newTally(id string, f *facts) *tally {
	t := &tally{id: id, of: "subjects", unit: f.opts.Unit, asOf: f.asOf, findings: []Finding{}}
	for _, x := range f.evidence.Exemptions {
		if x.Control == id && !x.From.After(f.asOf) && x.Until.After(f.asOf) && f.anchored(x.Record) {
			t.exempting = append(t.exempting, x)
		}
	}
	return t
}

// here reports whether what concerns a unit is judged.
func (t *tally) here(unit string) bool { return t.unit == "" || unit == "" || unit == t.unit }

// pass counts n subjects of a unit, or of none, that are as they should be.
func (t *tally) pass(unit string, n int) {
	if t.here(unit) {
		t.checked += n
	}
}

// fail counts a subject that is not, unless it is exempt.
func (t *tally) fail(f Finding) {
	if !t.here(f.Unit) {
		return
	}
	t.checked++
	for _, x := range t.exempting {
		if (x.Subject == "" || x.Subject == f.Subject) && x.Approver != f.Owner { // nobody excuses himself
			f.Exempt = fmt.Sprintf("until %s by %s: %s", x.Until.UTC().Format(time.DateOnly), x.Approver, x.Reason)
			if t.until.IsZero() || x.Until.Before(t.until) {
				t.until, t.approver = x.Until, x.Approver
			}
			t.excused++
			t.findings = append(t.findings, f)
			return
		}
	}
	t.bad++
	t.findings = append(t.findings, f)
}

// unknown counts what could not be judged.
func (t *tally) unknown(f Finding) {
	if !t.here(f.Unit) {
		return
	}
	f.Unknown = true
	t.dark++
	t.findings = append(t.findings, f)
}

// result sums up: what fails stands first, then what is not known, then what is exempt.
func (t *tally) result() Result {
	rank := func(f Finding) int {
		switch {
		case f.Exempt != "":
			return 2
		case f.Unknown:
			return 1
		}
		return 0
	}
	slices.SortStableFunc(t.findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Unit, b.Unit), cmp.Compare(a.Subject, b.Subject))
	})
	r := Result{Control: t.id, Checked: t.checked, Findings: t.findings, AsOf: t.asOf.UTC()}
	switch {
	case t.bad > 0:
		r.State = Fail
	case t.dark > 0 || t.checked == 0 && !t.vacuous:
		r.State = Unknown
	case t.excused > 0:
		r.State, r.Until, r.Approver = Exempt, t.until, t.approver
	default:
		r.State = Pass
	}
	r.Summary = fmt.Sprintf("%d %s judged", t.checked, t.of)
	for _, c := range []struct {
		n    int
		word string
	}{{t.bad, "fail"}, {t.dark, "not known"}, {t.excused, "exempt"}} {
		if c.n > 0 {
			r.Summary += fmt.Sprintf(", %d %s", c.n, c.word)
		}
	}
	if t.note != "" {
		r.Summary += "; " + t.note
	}
	return r
}
