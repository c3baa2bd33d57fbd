package verify

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"strconv"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/reevehq/reeve/entry"
)

// link checks that a log begins with a leaf that names the log before it.
func (a *audit) link(before published, prev *Checkpoint, d published, c *Checkpoint) {
	if c.N == 0 {
		return
	}
	raw, err := d.entry(0, c.N)
	if err != nil {
		a.finding("%s: %v", c.Log.Origin, err)
		return
	}
	e, err := entry.Parse(raw)
	if err != nil || e.Type != entry.Retire || e.PrevLog != prev.Log.Origin {
		a.finding("%s: its first entry does not name %s", c.Log.Origin, prev.Log.Origin)
		return
	}
	if now, err := before.checkpoint(a.trust, signedFile); err == nil && e.PrevSize > prev.N && now.N >= e.PrevSize {
		a.finding("%s was rotated while it was read: run this again", prev.Log.Origin)
		return
	}
	root, _ := base64.StdEncoding.DecodeString(e.PrevRoot) // Parse has checked it
	old := &Checkpoint{Tree: tlog.Tree{N: e.PrevSize, Hash: tlog.Hash(root)}}
	err = before.extends(prev, old)
	if e.Reason != rotated {
		a.rep.Incomplete = append(a.rep.Incomplete, fmt.Sprintf("%s was retired as damaged at %d entries, of which %d are here (%s): what happened from there to the start of %s is not known",
			prev.Log.Origin, e.PrevSize, prev.N, e.Reason, c.Log.Origin))
		if e.PrevSize > prev.N {
			return // the very loss for which it was retired
		}
	}
	if err != nil {
		a.finding("%s: the log that its first entry names: %s", c.Log.Origin, bare(err))
	} else if e.Reason == rotated && e.PrevSize < prev.N {
		a.finding("%s was rotated at %d entries, but has %d", prev.Log.Origin, e.PrevSize, prev.N)
	}
}

// strays reports directories and files that no log of the chain accounts for.
func (a *audit) strays(dir fs.FS, volumes int) {
	names, _ := fs.ReadDir(dir, ".")
	for _, f := range names {
		if n, err := strconv.Atoi(f.Name()); err == nil && f.IsDir() && n >= volumes {
			a.finding("directory %d holds a successor, but number %d is missing", n, volumes)
		}
	}
}

// since holds the log against an earlier checkpoint.
func (a *audit) since(dir fs.FS) error {
	if a.opts.Since == nil {
		a.unknown("whether the log was restored to an earlier state: give an earlier checkpoint (--since) to see it")
		return nil
	}
	old, err := a.trust.Checkpoint(a.opts.Since)
	if err != nil {
		return fmt.Errorf("the earlier checkpoint: %w", err)
	}
	d, err := published{dir}.volume(old.Log.n)
	if errors.Is(err, fs.ErrNotExist) {
		a.finding("the earlier checkpoint is of %s, which is missing here: it was rolled back", old.Log.Origin)
		return nil
	}
	if err != nil {
		return err
	}
	c, err := d.checkpoint(a.trust, signedFile)
	if err != nil {
		return err
	}
	if c.Log.Origin != old.Log.Origin {
		return undecided("the earlier checkpoint is of %s, this is %s", old.Log.Origin, c.Log.Origin)
	}
	if err := d.extends(c, old); err != nil {
		a.finding("%s", bare(err))
	}
	return nil
}

// extends checks that the tree of c begins with the tree of old.
func (d published) extends(c, old *Checkpoint) error {
	if old.N > c.N {
		return fails("%s: an earlier checkpoint has %d entries, the published log only %d: it was rolled back", c.Log.Origin, old.N, c.N)
	}
	if old.N == 0 {
		if empty, _ := tlog.TreeHash(0, nil); old.Hash != empty {
			return fails("%s: the empty tree has another root", c.Log.Origin)
		}
		return nil
	}
	h, err := tlog.TreeHash(old.N, d.hashes(c.Tree))
	if err != nil || h != old.Hash {
		return fails("%s: the first %d entries are not those of the earlier checkpoint: its history was rewritten (%v)", c.Log.Origin, old.N, err)
	}
	return nil
}
