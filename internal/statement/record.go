package statement

import (
	"crypto/sha256"
	"strings"
	"time"
)

// A record is a small signed object outside the versioned statements: it takes effect when it arrives. Each is DSSE over
// RFC 8785 JSON of one of the types below, with the payload type "application/vnd.reeve.<kind>+json".

// Record is a record as it reached a process.
type Record struct {
	Kind     string
	Envelope *Envelope
	SHA256   string // hex, of its Envelope.ID: its name everywhere
	Channel  string // by which it came: feed, folder, auditor, gateway, admin, or kept from an earlier run
}

// Envelope is a DSSE envelope (https://github.com/secure-systems-lab/dsse, v1). Payload and Sig are raw bytes; JSON carries base64.
type Envelope struct {
	PayloadType string      `json:"payloadType"`
	Payload     []byte      `json:"payload"`
	Signatures  []Signature `json:"signatures"`
}

// ID is what a record is known by: the SHA-256 of what its signers signed. Signatures are no part of it, so that who has one valid
// record cannot make another one that says the same.
func (env *Envelope) ID() [sha256.Size]byte { return sha256.Sum256(PAE(env.PayloadType, env.Payload)) }

// WorkloadKey registers a W0 key: the custodian knows its hash only. Signed by a policy owner of the workload's unit.
type WorkloadKey struct {
	Estate    string    `json:"estate"`
	Workload  string    `json:"workload"`
	Prefix    string    `json:"prefix"` // the first characters, for lists: "rv_" and 8 more
	SHA256    string    `json:"sha256"` // hex, of the whole key
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"` // at most 30 days after NotBefore
	// Networks bound where the key may be used from, such as 10.0.0.0/8, by what the gateway says; empty for everywhere.
	Networks []string `json:"networks,omitempty"`
}

// Revocation closes something. Signed by a person who may close it: an owner closes what is his.
type Revocation struct {
	Estate string `json:"estate"`
	Signer string `json:"signer"` // person id
	Number int64  `json:"number"` // rises by one per signer
	Target Target `json:"target"`
	Open   bool   `json:"open"` // reopen; needs a second person of another role
	// End asks the custodians to end the credential's secrets at their source too. Only its accountable owner asks for it.
	End    bool      `json:"end,omitempty"`
	Reason string    `json:"reason"`
	Time   time.Time `json:"time"`
}

// Target is what a revocation names: a workload, agent (a name in a token's delegation chain), person, tenant, unit, credential or
// gateway by its id; a key (W0) by the hex SHA-256 of it; a token by that or by its jti; or everything.
type Target struct {
	Kind string `json:"kind"`
	ID   string `json:"id"` // empty for everything
}

// String names the target for people.
func (t Target) String() string { return strings.TrimSuffix(t.Kind+" "+t.ID, " ") }

// Handover carries a sealed secret from its lifecycle owner to one custodian. Signed by the credential's lifecycle owner.
type Handover struct {
	Estate     string    `json:"estate"`
	Credential string    `json:"credential"`
	Version    int64     `json:"version"` // only rises
	Custodian  string    `json:"custodian"`
	SHA256     string    `json:"sha256"` // hex, of the age ciphertext
	Created    time.Time `json:"created"`
}

// Extension lengthens the witness fuse or the feed bound by at most an hour. Signed by two owners of different roles.
type Extension struct {
	Estate    string    `json:"estate"`
	Custodian string    `json:"custodian"`
	What      string    `json:"what"` // witness or feed
	Until     time.Time `json:"until"`
	Created   time.Time `json:"created"`
	Reason    string    `json:"reason"`
}

// Retirement closes a damaged log and allows a new one that begins with its last cosigned size and root.
// Signed by two owners of different roles.
type Retirement struct {
	Estate  string    `json:"estate"`
	Log     string    `json:"log"` // log id
	Size    int64     `json:"size"`
	Root    string    `json:"root"` // base64, 32 bytes
	Reason  string    `json:"reason"`
	Created time.Time `json:"created"`
}
