package workload

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"

	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/workload/jwks"
)

const (
	maxToken = 16 << 10         // bytes
	skew     = 10 * time.Second // that an issuer's clock may differ
	maxCache = 1 << 16          // tokens that are remembered
)

// Tokens verifies tokens by one set. Safe for concurrent use.
type Tokens struct {
	set     *statement.Set
	issuers map[string]*issuer // by iss
	keys    func(issuer, kid string) *jwks.Set
	open    func(sealed []byte) ([]byte, error)

	mu    sync.Mutex
	cache map[[sha256.Size]byte]*verified
}

// issuer is one issuer of the charter with the workloads that it vouches for.
type issuer struct {
	*statement.Issuer
	algorithms []jose.SignatureAlgorithm
	static     *jwks.Set // nil with discovery
	doors      map[string]*door
}

// door is what one audience of one issuer leads to.
type door struct {
	exact    map[string]string // workload by subject
	patterns []statement.Identity
	behind   []string // workloads of the patterns
}

// verified is a token that was verified, for as long as it holds and its issuers' keys are the same.
type verified struct {
	Identity
	notBefore time.Time
	by        []signature
}

type signature struct {
	issuer *issuer
	keys   *jwks.Set
}

// NewTokens prepares a set. keys returns the published keys of an issuer by its id, or nil, for a token that names the key kid; it
// is asked for issuers with discovery only. open opens the subject token that is sealed in an access token; without it, at a gateway, the authority's word
// is taken.
func NewTokens(set *statement.Set, keys func(issuer, kid string) *jwks.Set, open func(sealed []byte) ([]byte, error)) (*Tokens, error) {
	t := &Tokens{set: set, issuers: map[string]*issuer{}, keys: keys, open: open, cache: map[[sha256.Size]byte]*verified{}}
	byID := map[string]*issuer{}
	for i := range set.Charter.Issuers {
		s := &issuer{Issuer: &set.Charter.Issuers[i], doors: map[string]*door{}}
		for _, a := range s.Algorithms {
			s.algorithms = append(s.algorithms, jose.SignatureAlgorithm(a))
		}
		if s.JWKS != "" {
			var err error
			if s.static, err = jwks.Parse([]byte(s.JWKS)); err != nil {
				return nil, fmt.Errorf("the keys of the issuer %s: %w", s.ID, err)
			}
		}
		t.issuers[s.Issuer.Issuer], byID[s.ID] = s, s
	}
	for _, w := range set.Charter.Workloads {
		for _, id := range w.Identities {
			if s := byID[id.Issuer]; s != nil {
				s.add(id, w.ID)
			}
		}
	}
	return t, nil
}

func (s *issuer) add(id statement.Identity, workload string) {
	d := s.doors[id.Audience]
	if d == nil {
		d = &door{exact: map[string]string{}}
		s.doors[id.Audience] = d
	}
	if strings.Contains(id.Subject, "*") {
		d.patterns, d.behind = append(d.patterns, id), append(d.behind, workload)
	} else {
		d.exact[id.Subject] = workload
	}
}

// of returns the workload that a subject is, by one audience.
func (d *door) of(subject string) string {
	if w := d.exact[subject]; w != "" {
		return w
	}
	for i := range d.patterns {
		if statement.MatchSubject(d.patterns[i].Subject, subject) {
			return d.behind[i]
		}
	}
	return ""
}

// published are the issuer's keys of this moment, or nil; kid is what a token asks for.
func (t *Tokens) published(s *issuer, kid string) *jwks.Set {
	if s.static != nil || t.keys == nil {
		return s.static
	}
	return t.keys(s.ID, kid)
}

// Verify returns whom a token vouches for. Whether it is bound to a key is the Verifier's to check.
func (t *Tokens) Verify(token []byte, now time.Time) (Identity, error) {
	if t == nil {
		return Identity{}, ErrUnknown
	}
	if len(token) > maxToken {
		return Identity{}, fmt.Errorf("%w: a token of more than %d bytes", ErrProof, maxToken)
	}
	hash := sha256.Sum256(token)
	if v := t.remembered(hash); v != nil {
		return v.at(now)
	}
	v, err := t.verify(string(token), now)
	if err != nil {
		return Identity{}, err
	}
	v.Token[0] = signedPart(token)
	v.SHA256 = cmp.Or(v.SHA256, v.Token[0]) // a W0 key's token is closed with the key
	v.KeyID = v.SHA256[:16]
	t.remember(hash, v)
	return v.at(now)
}

