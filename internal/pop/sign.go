package pop

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Signer signs requests with one key. Safe for concurrent use where its key is.
type Signer struct {
	key   crypto.Signer
	id    string
	field string // Reeve-Key or Reeve-SVID
	value string
}

// NewSigner returns a signer for a key that a token is bound to: cnf.jkt is the key's Thumbprint. The key is Ed25519 or ECDSA P-256.
func NewSigner(key crypto.Signer) (*Signer, error) {
	c, err := canonical(key.Public())
	if err != nil {
		return nil, err
	}
	id, err := Thumbprint(key.Public())
	return &Signer{key, id, FieldKey, base64.RawURLEncoding.EncodeToString(c)}, err
}

// NewSVIDSigner returns a signer for the key of an X.509-SVID, the first of the chain; the others are its intermediates.
func NewSVIDSigner(key crypto.Signer, chain []*x509.Certificate) (*Signer, error) {
	id, err := Thumbprint(key.Public())
	if err != nil {
		return nil, err
	}
	if len(chain) == 0 {
		return nil, errors.New("the SVID has no certificate")
	}
	if of, err := Thumbprint(chain[0].PublicKey); err != nil || of != id {
		return nil, errors.New("the SVID is for another key")
	}
	var der bytes.Buffer
	for _, c := range chain {
		der.Write(c.Raw)
	}
	return &Signer{key, id, FieldSVID, base64.StdEncoding.EncodeToString(der.Bytes())}, nil
}

// KeyID is the thumbprint of the signer's key.
func (s *Signer) KeyID() string { return s.id }

// Sign signs a request until Life from now and sets the fields of the signature, such as with http.Header.Set. Accept,
// Authorization (with the token, as "Bearer ") and Content-Type are covered where the request has them, and so are the further
// header fields that cover names: the custodian sends none upstream that is not covered. A field that the request has twice, or
// that cover names and it has not, is an error.
func (s *Signer) Sign(r *Request, t Terms, cover []string, now time.Time, set func(name, value string)) error {
	return s.SignAs(ClientNonce(), r, t, cover, now, set)
}

// ClientNonce makes a nonce of the client's own. Of all requests that are signed with one by one key, a custodian takes one.
func ClientNonce() string {
	var random [16]byte
	rand.Read(random[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(random[:])
}

// SignAs is Sign with a client nonce that a request before may have had: at most one of them counts.
func (s *Signer) SignAs(clientNonce string, r *Request, t Terms, cover []string, now time.Time, set func(name, value string)) error {
	p := &Proof{Terms: t, KeyID: s.id, ClientNonce: clientNonce, Created: now, Expires: now.Add(Life).Truncate(time.Second)}
	p.Created = p.Expires.Add(-Life)
	return s.sign(p, r, cover, set)
}

func (s *Signer) sign(p *Proof, r *Request, cover []string, set func(name, value string)) error {
	for _, name := range always() {
		if len(r.Header(name)) > 0 {
			p.Headers = append(p.Headers, name)
		}
	}
	for _, name := range cover {
		p.Headers = append(p.Headers, strings.ToLower(name))
	}
	slices.Sort(p.Headers)
	p.Headers = slices.Compact(p.Headers)
	if err := checkHeaders(p.Headers); err != nil {
		return err
	}
	fields := map[string]string{FieldDigest: Digest(r.Body), FieldCredential: p.Credential, FieldAudience: p.Audience, FieldNonce: p.Terms.Nonce, s.field: s.value}
	if len(p.Fallbacks) > 0 {
		fields[FieldFallbacks] = strings.Join(p.Fallbacks, ", ")
	}
	signed := *r
	signed.Header = func(name string) []string { // with the fields that are being added
		for field, value := range fields {
			if strings.EqualFold(field, name) {
				return []string{value}
			}
		}
		return r.Header(name)
	}
	if _, err := terms(&signed); err != nil {
		return err
	}
	params := p.parameters(components(p.Headers, len(p.Fallbacks) > 0))
	text, err := base(&signed, p.Headers, len(p.Fallbacks) > 0, params)
	if err != nil {
		return err
	}
	signature, err := sign(s.key, []byte(text))
	if err != nil {
		return fmt.Errorf("signing a request: %w", err)
	}
	fields[FieldInput] = "reeve=" + params
	fields[FieldSignature] = "reeve=:" + base64.StdEncoding.EncodeToString(signature) + ":"
	for field, value := range fields {
		set(field, value)
	}
	return nil
}
