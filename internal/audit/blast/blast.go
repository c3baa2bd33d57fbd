// Package blast answers what a captured component meant: which credentials it read, used or could have used, for whom, who answers for each, and
// what still lives.
package blast

import (
	"time"

	"github.com/reevehq/reeve/internal/audit/control"
	"github.com/reevehq/reeve/internal/audit/register"
)

// Class is what happened with a credential, for one business unit. The most serious comes first.
type Class string

// The classes.
const (
	Read         Class = "READ"          // its plaintext was in the component
	OutOfBand    Class = "OUT-OF-BAND"   // the provider saw a use that the ledgers do not have
	UsedAsserted Class = "USED-ASSERTED" // only a bearer token, or the component, vouched
	UsedProven   Class = "USED-PROVEN"   // the custodian verified the workload's own request-bound proof
	Reachable    Class = "REACHABLE"     // the policy in force would have allowed it; no entry
	Excluded     Class = "EXCLUDED"      // the policy denied it, and the log is complete
)

// Accountable is who answered for a credential's use as of the start of the window, by person id; empty for nobody.
type Accountable struct {
	Policy     []string `json:"policy"`     // owners of the unit's policy
	Operations []string `json:"operations"` // of the gateway
	Lifecycle  string   `json:"lifecycle"`  // the credential's one owner
	Approvers  []string `json:"approvers"`  // who signed the policy version that opened the reach
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
	Proofs       map[string]int64 `json:"proofs"` // uses by proof, such as "W2 pop"
	Workloads    []string         `json:"workloads"`
	First        time.Time        `json:"first,omitzero"`
	Last         time.Time        `json:"last,omitzero"`
	Accountable  Accountable      `json:"accountable"`
	State        string           `json:"state"`               // of its newest version, now
	LiveUntil    time.Time        `json:"live_until,omitzero"` // when the last of what was exposed ends by itself
	Live         bool             `json:"live"`                // still usable now, as far as is known
	Refs         []control.Ref    `json:"refs"`                // first and last entry in each log
	Why          string           `json:"why"`                 // of the class, one sentence
}

// Log is how complete a ledger is for the window.
type Log struct {
	Process  string    `json:"process"`
	Origin   string    `json:"origin"`
	From     time.Time `json:"from"`
	To       time.Time `json:"to"` // newest entry
	Size     int64     `json:"size"`
	Complete bool      `json:"complete"` // it covers the window, without silence longer than its heartbeat allows
	Why      string    `json:"why,omitempty"`
}

// Answer is the blast radius.
type Answer struct {
	Subject   string             `json:"subject"` // "gateway:g1"
	Component register.Component `json:"component"`
	From      time.Time          `json:"from"`
	To        time.Time          `json:"to"`
	AsOf      time.Time          `json:"as_of"` // as recorded by then
	Rows      []Row              `json:"rows"`  // by class, credential, unit
	Counts    map[Class]int      `json:"counts"`
	Units     []string           `json:"units"`
	Logs      []Log              `json:"logs"`
	Cannot    []string           `json:"cannot"` // what cannot be known, a sentence each
}
