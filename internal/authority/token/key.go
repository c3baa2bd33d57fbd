package token

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/mod/sumdb/note"

	"github.com/reevehq/reeve/internal/secret"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/workload"
)

// Key signs access tokens. The zero Key signs nothing.
type Key struct {
	name string
	key  secret.Value // an ed25519.PrivateKey
}

// ParseKey reads a note signer key ("PRIVATE+KEY+…", golang.org/x/mod/sumdb/note).
func ParseKey(text secret.Value) (Key, error) {
	bad := errors.New("it is not a note signer key; make one with the owners' tools and have the charter name its verifier key")
	signer, err := note.NewSigner(string(text.Reveal()))
	if err != nil {
		return Key{}, bad
	}
	parts := strings.Split(string(text.Reveal()), "+")
	raw, err := base64.StdEncoding.DecodeString(strings.Join(parts[min(4, len(parts)):], "+"))
	if err != nil || len(raw) != 1+ed25519.SeedSize || raw[0] != 1 {
		return Key{}, bad
	}
	return Key{signer.Name(), secret.New(ed25519.NewKeyFromSeed(raw[1:]))}, nil
}

func (k Key) private() ed25519.PrivateKey { return ed25519.PrivateKey(k.key.Reveal()) }

func (k Key) public() ed25519.PublicKey { return k.private().Public().(ed25519.PublicKey) }

// Verifier is the note verifier key, as the charter has it.
func (k Key) Verifier() string {
	if k.name == "" {
		return ""
	}
	v, _ := note.NewEd25519VerifierKey(k.name, k.public()) // the key has the right length
	return v
}

// ID is the kid of what the key signs.
func (k Key) ID() (string, error) { return workload.AccessKeyID(k.public()) }

// sign makes a compact JWS over the claims.
func (k Key) sign(kind, kid string, claims any) (string, error) {
	if k.name == "" {
		return "", errors.New("there is no token key")
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("encoding a token: %w", err)
	}
	o := (&jose.SignerOptions{}).WithType(jose.ContentType(kind)).WithHeader("kid", kid)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: k.private()}, o)
	if err != nil {
		return "", fmt.Errorf("signing a token: %w", err)
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		return "", fmt.Errorf("signing a token: %w", err)
	}
	return jws.CompactSerialize()
}

// Close signs the authority's own revocation of a token and returns the record's file.
func (k Key) Close(r statement.Revocation) ([]byte, error) {
	payload, err := statement.Canonical(r)
	if err != nil {
		return nil, fmt.Errorf("encoding a revocation: %w", err)
	}
	kind := statement.RecordType("revocation")
	name, rest, _ := strings.Cut(k.Verifier(), "+")
	hash, _, _ := strings.Cut(rest, "+")
	return statement.Canonical(statement.Envelope{PayloadType: kind, Payload: payload, Signatures: []statement.Signature{
		{KeyID: name + "+" + hash, Sig: ed25519.Sign(k.private(), statement.PAE(kind, payload))},
	}})
}
