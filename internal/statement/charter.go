package statement

import "time"

// Charter is charter.yaml: who exists, who may sign what, and which service keys are genuine. Signed by the root quorum.
type Charter struct {
	Estate    string    `yaml:"estate"` // estate id, part of every signature and every log origin
	Demo      bool      `yaml:"demo"`   // refused by any process that was not started with --demo
	Tenants   []string  `yaml:"tenants"`
	Units     []Unit    `yaml:"units"`
	People    []Person  `yaml:"people"`
	Roles     Roles     `yaml:"roles"`
	Threshold Threshold `yaml:"threshold"`
	Recovery  Recovery  `yaml:"recovery"`

	Workloads []Workload `yaml:"workloads"`
	Issuers   []Issuer   `yaml:"issuers"`
	// Signals are identity providers whose events may close, and only close.
	Signals     []Signal     `yaml:"signals"`
	Authority   Authority    `yaml:"authority"`
	ServiceKeys []ServiceKey `yaml:"service_keys"`
	Witnesses   WitnessRule  `yaml:"witnesses"`
	Revocation  Bounds       `yaml:"revocation"`

	// RequireIsolation is the weakest isolation level at which real credentials are used: host, separate-uid, one-uid
	// or none. A custody record may accept a weaker one for itself.
	RequireIsolation string `yaml:"require_isolation"`
	// RequireConfinement names kernel features (landlock, seccomp) without which a process refuses to start.
	RequireConfinement []string `yaml:"require_confinement"`

	// Cedar are file names beside charter.yaml. Their policies only forbid, and apply to every use in the estate.
	Cedar []string `yaml:"cedar"`

	people map[string]*Person // by id, once the charter is checked
}

// Unit is a business unit, the scope of one policy and one custody statement. It belongs to exactly one tenant.
type Unit struct {
	ID     string `yaml:"id"`
	Tenant string `yaml:"tenant"` // the isolation border
}

// Person signs statements. A person is live until he leaves or his attestation runs out.
type Person struct {
	ID            string    `yaml:"id"`
	Name          string    `yaml:"name"`
	Left          time.Time `yaml:"left"` // when he left; zero while he is here
	AttestedUntil time.Time `yaml:"attested_until"`
	AttestedBy    string    `yaml:"attested_by"` // somebody else
	Keys          []Key     `yaml:"keys"`
	// Deputies take his roles, the first live one of them, from the instant he stops being live.
	Deputies []string `yaml:"deputies"`
	// Recipient is an age X25519 recipient to which a secret may be recovered; empty for nobody who may.
	Recipient string `yaml:"recipient"`
	// Notify is an https URL that is told by POST of every break-glass and bait taken of what he owns; empty for none.
	Notify string `yaml:"notify"`
}

// Roles says who holds which owner role. No person and no key may stand in two of the three for the same gateway,
// credential or unit.
type Roles struct {
	Root       []string             `yaml:"root"`
	Operations []string             `yaml:"operations"`
	Units      map[string]UnitRoles `yaml:"units"` // by unit id
}

// UnitRoles are the owners of one business unit.
type UnitRoles struct {
	Policy    []string `yaml:"policy"`
	Lifecycle []string `yaml:"lifecycle"`
}

// Threshold is how many distinct people must approve. Zero means the default: 2 for root, 1 otherwise. The author of a
// statement does not count; in the root quorum he does, when he belongs to it, but somebody else must be there.
type Threshold struct {
	Root       int `yaml:"root"`
	Policy     int `yaml:"policy"`
	Lifecycle  int `yaml:"lifecycle"`
	Operations int `yaml:"operations"`
}

// Workload is an agent or program that calls the gateway. It is in exactly one unit.
type Workload struct {
	ID         string     `yaml:"id"`
	Unit       string     `yaml:"unit"`
	Identities []Identity `yaml:"identities"` // how it may prove who it is: by any one of them
}

// Authority is what the charter says of the authority's tokens.
type Authority struct {
	// Issuer is its public URL: the iss of its access tokens, and the audience of tokens that may be exchanged for them and
	// for nothing else. Empty when there is no token endpoint.
	Issuer string `yaml:"issuer"`
}

// ServiceKey is a key that a process signs with. Key is a note verifier key ("name+hash+base64", golang.org/x/mod/sumdb/note).
type ServiceKey struct {
	Use       string    `yaml:"use"`     // log, feed, token or witness
	Process   string    `yaml:"process"` // gateway, custodian or authority id; the auditor's id for a witness
	Key       string    `yaml:"key"`
	NotBefore time.Time `yaml:"not_before"`
	NotAfter  time.Time `yaml:"not_after"`
}

// WitnessRule is k of the n witness service keys. Zero Need means 1.
type WitnessRule struct {
	Need int `yaml:"need"`
}

// Bounds is how old the newest news of revocations may be before use stops, per credential class.
// At least 2 s, at most 60 s; defaults 5 s for high and 30 s for normal.
type Bounds struct {
	High   Duration `yaml:"high"`
	Normal Duration `yaml:"normal"`
}
