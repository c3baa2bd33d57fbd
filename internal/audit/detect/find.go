package detect

import (
	"context"
	"fmt"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/books"
	"github.com/reevehq/reeve/internal/audit/index"
	"github.com/reevehq/reeve/internal/audit/logs"
)

// Find is the findings of the books that go on in [from, to). What was used before is taken from the index; single entries are read from an hour
// before the window on, the longest that a rule looks back.
func Find(ctx context.Context, b *books.Books, from, to time.Time) (list []*Finding, err error) {
	d := New(b.History)
	err = d.replay(ctx, b, from, func(e *entry.Entry) bool {
		if e.TimeNS >= to.UnixNano() {
			return false
		}
		d.Add(e)
		return true
	})
	if err != nil {
		return nil, err
	}
	list = []*Finding{}
	for _, f := range d.Findings() {
		if !f.Last.Before(from) {
			list = append(list, f)
		}
	}
	return list, nil
}

// Resume makes a detector that has seen everything below next, by log id: the next entries to add are those.
func Resume(ctx context.Context, b *books.Books, next func(log string) int64) (*Detector, error) {
	d := New(b.History)
	since := b.Now
	for _, l := range b.Logs {
		for e, err := range l.Entries(max(next(l.ID)-1, 0)) {
			if err != nil {
				return nil, err
			}
			if t := instant(e.TimeNS); t.Before(since) {
				since = t
			}
			break
		}
	}
	return d, d.replay(ctx, b, since, func(e *entry.Entry) bool {
		if e.Seq < next(e.Log) {
			d.Add(e)
		}
		return true
	})
}

// replay reads the books from the time on that the rules need in order to find what goes on at from. What was before, it learns from the index. It ends
// where take is false.
func (d *Detector) replay(ctx context.Context, b *books.Books, from time.Time, take func(*entry.Entry) bool) error {
	since := from.Add(-d.longest())
	if err := d.learn(ctx, b, since); err != nil {
		return err
	}
	begin, err := seek(b.Logs, since)
	if err != nil {
		return err
	}
	for e, err := range logs.Merge(b.Logs, begin) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		if !take(e) {
			break
		}
	}
	return nil
}

// longest is how far the rules look back.
func (d *Detector) longest() (most time.Duration) {
	for _, r := range d.Rules {
		most = max(most, r.Window)
	}
	return most
}

// learn takes from the index when each ledger began, and who used what before t.
func (d *Detector) learn(ctx context.Context, b *books.Books, t time.Time) error {
	all, err := b.Index.Logs(ctx)
	if err != nil {
		return fmt.Errorf("reading when the ledgers began: %w", err)
	}
	for _, l := range all {
		if l.Size > 0 {
			d.Begun(l.ID, instant(l.First))
		}
	}
	uses, err := b.Index.Uses(ctx, index.Filter{To: t, Types: []entry.Type{entry.Intent}}, index.ByWorkload, index.ByCredential)
	if err != nil {
		return fmt.Errorf("reading what was used before: %w", err)
	}
	for _, u := range uses {
		d.Known(u.Workload, u.Credential)
	}
	return nil
}

// seek is where each log begins at t.
func seek(all []*logs.Log, t time.Time) (func(string) int64, error) {
	begin := map[string]int64{}
	for _, l := range all {
		n, err := l.Seek(t)
		if err != nil {
			return nil, err
		}
		begin[l.ID] = n
	}
	return func(id string) int64 { return begin[id] }, nil
}
