// Package token is the authority's token endpoint: RFC 6749 client credentials with private_key_jwt, RFC 7523 assertions and
// RFC 8693 exchange for access tokens of at most 15 minutes, with introspection (RFC 7662), revocation (RFC 7009), metadata
// (RFC 8414) and keys (RFC 7517).
//
// A token says what its subject said, or less: never a longer life, another workload, a key that the subject was not bound to, a
// wider grant. The subject goes along, sealed to the custodians, who hold it against the charter for themselves.
package token

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/closing"
	"github.com/reevehq/reeve/internal/seal"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/workload"
)

// View is what the endpoint judges by at one moment.
type View struct {
	Set    *statement.Set
	Tokens *workload.Tokens
	Keys   *workload.Keys
	Closed *closing.State
}

// Config is what the endpoint has from its authority.
type Config struct {
	Authority string // process id: the charter's token key is this process's
	Key       func() Key
	View      func() *View // nil while there is no verified set

	// Once reports whether an id is used for the first time, and remembers it until a time. Enter writes an entry, durable when
	// it returns, and returns its receipt. Both fail while another authority holds the lease.
	Once  func(id [sha256.Size]byte, until time.Time) (bool, error)
	Enter func(*entry.Entry) (receipt string, err error)
	// Refused takes the entry of a refusal. It does not wait.
	Refused func(*entry.Entry)
	// Close publishes that a token of a workload is closed, by its jti.
	Close func(jti, workload string) error

	Clock func() time.Time
	Log   *slog.Logger
}

// Endpoint serves tokens. Safe for concurrent use.
type Endpoint struct{ Config }

// ErrAway is wrapped by what Once, Enter and Close return while this authority may not issue: the client tries again.
var ErrAway = errors.New("no tokens are issued here now")

// subject is whom a new token will be about, and the bounds that it brings.
type subject struct {
	workload.Identity
	sealed   string           // to the custodians, of an external token
	external []byte           // an external token, to be sealed
	actor    *workload.Actor  // who acts for it already
	grants   []workload.Grant // nil for no bound
	key      string           // hex SHA-256 of a W0 key
	bound    string           // thumbprint of the key that it is bound to
}

// request is a parsed request for a token, whatever its grant.
type request struct {
	grant    string
	entry    entry.Type
	client   string // client_id of the new token; empty for the subject's workload
	subject  *subject
	actor    *subject
	audience string
	grants   []workload.Grant
	proof    proof
}

// response is the answer of RFC 6749 section 5.1, with the members of RFC 8693 section 2.2.1 and RFC 9396 section 7.
type response struct {
	AccessToken     string           `json:"access_token"`
	IssuedTokenType string           `json:"issued_token_type,omitempty"`
	TokenType       string           `json:"token_type"`
	ExpiresIn       int64            `json:"expires_in"` // seconds
	Grants          []workload.Grant `json:"authorization_details,omitempty"`
}

// issue makes the token after its entry is durable.
func (e *Endpoint) issue(v *View, r *request) (*response, string, error) {
	now := e.Clock()
	claims, err := e.claims(v, r, now)
	if err != nil {
		return nil, "", err
	}
	// Only now: whoever makes a key can make proofs without end, and each id is a write.
	if r.proof.key != "" {
		if err := e.once("dpop", r.proof.key+" "+r.proof.id, r.proof.until); err != nil {
			return nil, "", err
		}
	}
	key := e.Key()
	kid, err := e.signs(v, key, now)
	if err != nil {
		return nil, "", err
	}
	token, err := key.sign(workload.AccessType, kid, claims)
	if err != nil {
		return nil, "", err
	}
	written := e.entry(v, r.subject, r.entry)
	written.Lease, written.Actor = claims.ID, chain(claims.Actor)
	written.Reason = fmt.Sprintf("%s by %s until %s", r.grant, r.subject.Issuer, time.Unix(claims.Expiry, 0).UTC().Format(time.RFC3339))
	receipt, err := e.Enter(written)
	if err != nil {
		return nil, "", &fault{http.StatusServiceUnavailable, "temporarily_unavailable", "the ledger has no entry of the token, so it is not issued: " + err.Error()}
	}
	resp := &response{AccessToken: token, TokenType: "Bearer", ExpiresIn: claims.Expiry - claims.IssuedAt, Grants: claims.Grants}
	if claims.Confirmation != nil {
		resp.TokenType = "DPoP"
	}
	if r.entry == entry.Exchange {
		resp.IssuedTokenType = typeAccess
	}
	return resp, receipt, nil
}

