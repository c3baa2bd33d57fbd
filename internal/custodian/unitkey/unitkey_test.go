package unitkey

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/internal/custodian/source"
	"github.com/reevehq/reeve/internal/custodian/state"
	"github.com/reevehq/reeve/internal/federation"
	"github.com/reevehq/reeve/internal/statement"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var now = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// site is a custodian's folder, with a unit.
type site struct {
	t        *testing.T
	dir      state.Dir
	identity *age.X25519Identity
	book     *Book
	custody  *statement.CustodyStatement
	now      time.Time

	rewrapped []string
}

func newSite(t *testing.T, helper *Helper) *site {
	dir, err := state.Open(filepath.Join(t.TempDir(), "federation"))
	must(t, err)
	x, err := age.GenerateX25519Identity()
	must(t, err)
	s := &site{t: t, dir: dir, identity: x, now: now, custody: &statement.CustodyStatement{Unit: "research",
		Federation: &statement.Federation{Issuer: "https://id.example/research", TrustDomain: "acme.example"}}}
	s.book, err = Open(dir, "c1", s, helper, func() time.Time { return s.now })
	must(t, err)
	return s
}

// Unseal and Rewrap are a sealed.Store's.
func (s *site) Unseal(b []byte) ([]byte, error) {
	r, err := age.Decrypt(bytes.NewReader(b), s.identity)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

func (s *site) Rewrap(dir state.Dir, name string, plain []byte) error {
	s.rewrapped = append(s.rewrapped, string(dir)+"/"+name)
	return nil
}

// make makes a key as reeve federation key does, without naming it in the statement.
func (s *site) make(algorithm string) statement.FederationKey {
	s.t.Helper()
	jwk, err := federation.NewKey(string(s.dir), "research", algorithm, s.identity.Recipient().String())
	must(s.t, err)
	must(s.t, s.book.Reread())
	return statement.FederationKey{Custodian: "c1", JWK: jwk, NotBefore: s.now, NotAfter: s.now.Add(90 * 24 * time.Hour)}
}

func (s *site) pin(keys ...statement.FederationKey) {
	s.custody.Federation.Keys = keys
	s.book.Use(&statement.Set{Custody: map[string]*statement.CustodyStatement{"research": s.custody}})
}

func (s *site) ask(algorithm string) source.Token {
	return source.Token{Credential: "research-openai", Workload: "agent", Audience: "https://api.openai.com/v1", Algorithm: algorithm, ID: "1", Issued: s.now, Expires: s.now.Add(5 * time.Minute)}
}

// kid signs and returns the kid of the key that did, after the token was verified against the published key set.
func (s *site) kid(token source.Token) (string, error) {
	s.t.Helper()
	text, err := s.book.Sign(s.t.Context(), "research", token)
	if err != nil {
		return "", err
	}
	parsed, err := jwt.ParseSigned(string(text.Reveal()), []jose.SignatureAlgorithm{jose.SignatureAlgorithm(token.Algorithm)})
	must(s.t, err)
	var set jose.JSONWebKeySet
	must(s.t, json.Unmarshal(s.custody.Federation.JWKS(), &set))
	var got map[string]any
	must(s.t, parsed.Claims(set, &got))
	want := map[string]any{"iss": "https://id.example/research", "sub": "spiffe://acme.example/unit/research/credential/research-openai/workload/agent",
		"aud": []any{"https://api.openai.com/v1"}, "iat": float64(s.now.Unix()), "exp": float64(s.now.Add(5 * time.Minute).Unix()), "jti": "1"}
	if diff := cmp.Diff(want, got); diff != "" {
		s.t.Error(diff)
	}
	return parsed.Headers[0].KeyID, nil
}

// TestRotation is docs/procedures/federation-keys.md: the next key is made, published beside the old one, and signs from then on; a key
// that the statement does not name, or not any more, or another's, signs nothing.
func TestRotation(t *testing.T) {
	s := newSite(t, nil)
	first := s.make("ES256")
	s.pin()
	if _, err := s.kid(s.ask("ES256")); !errors.Is(err, source.ErrIdentity) || !strings.Contains(err.Error(), "reeve federation key research") {
		t.Fatalf("a key that the statement does not name: %v", err)
	}
	s.pin(first)
	was, err := s.kid(s.ask("ES256"))
	must(t, err)
	if p := s.book.Problems(s.now); len(p) > 0 {
		t.Errorf("%v", p)
	}

	s.now = now.Add(65 * 24 * time.Hour)
	if p := s.book.Problems(s.now); len(p) != 1 {
		t.Errorf("25 days before its end: %v", p)
	}
	second := s.make("ES256")
	if kid, err := s.kid(s.ask("ES256")); err != nil || kid != was {
		t.Errorf("made, not published: %s, %v", kid, err)
	}
	s.pin(first, second)
	is, err := s.kid(s.ask("ES256"))
	if err != nil || is == was {
		t.Errorf("published: still %s, %v", is, err)
	}
	if p := s.book.Problems(s.now); len(p) > 0 {
		t.Errorf("%v", p)
	}
	s.now = now.Add(90 * 24 * time.Hour) // the first has ended
	if kid, err := s.kid(s.ask("ES256")); err != nil || kid != is {
		t.Errorf("%s, %v", kid, err)
	}
	s.pin(first)
	if _, err := s.kid(s.ask("ES256")); !errors.Is(err, source.ErrIdentity) {
		t.Errorf("a key past its end: %v", err)
	}
	others := second
	others.Custodian = "c2"
	s.pin(others)
	if _, err := s.kid(s.ask("ES256")); !errors.Is(err, source.ErrIdentity) {
		t.Errorf("a key that the statement gives another custodian: %v", err)
	}
}

// A key that the statement says a helper has is not signed with from a file.
func TestHeldByHelper(t *testing.T) {
	s := newSite(t, nil)
	key := s.make("ES256")
	key.Held = statement.HeldByHelper
	s.pin(key)
	if kid, err := s.kid(s.ask("ES256")); !errors.Is(err, source.ErrIdentity) {
		t.Errorf("a copy in a file signed: %s, %v", kid, err)
	}
}

func TestAlgorithmsAndClasses(t *testing.T) {
	s := newSite(t, nil)
	es, rs := s.make("ES256"), s.make("RS256")
	s.pin(es, rs)
	for _, algorithm := range []string{"ES256", "RS256"} {
		if _, err := s.kid(s.ask(algorithm)); err != nil {
			t.Errorf("%s: %v", algorithm, err)
		}
	}
	high := s.ask("ES256")
	high.Sealed = true
	if _, err := s.kid(high); !errors.Is(err, source.ErrIdentity) || !strings.Contains(err.Error(), "helper") {
		t.Errorf("class high with a key in a file: %v", err)
	}
	if _, err := s.book.Sign(t.Context(), "support", s.ask("ES256")); !errors.Is(err, source.ErrIdentity) {
		t.Errorf("another unit: %v", err)
	}
}

// TestHelper: a key in a helper signs, for class high too, and what the helper says wrongly is an error.
func TestHelper(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	must(t, err)
	reference, err := federation.NewHelper(filepath.Join(t.TempDir(), "keys"), "")
	must(t, err)
	jwk, err := reference.NewKey("research", "ES256")
	must(t, err)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); reference.Serve(ctx, l) }()
	t.Cleanup(func() { stop(); <-done })

	s := newSite(t, &Helper{Socket: socket})
	s.pin(statement.FederationKey{Custodian: "c1", JWK: jwk, NotBefore: now, NotAfter: now.Add(time.Hour)})
	high := s.ask("ES256")
	high.Sealed = true
	if _, err := s.kid(high); err != nil {
		t.Fatal(err)
	}
	if names, _ := filepath.Glob(s.dir.Path("*")); len(names) > 0 {
		t.Errorf("the custodian keeps %v", names)
	}

	for _, answer := range []string{"", "{}\n", `{"error":"locked"}` + "\n", `{"keys":[{"id":"1","jwk":{"kty":"oct","k":"AAAA"}}]}` + "\n", strings.Repeat("x", 100<<10), "null\n"} {
		l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
		must(t, err)
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				io.WriteString(c, answer)
				c.Close()
			}
		}()
		s.book.helper = &Helper{Socket: l.Addr().String()}
		if _, err := s.kid(high); err == nil {
			t.Errorf("%.30q was taken for an answer", answer)
		}
		l.Close()
	}
}

