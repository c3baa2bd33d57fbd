// Package jwt signs the short-lived assertions by which a source shows a provider who asks: RFC 7519 in JWS compact form.
package jwt

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
)

// ErrKey refuses a private key that cannot sign. No error about a key holds a byte of it.
var ErrKey = errors.New("not a private key that can sign")

// Key reads one private key in PEM: PKCS #8, PKCS #1 (RSA) or SEC 1 (EC). RSA keys have at least 2048 bits.
func Key(text []byte) (crypto.Signer, error) {
	block, rest := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%w: there is no PEM block", ErrKey)
	}
	defer clear(block.Bytes)
	if more, _ := pem.Decode(rest); more != nil {
		clear(more.Bytes)
		return nil, fmt.Errorf("%w: there is more than one PEM block", ErrKey)
	}
	var key any
	err := errors.New("unknown")
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: the PEM block is neither PKCS #8 nor PKCS #1 nor SEC 1 without passphrase", ErrKey)
	}
	if r, ok := key.(*rsa.PrivateKey); ok && r.N.BitLen() < 2048 {
		return nil, fmt.Errorf("%w: an RSA key of less than 2048 bits", ErrKey)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%w: it is for key agreement", ErrKey)
	}
	return signer, nil
}

// Sign signs claims. An empty algorithm means the key's usual one: RS256, ES256, ES384 or EdDSA; kid may be empty. The result is as good as
// the key until the claims' exp.
func Sign(key crypto.Signer, algorithm, kid string, claims any) ([]byte, error) {
	if algorithm == "" {
		algorithm = usual(key)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(algorithm), Key: jose.JSONWebKey{Key: key, KeyID: kid}}, new(jose.SignerOptions).WithType("JWT"))
	if err != nil {
		return nil, fmt.Errorf("%w with %q: another kind of key", ErrKey, algorithm)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return nil, err
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		return nil, fmt.Errorf("%w with %q", ErrKey, algorithm)
	}
	text, err := signed.CompactSerialize()
	return []byte(text), err
}

func usual(key crypto.Signer) string {
	switch k := key.(type) {
	case *rsa.PrivateKey:
		return "RS256"
	case ed25519.PrivateKey:
		return "EdDSA"
	case *ecdsa.PrivateKey:
		return "ES" + fmt.Sprint(k.Curve.Params().BitSize) // P-521 has no algorithm of that name, and is refused
	}
	return ""
}
