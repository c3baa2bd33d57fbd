package index

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/reevehq/reeve/internal/audit/logs"
)

// Rebuilt says how a rebuilt index compares with the one that was there.
type Rebuilt struct {
	Index   string `json:"index"`
	Hash    string `json:"hash"` // of everything that the copies have
	Entries int64  `json:"entries"`
	Was     string `json:"was,omitempty"`       // hash of the index that was there
	At      string `json:"was_built,omitempty"` // hash of these copies as far as that index had indexed them
	Wrong   string `json:"wrong,omitempty"`     // why the index that was there was not of these copies
}

// Rebuild makes the index anew from copies of the logs. One that is there is held against these copies as far as it goes, in a passing
// index beside it, also while an auditor keeps it; it is replaced only when it is wrong, and then no auditor may keep it (ErrKept).
func (p Place) Rebuild(ctx context.Context, all []*logs.Log, said func(Progress)) (r Rebuilt, err error) {
	r.Index = p.Name()
	x, err := p.Read(ctx)
	switch {
	case err == nil:
		var sizes []Log
		r.Was, sizes, err = x.State(ctx)
		if err = errors.Join(err, x.Close()); err != nil {
			return r, err
		}
		if err := p.compare(ctx, &r, sizes, all, said); err != nil || r.Wrong == "" {
			return r, err
		}
	case errors.Is(err, ErrRelease):
		r.Wrong = "it was written by another release"
	case !errors.Is(err, fs.ErrNotExist):
		return r, err
	}
	return r, p.replace(ctx, &r, all, said)
}

// compare builds a passing index, first as far as the one that is there goes.
func (p Place) compare(ctx context.Context, r *Rebuilt, sizes []Log, all []*logs.Log, said func(Progress)) error {
	beside := ""
	if p.Server.Connection == "" {
		beside = filepath.Dir(p.File)
	}
	x, gone, err := passing(ctx, beside)
	if err != nil {
		return err
	}
	defer gone()
	defer x.Close()
	var some []*logs.Log
	for _, s := range sizes {
		found := false
		for _, l := range all {
			if l.ID == s.ID && s.Size <= l.Checkpoint.N {
				part, c := *l, *l.Checkpoint
				c.Tree = tlog.Tree{N: s.Size}
				part.Checkpoint, found = &c, true
				some = append(some, &part)
			}
		}
		if !found {
			r.Wrong = fmt.Sprintf("it has %d entries of %s, the copies have fewer", s.Size, s.Origin)
			return nil
		}
	}
	if err := x.Extend(ctx, some, said); err != nil {
		return err
	}
	if r.At, err = x.Hash(ctx); err != nil {
		return err
	}
	if r.At != r.Was {
		r.Wrong = "it is not what these copies sum up to"
		return nil
	}
	if err := x.Extend(ctx, all, said); err != nil {
		return err
	}
	return r.finish(ctx, x)
}

// replace empties the index, or makes it, and builds it.
func (p Place) replace(ctx context.Context, r *Rebuilt, all []*logs.Log, said func(Progress)) error {
	x, err := p.Keep(ctx)
	if errors.Is(err, ErrKept) && r.Wrong != "" {
		return fmt.Errorf("the index in %s is wrong: %s, and it was not replaced: %w; stop the auditor and run this again", p.Name(), r.Wrong, err)
	}
	if err != nil {
		return err
	}
	defer x.Close()
	if err := x.Clear(ctx); err != nil {
		return err
	}
	if err := x.Extend(ctx, all, said); err != nil {
		return err
	}
	return r.finish(ctx, x)
}

// finish notes what was built.
func (r *Rebuilt) finish(ctx context.Context, x *Index) error {
	hash, sizes, err := x.State(ctx)
	r.Hash = hash
	for _, l := range sizes {
		r.Entries += l.Size
	}
	return err
}
