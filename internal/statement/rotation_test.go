package statement_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/statement"
)

// The procedures in docs/procedures/service-keys.md: a key is added while the old one still holds, the process changes over, and the
// old one is taken out. At every moment what the process signs is believed, and afterwards what the old key signs is not.
func TestServiceKeyRotation(t *testing.T) {
	for _, c := range []struct{ use, process string }{{"feed", "a1"}, {"token", "a1"}, {"witness", "w1"}, {"log", "g1"}, {"log", "c1"}} {
		t.Run(c.use+" of "+c.process, func(t *testing.T) {
			now := time.Now().UTC().Truncate(time.Second)
			public, private, err := ed25519.GenerateKey(rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			e := estatetest.New(t, estatetest.At(now), estatetest.Edit(func(p *estate.Plan) {
				if c.use == "token" {
					p.Charter.ServiceKeys = append(p.Charter.ServiceKeys, serviceKey(t, "token", "a1", "reeve/demo/token/a1", 1, now.Add(-time.Hour), now.Add(time.Hour)))
				}
			}))
			old := e.Set.ServiceKeys(c.use, now)
			i := slices.IndexFunc(old, func(k statement.ServiceKey) bool { return k.Process == c.process })
			alg, name := byte(1), strings.Split(old[i].Key, "+")[0]
			if c.use == "witness" {
				alg = 4
			}
			if c.use == "log" {
				name += "/1" // the log that follows
			}
			next := statement.ServiceKey{Use: c.use, Process: c.process, Key: estate.NoteKey(name, alg, public), NotBefore: now, NotAfter: now.Add(24 * time.Hour)}
			keys := func() (list []string) {
				for _, k := range e.Set.ServiceKeys(c.use, now) {
					if k.Process == c.process {
						list = append(list, k.Key)
					}
				}
				return list
			}

			// 1. The root quorum adds the key: both hold.
			e.Republish(t, func(p *estate.Plan) { p.Charter.ServiceKeys = append(p.Charter.ServiceKeys, next) }, "charter")
			if got := keys(); !slices.Equal(got, []string{old[i].Key, next.Key}) {
				t.Fatalf("during the overlap: %v", got)
			}
			if c.use == "feed" {
				sig := ed25519.Sign(private, statement.PAE("x", []byte("y")))
				if !statement.VerifyService(next, "x", []byte("y"), sig) || statement.VerifyService(old[i], "x", []byte("y"), sig) {
					t.Error("a signature of the new key is not the new key's")
				}
			}
			// 2. A custodian's log: custody says which one is its own now. Its credentials' owners sign that.
			if c.process == "c1" {
				e.Republish(t, func(p *estate.Plan) {
					for _, cu := range p.Custody {
						cu.Custodians[0].Log = next.Key
					}
				}, "custody-research", "custody-support")
			}
			// 3. The root quorum takes the old key out. What is signed with it from now on is not believed.
			e.Republish(t, func(p *estate.Plan) {
				p.Charter.ServiceKeys = slices.DeleteFunc(p.Charter.ServiceKeys, func(k statement.ServiceKey) bool { return k.Key == old[i].Key })
			}, "charter")
			if got := keys(); !slices.Equal(got, []string{next.Key}) {
				t.Fatalf("after it: %v", got)
			}
		})
	}
	t.Run("too soon", func(t *testing.T) {
		e := estatetest.New(t)
		_, err := estatetest.Try(t, estatetest.Edit(func(p *estate.Plan) {
			p.Charter.ServiceKeys = slices.DeleteFunc(p.Charter.ServiceKeys, func(k statement.ServiceKey) bool { return k.Use == "log" && k.Process == "c1" })
		}))
		refused(t, err, "reference", "custody-research/1/custody.yaml") // the log key goes before custody names another
		if got := e.Set.ServiceKeys("feed", e.Now.Add(400*24*time.Hour)); len(got) != 0 {
			t.Errorf("a key holds after its end: %v", got)
		}
	})
}

func serviceKey(t *testing.T, use, process, name string, alg byte, from, to time.Time) statement.ServiceKey {
	t.Helper()
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return statement.ServiceKey{Use: use, Process: process, Key: estate.NoteKey(name, alg, public), NotBefore: from, NotAfter: to}
}

// The procedure in docs/procedures/custodian-identity.md: custody names the new recipient, signed by the owners of all that the
// custodian serves, and each secret is handed over again.
func TestCustodianIdentityRotation(t *testing.T) {
	e := estatetest.New(t)
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	e.Republish(t, func(p *estate.Plan) {
		for _, cu := range p.Custody {
			cu.Custodians[0].Recipient = id.Recipient().String()
		}
	}, "custody-research", "custody-support")
	for _, u := range []string{"research", "support"} {
		if got := e.Set.Custody[u].Custodians[0].Recipient; got != id.Recipient().String() {
			t.Fatalf("the recipient is %s", got)
		}
	}
	h := statement.Handover{Estate: "demo", Credential: "research-openai", Version: 2, Custodian: "c1", SHA256: hash([]byte("sealed anew")), Created: e.Now}
	env, err := estate.Seal("handover", h, e.Cora)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Set.OpenHandover(env, "c1", e.Now); err != nil {
		t.Fatal(err)
	}
}