// TestFiles: what others could read, or another identity sealed, or is no key, is told and left out.
func TestFiles(t *testing.T) {
	s := newSite(t, nil)
	k := s.make("ES256")
	s.pin(k)
	paths, err := filepath.Glob(s.dir.Path("research/*.age"))
	must(t, err)
	if diff := cmp.Diff(paths, s.rewrapped); diff != "" {
		t.Errorf("a key that was opened is kept for the newest identity: %s", diff)
	}
	sealed, err := os.ReadFile(paths[0])
	must(t, err)
	if bytes.Contains(sealed, []byte("PRIVATE")) || len(paths) != 1 {
		t.Errorf("%v", paths)
	}
	must(t, os.Chmod(paths[0], 0o644))
	if err := s.book.Reread(); !errors.Is(err, state.ErrExposed) {
		t.Errorf("readable by others: %v", err)
	}
	if _, err := s.kid(s.ask("ES256")); !errors.Is(err, source.ErrIdentity) {
		t.Errorf("%v", err)
	}
	must(t, os.Chmod(paths[0], 0o600))
	must(t, s.book.Reread())
	if _, err := s.kid(s.ask("ES256")); err != nil {
		t.Error(err)
	}
	other, err := age.GenerateX25519Identity()
	must(t, err)
	_, err = federation.NewKey(string(s.dir), "research", "ES256", other.Recipient().String())
	must(t, err)
	if err := s.book.Reread(); err == nil || !strings.Contains(err.Error(), "another") && !strings.Contains(err.Error(), "not encrypted to this") {
		t.Errorf("%v", err)
	}
	if _, err := s.kid(s.ask("ES256")); err != nil {
		t.Errorf("the good one is used all the same: %v", err)
	}
}

// TestPublish: the files are what the statement pins, to the byte.
func TestPublish(t *testing.T) {
	s := newSite(t, nil)
	s.pin(s.make("ES256"), s.make("ES256"))
	folder := t.TempDir()
	must(t, s.book.Publish(folder))
	for name, want := range map[string][]byte{"jwks.json": s.custody.Federation.JWKS(), ".well-known/openid-configuration": s.custody.Federation.Discovery()} {
		path := filepath.Join(folder, "research", name)
		got, err := os.ReadFile(path)
		info, err2 := os.Stat(path)
		if err != nil || err2 != nil || !bytes.Equal(got, want) || info.Mode().Perm() != 0o644 {
			t.Errorf("%s: %v %v", path, err, info)
		}
	}
}
