package pin

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"

	"github.com/reevehq/reeve/internal/custodian/source"
	"github.com/reevehq/reeve/internal/secret"
)

// certificate is the client certificate that a secret consists of, for records that inject as tls: a private key in PEM (PKCS #8, PKCS #1 or
// SEC 1) and its certificates, the key's own first, in Public or behind the key. The error holds nothing of it.
func (p *Pin) certificate(s *source.Secret) (*tls.Certificate, error) {
	no := func(what string) (*tls.Certificate, error) {
		return nil, refuse("credential %s: %s; a private key and its certificates are needed, in PEM, in one text", p.Credential.ID, what)
	}
	c := &tls.Certificate{}
	for _, text := range [][]byte{s.Value.Reveal(), []byte(s.Public)} {
		for {
			block, rest := pem.Decode(text)
			if block == nil {
				if len(bytes.TrimSpace(text)) > 0 {
					return no("there is something beside PEM")
				}
				break
			}
			text = rest
			if block.Type == "CERTIFICATE" {
				c.Certificate = append(c.Certificate, block.Bytes)
				continue
			}
			key, err := privateKey(block.Bytes)
			clear(block.Bytes)
			if c.PrivateKey != nil || err != nil {
				return no("a block is neither a certificate nor the one private key")
			}
			c.PrivateKey = key
		}
	}
	if c.PrivateKey == nil || len(c.Certificate) == 0 {
		return no("the key or the certificate is missing")
	}
	leaf, err := x509.ParseCertificate(c.Certificate[0])
	if err != nil {
		return no("the first certificate cannot be read")
	}
	public, ok := leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(c.PrivateKey.(crypto.Signer).Public()) {
		return no("the first certificate is for another key")
	}
	c.Leaf = leaf
	return c, nil
}

// privateKey reads a key that can sign.
func privateKey(der []byte) (crypto.Signer, error) {
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		if key, err = x509.ParsePKCS1PrivateKey(der); err != nil {
			key, err = x509.ParseECPrivateKey(der)
		}
	}
	if signer, ok := key.(crypto.Signer); ok && err == nil {
		return signer, nil
	}
	return nil, x509.ErrUnsupportedAlgorithm
}

// scalar is the number that is the private key. It stands in every form of the key, PKCS #8, PKCS #1, SEC 1 and JWK, in the same bytes.
func scalar(key crypto.PrivateKey) secret.Value {
	switch k := key.(type) {
	case *rsa.PrivateKey:
		return secret.New(k.D.Bytes())
	case *ecdsa.PrivateKey:
		if k, err := k.ECDH(); err == nil {
			return secret.New(k.Bytes())
		}
	case ed25519.PrivateKey:
		return secret.New(k.Seed())
	}
	return secret.Value{}
}
