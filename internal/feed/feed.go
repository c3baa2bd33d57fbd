// Package feed carries statement sets, records and heartbeats from an estate's authority to those who follow it.
//
// Everything on the stream is signed, by people or, for heartbeats, by the authority's feed key, and a follower verifies
// all of it for itself. Whoever owns the authority or the wire can withhold, and no more; docs/formats/feed.md says how
// withholding shows.
package feed

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/reevehq/reeve/internal/statement"
)

const (
	// Interval is the time between two heartbeats.
	Interval = 250 * time.Millisecond
	// Path of the stream at the authority. Who asks for it, and what he has, is in AskHeader.
	Path = "/v1/stream"
	// HeartbeatType is the DSSE payload type of a heartbeat.
	HeartbeatType = "application/vnd.reeve.heartbeat+json"

	// MaxFrame bounds one line of the stream, MaxSet the files of one set, MaxRecord one record's file and MaxSealed one
	// sealed secret, all in bytes. MaxRecords bounds how many records an estate has.
	MaxFrame   = 24 << 20
	MaxSet     = 16 << 20
	MaxRecord  = 16 << 10
	MaxSealed  = 256 << 10
	MaxRecords = 50_000
)

var (
	// ErrFrame is wrapped by every refusal of a frame or record that breaks the format or a limit.
	ErrFrame = errors.New("malformed frame")
	// ErrHeartbeat is wrapped by every refusal of a heartbeat.
	ErrHeartbeat = errors.New("heartbeat refused")
)

// Frame is one line of the stream: a heartbeat, a set, or a record with the ciphertext that it hands over, if any.
// A frame with none of them is from a newer authority and is passed over.
type Frame struct {
	Heartbeat *statement.Envelope `json:"heartbeat,omitempty"`
	Set       Files               `json:"set,omitempty"`
	Published *Publication        `json:"published,omitempty"` // of the set's lock, once it is cosigned
	Record    []byte              `json:"record,omitempty"`    // the exact bytes of the record's file: a DSSE envelope
	Sealed    []byte              `json:"sealed,omitempty"`    // the age ciphertext that a handover record names
}

// Encode returns the frame as one line.
func (f *Frame) Encode() []byte {
	b, err := json.Marshal(f)
	if err != nil { // byte slices, strings and integers always encode
		panic("feed: encoding a frame: " + err.Error())
	}
	return append(b, '\n')
}

// ReadFrame reads one line of at most MaxFrame bytes. It returns io.EOF at a clean end, io.ErrUnexpectedEOF within a line
// and ErrFrame for what is not a frame within the limits.
func ReadFrame(r *bufio.Reader) (*Frame, error) {
	var line []byte
	for {
		piece, err := r.ReadSlice('\n')
		if line = append(line, piece...); len(line) > MaxFrame {
			return nil, fmt.Errorf("%w: longer than %d bytes", ErrFrame, MaxFrame)
		}
		switch {
		case err == nil:
			return ParseFrame(line)
		case err == io.EOF && len(line) > 0:
			return nil, io.ErrUnexpectedEOF
		case err != bufio.ErrBufferFull:
			return nil, err
		}
	}
}

// ParseFrame parses one line.
func ParseFrame(line []byte) (*Frame, error) {
	var f Frame
	if err := json.Unmarshal(line, &f); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrFrame, err)
	}
	size := 0
	for path, b := range f.Set {
		if size += len(path) + len(b); !fs.ValidPath(path) || strings.ContainsAny(path, "\\:\x00") {
			return nil, fmt.Errorf("%w: set has a file outside the store: %q", ErrFrame, path)
		}
	}
	beat, set, record := f.Heartbeat != nil, len(f.Set) > 0, len(f.Record) > 0
	if beat && (set || record) || set && record || len(f.Sealed) > 0 && !record || f.Published != nil && !set {
		return nil, fmt.Errorf("%w: more than one member", ErrFrame)
	}
	if size > MaxSet || len(f.Record) > MaxRecord || len(f.Sealed) > MaxSealed {
		return nil, fmt.Errorf("%w: set of %d, record of %d or ciphertext of %d bytes is over its limit", ErrFrame, size, len(f.Record), len(f.Sealed))
	}
	return &f, nil
}

// ParseRecord parses a record's file and returns its envelope and kind: the word between "application/vnd.reeve." and
// "+json" in its payload type.
func ParseRecord(file []byte) (env *statement.Envelope, kind string, err error) {
	if len(file) > MaxRecord {
		return nil, "", fmt.Errorf("%w: record of %d bytes, limit %d", ErrFrame, len(file), MaxRecord)
	}
	if env, err = statement.ParseEnvelope(file); err != nil {
		return nil, "", fmt.Errorf("%w: record: %w", ErrFrame, err)
	}
	kind, ok := strings.CutPrefix(env.PayloadType, "application/vnd.reeve.")
	kind, tail := strings.CutSuffix(kind, "+json")
	if !ok || !tail {
		return nil, "", fmt.Errorf("%w: record has the payload type %q", ErrFrame, env.PayloadType)
	}
	return env, kind, nil
}