// at is the identity while the token holds.
func (v *verified) at(now time.Time) (Identity, error) {
	if now.Before(v.notBefore.Add(-skew)) || !now.Before(v.NotAfter.Add(skew)) {
		return Identity{}, ErrExpired
	}
	return v.Identity, nil
}

func (t *Tokens) remembered(hash [sha256.Size]byte) *verified {
	t.mu.Lock()
	defer t.mu.Unlock()
	v := t.cache[hash]
	if v == nil {
		return nil
	}
	for _, s := range v.by {
		if t.published(s.issuer, "") != s.keys {
			delete(t.cache, hash)
			return nil
		}
	}
	return v
}

// remember keeps a verified token. When there is no room all are forgotten: they are verified again.
func (t *Tokens) remember(hash [sha256.Size]byte, v *verified) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.cache) >= maxCache {
		clear(t.cache)
	}
	t.cache[hash] = v
}

// claims are those of an issuer's token (RFC 7519) that are looked at.
type claims struct {
	Issuer       string        `json:"iss"`
	Subject      string        `json:"sub"`
	Audience     audience      `json:"aud"`
	Expiry       float64       `json:"exp"`
	NotBefore    float64       `json:"nbf"`
	IssuedAt     float64       `json:"iat"`
	ID           string        `json:"jti"`
	Confirmation *confirmation `json:"cnf"`
}

// confirmation is a key that a token is bound to. Of its forms only jkt can be proven here.
type confirmation struct {
	JKT string `json:"jkt"`
}

// audience is one string or several.
type audience []string

func (a *audience) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		*a = make(audience, 1)
		return json.Unmarshal(b, &(*a)[0])
	}
	return json.Unmarshal(b, (*[]string)(a))
}

// verify verifies a token that is not remembered.
func (t *Tokens) verify(token string, now time.Time) (*verified, error) {
	jws, kind, err := parse(token, jwks.Algorithms())
	if err != nil {
		return nil, err
	}
	var c claims
	if err := json.Unmarshal(jws.UnsafePayloadWithoutVerification(), &c); err != nil {
		return nil, fmt.Errorf("%w: its claims: %v", ErrProof, err)
	}
	if kind == AccessType && c.Issuer != "" && c.Issuer == t.set.Charter.Authority.Issuer {
		return t.access(token, now)
	}
	v, err := t.external(jws, kind, &c, now)
	if err == nil && slices.Contains(c.Audience, t.set.Charter.Authority.Issuer) {
		err = fmt.Errorf("%w: this token is for the authority's token endpoint; exchange it there", ErrProof)
	}
	return v, err
}

// signedPart names a token: the hex SHA-256 of its header and claims. An ECDSA signature has a second form that holds as well, so a
// name that covered it would not name one token.
func signedPart(token []byte) string {
	sum := sha256.Sum256(token[:bytes.LastIndexByte(token, '.')])
	return hex.EncodeToString(sum[:])
}

// Spelled reports whether the parts of a compact JWS have their one spelling: base64url without padding and without bits that mean
// nothing. In another one the same token would have another name.
func Spelled(token string) bool {
	for part := range strings.SplitSeq(token, ".") {
		if _, err := base64.RawURLEncoding.Strict().DecodeString(part); err != nil || strings.ContainsAny(part, "\r\n") {
			return false
		}
	}
	return true
}

// parse takes a compact JWS apart.
func parse(token string, algorithms []string) (jws *jose.JSONWebSignature, kind string, err error) {
	if !Spelled(token) {
		return nil, "", fmt.Errorf("%w: not a signed token", ErrProof)
	}
	permitted := make([]jose.SignatureAlgorithm, len(algorithms))
	for i, a := range algorithms {
		permitted[i] = jose.SignatureAlgorithm(a)
	}
	if jws, err = jose.ParseSignedCompact(token, permitted); err != nil {
		return nil, "", fmt.Errorf("%w: not a signed token: %v", ErrProof, err)
	}
	kind, _ = jws.Signatures[0].Protected.ExtraHeaders[jose.HeaderType].(string)
	return jws, kind, nil
}

