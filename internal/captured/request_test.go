package captured

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/pop"
	"github.com/reevehq/reeve/internal/replay"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/workload"
)

// A gateway that has requests which workloads signed, and alters them, mixes them, routes them elsewhere and shows them again: what is
// taken is what the workload signed, once, at the custodian whose nonce it signed.
func TestSignedRequests(t *testing.T) {
	cluster := estatetest.NewIssuer(t)
	taken, refused := 0, 0
	each(t, func(t *testing.T, w *world) {
		tokens, err := workload.NewTokens(w.Set, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		v := &workload.Verifier{Keys: w.Workloads(), Tokens: tokens}
		here, elsewhere := replay.New(1<<12), replay.New(1<<12)
		type request struct {
			pop.Request
			pop.Terms
			field http.Header
			token []byte
			by    string
		}
		var seen []*request
		for _, id := range []string{"research-agent", "support-agent"} {
			_, key, err := ed25519.GenerateKey(rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			signer, err := pop.NewSigner(key)
			if err != nil {
				t.Fatal(err)
			}
			token := cluster.Sign(jose.ES256, map[string]any{"iss": "https://cluster.example", "sub": id, "aud": "reeve", "iat": w.Now.Unix(), "exp": w.Now.Add(time.Hour).Unix(),
				"cnf": map[string]string{"jkt": signer.KeyID()}}, nil)
			for range 3 {
				r := &request{by: id, token: token, field: http.Header{"Authorization": {"Bearer " + string(token)}, "Content-Type": {"application/json"}, "Anthropic-Beta": {"one"}, "User-Agent": {"sdk/1"}}}
				r.Terms = pop.Terms{Credential: w.pick("research-openai", "support-openai", "fast"), Audience: w.pick("c1", "c2"), Nonce: here.Nonce(w.Now)}
				if w.rng.Intn(2) == 0 {
					r.Fallbacks = []string{"research-anthropic"}
				}
				r.Request = pop.Request{Method: w.pick("POST", "GET"), URL: "http://127.0.0.1:7800/v1/" + w.pick("models", "chat/completions"), Header: r.field.Values, Body: []byte(w.pick("", `{"model":"demo-small"}`))}
				if err := signer.Sign(&r.Request, r.Terms, []string{"Anthropic-Beta"}, w.Now, r.field.Set); err != nil {
					t.Fatal(err)
				}
				seen = append(seen, r)
			}
		}
		spent := map[string]bool{}
		for range *attacks * 4 {
			of, other := seen[w.rng.Intn(len(seen))], seen[w.rng.Intn(len(seen))]
			r, field, token, at := of.Request, of.field.Clone(), of.token, w.Now
			for range w.rng.Intn(3) {
				switch w.rng.Intn(9) {
				case 0:
					r.Method = w.pick("DELETE", "PUT", other.Method)
				case 1:
					r.URL = w.pick("http://127.0.0.1:7801/v1/models", r.URL+"?all=1", other.URL)
				case 2:
					r.Body = []byte(w.pick("", `{"model":"demo-large"}`, string(other.Body)))
					if w.rng.Intn(2) == 0 {
						field.Set(pop.FieldDigest, pop.Digest(r.Body))
					}
				case 3: // a field of another's, or of its own
					names := slices.Sorted(maps.Keys(other.field))
					name := w.pick(names...)
					field[name] = other.field[name]
				case 4:
					field.Set(w.pick(pop.FieldCredential, pop.FieldAudience, pop.FieldNonce, pop.FieldFallbacks), w.pick("support-anthropic", "c1", "c2", elsewhere.Nonce(w.Now), here.Nonce(w.Now.Add(time.Minute))))
				case 5:
					field.Del(w.pick(slices.Sorted(maps.Keys(field))...))
				case 6: // a header more, which nobody signed
					field.Set("X-More", "1")
				case 7:
					token = other.token
					field.Set("Authorization", "Bearer "+string(token))
				default:
					at = w.Now.Add([]time.Duration{-time.Minute, 30 * time.Second, 2 * time.Minute}[w.rng.Intn(3)])
				}
			}
			r.Header = field.Values
			who, err := v.Verify(workload.Proof{Kind: workload.Pop, Value: token}, &r, at)
			if err != nil {
				refused++
				continue
			}
			match := func(q *request) bool {
				same := who.Workload == q.by && r.Method == q.Method && r.URL == q.URL && string(r.Body) == string(q.Body) && cmp.Equal(who.Pop.Terms, q.Terms)
				for name := range field {
					if who.Pop.Covers(name) && !slices.Equal(field[name], q.field[name]) {
						same = false
					}
				}
				return same && who.Pop.Covers("Anthropic-Beta") && !who.Pop.Covers("X-More")
			}
			if !slices.ContainsFunc(seen, match) || who.Level != 2 {
				t.Fatalf("seed %d: taken as %s's, who did not sign it: %s %s %q %v %+v", *seed, who.Workload, r.Method, r.URL, r.Body, field, who.Pop.Terms)
			}
			if elsewhere.Fresh(who.Pop.Terms.Nonce, at) || !here.Fresh(who.Pop.Terms.Nonce, at) {
				t.Fatalf("seed %d: another custodian takes it", *seed)
			}
			name := who.Pop.KeyID + " " + who.Pop.ClientNonce
			if err := here.Spend(who.Pop.KeyID, who.Pop.ClientNonce, at); spent[name] && !errors.Is(err, replay.ErrReplayed) || !spent[name] && err != nil {
				t.Fatalf("seed %d: seen before %v: %v", *seed, spent[name], err)
			}
			spent[name] = true
			taken++
		}
	}, estatetest.Edit(func(p *estate.Plan) {
		p.Charter.Issuers = append(p.Charter.Issuers, cluster.Charter("cluster", "https://cluster.example"))
		for i := range p.Charter.Workloads {
			c := &p.Charter.Workloads[i]
			c.Identities = append(c.Identities, statement.Identity{Issuer: "cluster", Audience: "reeve", Subject: c.ID})
		}
	}))
	t.Logf("%d requests were taken, %d refused", taken, refused)
	if *estates**attacks >= 200 && (taken < 50 || refused < 50) {
		t.Error("too few requests came through, or too many")
	}
}

// An identity provider's signal key signs whatever it likes: it closes what the charter lets it close by the events that it names there,
// each event once, and opens, vouches for and records nothing.
func TestSignals(t *testing.T) {
	const caep, risc = "https://schemas.openid.net/secevent/caep/event-type/", "https://schemas.openid.net/secevent/risc/event-type/"
	idp, mallory := estatetest.NewIssuer(t), estatetest.NewIssuer(t)
	allowed := []string{"session-revoked", "account-disabled"}
	subjects := map[string]statement.Target{"u-1": {Kind: "person", ID: "ada"}, "u-2": {Kind: "workload", ID: "research-agent"}, "u-3": {Kind: "agent", ID: "planner"}}
	closed, refused := 0, 0
	each(t, func(t *testing.T, w *world) {
		tokens, err := workload.NewTokens(w.Set, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		for range *attacks {
			by := idp
			if w.rng.Intn(5) == 0 {
				by = mallory
			}
			alg := []jose.SignatureAlgorithm{jose.ES256, jose.ES256, jose.ES256, jose.RS256}[w.rng.Intn(4)]
			subject := w.pick("u-1", "u-2", "u-3", "u-4", "everything", "research-openai", "ada")
			event := w.pick(caep+"session-revoked", risc+"account-disabled", caep+"credential-change", risc+"account-enabled", "https://elsewhere.example/session-revoked")
			claims := map[string]any{"iss": w.pick("https://idp.example", "https://idp.example", "https://idp.example", "https://other.example"), "aud": "https://reeve.example", "jti": w.pick("j-1", "j-2"), "iat": w.Now.Unix(),
				"sub": "research-agent", "exp": w.Now.Add(time.Hour).Unix(),
				"sub_id": map[string]any{"format": "opaque", "id": subject},
				"events": map[string]any{event: map[string]any{"subject": map[string]any{"format": "opaque", "id": w.pick("u-1", "u-4")}, "open": true}}}
			typ := w.pick("secevent+jwt", "secevent+jwt", "secevent+jwt", "at+jwt")
			token := by.Sign(alg, claims, map[jose.HeaderKey]any{"typ": typ})
			if who, err := tokens.Verify(token, w.Now); err == nil {
				t.Fatalf("seed %d: a signal vouches for %s", *seed, who.Workload)
			}
			r := statement.SignalRecord{Estate: "demo", Signal: w.pick("idp", "idp", "idp", "other"), Token: string(token)}
			env, err := estate.Seal("signal", r)
			if err != nil {
				t.Fatal(err)
			}
			if err := estate.Take(w.Set, env, w.Now); err == nil {
				t.Fatalf("seed %d: a signal is a person's record", *seed)
			}
			got, err := w.Set.OpenSignal(env, w.Now)
			if err != nil {
				w.rule(t, err)
				refused++
				continue
			}
			if by != idp || alg != jose.ES256 || r.Signal != "idp" || claims["iss"] != "https://idp.example" || typ == "at+jwt" {
				t.Fatalf("seed %d: %s by %s of %s is taken", *seed, typ, alg, claims["iss"])
			}
			_, name, _ := strings.Cut(event, "event-type/")
			var want []statement.Target
			if target, ok := subjects[subject]; ok && slices.Contains(allowed, name) {
				want = []statement.Target{target}
			}
			if !slices.Equal(got.Targets, want) || got.Once != "set https://idp.example "+claims["jti"].(string) {
				t.Fatalf("seed %d: %s about %s closes %v, not %v", *seed, event, subject, got.Targets, want)
			}
			closed += len(want)
		}
	}, estatetest.Edit(func(p *estate.Plan) {
		s := statement.Signal{ID: "idp", Issuer: "https://idp.example", Audience: "https://reeve.example", JWKS: idp.JWKS(), Algorithms: []string{"ES256"}, Events: allowed}
		for _, id := range slices.Sorted(maps.Keys(subjects)) {
			s.Subjects = append(s.Subjects, statement.SignalSubject{Subject: id, Kind: subjects[id].Kind, ID: subjects[id].ID})
		}
		p.Charter.Signals = []statement.Signal{s}
	}))
	t.Logf("%d were closed, %d signals refused", closed, refused)
	if *estates**attacks >= 200 && (closed < 5 || refused < 20) {
		t.Error("too few signals came through")
	}
}
