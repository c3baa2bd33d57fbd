package sidecar

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"os"

	"github.com/go-jose/go-jose/v4"

	"github.com/reevehq/reeve/internal/durable"
	"github.com/reevehq/reeve/internal/pop"
)

const keyBlock = "PRIVATE KEY" // PKCS #8 (RFC 7468 section 10)

// CreateKey makes a workload's key, "ed25519" or "p256", in a new file that only its owner reads, and returns the public half as
// a JWKS (RFC 7517): what the charter's issuer has as jwks.
func CreateKey(path, kind string) (jwks string, err error) {
	var key crypto.Signer
	switch kind {
	case "ed25519":
		_, key, err = ed25519.GenerateKey(rand.Reader)
	case "p256":
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	default:
		return "", fmt.Errorf("a key of the type %q is not made: ed25519 or p256", kind)
	}
	if err != nil {
		return "", err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", err
	}
	if err := durable.Create(path, pem.EncodeToMemory(&pem.Block{Type: keyBlock, Bytes: der}), 0o600); err != nil {
		return "", fmt.Errorf("making the workload's key: %w", err)
	}
	return publicSet(key)
}

// publicSet is a key's public half as a JWKS.
func publicSet(key crypto.Signer) (string, error) {
	id, err := pop.Thumbprint(key.Public())
	if err != nil {
		return "", err
	}
	b, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: id, Algorithm: string(algorithm(key)), Use: "sig"}}})
	return string(b), err
}

// algorithm is the JWS algorithm of a workload's key.
func algorithm(key crypto.Signer) jose.SignatureAlgorithm {
	if _, ok := key.Public().(ed25519.PublicKey); ok {
		return jose.EdDSA
	}
	return jose.ES256
}

const maxKeyFile = 16 << 10 // bytes

// ReadKey reads a workload's key. A file that others can read is refused.
func ReadKey(path string) (crypto.Signer, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening the workload's key: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("opening the workload's key: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("the workload's key %s has mode %04o: others can read it, and be taken for this workload. Make a new one (reeve sidecar key), or chmod 600 if you know that nobody did", path, mode)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	if err != nil {
		return nil, fmt.Errorf("reading the workload's key: %w", err)
	}
	defer clear(b)
	block, _ := pem.Decode(b)
	if block == nil || block.Type != keyBlock {
		return nil, fmt.Errorf("the workload's key %s is not PKCS #8 in PEM; reeve sidecar key makes one", path)
	}
	defer clear(block.Bytes)
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("the workload's key %s: %w", path, err)
	}
	key, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("the workload's key %s signs nothing", path)
	}
	if _, err := pop.Thumbprint(key.Public()); err != nil {
		return nil, fmt.Errorf("the workload's key %s: %w", path, err)
	}
	return key, nil
}
