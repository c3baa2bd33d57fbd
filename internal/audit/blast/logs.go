package blast

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/books"
	"github.com/reevehq/reeve/internal/audit/index"
	"github.com/reevehq/reeve/internal/audit/logs"
	"github.com/reevehq/reeve/verify"
)

// Silence is the longest time between two entries of a custodian's ledger that says nothing: three of its heartbeats.
const Silence = 30 * time.Second

// ledgers are the logs of each process, oldest first, and how complete they are for a window.
type ledgers struct {
	of      map[string][]index.Log // by process
	process map[string]string      // by log id
	found   map[string]Log         // by process, once judged
	judge   func(process string) Log
}

// openLedgers judges the ledgers of processes as they are asked about.
func openLedgers(ctx context.Context, b *books.Books, from, to time.Time, silence time.Duration) (*ledgers, error) {
	all, err := b.Index.Logs(ctx)
	if err != nil {
		return nil, err
	}
	retired, err := b.Index.Events(ctx, index.Filter{Types: []entry.Type{entry.Retire}})
	if err != nil {
		return nil, err
	}
	damaged := map[string]string{} // by log id: why its predecessor ended
	for _, e := range retired {
		if e.Reason != "rotated" {
			damaged[e.Log] = e.Reason
		}
	}
	l := &ledgers{of: map[string][]index.Log{}, process: map[string]string{}, found: map[string]Log{}}
	for _, x := range all {
		l.of[x.Process] = append(l.of[x.Process], x)
		l.process[x.ID] = x.Process
	}
	for _, chain := range l.of {
		slices.SortFunc(chain, func(a, b index.Log) int { return cmp.Compare(number(a.Origin), number(b.Origin)) })
	}
	l.judge = func(process string) Log {
		one, known := l.found[process]
		if !known {
			one = judge(b, process, l.of[process], damaged, from, to, silence)
			l.found[process] = one
		}
		return one
	}
	return l, nil
}

func number(origin string) int {
	_, n := entry.Successor(origin)
	return n
}

// judge says whether a process's ledger covers the window: it begins before it or is the process's first, nothing is missing between two logs,
// there is no silence, and it goes on to the end.
func judge(b *books.Books, process string, chain []index.Log, damaged map[string]string, from, to time.Time, silence time.Duration) Log {
	if len(chain) == 0 || chain[len(chain)-1].Size == 0 && len(chain) == 1 {
		return Log{Process: process, Why: "the auditor has no verified copy of the ledger of " + process}
	}
	first, last := chain[0], chain[len(chain)-1]
	l := Log{Process: process, Origin: last.Origin, From: instant(first.First), To: instant(last.Last)}
	var why []string
	say := func(format string, args ...any) { why = append(why, fmt.Sprintf(format, args...)) }
	overlaps := func(a, b int64) bool { return instant(a).Before(to) && instant(b).After(from) }
	if number(first.Origin) > 0 && l.From.After(from) {
		say("what was before %s is in logs that the auditor has no copy of", stamp(l.From))
	}
	for i, x := range chain {
		l.Size += x.Size
		if i > 0 {
			before := chain[i-1]
			switch gap := overlaps(before.Last, x.First); {
			case number(x.Origin) != number(before.Origin)+1 && gap:
				say("logs between %s and %s are missing", before.Origin, x.Origin)
			case x.PrevSize > before.Size:
				say("the copy of %s lacks entries from %d on", before.Origin, before.Size)
			case damaged[x.ID] != "" && gap:
				say("%s was closed as damaged (%s): what it held after entry %d is not known", before.Origin, damaged[x.ID], x.PrevSize)
			case gap && time.Duration(x.First-before.Last) > silence:
				say("silence from %s to %s, between two logs", stamp(instant(before.Last)), stamp(instant(x.First)))
			}
		}
		if time.Duration(x.Silence) > silence {
			why = append(why, silences(b, &x, from, to, silence)...)
		}
	}
	l.Cosigned = l.To
	if held := copyOf(b, last.ID); held != nil {
		l.Cosigned = cosigned(b.Trust, held)
	}
	switch {
	case l.To.Add(silence).Before(to):
		say("its newest entry in the auditor's copy is of %s", stamp(l.To))
	case l.Cosigned.IsZero():
		say("%s is not cosigned by enough witnesses", last.Origin)
	case l.Cosigned.Add(silence).Before(to):
		say("it is cosigned up to %s only", stamp(l.Cosigned))
	}
	l.Why, l.Complete = strings.Join(why, "; "), len(why) == 0
	return l
}

// copyOf is the auditor's copy of a log, or nil.
func copyOf(b *books.Books, id string) *logs.Log {
	if i := slices.IndexFunc(b.Logs, func(l *logs.Log) bool { return l.ID == id }); i >= 0 {
		return b.Logs[i]
	}
	return nil
}

// cosigned is the time of the newest entry that enough witnesses have cosigned; zero for none.
func cosigned(trust *verify.Trust, l *logs.Log) time.Time {
	raw, err := fs.ReadFile(l.Folder, "checkpoint")
	if err != nil {
		return time.Time{}
	}
	c, err := trust.Checkpoint(raw)
	if err != nil || c.ID() != l.ID || len(c.Cosigners) < max(trust.Need, 1) || c.N == 0 {
		return time.Time{}
	}
	e, _, err := l.Entry(min(c.N, l.Checkpoint.N) - 1)
	if err != nil {
		return time.Time{}
	}
	return instant(e.TimeNS)
}

// silences are the times within the window in which a log has no entry for longer than it may.
func silences(b *books.Books, x *index.Log, from, to time.Time, longest time.Duration) (list []string) {
	held := copyOf(b, x.ID)
	if held == nil {
		return []string{fmt.Sprintf("a silence of %s, before entry %d", time.Duration(x.Silence).Round(time.Second), x.SilenceSeq)}
	}
	at := func(seq int64) time.Time {
		e, _, err := held.Entry(seq)
		if err != nil {
			list = append(list, err.Error())
			return time.Time{}
		}
		return instant(e.TimeNS)
	}
	var look func(first, last int64, began, ended time.Time)
	look = func(first, last int64, began, ended time.Time) {
		switch {
		case len(list) >= 3 || ended.Sub(began) <= longest || !ended.After(from) || !began.Before(to):
		case last-first == 1:
			list = append(list, fmt.Sprintf("silence from %s to %s", stamp(began), stamp(ended)))
		default:
			middle := (first + last) / 2
			if t := at(middle); !t.IsZero() {
				look(first, middle, began, t)
				look(middle, last, t, ended)
			}
		}
	}
	look(0, x.Size-1, instant(x.First), instant(x.Last))
	return list
}

// instant is the time of Unix nanoseconds, UTC; zero for none.
func instant(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns).UTC()
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