// claims holds the request against its bounds.
func (e *Endpoint) claims(v *View, r *request, now time.Time) (*workload.Access, error) {
	s := r.subject
	set := &v.Set.Charter
	c := &workload.Access{
		Issuer: set.Authority.Issuer, Audience: r.audience, Subject: s.Workload, ClientID: r.client, IssuedAt: now.Unix(), ID: rand.Text(),
		Expiry: min(now.Unix()+workload.AccessLife, s.NotAfter.Unix()), Actor: s.actor, Key: s.key,
	}
	if c.ClientID == "" {
		c.ClientID = s.Workload
	}
	if r.actor != nil {
		if r.actor.Tenant != s.Tenant {
			return nil, e.refuse(v, s, invalid("the actor is of another tenant than the subject"))
		}
		c.Actor = &workload.Actor{Subject: r.actor.Workload, Actor: s.actor}
		c.Expiry = min(c.Expiry, r.actor.NotAfter.Unix())
		c.ClientID = r.actor.Workload
	}
	if len(chain(c.Actor)) > maxActors {
		return nil, e.refuse(v, s, invalid(fmt.Sprintf("the delegation chain has more than %d actors", maxActors)))
	}
	c.Parents = parents(s, r.actor)
	if len(c.Parents) > workload.MaxParents {
		return nil, e.refuse(v, s, invalid(fmt.Sprintf("it was exchanged too often: %d names of the tokens that it comes from are the most", workload.MaxParents)))
	}
	if slices.ContainsFunc(c.Parents, func(name string) bool { return !workload.Name(name) }) {
		return nil, e.refuse(v, s, invalid("the actor token's jti has more than 128 characters, or others than printable ASCII: nobody could close what comes from it by that name"))
	}
	if c.Expiry <= c.IssuedAt {
		return nil, e.refuse(v, s, invalid("the subject has no second left to live"))
	}
	var err error
	if c.Grants, err = narrow(s.grants, r.grants); err != nil {
		return nil, e.refuse(v, s, err)
	}
	// A key is never bound to what was not bound to it: a proof shows who sent this request, not whose token it is.
	for _, who := range []*subject{s, r.actor} {
		if who != nil && who.bound != "" && who.bound != r.proof.key {
			return nil, e.refuse(v, s, &fault{http.StatusBadRequest, "invalid_dpop_proof", "a token is bound to a key, and the request has no proof of it"})
		}
	}
	if r.proof.key != "" && s.bound == "" && (r.actor == nil || r.actor.bound == "") {
		return nil, e.refuse(v, s, &fault{http.StatusBadRequest, "invalid_dpop_proof", "the subject is not bound to this key, and no exchange binds it; ask its issuer for a token with cnf, or put cnf into the assertion that you sign"})
	}
	if s.bound != "" {
		c.Confirmation = &workload.Confirmation{JKT: s.bound}
	}
	if closed := e.closed(v, s, c.Actor); closed != nil {
		return nil, e.refuse(v, s, &fault{http.StatusBadRequest, refusedAs(r.entry), closed.Error()})
	}
	if c.SubjectToken = s.sealed; len(s.external) > 0 {
		if c.SubjectToken, err = sealed(v.Set, s.Unit, s.external); err != nil {
			return nil, err
		}
	}
	if w, _, _ := v.Set.Workload(s.Workload); c.SubjectToken == "" && !w.VouchedBy(statement.IssuerAuthority) {
		return nil, e.refuse(v, s, invalid("the charter does not let the authority alone vouch for "+s.Workload+"; use the key itself, or have the charter name the identity "+statement.IssuerAuthority))
	}
	return c, nil
}

