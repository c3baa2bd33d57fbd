package workload

import (
	"fmt"
	"slices"
	"strings"
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
