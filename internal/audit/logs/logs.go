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
	"strings"

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
}

// Open reads the copies in the auditor's state directory, successors after the logs that they succeed.
func Open(state string, trust *verify.Trust) ([]*Log, error) {
	names, err := os.ReadDir(filepath.Join(state, "logs"))
	if err != nil {
		return nil, fmt.Errorf("reading the auditor's copies of the ledgers: %w", err)
	}
	var all []*Log
	for _, n := range names {
		folder := os.DirFS(filepath.Join(state, "logs", n.Name()))
		raw, err := fs.ReadFile(folder, "checkpoint.signed")
		if errors.Is(err, fs.ErrNotExist) || err == nil && len(raw) == 0 {
			continue // it has no entries yet
		}
		var c *verify.Checkpoint
		if err == nil {
			c, err = trust.Checkpoint(raw)
		}
		if err == nil && c.ID() != n.Name() {
			err = fmt.Errorf("its checkpoint is of %s", c.Log.Origin)
		}
		if err != nil {
			return nil, fmt.Errorf("the auditor's copy in %s: %w", filepath.Join(state, "logs", n.Name()), err)
		}
		all = append(all, &Log{ID: c.ID(), Process: c.Log.Process, Checkpoint: c, Folder: folder})
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
func (l *Log) Raw(from int64, each func(seq int64, raw []byte) error) error {
	for n := from / width; n*width < l.Checkpoint.N; n++ {
		w := int(min(l.Checkpoint.N-n*width, width))
		p := strings.Replace(tlog.Tile{H: 8, L: -1, N: n, W: w}.Path(), "tile/8/data/", "tile/entries/", 1)
		b, err := fs.ReadFile(l.Folder, p)
		if err != nil {
			return fmt.Errorf("the auditor's copy of %s: %w", l.Checkpoint.Log.Origin, err)
		}
		for i := range w {
			if len(b) < 2 || len(b)-2 < int(binary.BigEndian.Uint16(b)) {
				return fmt.Errorf("the auditor's copy of %s: %s ends in entry %d of %d", l.Checkpoint.Log.Origin, p, i, w)
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
