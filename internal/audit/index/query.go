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
	"strconv"
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
	words [len(subject{})][]int64 // that each of a subject's words must be one of; none for any
	few   map[int64]*subject      // all of them by id, where they are few; nil otherwise
}

// few is how many subjects at most are looked for in their blocks alone, rather than in all.
const few = 64

func (c *choice) has(s *subject) bool {
	for i, some := range c.words {
		if len(some) > 0 && !slices.Contains(some, s[i]) {
			return false
		}
	}
	return true
}

// chosen is what a filter chooses.
func (x *Index) chosen(ctx context.Context, db querier, f *Filter) (c choice, err error) {
	var is []string
	for i, column := range subjectColumns() {
		words := map[Column][]string{ByLog: {f.Log}, ByType: types(f.Types), ByTenant: {f.Tenant}, ByUnit: {f.Unit}, ByWorkload: {f.Workload}, ByGateway: {f.Gateway},
			ByCredential: {f.Credential}, ByFingerprint: {f.Fingerprint}}[column]
		if len(words) == 0 || words[0] == "" {
			continue
		}
		if c.words[i], err = x.looks(ctx, db, words); err != nil {
			return c, err
		}
		is = append(is, fmt.Sprintf("%s IN (%s)", column, list(c.words[i])))
	}
	if len(is) == 0 {
		return c, nil
	}
	some, err := x.some(ctx, db, strings.Join(is, " AND "))
	if len(some) <= few {
		c.few = some
	}
	return c, err
}

// some are the subjects of a condition, but for those that are more than few.
func (x *Index) some(ctx context.Context, db querier, where string) (map[int64]*subject, error) {
	all := map[int64]*subject{}
	return all, each(ctx, db, func(scan func(...any) error) error {
		id, s, err := scanSubject(scan)
		all[id] = &s
		return err
	}, fmt.Sprintf(`SELECT * FROM reeve_index_subject WHERE %s LIMIT %d`, where, few+1))
}

// looks returns the ids of words; a word that is not there has 0, which nothing has.
func (x *Index) looks(ctx context.Context, db querier, words []string) (ids []int64, err error) {
	for _, w := range words {
		id, err := x.look(ctx, db, w)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// list is ids in SQL.
func list(ids []int64) string {
	var b strings.Builder
	for i, id := range ids {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(strconv.FormatInt(id, 10))
	}
	return b.String()
}

func types(all []entry.Type) (list []string) {
	for _, t := range all {
		list = append(list, string(t))
	}
	return list
}

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
	begin, end := (from+hour-1)/hour*hourly, to/hour*hourly // the hours that are whole
	if from%hour != 0 {
		err = x.edge(ctx, db, from/hour*hourly, from, to, chosen, by, sums)
	}
	if err == nil && to%hour != 0 && to != math.MaxInt64 && (to/hour != from/hour || from%hour == 0) {
		err = x.edge(ctx, db, to/hour*hourly, from, to, chosen, by, sums)
	}
	if err != nil {
		return nil, err
	}
	if to == math.MaxInt64 {
		end = to
	}
	g := newGroups(by)
	parts := []spot{{hourly, begin, end}}
	if first, last := (begin+daily-1)/daily*daily, end/daily*daily; first < last && !slices.Contains(by, ByHour) {
		parts = []spot{{hourly, begin, first}, {daily, first, last}, {hourly, last, end}}
	}
	for _, p := range parts {
		if p.since >= p.number {
			continue
		}
		if err := x.sums(ctx, db, p.length, p.since, p.number, chosen, g.add); err != nil {
			return nil, err
		}
	}
	if err := g.named(ctx, x, db, sums); err != nil {
		return nil, err
	}
	return sorted(sums), nil
}

// groups adds up sums by columns.
type groups struct {
	by       []Column
	hourly   bool                  // hours are kept apart
	estate   bool                  // policy sets are
	apart    []int                 // which of a subject's words are
	numbers  map[int64]*[block]int // of each block's subjects the group, and one
	last     *[block]int           // of block at
	at       int64
	of       map[subject]int // and of those words that are kept apart
	subjects []subject       // by group: those words, 0 for the others
	sums     map[group]*Sum
}

type group struct {
	number       int
	hour, estate int64
}

func newGroups(by []Column) *groups {
	g := &groups{by: by, numbers: map[int64]*[block]int{}, of: map[subject]int{}, sums: map[group]*Sum{}, hourly: slices.Contains(by, ByHour), estate: slices.Contains(by, ByEstate)}
	for i, c := range subjectColumns() {
		if slices.Contains(by, c) {
			g.apart = append(g.apart, i)
		}
	}
	return g
}

// number is the group of a subject.
func (g *groups) number(id int64, s *subject) int {
	if g.last == nil || g.at != id/block {
		if g.at, g.last = id/block, g.numbers[id/block]; g.last == nil {
			g.last = new([block]int)
			g.numbers[g.at] = g.last
		}
	}
	at := &g.last[id%block]
	if *at == 0 {
		var some subject
		for _, i := range g.apart {
			some[i] = s[i]
		}
		if *at = g.of[some]; *at == 0 {
			g.subjects = append(g.subjects, some)
			*at = len(g.subjects)
			g.of[some] = *at
		}
	}
	return *at
}

func (g *groups) add(since int64, s *subject, r *row) error {
	k := group{number: g.number(r.subject, s)}
	if g.hourly {
		k.hour = since
	}
	if g.estate {
		k.estate = r.estate
	}
	sum := g.sums[k]
	if sum == nil {
		sum = new(Sum)
		g.sums[k] = sum
	}
	sum.merge(&r.Sum)
	return nil
}

// named adds what was added up to sums by key.
func (g *groups) named(ctx context.Context, x *Index, db querier, sums map[Key]*Uses) error {
	need := map[int64]bool{}
	for k := range g.sums {
		need[k.estate] = g.estate
		for _, i := range g.apart {
			need[g.subjects[k.number-1][i]] = true
		}
	}
	words, err := x.load(ctx, db, need)
	if err != nil {
		return err
	}
	columns := subjectColumns()
	for k, sum := range g.sums {
		key := Key{Hour: k.hour}
		if g.estate {
			key.Estate = words[k.estate]
		}
		for _, i := range g.apart {
			*key.member(columns[i]) = words[g.subjects[k.number-1][i]]
		}
		add(sums, key, sum)
	}
	return nil
}

// hour reads all sums of an hour that are chosen, by their keys.
func (x *Index) hour(ctx context.Context, db *sql.Tx, since int64, c choice) (map[Key]*Uses, error) {
	g, sums := newGroups(Columns), map[Key]*Uses{}
	if err := x.sums(ctx, db, hourly, since, since+1, c, g.add); err != nil {
		return nil, err
	}
	return sums, g.named(ctx, x, db, sums)
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
		where += fmt.Sprintf(" AND %s IN (%s)", c.column, list(ids))
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
		if err = db.QueryRowContext(ctx, `SELECT MIN(since) FROM reeve_index_sum WHERE length = $1 AND since > $2`, hourly, since).Scan(&next); err != nil || !next.Valid {
			break
		}
		since = next.Int64
		var sums map[Key]*Uses
		if sums, err = x.hour(ctx, db, since, choice{}); err == nil {
			err = encode(to, sorted(sums))
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
