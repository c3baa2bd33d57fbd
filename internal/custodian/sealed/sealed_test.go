package sealed

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/reevehq/reeve/internal/custodian/state"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/internal/seal"
	"github.com/reevehq/reeve/internal/secret"
	"github.com/reevehq/reeve/internal/statement"
)

const (
	credential = "research-openai"
	first      = "demo-upstream-key-first-0001"
	second     = "demo-upstream-key-second-002"
)

type vault struct {
	t      *testing.T
	estate *estatetest.Estate
	dir    state.Dir
	*Store
}

func newVault(t *testing.T) *vault {
	v := &vault{t: t, estate: estatetest.New(t)}
	var err error
	v.dir, err = state.Open(t.TempDir() + "/sealed")
	must(t, err)
	v.open()
	t.Cleanup(v.noPlaintext)
	return v
}

func (v *vault) open() map[string]error {
	v.t.Helper()
	x := v.estate.Identity
	s, failed, err := Open(v.dir, "c1", &Key{x, x.Recipient(), x.Recipient().String(), nil})
	must(v.t, err)
	v.Store = s
	return failed
}

// handover makes a handover, changed before it is signed.
func (v *vault) handover(value string, version int64, by *estate.Signer, change func(*statement.Handover)) (*statement.Envelope, []byte) {
	v.t.Helper()
	ciphertext, err := seal.Seal(v.estate.Identity.Recipient().String(), []byte(value))
	must(v.t, err)
	h := seal.Handover(v.estate.Pin.Estate, credential, version, "c1", ciphertext, v.estate.Now)
	if change != nil {
		change(&h)
	}
	env, err := estate.Seal("handover", h, by)
	must(v.t, err)
	return env, ciphertext
}

func (v *vault) put(value string, version int64) {
	v.t.Helper()
	env, ciphertext := v.handover(value, version, v.estate.Cora, nil)
	_, err := v.Accept(v.estate.Set, env, ciphertext, v.estate.Now)
	must(v.t, err)
}

// holds returns version and secret; only this package's tests can look without a Durable.
func (v *vault) holds() string {
	h := v.Get(credential)
	if h == nil {
		return "nothing"
	}
	return fmt.Sprint(h.Version, " ", string(h.secret.Reveal()))
}

// unit is the credential's.
func (v *vault) unit() *statement.Unit {
	_, unit, _ := v.estate.Set.Credential(credential)
	return unit
}

// TestOtherUnit: a name that comes to stand for another unit's credential brings it nothing of what lies under it.
func TestOtherUnit(t *testing.T) {
	v := newVault(t)
	v.put(first, 1)
	v.open()
	if v.Of(v.unit(), credential) == nil {
		t.Error("its own unit does not get it")
	}
	for _, other := range []statement.Unit{{ID: "support", Tenant: v.unit().Tenant}, {ID: v.unit().ID, Tenant: "other"}} {
		if v.Of(&other, credential) != nil {
			t.Errorf("%+v gets it", other)
		}
		if h, err := v.Version(&other, credential, 1); h != nil || !errors.Is(err, ErrCiphertext) {
			t.Errorf("%+v opens it: %v", other, err)
		}
	}
}

// noPlaintext looks through every file.
func (v *vault) noPlaintext() {
	filepath.WalkDir(string(v.dir), func(path string, d fs.DirEntry, err error) error {
		if d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil || bytes.Contains(b, []byte("demo-upstream-key")) {
			v.t.Errorf("%s holds plaintext, or cannot be read: %v", path, err)
		}
		if info, err := d.Info(); err != nil || info.Mode().Perm() != 0o600 {
			v.t.Errorf("%s has mode %v", path, info.Mode())
		}
		return nil
	})
}

func TestVersions(t *testing.T) {
	v := newVault(t)
	v.put(first, 1)
	one := v.Get(credential)
	v.put(second, 3)
	v.put(first, 2) // came late
	v.put(first, 3) // another secret under the same version
	if got, want := v.holds(), "3 "+second; got != want {
		t.Errorf("holds %q, want %q", got, want)
	}
	if one.secret.Reveal()[0] == 0 {
		t.Error("the version before was wiped under a use")
	}
	fp := v.Get(credential).Fingerprint
	if failed := v.open(); len(failed) > 0 || v.holds() != "3 "+second || v.Get(credential).Fingerprint != fp || fp == one.Fingerprint {
		t.Errorf("after a restart: %q, failed %v", v.holds(), failed)
	}
	for _, name := range []string{"1.age", "1.json", "3.age", "3.json"} {
		if _, err := os.Stat(v.dir.Path(credential + "/" + name)); err != nil {
			t.Errorf("history: %v", err)
		}
	}
}

