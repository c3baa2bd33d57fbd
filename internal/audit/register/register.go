// Package register lists every component that touches credentials, whose it is and what it can do: our own gateways and custodians from the signed
// statements, and others from records that people sign, each with the time that it holds for and the time that it was recorded.
package register

import (
	"time"
)

// Kind is what a component is.
type Kind string

// The kinds of components.
const (
	Gateway   Kind = "gateway"         // of this estate
	Custodian Kind = "custodian"       // of this estate
	Authority Kind = "authority"       // of this estate
	Auditor   Kind = "auditor"         // of this estate
	Foreign   Kind = "foreign-gateway" // of another team of the same organisation
	Vendor    Kind = "vendor-gateway"  // run by somebody else
	AgentHost Kind = "agent-host"
	Store     Kind = "secret-store"
)

// Flag is something that a component can do with credentials.
type Flag string

// The flags. Any of Forward, Cache, Retrieve and Mint puts a component in the identity control plane.
const (
	Transport Flag = "transport" // carries requests
	Invoke    Flag = "invoke"    // can cause a use and cannot read
	Forward   Flag = "forward"   // passes a credential on that it was sent
	Cache     Flag = "cache"     // keeps a credential that it was sent
	Retrieve  Flag = "retrieve"  // reads credentials from a store
	Mint      Flag = "mint"      // makes credentials
)

// Flags is all of them, those of the control plane last.
var Flags = []Flag{Transport, Invoke, Forward, Cache, Retrieve, Mint}

// ControlPlane reports whether the flag puts a component in the identity control plane.
func (f Flag) ControlPlane() bool { return f == Forward || f == Cache || f == Retrieve || f == Mint }

// Owners are who answers for a component, by person id. An empty one is an orphan's: it is escalated and never inherited.
type Owners struct {
	Policy     string `json:"policy,omitempty"`     // the audit
	Operations string `json:"operations,omitempty"` // containment
	Lifecycle  string `json:"lifecycle,omitempty"`  // revocation, where it is one person's for all credentials
	Contract   string `json:"contract,omitempty"`   // of a vendor's: who answers for the contract
}

// Component is one component as it was known to be.
type Component struct {
	ID     string   `json:"id"`
	Kind   Kind     `json:"kind"`
	Name   string   `json:"name,omitempty"`  // for people
	Units  []string `json:"units,omitempty"` // business units that it serves; empty for all
	Tenant string   `json:"tenant,omitempty"`
	Owners Owners   `json:"owners"`

	Declared   []Flag `json:"declared"`             // by its owners
	Discovered []Flag `json:"discovered,omitempty"` // by probes, until Probed
	Observed   []Flag `json:"observed,omitempty"`   // in ledgers and configurations

	Credentials []string  `json:"credentials,omitempty"` // that it is known to reach outside this estate's statements
	Probed      time.Time `json:"probed,omitzero"`       // until when a probe's verdict holds; a vendor's gateway without one has all flags

	Valid    time.Time `json:"valid"`            // from when it was so
	Until    time.Time `json:"until,omitzero"`   // to when; zero for still
	Recorded time.Time `json:"recorded"`         // when it was said
	Record   string    `json:"record,omitempty"` // hex SHA-256 of the signed record, or the lock's hash
}

// Reader answers what was known of components: valid at the first time, as recorded by the second (zero for now).
type Reader interface {
	At(valid, recorded time.Time) ([]Component, error)
}
