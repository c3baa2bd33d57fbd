package estatetest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"math/big"
	"net/url"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/reevehq/reeve/internal/statement"
)

// Issuer is a token issuer of a test: one key for each algorithm, with the algorithm as its kid, and an X.509 root.
type Issuer struct {
	t    testing.TB
	keys map[jose.SignatureAlgorithm]crypto.Signer
	root *x509.Certificate
	ca   crypto.Signer
}

// NewIssuer makes an issuer.
func NewIssuer(t testing.TB) *Issuer {
	t.Helper()
	i := &Issuer{t: t, keys: map[jose.SignatureAlgorithm]crypto.Signer{}}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	must(t, err)
	large, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	i.keys[jose.EdDSA], i.keys[jose.ES256], i.keys[jose.ES384], i.keys[jose.RS256], i.keys[jose.PS256] = ed, p256, p384, large, large
	i.ca = p256
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, root, root, i.ca.Public(), i.ca)
	must(t, err)
	i.root, err = x509.ParseCertificate(der)
	must(t, err)
	return i
}

// JWKS is the issuer's key set, and its SPIFFE bundle.
func (i *Issuer) JWKS() string {
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: i.root.PublicKey, Certificates: []*x509.Certificate{i.root}, Use: "x509-svid"}}}
	for alg, k := range i.keys {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: k.Public(), KeyID: string(alg), Algorithm: string(alg), Use: "sig"})
	}
	b, err := json.Marshal(set)
	must(i.t, err)
	return string(b)
}

// Root is the root of the issuer's X.509-SVIDs.
func (i *Issuer) Root() *x509.Certificate { return i.root }

// Charter is the issuer as a charter names it.
func (i *Issuer) Charter(id, iss string) statement.Issuer {
	return statement.Issuer{ID: id, Issuer: iss, JWKS: i.JWKS(), Algorithms: []string{"EdDSA", "ES256", "ES384", "RS256", "PS256"}}
}

// Sign signs claims with the key of the algorithm. Header members, such as typ, replace the usual ones.
func (i *Issuer) Sign(alg jose.SignatureAlgorithm, claims map[string]any, header map[jose.HeaderKey]any) []byte {
	i.t.Helper()
	return SignToken(i.t, alg, jose.JSONWebKey{Key: i.keys[alg], KeyID: string(alg)}, claims, header)
}

// SignToken signs claims as a JWT.
func SignToken(t testing.TB, alg jose.SignatureAlgorithm, key any, claims any, header map[jose.HeaderKey]any) []byte {
	t.Helper()
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, &jose.SignerOptions{ExtraHeaders: header})
	must(t, err)
	payload, err := json.Marshal(claims)
	must(t, err)
	jws, err := s.Sign(payload)
	must(t, err)
	text, err := jws.CompactSerialize()
	must(t, err)
	return []byte(text)
}

// SVID makes an X.509-SVID for the key. change changes it before it is signed.
func (i *Issuer) SVID(id string, key crypto.PublicKey, change func(*x509.Certificate)) *x509.Certificate {
	i.t.Helper()
	u, err := url.Parse(id)
	must(i.t, err)
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), URIs: []*url.URL{u}, KeyUsage: x509.KeyUsageDigitalSignature,
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
	}
	if change != nil {
		change(leaf)
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, i.root, key, i.ca)
	must(i.t, err)
	c, err := x509.ParseCertificate(der)
	must(i.t, err)
	return c
}
