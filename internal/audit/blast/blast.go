// Package blast answers what a captured component meant: which credentials it read, used or could have used, for whom, who answers for each, and
// what still lives. Where it cannot know it says more than happened, never less.
package blast

import (
	"time"

	"github.com/reevehq/reeve/internal/audit/control"
	"github.com/reevehq/reeve/internal/audit/keyring"
	"github.com/reevehq/reeve/internal/audit/register"
)

// Class is what happened with a credential, for one business unit.
type Class string

// The classes.
const (
	Read         Class = "READ"          // its plaintext was in the component
	OutOfBand    Class = "OUT-OF-BAND"   // the provider saw a use that the ledgers do not have
	UsedAsserted Class = "USED-ASSERTED" // only a bearer token, or the component, vouched
	UsedProven   Class = "USED-PROVEN"   // the custodian verified the workload's own request-bound proof
	Reachable    Class = "REACHABLE"     // the policy in force would have allowed it, or nobody can know; no entry
	Excluded     Class = "EXCLUDED"      // the policy denied it, and the log is complete
)

// Classes is all of them, the most serious first.
var Classes = []Class{Read, OutOfBand, UsedAsserted, UsedProven, Reachable, Excluded}

// Accountable is who answered for a credential's use as of the start of the window, by person id; empty for nobody.
type Accountable struct {
	Policy     []string `json:"policy"`     // owners of the policy of the unit that used it, and of the unit that owns it
	Operations []string `json:"operations"` // of the gateways
	Lifecycle  string   `json:"lifecycle"`  // the credential's one owner
	Approvers  []string `json:"approvers"`  // who signed the policy versions that opened the reach
}

// Row is one credential for one business unit.
type Row struct {
	Credential   string           `json:"credential"`
	Tenant       string           `json:"tenant"`
	Unit         string           `json:"unit"`   // that used or could use it
	Owning       string           `json:"owning"` // unit whose credential it is
	Class        Class            `json:"class"`  // the most serious
	Classes      []Class          `json:"classes"`
	Fingerprints []string         `json:"fingerprints"` // used or held in the window
	Uses         int64            `json:"uses"`
	Unknown      int64            `json:"unknown"` // uses whose outcome is unknown
	Denied       int64            `json:"denied"`
	Proofs       map[string]int64 `json:"proofs"`     // uses by proof, such as "W2 pop"
	Workloads    []string         `json:"workloads"`  // that used it; that could, where none did
	Gateways     []string         `json:"gateways"`   // likewise
	Policies     []string         `json:"policies"`   // that permitted it in the window
	Custodians   []string         `json:"custodians"` // that served it
	First        time.Time        `json:"first,omitzero"`
	Last         time.Time        `json:"last,omitzero"`
	Accountable  Accountable      `json:"accountable"`
	Destination  string           `json:"destination,omitempty"` // origin that it goes to
	State        string           `json:"state"`                 // of its newest version, now, as entries have it; expired, none or unknown
	LiveUntil    time.Time        `json:"live_until,omitzero"`   // when the last of what was exposed ends by itself; absent when it does not
	Live         bool             `json:"live"`                  // still usable now, as far as is known
	Complete     bool             `json:"complete"`              // the ledgers of its custodians cover the window: nothing is missing from this row
	Refs         []control.Ref    `json:"refs"`                  // first and last entry in each log
	Why          string           `json:"why"`                   // of the class, one sentence
}

// Lives says whether the row can still be used, in a few words.
func (r *Row) Lives() string {
	switch {
	case r.Live && r.LiveUntil.IsZero():
		return "until revoked"
	case r.Live:
		return "until " + stamp(r.LiveUntil)
	case r.State == "active" || r.State == "overlapping" || r.State == "pending": // of a version that came after what was exposed
		return "no (a newer one is " + r.State + ")"
	}
	return "no (" + r.State + ")"
}

// Log is how complete a ledger is for the window.
type Log struct {
	Process  string    `json:"process"`
	Origin   string    `json:"origin"`
	From     time.Time `json:"from,omitzero"`
	To       time.Time `json:"to,omitzero"`       // newest entry
	Cosigned time.Time `json:"cosigned,omitzero"` // newest entry that enough witnesses have cosigned
	Size     int64     `json:"size"`
	Complete bool      `json:"complete"` // it covers the window, without silence longer than its heartbeat allows
	Why      string    `json:"why,omitempty"`
}

// Residual is what lives on of that which was exposed: read, used, or seen out of band.
type Residual struct {
	Credentials int   `json:"credentials"` // that are still live
	Seconds     int64 `json:"seconds"`     // credential-seconds until those end that end by themselves
	Unbounded   int   `json:"unbounded"`   // that do not end by themselves
	Keys        int   `json:"keys"`        // keys and logins that were taken along and still work
}

// Stray is a use that a provider's own records show and no ledger has.
type Stray struct {
	Credential string    `json:"credential"`
	Unit       string    `json:"unit,omitempty"` // where the provider's record says so; else the unit whose credential it is
	Provider   string    `json:"provider"`
	Count      int64     `json:"count"`
	First      time.Time `json:"first,omitzero"`
	Last       time.Time `json:"last,omitzero"`
	Why        string    `json:"why"` // what was compared, a sentence
}

// Answer is the blast radius.
type Answer struct {
	Subject   string             `json:"subject"` // "gateway:g1"
	Component register.Component `json:"component"`
	From      time.Time          `json:"from"`
	To        time.Time          `json:"to"`
	AsOf      time.Time          `json:"as_of"` // as recorded by then
	Rows      []Row              `json:"rows"`  // by class, credential, unit
	Keys      []keyring.Key      `json:"keys"`  // of a captured custodian: with which it gets secrets and by which it is known
	Counts    map[Class]int      `json:"counts"`
	Units     []string           `json:"units"` // that are concerned: of rows that are not EXCLUDED
	Residual  Residual           `json:"residual"`
	Complete  bool               `json:"complete"` // every ledger that counts covers the window
	Logs      []Log              `json:"logs"`
	Tasks     []Task             `json:"tasks"`           // who has to do what now, in this order
	Cannot    []string           `json:"cannot"`          // what cannot be known, a sentence each
	Lacks     []string           `json:"lacks,omitempty"` // what is not known of components, a sentence each
}
