package statement

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
)

// PayloadType is the DSSE payload type of a manifest.
const PayloadType = "application/vnd.reeve.statement+json"

// Manifest is what the owners of a statement sign: the exact bytes of its files, and where it stands in its history.
type Manifest struct {
	Estate    string    `json:"estate"`
	Statement string    `json:"statement"` // charter, policy-<unit>, custody-<unit>, operations or lock
	Version   int64     `json:"version"`   // from 1, rises by one
	Prev      string    `json:"prev"`      // hex SHA-256 of the previous version's manifest; empty for version 1
	Author    string    `json:"author"`    // person id; the author signs too
	Created   time.Time `json:"created"`
	Expires   time.Time `json:"expires"`
	Files     []File    `json:"files"` // sorted by path
}

// File is one file of a statement.
type File struct {
	Path   string `json:"path"` // a plain name, no folders
	Size   int64  `json:"size"` // bytes
	SHA256 string `json:"sha256"`
}

// PAE is the DSSE v1 pre-authentication encoding: the bytes that are signed.
func PAE(payloadType string, payload []byte) []byte {
	return fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(payloadType), payloadType, len(payload), payload)
}

// ParseNoteKey reads a note verifier key ("name+hash+base64"): algorithm 1 is Ed25519, 4 a witness's timestamped
// Ed25519 cosignature (C2SP signed-note, tlog-cosignature).
func ParseNoteKey(vkey string) (name string, alg byte, pub ed25519.PublicKey, err error) {
	bad := fmt.Errorf("%q is not a note verifier key", vkey)
	name, rest, _ := strings.Cut(vkey, "+")
	hash, b64, _ := strings.Cut(rest, "+")
	raw := decode64(b64, 1+ed25519.PublicKeySize)
	if raw == nil || raw[0] != 1 && raw[0] != 4 || name == "" ||
		strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return "", 0, nil, bad
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%s", name, raw))
	if hash != fmt.Sprintf("%08x", binary.BigEndian.Uint32(sum[:])) {
		return "", 0, nil, bad
	}
	return name, raw[0], ed25519.PublicKey(raw[1:]), nil
}

// VerifyService checks a service's plain Ed25519 signature over a DSSE payload.
func VerifyService(key ServiceKey, payloadType string, payload, sig []byte) bool {
	_, alg, pub, err := ParseNoteKey(key.Key)
	return err == nil && alg == 1 && ed25519.Verify(pub, PAE(payloadType, payload), sig)
}

// decode64 reads n bytes of base64 in their one spelling; nil when s is not that. Go's decoder passes over line breaks.
func decode64(s string, n int) []byte {
	raw, err := base64.StdEncoding.DecodeString(s)
	if err != nil || len(raw) != n || base64.StdEncoding.EncodeToString(raw) != s {
		return nil
	}
	return raw
}

func hexSHA256(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// validHash reports whether s is a lower-case hex SHA-256.
func validHash(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == sha256.Size && s == strings.ToLower(s)
}
