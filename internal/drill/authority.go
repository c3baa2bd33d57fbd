package drill

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/reevehq/reeve/internal/admin"
	"github.com/reevehq/reeve/internal/authority/store"
	"github.com/reevehq/reeve/internal/demo"
	"github.com/reevehq/reeve/internal/drill/loot"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/feed"
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

// s5 is the authority taken over, and its database and keys stolen.
func (f *field) s5(ctx context.Context, r *Report, d *doubled) error {
	f.say("S5: an attacker in the authority's process, with its database and its keys.")
	for _, step := range []func(context.Context, *Report, *doubled) error{f.searchAuthority, f.stolenDatabases, f.forgedNews, f.forgedTokens, f.withheld} {
		if err := step(ctx, r, d); err != nil {
			return err
		}
	}
	return f.wire(ctx, Wire{})
}

func (f *field) insideAuthority() string { return f.dir.Join(host.Authority, capturedSocket) }

func (f *field) wire(ctx context.Context, w Wire) error {
	_, err := order(ctx, f.insideAuthority(), Order{Wire: &w})
	return err
}

// searchAuthority is code execution as the authority.
func (f *field) searchAuthority(ctx context.Context, r *Report, d *doubled) error {
	t := f.target(0)
	t.PIDs = []int{0, f.pids[host.Custodian], f.pids[host.Gateway], f.pids[host.Auditor]}
	t.Dirs = append(t.Dirs, f.dir.Join(host.Authority), f.dir.Join("estate"))
	got, err := order(ctx, f.insideAuthority(), Order{Search: t})
	if err != nil {
		return err
	}
	if got.Survey.Read["memory"] == 0 {
		return fmt.Errorf("the attacker in the authority could not read its own memory: nothing can be said of it")
	}
	twin, err := order(ctx, d.inside, Order{Search: &loot.Target{PIDs: []int{0}, Dirs: []string{d.dir}, Needles: f.needles}})
	if err != nil {
		return err
	}
	for _, place := range places() {
		s := f.judge(r, "in the authority", place, got.Survey, twin.Survey)
		s.ID = "S5"
		r.add(s)
	}
	return nil
}

// stolenDatabases goes through what the authority and the gateway keep.
func (f *field) stolenDatabases(_ context.Context, r *Report, d *doubled) error {
	db, err := store.Copy(f.dir.Join(host.Authority, "authority.db"))
	if err != nil {
		return err
	}
	s := Line{ID: "S5", Place: "the databases of authority and gateway", Reeve: len(loot.Find(f.needles, db))}
	n, size := 1, len(db)
	for _, dir := range []string{f.dir.Join(host.Authority), f.dir.Join(host.Gateway)} {
		err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() {
				return err
			}
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			n, size = n+1, size+len(b)
			s.Reeve += len(loot.Find(f.needles, b))
			return nil
		})
		if err != nil {
			return err
		}
	}
	config, err := os.ReadFile(d.config)
	if err != nil {
		return err
	}
	s.Double = len(loot.Find(f.needles, config))
	s.Detail = fmt.Sprintf("%d files of %d bytes", n, size)
	r.add(s)
	return nil
}

// forgedNews is a wider policy and a key of the attacker's, sent with genuine heartbeats.
func (f *field) forgedNews(ctx context.Context, r *Report, _ *doubled) error {
	set, err := f.widerSet()
	if err != nil {
		return err
	}
	mallory, err := estate.NewSigner("ada")
	if err != nil {
		return err
	}
	key, env, err := estate.NewKey(demo.ID, "research-agent", time.Now().Add(-time.Minute), time.Hour, mallory)
	if err != nil {
		return err
	}
	record, err := statement.Canonical(env)
	if err != nil {
		return err
	}
	before, err := f.admin().Status(ctx)
	if err != nil {
		return err
	}
	if err := f.wire(ctx, Wire{Inject: [][]byte{(&feed.Frame{Set: set}).Encode(), (&feed.Frame{Record: record}).Encode()}}); err != nil {
		return err
	}
	after, err := f.fresh(ctx)
	if err != nil {
		return err
	}
	s := Line{ID: "S5", Place: "a forged set", Detail: "refused: lock version " + fmt.Sprint(after.Lock) + " stays in force"}
	if after.LockHash != before.LockHash {
		s.Reeve, s.Detail = 1, "in force"
	}
	r.add(s)
	s = Line{ID: "S5", Place: "a forged workload key", Detail: "refused"}
	own, forged := f.clients[0], f.clients[0]
	if forged.key = string(key.Reveal()); forged.call(ctx, forged.credentials[0]) == nil {
		s.Reeve, s.Detail = 1, "WENT THROUGH"
	}
	if err := own.call(ctx, own.credentials[0]); err != nil {
		return fmt.Errorf("nothing goes through any more, so the refusals prove nothing: %w", err)
	}
	r.add(s)
	return f.wire(ctx, Wire{})
}

