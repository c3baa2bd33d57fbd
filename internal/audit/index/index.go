// Package index is what questions about the ledgers are answered from: hourly sums of uses, and what happened to credentials. It holds nothing
// that the ledgers do not have, and can be thrown away and rebuilt; single entries are read from the ledgers' tiles.
package index

import (
	"context"
	"time"

	"github.com/reevehq/reeve/entry"
)

// Key is what uses are summed by.
type Key struct {
	Hour        int64      `json:"hour"` // Unix time in seconds of its first instant
	Log         string     `json:"log"`  // id
	Type        entry.Type `json:"type"` // intent, deny, mint, exchange or issue
	Tenant      string     `json:"tenant,omitempty"`
	Unit        string     `json:"unit,omitempty"`
	Workload    string     `json:"workload,omitempty"`
	Gateway     string     `json:"gateway,omitempty"`
	Credential  string     `json:"credential,omitempty"`
	Fingerprint string     `json:"fingerprint,omitempty"`
	Estate      string     `json:"estate,omitempty"` // hex lock hash: the policy set
	Decision    string     `json:"decision,omitempty"`
	Reason      string     `json:"reason,omitempty"` // of denials, how of mints, and of uses that something else than policy let: break_glass
	Level       string     `json:"level,omitempty"`  // W0 … W3
	Proof       string     `json:"proof,omitempty"`  // bearer or pop
}

// Uses is what was summed under a key.
type Uses struct {
	Key
	Sum
}

// Sum is what uses sum up to.
type Sum struct {
	Count    int64 `json:"count"`     // events; more than entries where one stands for many
	FirstSeq int64 `json:"first_seq"` // of the first entry
	LastSeq  int64 `json:"last_seq"`
	First    int64 `json:"first"` // Unix time in nanoseconds
	Last     int64 `json:"last"`
	Done     int64 `json:"done"`   // intents with an outcome: Count less this is used, outcome unknown
	Failed   int64 `json:"failed"` // of those, without a 2xx or 3xx status
	Bytes    int64 `json:"bytes"`  // response body bytes passed on
}

// Event is an entry of a kind that is rare: publish, revoke, freeze, unfreeze, probe, alarm, break_glass, attest, retire and erasure, workload
// keys that were issued, and the outcomes of probes.
type Event struct {
	Log         string     `json:"log"`
	Seq         int64      `json:"seq"`
	Time        int64      `json:"time"` // Unix time in nanoseconds
	Type        entry.Type `json:"type"`
	Tenant      string     `json:"tenant,omitempty"`
	Unit        string     `json:"unit,omitempty"`
	Workload    string     `json:"workload,omitempty"`
	Gateway     string     `json:"gateway,omitempty"`
	Credential  string     `json:"credential,omitempty"`
	Fingerprint string     `json:"fingerprint,omitempty"`
	Lease       string     `json:"lease,omitempty"`
	State       string     `json:"state,omitempty"`
	Actor       []string   `json:"actor,omitempty"`
	Proof       string     `json:"proof,omitempty"` // the channel that a record came by
	Record      string     `json:"record,omitempty"`
	Estate      string     `json:"estate,omitempty"`
	Reason      string     `json:"reason,omitempty"`
	Decision    string     `json:"decision,omitempty"`
	Status      int        `json:"status,omitempty"`
	Intent      int64      `json:"intent,omitempty"` // of a probe's outcome: the number of the probe; -1 for none
}

// Log is how far a log was indexed.
type Log struct {
	ID         string `json:"id"`
	Process    string `json:"process"`
	Origin     string `json:"origin"`
	Size       int64  `json:"size"`                  // entries indexed
	First      int64  `json:"first,omitempty"`       // Unix time in nanoseconds of the first entry
	Last       int64  `json:"last,omitempty"`        // of the newest
	Silence    int64  `json:"silence"`               // longest time between two entries, in nanoseconds: heartbeats make it provable
	SilenceSeq int64  `json:"silence_seq"`           // of the entry after it
	PrevOrigin string `json:"prev_origin,omitempty"` // of a successor: the log before it, and how many of its entries are vouched for
	PrevSize   int64  `json:"prev_size,omitempty"`
}

// Filter chooses. An empty member chooses all.
type Filter struct {
	From, To    time.Time // [From, To); the zero time is open
	Types       []entry.Type
	Log         string
	Tenant      string
	Unit        string
	Workload    string
	Gateway     string
	Credential  string
	Fingerprint string
}

// Column is a member of Key that sums keep apart.
type Column string

// The columns, by the names that Key has in JSON.
const (
	ByHour        Column = "hour"
	ByLog         Column = "log"
	ByType        Column = "type"
	ByTenant      Column = "tenant"
	ByUnit        Column = "unit"
	ByWorkload    Column = "workload"
	ByGateway     Column = "gateway"
	ByCredential  Column = "credential"
	ByFingerprint Column = "fingerprint"
	ByEstate      Column = "estate"
	ByDecision    Column = "decision"
	ByReason      Column = "reason"
	ByLevel       Column = "level"
	ByProof       Column = "proof"
)

// Columns is all of them.
var Columns = []Column{ByHour, ByLog, ByType, ByTenant, ByUnit, ByWorkload, ByGateway, ByCredential, ByFingerprint, ByEstate, ByDecision, ByReason, ByLevel, ByProof}

// Reader answers. A window that begins or ends within an hour takes that hour's sums when their first and last entry lie in it, and reads single
// entries from the tiles otherwise, if it has them; without tiles the whole hour counts (over-report, never under-report).
type Reader interface {
	// Uses sums what the filter chooses, kept apart by the columns; the other members of Key are empty. Without columns, one row. Sorted by Key.
	// Numbers (FirstSeq, LastSeq) are meaningful only with ByLog; First and Last always.
	Uses(context.Context, Filter, ...Column) ([]Uses, error)
	// Events are sorted by time, log and number.
	Events(context.Context, Filter) ([]Event, error)
	// Versions are those that were bound before Filter.To and not over (destroyed, expired or proven dead) before Filter.From, each as it was at
	// Filter.To: what entries said later is not in it. Gateway and Types do not choose.
	Versions(context.Context, Filter) ([]Version, error)
	Logs(context.Context) ([]Log, error)
	// Hash is the same for two indexes of the same entries, however they were written. Hex SHA-256.
	Hash(context.Context) (string, error)
}
