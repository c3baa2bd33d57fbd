package index

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/logs"
)

// edge adds what an hour that the window cuts has within the window. Sums that lie in it count whole; of those that it cuts single entries are
// read from the log. Without a copy of the log they count whole as well: too many are reported rather than too few.
func (x *Index) edge(ctx context.Context, db *sql.Tx, since, from, to int64, chosen choice, by []Column, sums map[Key]*Uses) error {
	list, err := x.hour(ctx, db, since, chosen)
	if err != nil {
		return err
	}
	cut := map[string][]Uses{}
	for _, u := range list {
		switch {
		case u.Last < from || u.First >= to:
		case u.First >= from && u.Last < to || x.tiles[u.Log] == nil:
			add(sums, u.Only(by...), &u.Sum)
		default:
			cut[u.Log] = append(cut[u.Log], *u)
		}
	}
	for log, uses := range cut {
		some, err := x.within(ctx, db, log, uses, from, to)
		if err != nil {
			return err
		}
		for k, u := range some {
			add(sums, k.Only(by...), &u.Sum)
		}
	}
	return nil
}

// They end the reading of logs, and of one log.
var errEnough, errIndexed = errors.New("enough"), errors.New("not indexed yet")

// within sums up the single entries of some sums of one hour and log that lie in the window, with their outcomes.
func (x *Index) within(ctx context.Context, db querier, log string, cut []Uses, from, to int64) (map[Key]*Uses, error) {
	first, last, keys := cut[0].FirstSeq, cut[0].LastSeq, map[Key]bool{}
	for _, u := range cut {
		first, last, keys[u.Key] = min(first, u.FirstSeq), max(last, u.LastSeq), true
	}
	without, err := x.without(ctx, db, log, first, last)
	if err != nil {
		return nil, err
	}
	m, needle := NewMemory(), credentialOf(cut)
	wait := 0 // intents that have an outcome farther on
	err = x.follow(ctx, db, log, first, func(in string, seq int64, raw []byte) error {
		inside := in == log && seq <= last
		if !inside && wait == 0 {
			return errEnough
		}
		if bytes.Contains(raw, []byte(`"type":"outcome"`)) {
			if of, ok := number(raw, `"intent_seq":`); wait == 0 || ok && in == log && m.open[intent{log, of}] == nil {
				return nil
			}
			e, err := entry.Parse(raw)
			if err != nil || m.open[intent{cmp.Or(e.IntentLog, e.Log), e.IntentSeq}] == nil {
				return err
			}
			wait--
			return m.outcome(e)
		}
		if at, ok := number(raw, `"time_ns":"`); !inside || ok && (at < from || at >= to) || !bytes.Contains(raw, needle) {
			return nil
		}
		e, err := entry.Parse(raw)
		if err != nil {
			return err
		}
		if k := KeyOf(e); e.TimeNS >= from && e.TimeNS < to && keys[k] {
			if m.use(e); m.open[intent{e.Log, e.Seq}] != nil && !without[e.Seq] {
				wait++
			}
		}
		return nil
	})
	return m.uses, err
}

// number reads a number of an entry without the rest of it. What stands before the number cannot stand within a string, where quotes are escaped.
func number(raw []byte, before string) (n int64, ok bool) {
	at := bytes.Index(raw, []byte(before))
	if at < 0 {
		return 0, false
	}
	for _, c := range raw[at+len(before):] {
		if c < '0' || c > '9' {
			break
		}
		n, ok = n*10+int64(c-'0'), true
	}
	return n, ok
}

// credentialOf is the member that every entry of some sums has, where they are of one credential: others need not be parsed.
func credentialOf(cut []Uses) []byte {
	for _, u := range cut {
		if u.Credential != cut[0].Credential {
			return nil
		}
	}
	all := (&entry.Entry{Credential: cut[0].Credential}).AppendJSON(nil)
	from, to := bytes.Index(all, []byte(`"credential":`)), bytes.Index(all, []byte(`,"log":`))
	if from < 0 {
		return nil
	}
	return all[from:to]
}

// without are the numbers of intents in a range that have no outcome.
func (x *Index) without(ctx context.Context, db querier, log string, first, last int64) (map[int64]bool, error) {
	all := map[int64]bool{}
	id, err := x.look(ctx, db, log)
	if err != nil {
		return nil, err
	}
	return all, each(ctx, db, func(scan func(...any) error) error {
		var seq int64
		err := scan(&seq)
		all[seq] = true
		return err
	}, `SELECT seq FROM reeve_index_open WHERE log = $1 AND seq >= $2 AND seq <= $3`, id, first, last)
}

// follow reads the entries of a log from a number on and then those of its successors, as far as they are indexed.
func (x *Index) follow(ctx context.Context, db querier, log string, from int64, do func(log string, seq int64, raw []byte) error) error {
	have, err := readLogs(ctx, db)
	if err != nil {
		return err
	}
	chain := []*logs.Log{x.tiles[log]}
	base, n := entry.Successor(x.tiles[log].Checkpoint.Log.Origin)
	for _, l := range x.tiles {
		if other, m := entry.Successor(l.Checkpoint.Log.Origin); other == base && m > n {
			chain = append(chain, l)
		}
	}
	slices.SortFunc(chain, func(a, b *logs.Log) int {
		_, i := entry.Successor(a.Checkpoint.Log.Origin)
		_, j := entry.Successor(b.Checkpoint.Log.Origin)
		return i - j
	})
	for _, l := range chain {
		size := int64(0)
		for _, h := range have {
			if h.ID == l.ID {
				size = h.Size
			}
		}
		if size > l.Checkpoint.N {
			return fmt.Errorf("%s is indexed up to %d entries, its copy has %d", l.Checkpoint.Log.Origin, size, l.Checkpoint.N)
		}
		err := l.Raw(from, func(seq int64, raw []byte) error {
			if seq >= size {
				return errIndexed
			}
			return errors.Join(ctx.Err(), do(l.ID, seq, raw))
		})
		if errors.Is(err, errEnough) {
			return nil
		}
		if err != nil && !errors.Is(err, errIndexed) {
			return err
		}
		from = 0
	}
	return nil
}