// external verifies a token of an issuer of the charter.
func (t *Tokens) external(jws *jose.JSONWebSignature, kind string, c *claims, now time.Time) (*verified, error) {
	if !slices.Contains([]string{"", "JWT", "JOSE", AccessType}, kind) {
		return nil, fmt.Errorf("%w: a token of the type %.40q vouches for nobody", ErrProof, kind)
	}
	s := t.issuers[c.iss()]
	if s == nil {
		return nil, fmt.Errorf("%w: the charter has no issuer %.100q", ErrUnknown, c.iss())
	}
	header := jws.Signatures[0].Protected
	if !slices.Contains(s.Algorithms, header.Algorithm) {
		return nil, fmt.Errorf("%w: the charter does not have %.20q among the algorithms of %s", ErrSignature, header.Algorithm, s.ID)
	}
	keys := t.published(s, header.KeyID)
	if keys == nil {
		return nil, fmt.Errorf("%w: %s", ErrKeys, s.ID)
	}
	if !slices.ContainsFunc(keys.Find(header.KeyID, header.Algorithm), func(k jwks.Key) bool {
		_, err := jws.Verify(k.Public)
		return err == nil
	}) {
		return nil, fmt.Errorf("%w: no key of %s verifies it", ErrSignature, s.ID)
	}
	name, err := s.workload(c)
	if err != nil {
		return nil, err
	}
	v := &verified{by: []signature{{s, keys}}}
	if v.Identity, err = t.identity(name); err != nil {
		return nil, err
	}
	if v.notBefore, v.NotAfter, err = c.times(now); err != nil {
		return nil, err
	}
	if c.Confirmation != nil {
		if v.Bound = c.Confirmation.JKT; v.Bound == "" {
			return nil, fmt.Errorf("%w: in a way that cannot be proven here", ErrBound)
		}
	}
	v.Issuer, v.Token[1] = s.ID, c.ID
	return v, nil
}

// iss is the issuer that a token names. A JWT-SVID need not: then it is the trust domain of its subject.
func (c *claims) iss() string {
	if rest, ok := strings.CutPrefix(c.Subject, "spiffe://"); ok && c.Issuer == "" {
		domain, _, _ := strings.Cut(rest, "/")
		return "spiffe://" + domain
	}
	return c.Issuer
}

// workload finds the one workload that a token's audience and subject mean.
func (s *issuer) workload(c *claims) (name string, err error) {
	if rest, ok := strings.CutPrefix(s.Issuer.Issuer, "spiffe://"); ok && !strings.HasPrefix(c.Subject, "spiffe://"+rest+"/") {
		return "", fmt.Errorf("%w: the subject is outside the trust domain", ErrUnknown)
	}
	for _, a := range c.Audience {
		d := s.doors[a]
		if d == nil {
			continue
		}
		switch w := d.of(c.Subject); {
		case w != "" && name != "" && w != name:
			return "", fmt.Errorf("%w: it could be %s and %s", ErrProof, name, w)
		case w != "":
			name = w
		}
	}
	if name == "" {
		return "", fmt.Errorf("%w: no identity of the charter has this audience and the subject %.100q of %s", ErrUnknown, c.Subject, s.ID)
	}
	return name, nil
}

// identity begins the identity of a workload of the set.
func (t *Tokens) identity(name string) (Identity, error) {
	w, u, ok := t.set.Workload(name)
	if !ok {
		return Identity{}, fmt.Errorf("%w: the charter has no workload %.63q", ErrUnknown, name)
	}
	return Identity{Workload: w.ID, Unit: u.ID, Tenant: u.Tenant, Level: 1, Proof: Token}, nil
}

// times are when a token holds. Without an end it does not.
func (c *claims) times(now time.Time) (from, to time.Time, err error) {
	const most = 1 << 40
	for _, n := range []float64{c.Expiry, c.NotBefore, c.IssuedAt} {
		if n < 0 || n > most {
			return from, to, fmt.Errorf("%w: a time that cannot be", ErrProof)
		}
	}
	from, to = time.Unix(int64(max(c.NotBefore, c.IssuedAt)), 0), time.Unix(int64(c.Expiry), 0)
	if c.Expiry == 0 {
		return from, to, fmt.Errorf("%w: a token without exp", ErrProof)
	}
	if !now.Before(to.Add(skew)) || now.Before(from.Add(-skew)) {
		return from, to, ErrExpired
	}
	return from, to, nil
}
