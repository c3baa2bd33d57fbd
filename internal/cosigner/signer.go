// Package cosigner is a witness: it makes C2SP tlog-cosignature cosignature/v1 and serves C2SP tlog-witness. Package witness is the
// other end.
package cosigner

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/reevehq/reeve/internal/witness"
)

// Signer makes cosignatures. It implements note.Signer: what it signs is a checkpoint's text, its signature holds the time.
type Signer struct {
	name  string
	key   ed25519.PrivateKey
	clock func() time.Time
}

// NewSigner parses a cosigner's private key, "PRIVATE+KEY+<name>+<hash>+<base64 of 0x04 and the seed>". The caller guards the string.
func NewSigner(skey string, clock func() time.Time) (*Signer, error) {
	vkey, ok := strings.CutPrefix(skey, "PRIVATE+KEY+")
	name, hash, seed, err := witness.ParseKey(vkey)
	if !ok || err != nil {
		return nil, witness.ErrKey
	}
	s := &Signer{name, ed25519.NewKeyFromSeed(seed), clock}
	if hash != s.KeyHash() {
		return nil, witness.ErrKey
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
		return fmt.Sprintf("%s+%08x+%s", name, witness.KeyHash(name, pub), base64.StdEncoding.EncodeToString(append([]byte{witness.Algorithm}, key...)))
	}
	return "PRIVATE+KEY+" + encode(priv.Seed()), encode(pub), nil
}

// Name implements note.Signer.
func (s *Signer) Name() string { return s.name }

// KeyHash implements note.Signer.
func (s *Signer) KeyHash() uint32 { return witness.KeyHash(s.name, s.key.Public().(ed25519.PublicKey)) }

// Sign implements note.Signer: eight bytes of time, then the signature.
func (s *Signer) Sign(text []byte) ([]byte, error) {
	now := uint64(s.clock().Unix())
	return append(binary.BigEndian.AppendUint64(nil, now), ed25519.Sign(s.key, witness.Message(now, text))...), nil
}

// Cosign returns the signature line for a checkpoint's text, which ends in a newline.
func (s *Signer) Cosign(text string) ([]byte, error) {
	signed, err := note.Sign(&note.Note{Text: text}, s)
	if err != nil {
		return nil, fmt.Errorf("cosigning: %w", err)
	}
	return signed[len(text)+1:], nil
}
