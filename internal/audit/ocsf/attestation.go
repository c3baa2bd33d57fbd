package ocsf

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/reevehq/reeve/entry"
)

// Profiles of the schema that an event may use.
const (
	recordIntegrity = "record_integrity"
	aiOperation     = "ai_operation"
)

// Attestation is the place of an event among its log's, and the fingerprint of the event itself. Nobody signs it: what is signed is the log, which Raw
// is a leaf of.
type Attestation struct {
	Chain       string       `json:"chain_uid"`            // the log's id
	Previous    *UID         `json:"prev_event,omitempty"` // none of a log's first
	Fingerprint *Fingerprint `json:"fingerprint,omitempty"`
}

// Fingerprint is a hash of bytes, in hexadecimal digits.
type Fingerprint struct {
	Algorithm     int    `json:"algorithm_id"`
	Encoding      int    `json:"encoding_id"`
	Serialization int    `json:"serialization_id"`
	Value         string `json:"value"`
}

// SHA-256, hexadecimal digits, RFC 8785: as the schema numbers them.
const sha256ID, hexID, jcsID = 3, 1, 2

// Delegation is the token that somebody acts by for another.
type Delegation struct {
	UID    string `json:"uid"`
	Issuer string `json:"issuer_uid,omitempty"`
}

// delegation is the token of an entry that names who acts for its workload, or nil: without such a chain nothing was delegated.
func delegation(e *entry.Entry) *Delegation {
	var d Delegation
	acts := false
	for _, a := range e.Actor {
		switch kind, name, _ := strings.Cut(a, ":"); kind {
		case "token":
			d.UID = name
		case "issuer":
			d.Issuer = name
		case "act":
			acts = true
		}
	}
	if !acts || d.UID == "" {
		return nil
	}
	return &d
}

// attest adds the event's place in its log, and then its fingerprint over all of the event but the fingerprint.
func (v *Event) attest(e *entry.Entry) error {
	a := &Attestation{Chain: e.Log}
	if e.Seq > 0 {
		a.Previous = &UID{uid(e.Log, e.Seq-1)}
	}
	v.Attestation = a
	text, err := v.canonical()
	if err != nil {
		return err
	}
	sum := sha256.Sum256(text)
	a.Fingerprint = &Fingerprint{sha256ID, hexID, jcsID, hex.EncodeToString(sum[:])}
	return nil
}

// canonical is the event as RFC 8785 writes it: its names are ASCII and its numbers are integers below 2^53, so that sorting them is what is left.
func (v *Event) canonical() ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("an event's fingerprint: %w", err)
	}
	in := json.NewDecoder(bytes.NewReader(b))
	in.UseNumber()
	var members map[string]any
	if err := in.Decode(&members); err != nil {
		return nil, fmt.Errorf("an event's fingerprint: %w", err)
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(members); err != nil {
		return nil, fmt.Errorf("an event's fingerprint: %w", err)
	}
	// Two separators are what encoding/json escapes and RFC 8785, section 3.2.2.2, does not. An escaped backslash stays one.
	separators := strings.NewReplacer(`\\`, `\\`, `\u2028`, "\u2028", `\u2029`, "\u2029")
	return []byte(separators.Replace(strings.TrimSuffix(out.String(), "\n"))), nil
}
