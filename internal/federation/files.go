package federation

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
)

// files is a store whose keys are in the files themselves (PKCS #8).
type files struct{}

func (files) suffix() string { return ".pk8" }

func (files) create(algorithm string) ([]byte, crypto.PublicKey, error) {
	private, err := generate(algorithm)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	return der, private.Public(), err
}

func parse(der []byte) (crypto.Signer, string, error) {
	private, err := x509.ParsePKCS8PrivateKey(der)
	switch k := private.(type) {
	case *ecdsa.PrivateKey:
		return k, "ES256", nil
	case *rsa.PrivateKey:
		return k, "RS256", nil
	}
	return nil, "", errors.Join(errors.New("neither an ECDSA nor an RSA key"), err)
}

func (files) public(der []byte) (crypto.PublicKey, string, error) {
	private, algorithm, err := parse(der)
	if err != nil {
		return nil, "", err
	}
	return private.Public(), algorithm, nil
}

func (files) sign(der, digest []byte) ([]byte, error) {
	private, _, err := parse(der)
	if err != nil {
		return nil, err
	}
	k, ok := private.(*ecdsa.PrivateKey)
	if !ok {
		return private.Sign(rand.Reader, digest, crypto.SHA256)
	}
	r, s, err := ecdsa.Sign(rand.Reader, k, digest)
	if err != nil {
		return nil, err
	}
	out := make([]byte, 64)
	r.FillBytes(out[:32])
	s.FillBytes(out[32:])
	return out, nil
}
