package workload

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"

	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/workload/jwks"
)

// AccessType is the typ of reeve's access tokens (RFC 9068).
const AccessType = "at+jwt"

// AccessAudience is the aud of an estate's access tokens: its custodians, never a gateway.
func AccessAudience(estate string) string { return "reeve:" + estate }

// AccessLife is the longest life of an access token in seconds.
const AccessLife = 15 * 60

// Access are the claims of an access token that the authority issues. docs/formats/token.md has the format; a token with other
// members is refused.
type Access struct {
	Issuer   string `json:"iss"` // the charter's authority.issuer
	Audience string `json:"aud"` // AccessAudience
	Subject  string `json:"sub"` // workload id
	ClientID string `json:"client_id"`
	Expiry   int64  `json:"exp"` // at most AccessLife after IssuedAt, never after the subject token's
	IssuedAt int64  `json:"iat"`
	ID       string `json:"jti"`

	Confirmation *Confirmation `json:"cnf,omitempty"`                   // equal to the subject token's, if there is one
	Actor        *Actor        `json:"act,omitempty"`                   // RFC 8693 section 4.1
	Grants       []Grant       `json:"authorization_details,omitempty"` // RFC 9396
	Key          string        `json:"key,omitempty"`                   // hex SHA-256 of the W0 key that it was exchanged for: it is W0 too, and closed with the key
	Parents      []string      `json:"parents,omitempty"`               // names of the tokens that it came from, which go along in no other way: closed with each of them
	SubjectToken string        `json:"subject_token,omitempty"`         // of the issuer that the charter names for the workload, sealed to the custodians
}

// Confirmation names the key that must sign each request (RFC 9449 section 6.1).
type Confirmation struct {
	JKT string `json:"jkt"` // RFC 7638 thumbprint
}

// Actor is who acts for the subject. The nearest is the outermost.
type Actor struct {
	Subject string `json:"sub"`
	Actor   *Actor `json:"act,omitempty"`
}

// maxActors bounds a delegation chain.
const maxActors = 8

// chain lists the actors, the nearest first.
func (a *Actor) chain() (names []string, err error) {
	for ; a != nil; a = a.Actor {
		if !Name(a.Subject) || len(names) == maxActors {
			return nil, fmt.Errorf("%w: a delegation chain of more than %d, or with an actor that has no proper name", ErrProof, maxActors)
		}
		names = append(names, a.Subject)
	}
	return names, nil
}

// MaxParents bounds the names of a token's parents: a token has two.
const MaxParents = 16

