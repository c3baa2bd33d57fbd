// Package cursor follows the auditor's copies of the ledgers for who passes on what they say: every entry is delivered at least once, also over
// restarts.
package cursor

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/logs"
	"github.com/reevehq/reeve/internal/durable"
	"github.com/reevehq/reeve/verify"
)

// Batch is how many entries are delivered at once, at most.
const Batch = 1000

// Follower delivers what comes. One goroutine uses it.
type Follower struct {
	State string // the auditor's state directory
	Trust *verify.Trust
	File  string // where the cursor is kept

	next map[string]int64 // by log id: the number of the next entry
}

// Open reads the cursor. Where none was kept yet it begins with the first entries.
func (f *Follower) Open() error {
	b, err := os.ReadFile(f.File)
	f.next = map[string]int64{}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = json.Unmarshal(b, &f.next)
	}
	if err != nil {
		return fmt.Errorf("the cursor in %s cannot be read: %w. Remove it to have everything delivered again", f.File, err)
	}
	return nil
}

// Next is the number of the next entry of a log.
func (f *Follower) Next(log string) int64 { return f.next[log] }

// Skip has everything that is there by now count as delivered.
func (f *Follower) Skip() error {
	all, err := logs.Open(f.State, f.Trust)
	if err != nil {
		return err
	}
	for _, l := range all {
		f.next[l.ID] = l.Checkpoint.N
	}
	return f.keep(f.next)
}

// Deliver hands every entry that was not delivered yet to deliver, those of all logs by their time, at most Batch at once, and moves the durable
// cursor past them when it returns nil. With an error nothing moves: what was handed over comes again.
func (f *Follower) Deliver(ctx context.Context, deliver func(context.Context, []*entry.Entry) error) (delivered int64, err error) {
	all, err := logs.Open(f.State, f.Trust)
	if err != nil {
		return 0, err
	}
	var batch []*entry.Entry
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		if err := deliver(ctx, batch); err != nil {
			return err
		}
		next := maps.Clone(f.next)
		for _, e := range batch {
			next[e.Log] = e.Seq + 1
		}
		delivered, batch = delivered+int64(len(batch)), nil
		return f.keep(next)
	}
	for e, err := range logs.Merge(all, f.Next) {
		if err = cmp.Or(err, ctx.Err()); err != nil {
			return delivered, err
		}
		if batch = append(batch, e); len(batch) == Batch {
			if err := flush(); err != nil {
				return delivered, err
			}
		}
	}
	return delivered, flush()
}

func (f *Follower) keep(next map[string]int64) error {
	b, err := json.Marshal(next)
	if err == nil {
		err = durable.Replace(f.File, append(b, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("keeping the cursor: %w", err)
	}
	f.next = next
	return nil
}

// The time between two looks, and the longest after failures.
const (
	look    = time.Second
	slowest = time.Minute
)

// Run delivers what comes until ctx ends. fail is told of every delivery that failed; it is tried again, more and more slowly.
func (f *Follower) Run(ctx context.Context, deliver func(context.Context, []*entry.Entry) error, fail func(error)) {
	for wait := look; ; {
		_, err := f.Deliver(ctx, deliver)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			fail(err)
			wait = min(wait*2, slowest)
		default:
			wait = look
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}
