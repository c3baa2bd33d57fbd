// Package admin is the custodian's admin socket: JSON over HTTP on a Unix socket of the host's operator, whose end is
// internal/admin/operator. It shows the state and closes; what opens or lengthens anything needs a record that the owners signed.
package admin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/reevehq/reeve/internal/confine"
	"github.com/reevehq/reeve/internal/statement"
)

const maxRequest = 64 << 10 // bytes of a request

// Status is what a custodian says of itself. It holds no secret.
type Status struct {
	ID      string            `json:"id"`
	Version string            `json:"version"` // of the program
	PID     int               `json:"pid"`
	UID     int               `json:"uid"`
	Estate  string            `json:"estate"`
	Demo    bool              `json:"demo"`
	Ready   bool              `json:"ready"`
	Waits   map[string]string `json:"waits"` // what is waited for, by name; an empty reason is ready

	Lock        int64     `json:"lock"` // version of the set in force; 0 for none
	LockHash    string    `json:"lock_hash"`
	LockExpires time.Time `json:"lock_expires"`
	SetError    string    `json:"set_error,omitempty"` // why the authority's newer set is not in force

	Isolation   map[string]string `json:"isolation"` // level by gateway, of those that have called
	Confinement confine.Report    `json:"confinement"`

	FeedAgeMS int64  `json:"feed_age_ms"`          // -1 when unknown
	FeedError string `json:"feed_error,omitempty"` // why there is no news, or what was refused last
	Withheld  int    `json:"withheld"`             // revocations that are held and that the authority does not publish
	Gaps      int    `json:"gaps"`                 // runs of revocation numbers that never came

	Ledger Ledger `json:"ledger"`

	Closed      []Closed         `json:"closed"`
	Glass       []Glass          `json:"break_glass,omitempty"`
	Unsaved     string           `json:"unsaved,omitempty"` // why a closing that is in force is not on disk yet
	Mints       []Mint           `json:"mints,omitempty"`   // keys with which the custodian can have secrets made
	Credentials []Credential     `json:"credentials"`
	InFlight    int              `json:"in_flight"`
	Extensions  map[string]int64 `json:"extensions,omitempty"` // seconds left, by witness and feed
}

// Ledger is the state of the custodian's log.
type Ledger struct {
	Log      string `json:"log"`    // log id
	Origin   string `json:"origin"` // of its checkpoints
	Size     int64  `json:"size"`   // durable entries
	Cosigned int64  `json:"cosigned"`
	LagMS    int64  `json:"lag_ms"`          // age of the oldest entry without enough cosignatures; 0 for none
	Error    string `json:"error,omitempty"` // why nothing more is appended
}

// Closed is one thing that may not be used now.
type Closed struct {
	Target statement.Target `json:"target"`
	Reason string           `json:"reason"`
	By     string           `json:"by"`
	Time   time.Time        `json:"time"`
}

// Glass is one break-glass that was in force.
type Glass struct {
	Record     string    `json:"record"`
	Credential string    `json:"credential"`
	Workload   string    `json:"workload,omitempty"`
	Waive      []string  `json:"waive,omitempty"`
	Recipient  string    `json:"recipient,omitempty"`
	Reason     string    `json:"reason"`
	Signers    []string  `json:"signers"`
	Created    time.Time `json:"created"`
	Until      time.Time `json:"until"`
	Running    bool      `json:"running"`
	Rotate     bool      `json:"rotate"`              // its secret was recovered and has to be rotated
	Reviewers  []string  `json:"reviewers,omitempty"` // none: the review is open
	Finding    string    `json:"finding,omitempty"`
}

// Credential is one credential that the custodian serves.
type Credential struct {
	ID     string `json:"id"`
	Class  string `json:"class"`
	Unit   string `json:"unit"`
	Owner  string `json:"owner,omitempty"`  // live accountable owner; empty when orphaned
	Source string `json:"source"`           // its kind, as custody records name it
	Home   bool   `json:"home,omitzero"`    // its record names one custodian that fetches, and this is it
	State  string `json:"state"`            // of the version in use; pending when there is none
	Error  string `json:"error,omitempty"`  // why there is no usable secret, or why no newer one could be fetched
	Closed string `json:"closed,omitempty"` // what closes it now, for a person

	Version     int64     `json:"version"` // of what the owner handed over: the secret, or what the source needs; 0 for nothing
	Fingerprint string    `json:"fingerprint,omitempty"`
	Created     time.Time `json:"created,omitzero"` // when he did

	MaxLifetime int64     `json:"max_lifetime_s,omitzero"` // seconds, as the record says
	Versions    []Version `json:"versions,omitempty"`      // newest first, until they are destroyed or over
	Next        time.Time `json:"next,omitzero"`           // when the secret in use is replaced, if no person has to do it
	LastUse     time.Time `json:"last_use,omitzero"`       // since the process started
	Uses        Uses      `json:"uses"`
	Ending      *Ending   `json:"ending,omitempty"` // the revocation at the source that a record asked for last
}

