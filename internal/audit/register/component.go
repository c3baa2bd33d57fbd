package register

import (
	"slices"
	"time"

	"github.com/reevehq/reeve/internal/statement"
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

// Kinds is all of them, those of this estate first.
var Kinds = []Kind{Gateway, Custodian, Authority, Auditor, Foreign, Vendor, AgentHost, Store}

// Own reports whether components of the kind are of this estate: the signed statements say which there are.
func (k Kind) Own() bool { return k == Gateway || k == Custodian || k == Authority || k == Auditor }

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

// acting is who stands for those who are named at t, as the charter has it: themselves, a deputy, or nobody.
func (o Owners) acting(c *statement.Charter, t time.Time) Owners {
	return Owners{acting(c, o.Policy, t), acting(c, o.Operations, t), acting(c, o.Lifecycle, t), acting(c, o.Contract, t)}
}

func acting(c *statement.Charter, id string, t time.Time) string {
	if p := c.Acting(id, t); p != nil {
		return p.ID
	}
	return ""
}

// Component is one component as it was known to be.
type Component struct {
	ID     string   `json:"id"`
	Kind   Kind     `json:"kind"`
	Name   string   `json:"name,omitempty"`  // for people
	Units  []string `json:"units,omitempty"` // business units that it serves; empty for all
	Tenant string   `json:"tenant,omitempty"`
	Owners Owners   `json:"owners"` // who answered then: who is named, or a deputy
	Named  Owners   `json:"named"`  // whom the statement or record names
	// UnitOwners are, of a custodian, who answers for the policy and the credentials of each unit that it serves: no one person does for all.
	UnitOwners map[string]Owners `json:"unit_owners,omitempty"`

	Declared   []Flag `json:"declared"`             // by its owners
	Discovered []Flag `json:"discovered,omitempty"` // by probes, until Probed
	Observed   []Flag `json:"observed,omitempty"`   // in ledgers and configurations

	Credentials []string  `json:"credentials,omitempty"` // that it is known to reach outside this estate's statements
	Probed      time.Time `json:"probed,omitzero"`       // until when a probe's verdict holds; a vendor's gateway without one has all flags
	Verdict     *Verdict  `json:"verdict,omitempty"`     // of the probe

	Valid    time.Time `json:"valid"`            // from when it was so
	Until    time.Time `json:"until,omitzero"`   // to when; zero for still
	Recorded time.Time `json:"recorded"`         // when it was said: the ledger's time where Anchored, else its signer's word
	Anchored bool      `json:"anchored"`         // a ledger has the record, or the lock
	Record   string    `json:"record,omitempty"` // hex SHA-256 of the signed record, or the lock's hash
	Signers  []string  `json:"signers,omitempty"`
}

// Serves reports whether the component serves the business unit.
func (c *Component) Serves(unit string) bool {
	return len(c.Units) == 0 || slices.Contains(c.Units, unit)
}
