package captured

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/go-jose/go-jose/v4"
	"golang.org/x/mod/sumdb/note"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/feed"
	"github.com/reevehq/reeve/internal/seal"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/workload"
)

const endpoint = "https://authority.example"

// vouched gives an estate an issuer besides the authority, and each workload one to three of whoever may vouch for it.
func vouched(cluster *estatetest.Issuer, pick func(int) int) []estatetest.Option {
	return []estatetest.Option{estatetest.Service("token", "a1"), estatetest.Edit(func(p *estate.Plan) {
		c := &p.Charter
		c.Authority.Issuer, c.Issuers = endpoint, append(c.Issuers, cluster.Charter("cluster", "https://cluster.example"))
		for i := range c.Workloads {
			all := []statement.Identity{{Issuer: "reeve"}, {Issuer: "authority"}, {Issuer: "cluster", Audience: endpoint, Subject: c.Workloads[i].ID}}
			switch i { // one that the authority alone may vouch for, one that only another may, and others by chance
			case 0:
				all = all[1+pick(2):]
			case 1:
				all = all[2:]
			default:
				all = all[pick(3):]
			}
			c.Workloads[i].Identities = all
		}
	})}
}

// An authority with all its keys in an attacker's hands, and the tokens that a workload once showed it: it vouches for whom the charter
// lets it, marked as its own word, and for who showed it a token, for as long as that holds; at no higher level.
func TestAuthority(t *testing.T) {
	cluster := estatetest.NewIssuer(t)
	asserted, exchanged, refused := 0, 0, 0
	n := 0
	each(t, func(t *testing.T, w *world) {
		open := func(b []byte) ([]byte, error) {
			r, err := age.Decrypt(bytes.NewReader(b), w.Identity)
			if err != nil {
				return nil, err
			}
			var out bytes.Buffer
			_, err = out.ReadFrom(r)
			return out.Bytes(), err
		}
		tokens, err := workload.NewTokens(w.Set, nil, open)
		if err != nil {
			t.Fatal(err)
		}
		v := &workload.Verifier{Keys: w.Workloads(), Tokens: tokens}
		var workloads []string
		for _, wl := range w.Set.Charter.Workloads {
			workloads = append(workloads, wl.ID)
		}
		sealed := func(token []byte) string {
			b, err := seal.Encrypt(token, w.Identity.Recipient().String())
			if err != nil {
				t.Fatal(err)
			}
			return base64.RawURLEncoding.EncodeToString(b)
		}
		claims := func(subject, audience string) map[string]any {
			return map[string]any{"iss": "https://cluster.example", "sub": subject, "aud": audience, "iat": w.Now.Unix(), "exp": w.Now.Add(5 * time.Minute).Unix(), "jti": "seen"}
		}
		for range *attacks {
			victim := w.pick(workloads...) // whose token was seen
			genuine := sealed(cluster.Sign(jose.ES256, claims(victim, endpoint), nil))
			by := w.pick("token a1", "token a1", "token a1", "feed a1", "log a1")
			key := w.Service[by]
			id, err := workload.AccessKeyID(w.Service[w.pick(by, by, "token a1")].Public().(ed25519.PublicKey))
			if err != nil {
				t.Fatal(err)
			}
			subject := w.pick(workloads...)
			a := workload.Access{Issuer: endpoint, Audience: workload.AccessAudience("demo"), Subject: subject, ClientID: subject, IssuedAt: w.Now.Unix(),
				Expiry: w.Now.Add([]time.Duration{time.Minute, 15 * time.Minute, 15 * time.Minute, time.Hour, -time.Minute}[w.rng.Intn(5)]).Unix(), ID: "at-1"}
			kind := w.rng.Intn(6)
			switch kind {
			case 0: // its own word
			case 1, 2:
				a.SubjectToken = genuine
			case 3: // made by itself
				a.SubjectToken = sealed(estatetest.SignToken(t, jose.EdDSA, jose.JSONWebKey{Key: key, KeyID: w.pick("EdDSA", id)}, claims(subject, endpoint), nil))
			case 4: // of an audience that is no token endpoint's
				a.SubjectToken = sealed(cluster.Sign(jose.ES256, claims(subject, "elsewhere"), nil))
			default: // a key's hash, which every record shows
				if a.Key = strings.Repeat("0", 64); len(w.KeyRecords) > 0 {
					a.Key = w.KeyRecords[w.rng.Intn(len(w.KeyRecords))].SHA256
				}
			}
			if w.rng.Intn(8) == 0 {
				a.Confirmation = &workload.Confirmation{JKT: strings.Repeat("A", 43)}
			}
			at := w.Now.Add([]time.Duration{0, 0, 0, 6 * time.Minute}[w.rng.Intn(4)])
			token := estatetest.SignToken(t, jose.EdDSA, jose.JSONWebKey{Key: key, KeyID: id}, a, map[jose.HeaderKey]any{"typ": "at+jwt"})
			who, err := v.Verify(workload.Proof{Kind: workload.Token, Value: token}, nil, at)
			if err != nil {
				refused++
				continue
			}
			record, _, _ := w.Set.Workload(subject)
			switch {
			case by != "token a1":
				t.Fatalf("seed %d: the key %s makes tokens", *seed, by)
			case who.Workload != subject || who.Level > 1 || a.Expiry-a.IssuedAt > workload.AccessLife || who.NotAfter.Unix() > a.Expiry:
				t.Fatalf("seed %d: %+v of %+v", *seed, who, a)
			case who.AuthorityAsserted && a.SubjectToken == "" && record.VouchedBy("authority") && (a.Key == "" || who.Level == 0):
				asserted++
			case !who.AuthorityAsserted && a.SubjectToken == genuine && subject == victim && record.VouchedBy("cluster") && !at.After(w.Now.Add(5*time.Minute+10*time.Second)):
				exchanged++
			default:
				t.Fatalf("seed %d: the authority vouches for %s by %+v: %+v", *seed, subject, a, who)
			}
		}
	}, vouched(cluster, func(of int) int { n++; return n % of })...)
	t.Logf("%d tokens held by the authority's word, %d by one that it was shown; %d were refused", asserted, exchanged, refused)
	if *estates**attacks >= 200 && (asserted < 2 || exchanged < 2 || refused < 50) {
		t.Error("too few attacks came through")
	}
}

