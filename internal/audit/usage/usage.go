// Package usage holds what providers say of the use of credentials against the ledgers: a use that the provider saw and no ledger has is out of band.
package usage

import (
	"time"

	"github.com/reevehq/reeve/internal/audit/usage/export"
)

// State is what a comparison came to.
type State string

// The states. What cannot be decided is never none.
const (
	None      State = "none"        // nothing is out of band
	OutOfBand State = "out-of-band" // the provider saw uses that no ledger has
	Undecided State = "undecided"
)

// Confidence says how sure a stray is.
type Confidence string

// The confidences.
const (
	Certain  Confidence = "certain"  // the ledgers cover the time, and nothing in them accounts for it
	Unproven Confidence = "unproven" // the ledgers do not cover the time whole
)

// Stray is uses of a credential in a bucket of time that the provider counted and the ledgers do not account for.
type Stray struct {
	Credential string      `json:"credential"`
	Provider   string      `json:"provider"`
	Kind       export.Kind `json:"kind"` // use or read
	From       time.Time   `json:"from"` // [From, To): the provider's bucket; of events the hour
	To         time.Time   `json:"to"`
	Counted    int64       `json:"counted"`    // by the provider; at least, where it counts no requests
	Ledger     int64       `json:"ledger"`     // uses in the ledgers in that time
	Tolerance  int64       `json:"tolerance"`  // uses just outside it that the provider may have counted in it; those that it did were taken off
	Difference int64       `json:"difference"` // that nothing accounts for
	Confidence Confidence  `json:"confidence"`
	Who        []string    `json:"who,omitempty"` // as the provider's events say, where it has events
}

// Unmapped is a key of the provider that no credential is known by.
type Unmapped struct {
	Keys    []string  `json:"keys"` // the key, its project; empty where the provider names none
	Counted int64     `json:"counted"`
	From    time.Time `json:"from"`
	To      time.Time `json:"to"`
}

// Judged is one credential whose counts were compared.
type Judged struct {
	Credential string      `json:"credential"`
	Kind       export.Kind `json:"kind"`
	Counted    int64       `json:"counted"`
	Ledger     int64       `json:"ledger"`
	Spare      int64       `json:"spare"` // uses that the provider did not count: so many strays could hide behind them
}

// Source is the export that was compared.
type Source struct {
	Name   string `json:"name"`
	SHA256 string `json:"sha256"` // hex, of its bytes
}

// Result is one comparison.
type Result struct {
	V        int        `json:"v"` // 1
	Provider string     `json:"provider"`
	Source   []Source   `json:"source"`
	From     time.Time  `json:"from"`
	To       time.Time  `json:"to"`
	AsOf     time.Time  `json:"as_of"`
	State    State      `json:"state"`
	Summary  string     `json:"summary"` // one sentence
	Judged   []Judged   `json:"judged"`
	Strays   []Stray    `json:"strays"`
	Unmapped []Unmapped `json:"unmapped"`
	Whole    bool       `json:"whole"`  // the export is whole, and what the provider wrote, as far as can be checked
	Cannot   []string   `json:"cannot"` // what this cannot show, a sentence each
	Sizes    []Size     `json:"sizes"`  // of the ledgers that it was compared with
}

// Size is how far a ledger was read.
type Size struct {
	Log  string `json:"log"` // id
	Size int64  `json:"size"`
}
