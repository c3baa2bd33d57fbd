// Package entry defines the ledger entry, version 1: compact canonical JSON (RFC 8785) of integers, strings and lists of strings,
// with pseudonymous ids, hashes and fingerprints, never secrets, prompts or answers.
package entry

// Type says what an entry records.
type Type string

// The entry types of version 1.
const (
	Intent     Type = "intent"
	Outcome    Type = "outcome"
	Deny       Type = "deny"
	Mint       Type = "mint"
	Exchange   Type = "exchange"
	Issue      Type = "issue"
	Publish    Type = "publish"
	Revoke     Type = "revoke"
	Freeze     Type = "freeze"
	Unfreeze   Type = "unfreeze"
	Probe      Type = "probe"
	Alarm      Type = "alarm"
	Heartbeat  Type = "heartbeat"
	BreakGlass Type = "break_glass"
	Attest     Type = "attest"
	Retire     Type = "retire"
	Erasure    Type = "erasure"
	Version    Type = "version"
)

// Entry is one leaf of a ledger. Members that do not apply are left out of the JSON. The ledger itself sets V, Seq, TimeNS,
// Log and TenantSeq; callers set the rest.
type Entry struct {
	V          int   // 1
	Seq        int64 // leaf index in its log
	TimeNS     int64 // Unix time in nanoseconds; a decimal string in JSON, because RFC 8785 numbers are IEEE 754 doubles
	Type       Type
	Log        string // log id
	Tenant     string
	TenantSeq  int64 // gapless per tenant in this log, from 0; only with Tenant
	Unit       string
	Workload   string
	Actor      []string // delegation chain, or the people and keys that acted
	Level      string   // W0 … W3
	Proof      string   // bearer, pop; or the channel a revocation came by
	Gateway    string
	Credential string
	CredFP     string // keyed fingerprint of the secret's bytes
	Lease      string // lease or version of the credential
	State      string // of that version, from this entry on
	Expires    int64  // its end as its source says: Unix time in seconds; 0 for none
	Dest       string // origin
	Method     string
	PathHash   string // hex SHA-256 of the path as sent
	ReqDigest  string // salted digest of the request body
	Record     string // hex SHA-256 of the signed record that the entry carries out
	Estate     string // hex lock hash
	Policies   []string
	Decision   string // allow or deny
	Reason     string
	IntentSeq  int64 // of the intent that an outcome belongs to; HasIntent tells 0 from none
	HasIntent  bool
	IntentLog  string // log id of the log that holds the intent, when it is not this one: the ledger was rotated in between
	Status     int    // upstream's HTTP status
	Bytes      int64  // response body bytes passed on
	Usage      string
	FeedAgeMS  int64  // age of the newest revocation news in milliseconds; -1 when unknown; always written for Intent and Deny
	Commit     string // salted commitment to an erasable payload
	Count      int64  // how many events one entry stands for (refusals of unauthenticated callers)

	// The first leaf of a successor log has type Retire and names the log before it.
	PrevLog  string // origin
	PrevSize int64  // entries that the successor vouches for
	PrevRoot string // base64 RFC 6962 root at PrevSize
}