// parents names the tokens that a new one comes from, and with each of which it is closed: access tokens and the actor's. An external
// subject is not among them: it goes along.
func parents(s, actor *subject) (names []string) {
	for _, who := range []*subject{s, actor} {
		if who == nil {
			continue
		}
		names = append(names, who.Parents...)
		if who == s && len(s.external) > 0 {
			continue
		}
		for _, name := range who.Token {
			if name != "" {
				names = append(names, name)
			}
		}
	}
	return names
}

// maxActors bounds a delegation chain, as custodians do.
const maxActors = 8

func chain(a *workload.Actor) (names []string) {
	for ; a != nil; a = a.Actor {
		names = append(names, a.Subject)
	}
	return names
}

// closed is what closes the subject or who acts for it, or nil.
func (e *Endpoint) closed(v *View, s *subject, actor *workload.Actor) error {
	use := closing.Use{
		Workload: s.Workload, Tenant: s.Tenant, Units: [2]string{s.Unit, s.Unit}, Key: s.key, Actors: chain(actor),
		Tokens: [4]string{s.Token[0], s.Token[1], s.Subject[0], s.Subject[1]}, Parents: s.Parents,
	}
	if c := v.Closed.Of(&use); c != nil {
		return c
	}
	return nil
}

// sealed encrypts an external token to the custodians whose credentials the unit may be let use: its own, and those of units that
// lend to it. A gateway carries it and cannot read it, and nobody else's custodian can use it elsewhere.
func sealed(set *statement.Set, unit string, token []byte) (string, error) {
	var recipients []string
	for _, custody := range set.Custody {
		if custody.Unit != unit && !slices.ContainsFunc(custody.Grants, func(g statement.Grant) bool { return g.Unit == unit }) {
			continue
		}
		for _, c := range custody.Custodians {
			if !slices.Contains(recipients, c.Recipient) {
				recipients = append(recipients, c.Recipient)
			}
		}
	}
	slices.Sort(recipients)
	b, err := seal.Encrypt(token, recipients...)
	if err != nil {
		return "", fmt.Errorf("sealing the subject token: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(b), nil
}

// signs is the kid of this authority's key, when the charter has it now.
func (e *Endpoint) signs(v *View, key Key, now time.Time) (string, error) {
	for _, k := range v.Set.ServiceKeys("token", now) {
		if k.Process == e.Authority && k.Key == key.Verifier() {
			return key.ID()
		}
	}
	return "", &fault{http.StatusServiceUnavailable, "temporarily_unavailable", "the charter has no live token key of " + e.Authority + " that is the one of its configuration"}
}

// entry begins the entry of something about a subject.
func (e *Endpoint) entry(v *View, s *subject, kind entry.Type) *entry.Entry {
	return &entry.Entry{
		Type: kind, Tenant: s.Tenant, Unit: s.Unit, Workload: s.Workload, Level: fmt.Sprintf("W%d", s.Level), Proof: s.Proof,
		Estate: hex.EncodeToString(v.Set.LockHash[:]), Actor: chain(s.actor),
	}
}

// refuse notes a refusal of somebody whose proof held.
func (e *Endpoint) refuse(v *View, s *subject, why error) error {
	d := e.entry(v, s, entry.Deny)
	d.Decision, d.Reason, d.FeedAgeMS = "deny", "token: "+strings.ToValidUTF8(why.Error(), ""), -1
	e.Refused(d)
	return why
}

// narrow returns the grants of a child: what was asked for when the parent has all of it, else what the parent has.
func narrow(parent, asked []workload.Grant) ([]workload.Grant, error) {
	if asked == nil {
		return parent, nil
	}
	within := func(child, bound []string) bool {
		return len(bound) == 0 || len(child) > 0 && !slices.ContainsFunc(child, func(s string) bool { return !slices.Contains(bound, s) })
	}
	for _, a := range asked {
		if parent != nil && !slices.ContainsFunc(parent, func(p workload.Grant) bool {
			return within(a.Credentials, p.Credentials) && within(a.Models, p.Models)
		}) {
			return nil, &fault{http.StatusBadRequest, "invalid_authorization_details", "more is asked for than the subject has"}
		}
	}
	return asked, nil
}
