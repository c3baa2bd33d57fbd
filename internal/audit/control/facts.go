package control

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/books"
	"github.com/reevehq/reeve/internal/audit/history"
	"github.com/reevehq/reeve/internal/audit/index"
	"github.com/reevehq/reeve/internal/audit/register"
	"github.com/reevehq/reeve/internal/policy"
	"github.com/reevehq/reeve/internal/statement"
)

// facts is what checks are judged from. What several of them ask for is read once.
type facts struct {
	books    *books.Books
	opts     Options
	asOf     time.Time
	from     time.Time     // begin of the window that uses are looked at for
	span     *history.Span // in force at asOf, or nil
	evidence *Evidence

	used     []index.Uses
	asked    bool
	versions []index.Version
	logs     []index.Log
	compiled map[string]*policy.Policies
	entered  map[string]Ref // entries of authorities, by the records that vouch for documents
}

func newFacts(ctx context.Context, b *books.Books, o Options) (*facts, error) {
	if o.AsOf.IsZero() {
		o.AsOf = b.Now
	}
	if o.Window == 0 {
		o.Window = fresh
	}
	if o.Life == 0 {
		o.Life = day
	}
	if o.Attested == 0 {
		o.Attested = 180 * day
	}
	f := &facts{books: b, opts: o, asOf: o.AsOf, from: o.AsOf.Add(-o.Window), evidence: o.Evidence, compiled: map[string]*policy.Policies{}, entered: map[string]Ref{}}
	if f.evidence == nil {
		f.evidence = new(Evidence)
	}
	if b.History != nil {
		f.span, _ = b.History.At(o.AsOf) // the error is ErrBefore
	}
	list, err := b.Entered(ctx)
	for _, e := range list {
		if _, again := f.entered[e.Record]; !again && !e.Time.After(f.asOf) {
			f.entered[e.Record] = Ref{e.Log, e.Seq}
		}
	}
	return f, err
}

// statements returns the set in force, or counts that there is none.
func (f *facts) statements(t *tally) (*statement.Set, bool) {
	if f.span == nil {
		t.unknown(Finding{Subject: "estate", What: "the signed store does not reach back to that time, so who answered for what cannot be said; keep every version of it"})
		return nil, false
	}
	return f.span.Set, true
}

// end is the window's end: what was written at asOf is in it.
func (f *facts) end() time.Time { return f.asOf.Add(1) }

// ways keep apart whatever policy could have decided differently, as far as the ledger says it.
var ways = []index.Column{index.ByLog, index.ByTenant, index.ByUnit, index.ByWorkload, index.ByGateway, index.ByCredential, index.ByFingerprint, index.ByEstate, index.ByReason,
	index.ByLevel, index.ByProof}

// uses are the intents of the window: a row for each way that something was used.
func (f *facts) uses(ctx context.Context) (_ []index.Uses, err error) {
	if !f.asked {
		f.used, err = f.books.Index.Uses(ctx, index.Filter{From: f.from, To: f.end(), Types: []entry.Type{entry.Intent}}, ways...)
		f.asked = err == nil
	}
	return f.used, err
}

// bound are the versions of secrets that the window has seen.
func (f *facts) bound(ctx context.Context) (_ []index.Version, err error) {
	if f.versions == nil {
		f.versions, err = f.books.Index.Versions(ctx, index.Filter{From: f.from, To: f.end()})
	}
	return f.versions, err
}

// live reports whether a version could still be used at asOf, as far as its custodian knows.
func (f *facts) live(v *index.Version) bool {
	return v.State != "destroyed" && v.State != "revoked-proven" && (v.Expires == 0 || time.Unix(v.Expires, 0).After(f.asOf))
}

// events are rare entries up to asOf, from so long before.
func (f *facts) events(ctx context.Context, back time.Duration, types ...entry.Type) ([]index.Event, error) {
	x := index.Filter{To: f.end(), Types: types}
	if back > 0 {
		x.From = f.asOf.Add(-back)
	}
	return f.books.Index.Events(ctx, x)
}

// ledger are the logs, or it counts that there are none.
func (f *facts) ledger(ctx context.Context, t *tally) (_ []index.Log, err error) {
	if f.logs == nil {
		if f.logs, err = f.books.Index.Logs(ctx); err != nil {
			return nil, err
		}
	}
	var list []index.Log
	for _, l := range f.logs {
		if l.Size > 0 && l.First <= f.asOf.UnixNano() {
			list = append(list, l)
		}
	}
	if len(list) == 0 {
		t.unknown(Finding{Subject: "ledger", What: "there is no entry of any ledger up to that time; see whether the auditor follows them (reeve status)"})
	}
	return list, nil
}

// process is whose log it is.
func (f *facts) process(ctx context.Context, log string) (string, error) {
	if f.logs == nil {
		var err error
		if f.logs, err = f.books.Index.Logs(ctx); err != nil {
			return "", err
		}
	}
	for _, l := range f.logs {
		if l.ID == log {
			return l.Process, nil
		}
	}
	return "", nil
}

// spanAt is the span in force at a time, or nil.
func (f *facts) spanAt(t time.Time) *history.Span {
	s, _ := f.books.History.At(t) // the error is ErrBefore
	return s
}

// policies is the compiled policy of a set.
func (f *facts) policies(s *history.Span) (p *policy.Policies, err error) {
	if p = f.compiled[s.Hash]; p == nil {
		if p, err = policy.Compile(s.Set); err == nil {
			f.compiled[s.Hash] = p
		}
	}
	return p, err
}

// components are those of the register of some kinds, or it counts that there is no register.
func (f *facts) components(t *tally, kinds ...register.Kind) ([]register.Component, error) {
	if f.books.Register == nil {
		t.unknown(Finding{Subject: "register", What: "there is no register of components"})
		return nil, nil
	}
	all, err := f.books.Register.At(f.asOf, f.asOf)
	if errors.Is(err, history.ErrBefore) {
		t.unknown(Finding{Subject: "register", What: "the register does not reach back to that time"})
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := f.books.Register.Lacks(); err != nil {
		t.unknown(Finding{Subject: "register", Owner: f.operator(), What: err.Error()})
	}
	var list []register.Component
	for _, c := range all {
		if !slices.Contains(kinds, c.Kind) {
			continue
		}
		if list = append(list, c); !c.Anchored {
			t.unknown(Finding{Subject: "component:" + c.ID, Owner: f.operator(), What: "what was said of it is in no ledger yet: its time is its signers' word; run reeve audit anchor"})
		}
	}
	return list, nil
}

// anchored reports whether a ledger had the record that vouches for a document by asOf. What shows nothing wrong counts only then.
func (f *facts) anchored(record string) bool {
	_, ok := f.entered[record]
	return ok
}

// vouched is where a ledger has the record that vouches for a document, if one has it.
func (f *facts) vouched(record string) []Ref {
	if r, ok := f.entered[record]; ok {
		return []Ref{r}
	}
	return nil
}

// refs are the first and last entry of uses.
func refs(u *index.Uses) []Ref {
	if u.FirstSeq == u.LastSeq {
		return []Ref{{u.Log, u.FirstSeq}}
	}
	return []Ref{{u.Log, u.FirstSeq}, {u.Log, u.LastSeq}}
}
