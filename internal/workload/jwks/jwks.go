// Package jwks reads the public keys of a token issuer: a JSON Web Key Set (RFC 7517), or the SPIFFE bundle that extends it.
package jwks

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/go-jose/go-jose/v4"
)

// Limits of one set, so that an issuer cannot make its readers busy.
const (
	MaxBytes = 256 << 10
	maxKeys  = 100
	minRSA   = 2048 // bits
	maxRSA   = 8192
)

// Algorithms are the signature algorithms that a token may use: never none, never a shared secret, never SHA-1.
func Algorithms() []string { return []string{"EdDSA", "ES256", "ES384", "RS256", "PS256"} }

// Key is one key that signs tokens.
type Key struct {
	ID         string   // kid; empty when the set gives it none
	Algorithms []string // of Algorithms, what the key can and may be used with
	Public     crypto.PublicKey
}

// Set is what an issuer signs with. It is immutable.
type Set struct {
	Keys  []Key
	Roots []*x509.Certificate // of X.509-SVIDs: the keys whose use is x509-svid (SPIFFE Trust Domain and Bundle, section 4.2.1)
}

// Find returns the keys that a token with this kid and algorithm may have been signed with. A token without kid is taken only
// where the set leaves no choice.
func (s *Set) Find(kid, algorithm string) []Key {
	var found []Key
	for _, k := range s.Keys {
		if (k.ID == kid || kid == "") && slices.Contains(k.Algorithms, algorithm) {
			found = append(found, k)
		}
	}
	if kid == "" && len(found) != 1 {
		return nil
	}
	return found
}

// Has reports whether the set has a key of that name.
func (s *Set) Has(kid string) bool {
	return slices.ContainsFunc(s.Keys, func(k Key) bool { return k.ID == kid })
}

// Parse reads a set. Keys for other uses, of other types, or too weak are left out, as RFC 7517 section 5 asks; a set that
// leaves none is an error, and so is one that holds a private or a shared key: whoever published that has lost it.
func Parse(text []byte) (*Set, error) {
	if len(text) > MaxBytes {
		return nil, fmt.Errorf("the key set has more than %d bytes", MaxBytes)
	}
	var raw struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(text, &raw); err != nil {
		return nil, fmt.Errorf("the key set is not JSON: %w", err)
	}
	if len(raw.Keys) > maxKeys {
		return nil, fmt.Errorf("the key set has more than %d keys", maxKeys)
	}
	s := new(Set)
	for i, one := range raw.Keys {
		if err := s.add(one); err != nil {
			return nil, fmt.Errorf("key %d of the set: %w", i, err)
		}
	}
	if len(s.Keys) == 0 && len(s.Roots) == 0 {
		return nil, errors.New("the key set has no key that could sign tokens")
	}
	return s, nil
}

func (s *Set) add(raw json.RawMessage) error {
	var kind struct {
		Type string `json:"kty"`
		Use  string `json:"use"`
		D    string `json:"d"`
		K    string `json:"k"`
	}
	if err := json.Unmarshal(raw, &kind); err != nil {
		return err
	}
	if kind.D != "" || kind.K != "" || kind.Type == "oct" {
		return errors.New("it is a private or a shared key; publish public keys only, and replace this one")
	}
	var k jose.JSONWebKey
	if err := k.UnmarshalJSON(raw); err != nil || !k.Valid() {
		return nil // a type that is not known here
	}
	switch k.Use {
	case "x509-svid":
		if len(k.Certificates) == 1 {
			s.Roots = append(s.Roots, k.Certificates[0])
		}
	case "", "sig", "jwt-svid":
		if can := algorithms(k.Key, k.Algorithm); len(can) > 0 {
			s.Keys = append(s.Keys, Key{ID: k.KeyID, Algorithms: can, Public: k.Key})
		}
	}
	return nil
}

// algorithms is what a key can be used with, narrowed to what its set says.
func algorithms(key any, only string) []string {
	var can []string
	switch k := key.(type) {
	case ed25519.PublicKey:
		can = []string{"EdDSA"}
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			can = []string{"ES256"}
		case elliptic.P384():
			can = []string{"ES384"}
		}
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n >= minRSA && n <= maxRSA {
			can = []string{"RS256", "PS256"}
		}
	}
	if only != "" {
		can = slices.DeleteFunc(can, func(a string) bool { return a != only })
	}
	return can
}
