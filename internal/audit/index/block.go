package index

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Sums are stored in blocks: those of one hour or day of subjects whose ids follow one another. A block is read and written whole.

// block is how many subjects' sums stand together.
const block = 256

// Lengths of what is summed up, in seconds.
const (
	hourly = 3600
	daily  = 86400
)

// spot is where a block stands.
type spot struct{ length, since, number int64 }

func (s spot) compare(o spot) int {
	return cmp.Or(cmp.Compare(s.length, o.length), cmp.Compare(s.since, o.since), cmp.Compare(s.number, o.number))
}

// row is a sum of a block.
type row struct {
	subject, estate int64
	Sum
}

func (r row) compare(o row) int {
	return cmp.Or(cmp.Compare(r.subject, o.subject), cmp.Compare(r.estate, o.estate))
}

// errBlock means that a block is not one.
var errBlock = errors.New("the index is damaged: sums cannot be read; rebuild it (reeve audit rebuild)")

// pack writes rows as signed varints (encoding/binary), each number as its distance from one that is near: ids and numbers of entries from the
// row before, times from the hour or day.
func (s spot) pack(rows []row) []byte {
	b := make([]byte, 0, 32*len(rows))
	last := row{subject: s.number * block}
	for _, r := range rows {
		for _, n := range [...]int64{r.subject - last.subject, r.estate - last.estate, r.Count, r.FirstSeq - last.FirstSeq, r.LastSeq - r.FirstSeq,
			r.First - s.since*1e9, r.Last - r.First, r.Count - r.Done, r.Failed, r.Bytes} {
			b = binary.AppendVarint(b, n)
		}
		last = r
	}
	return b
}

// unpack calls do with each row of a block.
func (s spot) unpack(b []byte, do func(*row) error) error {
	r, n := row{subject: s.number * block}, [10]int64{}
	for len(b) > 0 {
		for i := range n {
			v, size := binary.Varint(b)
			if size <= 0 {
				return errBlock
			}
			n[i], b = v, b[size:]
		}
		r.subject, r.estate, r.FirstSeq = r.subject+n[0], r.estate+n[1], r.FirstSeq+n[3]
		r.Count, r.LastSeq, r.First, r.Done, r.Failed, r.Bytes = n[2], r.FirstSeq+n[4], s.since*1e9+n[5], n[2]-n[7], n[8], n[9]
		r.Last = r.First + n[6]
		if r.subject < s.number*block || r.subject >= (s.number+1)*block {
			return errBlock
		}
		if err := do(&r); err != nil {
			return err
		}
	}
	return nil
}

// merged sorts rows and makes one of those that are of one subject and policy set.
func merged(rows []row) []row {
	slices.SortFunc(rows, row.compare)
	list := rows[:0]
	for _, r := range rows {
		if n := len(list) - 1; n >= 0 && list[n].compare(r) == 0 {
			list[n].merge(&r.Sum)
		} else {
			list = append(list, r)
		}
	}
	return list
}

// sums adds the batch's sums to the blocks in which they belong.
func (b *Batch) sums(ctx context.Context, tx *sql.Tx, d *words) error {
	blocks := map[spot][]row{}
	for k, u := range b.m.uses {
		r, err := d.row(ctx, k)
		if err != nil {
			return err
		}
		r.Sum = u.Sum
		for _, length := range []int64{hourly, daily} {
			at := spot{length, k.Hour - k.Hour%length, r.subject / block}
			blocks[at] = append(blocks[at], r)
		}
	}
	spots := make([]spot, 0, len(blocks))
	for at := range blocks {
		spots = append(spots, at)
	}
	slices.SortFunc(spots, spot.compare)
	args := make([][]any, 0, len(spots))
	for _, at := range spots {
		rows := blocks[at]
		err := each(ctx, tx, func(scan func(...any) error) error {
			var body sql.RawBytes
			if err := scan(&body); err != nil {
				return err
			}
			return at.unpack(body, func(r *row) error {
				rows = append(rows, *r)
				return nil
			})
		}, `SELECT sums FROM reeve_index_sum WHERE length = $1 AND since = $2 AND block = $3`, at.length, at.since, at.number)
		if err != nil {
			return err
		}
		args = append(args, []any{at.length, at.since, at.number, at.pack(merged(rows))})
	}
	return b.x.insert(ctx, tx, "reeve_index_sum", ` ON CONFLICT (length, since, block) DO UPDATE SET sums = excluded.sums`, args)
}

// topics are the subjects of a block; the ids that are not given yet have the zero subject.
type topics [block]subject

