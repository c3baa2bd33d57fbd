package index

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/reevehq/reeve/entry"
)

// still begins a transaction in which the index stands still.
func (x *Index) still(ctx context.Context) (db *sql.Tx, done func(), err error) {
	if x.held != nil {
		return x.held, func() {}, nil
	}
	opts := &sql.TxOptions{ReadOnly: true}
	if x.server {
		opts.Isolation = sql.LevelRepeatableRead
	}
	if db, err = x.db.BeginTx(ctx, opts); err != nil {
		return nil, nil, fmt.Errorf("reading the index: %w", err)
	}
	x.trim()
	return db, func() { db.Rollback() }, nil
}

// span is a filter's window in nanoseconds, [from, to).
func (f *Filter) span() (from, to int64) {
	from, to = 0, math.MaxInt64
	if !f.From.IsZero() {
		from = max(f.From.UnixNano(), 0)
	}
	if !f.To.IsZero() {
		to = f.To.UnixNano()
	}
	return from, to
}

// choice is which subjects a filter chooses.
type choice struct {
	is  string // a condition on subject
	few int64  // how many they are, where that is known to be few; 0 otherwise
}

// few is how many subjects at most are looked for in each hour or day, rather than reading all sums of it.
const few = 64

// chosen is what a filter chooses.
func (x *Index) chosen(ctx context.Context, db *sql.Tx, f *Filter) (c choice, err error) {
	var is []string
	for _, m := range []struct {
		column Column
		words  []string
	}{
		{ByLog, []string{f.Log}}, {ByType, types(f.Types)}, {ByTenant, []string{f.Tenant}}, {ByUnit, []string{f.Unit}}, {ByWorkload, []string{f.Workload}},
		{ByGateway, []string{f.Gateway}}, {ByCredential, []string{f.Credential}}, {ByFingerprint, []string{f.Fingerprint}},
	} {
		if len(m.words) == 0 || m.words[0] == "" {
			continue
		}
		ids, err := x.looks(ctx, db, m.words)
		if err != nil {
			return c, err
		}
		is = append(is, fmt.Sprintf("%s IN (%s)", m.column, ids))
	}
	if len(is) == 0 {
		return choice{is: "1 = 1"}, nil
	}
	those := "SELECT id FROM reeve_index_subject WHERE " + strings.Join(is, " AND ")
	c.is = "subject IN (" + those + ")"
	err = db.QueryRowContext(ctx, fmt.Sprintf(`SELECT COUNT(*) FROM (%s LIMIT %d) AS some_of_them`, those, few+1)).Scan(&c.few)
	if c.few > few {
		c.few = 0
	}
	return c, err
}

// looks returns the ids of words as a list in SQL; a word that is not there has 0, which nothing has.
func (x *Index) looks(ctx context.Context, db querier, words []string) (string, error) {
	var ids []string
	for _, w := range words {
		id, err := x.look(ctx, db, w)
		if err != nil {
			return "", err
		}
		ids = append(ids, fmt.Sprint(id))
	}
	return strings.Join(ids, ", "), nil
}

func types(all []entry.Type) (list []string) {
	for _, t := range all {
		list = append(list, string(t))
	}
	return list
}

// added are a sum's columns, added up.
const added = `, CAST(SUM(count) AS BIGINT) AS count, MIN(first_seq) AS first_seq, MAX(last_seq) AS last_seq, MIN(first) AS first, MAX(last) AS last,
	CAST(SUM(done) AS BIGINT) AS done, CAST(SUM(failed) AS BIGINT) AS failed, CAST(SUM(bytes) AS BIGINT) AS bytes`

