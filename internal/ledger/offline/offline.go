// Package offline is what people do with a ledger's files from outside the process that writes them: check them, copy them
// and put copies back, open a payload, and leave requests. No process of an estate imports it.
package offline

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/internal/plain"
)

// Checked is what Check found in one write-ahead log.
type Checked struct {
	ledger.Extent

	// Damage is what is wrong with a log that has a successor: it was retired for it, and its files stay as evidence.
	Damage string `json:"damage,omitempty"`
}

// Check reads the write-ahead logs below dir, changing nothing, with the verifier key of the first log: every byte of every
// segment must be a record in the hash chain or zero, and the last signed checkpoint must be of these entries. The ledger may be running.
// Damage is a *ledger.DamagedError, unless a successor was begun because of it.
func Check(dir string, keys ...string) ([]Checked, error) {
	var all []Checked
	var unretired *ledger.DamagedError
	var volumes []int                           // a sealed one has no write-ahead log: its entries are all published
	names, _ := fs.Glob(os.DirFS(dir), "*/wal") // the pattern is well formed
	for _, name := range names {
		if n, err := strconv.Atoi(path.Dir(name)); err == nil {
			volumes = append(volumes, n)
		}
	}
	slices.Sort(volumes)
	for _, n := range volumes {
		extent, err := read(dir, keyOf(keys, n), n)
		c := Checked{Extent: extent}
		var damaged *ledger.DamagedError
		switch {
		case errors.As(err, &damaged):
			c.Damage, unretired = damaged.What, damaged
		case err != nil:
			return nil, err
		case c.Size > 0:
			unretired = nil
		}
		all = append(all, c)
	}
	if unretired != nil {
		return nil, unretired
	}
	return all, nil
}

// read reads one log. A running ledger may be in the middle of a write, or have moved on from a segment: it looks again before
// it judges.
// keyOf is the key of number n of the chain of logs: the last that is named after it or after a log before it.
func keyOf(keys []string, n int) (best string) {
	from := -1
	for _, key := range keys {
		name, _, _ := strings.Cut(key, "+")
		if _, m := entry.Successor(name); m <= n && m > from {
			best, from = key, m
		}
	}
	return best
}

func read(dir, verifierKey string, n int) (x ledger.Extent, err error) {
	for range 4 {
		if x, err = ledger.Read(dir, verifierKey, n); err == nil && !x.Torn {
			return x, nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err == nil {
		err = &ledger.DamagedError{Origin: x.Origin, What: "bytes after the last record are neither records nor zeros: a write that a crash tore, which the next start clears, or an alteration"}
	}
	return x, err
}

// RequestRotation asks the process that has the ledger in dir open to rotate it with its next publication.
func RequestRotation(dir string) error { return request(dir, ledger.RotateRequest, nil) }

// RequestRetirement leaves a signed retirement (a DSSE envelope) for the process that owns the ledger in dir: its next
// start verifies it, closes the damaged log that it names and begins a successor.
func RequestRetirement(dir string, envelope []byte) error {
	return request(dir, ledger.RetireRequest, envelope)
}

// request leaves a file for the user who owns dir: root may ask a process of another user, who may have been taken over.
func request(dir, name string, content []byte) error {
	root, err := plain.Folder(dir)
	if err != nil {
		return fmt.Errorf("leaving a request in %s: %w", dir, err)
	}
	defer root.Close()
	return plain.Replace(root, name, content, 0o600)
}
