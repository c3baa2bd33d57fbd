// Package logs reads the auditor's verified copies of ledgers: single entries, and all of them in order.
package logs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/verify"
)

// Log is one log as far as the auditor has verified it.
type Log struct {
	ID         string
	Process    string
	Checkpoint *verify.Checkpoint // signed, of what was verified
	Folder     fs.FS              // in the C2SP tlog-tiles layout

	trust *verify.Trust
}

// Open reads the copies in the auditor's state directory, successors after the logs that they succeed.
func Open(state string, trust *verify.Trust) ([]*Log, error) {
	return Read(filepath.Join(state, "logs"), trust)
}

// Read reads copies of logs wherever they lie, each in a folder of its own below dir. Their checkpoints are verified; their entries are believed
// as they are (`reeve audit verify` checks them).
func Read(dir string, trust *verify.Trust) ([]*Log, error) {
	names, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("reading the auditor's copies of the ledgers: %w", err)
	}
	var all []*Log
	for _, n := range names {
		folder := os.DirFS(filepath.Join(dir, n.Name()))
		raw, err := fs.ReadFile(folder, "checkpoint.signed")
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || err == nil && len(raw) == 0 {
			continue // it has no entries yet
		}
		var c *verify.Checkpoint
		if err == nil {
			c, err = trust.Checkpoint(raw)
		}
		if err == nil && slices.ContainsFunc(all, func(l *Log) bool { return l.ID == c.ID() }) {
			err = fmt.Errorf("another folder has a copy of %s too", c.Log.Origin)
		}
		if err != nil {
			return nil, fmt.Errorf("the copy of a ledger in %s: %w", filepath.Join(dir, n.Name()), err)
		}
		all = append(all, &Log{ID: c.ID(), Process: c.Log.Process, Checkpoint: c, Folder: folder, trust: trust})
	}
	slices.SortFunc(all, func(a, b *Log) int {
		x, i := entry.Successor(a.Checkpoint.Log.Origin)
		y, j := entry.Successor(b.Checkpoint.Log.Origin)
		if x != y {
			return strings.Compare(x, y)
		}
		return i - j
	})
	return all, nil
}

const width = 256 // of a full tile

// Raw calls each with the bytes of every entry from number from on, in order. They are the auditor's verified copy: no hash is checked again.
// The bytes are the log's only until each returns.
func (l *Log) Raw(from int64, each func(seq int64, raw []byte) error) error {
	for n := from / width; n*width < l.Checkpoint.N; n++ {
		w := int(min(l.Checkpoint.N-n*width, width))
		b, err := l.bundle(n, w)
		if err != nil {
			return err
		}
		for i := range w {
			if len(b) < 2 || len(b)-2 < int(binary.BigEndian.Uint16(b)) {
				return fmt.Errorf("the auditor's copy of %s: bundle %d ends in entry %d of %d", l.Checkpoint.Log.Origin, n, i, w)
			}
			raw := b[2 : 2+int(binary.BigEndian.Uint16(b))]
			b = b[2+len(raw):]
			if seq := n*width + int64(i); seq >= from {
				if err := each(seq, raw); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// bundle reads the entry bundle of a width, or the wider one that an auditor who goes on has put in its place.
func (l *Log) bundle(n int64, w int) ([]byte, error) {
	name := func(w int) string {
		return strings.Replace(tlog.Tile{H: 8, L: -1, N: n, W: w}.Path(), "tile/8/data/", "tile/entries/", 1)
	}
	b, err := fs.ReadFile(l.Folder, name(w))
	for range 3 { // it may be replaced again between the look and the reading
		if !errors.Is(err, fs.ErrNotExist) || w == width {
			break
		}
		if b, err = fs.ReadFile(l.Folder, name(width)); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		others, _ := fs.ReadDir(l.Folder, name(width)+".p")
		for _, o := range others {
			if wider, e := strconv.Atoi(o.Name()); e == nil && wider > w && wider < width && errors.Is(err, fs.ErrNotExist) {
				b, err = fs.ReadFile(l.Folder, name(wider))
			}
		}
	}
	if err != nil {
		return nil, fmt.Errorf("the auditor's copy of %s: %w", l.Checkpoint.Log.Origin, err)
	}
	return b, nil
}

// errFound ends the reading of a log.
var errFound = errors.New("found")

// Entry reads one entry and its bytes.
func (l *Log) Entry(seq int64) (e *entry.Entry, raw []byte, err error) {
	if seq < 0 || seq >= l.Checkpoint.N {
		return nil, nil, fmt.Errorf("entry %d of %s: the auditor's copy has %d", seq, l.Checkpoint.Log.Origin, l.Checkpoint.N)
	}
	err = l.Raw(seq, func(_ int64, b []byte) error {
		raw = slices.Clone(b)
		return errFound
	})
	if !errors.Is(err, errFound) {
		return nil, nil, err
	}
	if e, err = entry.Parse(raw); err != nil {
		return nil, nil, fmt.Errorf("entry %d of %s: %w", seq, l.Checkpoint.Log.Origin, err)
	}
	return e, raw, nil
}

// Proof is a bundle of one entry, and of its outcome unless that is -1, which `reeve verify` takes: its inclusion in the checkpoint that the
// auditor cosigned, or in the newer one that the log signed when that alone has it.
func (l *Log) Proof(seq, outcome int64) (*verify.Bundle, error) {
	b, err := l.trust.Prove(l.Folder, seq, outcome)
	if err != nil {
		return nil, fmt.Errorf("proof of entry %d of %s: %w", seq, l.Checkpoint.Log.Origin, err)
	}
	return b, nil
}
