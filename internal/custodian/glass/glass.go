// Package glass keeps the break-glasses of a custodian: what each waives while it runs, the secret that one recovered, and the review
// that stays open until it is signed.
package glass

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/reevehq/reeve/internal/custodian/state"
	"github.com/reevehq/reeve/internal/statement"
)

// Rotation is how long a credential whose secret was recovered may be used before it has to be rotated.
const Rotation = 24 * time.Hour

var (
	// ErrUnknown refuses a review of a break-glass that was never in force here.
	ErrUnknown = errors.New("no such break-glass was in force at this custodian")
	// ErrReviewer refuses a review by those who signed the break-glass.
	ErrReviewer = errors.New("a review is signed by somebody who did not sign the break-glass")
)

// fileName is the state file's, in the custodian's state directory.
const fileName = "break-glass.json"

// Case is one break-glass that was in force. It is never changed in place.
type Case struct {
	statement.BreakGlass
	Record    string   `json:"record"`  // hex, of the record's statement.Envelope.ID
	Signers   []string `json:"signers"` // who signed it
	Ended     bool     `json:"ended"`
	Review    *Review  `json:"review,omitempty"`
	Recovered *Secret  `json:"recovered,omitempty"`
}

// Review is how a case was closed.
type Review struct {
	Record  string    `json:"record"`
	Signers []string  `json:"signers"`
	Finding string    `json:"finding"`
	Time    time.Time `json:"time"`
}

// Secret is a secret that was recovered: encrypted to the recipient.
type Secret struct {
	Version    int64  `json:"version"`
	Ciphertext []byte `json:"ciphertext"`
	Rotated    bool   `json:"rotated"` // a newer version is held, or the credential was closed
}

// Cabinet is every case. Safe for concurrent use.
type Cabinet struct {
	dir   state.Dir
	mu    sync.Mutex // spans changes
	cases atomic.Pointer[[]*Case]
}

// Open reads the state file, which a custodian that never had a break-glass does not have.
func Open(dir state.Dir) (*Cabinet, error) {
	c := &Cabinet{dir: dir}
	cases := []*Case{}
	text, err := dir.Read(fileName)
	if err == nil && text != nil {
		err = json.Unmarshal(text, &cases)
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w; put it back from a backup: it says which reviews are open", dir.Path(fileName), err)
	}
	c.cases.Store(&cases)
	return c, nil
}

// List returns every case, oldest first.
func (c *Cabinet) List() []*Case { return *c.cases.Load() }

// Find returns the case of a record, or nil.
func (c *Cabinet) Find(record string) *Case {
	for _, k := range c.List() {
		if k.Record == record {
			return k
		}
	}
	return nil
}

// Waives returns the case that waives what for a use of the credential by the workload at t, or nil.
func (c *Cabinet) Waives(what, workload, credential string, t time.Time) *Case {
	for _, k := range c.List() {
		if !k.Ended && t.Before(k.Until) && k.Credential == credential && (k.Workload == "" || k.Workload == workload) && slices.Contains(k.Waive, what) {
			return k
		}
	}
	return nil
}

// Begin puts a new case in force, once it is on disk: so a record begins one at most once, whatever fails after it. An error means that
// it is not in force.
func (c *Cabinet) Begin(k *Case) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	next := append(slices.Clone(c.List()), k)
	if err := c.write(next); err != nil {
		return fmt.Errorf("the break-glass does not begin, because it cannot be kept: %w", err)
	}
	c.cases.Store(&next)
	return nil
}

// Put puts a case in place of the one of the same record. An error means that it is in force but not on disk.
func (c *Cabinet) Put(k *Case) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	next := slices.Clone(c.List())
	if i := slices.IndexFunc(next, func(old *Case) bool { return old.Record == k.Record }); i >= 0 {
		next[i] = k
	} else {
		next = append(next, k)
	}
	c.cases.Store(&next)
	if err := c.write(next); err != nil {
		return fmt.Errorf("the break-glass is in force, but not on disk: %w", err)
	}
	return nil
}

func (c *Cabinet) write(cases []*Case) error {
	text, err := json.Marshal(cases)
	if err != nil {
		return err
	}
	return c.dir.Replace(fileName, text)
}

// Reviewed returns the case as the review leaves it, for Put. One of the reviewers did not sign the break-glass.
func (c *Cabinet) Reviewed(r *statement.Review, record string, by []string) (*Case, error) {
	k := c.Find(r.BreakGlass)
	if k == nil {
		return nil, fmt.Errorf("%w: %.16s", ErrUnknown, r.BreakGlass)
	}
	if !slices.ContainsFunc(by, func(p string) bool { return !slices.Contains(k.Signers, p) }) {
		return nil, ErrReviewer
	}
	next := *k
	next.Review = &Review{Record: record, Signers: by, Finding: r.Finding, Time: r.Created}
	return &next, nil
}
