package token

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/workload"
)

// The grants, and the types of token that they take (RFC 8693 section 3). A W0 key has a type of reeve's own.
const (
	grantExchange = "urn:ietf:params:oauth:grant-type:token-exchange"
	grantClient   = "client_credentials"
	grantBearer   = "urn:ietf:params:oauth:grant-type:jwt-bearer"

	typeJWT    = "urn:ietf:params:oauth:token-type:jwt"
	typeID     = "urn:ietf:params:oauth:token-type:id_token"
	typeAccess = "urn:ietf:params:oauth:token-type:access_token"
	typeKey    = "urn:reeve:params:oauth:token-type:workload-key"

	assertionJWT = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
)

// form is a request's parameters, each given once (RFC 6749 section 3.2).
type form url.Values

func (f form) get(name string) string { return url.Values(f).Get(name) }

// parse reads a request for a token.
func (e *Endpoint) parse(v *View, f form, now time.Time) (*request, error) {
	charter := &v.Set.Charter
	r := &request{grant: f.get("grant_type"), entry: entry.Issue, audience: workload.AccessAudience(charter.Estate)}
	for _, name := range []string{"audience", "resource"} {
		switch target := f.get(name); target {
		case "", r.audience:
		case charter.Authority.Issuer:
			r.audience = target // good for another exchange, and for nothing else
		default:
			return nil, &fault{http.StatusBadRequest, "invalid_target", fmt.Sprintf("tokens are for %s, or for %s to be exchanged once more; never for a gateway", workload.AccessAudience(charter.Estate), charter.Authority.Issuer)}
		}
	}
	if f.get("scope") != "" {
		return nil, &fault{http.StatusBadRequest, "invalid_scope", "tokens have no scope; narrow them by authorization_details of the type reeve"}
	}
	if f.get("client_secret") != "" {
		return nil, &fault{http.StatusUnauthorized, "invalid_client", "there are no client secrets; use private_key_jwt"}
	}
	var err error
	if r.grants, err = grants(f.get("authorization_details")); err != nil {
		return nil, err
	}
	var client *subject
	if f.get("client_assertion") != "" || r.grant == grantClient {
		if client, err = e.client(v, f, now); err != nil {
			return nil, err
		}
		r.client = client.Workload
	}
	switch r.grant {
	case grantClient:
		r.subject = client
	case grantBearer:
		r.subject, err = e.external(v, f.get("assertion"), now)
		if err != nil {
			err = &fault{http.StatusBadRequest, "invalid_grant", err.Error()}
		}
	case grantExchange:
		r.entry = entry.Exchange
		err = e.exchange(v, f, r, now)
	case "":
		err = invalid("grant_type is missing")
	default:
		err = &fault{http.StatusBadRequest, "unsupported_grant_type", "see grant_types_supported in the metadata"}
	}
	return r, err
}

// exchange reads the parameters of RFC 8693 section 2.1.
func (e *Endpoint) exchange(v *View, f form, r *request, now time.Time) (err error) {
	if t := f.get("requested_token_type"); t != "" && t != typeAccess && t != typeJWT {
		return invalid("only access tokens are issued")
	}
	if r.subject, err = e.presented(v, f.get("subject_token"), f.get("subject_token_type"), now); err != nil {
		return fmt.Errorf("subject_token: %w", err)
	}
	if f.get("actor_token") == "" && f.get("actor_token_type") == "" {
		return nil
	}
	if r.actor, err = e.presented(v, f.get("actor_token"), f.get("actor_token_type"), now); err != nil {
		return fmt.Errorf("actor_token: %w", err)
	}
	if r.actor.actor != nil {
		return invalid("actor_token: somebody acts for the actor already; the actor presents a token of its own")
	}
	if c := e.closed(v, r.actor, nil); c != nil {
		return e.refuse(v, r.actor, invalid(c.Error()))
	}
	return nil
}

// presented verifies a token of one of the types that can be exchanged. Its refusals are of RFC 8693 section 2.2.2.
func (e *Endpoint) presented(v *View, token, kind string, now time.Time) (*subject, error) {
	switch {
	case token == "":
		return nil, invalid("it is missing")
	case kind == typeKey:
		who, err := v.Keys.Verify(workload.Proof{Kind: workload.Bearer, Value: []byte(token)}, now)
		if err != nil {
			return nil, invalid(err.Error())
		}
		return &subject{Identity: who, key: who.SHA256}, nil
	case kind == typeAccess && e.own(v, token):
		return e.parent(v, token, now)
	case kind == typeJWT || kind == typeID || kind == typeAccess:
		s, err := e.external(v, token, now)
		if err != nil {
			return nil, invalid(err.Error())
		}
		return s, nil
	}
	return nil, invalid("its type is none of " + strings.Join([]string{typeJWT, typeID, typeAccess, typeKey}, ", "))
}

// maxExternal bounds the token that goes along in a new one, in bytes: together they fit into a header field.
const maxExternal = 7 << 10

// external verifies a token of an issuer of the charter that was made for this endpoint alone. So none that a gateway is shown
// can be exchanged.
func (e *Endpoint) external(v *View, token string, now time.Time) (*subject, error) {
	if len(token) > maxExternal {
		return nil, fmt.Errorf("a token of more than %d bytes does not fit into another one", maxExternal)
	}
	who, err := v.Tokens.Exchangeable([]byte(token), now)
	if err != nil {
		return nil, err
	}
	return &subject{Identity: who, external: []byte(token), bound: who.Bound}, nil
}

