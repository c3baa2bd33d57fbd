// Package workload verifies a workload's proof of who it is: a key of reeve's own (W0), a token of an issuer that the charter
// names (W1), or a signature over the request itself with a key that a token or an X.509-SVID binds (W2).
package workload

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/reevehq/reeve/internal/pop"
)

// What Verify returns, besides the errors of package pop. ErrRevoked is for the caller that checks the identity against the
// revocations in force.
var (
	ErrUnknown = errors.New("unknown workload")
	ErrExpired = errors.New("proof expired, or not valid yet")
	ErrRevoked = errors.New("proof revoked")
	ErrProof   = errors.New("malformed proof")
	// ErrSignature means that the token's signature does not hold under the issuer's keys as they are known here.
	ErrSignature = errors.New("token signature does not hold")
	// ErrBound means that the token is bound to a key and came without a proof of that key, or with that of another.
	ErrBound = errors.New("the token is bound to a key that did not sign this request")
	// ErrKeys means that the issuer's keys are not known here: it could not be asked.
	ErrKeys = errors.New("the issuer's keys are not known")
)

// The kinds of proof.
const (
	Bearer = "bearer" // W0: a key of reeve's own
	Token  = "token"  // W1: a JWT
	Pop    = "pop"    // W2: a signature over the request, with a JWT or an X.509-SVID
)

// Proof is what a workload presents, forwarded unchanged by the gateway. The signature of a Pop stands in the request's header.
type Proof struct {
	Kind  string
	Value []byte // the key or the token; empty for a Pop by X.509-SVID alone
}

// Identity is a verified workload.
type Identity struct {
	Workload string
	Unit     string
	Tenant   string
	Level    int    // 0 for W0
	Proof    string // kind of proof
	KeyID    string // first 16 hex digits of SHA256: names the key or token without giving it away
	SHA256   string // hex, of the key or token, or the RFC 7638 thumbprint of the key that signed the request: what a revocation of kind "key" names
	NotAfter time.Time

	Issuer string    // id of the charter's issuer who vouched, reeve, or authority
	Actor  []string  // who acts for the workload, by the token's delegation chain, the nearest first
	Token  [2]string // hex SHA-256 of the token without its signature, and its jti, where there is one: what a revocation of kind "token" names
	// Subject is the same of the token that the authority exchanged for this one.
	Subject [2]string
	// Parents are the same of the access tokens and actors' tokens that the authority exchanged on the way to this one.
	Parents []string
	// AuthorityAsserted means that nobody but the authority vouches for the workload.
	AuthorityAsserted bool
	Grants            []Grant        // what the token narrows the workload to: one of them must allow; nil for no bound
	Networks          []netip.Prefix // where a key may be used from, by what the gateway says; nil for everywhere
	Pop               *pop.Proof     // of a request that was signed: its terms are the custodian's to judge
	Bound             string         // thumbprint of the key that the token is bound to (cnf.jkt), or empty
}

// Verifier verifies proofs of every kind. The zero value knows nobody. Safe for concurrent use.
type Verifier struct {
	Keys   *Keys
	Tokens *Tokens
	// HeadOnly leaves the body of a signed request to another: the gateway has not read it yet, and the custodian checks it.
	HeadOnly bool
}

// Verify returns who presents the proof with the request. The request is looked at for a Pop only. Where its signature is what
// fails, the identity is what the token or the SVID shows by itself.
func (v *Verifier) Verify(p Proof, r *pop.Request, now time.Time) (who Identity, err error) {
	if p.Kind != Pop {
		return v.rests(p, nil, now)
	}
	proof, err := pop.Parse(r)
	if err != nil {
		if len(p.Value) > 0 {
			who, _ = v.Tokens.Verify(p.Value, now) // only to say whose request it pretends to be
		}
		return who, err
	}
	if who, err = v.rests(p, proof, now); err != nil {
		return who, err
	}
	if v.HeadOnly {
		err = proof.VerifyHead(now)
	} else {
		err = proof.Verify(now)
	}
	if err != nil {
		return who, err
	}
	return who.signed(proof)
}

// Again verifies what a proof that was taken rests on once more, by other statements: the key, the token, the SVID.
func (v *Verifier) Again(p Proof, was *Identity, then time.Time) (Identity, error) {
	who, err := v.rests(p, was.Pop, then)
	if err != nil || was.Pop == nil {
		return who, err
	}
	return who.signed(was.Pop)
}

// rests verifies what a proof rests on: the key, the token, or whose key the request was signed with.
func (v *Verifier) rests(p Proof, signed *pop.Proof, now time.Time) (who Identity, err error) {
	switch p.Kind {
	case Bearer:
		return v.Keys.Verify(p, now)
	case Token:
		if who, err = v.token(p.Value, now); err == nil && who.Bound != "" {
			err = fmt.Errorf("%w: sign each request (%s)", ErrBound, pop.Tag)
		}
		return who, err
	case Pop:
	default:
		return who, fmt.Errorf("%w: of the kind %.20q", ErrProof, p.Kind)
	}
	if len(p.Value) > 0 {
		if who, err = v.token(p.Value, now); err != nil {
			return Identity{}, err
		}
	}
	if signed.Chain == nil {
		if who.Bound == "" || who.Bound != signed.KeyID {
			err = ErrBound
		}
		return who, err
	}
	svid, err := v.Tokens.svid(signed.Chain, now)
	switch {
	case err != nil:
		return who, err
	case len(p.Value) == 0:
		return svid, nil
	case svid.Workload != who.Workload || who.Bound != "" && who.Bound != signed.KeyID:
		return who, fmt.Errorf("%w: the SVID is another's", ErrBound)
	}
	who.NotAfter = earlier(who.NotAfter, svid.NotAfter)
	return who, nil
}

// token verifies a token and, of one that a W0 key was exchanged for, the key: it holds while the key does, and where the key does.
func (v *Verifier) token(token []byte, now time.Time) (Identity, error) {
	who, err := v.Tokens.Verify(token, now)
	if err != nil || who.Level > 0 {
		return who, err
	}
	key, err := v.Keys.named(who.SHA256, now)
	switch {
	case err != nil:
		return Identity{}, fmt.Errorf("the key that the token was exchanged for: %w", err)
	case key.Workload != who.Workload:
		return Identity{}, fmt.Errorf("%w: the token was exchanged for a key of another workload", ErrUnknown)
	}
	who.Networks, who.NotAfter = key.Networks, earlier(who.NotAfter, key.NotAfter)
	return who, nil
}

// signed is the identity of who signed a request with its own key.
func (i Identity) signed(proof *pop.Proof) (Identity, error) {
	thumbprint, err := base64.RawURLEncoding.DecodeString(proof.KeyID)
	if err != nil {
		return Identity{}, err
	}
	i.Level, i.Proof, i.Pop = 2, Pop, proof
	i.SHA256 = hex.EncodeToString(thumbprint)
	i.KeyID = i.SHA256[:16]
	return i, nil
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
