package index

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/reevehq/reeve/entry"
)

// Batch gathers entries in memory and adds what they sum up to in one transaction, together with how far the logs are indexed then: a
// crash loses or doubles nothing.
type Batch struct {
	x       *Index
	was     map[string]int64 // sizes of logs that the batch goes on from
	m       *Memory
	entries int
	endless bool // is never full
}

// Batch begins a batch of logs: those that the index has go on from their size there.
func (x *Index) Batch(ctx context.Context, all ...Log) (*Batch, error) {
	have, err := x.Logs(ctx)
	if err != nil {
		return nil, err
	}
	b := &Batch{x: x, was: map[string]int64{}}
	for i, l := range all {
		all[i].Size, b.was[l.ID] = 0, 0
		if j := slices.IndexFunc(have, func(h Log) bool { return h.ID == l.ID }); j >= 0 {
			all[i], b.was[l.ID] = have[j], have[j].Size
		}
	}
	b.m = NewMemory(all...)
	b.m.before = func(of intent) (Uses, bool, error) { return x.opened(ctx, x.reader(), of) }
	return b, nil
}

// Size is how many entries of a log the index has with the batch.
func (b *Batch) Size(log string) int64 {
	if l := b.m.logs[log]; l != nil {
		return l.Size
	}
	return 0
}

// Add takes the next entry of a log.
func (b *Batch) Add(e *entry.Entry) error {
	b.entries++
	return b.m.Add(e)
}

// rows that a batch holds at most, and entries that it sums up at most.
const (
	maxRows    = 1 << 16
	maxEntries = 1 << 20
)

// Full reports whether the batch had better be committed.
func (b *Batch) Full() bool {
	return !b.endless && (b.entries >= maxEntries || len(b.m.uses)+len(b.m.open)+len(b.m.ended)+len(b.m.events)+b.m.said >= b.x.most)
}

// opened is the sum that an intent without an outcome is counted in.
func (x *Index) opened(ctx context.Context, db querier, of intent) (u Uses, ok bool, err error) {
	log, err := x.look(ctx, db, of.log)
	if err != nil || log == 0 {
		return u, false, err
	}
	var since, id, estate int64
	err = each(ctx, db, func(scan func(...any) error) error {
		ok = true
		return scan(&since, &id, &estate)
	}, `SELECT since, subject, estate FROM reeve_index_open WHERE log = $1 AND seq = $2`, log, of.seq)
	if err != nil || !ok {
		return u, false, err
	}
	some, err := x.some(ctx, db, fmt.Sprintf("id = %d", id))
	if err != nil {
		return u, false, err
	}
	g, s := newGroups(Columns), some[id]
	where := fmt.Sprintf("length = %d AND since = %d AND block = %d", hourly, since, id/block)
	err = x.rows(ctx, db, hourly, where, func(since int64, r *row) error {
		if s == nil || r.subject != id || r.estate != estate {
			return nil
		}
		return g.add(since, s, r)
	})
	sums := map[Key]*Uses{}
	if err == nil {
		err = g.named(ctx, x, db, sums)
	}
	if err == nil && len(sums) != 1 {
		err = fmt.Errorf("the index is damaged: intent %d of %s is counted nowhere; rebuild it (reeve audit rebuild)", of.seq, of.log)
	}
	if err != nil {
		return u, false, err
	}
	return sorted(sums)[0], true, nil
}

// Commit adds the batch. After an error nothing of it is there, and another batch begins where this one did.
func (b *Batch) Commit(ctx context.Context) error {
	x := b.x
	x.trim()
	err := x.write(ctx, func(tx *sql.Tx) error {
		d, err := x.dictionary(ctx, tx)
		if err != nil {
			return err
		}
		for _, part := range []struct {
			name string
			do   func(context.Context, *sql.Tx, *words) error
		}{{"logs", b.logs}, {"sums", b.sums}, {"open", b.open}, {"events", b.events}, {"versions", b.versions}, {"words", func(ctx context.Context, tx *sql.Tx, d *words) error { return d.enter(ctx, tx) }}} {
			if err := part.do(ctx, tx, d); err != nil {
				return fmt.Errorf("%s: %w", part.name, err)
			}
			x.step(part.name)
		}
		return nil
	})
	if err != nil {
		x.forget() // ids that were given are not there
		return fmt.Errorf("adding to the index: %w", err)
	}
	x.step("committed")
	return nil
}

// errMoved means that the index has grown by another's hand since the batch began.
var errMoved = errors.New("somebody else has added to it")

// logs says how far the logs are indexed, if they still are where the batch began.
func (b *Batch) logs(ctx context.Context, tx *sql.Tx, _ *words) error {
	for _, l := range b.m.logs {
		body, err := json.Marshal(l)
		if err != nil {
			return err
		}
		var done sql.Result
		if was := b.was[l.ID]; was > 0 {
			done, err = tx.ExecContext(ctx, `UPDATE reeve_index_log SET size = $1, body = $2 WHERE id = $3 AND size = $4`, l.Size, string(body), l.ID, was)
		} else {
			done, err = tx.ExecContext(ctx, `INSERT INTO reeve_index_log (id, size, body) VALUES ($1, $2, $3)
				ON CONFLICT (id) DO UPDATE SET size = excluded.size, body = excluded.body WHERE reeve_index_log.size = 0`, l.ID, l.Size, string(body))
		}
		if err != nil {
			return err
		}
		if n, err := done.RowsAffected(); err != nil || n != 1 {
			return errors.Join(errMoved, err)
		}
	}
	return nil
}

