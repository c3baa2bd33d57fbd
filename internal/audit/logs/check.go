package logs

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/verify"
)

// Checked is what a process's log, with its successors, was found to be.
type Checked struct {
	Process string         `json:"process"`
	Report  *verify.Report `json:"report"`
	Silence []Silence      `json:"silence,omitempty"` // gaps longer than allowed between two entries, where heartbeats should be
}

// Silence is a time without an entry.
type Silence struct {
	Log  string    `json:"log"`
	Seq  int64     `json:"seq"` // of the entry after it
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
}

const maxSilences = 100 // of a process that are named

// Check verifies copies as `reeve verify` does a published log: every byte, entry, signature, cosignature, and the links from log to log. Times
// without an entry that are longer than longest are reported; 0 reports none.
func Check(trust *verify.Trust, all []*Log, longest time.Duration) (list []Checked, err error) {
	var chains []chain
	for _, l := range all { // successors come after the logs that they succeed
		base, n := entry.Successor(l.Checkpoint.Log.Origin)
		if n == 0 || len(chains) == 0 || chains[len(chains)-1].origin != base {
			chains = append(chains, chain{origin: base})
		}
		c := &chains[len(chains)-1]
		if n != len(c.logs) {
			return nil, fmt.Errorf("%w: there is no copy of the log before %s", verify.ErrUndecided, l.Checkpoint.Log.Origin)
		}
		c.logs = append(c.logs, l)
	}
	for _, c := range chains {
		r, err := trust.Directory(c, verify.Options{})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.origin, err)
		}
		r.Unknown = slices.DeleteFunc(r.Unknown, func(s string) bool { return strings.Contains(s, "--since") }) // the auditor's copy is the earlier state
		checked := Checked{Process: c.logs[0].Process, Report: r}
		if checked.Silence, err = c.silences(longest); err != nil {
			return nil, err
		}
		list = append(list, checked)
	}
	return list, nil
}

// chain is a log with its successors as one published directory: the first at its top, the nth successor in the folder n.
type chain struct {
	origin string
	logs   []*Log
}

// Open implements fs.FS.
func (c chain) Open(name string) (fs.File, error) {
	first, rest, deep := strings.Cut(name, "/")
	if n, err := strconv.Atoi(first); err == nil && strconv.Itoa(n) == first {
		if n < 1 || n >= len(c.logs) {
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		}
		if !deep {
			rest = "."
		}
		return c.logs[n].Folder.Open(rest)
	}
	return c.logs[0].Folder.Open(name)
}

// silences reads the times of all entries.
func (c chain) silences(longest time.Duration) (list []Silence, err error) {
	last := int64(0)
	for _, l := range c.logs {
		err = errors.Join(err, l.Raw(0, func(seq int64, raw []byte) error {
			e, err := entry.Parse(raw)
			if err != nil {
				return nil // it is among the findings
			}
			if last > 0 && longest > 0 && e.TimeNS-last > int64(longest) && len(list) < maxSilences {
				list = append(list, Silence{l.Checkpoint.Log.Origin, seq, time.Unix(0, last).UTC(), time.Unix(0, e.TimeNS).UTC()})
			}
			last = e.TimeNS
			return nil
		}))
	}
	return list, err
}
