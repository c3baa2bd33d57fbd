package pop

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
)

const (
	maxChain = 16 << 10 // bytes of a Reeve-SVID field
	maxJWK   = 512      // bytes of a Reeve-Key field
)

var errKeyType = errors.New("only Ed25519 and ECDSA P-256 keys sign requests")

// jwk has the members of RFC 7638 section 3.2 and RFC 8037 section 2, in the order of their names, and no others.
type jwk struct {
	Curve string `json:"crv"`
	Type  string `json:"kty"`
	X     string `json:"x"`
	Y     string `json:"y,omitempty"`
}

// canonical is the JSON that RFC 7638 hashes.
func canonical(key crypto.PublicKey) ([]byte, error) {
	enc := base64.RawURLEncoding
	switch k := key.(type) {
	case ed25519.PublicKey:
		if len(k) != ed25519.PublicKeySize {
			return nil, errKeyType
		}
		return json.Marshal(jwk{"Ed25519", "OKP", enc.EncodeToString(k), ""})
	case *ecdsa.PublicKey:
		if k == nil || k.Curve != elliptic.P256() {
			return nil, errKeyType
		}
		point, err := k.Bytes() // 4, x, y
		if err != nil {
			return nil, err
		}
		return json.Marshal(jwk{"P-256", "EC", enc.EncodeToString(point[1:33]), enc.EncodeToString(point[33:])})
	}
	return nil, errKeyType
}

// Thumbprint is the RFC 7638 SHA-256 thumbprint of a public key, in base64url: what a token's cnf.jkt names (RFC 9449 section 6.1).
func Thumbprint(key crypto.PublicKey) (string, error) {
	c, err := canonical(key)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(c)
	return base64.RawURLEncoding.EncodeToString(sum[:]), nil
}

// parseJWK reads a Reeve-Key field: the base64url of the canonical JSON.
func parseJWK(text string) (crypto.PublicKey, error) {
	bad := malformed("%s is not the base64url of a public key's canonical JWK (Ed25519 or P-256)", FieldKey)
	if len(text) > maxJWK {
		return nil, bad
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	var j jwk
	if err != nil || json.Unmarshal(raw, &j) != nil {
		return nil, bad
	}
	key, err := j.key()
	if err != nil {
		return nil, bad
	}
	if c, err := canonical(key); err != nil || base64.RawURLEncoding.EncodeToString(c) != text {
		return nil, bad
	}
	return key, nil
}

func (j *jwk) key() (crypto.PublicKey, error) {
	x, err := base64.RawURLEncoding.DecodeString(j.X)
	if err != nil {
		return nil, err
	}
	y, err := base64.RawURLEncoding.DecodeString(j.Y)
	if err != nil {
		return nil, err
	}
	switch {
	case j.Type == "OKP" && j.Curve == "Ed25519" && len(x) == ed25519.PublicKeySize:
		return ed25519.PublicKey(x), nil
	case j.Type == "EC" && j.Curve == "P-256" && len(x) == 32 && len(y) == 32:
		return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append(append([]byte{4}, x...), y...))
	}
	return nil, errKeyType
}

// parseChain reads a Reeve-SVID field: the base64 of DER certificates one after another, the leaf first.
func parseChain(text string) ([]*x509.Certificate, error) {
	if len(text) > maxChain {
		return nil, malformed("%s has more than %d bytes", FieldSVID, maxChain)
	}
	der, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil {
		return nil, malformed("%s is not base64", FieldSVID)
	}
	chain, err := x509.ParseCertificates(der)
	if err != nil || len(chain) == 0 {
		return nil, malformed("%s holds no certificates: %v", FieldSVID, err)
	}
	return chain, nil
}

// verify checks a signature: ed25519 or ecdsa-p256-sha256 of RFC 9421 section 3.3, by the key's type.
func verify(key crypto.PublicKey, message, signature []byte) bool {
	switch k := key.(type) {
	case ed25519.PublicKey:
		return ed25519.Verify(k, message, signature)
	case *ecdsa.PublicKey:
		if len(signature) != 64 {
			return false
		}
		sum := sha256.Sum256(message)
		return ecdsa.Verify(k, sum[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:]))
	}
	return false
}

// sign makes a signature that verify takes.
func sign(key crypto.Signer, message []byte) ([]byte, error) {
	if _, ok := key.Public().(ed25519.PublicKey); ok {
		return key.Sign(rand.Reader, message, crypto.Hash(0))
	}
	sum := sha256.Sum256(message)
	der, err := key.Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		return nil, err
	}
	var s struct{ R, S *big.Int }
	if rest, err := asn1.Unmarshal(der, &s); err != nil || len(rest) > 0 {
		return nil, fmt.Errorf("the key's signature is not ASN.1: %v", err)
	}
	raw := make([]byte, 64)
	s.R.FillBytes(raw[:32])
	s.S.FillBytes(raw[32:])
	return raw, nil
}
