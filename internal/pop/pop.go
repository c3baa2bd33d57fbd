// Package pop is reeve's proof of possession for one HTTP request: an HTTP message signature (RFC 9421) in one fixed form, made by
// the workload or its sidecar and verified by the custodian over the bytes that the client sent. docs/formats/proof.md has the
// format and vectors. Signing and verifying stand side by side; both use the standard library only.
package pop

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// The form's constants.
const (
	Tag  = "reeve-pop-v1"
	Life = time.Minute     // longest time between created and expires
	Skew = 5 * time.Second // that two clocks may differ
)

// Header fields of a signed request. Those that begin with Reeve- and are not Reeve-Key or Reeve-SVID are covered by the signature.
const (
	FieldInput      = "Signature-Input"
	FieldSignature  = "Signature"
	FieldDigest     = "Content-Digest"   // RFC 9530, sha-256
	FieldCredential = "Reeve-Credential" // a credential, or a signed alias or model name
	FieldAudience   = "Reeve-Audience"   // the custodian's id
	FieldNonce      = "Reeve-Nonce"      // the custodian's; it stands on every answer too
	FieldFallbacks  = "Reeve-Fallbacks"  // credentials that may be used instead, separated by ", "
	FieldKey        = "Reeve-Key"        // the public key, where a token is bound to its thumbprint
	FieldSVID       = "Reeve-SVID"       // an X.509-SVID with its intermediates, where that is the proof
)

// What Parse and Verify return. Each is wrapped with the particulars.
var (
	ErrMalformed = errors.New("malformed request signature")
	ErrTime      = errors.New("request signature outside its time")
	ErrDigest    = errors.New("the body is not the one that was signed")
	ErrSignature = errors.New("request signature does not hold")
)

// Request is an HTTP request as the client sends it.
type Request struct {
	Method string
	URL    string                     // absolute, with path and query: the exact bytes
	Header func(name string) []string // the values of a field, by its name in any case, in order: http.Header.Values is one
	Body   []byte
}

// Terms are what a signature says besides the request itself.
type Terms struct {
	Credential string   // credential, or a signed alias or model name
	Audience   string   // the custodian's id
	Nonce      string   // of the custodian: the newest Reeve-Nonce of its answers
	Fallbacks  []string // credentials that the gateway may choose instead
}

// Proof is the signature of one request.
type Proof struct {
	Terms
	Headers     []string // names of the header fields that are covered, besides the form's own: lower-case, sorted
	ClientNonce string   // 128 bits in base64url: what a replay repeats
	KeyID       string   // RFC 7638 thumbprint of Key
	Created     time.Time
	Expires     time.Time

	Key   crypto.PublicKey    // ed25519.PublicKey or *ecdsa.PublicKey on P-256
	Chain []*x509.Certificate // of Reeve-SVID, the leaf first; not verified here. Nil with Reeve-Key

	request   *Request
	base      string // what is signed
	signature []byte
}

// Covers reports whether the signature covers a header field, given in any case.
func (p *Proof) Covers(name string) bool { return slices.Contains(p.Headers, strings.ToLower(name)) }

// Parse reads the signature of a request in its one form, and verifies nothing but that the key has the thumbprint that the
// signature names. Every error is an ErrMalformed.
func Parse(r *Request) (*Proof, error) {
	p := &Proof{request: r}
	input, err := one(r, FieldInput)
	if err != nil {
		return nil, err
	}
	params, err := p.parseInput(input)
	if err != nil {
		return nil, err
	}
	signature, err := one(r, FieldSignature)
	if err != nil {
		return nil, err
	}
	if p.signature, err = parseBytes(signature, "reeve=", 64); err != nil {
		return nil, err
	}
	if err := p.parseKey(); err != nil {
		return nil, err
	}
	if p.Terms, err = terms(r); err != nil {
		return nil, err
	}
	p.base, err = base(r, p.Headers, len(p.Fallbacks) > 0, params)
	return p, err
}

// parseKey reads the key that the request shows.
func (p *Proof) parseKey() (err error) {
	keys, chains := p.request.Header(FieldKey), p.request.Header(FieldSVID)
	switch {
	case len(keys) == 1 && len(chains) == 0:
		p.Key, err = parseJWK(keys[0])
	case len(keys) == 0 && len(chains) == 1:
		p.Chain, err = parseChain(chains[0])
		if err == nil {
			p.Key = p.Chain[0].PublicKey
		}
	default:
		err = malformed("it needs either %s or %s, once", FieldKey, FieldSVID)
	}
	if err != nil {
		return err
	}
	id, err := Thumbprint(p.Key)
	if err != nil {
		return malformed("%v", err)
	}
	if id != p.KeyID {
		return malformed("keyid is not the thumbprint of the key that is shown")
	}
	return nil
}