// Open verifies a record with a set, and returns it as a pointer to its type of package statement, and the custodian that it is for, if it
// is for one. What people who left since handed over before, and their deputies after, is passed on alike: their custodian judges it once more.
func Open(set *statement.Set, from *statement.Record, now time.Time, left ...string) (record any, custodian string, err error) {
	var to struct {
		Custodian string `json:"custodian"`
	}
	env, kind := from.Envelope, from.Kind
	if err := json.Unmarshal(env.Payload, &to); err != nil {
		return nil, "", fmt.Errorf("%w: payload of a %s: %v", ErrFrame, kind, err)
	}
	switch kind {
	case "revocation":
		record, err = set.Revocation(from, now)
	case "workload-key":
		record, err = set.OpenWorkloadKey(env, now)
	case "retirement":
		record, err = set.OpenRetirement(env, now)
	case "recovery":
		record, err = set.OpenAnnouncement(env, now)
	case "signal", "scim":
		record, err = set.OpenSignal(env, now)
	case "break-glass":
		record, _, err = set.OpenBreakGlass(env, now)
	case "break-glass-review":
		record, _, err = set.OpenReview(env, now)
	case "evidence":
		record, _, err = set.OpenEvidence(env, now)
	case "extension":
		record, err = set.OpenExtension(env, to.Custodian, now)
	case "handover":
		if record, err = set.OpenHandover(env, to.Custodian, now); err != nil {
			record, err = set.Without(left...).OpenHandover(env, to.Custodian, now)
		}
	default:
		err = fmt.Errorf("%w: this release does not know records of kind %q", ErrFrame, kind)
	}
	return record, to.Custodian, err
}

// Heartbeat says that the authority published this at this time: a follower that lacks any of it knows. Its members are in the
// order of RFC 8785.
type Heartbeat struct {
	Authority string    `json:"authority"` // process id: the feed key must be this process's
	Epoch     int64     `json:"epoch"`     // rises each time an authority starts or takes over
	Estate    string    `json:"estate"`
	Lock      int64     `json:"lock"`        // version of the set
	LockHash  string    `json:"lock_sha256"` // hex, of the lock's manifest
	Number    int64     `json:"number"`      // from 1, rises within the epoch
	Records   int       `json:"records"`     // how many, handovers not counted
	Sum       string    `json:"records_sum"` // Records.Sum of them
	SetSum    string    `json:"set_sum"`     // Files.Sum of the set's frame
	Time      time.Time `json:"time"`
}

// Sign returns the heartbeat in an envelope signed with a feed key.
func (h *Heartbeat) Sign(key note.Signer) (*statement.Envelope, error) {
	payload, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("encoding a heartbeat: %w", err)
	}
	sig, err := key.Sign(statement.PAE(HeartbeatType, payload))
	if err != nil {
		return nil, fmt.Errorf("signing a heartbeat: %w", err)
	}
	keyID := fmt.Sprintf("%s+%08x", key.Name(), key.KeyHash())
	return &statement.Envelope{PayloadType: HeartbeatType, Payload: payload, Signatures: []statement.Signature{{KeyID: keyID, Sig: sig}}}, nil
}

// OpenHeartbeat verifies a heartbeat's signature with the feed keys that the charter has at the time.
func OpenHeartbeat(env *statement.Envelope, keys []statement.ServiceKey) (*Heartbeat, error) {
	var h Heartbeat
	if env.PayloadType != HeartbeatType || len(env.Payload) > MaxRecord || len(env.Signatures) != 1 {
		return nil, fmt.Errorf("%w: not a heartbeat with one signature", ErrHeartbeat)
	}
	if err := json.Unmarshal(env.Payload, &h); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrHeartbeat, err)
	}
	for _, k := range keys {
		if k.Process == h.Authority && statement.VerifyService(k, HeartbeatType, env.Payload, env.Signatures[0].Sig) {
			return &h, nil
		}
	}
	return nil, fmt.Errorf("%w: not signed by a live feed key of %q", ErrHeartbeat, h.Authority)
}

// Records is a set of SHA-256 sums: of record files, where heartbeats name them, or of what the records say. The zero Records is empty. Not for
// concurrent use.
type Records struct {
	ids [][sha256.Size]byte // sorted
	sum string              // of ids; empty when it must be computed
}

func (r *Records) find(id [sha256.Size]byte) (int, bool) {
	return slices.BinarySearchFunc(r.ids, id, func(a, b [sha256.Size]byte) int { return bytes.Compare(a[:], b[:]) })
}

// Add adds a file.
func (r *Records) Add(id [sha256.Size]byte) {
	if i, found := r.find(id); !found {
		r.ids, r.sum = slices.Insert(r.ids, i, id), ""
	}
}

// drop takes a file away, if it is there.
func (r *Records) drop(id [sha256.Size]byte) {
	if i, found := r.find(id); found {
		r.ids, r.sum = slices.Delete(r.ids, i, i+1), ""
	}
}

func (r *Records) clone() Records { return Records{slices.Clone(r.ids), r.sum} }

// Has reports whether a file is in the set.
func (r *Records) Has(id [sha256.Size]byte) bool {
	_, found := r.find(id)
	return found
}

// Len is how many files the set has.
func (r *Records) Len() int { return len(r.ids) }

// Sum is the hex SHA-256 of the files' sums, sorted as bytes and concatenated: whoever holds the files computes the same, in
// whatever order they came.
func (r *Records) Sum() string {
	if r.sum == "" {
		h := sha256.New()
		for i := range r.ids {
			h.Write(r.ids[i][:])
		}
		r.sum = hex.EncodeToString(h.Sum(nil))
	}
	return r.sum
}