// TestCrashWhileReceiving: a version counts when its handover is there, and not before.
func TestCrashWhileReceiving(t *testing.T) {
	v := newVault(t)
	v.put(first, 1)
	v.put(second, 2)
	must(t, os.Remove(v.dir.Path(credential+"/2.json")))
	if failed := v.open(); len(failed) > 0 || v.holds() != "1 "+first {
		t.Errorf("holds %q, failed %v", v.holds(), failed)
	}
}

func TestRefusedHandovers(t *testing.T) {
	for name, tt := range map[string]struct {
		value  string
		by     func(*estatetest.Estate) *estate.Signer
		change func(*statement.Handover)
		spoil  func(*statement.Envelope, []byte)
		want   error
	}{
		"signed by another role":       {by: func(e *estatetest.Estate) *estate.Signer { return e.Ada }, want: statement.ErrRefused},
		"for another custodian":        {change: func(h *statement.Handover) { h.Custodian = "c2" }, want: statement.ErrRefused},
		"for another estate":           {change: func(h *statement.Handover) { h.Estate = "other" }, want: statement.ErrRefused},
		"for a credential that is not": {change: func(h *statement.Handover) { h.Credential = "../../etc" }, want: statement.ErrRefused},
		"from the future":              {change: func(h *statement.Handover) { h.Created = h.Created.Add(time.Hour) }, want: statement.ErrRefused},
		"version 0":                    {change: func(h *statement.Handover) { h.Version = 0 }, want: statement.ErrRefused},
		"changed after signing": {spoil: func(env *statement.Envelope, _ []byte) {
			env.Payload = bytes.Replace(env.Payload, []byte(`"version":1`), []byte(`"version":9`), 1)
		}, want: statement.ErrRefused},
		"another ciphertext":             {spoil: func(_ *statement.Envelope, c []byte) { c[len(c)-1] ^= 1 }, want: ErrCiphertext},
		"a ciphertext for somebody else": {change: func(h *statement.Handover) { h.SHA256 = seal.Sum(elsewhere) }, spoil: func(_ *statement.Envelope, c []byte) {}, want: ErrCiphertext},
	} {
		t.Run(name, func(t *testing.T) {
			v := newVault(t)
			by := v.estate.Cora
			if tt.by != nil {
				by = tt.by(v.estate)
			}
			env, ciphertext := v.handover(first, 1, by, tt.change)
			if name == "a ciphertext for somebody else" {
				ciphertext = elsewhere
			}
			if tt.spoil != nil {
				tt.spoil(env, ciphertext)
			}
			if _, err := v.Accept(v.estate.Set, env, ciphertext, v.estate.Now); !errors.Is(err, tt.want) {
				t.Errorf("%v, want %v", err, tt.want)
			}
			if v.holds() != "nothing" {
				t.Errorf("holds %s", v.holds())
			}
		})
	}
}

// elsewhere is sealed to a key that nobody here has.
var elsewhere = func() []byte {
	x, err := age.GenerateX25519Identity()
	if err != nil {
		panic(err)
	}
	b, err := seal.Seal(x.Recipient().String(), []byte(first))
	if err != nil {
		panic(err)
	}
	return b
}()

// TestDamaged: one credential's damage is its own.
func TestDamaged(t *testing.T) {
	v := newVault(t)
	v.put(first, 1)
	must(t, os.WriteFile(v.dir.Path(credential+"/1.age"), []byte("age-encryption.org/v1\n"), 0o600))
	failed := v.open()
	if !errors.Is(failed[credential], ErrCiphertext) || v.holds() != "nothing" {
		t.Errorf("holds %s, failed %v", v.holds(), failed)
	}
}

func TestAnotherIdentity(t *testing.T) {
	v := newVault(t)
	x, err := age.GenerateX25519Identity()
	must(t, err)
	if _, _, err := Open(v.dir, "c1", &Key{x, x.Recipient(), "", nil}); err == nil {
		t.Error("the directory of another identity was opened")
	}
}

func TestFetchNeedsADurable(t *testing.T) {
	v := newVault(t)
	v.put(first, 1)
	if s, err := v.Get(credential).Fetch(ledger.Durable{}); !errors.Is(err, ErrNotDurable) || !s.Empty() {
		t.Errorf("%v", err)
	}
}

// TestNothingPrintsIt: a Held in a log line shows no secret.
func TestNothingPrintsIt(t *testing.T) {
	v := newVault(t)
	v.put(first, 1)
	h := v.Get(credential)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if s := fmt.Sprintf(verb, h) + fmt.Sprintf(verb, *h); strings.Contains(s, first) {
			t.Errorf("%s shows it: %s", verb, s)
		}
	}
}

