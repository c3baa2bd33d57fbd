package workload

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/pop"
)

// AccessKeyID is the kid of the authority's tokens: the RFC 7638 thumbprint of the token key that the charter names.
func AccessKeyID(public ed25519.PublicKey) (string, error) { return pop.Thumbprint(public) }

// svid verifies an X.509-SVID (SPIFFE X509-SVID, section 4 and 5) by the roots of its trust domain in the charter.
func (t *Tokens) svid(chain []*x509.Certificate, now time.Time) (Identity, error) {
	if t == nil {
		return Identity{}, ErrUnknown
	}
	leaf := chain[0]
	if len(leaf.URIs) != 1 || leaf.IsCA || leaf.KeyUsage&(x509.KeyUsageDigitalSignature) == 0 || leaf.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0 {
		return Identity{}, fmt.Errorf("%w: the certificate is not an X.509-SVID", ErrProof)
	}
	id := leaf.URIs[0].String()
	rest, ok := strings.CutPrefix(id, "spiffe://")
	domain, _, _ := strings.Cut(rest, "/")
	s := t.issuers["spiffe://"+domain]
	if !ok || s == nil {
		return Identity{}, fmt.Errorf("%w: the charter has no trust domain for %.100q", ErrUnknown, id)
	}
	if !now.Before(leaf.NotAfter) || now.Before(leaf.NotBefore) {
		return Identity{}, fmt.Errorf("%w: the SVID", ErrExpired)
	}
	h := sha256.New()
	for _, c := range chain {
		h.Write(c.Raw) // DER says its own length
	}
	hash := [sha256.Size]byte(h.Sum(nil))
	if v := t.remembered(hash); v != nil {
		return v.at(now)
	}
	keys := t.published(s, "")
	if keys == nil || len(keys.Roots) == 0 {
		return Identity{}, fmt.Errorf("%w: the bundle of %s has no roots for X.509-SVIDs", ErrKeys, s.ID)
	}
	options := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
	for _, c := range keys.Roots {
		options.Roots.AddCert(c)
	}
	for _, c := range chain[1:] {
		options.Intermediates.AddCert(c)
	}
	if _, err := leaf.Verify(options); err != nil {
		return Identity{}, fmt.Errorf("%w: the SVID: %v", ErrSignature, err)
	}
	name, err := s.anyDoor(id)
	if err != nil {
		return Identity{}, err
	}
	v := &verified{notBefore: leaf.NotBefore, by: []signature{{s, keys}}}
	if v.Identity, err = t.identity(name); err != nil {
		return Identity{}, err
	}
	v.Issuer, v.NotAfter = s.ID, leaf.NotAfter
	for _, c := range chain[1:] {
		v.NotAfter = earlier(v.NotAfter, c.NotAfter)
	}
	t.remember(hash, v)
	return v.at(now)
}

// anyDoor finds the one workload that a SPIFFE id means: an X.509-SVID has no audience.
func (s *issuer) anyDoor(subject string) (name string, err error) {
	for _, d := range s.doors {
		switch w := d.of(subject); {
		case w != "" && name != "" && w != name:
			return "", fmt.Errorf("%w: it could be %s and %s", ErrProof, name, w)
		case w != "":
			name = w
		}
	}
	if name == "" {
		return "", fmt.Errorf("%w: no identity of the charter has the subject %.100q of %s", ErrUnknown, subject, s.ID)
	}
	return name, nil
}