// row is what a key's sum is stored under.
func (d *words) row(ctx context.Context, k Key) (r row, err error) {
	if r.subject, err = d.subject(ctx, k); err != nil {
		return r, err
	}
	r.estate, err = d.id(ctx, k.Estate)
	return r, err
}

func (b *Batch) open(ctx context.Context, tx *sql.Tx, d *words) error {
	args := make([][]any, 0, len(b.m.open))
	for of, u := range b.m.open {
		log, err := d.id(ctx, of.log)
		if err != nil {
			return err
		}
		r, err := d.row(ctx, u.Key)
		if err != nil {
			return err
		}
		args = append(args, []any{log, of.seq, u.Hour, r.subject, r.estate})
	}
	if err := b.x.insert(ctx, tx, "reeve_index_open", "", args); err != nil {
		return err
	}
	for of := range b.m.ended {
		log, err := d.id(ctx, of.log)
		if err == nil {
			_, err = tx.ExecContext(ctx, `DELETE FROM reeve_index_open WHERE log = $1 AND seq = $2`, log, of.seq)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *Batch) events(ctx context.Context, tx *sql.Tx, d *words) error {
	args := make([][]any, 0, len(b.m.events))
	for _, e := range b.m.events {
		ids, err := d.ids(ctx, e.Log, string(e.Type), e.Credential)
		if err != nil {
			return err
		}
		body, err := json.Marshal(e)
		if err != nil {
			return err
		}
		args = append(args, []any{ids[0], e.Seq, e.Time, ids[1], ids[2], string(body)})
	}
	return b.x.insert(ctx, tx, "reeve_index_event", "", args)
}

func (b *Batch) versions(ctx context.Context, tx *sql.Tx, d *words) error {
	var past [][]any
	for at, said := range b.m.versions {
		ids, err := d.ids(ctx, at.log, at.credential, at.workload, at.lease)
		if err != nil {
			return err
		}
		var l life
		err = each(ctx, tx, func(scan func(...any) error) error {
			var body string
			if err := scan(&body); err != nil {
				return err
			}
			l = life{Version{}}
			return json.Unmarshal([]byte(body), &l[0])
		}, `SELECT body FROM reeve_index_version WHERE log = $1 AND credential = $2 AND workload = $3 AND lease = $4`, ids...)
		if err != nil {
			return err
		}
		for i := range said {
			l = l.extended(&said[i])
		}
		newest := l[len(l)-1]
		body, err := json.Marshal(newest)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO reeve_index_version (log, credential, workload, lease, bound, since, body) VALUES ($1, $2, $3, $4, $5, $6, $7)
			ON CONFLICT (log, credential, workload, lease) DO UPDATE SET since = excluded.since, body = excluded.body`, append(ids, newest.Bound, newest.Since, string(body))...)
		if err != nil {
			return err
		}
		for _, was := range l.past() {
			if body, err = json.Marshal(was); err != nil {
				return err
			}
			past = append(past, []any{ids[0], was.StateSeq, ids[1], was.Bound, was.Since, was.Until, string(body)})
		}
	}
	return b.x.insert(ctx, tx, "reeve_index_past", "", past)
}

// together is how many rows one statement inserts.
const together = 256

// insert inserts rows, many with one statement.
func (x *Index) insert(ctx context.Context, tx *sql.Tx, table, conflict string, rows [][]any) error {
	var full *sql.Stmt
	for part := range slices.Chunk(rows, together) {
		args := slices.Concat(part...)
		if len(part) < together {
			if _, err := tx.ExecContext(ctx, x.inserting(table, conflict, len(part), len(part[0])), args...); err != nil {
				return err
			}
			continue
		}
		if full == nil {
			var err error
			if full, err = tx.PrepareContext(ctx, x.inserting(table, conflict, together, len(part[0]))); err != nil {
				return err
			}
			defer full.Close()
		}
		if _, err := full.ExecContext(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}

// inserting is the statement that inserts rows. SQLite gets parameters without names: it looks each name up among all of them.
func (x *Index) inserting(table, conflict string, rows, columns int) string {
	var b strings.Builder
	b.WriteString("INSERT INTO " + table + " VALUES ")
	for n := range rows * columns {
		switch {
		case n%columns > 0:
			b.WriteString(",")
		case n > 0:
			b.WriteString("),(")
		default:
			b.WriteString("(")
		}
		if x.server {
			fmt.Fprintf(&b, "$%d", n+1)
		} else {
			b.WriteString("?")
		}
	}
	return b.String() + ")" + conflict
}
