package index

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/reevehq/reeve/internal/audit/logs"
)

// Current is an index at one moment together with entries that are newer than it. It is safe for concurrent use, and answers one question after
// another: the moment is a transaction, which one connection has.
type Current struct {
	mu   sync.Mutex // spans the use of x and tail
	x    *Index
	tail *Memory // what came later; every entry's sum is kept apart, so that windows are exact
}

var _ Reader = (*Current)(nil)

// current reads what the copies have more than the index. The index stands still from here on. After an error it is closed.
func (x *Index) current(ctx context.Context, all []*logs.Log) (c *Current, err error) {
	c = &Current{x: x.With(all)}
	if x.held, _, err = x.still(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	b, err := x.Batch(ctx, named(all)...)
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	b.endless, b.m.apart = true, true
	b.m.before = func(of intent) (Uses, bool, error) {
		u, ok, err := x.opened(ctx, x.held, of)
		if l := x.tiles[of.log]; ok && l != nil {
			e, _, err := l.Entry(of.seq)
			if err != nil {
				return u, false, err
			}
			u.First = e.TimeNS
		}
		return u, ok, err
	}
	for _, l := range all {
		if err := b.log(ctx, l); err != nil {
			return nil, errors.Join(err, c.Close())
		}
	}
	c.tail = b.m
	return c, nil
}

// Close ends the use of the index.
func (c *Current) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.x.Close()
}

// Uses implements Reader.
func (c *Current) Uses(ctx context.Context, f Filter, by ...Column) ([]Uses, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	list, err := c.x.Uses(ctx, f, by...)
	if err != nil {
		return nil, err
	}
	later, err := c.tail.Uses(ctx, f, by...)
	if err != nil || len(later) == 0 {
		return list, err
	}
	sums := map[Key]*Uses{}
	for _, u := range slices.Concat(list, later) {
		add(sums, u.Key, &u.Sum)
	}
	return sorted(sums), nil
}

// Events implements Reader.
func (c *Current) Events(ctx context.Context, f Filter) ([]Event, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	list, err := c.x.Events(ctx, f)
	if err != nil {
		return nil, err
	}
	later, err := c.tail.Events(ctx, f)
	list = append(list, later...)
	slices.SortFunc(list, Event.compare)
	return list, err
}

// Versions implements Reader.
func (c *Current) Versions(ctx context.Context, f Filter) ([]Version, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	every := Filter{Credential: f.Credential, To: f.To} // what came later may have ended one
	list, err := c.x.Versions(ctx, every)
	if err != nil {
		return nil, err
	}
	later, err := c.tail.Versions(ctx, every)
	if err != nil {
		return nil, err
	}
	newest := map[place]int64{} // number of the entry that said what the index knows
	if len(later) > 0 {
		all, err := c.x.Versions(ctx, Filter{Credential: f.Credential})
		if err != nil {
			return nil, err
		}
		for _, v := range all {
			newest[v.place()] = v.StateSeq
		}
	}
	at := map[place]int{}
	for i, v := range list {
		at[v.place()] = i
	}
	for _, v := range later {
		seq, known := newest[v.place()]
		i, ok := at[v.place()]
		switch {
		case !known:
			list = append(list, v)
		case ok && list[i].StateSeq == seq: // else the index already has what came after the window
			list[i].merge(&v)
		}
	}
	list = slices.DeleteFunc(list, func(v Version) bool { return !f.version(&v) })
	slices.SortFunc(list, Version.compare)
	return list, nil
}

// past is every state that a version had and has no more.
func (c *Current) past(ctx context.Context) (list []Past, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	err = c.x.past(ctx, c.x.reader(), func(p Past) error {
		list = append(list, p)
		return nil
	})
	if err != nil || len(c.tail.versions) == 0 {
		return list, err
	}
	all, err := c.x.Versions(ctx, Filter{})
	was := map[place]Version{}
	for _, v := range all {
		was[v.place()] = v
	}
	for at, said := range c.tail.versions {
		var l life
		if v, ok := was[at]; ok {
			l = life{v}
		}
		for i := range said {
			l = l.extended(&said[i])
		}
		list = append(list, l.past()...)
	}
	slices.SortFunc(list, func(a, b Past) int { return a.Version.compare(b.Version) })
	return list, err
}

// Logs implements Reader.
func (c *Current) Logs(ctx context.Context) ([]Log, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	list, err := c.x.Logs(ctx)
	if err != nil {
		return nil, err
	}
	for _, l := range c.tail.logs {
		list = slices.DeleteFunc(list, func(o Log) bool { return o.ID == l.ID })
		list = append(list, *l)
	}
	slices.SortFunc(list, func(a, b Log) int { return strings.Compare(a.Origin, b.Origin) })
	return list, nil
}

// Hash implements Reader. Unlike an index's it holds everything in memory, unless nothing is newer than the index.
func (c *Current) Hash(ctx context.Context) (string, error) {
	logs, err := c.Logs(ctx)
	if err != nil {
		return "", err
	}
	uses, err := c.Uses(ctx, Filter{}, Columns...)
	if err != nil {
		return "", err
	}
	events, err := c.Events(ctx, Filter{})
	if err != nil {
		return "", err
	}
	versions, err := c.Versions(ctx, Filter{})
	if err != nil {
		return "", err
	}
	past, err := c.past(ctx)
	h := sha256.New()
	to := json.NewEncoder(h)
	err = errors.Join(err, encode(to, logs), encode(to, uses), encode(to, events), encode(to, versions), encode(to, past))
	return hex.EncodeToString(h.Sum(nil)), err
}
