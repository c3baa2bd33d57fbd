package statement_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/statement"
)

// sshHand signs as ssh-keygen does, with a security key that was touched and has asked for a PIN.
type sshHand struct {
	t    *testing.T
	pair *sshPair
}

func (h sshHand) Sign(m *estate.Message) (statement.Signature, error) {
	return statement.Signature{Sig: sshBlob{key: h.pair, pae: statement.PAE(m.PayloadType, m.Payload), flags: 5, counter: 3}.sign(h.t)}, nil
}

// An estate whose people sign with a security key, a passkey and a key file is accepted, and says how each signed.
func TestMixedKeys(t *testing.T) {
	pair, passkey := sshKey(t, skEd25519, "ssh:"), estatetest.NewPasskey(t, false)
	ada := &estate.Signer{Person: "ada", Keys: []statement.Key{*pair.key(true)}, Hand: sshHand{t, pair}}
	bea := passkey.Signer(t, "bea", nil)
	e := estatetest.New(t, estatetest.Person(ada), estatetest.Person(bea))
	sk := statement.Approval{Person: "ada", KeyID: "ada-1", Type: "ssh", Authenticator: "security-key", UserPresent: true, UserVerified: true, AAL: 2, Counter: 3}
	pk := statement.Approval{Person: "bea", KeyID: "bea-1", Type: "webauthn", Authenticator: "passkey", UserPresent: true, UserVerified: true, AAL: 2, Counter: 7}
	file := statement.Approval{Person: "cora", KeyID: "cora-1", Type: "ed25519", Authenticator: "file", AAL: 1}
	byKey := func(list []statement.Approval) []statement.Approval {
		return slices.SortedFunc(slices.Values(list), func(a, b statement.Approval) int { return strings.Compare(a.KeyID, b.KeyID) })
	}
	for name := range e.Set.Lock.Statements {
		if d := cmp.Diff([]statement.Approval{sk, pk, file}, byKey(e.Set.Approvals[name])); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
	list, err := estate.History(e.Dir.Store(), e.Set, "charter")
	must(t, err)
	if d := cmp.Diff([]statement.Approval{sk, pk, file}, byKey(list[0].Approvals)); d != "" || len(list[0].Void) != 0 {
		t.Errorf("%v %s", list[0].Void, d)
	}

	keys := map[string]string{"ada": pair.line(), "bea": bea.Key().Public, "cora": e.Cora.Key().Public}
	for _, c := range []struct {
		roots []string
		ok    bool
	}{{[]string{keys["ada"], keys["bea"]}, true}, {[]string{keys["bea"], keys["cora"]}, true}, {[]string{keys["ada"]}, false}, {[]string{keys["ada"], keys["ada"], "none"}, false},
		{[]string{sshKey(t, skEd25519, "ssh:").line(), keys["cora"]}, false}} {
		_, err := statement.Load(e.Dir.Store(), statement.Pin{Estate: "demo", AllowDemo: true, RootKeys: c.roots}, nil, e.Now)
		if c.ok && err != nil {
			t.Errorf("%v: %v", c.roots, err)
		} else if !c.ok {
			refused(t, err, "pin", "")
		}
	}

	// What the charter does not take is refused when it is signed, and counts for nothing when it stands there all the same.
	unverified := passkey.Signer(t, "bea", func(c *estatetest.Ceremony) { c.Flags = 1 })
	if _, err := unverified.Sign(&estate.Message{PayloadType: "t"}); err == nil || !strings.Contains(err.Error(), "did not verify") {
		t.Errorf("signed without verification: %v", err)
	}
	m := copyStore(t, e)
	raw := m["operations/1/manifest.json"]
	ceremony := estatetest.NewCeremony(statement.Challenge(statement.PayloadType, raw))
	ceremony.Flags = 1
	m["operations/1/signatures.json"] = canonical(t, []statement.Signature{passkey.Sign(t, "bea-1", ceremony), estatetest.Signature(t, ada, statement.PayloadType, raw)})
	_, err = statement.Load(m, e.Pin, nil, e.Now)
	refused(t, err, "approvers", "operations")
	m["operations/1/signatures.json"] = canonical(t, []statement.Signature{passkey.Sign(t, "bea-1", estatetest.NewCeremony(statement.Challenge(statement.PayloadType, m["lock/1/manifest.json"]))), estatetest.Signature(t, ada, statement.PayloadType, raw)})
	_, err = statement.Load(m, e.Pin, nil, e.Now)
	refused(t, err, "approvers", "operations")
}

// A person counts once, with however many keys and signatures; those beyond the bound are not looked at.
func TestSignaturesCountPeople(t *testing.T) {
	passkey := estatetest.NewPasskey(t, true)
	second := passkey.Key(t, "ada-2")
	e := estatetest.New(t, estatetest.Edit(func(p *estate.Plan) { p.Charter.People[0].Keys = append(p.Charter.People[0].Keys, second) }))
	m := copyStore(t, e)
	raw := m["charter/1/manifest.json"]
	sigs := []statement.Signature{estatetest.Signature(t, e.Ada, statement.PayloadType, raw), passkey.Sign(t, "ada-2", estatetest.NewCeremony(statement.Challenge(statement.PayloadType, raw)))}
	sigs = append(sigs, sigs...)
	if got := e.Set.Charter.Approvals(statement.PayloadType, raw, sigs); len(got) != 2 || got[0].Person != "ada" || got[1].Person != "ada" {
		t.Errorf("%+v", got)
	}
	m["charter/1/signatures.json"] = canonical(t, sigs)
	_, err := statement.Load(m, e.Pin, nil, e.Now)
	refused(t, err, "approvers", "charter")

	void := make([]statement.Signature, 64)
	for i := range void {
		void[i] = statement.Signature{KeyID: "ada-1", Sig: []byte{1}}
	}
	if got := e.Set.Charter.Approvals(statement.PayloadType, raw, append(void, sigs...)); len(got) != 0 {
		t.Errorf("beyond the bound: %+v", got)
	}
}