// An authority and some auditors together, and an authority alone: a lock is published when as many witnesses as the charter asks for have
// cosigned the authority's own log. Fewer of them forge none, by any key, and those who stay away stop none while enough are left.
func TestAuditors(t *testing.T) {
	published, refused := 0, 0
	each(t, func(t *testing.T, w *world) {
		all := []string{"w1", "w2", "w3"}
		for range *attacks / 2 {
			set := *w.Set
			need := 1 + w.rng.Intn(len(all))
			set.Charter.Witnesses = statement.WitnessRule{Need: need}
			w.rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
			sign := slices.Clone(all[:w.rng.Intn(len(all)+1)])
			log := w.pick("a1", "a1", "c1", "g1")
			lock := set.LockHash
			other := w.rng.Intn(4) == 0
			if other {
				lock[w.rng.Intn(len(lock))] ^= 1
			}
			p := new(feed.Publication)
			p.Entry, p.Checkpoint = w.Published(t, log, lock, sign...)
			twice := len(sign) > 0 && w.rng.Intn(3) == 0
			if twice { // the same witness once more
				_, again := w.Published(t, log, lock, sign[0])
				_, lines, _ := bytes.Cut(again, []byte("\n\n"))
				p.Checkpoint = append(p.Checkpoint, lines[bytes.IndexByte(lines, '\n')+1:]...)
			}
			err := p.Check(&set, w.Now)
			if want := len(sign) >= need && log == "a1" && !other; (err == nil) != want && !(twice && err != nil) {
				t.Fatalf("seed %d: %d of %d witnesses cosigned the log of %s, another lock %v: %v", *seed, len(sign), need, log, other, err)
			}
			if err == nil {
				published++
			} else {
				refused++
			}
		}
		// A heartbeat, which says that nothing was withheld, is an authority's alone.
		for _, name := range []string{"feed a1", "log a1", "log c1", "witness w1", "witness w2"} {
			use, process, _ := strings.Cut(name, " ")
			key, err := note.NewSigner(estate.NoteSigner("reeve/demo/feed/a1", 1, w.Service[name]))
			if err != nil {
				t.Fatal(err)
			}
			h := feed.Heartbeat{Authority: w.pick("a1", process), Estate: "demo", Lock: 2, LockHash: hex.EncodeToString(w.Set.LockHash[:]), Number: 1, Time: w.Now}
			env, err := h.Sign(key)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := feed.OpenHeartbeat(env, w.Set.ServiceKeys("feed", w.Now)); (err == nil) != (use == "feed") {
				t.Fatalf("seed %d: a heartbeat by the key %s: %v", *seed, name, err)
			}
		}
	}, estatetest.Service("witness", "w2"), estatetest.Service("witness", "w3"))
	t.Logf("%d locks were published, %d were not", published, refused)
	if *estates**attacks >= 200 && (published < 5 || refused < 20) {
		t.Error("too few attacks came through")
	}
}
