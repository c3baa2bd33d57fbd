package usage

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
	"github.com/reevehq/reeve/internal/audit/history"
	"github.com/reevehq/reeve/internal/audit/index"
	"github.com/reevehq/reeve/internal/audit/logs"
	"github.com/reevehq/reeve/internal/audit/usage/export"
)

// Usual is how far a provider's time may be from the ledgers': a minute for clocks, and for those that report in buckets the time of a long answer.
func Usual(provider string) Reach {
	if provider == "openai" || provider == "anthropic" {
		return Reach{Early: time.Minute, Late: 15 * time.Minute}
	}
	return Reach{Early: time.Minute, Late: 2 * time.Minute}
}

// account is one credential and what is done with it.
type account struct {
	credential string
	kind       export.Kind
}

// Reconcile compares an export with the ledgers. The mapping goes before what the custody statements say themselves. Every use in the ledgers may
// have been counted, whatever came of it, and none has to have been: an estate that uses its credentials through reeve alone has no stray.
func Reconcile(ctx context.Context, b *books.Books, x *export.Export, m Mapping, reach Reach) (*Result, error) {
	r := &Result{V: 1, Provider: x.Provider, From: x.From, To: x.To, AsOf: b.Now.UTC(), Whole: len(x.Unproven) == 0, Cannot: slices.Clone(x.Unproven), Strays: []Stray{}, Unmapped: []Unmapped{}, Judged: []Judged{}}
	if r.Whole {
		r.Cannot = []string{}
	}
	if !x.From.IsZero() {
		m = m.With(Known(b.History.In(x.From, x.To.Add(1))))
	}
	by := map[account][]export.Count{}
	for _, c := range x.Counts {
		if credential, ok := m.of(c.Keys); ok {
			a := account{credential, c.Kind}
			by[a] = append(by[a], c)
		} else if c.Requests > 0 && c.Kind == export.Use && x.Provider != "cloudtrail" { // an audit file and a trail are full of what is not ours
			r.unmapped(c)
		}
	}
	covered, err := r.coverage(ctx, b)
	if err != nil {
		return nil, err
	}
	ledgers, err := supplies(ctx, b, by, x, reach)
	if err != nil {
		return nil, err
	}
	for _, a := range slices.SortedFunc(maps.Keys(by), func(a, b account) int {
		return cmp.Or(cmp.Compare(a.credential, b.credential), cmp.Compare(a.kind, b.kind))
	}) {
		r.judge(a, ledgers[a], demandsOf(by[a]), reach, covered)
	}
	if x.AtLeast {
		r.Cannot = append(r.Cannot, fmt.Sprintf("%s reports tokens and no requests: a use within %s of one of ours is not told from it", x.Provider, reach.Late))
	}
	r.conclude(len(x.Counts) == 0 && !x.From.IsZero())
	return r, nil
}

// judge compares one credential.
func (r *Result) judge(a account, ledger []supply, demands []demand, reach Reach, c *coverage) {
	reach.match(ledger, demands)
	j := Judged{Credential: a.credential, Kind: a.kind}
	for _, s := range ledger {
		if !s.last.Before(r.From) && !s.first.After(r.To) {
			j.Ledger, j.Spare = j.Ledger+s.count, j.Spare+s.left
		}
	}
	for _, d := range hourly(demands) {
		j.Counted += d.count
		if d.open == 0 {
			continue
		}
		s := Stray{Credential: a.credential, Provider: r.Provider, Kind: a.kind, From: d.from, To: d.to, Counted: d.count, Ledger: d.inside, Tolerance: d.near,
			Difference: d.open, Confidence: Certain, Who: d.who}
		if !c.whole(a.credential, d.from.Add(-reach.Late), d.to.Add(reach.Early)) {
			s.Confidence = Unproven
		}
		r.Strays = append(r.Strays, s)
	}
	r.Judged = append(r.Judged, j)
}

// conclude says what it came to. idle means that the provider saw nothing at all.
func (r *Result) conclude(idle bool) {
	var sure, unsure int64
	for _, s := range r.Strays {
		if s.Confidence == Certain {
			sure += s.Difference
		} else {
			unsure += s.Difference
		}
	}
	var keys int64
	for _, u := range r.Unmapped {
		keys += u.Counted
	}
	switch {
	case sure > 0:
		r.State, r.Summary = OutOfBand, fmt.Sprintf("%s saw %d that no ledger has", r.Provider, sure)
	case unsure > 0:
		r.State, r.Summary = Undecided, fmt.Sprintf("%s saw %d that no ledger has, at a time that the ledgers do not cover whole", r.Provider, unsure)
	case keys > 0:
		r.State, r.Summary = Undecided, fmt.Sprintf("%s saw %d with keys that no credential is known by: add them to the mapping, or find whose they are", r.Provider, keys)
	case !r.Whole:
		r.State, r.Summary = Undecided, "nothing is out of band in an export that may not be whole"
	case len(r.Judged) == 0 && !idle:
		r.State, r.Summary = Undecided, "the export has nothing that could be compared"
	default:
		r.State, r.Summary = None, fmt.Sprintf("nothing of what %s saw is missing in the ledgers", r.Provider)
	}
}