// Version is one secret of a credential.
type Version struct {
	Lease       string    `json:"lease"`
	Workload    string    `json:"workload,omitempty"` // whom alone it is for
	Fingerprint string    `json:"fingerprint"`        // keyed: equal for equal secrets of this custodian
	State       string    `json:"state"`              // active, overlapping, frozen, revoked-unproven, revoked-proven, destroyed
	Issued      time.Time `json:"issued"`
	Expires     time.Time `json:"expires,omitzero"`
	Age         int64     `json:"age_s"` // seconds since it was issued
	InUse       int64     `json:"in_use,omitzero"`
}

// Uses are how often secrets were used in the last day, or since the process started, by how long they live.
type Uses struct {
	Since    time.Time `json:"since"`
	Static   int64     `json:"static"`    // no end, or a day and more
	Day      int64     `json:"under_24h"` // less than a day
	Hour     int64     `json:"under_1h"`
	Quarters int64     `json:"under_15m"` // 15 minutes and less
}

// Mint is a federation key of this custodian's that a custody statement names.
type Mint struct {
	Unit      string    `json:"unit"`
	Key       string    `json:"kid"`
	Algorithm string    `json:"algorithm"`
	NotAfter  time.Time `json:"not_after"`
	Where     string    `json:"where"` // file, helper, or nowhere: then the custodian cannot sign with it
}

// Ending is how far a revocation at the source has come. A zero time means not yet.
type Ending struct {
	Record   string    `json:"record"` // hex SHA-256
	Frozen   time.Time `json:"frozen"` // from then on nothing was used
	Provider time.Time `json:"provider,omitzero"`
	Proven   time.Time `json:"proven,omitzero"`   // the second negative probe of the last one, or its own end
	LastUse  time.Time `json:"last_use,omitzero"` // until then one of its versions, or what was derived from it, may work at the provider; zero with Open
	Open     bool      `json:"open,omitzero"`     // a version without an end of its own is not proven dead
	Note     string    `json:"note,omitempty"`    // why it is not proven, or what is waited for
}

// Custodian is what the socket serves. The strings say what was done, for a person.
type Custodian interface {
	Status() *Status
	// Freeze closes the target at once. An error with a result means that it is closed, but not yet written or
	// known by nobody.
	Freeze(target statement.Target, reason string) (string, error)
	// Accept takes the file of a signed record.
	Accept(record []byte) (string, error)
	// Recovered is the secret that a break-glass recovered, encrypted to the person whom it names.
	Recovered(record string) ([]byte, error)
	// Reload reads sets and records again.
	Reload() (string, error)
}

// Freeze asks for a target to be closed.
type Freeze struct {
	Target statement.Target `json:"target"`
	Reason string           `json:"reason"`
}

// Reply answers everything but status.
type Reply struct {
	Done string `json:"done,omitempty"`
	// Ciphertext is a recovered secret, encrypted with age.
	Ciphertext []byte `json:"ciphertext,omitempty"`
	Error      string `json:"error,omitempty"`
}

// Handler serves a custodian. Who may connect is the listener's affair.
func Handler(c Custodian) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, c.Status()) })
	mux.HandleFunc("POST /freeze", act(func(body []byte) (string, error) {
		var f Freeze
		d := json.NewDecoder(bytes.NewReader(body))
		d.DisallowUnknownFields()
		if err := d.Decode(&f); err != nil {
			return "", fmt.Errorf("reading what to freeze: %w", err)
		}
		return c.Freeze(f.Target, f.Reason)
	}))
	mux.HandleFunc("POST /accept", act(c.Accept))
	mux.HandleFunc("GET /recovered/{record}", func(w http.ResponseWriter, r *http.Request) {
		ciphertext, err := c.Recovered(r.PathValue("record"))
		if err != nil {
			answer(w, http.StatusNotFound, Reply{Error: err.Error()})
			return
		}
		answer(w, http.StatusOK, Reply{Ciphertext: ciphertext})
	})
	mux.HandleFunc("POST /reload", act(func([]byte) (string, error) { return c.Reload() }))
	return mux
}

func act(do func([]byte) (string, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
		if err != nil {
			answer(w, http.StatusRequestEntityTooLarge, Reply{Error: err.Error()})
			return
		}
		done, err := do(body)
		if err != nil {
			answer(w, http.StatusUnprocessableEntity, Reply{Done: done, Error: err.Error()})
			return
		}
		answer(w, http.StatusOK, Reply{Done: done})
	}
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v) // fails only when the operator is gone
}