// Verify checks the signature's time, the body and the signature itself. The errors are ErrTime, ErrDigest and ErrSignature.
// Whose key it is, and whether the terms are right, is the caller's to judge.
func (p *Proof) Verify(now time.Time) error {
	if got := p.request.Header(FieldDigest); len(got) != 1 || got[0] != Digest(p.request.Body) {
		return ErrDigest
	}
	return p.VerifyHead(now)
}

// VerifyHead is Verify without the body, for who has not read it yet.
func (p *Proof) VerifyHead(now time.Time) error {
	if p.Created.After(now.Add(Skew)) || !now.Before(p.Expires.Add(Skew)) {
		return fmt.Errorf("%w: it is good from %s to %s, and it is %s here", ErrTime, clock(p.Created), clock(p.Expires), clock(now))
	}
	if !verify(p.Key, []byte(p.base), p.signature) {
		return fmt.Errorf("%w: method, URL, a covered header field or a parameter is not the one that was signed", ErrSignature)
	}
	return nil
}

func clock(t time.Time) string { return t.UTC().Format(time.TimeOnly) }

// Digest is the Content-Digest field of a body (RFC 9530), an empty one too.
func Digest(body []byte) string {
	sum := sha256.Sum256(body)
	return "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"
}

// terms reads the fields that are reeve's own.
func terms(r *Request) (t Terms, err error) {
	for _, f := range []struct {
		name string
		to   *string
	}{{FieldCredential, &t.Credential}, {FieldAudience, &t.Audience}, {FieldNonce, &t.Nonce}} {
		if *f.to, err = one(r, f.name); err != nil {
			return t, err
		}
		if *f.to == "" {
			return t, malformed("%s is empty", f.name)
		}
	}
	if len(r.Header(FieldFallbacks)) > 0 {
		list, err := one(r, FieldFallbacks)
		if err != nil {
			return t, err
		}
		t.Fallbacks = strings.Split(list, ", ")
	}
	return t, nil
}

// base is the signature base (RFC 9421 section 2.5) of the form's components in their order.
func base(r *Request, headers []string, fallbacks bool, params string) (string, error) {
	if !printable(r.Method) || !printable(r.URL) {
		return "", malformed("the method or the URL has a space or a control character")
	}
	b := make([]byte, 0, 1024)
	b = line(b, "@method", r.Method)
	b = line(b, "@target-uri", r.URL)
	for _, name := range components(headers, fallbacks)[2:] {
		value, err := one(r, name)
		if err != nil {
			return "", err
		}
		b = line(b, name, value)
	}
	b = append(b, `"@signature-params": `...)
	return string(append(b, params...)), nil
}

func line(b []byte, name, value string) []byte {
	b = append(append(append(b, '"'), name...), `": `...)
	return append(append(b, value...), '\n')
}

// components are what is covered, in the form's order.
func components(headers []string, fallbacks bool) []string {
	list := append([]string{"@method", "@target-uri", "content-digest"}, headers...)
	list = append(list, "reeve-credential", "reeve-audience", "reeve-nonce")
	if fallbacks {
		list = append(list, "reeve-fallbacks")
	}
	return list
}

// own reports whether the form covers a field by itself, or none may: such a field is not in Headers.
func own(name string) bool {
	return strings.HasPrefix(name, "reeve-") || name == "content-digest" || name == "signature" || name == "signature-input"
}

// one is the value of a field that stands exactly once, with the white space around it removed (RFC 9421 section 2.1).
func one(r *Request, name string) (string, error) {
	values := r.Header(name)
	if len(values) != 1 {
		return "", malformed("%s stands %d times, not once", name, len(values))
	}
	v := strings.Trim(values[0], " \t")
	if strings.ContainsFunc(v, func(c rune) bool { return c < ' ' || c > '~' }) {
		return "", malformed("%s has a character that is not printable ASCII", name)
	}
	return v, nil
}

// printable reports whether s is ASCII without space or control characters, and not empty.
func printable(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c > '~' })
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}