// Name reports whether an actor or a parent can have this name: 1 to 128 characters of printable ASCII without space.
func Name(s string) bool {
	return s != "" && len(s) <= 128 && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// GrantType is the type of the authorization details that reeve knows.
const GrantType = "reeve"

// Grant narrows a token (RFC 9396): a request must be within one of its grants. An empty list is no bound.
type Grant struct {
	Type        string   `json:"type"`
	Credentials []string `json:"credentials,omitempty"`
	Models      []string `json:"models,omitempty"` // as a client names them: an alias, or provider/model
}

// Allows reports whether one of the grants has the credential, and a model that is. Without grants everything is allowed.
func Allows(grants []Grant, credential string, is func(model string) bool) bool {
	if grants == nil {
		return true
	}
	return slices.ContainsFunc(grants, func(g Grant) bool {
		return (len(g.Credentials) == 0 || slices.Contains(g.Credentials, credential)) && (len(g.Models) == 0 || slices.ContainsFunc(g.Models, is))
	})
}

// vouched holds an access token against whoever else must vouch for the workload: a captured authority has only its own word.
func (t *Tokens) vouched(v *verified, a *Access, now time.Time) error {
	if a.SubjectToken == "" {
		w, _, _ := t.set.Workload(v.Workload)
		if !w.VouchedBy(statement.IssuerAuthority) {
			return fmt.Errorf("%w: the charter does not let the authority alone vouch for %s", ErrUnknown, v.Workload)
		}
		v.AuthorityAsserted = true
		return nil
	}
	if t.open == nil {
		return nil
	}
	sealed, err := base64.RawURLEncoding.DecodeString(a.SubjectToken)
	if err != nil {
		return fmt.Errorf("%w: the subject token is not base64url", ErrProof)
	}
	token, err := t.open(sealed)
	if err != nil {
		return fmt.Errorf("%w: the subject token cannot be opened here", ErrProof)
	}
	subject, err := t.subject(token, now)
	clear(token)
	if err != nil { // its particulars stay here: what was sealed may be anything
		for _, known := range []error{ErrUnknown, ErrExpired, ErrSignature, ErrBound, ErrKeys} {
			if errors.Is(err, known) {
				return fmt.Errorf("%w: the subject token", known)
			}
		}
		return fmt.Errorf("%w: the subject token", ErrProof)
	}
	switch {
	case subject.Workload != v.Workload:
		return fmt.Errorf("%w: the subject token is %s's", ErrUnknown, subject.Workload)
	case subject.Bound != v.Bound:
		return fmt.Errorf("%w: the subject token is bound to another key, or to none", ErrBound)
	}
	v.Issuer, v.Subject, v.by = subject.Issuer, subject.Token, subject.by
	v.NotAfter = earlier(v.NotAfter, subject.NotAfter)
	return nil
}

// subject verifies a token that was made for the authority's token endpoint.
func (t *Tokens) subject(token []byte, now time.Time) (*verified, error) {
	jws, kind, err := parse(string(token), jwks.Algorithms())
	if err != nil {
		return nil, err
	}
	var c claims
	if err := json.Unmarshal(jws.UnsafePayloadWithoutVerification(), &c); err != nil {
		return nil, fmt.Errorf("%w: its claims: %v", ErrProof, err)
	}
	endpoint := t.set.Charter.Authority.Issuer
	if !slices.Equal(c.Audience, audience{endpoint}) {
		return nil, fmt.Errorf("%w: it is not for the token endpoint alone", ErrProof)
	}
	v, err := t.external(jws, kind, &c, now)
	if err == nil {
		v.Token[0] = signedPart(token)
	}
	return v, err
}

// Exchangeable verifies a token of an issuer of the charter that was made for the authority's token endpoint, as the endpoint
// does before it exchanges it: the identity says whom it vouches for, and to which key it is bound.
func (t *Tokens) Exchangeable(token []byte, now time.Time) (Identity, error) {
	if len(token) > maxToken {
		return Identity{}, fmt.Errorf("%w: a token of more than %d bytes", ErrProof, maxToken)
	}
	if t.set.Charter.Authority.Issuer == "" {
		return Identity{}, errors.New("the charter names no token endpoint")
	}
	v, err := t.subject(token, now)
	if err != nil {
		return Identity{}, err
	}
	v.SHA256 = v.Token[0]
	v.KeyID = v.SHA256[:16]
	return v.Identity, nil
}

// access verifies the authority's own token, and the one that it was exchanged for.
func (t *Tokens) access(token string, now time.Time) (*verified, error) {
	jws, _, err := parse(token, []string{"EdDSA"})
	if err != nil {
		return nil, err
	}
	payload, err := t.authority(jws, now)
	if err != nil {
		return nil, err
	}
	var a Access
	if err := json.Unmarshal(payload, &a); err != nil {
		return nil, fmt.Errorf("%w: its claims: %v", ErrProof, err)
	}
	if again, err := json.Marshal(a); err != nil || !bytes.Equal(again, payload) {
		return nil, fmt.Errorf("%w: an access token with members that it has not, or in another spelling", ErrProof)
	}
	if a.Audience != AccessAudience(t.set.Charter.Estate) {
		return nil, fmt.Errorf("%w: it is for %.100q", ErrUnknown, a.Audience)
	}
	if a.ID == "" || a.IssuedAt <= 0 || a.Expiry <= a.IssuedAt || a.Expiry-a.IssuedAt > AccessLife {
		return nil, fmt.Errorf("%w: an access token without jti, or that lives longer than %d seconds", ErrProof, AccessLife)
	}
	v := &verified{notBefore: time.Unix(a.IssuedAt, 0)}
	if v.Identity, err = t.identity(a.Subject); err != nil {
		return nil, err
	}
	v.NotAfter, v.Issuer, v.Token[1], v.Grants = time.Unix(a.Expiry, 0), statement.IssuerAuthority, a.ID, a.Grants
	if v.Actor, err = a.Actor.chain(); err != nil {
		return nil, err
	}
	if v.Parents = a.Parents; len(v.Parents) > MaxParents || slices.ContainsFunc(v.Parents, func(s string) bool { return !Name(s) }) {
		return nil, fmt.Errorf("%w: more than %d names of parents, or one that is no name", ErrProof, MaxParents)
	}
	if a.Confirmation != nil {
		v.Bound = a.Confirmation.JKT
	}
	if slices.ContainsFunc(a.Grants, func(g Grant) bool { return g.Type != GrantType }) || a.Confirmation != nil && v.Bound == "" {
		return nil, fmt.Errorf("%w: authorization details of another type, or a confirmation without jkt", ErrProof)
	}
	if a.Key != "" {
		if raw, err := hex.DecodeString(a.Key); err != nil || len(raw) != sha256.Size || a.SubjectToken != "" || v.Bound != "" {
			return nil, fmt.Errorf("%w: a key's token with another hash, subject or binding", ErrProof)
		}
		v.Level, v.SHA256 = 0, a.Key // an exchange raises no level
	}
	return v, t.vouched(v, &a, now)
}

// authority verifies an access token's signature by the token keys of the charter that hold now, and returns its payload.
func (t *Tokens) authority(jws *jose.JSONWebSignature, now time.Time) ([]byte, error) {
	for _, k := range t.set.ServiceKeys("token", now) {
		_, _, public, err := statement.ParseNoteKey(k.Key)
		if err != nil {
			continue
		}
		if id, err := AccessKeyID(public); err == nil && id == jws.Signatures[0].Protected.KeyID {
			payload, err := jws.Verify(public)
			if err != nil {
				return nil, fmt.Errorf("%w: the authority's", ErrSignature)
			}
			return payload, nil
		}
	}
	return nil, fmt.Errorf("%w: the charter has no token key with its kid", ErrSignature)
}