func (r *Result) unmapped(c export.Count) {
	for i := range r.Unmapped {
		if u := &r.Unmapped[i]; slices.Equal(u.Keys, c.Keys) {
			u.Counted += c.Requests
			if c.From.Before(u.From) {
				u.From = c.From
			}
			if c.To.After(u.To) {
				u.To = c.To
			}
			return
		}
	}
	r.Unmapped = append(r.Unmapped, Unmapped{append([]string{}, c.Keys...), c.Requests, c.From, c.To})
}

// coverage says how far the ledgers of custodians go.
type coverage struct {
	history     *history.History
	first, last map[string]int64 // Unix time in nanoseconds, by process; successors continue a log
}

// coverage reads how far the ledgers go, and notes it.
func (r *Result) coverage(ctx context.Context, b *books.Books) (*coverage, error) {
	all, err := b.Index.Logs(ctx)
	if err != nil {
		return nil, err
	}
	c := &coverage{b.History, map[string]int64{}, map[string]int64{}}
	for _, l := range all {
		r.Sizes = append(r.Sizes, Size{l.ID, l.Size})
		if l.Size == 0 {
			continue
		}
		if f, ok := c.first[l.Process]; !ok || l.First < f {
			c.first[l.Process] = l.First
		}
		c.last[l.Process] = max(c.last[l.Process], l.Last)
	}
	return c, nil
}

// whole reports whether the ledgers of all custodians that served a credential reach over a time: one began before it, and all go on after it.
func (c *coverage) whole(credential string, from, to time.Time) bool {
	begun := false
	for _, s := range c.history.In(from, to) {
		_, _, known := s.Credential(credential)
		for _, u := range s.Custody {
			for _, k := range u.Custodians {
				if known && !s.Serves(k.ID, credential) {
					continue
				}
				first, ok := c.first[k.ID]
				if !ok || c.last[k.ID] < to.UnixNano() {
					return false
				}
				begun = begun || first <= from.UnixNano()
			}
		}
	}
	return begun
}

// supplies reads the uses of the accounts: by the hour from the index where the provider's buckets are no finer, else one by one from the ledgers.
func supplies(ctx context.Context, b *books.Books, by map[account][]export.Count, x *export.Export, reach Reach) (map[account][]supply, error) {
	list := map[account][]supply{}
	if len(by) == 0 {
		return list, nil
	}
	coarse := !slices.ContainsFunc(x.Counts, func(c export.Count) bool { return c.To.Sub(c.From) < time.Hour })
	f := index.Filter{From: x.From.Add(-reach.Late).Truncate(time.Hour), To: x.To.Add(reach.Early + time.Hour).Truncate(time.Hour), Types: []entry.Type{entry.Intent, entry.Mint}}
	put := func(credential string, typ entry.Type, first, last, n int64) {
		a := account{credential, export.Use}
		if typ == entry.Mint {
			a.kind = export.Read
		}
		if _, ok := by[a]; ok {
			list[a] = append(list[a], supply{first: time.Unix(0, first).UTC(), last: time.Unix(0, last).UTC(), count: n})
		}
	}
	probes, err := b.Index.Events(ctx, index.Filter{From: f.From, To: f.To, Types: []entry.Type{entry.Probe}})
	if err != nil {
		return nil, err
	}
	for _, p := range probes { // they are requests too
		put(p.Credential, entry.Intent, p.Time, p.Time, 1)
	}
	if !coarse {
		return list, each(ctx, b, f, func(e *entry.Entry) { put(e.Credential, e.Type, e.TimeNS, e.TimeNS, max(e.Count, 1)) })
	}
	uses, err := b.Index.Uses(ctx, f, index.ByHour, index.ByType, index.ByCredential)
	if err != nil {
		return nil, err
	}
	for _, u := range uses {
		put(u.Credential, u.Type, u.First, u.Last, u.Count)
	}
	return list, nil
}

var errEnd = errors.New("end of the window")

// each calls f with the window's entries of the types, one by one. Entries of a log are in the order of time.
func each(ctx context.Context, b *books.Books, w index.Filter, f func(*entry.Entry)) error {
	logsOf, err := b.Index.Uses(ctx, w, index.ByLog)
	if err != nil {
		return err
	}
	for _, u := range logsOf {
		i := slices.IndexFunc(b.Logs, func(l *logs.Log) bool { return l.ID == u.Log })
		if i < 0 {
			return fmt.Errorf("the books have no copy of log %s", u.Log)
		}
		err := b.Logs[i].Raw(u.FirstSeq, func(seq int64, raw []byte) error {
			e, err := entry.Parse(raw)
			if err != nil {
				return err
			}
			if e.TimeNS >= w.To.UnixNano() || ctx.Err() != nil {
				return cmp.Or(ctx.Err(), errEnd)
			}
			if slices.Contains(w.Types, e.Type) {
				f(e)
			}
			return nil
		})
		if err != nil && !errors.Is(err, errEnd) {
			return err
		}
	}
	return nil
}
