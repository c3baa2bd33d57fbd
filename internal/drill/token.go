package drill

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/reevehq/reeve/internal/demo"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/seal"
	"github.com/reevehq/reeve/internal/secret"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/workload"
)

// The issuer outside reeve that vouches for research-agent, and whom it calls that.
const (
	outside      = "https://issuer.example"
	outsideAgent = "acme:research:agent"
)

// vouch has the drill's own issuer vouch for one workload.
func (f *field) vouch(p *estate.Plan) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic("drill: no random bytes: " + err.Error())
	}
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k"}}})
	if err != nil { // a public key always encodes
		panic("drill: encoding a key: " + err.Error())
	}
	f.issuer = key
	p.Charter.Issuers = append(p.Charter.Issuers, statement.Issuer{ID: "outside", Issuer: outside, JWKS: string(set), Algorithms: []string{"EdDSA"}})
	for i := range p.Charter.Workloads {
		if w := &p.Charter.Workloads[i]; w.ID == "research-agent" {
			w.Identities = append(w.Identities, statement.Identity{Issuer: "outside", Audience: p.Charter.Authority.Issuer, Subject: outsideAgent})
		}
	}
}

// sign makes a JWT.
func sign(key ed25519.PrivateKey, kid, kind string, claims any) (string, error) {
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	o := (&jose.SignerOptions{}).WithHeader("kid", kid).WithType(jose.ContentType(kind))
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: key}, o)
	if err != nil {
		return "", err
	}
	jws, err := s.Sign(payload)
	if err != nil {
		return "", err
	}
	return jws.CompactSerialize()
}

// vouched is a token for research-agent, by whoever has the key.
func vouched(key ed25519.PrivateKey, endpoint string) (string, error) {
	return bound(key, endpoint, nil)
}

