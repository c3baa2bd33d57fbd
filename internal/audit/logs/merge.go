package logs

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"sort"
	"time"

	"github.com/reevehq/reeve/entry"
)

// errEnough ends a reading early.
var errEnough = errors.New("enough")

// Entries are those of the log from number from on, in order. An error is the last element.
func (l *Log) Entries(from int64) iter.Seq2[*entry.Entry, error] {
	return func(yield func(*entry.Entry, error) bool) {
		err := l.Raw(from, func(seq int64, raw []byte) error {
			e, err := entry.Parse(raw)
			if err != nil {
				return fmt.Errorf("entry %d of %s: %w", seq, l.Checkpoint.Log.Origin, err)
			}
			if !yield(e, nil) {
				return errEnough
			}
			return nil
		})
		if err != nil && err != errEnough {
			yield(nil, err)
		}
	}
}

// Seek is the number of the first entry at t or later, as the entries say.
func (l *Log) Seek(t time.Time) (int64, error) {
	var failed error
	read := func(from int64, each func(*entry.Entry) bool) {
		for e, err := range l.Entries(from) {
			if failed = cmp.Or(failed, err); err != nil || !each(e) {
				return
			}
		}
	}
	bundles := (l.Checkpoint.N + width - 1) / width
	n := sort.Search(int(bundles), func(n int) (after bool) {
		read(int64(n)*width, func(e *entry.Entry) bool { after = e.TimeNS >= t.UnixNano(); return false })
		return after
	})
	seq := int64(max(n-1, 0)) * width
	read(seq, func(e *entry.Entry) bool {
		seq = e.Seq
		if e.TimeNS < t.UnixNano() {
			seq++
			return true
		}
		return false
	})
	return seq, failed
}

// Merge is the entries of all logs, each from number from(id) on, by their time: what stands in one log stays in its order. An error is the last
// element.
func Merge(all []*Log, from func(id string) int64) iter.Seq2[*entry.Entry, error] {
	return func(yield func(*entry.Entry, error) bool) {
		type head struct {
			e    *entry.Entry
			next func() (*entry.Entry, error, bool)
		}
		var heads []*head
		for _, l := range all {
			next, stop := iter.Pull2(l.Entries(from(l.ID)))
			defer stop()
			heads = append(heads, &head{next: next})
		}
		for {
			var first *head
			for i := 0; i < len(heads); i++ {
				h := heads[i]
				if h.e == nil {
					e, err, ok := h.next()
					if err != nil {
						yield(nil, err)
						return
					}
					if !ok {
						heads = append(heads[:i], heads[i+1:]...)
						i--
						continue
					}
					h.e = e
				}
				if first == nil || h.e.TimeNS < first.e.TimeNS {
					first = h
				}
			}
			if first == nil || !yield(first.e, nil) {
				return
			}
			first.e = nil
		}
	}
}
