package sidecar

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/pop"
)

// bound makes a token that ends at a time, bound to a key's thumbprint or, when that is empty, to none.
func bound(t testing.TB, jkt string, ends time.Time) string {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	claims := map[string]any{"iss": "x", "exp": ends.Unix(), "jti": rand.Text()}
	if jkt != "" {
		claims["cnf"] = map[string]string{"jkt": jkt}
	}
	return string(estatetest.SignToken(t, jose.EdDSA, key, claims, nil))
}

func newSigner(t testing.TB) (crypto.Signer, *pop.Signer) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	s, err := pop.NewSigner(key)
	must(t, err)
	return key, s
}

func TestBindings(t *testing.T) {
	_, s := newSigner(t)
	later := time.Now().Add(time.Hour)
	for _, c := range []struct {
		name  string
		token string
		key   *pop.Signer
		want  string // part of the error; empty for none
	}{
		{"bound to the key", bound(t, s.KeyID(), later), s, ""},
		{"bound to none, and no key", bound(t, "", later), nil, ""},
		{"bound to none, with a key", bound(t, "", later), s, "bound to no key"},
		{"bound to another", bound(t, strings.Repeat("A", 43), later), s, "the sidecar holds"},
		{"bound, and no key", bound(t, s.KeyID(), later), nil, "names no key"},
		{"no JWT", "rv_something", nil, "not a JWT"},
		{"two lines", "a.b\n.c", nil, "not a JWT"},
		{"no claims", "a.b.c", nil, "exp"},
		{"too long", strings.Repeat("a", maxToken+1), nil, "more than"},
	} {
		_, err := read(c.token, c.key)
		if got := errors.Is(err, nil); got != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// A projected token is the file's of this moment.
func TestFileIsReadAnew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	f := file{path: path}
	if _, err := f.Vouch(t.Context()); err == nil {
		t.Error("there is none")
	}
	for range 2 {
		want := bound(t, "", time.Now().Add(time.Hour))
		must(t, os.WriteFile(path+".new", []byte(want+"\n"), 0o600))
		must(t, os.Rename(path+".new", path))
		if got, err := f.Vouch(t.Context()); err != nil || got.Token != want || got.Signer != nil {
			t.Errorf("%+v, %v", got, err)
		}
	}
}

// clock is a time that a test moves.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

func TestRefreshAhead(t *testing.T) {
	c := &clock{time.Now().Truncate(time.Second)}
	fetched := make(chan string, 8)
	fail := false
	h := newHeld(func(context.Context) (string, error) {
		if fail {
			return "", errors.New("away")
		}
		token := bound(t, "", c.now().Add(time.Hour))
		fetched <- token
		return token, nil
	}, nil, c.now)
	vouch := func() string {
		v, err := h.Vouch(t.Context())
		must(t, err)
		return v.Token
	}
	first := vouch()
	<-fetched
	c.at = c.at.Add(39 * time.Minute)
	if vouch() != first || len(fetched) != 0 {
		t.Error("fetched anew too early")
	}
	c.at = c.at.Add(2 * time.Minute)
	if vouch() != first { // good still, while the next one is fetched
		t.Error("it waited")
	}
	second := <-fetched
	h.one <- struct{}{} // whoever fetched has finished
	<-h.one
	if vouch() != second {
		t.Error("the newer one is not used")
	}
	fail = true
	c.at = c.at.Add(50 * time.Minute)
	if vouch() != second {
		t.Error("an authority that is away takes a good token away")
	}
	h.one <- struct{}{}
	<-h.one
	c.at = c.at.Add(10 * time.Minute)
	if _, err := h.Vouch(t.Context()); err == nil {
		t.Error("a token is used after its end")
	}
	fail = false
	third := vouch()
	h.drop("another")
	if vouch() != third {
		t.Error("another's refusal drops it")
	}
	h.drop(third)
	if vouch() == third {
		t.Error("a token that was refused is used again")
	}
}

func TestCommand(t *testing.T) {
	if got, err := command([]string{"printf", " a.b.c\n"})(t.Context()); err != nil || got != "a.b.c" {
		t.Errorf("%q %v", got, err)
	}
	for _, args := range [][]string{{"false"}, {"/no/such/program"}, {"head", "-c", "100000", "/dev/zero"}} {
		if got, err := command(args)(t.Context()); err == nil {
			t.Errorf("%v: %.20q", args, got)
		}
	}
}

func TestKeys(t *testing.T) {
	for _, kind := range []string{"ed25519", "p256"} {
		path := filepath.Join(t.TempDir(), "key")
		jwks, err := CreateKey(path, kind)
		must(t, err)
		key, err := ReadKey(path)
		must(t, err)
		id, err := pop.Thumbprint(key.Public())
		must(t, err)
		if !strings.Contains(jwks, `"kid":"`+id+`"`) || strings.Contains(jwks, `"d"`) {
			t.Error(jwks)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v %v", info, err)
		}
		if _, err := CreateKey(path, kind); err == nil {
			t.Error("a key was written over")
		}
		must(t, os.Chmod(path, 0o640))
		if _, err := ReadKey(path); err == nil {
			t.Error("a key that others read is taken")
		}
	}
	for name, text := range map[string]string{"nothing": "", "another block": "-----BEGIN X-----\nAAAA\n-----END X-----\n", "no key": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"} {
		path := filepath.Join(t.TempDir(), "key")
		must(t, os.WriteFile(path, []byte(text), 0o600))
		if _, err := ReadKey(path); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestConfig(t *testing.T) {
	const good = "gateway: https://gw.example\nkey: agent.key\ntoken:\n  own:\n    issuer: https://agent.example\n    audience: reeve:acme\n"
	dir := t.TempDir()
	load := func(text string) (*Config, error) {
		path := filepath.Join(dir, "sidecar.yaml")
		must(t, os.WriteFile(path, []byte(text), 0o600))
		return ReadConfig(path)
	}
	c, err := load(good)
	must(t, err)
	if c.Key != filepath.Join(dir, "agent.key") || c.Listen != "127.0.0.1:0" || c.Memory != defaultMemory {
		t.Errorf("%+v", c)
	}
	if c, err = load(strings.Replace(good, "    audience: reeve:acme\n", "", 1) + "authority:\n  url: https://a.example/\n"); err != nil || c.Authority.Issuer != "https://a.example" {
		t.Errorf("%+v %v", c, err)
	}
	for _, listen := range []string{"[::1]:0", "127.0.0.2:80", "unix:/run/agent.sock"} {
		if _, err := load(good + "listen: \"" + listen + "\"\n"); err != nil {
			t.Error(err)
		}
	}
	for name, text := range map[string]string{
		"an unknown field":            good + "colour: red\n",
		"no gateway":                  strings.Replace(good, "https://gw.example", "", 1),
		"a gateway with a slash":      strings.Replace(good, "gw.example", "gw.example/", 1),
		"a gateway with a user":       strings.Replace(good, "gw.example", "a:b@gw.example", 1),
		"no token":                    "gateway: https://gw.example\n",
		"two tokens":                  good + "  file: t\n",
		"own without a key":           strings.Replace(good, "key: agent.key\n", "", 1),
		"own without an audience":     strings.Replace(good, "    audience: reeve:acme\n", "", 1),
		"every machine's address":     good + "listen: 0.0.0.0:80\n",
		"a name":                      good + "listen: localhost:80\n",
		"no host":                     good + "listen: :80\n",
		"a socket in no folder":       good + "listen: unix:agent.sock\n",
		"an X.509-SVID with a key":    "gateway: https://gw.example\nkey: k\ntoken:\n  spiffe: {socket: unix:///s}\n",
		"no memory":                   good + "memory: -1\n",
		"an authority that is no URL": good + "authority:\n  url: ftp://a\n",
	} {
		if _, err := load(text); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}