// stretch is how many blocks of subjects are in memory together while sums are read.
const stretch = remembered / block

// sums calls do with the sums of the hours or days in [from, to) that are chosen, and their subjects. The row is the callee's until it returns.
func (x *Index) sums(ctx context.Context, db *sql.Tx, length, from, to int64, c choice, do func(since int64, s *subject, r *row) error) error {
	if c.few != nil {
		return x.fewSums(ctx, db, length, from, to, c, do)
	}
	var first, last sql.NullInt64
	where := fmt.Sprintf("length = %d AND since >= %d AND since < %d", length, from, to)
	err := db.QueryRowContext(ctx, `SELECT MIN(block), MAX(block) FROM reeve_index_sum WHERE `+where).Scan(&first, &last)
	if err != nil || !first.Valid {
		return err
	}
	for begin := first.Int64; begin <= last.Int64; begin += stretch {
		end := min(begin+stretch, last.Int64+1)
		subjects, err := x.subjects(ctx, db, begin, end)
		if err != nil {
			return err
		}
		var at int64
		var of *topics
		err = x.rows(ctx, db, length, fmt.Sprintf("%s AND block >= %d AND block < %d", where, begin, end), func(since int64, r *row) error {
			if n := r.subject / block; of == nil || n != at {
				at, of = n, subjects[n]
			}
			s := &of[r.subject%block]
			if !c.has(s) {
				return nil
			}
			return do(since, s, r)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// fewSums is sums for few subjects: it reads their blocks alone.
func (x *Index) fewSums(ctx context.Context, db *sql.Tx, length, from, to int64, c choice, do func(since int64, s *subject, r *row) error) error {
	var first, last sql.NullInt64
	err := db.QueryRowContext(ctx, fmt.Sprintf(`SELECT MIN(since) FROM reeve_index_sum WHERE length = %d AND since >= %d`, length, from)).Scan(&first)
	if err == nil {
		err = db.QueryRowContext(ctx, fmt.Sprintf(`SELECT MAX(since) FROM reeve_index_sum WHERE length = %d AND since < %d`, length, to)).Scan(&last)
	}
	if err != nil || !first.Valid || !last.Valid || first.Int64 > last.Int64 || len(c.few) == 0 {
		return err
	}
	var blocks []string
	for id := range c.few {
		if n := fmt.Sprint(id / block); !slices.Contains(blocks, n) {
			blocks = append(blocks, n)
		}
	}
	// each hour or day is looked up, rather than reading all of them
	where := fmt.Sprintf(`length = %d AND since IN (WITH RECURSIVE span (at) AS (SELECT CAST(%d AS BIGINT) UNION ALL SELECT at + %d FROM span WHERE at + %d <= %d) SELECT at FROM span)
		AND block IN (%s)`, length, first.Int64, length, length, last.Int64, strings.Join(blocks, ", "))
	return x.rows(ctx, db, length, where, func(since int64, r *row) error {
		if s := c.few[r.subject]; s != nil {
			return do(since, s, r)
		}
		return nil
	})
}

// rows calls do with the rows of blocks.
func (x *Index) rows(ctx context.Context, db querier, length int64, where string, do func(since int64, r *row) error) error {
	return each(ctx, db, func(scan func(...any) error) error {
		at := spot{length: length}
		var body sql.RawBytes
		if err := scan(&at.since, &at.number, &body); err != nil {
			return err
		}
		return at.unpack(body, func(r *row) error { return do(at.since, r) })
	}, `SELECT since, block, sums FROM reeve_index_sum WHERE `+where)
}

// subjects are the subjects of the blocks in [begin, end).
func (x *Index) subjects(ctx context.Context, db querier, begin, end int64) (map[int64]*topics, error) {
	all := map[int64]*topics{}
	x.mu.Lock()
	defer x.mu.Unlock()
	for ; begin < end && x.parts[begin] != nil; begin++ {
		all[begin] = x.parts[begin]
	}
	for n := begin; n < end; n++ {
		all[n] = new(topics)
	}
	if begin == end {
		return all, nil
	}
	err := each(ctx, db, func(scan func(...any) error) error {
		id, s, err := scanSubject(scan)
		if err == nil {
			all[id/block][id%block] = s
		}
		return err
	}, fmt.Sprintf(`SELECT * FROM reeve_index_subject WHERE id >= %d AND id < %d`, begin*block, end*block))
	if err != nil {
		return nil, err
	}
	for n := begin; n < end; n++ {
		if all[n][block-1] != (subject{}) { // others are not whole yet
			x.parts[n] = all[n]
		}
	}
	return all, nil
}
