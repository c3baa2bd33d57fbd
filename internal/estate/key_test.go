package estate_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/need"
	"github.com/reevehq/reeve/internal/secret"
	"github.com/reevehq/reeve/internal/statement"
)

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wants fails the test unless err says so.
func wants(t *testing.T, err error, what string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), what) {
		t.Errorf("want %q, got %v", what, err)
	}
}

// A key that was printed for the charter is read back as it was.
func TestEntry(t *testing.T) {
	file, err := estate.NewSigner("ada")
	check(t, err)
	synced := estatetest.NewPasskey(t, true).Key(t, "ada-1")
	synced.Synced = "accepted"
	for _, k := range []statement.Key{file.Key(), estatetest.NewPasskey(t, false).Key(t, "ada-1"), synced} {
		b, err := estate.Entry(k)
		check(t, err)
		name := filepath.Join(t.TempDir(), "entry.yaml")
		check(t, os.WriteFile(name, b, 0o600))
		got, err := estate.ReadKey("ada-1", name)
		check(t, err)
		if d := cmp.Diff(k, got); d != "" {
			t.Errorf("%s\n%s", b, d)
		}
	}
	got, err := estate.ReadKey("ada-1", file.Key().Public)
	if err != nil || got != file.Key() {
		t.Errorf("a key by itself: %+v, %v", got, err)
	}
	for _, bad := range []string{"", "c2hvcnQ=", "ssh-rsa AAAA", "ssh-ed25519", filepath.Join(t.TempDir(), "none")} {
		if _, err := estate.ReadKey("ada-1", bad); err == nil {
			t.Errorf("%q is a key", bad)
		}
	}
	for name, text := range map[string]string{"two": "- id: a\n- id: b\n", "unknown": "- id: a\n  kind: ed25519\n", "no list": "- a\n"} {
		name = filepath.Join(t.TempDir(), name)
		check(t, os.WriteFile(name, []byte(text), 0o600))
		if _, err := estate.ReadKey("ada-1", name); err == nil {
			t.Errorf("%q is a key", text)
		}
	}
}

// keygen makes an OpenSSH key.
func keygen(t *testing.T, kind string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "id")
	out, err := exec.CommandContext(t.Context(), "ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "ada at home", "-f", file).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return file
}