func TestIdentity(t *testing.T) {
	x, err := age.GenerateX25519Identity()
	must(t, err)
	older, err := age.GenerateX25519Identity()
	must(t, err)
	plain := "# made by age-keygen\n" + x.String() + "\n"
	var encrypted bytes.Buffer
	r, err := age.NewScryptRecipient("correct horse")
	must(t, err)
	r.SetWorkFactor(10)
	w, err := age.Encrypt(&encrypted, r)
	must(t, err)
	_, err = w.Write([]byte(plain))
	must(t, errors.Join(err, w.Close()))
	dir := t.TempDir()
	file := func(name, content string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, []byte(content), mode))
		return path
	}
	passphrase := func(text string) int {
		f, err := os.Open(file("passphrase"+text[:3], text, 0o600))
		must(t, err)
		t.Cleanup(func() { f.Close() })
		return int(f.Fd())
	}
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	file("unit-credential", plain, 0o400)
	for _, tt := range []struct {
		name string
		id   Identity
		ok   bool
	}{
		{"a file", Identity{File: file("plain", plain, 0o600)}, true},
		{"a file that others can read", Identity{File: file("open", plain, 0o640)}, false},
		{"no file", Identity{File: filepath.Join(dir, "none")}, false},
		{"an encrypted file", Identity{File: file("enc", encrypted.String(), 0o600), PassphraseFD: passphrase("correct horse\n")}, true},
		{"a wrong passphrase", Identity{File: file("enc2", encrypted.String(), 0o600), PassphraseFD: passphrase("wrong")}, false},
		{"an encrypted file without passphrase", Identity{File: file("enc3", encrypted.String(), 0o600)}, false},
		{"a systemd credential", Identity{Credential: "unit-credential"}, true},
		{"a systemd credential elsewhere", Identity{Credential: "../" + filepath.Base(dir) + "x/unit-credential"}, true}, // its last name only
		{"two identities", Identity{File: file("two", older.String()+"\n"+plain, 0o600)}, true},                          // the newest last
		{"something else", Identity{File: file("other", "hello\n", 0o600)}, false},
	} {
		key, err := tt.id.Read()
		if (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.name, err)
		}
		if err == nil && key.Public != x.Recipient().String() {
			t.Errorf("%s: reads %s", tt.name, key.Public)
		}
		if err != nil && (strings.Contains(err.Error(), x.String()) || !errors.Is(err, ErrIdentity)) {
			t.Errorf("%s: the error shows the identity or is of no kind: %v", tt.name, err)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// What a source remembers is on disk when Save returns, encrypted, and goes over to a new identity with everything else.
func TestMemory(t *testing.T) {
	v := newVault(t)
	m, err := v.Memory(credential)
	must(t, err)
	if empty, err := m.Load(); err != nil || !empty.Empty() {
		t.Fatalf("before the first Save: %v", err)
	}
	const kept = "demo-upstream-key-refresh-token-0001"
	must(t, m.Save(secret.New([]byte(kept))))
	if err := m.Save(secret.New(make([]byte, maxMemory+1))); err == nil {
		t.Error("too much was kept")
	}
	v.open()
	older := v.estate.Identity
	x, err := age.GenerateX25519Identity()
	must(t, err)
	must(t, v.Rekey(&Key{x, x.Recipient(), x.Recipient().String(), []age.Identity{older}}))
	s, _, err := Open(v.dir, "c1", &Key{x, x.Recipient(), x.Recipient().String(), nil})
	must(t, err)
	m, err = s.Memory(credential)
	must(t, err)
	if got, err := m.Load(); err != nil || string(got.Reveal()) != kept {
		t.Errorf("after the older identity is gone: %v", err)
	}
	if _, err := v.Memory("../x"); err == nil {
		t.Error("a name that leads elsewhere")
	}
}

// A version can be opened by its number until it is destroyed; then neither a restart nor its record brings it back.
func TestDestroy(t *testing.T) {
	v := newVault(t)
	env, ciphertext := v.handover(second, 2, v.estate.Cora, nil)
	v.put(first, 1)
	_, err := v.Accept(v.estate.Set, env, ciphertext, v.estate.Now)
	must(t, err)
	if h, err := v.Version(v.unit(), credential, 1); err != nil || string(h.secret.Reveal()) != first || h.Lease != "v1" {
		t.Errorf("%v", err)
	}
	must(t, v.Destroy(credential, 2))
	if failed := v.open(); len(failed) > 0 || v.Get(credential) != nil {
		t.Errorf("after a restart: %s, %v", v.holds(), failed)
	}
	if h, err := v.Accept(v.estate.Set, env, ciphertext, v.estate.Now); h != nil || err != nil || v.Get(credential) != nil {
		t.Errorf("its record brought it back: %v", err)
	}
	if _, err := v.Version(v.unit(), credential, 2); !errors.Is(err, ErrCiphertext) {
		t.Errorf("%v", err)
	}
	v.put(first, 3)
	if got, want := v.holds(), "3 "+first; got != want {
		t.Errorf("holds %q, want %q", got, want)
	}
}
