// Package witness asks witnesses for cosignatures: it is the log's end of C2SP tlog-witness, and verifies C2SP tlog-cosignature
// cosignature/v1. Package cosigner is the witness's end.
// https://c2sp.org/tlog-witness, https://c2sp.org/tlog-cosignature, https://c2sp.org/tlog-checkpoint.
package witness

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/mod/sumdb/note"
)

// Algorithm is the signature type of an Ed25519 cosignature in note keys (C2SP signed-note).
const Algorithm = 0x04

// ErrKey is returned for a malformed cosigner key.
var ErrKey = errors.New("not a cosigner key (an Ed25519 note key of type 4)")

// verifier implements note.Verifier for one cosigner.
type verifier struct {
	name string
	key  ed25519.PublicKey
}

// NewVerifier parses a cosigner's verifier key, "<name>+<hash>+<base64 of 0x04 and the public key>".
func NewVerifier(vkey string) (note.Verifier, error) {
	name, hash, pub, err := ParseKey(vkey)
	if err != nil || hash != KeyHash(name, pub) {
		return nil, ErrKey
	}
	return &verifier{name, pub}, nil
}

// Verifiers parses the verifier keys of several cosigners. Malformed ones are left out and told in the error.
func Verifiers(vkeys []string) (note.Verifiers, error) {
	var list []note.Verifier
	var errs error
	for _, vkey := range vkeys {
		v, err := NewVerifier(vkey)
		if err != nil {
			errs = errors.Join(errs, fmt.Errorf("%q: %w", vkey, err))
			continue
		}
		list = append(list, v)
	}
	return note.VerifierList(list...), errs
}

func (v *verifier) Name() string    { return v.name }
func (v *verifier) KeyHash() uint32 { return KeyHash(v.name, v.key) }

func (v *verifier) Verify(text, sig []byte) bool {
	if len(sig) != 8+ed25519.SignatureSize {
		return false
	}
	t := binary.BigEndian.Uint64(sig)
	return t < 1<<63 && ed25519.Verify(v.key, Message(t, text), sig[8:])
}

// Message is what a cosignature/v1 signs.
func Message(t uint64, text []byte) []byte {
	return append([]byte("cosignature/v1\ntime "+strconv.FormatUint(t, 10)+"\n"), text...)
}

// KeyHash is the id of a cosigner's key (C2SP signed-note).
func KeyHash(name string, pub []byte) uint32 {
	h := sha256.Sum256(append([]byte(name+"\n\x04"), pub...))
	return binary.BigEndian.Uint32(h[:])
}

// ParseKey reads "<name>+<hash>+<base64 of 0x04 and 32 bytes>". It does not check the hash: a private key has the one of its public key.
func ParseKey(s string) (name string, hash uint32, key []byte, err error) {
	name, rest, _ := strings.Cut(s, "+")
	hex, b64, _ := strings.Cut(rest, "+")
	h, err1 := strconv.ParseUint(hex, 16, 32)
	key, err2 := base64.StdEncoding.Strict().DecodeString(b64)
	if err1 != nil || err2 != nil || len(hex) != 8 || name == "" || strings.ContainsFunc(name, unicode.IsSpace) || len(key) != 1+32 || key[0] != Algorithm {
		return "", 0, nil, ErrKey
	}
	return name, uint32(h), key[1:], nil
}