func TestOpenSSH(t *testing.T) {
	need.Part(t, "ssh-keygen", "ssh-agent")
	mine, other, rsa := keygen(t, "ed25519"), keygen(t, "ecdsa"), keygen(t, "rsa")
	key, err := estate.ReadKey("ada-1", mine+".pub")
	check(t, err)
	second, err := estate.ReadKey("ada-2", other+".pub")
	check(t, err)
	_, err = estate.ReadKey("ada-1", rsa+".pub")
	wants(t, err, "not accepted for signing")
	m := &estate.Message{PayloadType: "t", Payload: []byte("m")}
	sign := func(keys []statement.Key, file string) (statement.Signature, error) {
		s, err := estate.OpenSSH("ada", keys, file)
		check(t, err)
		return s.Sign(m)
	}

	for want, file := range map[string]string{"ada-1": mine, "ada-2": other} {
		sig, err := sign([]statement.Key{key, second, {ID: "ada-3", Type: "ed25519"}}, file)
		if err != nil || sig.KeyID != want {
			t.Errorf("%s signed: %v", sig.KeyID, err)
		}
	}
	for _, file := range []string{other, rsa} {
		_, err = sign([]statement.Key{key}, file)
		wants(t, err, "holds by none of ada's keys")
	}
	_, err = sign([]statement.Key{key}, filepath.Join(t.TempDir(), "none"))
	wants(t, err, "ssh-keygen did not sign")
	_, err = estate.OpenSSH("ada", []statement.Key{{ID: "ada-3", Type: "ed25519"}}, mine)
	wants(t, err, "reeve key add ada --ssh")
	s, err := estate.OpenSSH("ada", []statement.Key{key}, mine)
	check(t, err)
	wants(t, s.Save(filepath.Join(t.TempDir(), "ada.key"), secret.Value{}), "not in a key file")

	// Through an agent, which holds one of the two.
	t.Setenv("SSH_AUTH_SOCK", "")
	_, err = estate.Agent("ada", []statement.Key{key})
	wants(t, err, "no ssh-agent")
	socket := filepath.Join(t.TempDir(), "agent")
	agent := exec.Command("ssh-agent", "-D", "-a", socket)
	check(t, agent.Start())
	t.Cleanup(func() { _ = agent.Process.Kill(); _ = agent.Wait() })
	t.Setenv("SSH_AUTH_SOCK", socket)
	for range 500 {
		if _, err := os.Stat(socket); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	_, err = estate.Agent("ada", []statement.Key{key, second})
	wants(t, err, "no ssh-agent")
	if out, err := exec.CommandContext(t.Context(), "ssh-add", "-q", other).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	check(t, os.Remove(other)) // the agent has it
	s, err = estate.Agent("ada", []statement.Key{key, second})
	check(t, err)
	sig, err := s.Sign(m)
	if err != nil || sig.KeyID != "ada-2" {
		t.Errorf("%s signed: %v", sig.KeyID, err)
	}
}

// A person's keys are those of the owners' charter and of the published one.
func TestKeysOf(t *testing.T) {
	e := estatetest.New(t)
	second := estatetest.NewPasskey(t, true).Key(t, "ada-2")
	first := e.Ada.Key()
	e.Plan.Charter.People[0].Keys = []statement.Key{second}
	check(t, e.Plan.Write(e.Dir))
	got, err := e.Dir.KeysOf("ada")
	check(t, err)
	if d := cmp.Diff([]statement.Key{second, first}, got); d != "" {
		t.Error(d)
	}
	_, err = e.Dir.KeysOf("dan")
	wants(t, err, `no person "dan"`)
	charter := filepath.Join(string(e.Dir), "charter.yaml")
	check(t, os.WriteFile(charter, []byte("people: ["), 0o600))
	if got, err = e.Dir.KeysOf("ada"); err != nil || len(got) != 1 || got[0] != first {
		t.Errorf("with a charter that cannot be read: %v, %v", got, err)
	}
	_, err = estate.Dir(t.TempDir()).KeysOf("ada")
	if err == nil {
		t.Error("an estate of nobody")
	}
}

// A key that was replaced is still shown for what it signed; a signature that holds by no key is void.
func TestHistory(t *testing.T) {
	e := estatetest.New(t)
	passkey := estatetest.NewPasskey(t, true)
	old := e.Ada
	e.Plan.Charter.People[0].Keys = []statement.Key{passkey.Key(t, "ada-2"), old.Key()}
	e.Republish(t, nil, "charter")
	e.Ada = passkey.Signer(t, "ada", nil)
	e.Ada.Keys[0].ID = "ada-2"
	e.Plan.Charter.People[0].Keys = e.Ada.Keys
	check(t, e.Plan.Write(e.Dir))
	names := []string{"charter", "operations", "policy-research", "custody-research", "policy-support", "custody-support", "lock"}
	check(t, e.Dir.SignAll(&e.Plan.Charter, names, e.People(), e.Now, e.Lives))
	draft := filepath.Join(string(e.Dir), ".pending", "policy-research", "2", "signatures.json")
	b, err := os.ReadFile(draft)
	check(t, err)
	sigs, err := statement.ParseSignatures(b)
	check(t, err)
	b, err = statement.Canonical(append(sigs, statement.Signature{KeyID: "ada-1", Sig: []byte("not hers")}, statement.Signature{KeyID: "dan-1", Sig: []byte("nobody's")}))
	check(t, err)
	check(t, os.WriteFile(draft, b, 0o600))
	set, err := e.Dir.Publish(e.Pin, e.Now)
	check(t, err)

	list, err := estate.History(e.Dir.Store(), set, "policy-research")
	check(t, err)
	if len(list) != 2 {
		t.Fatalf("%d versions", len(list))
	}
	for i, want := range []struct{ by, void string }{{"ada-2 bea-1 cora-1", "ada-1 dan-1"}, {"ada-1 bea-1 cora-1", ""}} {
		var by []string
		for _, a := range list[i].Approvals {
			by = append(by, a.KeyID)
		}
		for _, id := range strings.Fields(want.by) {
			if !strings.Contains(strings.Join(by, " "), id) {
				t.Errorf("version %d: %v, want %s", list[i].Version.Version, by, want.by)
			}
		}
		if got := strings.Join(list[i].Void, " "); got != want.void {
			t.Errorf("version %d: void %s, want %s", list[i].Version.Version, got, want.void)
		}
	}
	if !strings.Contains(list[0].By(), "ada-1 (void)") {
		t.Errorf("%s", list[0].By())
	}

	// The charters are those that the set's own names as its predecessors.
	first := filepath.Join(e.Dir.Signed(), "charter", "1", "manifest.json")
	b, err = os.ReadFile(first)
	check(t, err)
	check(t, os.WriteFile(first, []byte(strings.Replace(string(b), `"author":"`, `"author":"x`, 1)), 0o600))
	_, err = estate.History(e.Dir.Store(), set, "lock")
	wants(t, err, "is not what the charter after it names")
}

// A record is signed by two owners on two machines.
func TestCosign(t *testing.T) {
	e := estatetest.New(t)
	x := statement.Extension{Estate: "demo", Custodian: "c1", What: "feed", Created: e.Now, Until: e.Now.Add(time.Hour), Reason: "test"}
	seal := func(x statement.Extension, by ...*estate.Signer) *statement.Envelope {
		env, err := estate.Seal("extension", x, by...)
		check(t, err)
		return env
	}
	env := seal(x, e.Bea)
	if lacks, err := estate.Cosign(e.Set, env, e.Bea, e.Now); err != nil || lacks == nil || len(env.Signatures) != 1 {
		t.Errorf("by the same person: %v, %v, %d signatures", lacks, err, len(env.Signatures))
	}
	if lacks, err := estate.Cosign(e.Set, env, e.Cora, e.Now); err != nil || lacks != nil || len(env.Signatures) != 2 {
		t.Errorf("by another: %v, %v", lacks, err)
	}
	long := x
	long.Until = x.Until.Add(time.Second)
	for name, c := range map[string]struct {
		env *statement.Envelope
		now time.Time
	}{"too long": {seal(long, e.Bea), e.Now}, "over": {seal(x, e.Bea), e.Now.Add(time.Hour)}, "of nobody": {seal(x), e.Now}} {
		before := len(c.env.Signatures)
		if _, err := estate.Cosign(e.Set, c.env, e.Cora, c.now); err == nil || len(c.env.Signatures) != before {
			t.Errorf("%s: %v, and it has %d signatures", name, err, len(c.env.Signatures))
		}
	}
	members, err := estate.Members(env.Payload)
	check(t, err)
	if members[0] != (estate.Member{Name: "created", Value: e.Now.Format(time.RFC3339)}) || len(members) != 6 {
		t.Errorf("%v", members)
	}
}

// reads is a hand that keeps what it is shown, and signs.
type reads struct {
	estate.Hand
	shown *estate.Message
}

func (r *reads) Sign(m *estate.Message) (statement.Signature, error) {
	r.shown = m
	return r.Hand.Sign(m)
}

// A signer is shown what the draft opens and closes, together with everything else that waits, and the files of both versions.
func TestSignerIsShown(t *testing.T) {
	e := estatetest.New(t)
	ada, bea := &reads{Hand: e.Ada.Hand}, &reads{Hand: e.Bea.Hand}
	e.Ada.Hand, e.Bea.Hand = ada, bea
	was := e.Plan.Cedar["research"]["use.cedar"]
	e.Plan.Cedar["research"]["use.cedar"] = "forbid (principal, action, resource);\n"
	check(t, e.Plan.Write(e.Dir))
	_, err := e.Dir.Sign("demo", "policy-research", e.Bea, estate.Terms{Created: e.Now, Expires: e.Now.Add(time.Hour)})
	check(t, err)
	check(t, e.Dir.Approve("policy-research", e.Ada))
	for who, r := range map[string]*reads{"the author": bea, "the approver": ada} {
		if got := r.shown.Effect(); got.Unknown != "" || len(got.Opens) != 0 || len(got.Closes) == 0 || !strings.Contains(got.Closes[0], "research-agent may use research-") {
			t.Errorf("%s: %+v", who, got)
		}
		if string(r.shown.Before["use.cedar"]) != was || string(r.shown.Files["use.cedar"]) != e.Plan.Cedar["research"]["use.cedar"] || r.shown.Files["manifest.json"] != nil {
			t.Errorf("%s sees %d and %d files", who, len(r.shown.Before), len(r.shown.Files))
		}
	}
	_, err = e.Dir.Sign("demo", "lock", e.Ada, estate.Terms{Created: e.Now, Expires: e.Now.Add(time.Hour)})
	check(t, err)
	if got := ada.shown.Effect(); len(got.Closes) == 0 {
		t.Errorf("the lock: %+v", got)
	}

	// Of an estate that is only begun it cannot be told.
	begun := estate.Dir(filepath.Join(t.TempDir(), "estate"))
	check(t, e.Plan.Write(begun))
	_, err = begun.Sign("demo", "policy-research", e.Bea, estate.Terms{Created: e.Now, Expires: e.Now.Add(time.Hour)})
	check(t, err)
	if got := bea.shown.Effect().Unknown; !strings.Contains(got, "charter is not drafted yet") {
		t.Errorf("%q", got)
	}
}
