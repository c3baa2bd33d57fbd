package feed

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// write does a write after those before it. Nobody waits: a disk that hangs holds up nothing that closes. Callers hold mu.
func (f *Follower) write(do func() error) {
	f.later(&f.writes, func() {
		if err := do(); err != nil {
			f.report(fmt.Errorf("in force, but not kept for the next start: %w", err))
		}
	})
}

// restore applies the follower's own copy: the files "set" and "records" hold frames as the stream does. A set that is
// not good any more (its lock expired, say) is reported, and the feed brings a newer one; an older one stays refused.
func (f *Follower) restore() error {
	if err := os.MkdirAll(f.cfg.Dir, 0o700); err != nil {
		return err
	}
	b, err := os.ReadFile(filepath.Join(f.cfg.Dir, "set"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	frame, err := ParseFrame(b)
	if err != nil {
		return err
	}
	if err := f.take(frame, "kept"); err != nil {
		f.report(fmt.Errorf("the set kept from the last run: %w", err))
	}
	records, err := os.ReadFile(filepath.Join(f.cfg.Dir, "records"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for line := range bytes.Lines(records) { // one may be torn by a crash; the feed sends it again
		frame, err := ParseFrame(line)
		if err == nil && f.take(frame, "kept") != nil {
			f.pending = append(f.pending, frame)
		}
	}
	return nil
}