// Uses implements Reader. Whole days are read as such, unless hours are kept apart.
func (x *Index) Uses(ctx context.Context, f Filter, by ...Column) ([]Uses, error) {
	from, to := f.span()
	if from >= to {
		return nil, nil
	}
	db, done, err := x.still(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	chosen, err := x.chosen(ctx, db, &f)
	if err != nil {
		return nil, err
	}
	sums := map[Key]*Uses{}
	begin, end := (from+hour-1)/hour*3600, to/hour*3600 // the hours that are whole
	if from%hour != 0 {
		err = x.edge(ctx, db, from/hour*3600, from, to, chosen.is, by, sums)
	}
	if err == nil && to%hour != 0 && to != math.MaxInt64 && (to/hour != from/hour || from%hour == 0) {
		err = x.edge(ctx, db, to/hour*3600, from, to, chosen.is, by, sums)
	}
	if err != nil {
		return nil, err
	}
	if to == math.MaxInt64 {
		end = to
	}
	type part struct {
		table      string
		begin, end int64
	}
	parts := []part{{"hour", begin, end}}
	if first, last := (begin+day-1)/day*day, end/day*day; first < last && !slices.Contains(by, ByHour) {
		parts = []part{{"hour", begin, first}, {"day", first, last}, {"hour", last, end}}
	}
	for _, p := range parts {
		if p.begin >= p.end {
			continue
		}
		begin, end, err := x.extent(ctx, db, p.table, p.begin, p.end)
		if err == nil && begin < end {
			err = x.grouped(ctx, db, p.table, chosen.within(p.table, begin, end), by, sums)
		}
		if err != nil {
			return nil, err
		}
	}
	return sorted(sums), nil
}

// extent is the part of a span in which a table has something.
func (x *Index) extent(ctx context.Context, db *sql.Tx, table string, begin, end int64) (first, last int64, err error) {
	var from, to sql.NullInt64
	err = db.QueryRowContext(ctx, fmt.Sprintf(`SELECT MIN(since) FROM reeve_index_%s WHERE since >= %d`, table, begin)).Scan(&from)
	if err == nil {
		err = db.QueryRowContext(ctx, fmt.Sprintf(`SELECT MAX(since) FROM reeve_index_%s WHERE since < %d`, table, end)).Scan(&to)
	}
	if err != nil || !from.Valid || !to.Valid {
		return 0, 0, err
	}
	return from.Int64, to.Int64 + 1, nil
}

// within is the condition of sums between two hours or days that have something.
func (c choice) within(table string, begin, end int64) string {
	if c.few == 0 {
		return fmt.Sprintf("since >= %d AND since < %d AND %s", begin, end, c.is)
	}
	step := int64(3600)
	if table == "day" {
		step = day
	}
	return fmt.Sprintf("since IN (WITH RECURSIVE span (at) AS (SELECT CAST(%d AS BIGINT) UNION ALL SELECT at + %d FROM span WHERE at + %d < %d) SELECT at FROM span) AND %s",
		begin, step, step, end, c.is)
}

// grouped adds up the sums of a table by columns.
func (x *Index) grouped(ctx context.Context, db querier, table, where string, by []Column, sums map[Key]*Uses) error {
	inner, outer := []string{"subject"}, []string{}
	for _, c := range by {
		switch c {
		case ByHour:
			inner, outer = append(inner, "since"), append(outer, "u.since")
		case ByEstate:
			inner, outer = append(inner, "estate"), append(outer, "u.estate")
		default:
			outer = append(outer, "s."+string(c))
		}
	}
	keys := strings.Join(inner, ", ")
	query := fmt.Sprintf(`WITH u AS (SELECT %s%s FROM reeve_index_%s WHERE %s GROUP BY %s) SELECT `, keys, added, table, where, keys)
	group := strings.Join(outer, ", ")
	query += strings.TrimPrefix(group+added, ", ") + ` FROM u JOIN reeve_index_subject s ON s.id = u.subject `
	if group == "" {
		query += `HAVING COUNT(*) > 0`
	} else {
		query += `GROUP BY ` + group
	}
	type answer struct {
		ids []int64
		Uses
	}
	var all []answer
	err := each(ctx, db, func(scan func(...any) error) error {
		a := answer{ids: make([]int64, len(by))}
		var to []any
		for i := range a.ids {
			to = append(to, &a.ids[i])
		}
		err := scan(append(to, a.columns()...)...)
		all = append(all, a)
		return err
	}, query)
	if err != nil {
		return err
	}
	need := map[int64]bool{}
	for _, a := range all {
		for i, c := range by {
			if c != ByHour {
				need[a.ids[i]] = true
			}
		}
	}
	words, err := x.load(ctx, db, need)
	if err != nil {
		return err
	}
	for _, a := range all {
		var k Key
		for i, c := range by {
			if c == ByHour {
				k.Hour = a.ids[i]
			} else {
				*k.member(c) = words[a.ids[i]]
			}
		}
		add(sums, k, &a.Uses)
	}
	return nil
}

// columns are where a stored sum is read to.
func (u *Uses) columns() []any {
	return []any{&u.Count, &u.FirstSeq, &u.LastSeq, &u.First, &u.Last, &u.Done, &u.Failed, &u.Bytes}
}

// stored is a sum as it is read, with the words of its subject.
type stored struct {
	since, id, estate int64
	words             subject
	Uses
}

// hourly reads all sums of an hour that a condition chooses, with their keys.
func (x *Index) hourly(ctx context.Context, db querier, since int64, chosen string) (list []Uses, err error) {
	var all []stored
	need := map[int64]bool{}
	err = each(ctx, db, func(scan func(...any) error) error {
		var s stored
		to := []any{&s.since, &s.id, &s.estate}
		for i := range s.words {
			to = append(to, &s.words[i])
		}
		if err := scan(append(to, s.columns()...)...); err != nil {
			return err
		}
		need[s.estate] = true
		for _, w := range s.words {
			need[w] = true
		}
		all = append(all, s)
		return nil
	}, `SELECT since, subject, estate, log, type, tenant, unit, workload, gateway, credential, fingerprint, decision, reason, level, proof,
		count, first_seq, last_seq, first, last, done, failed, bytes
		FROM reeve_index_hour JOIN reeve_index_subject ON id = subject WHERE since = $1 AND `+chosen, since)
	if err != nil {
		return nil, err
	}
	words, err := x.load(ctx, db, need)
	if err != nil {
		return nil, err
	}
	for _, s := range all {
		s.Hour, s.Estate = s.since, words[s.estate]
		for i, to := range s.subject() {
			*to = words[s.words[i]]
		}
		list = append(list, s.Uses)
	}
	return list, nil
}

// eventWhere is the condition that an event may be one that the filter chooses.
func (x *Index) eventWhere(ctx context.Context, db querier, f *Filter) (string, error) {
	from, to := f.span()
	where := fmt.Sprintf("time >= %d AND time < %d", from, to)
	if to == math.MaxInt64 {
		where = fmt.Sprintf("time >= %d", from)
	}
	for _, c := range []struct {
		column string
		words  []string
	}{{"type", types(f.Types)}, {"credential", []string{f.Credential}}, {"log", []string{f.Log}}} {
		if len(c.words) == 0 || c.words[0] == "" {
			continue
		}
		ids, err := x.looks(ctx, db, c.words)
		if err != nil {
			return "", err
		}
		where += fmt.Sprintf(" AND %s IN (%s)", c.column, ids)
	}
	return where, nil
}

// Events implements Reader.
func (x *Index) Events(ctx context.Context, f Filter) (list []Event, err error) {
	err = x.events(ctx, x.reader(), f, func(e Event) error {
		list = append(list, e)
		return nil
	})
	return list, err
}

// events calls do with every event that the filter chooses, in order.
func (x *Index) events(ctx context.Context, db querier, f Filter, do func(Event) error) error {
	where, err := x.eventWhere(ctx, db, &f)
	if err != nil {
		return err
	}
	return inOrder(ctx, db, `SELECT body FROM reeve_index_event WHERE `+where+` ORDER BY time`, func(e Event) bool {
		return f.has(e.Time, e.Type, e.Log, e.Tenant, e.Unit, e.Workload, e.Gateway, e.Credential, e.Fingerprint)
	}, func(e Event) int64 { return e.Time }, Event.compare, do)
}

// Versions implements Reader.
func (x *Index) Versions(ctx context.Context, f Filter) (list []Version, err error) {
	err = x.versions(ctx, x.reader(), f, func(v Version) error {
		list = append(list, v)
		return nil
	})
	return list, err
}

// versions calls do with every version that the filter chooses, in order. One that changed after the window is read as it was then.
func (x *Index) versions(ctx context.Context, db querier, f Filter, do func(Version) error) error {
	of := ""
	if f.Credential != "" {
		id, err := x.look(ctx, db, f.Credential)
		if err != nil {
			return err
		}
		of = fmt.Sprintf(" AND credential = %d", id)
	}
	query := "SELECT body, bound FROM reeve_index_version WHERE 1 = 1" + of
	if _, to := f.span(); to != math.MaxInt64 {
		query = fmt.Sprintf("SELECT body, bound FROM reeve_index_version WHERE since < %d%s UNION ALL SELECT body, bound FROM reeve_index_past WHERE since < %d AND until >= %d%s",
			to, of, to, to, of)
	}
	return inOrder(ctx, db, "SELECT body FROM ("+query+") AS asked ORDER BY bound", func(v Version) bool { return f.version(&v) },
		func(v Version) int64 { return v.Bound }, Version.compare, do)
}

// past calls do with every state that a version had and has no more, in order.
func (x *Index) past(ctx context.Context, db querier, do func(Past) error) error {
	return inOrder(ctx, db, `SELECT body FROM reeve_index_past ORDER BY bound`, func(Past) bool { return true }, func(p Past) int64 { return p.Bound },
		func(a, b Past) int { return a.Version.compare(b.Version) }, do)
}

// inOrder reads rows that are sorted by time and sorts those of one time.
func inOrder[T any](ctx context.Context, db querier, query string, is func(T) bool, time func(T) int64, compare func(T, T) int, do func(T) error) error {
	var same []T
	flush := func() error {
		slices.SortFunc(same, compare)
		for _, r := range same {
			if err := do(r); err != nil {
				return err
			}
		}
		same = same[:0]
		return nil
	}
	err := each(ctx, db, func(scan func(...any) error) error {
		var body string
		var r T
		if err := scan(&body); err != nil {
			return err
		}
		if err := json.Unmarshal([]byte(body), &r); err != nil || !is(r) {
			return err
		}
		if len(same) > 0 && time(same[0]) != time(r) {
			if err := flush(); err != nil {
				return err
			}
		}
		same = append(same, r)
		return nil
	}, query)
	if err != nil {
		return err
	}
	return flush()
}

// Hash implements Reader. It holds one hour of sums in memory.
func (x *Index) Hash(ctx context.Context) (string, error) {
	hash, _, err := x.State(ctx)
	return hash, err
}

// State is the hash and how far each log was indexed at that moment.
func (x *Index) State(ctx context.Context) (hash string, all []Log, err error) {
	db, done, err := x.still(ctx)
	if err != nil {
		return "", nil, err
	}
	defer done()
	h := sha256.New()
	to := json.NewEncoder(h)
	if all, err = readLogs(ctx, db); err == nil {
		err = encode(to, all)
	}
	for since := int64(-1); err == nil; {
		var next sql.NullInt64
		if err = db.QueryRowContext(ctx, `SELECT MIN(since) FROM reeve_index_hour WHERE since > $1`, since).Scan(&next); err != nil || !next.Valid {
			break
		}
		since = next.Int64
		var list []Uses
		if list, err = x.hourly(ctx, db, since, "1 = 1"); err == nil {
			slices.SortFunc(list, func(a, b Uses) int { return a.Key.compare(b.Key) })
			err = encode(to, list)
		}
		x.trim()
	}
	if err == nil {
		err = x.events(ctx, db, Filter{}, func(e Event) error { return to.Encode(e) })
	}
	if err == nil {
		err = x.versions(ctx, db, Filter{}, func(v Version) error { return to.Encode(v) })
	}
	if err == nil {
		err = x.past(ctx, db, func(p Past) error { return to.Encode(p) })
	}
	if err != nil {
		return "", nil, err
	}
	return hex.EncodeToString(h.Sum(nil)), all, nil
}