// bound is the same, bound to a key where cnf names one.
func bound(key ed25519.PrivateKey, endpoint string, cnf *workload.Confirmation) (string, error) {
	now := time.Now()
	claims := map[string]any{"iss": outside, "sub": outsideAgent, "aud": endpoint, "iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(), "jti": rand.Text()}
	if cnf != nil {
		claims["cnf"] = cnf
	}
	return sign(key, "k", "JWT", claims)
}

// forgedTokens are access tokens that the attacker signs with the authority's key for a workload that another issuer vouches for,
// and the exchange of one that a gateway has seen.
func (f *field) forgedTokens(ctx context.Context, r *Report, _ *doubled) error {
	set, endpoint, err := f.tokenSet()
	if err != nil {
		return err
	}
	genuine, err := vouched(f.issuer, endpoint)
	if err != nil {
		return err
	}
	exchange := func(token, kind string) (string, int, error) {
		resp, err := http.PostForm(endpoint+"/v1/token", url.Values{
			"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "subject_token": {token}, "subject_token_type": {"urn:ietf:params:oauth:token-type:" + kind},
		})
		if err != nil {
			return "", 0, err
		}
		defer resp.Body.Close()
		var got struct {
			Token string `json:"access_token"`
		}
		b, err := io.ReadAll(resp.Body)
		if err == nil {
			err = json.Unmarshal(b, &got)
		}
		return got.Token, resp.StatusCode, err
	}
	access, status, err := exchange(genuine, "jwt")
	if err != nil || status != http.StatusOK {
		return fmt.Errorf("the token endpoint answered %d to a genuine token: %w", status, err)
	}
	c := f.clients[0]
	if c.key = access; c.call(ctx, c.credentials[0]) != nil {
		return fmt.Errorf("a genuine access token does not work, so that forged ones do not either proves nothing: %w", c.call(ctx, c.credentials[0]))
	}
	forged, err := f.forge(set, endpoint)
	if err != nil {
		return err
	}
	s := Line{ID: "S5", Place: "tokens forged with the authority's key"}
	for name, token := range forged {
		if c.key = token; c.call(ctx, c.credentials[0]) == nil {
			s.Reeve++
			s.Detail += name + " WENT THROUGH; "
		}
	}
	s.Detail += fmt.Sprintf("%d tried for a workload of another issuer; a genuine one went through", len(forged))
	r.add(s)
	if err := f.genuineSubjects(ctx, r, set, endpoint, genuine); err != nil {
		return err
	}
	return f.seenTokens(ctx, r, endpoint, access)
}

// genuineSubjects are access tokens that the attacker signs around subject tokens that workloads showed to the authority. Around one
// that is bound to a key none may work. Around one that is bound to none they do work, until it expires: that is said, and is no hit.
func (f *field) genuineSubjects(ctx context.Context, r *Report, set *statement.Set, endpoint, free string) error {
	sign, err := f.forger(endpoint)
	if err != nil {
		return err
	}
	theirs := &workload.Confirmation{JKT: "a-key-that-the-attacker-has-not"}
	held, err := bound(f.issuer, endpoint, theirs)
	if err != nil {
		return err
	}
	actor := &workload.Actor{Subject: "support-agent"}
	c := f.clients[0]
	tries := func(subject string, changes ...func(*workload.Access)) (n int, err error) {
		sealed, err := seal.Encrypt([]byte(subject), set.Custody["research"].Custodians[0].Recipient)
		if err != nil {
			return 0, err
		}
		for _, change := range changes {
			if c.key, err = sign(func(a *workload.Access) {
				a.SubjectToken = base64.RawURLEncoding.EncodeToString(sealed)
				change(a)
			}); err != nil {
				return 0, err
			}
			if c.call(ctx, c.credentials[0]) == nil {
				n++
			}
		}
		return n, nil
	}
	n, err := tries(held, func(*workload.Access) {}, func(a *workload.Access) { a.Confirmation = theirs }, func(a *workload.Access) { a.Actor = actor })
	if err != nil {
		return err
	}
	r.add(Line{ID: "S5", Place: "a genuine bound subject token, in forged tokens", Reeve: n, Detail: fmt.Sprintf("3 tried without the key, %d went through", n)})
	n, err = tries(free, func(*workload.Access) {}, func(a *workload.Access) { a.Actor = actor })
	if err != nil {
		return err
	}
	r.add(Line{ID: "S5", Place: "a genuine unbound subject token, in forged tokens",
		Detail: fmt.Sprintf("%d of 2 went through: a captured authority can be whoever shows it a bearer, at level 1, until that expires; bind it (cnf), or have policy ask for level 2", n)})
	return nil
}

// seenTokens is the exchange of whatever a workload showed to the gateway, by an attacker in it: the token endpoint takes none of it.
func (f *field) seenTokens(ctx context.Context, r *Report, endpoint, access string) error {
	w2, err := f.signing()
	if err != nil {
		return err
	}
	const exchange, kind = "urn:ietf:params:oauth:grant-type:token-exchange", "urn:ietf:params:oauth:token-type:"
	subject := func(token, of string) url.Values {
		return url.Values{"grant_type": {exchange}, "subject_token": {token}, "subject_token_type": {of}}
	}
	key := f.clients[0].key
	actor := subject(key, "urn:reeve:params:oauth:token-type:workload-key")
	actor.Set("actor_token", access)
	actor.Set("actor_token_type", kind+"access_token")
	s := Line{ID: "S5", Place: "exchange of what a gateway saw"}
	refused := map[string]int{}
	forms := map[string]url.Values{
		"an access token":                     subject(access, kind+"access_token"),
		"an access token as a JWT":            subject(access, kind+"jwt"),
		"an access token as an assertion":     {"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "assertion": {access}},
		"an access token as an actor":         actor,
		"a W0 key":                            subject(key, "urn:reeve:params:oauth:token-type:workload-key"),
		"a bound token":                       subject(w2.token, kind+"jwt"),
		"a bound token as a client assertion": {"grant_type": {"client_credentials"}, "client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}, "client_assertion": {w2.token}},
	}
	for name, form := range forms {
		for _, socket := range []string{f.inside(), f.beside()} {
			got, err := order(ctx, socket, Order{Post: &Post{URL: endpoint + "/v1/token", Form: form}})
			if err != nil {
				return fmt.Errorf("exchanging %s: %w", name, err)
			}
			if refused[got.Answer.Refused]++; got.Answer.Status < 400 || got.Answer.Status >= 500 {
				s.Reeve++
				s.Detail += fmt.Sprintf("%s was answered %d; ", name, got.Answer.Status)
			}
		}
	}
	s.Detail += fmt.Sprintf("%d tried, refused as %s", 2*len(forms), counts(refused))
	r.add(s)
	return nil
}

// tokenSet is the set in force and the token endpoint that it names.
func (f *field) tokenSet() (*statement.Set, string, error) {
	set, err := statement.Load(estate.Dir(f.dir.Join("estate")).Store(), f.dir.Pin(), nil, time.Now())
	if err != nil {
		return nil, "", err
	}
	return set, set.Charter.Authority.Issuer, nil
}

// forger takes the authority's token key, and signs tokens for research-agent with it, changed.
func (f *field) forger(endpoint string) (func(change func(*workload.Access)) (string, error), error) {
	text, err := secret.ReadFile(f.dir.Join(host.Authority, "token.key"))
	if err != nil {
		return nil, err
	}
	parts := strings.SplitN(string(text.Reveal()), "+", 5)
	raw, err := base64.StdEncoding.DecodeString(parts[4])
	if err != nil {
		return nil, fmt.Errorf("taking the token key: %w", err)
	}
	key := ed25519.NewKeyFromSeed(raw[1:])
	kid, err := workload.AccessKeyID(key.Public().(ed25519.PublicKey))
	if err != nil {
		return nil, err
	}
	return func(change func(*workload.Access)) (string, error) {
		now := time.Now().Unix()
		a := workload.Access{Issuer: endpoint, Audience: workload.AccessAudience(demo.ID), Subject: "research-agent", ClientID: "research-agent", Expiry: now + 600, IssuedAt: now, ID: rand.Text()}
		change(&a)
		return sign(key, kid, workload.AccessType, a)
	}, nil
}

// forge makes what whoever has the token key can: signatures that hold over claims that do not.
func (f *field) forge(set *statement.Set, endpoint string) (map[string]string, error) {
	sign, err := f.forger(endpoint)
	if err != nil {
		return nil, err
	}
	_, mallory, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	invented, err := vouched(mallory, endpoint)
	if err != nil {
		return nil, err
	}
	sealed, err := seal.Encrypt([]byte(invented), set.Custody["research"].Custodians[0].Recipient)
	if err != nil {
		return nil, err
	}
	all := map[string]string{}
	for name, change := range map[string]func(*workload.Access){
		"the authority's word alone": func(*workload.Access) {},
		"an invented subject token":  func(a *workload.Access) { a.SubjectToken = base64.RawURLEncoding.EncodeToString(sealed) },
		"an invented W0 key":         func(a *workload.Access) { a.Key = strings.Repeat("0a", 32) },
		"a subject token in clear":   func(a *workload.Access) { a.SubjectToken = invented },
		"an actor":                   func(a *workload.Access) { a.Actor = &workload.Actor{Subject: "support-agent"} },
	} {
		if all[name], err = sign(change); err != nil {
			return nil, err
		}
	}
	return all, nil
}