// widerSet is the set in force with another policy and the next lock version. Nobody signed either.
func (f *field) widerSet() (feed.Files, error) {
	trace := &feed.Trace{From: estate.Dir(f.dir.Join("estate")).Store(), Read: feed.Files{}}
	set, err := statement.Load(trace, f.dir.Pin(), nil, time.Now())
	if err != nil {
		return nil, err
	}
	files, n := maps.Clone(trace.Read), set.Lock.Version
	for name, b := range trace.Read {
		switch {
		case strings.HasSuffix(name, ".cedar"):
			files[name] = append(slices.Clone(b), "\n@id(\"all\")\npermit (principal, action, resource);\n"...)
		case strings.HasPrefix(name, fmt.Sprintf("lock/%d/", n)):
			next := bytes.Replace(b, fmt.Appendf(nil, `"version":%d`, n), fmt.Appendf(nil, `"version":%d`, n+1), 1)
			files[strings.Replace(name, fmt.Sprint(n), fmt.Sprint(n+1), 1)] = next
		}
	}
	return files, nil
}

// fresh waits for news that is younger than the order before it.
func (f *field) fresh(ctx context.Context) (*admin.Status, error) {
	begun := time.Now()
	for {
		s, err := f.admin().Status(ctx)
		if err != nil {
			return nil, err
		}
		if age := time.Duration(s.FeedAgeMS) * time.Millisecond; s.FeedAgeMS >= 0 && time.Since(begun) > age+time.Second {
			return s, nil
		}
		if time.Since(begun) > 30*time.Second {
			return nil, fmt.Errorf("the custodian hears no heartbeats: %s", s.FeedError)
		}
		time.Sleep(20 * time.Millisecond)
	}
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

// withheld is a revocation that the authority keeps to itself, with heartbeats that do not name it. It arrives by the custodian's
// admin socket.
func (f *field) withheld(ctx context.Context, r *Report, _ *doubled) error {
	c, err := f.keyed(ctx, time.Hour)
	if err != nil {
		return err
	}
	if err := f.wire(ctx, Wire{Withhold: true}); err != nil {
		return err
	}
	revocation, name, err := f.revocation(keyTarget(c))
	if err != nil {
		return err
	}
	if err := f.publish(name, revocation); err != nil {
		return err
	}
	if _, err := f.fresh(ctx); err != nil {
		return err
	}
	if c.call(ctx, c.credentials[0]) != nil {
		return fmt.Errorf("the revocation was not withheld: the drill cannot show that it arrives by another way")
	}
	record, err := statement.Canonical(revocation)
	if err != nil {
		return err
	}
	begun := time.Now()
	if _, err := f.admin().Accept(ctx, record); err != nil {
		return fmt.Errorf("giving the custodian a revocation that is withheld: %w", err)
	}
	s := Line{ID: "S5", Place: "a withheld revocation", Detail: fmt.Sprintf("the custodian refused %s after it came by another channel", time.Since(begun).Round(time.Millisecond))}
	if c.call(ctx, c.credentials[0]) == nil {
		s.Reeve, s.Detail = 1, "used all the same"
	}
	r.add(s)
	return nil
}
