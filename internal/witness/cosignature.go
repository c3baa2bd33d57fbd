// Package witness speaks C2SP tlog-witness, both ends, and signs and verifies C2SP tlog-cosignature cosignature/v1.
// https://c2sp.org/tlog-witness, https://c2sp.org/tlog-cosignature, https://c2sp.org/tlog-checkpoint.
package witness

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"

	"golang.org/x/mod/sumdb/note"
)

// algorithm is the signature type of an Ed25519 cosignature in note keys (C2SP signed-note).
const algorithm = 0x04

// ErrKey is returned for a malformed cosigner key.
var ErrKey = errors.New("not a cosigner key (an Ed25519 note key of type 4)")

// Signer makes cosignatures. It implements note.Signer: what it signs is a checkpoint's text, its signature holds the time.
type Signer struct {
	name  string
	key   ed25519.PrivateKey
	clock func() time.Time
}

// NewSigner parses a cosigner's private key, "PRIVATE+KEY+<name>+<hash>+<base64 of 0x04 and the seed>". The caller guards the string.
func NewSigner(skey string, clock func() time.Time) (*Signer, error) {
	vkey, ok := strings.CutPrefix(skey, "PRIVATE+KEY+")
	name, hash, seed, err := parseKey(vkey)
	if !ok || err != nil {
		return nil, ErrKey
	}
	s := &Signer{name, ed25519.NewKeyFromSeed(seed), clock}
	if hash != s.KeyHash() {
		return nil, ErrKey
	}
	return s, nil
}

// GenerateKey makes a cosigner's key pair, with rand from crypto/rand.
func GenerateKey(rand io.Reader, name string) (skey, vkey string, err error) {
	pub, priv, err := ed25519.GenerateKey(rand)
	if err != nil {
		return "", "", err
	}
	encode := func(key []byte) string {
		return fmt.Sprintf("%s+%08x+%s", name, keyHash(name, pub), base64.StdEncoding.EncodeToString(append([]byte{algorithm}, key...)))
	}
	return "PRIVATE+KEY+" + encode(priv.Seed()), encode(pub), nil
}

// Name implements note.Signer.
func (s *Signer) Name() string { return s.name }

// KeyHash implements note.Signer.
func (s *Signer) KeyHash() uint32 { return keyHash(s.name, s.key.Public().(ed25519.PublicKey)) }

// Sign implements note.Signer: eight bytes of time, then the signature.
func (s *Signer) Sign(text []byte) ([]byte, error) {
	now := uint64(s.clock().Unix())
	return append(binary.BigEndian.AppendUint64(nil, now), ed25519.Sign(s.key, message(now, text))...), nil
}

// Cosign returns the signature line for a checkpoint's text, which ends in a newline.
func (s *Signer) Cosign(text string) ([]byte, error) {
	signed, err := note.Sign(&note.Note{Text: text}, s)
	if err != nil {
		return nil, fmt.Errorf("cosigning: %w", err)
	}
	return signed[len(text)+1:], nil
}

// verifier implements note.Verifier for one cosigner.
type verifier struct {
	name string
	key  ed25519.PublicKey
}

// NewVerifier parses a cosigner's verifier key, "<name>+<hash>+<base64 of 0x04 and the public key>".
func NewVerifier(vkey string) (note.Verifier, error) {
	name, hash, pub, err := parseKey(vkey)
	if err != nil || hash != keyHash(name, pub) {
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
func (v *verifier) KeyHash() uint32 { return keyHash(v.name, v.key) }

func (v *verifier) Verify(text, sig []byte) bool {
	if len(sig) != 8+ed25519.SignatureSize {
		return false
	}
	t := binary.BigEndian.Uint64(sig)
	return t < 1<<63 && ed25519.Verify(v.key, message(t, text), sig[8:])
}

// Time is when a verified cosignature was made, to the second. The zero Time means that sig is not a cosignature.
func Time(sig note.Signature) time.Time {
	b, err := base64.StdEncoding.DecodeString(sig.Base64)
	if err != nil || len(b) != 4+8+ed25519.SignatureSize {
		return time.Time{}
	}
	return time.Unix(int64(binary.BigEndian.Uint64(b[4:])), 0)
}

// message is what a cosignature/v1 signs.
func message(t uint64, text []byte) []byte {
	return append([]byte("cosignature/v1\ntime "+strconv.FormatUint(t, 10)+"\n"), text...)
}

func keyHash(name string, pub []byte) uint32 {
	h := sha256.Sum256(append([]byte(name+"\n\x04"), pub...))
	return binary.BigEndian.Uint32(h[:])
}

func parseKey(s string) (name string, hash uint32, key []byte, err error) {
	name, rest, _ := strings.Cut(s, "+")
	hex, b64, _ := strings.Cut(rest, "+")
	h, err1 := strconv.ParseUint(hex, 16, 32)
	key, err2 := base64.StdEncoding.Strict().DecodeString(b64)
	if err1 != nil || err2 != nil || len(hex) != 8 || name == "" || strings.ContainsFunc(name, unicode.IsSpace) || len(key) != 1+32 || key[0] != algorithm {
		return "", 0, nil, ErrKey
	}
	return name, uint32(h), key[1:], nil
}
