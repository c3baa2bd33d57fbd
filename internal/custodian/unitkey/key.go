package unitkey

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"os"
	"path/filepath"

	"github.com/reevehq/reeve/internal/durable"
)

// ecKey and rsaKey are keys that lay in a file and are in memory.
type (
	ecKey  struct{ *ecdsa.PrivateKey }
	rsaKey struct{ *rsa.PrivateKey }
)

func fileKey(private any) (key, error) {
	switch k := private.(type) {
	case *ecdsa.PrivateKey:
		if k.Curve == elliptic.P256() {
			return ecKey{k}, nil
		}
	case *rsa.PrivateKey:
		return rsaKey{k}, nil
	}
	return nil, errKey
}

func (k ecKey) Sign(_ context.Context, digest []byte) ([]byte, error) {
	r, s, err := ecdsa.Sign(rand.Reader, k.PrivateKey, digest)
	if err != nil {
		return nil, err
	}
	sig := make([]byte, 64)
	r.FillBytes(sig[:32])
	s.FillBytes(sig[32:])
	return sig, nil
}

func (k rsaKey) Sign(_ context.Context, digest []byte) ([]byte, error) {
	return rsa.SignPKCS1v15(rand.Reader, k.PrivateKey, crypto.SHA256, digest)
}

func (ecKey) sealed() bool  { return false }
func (rsaKey) sealed() bool { return false }

// publish writes a file that everybody may read, when it says something else than it did.
func publish(path string, content []byte) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, content) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return durable.Replace(path, content, 0o644)
}