// client verifies a client assertion (RFC 7523 section 3): the workload's own word, signed with a key that the charter has.
// Each serves once.
func (e *Endpoint) client(v *View, f form, now time.Time) (*subject, error) {
	refuse := func(why string) (*subject, error) { return nil, &fault{http.StatusUnauthorized, "invalid_client", why} }
	if f.get("client_assertion_type") != assertionJWT {
		return refuse("clients authenticate by private_key_jwt: client_assertion_type is " + assertionJWT)
	}
	s, err := e.external(v, f.get("client_assertion"), now)
	if err != nil {
		return refuse(err.Error())
	}
	claims, err := peek(f.get("client_assertion"))
	switch id := f.get("client_id"); {
	case err != nil || claims.Issuer == "" || claims.Issuer != claims.Subject:
		return refuse("the assertion's iss and sub are not one client")
	case id != "" && id != claims.Subject:
		return refuse("client_id is not the assertion's sub")
	case claims.ID == "":
		return refuse("the assertion has no jti")
	}
	return s, e.once("assertion", claims.Issuer+" "+claims.ID, s.NotAfter)
}

// once refuses the second use of something until a time.
func (e *Endpoint) once(what, id string, until time.Time) error {
	first, err := e.Once(sha256.Sum256([]byte(what+" "+id)), until.Add(time.Minute))
	switch {
	case err != nil:
		return &fault{http.StatusServiceUnavailable, "temporarily_unavailable", err.Error()}
	case !first && what == "assertion":
		return &fault{http.StatusUnauthorized, "invalid_client", "the assertion was used before"}
	case !first:
		return &fault{http.StatusBadRequest, "invalid_dpop_proof", "the proof was used before"}
	}
	return nil
}

// peek reads claims of a token that was verified.
func peek(token string) (c struct {
	Issuer  string `json:"iss"`
	Subject string `json:"sub"`
	ID      string `json:"jti"`
}, err error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return c, errors.New("not a token")
	}
	b, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err == nil {
		err = json.Unmarshal(b, &c)
	}
	return c, err
}

// own reports whether a token names this authority as its issuer.
func (e *Endpoint) own(v *View, token string) bool {
	c, err := peek(token)
	return err == nil && c.Issuer != "" && c.Issuer == v.Set.Charter.Authority.Issuer
}

// claimed verifies an access token of this estate's authorities, for whatever audience.
func (e *Endpoint) claimed(v *View, token string, now time.Time) (*workload.Access, error) {
	jws, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil || !workload.Spelled(token) {
		return nil, errors.New("it is not a signed token")
	}
	for _, k := range v.Set.ServiceKeys("token", now) {
		_, _, public, err := statement.ParseNoteKey(k.Key)
		if err != nil {
			continue
		}
		kid, err := workload.AccessKeyID(public)
		if err != nil || kid != jws.Signatures[0].Protected.KeyID {
			continue
		}
		payload, err := jws.Verify(public)
		if err != nil {
			break
		}
		c := new(workload.Access)
		if err := json.Unmarshal(payload, c); err != nil || c.Issuer != v.Set.Charter.Authority.Issuer {
			break
		}
		if now.Unix() >= c.Expiry {
			return nil, workload.ErrExpired
		}
		return c, nil
	}
	return nil, errors.New("its signature holds under no token key of the charter")
}

// names are what a revocation calls a token by: the hex SHA-256 of what is signed, and the jti.
func names(token string, c *workload.Access) [2]string {
	sum := sha256.Sum256([]byte(token[:strings.LastIndexByte(token, '.')]))
	return [2]string{hex.EncodeToString(sum[:]), c.ID}
}

// parent verifies an access token that is to be narrowed or delegated. One for the custodians travels through gateways: it
// is exchanged only by who has the key that it is bound to.
func (e *Endpoint) parent(v *View, token string, now time.Time) (*subject, error) {
	c, err := e.claimed(v, token, now)
	if err != nil {
		return nil, invalid(err.Error())
	}
	w, unit, ok := v.Set.Workload(c.Subject)
	if !ok {
		return nil, invalid("the charter has no workload " + c.Subject)
	}
	s := &subject{
		Identity: workload.Identity{
			Workload: w.ID, Unit: unit.ID, Tenant: unit.Tenant, Level: 1, Proof: workload.Token, Issuer: statement.IssuerAuthority,
			NotAfter: time.Unix(c.Expiry, 0), Token: names(token, c), Parents: c.Parents,
		},
		sealed: c.SubjectToken, actor: c.Actor, grants: c.Grants, key: c.Key,
	}
	if c.Key != "" {
		s.Level = 0
	}
	if c.Confirmation != nil {
		s.bound = c.Confirmation.JKT
	}
	if c.Audience != v.Set.Charter.Authority.Issuer && s.bound == "" {
		return nil, e.refuse(v, s, invalid("a bearer token that gateways see is not exchanged; ask for one with the audience "+v.Set.Charter.Authority.Issuer))
	}
	return s, nil
}

// grants reads authorization_details (RFC 9396 section 2); nil when there are none.
func grants(text string) ([]workload.Grant, error) {
	if text == "" {
		return nil, nil
	}
	refuse := func(why string) ([]workload.Grant, error) {
		return nil, &fault{http.StatusBadRequest, "invalid_authorization_details", why}
	}
	var list []workload.Grant
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&list); err != nil || d.More() {
		return refuse("they are a JSON array of objects with type, credentials and models")
	}
	if len(list) == 0 || len(list) > 16 {
		return refuse("between 1 and 16 are taken")
	}
	for _, g := range list {
		if g.Type != workload.GrantType || len(g.Credentials)+len(g.Models) > 100 || slices.Contains(g.Credentials, "") || slices.Contains(g.Models, "") {
			return refuse("the type is " + workload.GrantType + ", with at most 100 names, none of them empty")
		}
	}
	return list, nil
}
