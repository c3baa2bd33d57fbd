package index

import (
	"context"
	"errors"
	"fmt"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/logs"
)

// Progress is how many entries are indexed of those that the copies have.
type Progress struct{ Done, Total int64 }

// ErrAhead means that the index has more entries of a log than the copy: the copy is an older one.
var ErrAhead = errors.New("the index is ahead of the copies")

// They end the reading of a log: for a commit, and until the log before it has come so far.
var errFull, errWait = errors.New("the batch is full"), errors.New("the log before it is behind")

// Extend indexes what the copies have and the index has not, batch by batch. A successor waits until the log before it is indexed as far as
// it says: an outcome may be of an intent there. said, if not nil, is told after each batch.
func (x *Index) Extend(ctx context.Context, all []*logs.Log, said func(Progress)) error {
	for {
		more, err := x.extend(ctx, all, said)
		if err != nil || !more {
			return err
		}
	}
}

// extend adds one batch and reports whether there is more to add.
func (x *Index) extend(ctx context.Context, all []*logs.Log, said func(Progress)) (more bool, err error) {
	b, err := x.Batch(ctx, named(all)...)
	if err != nil {
		return false, err
	}
	for _, l := range all {
		if err := b.log(ctx, l); errors.Is(err, errFull) {
			more = true
			break
		} else if err != nil {
			return false, fmt.Errorf("indexing %s: %w", l.Checkpoint.Log.Origin, err)
		}
	}
	if b.entries == 0 {
		return false, nil
	}
	if err := b.Commit(ctx); err != nil {
		return false, err
	}
	if said != nil {
		p := Progress{}
		for _, l := range all {
			p.Done, p.Total = p.Done+b.Size(l.ID), p.Total+l.Checkpoint.N
		}
		said(p)
	}
	return more, nil
}

// log adds what a log has beyond the batch, and returns errFull when the batch is full before its end.
func (b *Batch) log(ctx context.Context, l *logs.Log) error {
	size := b.Size(l.ID)
	if size > l.Checkpoint.N {
		return fmt.Errorf("%w: %d entries are indexed, the copy has %d. If the copy was restored, rebuild the index (reeve audit rebuild)", ErrAhead, size, l.Checkpoint.N)
	}
	err := l.Raw(size, func(seq int64, raw []byte) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if b.Full() {
			return errFull
		}
		e, err := entry.Parse(raw)
		if err != nil {
			return fmt.Errorf("entry %d: %w", seq, err)
		}
		if seq == 0 && e.Type == entry.Retire && !b.has(e.PrevLog, e.PrevSize) {
			return errWait
		}
		return b.Add(e)
	})
	if errors.Is(err, errWait) {
		return nil
	}
	return err
}

// has reports whether that many entries of a log are in the index or the batch. One without a copy is not waited for.
func (b *Batch) has(origin string, size int64) bool {
	for _, l := range b.m.logs {
		if l.Origin == origin {
			return l.Size >= size
		}
	}
	return true
}

// named are logs of which nothing is indexed yet.
func named(all []*logs.Log) (names []Log) {
	for _, l := range all {
		names = append(names, Log{ID: l.ID, Process: l.Process, Origin: l.Checkpoint.Log.Origin})
	}
	return names
}
