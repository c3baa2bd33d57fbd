package pop

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"maps"
	"math/big"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// keys is one key of each type.
func keys(t testing.TB) map[string]crypto.Signer {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]crypto.Signer{"ed25519": ed, "p256": p256}
}

func newSigner(t testing.TB, key crypto.Signer) *Signer {
	s, err := NewSigner(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// message is a request as the tests change it.
type message struct {
	method, url string
	header      http.Header
	body        []byte
}

func newMessage() *message {
	return &message{"POST", "https://gw.example/v1/chat/completions?beta=true", http.Header{
		"Content-Type": {"application/json"}, "Accept": {"application/json"}, "Authorization": {"Bearer some.token.here"},
		"Anthropic-Version": {"2023-06-01"}, "User-Agent": {"sdk/1"},
	}, []byte(`{"model":"demo-small"}`)}
}

func (m *message) request() *Request { return &Request{m.method, m.url, m.header.Values, m.body} }

func (m *message) clone() *message {
	return &message{m.method, m.url, m.header.Clone(), slices.Clone(m.body)}
}

func someTerms() Terms {
	return Terms{Credential: "research-openai", Audience: "c1", Nonce: "AAAAAGkisAAAAAAAAAAAAAAAAAAAAAAA"}
}

func signed(t testing.TB, key crypto.Signer, terms Terms, now time.Time) *message {
	m := newMessage()
	if err := newSigner(t, key).Sign(m.request(), terms, []string{"Anthropic-Version"}, now, m.header.Set); err != nil {
		t.Fatal(err)
	}
	return m
}

func check(m *message, now time.Time) (*Proof, error) {
	p, err := Parse(m.request())
	if err != nil {
		return nil, err
	}
	return p, p.Verify(now)
}

func TestSignAndVerify(t *testing.T) {
	now := time.Now()
	for name, key := range keys(t) {
		for _, terms := range []Terms{someTerms(), {Credential: "fast", Audience: "c1", Nonce: "n", Fallbacks: []string{"a", "b"}}} {
			p, err := check(signed(t, key, terms, now), now)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if d := cmp.Diff(terms, p.Terms); d != "" {
				t.Error(d)
			}
			want, err := Thumbprint(key.Public())
			if err != nil || p.KeyID != want || p.Chain != nil {
				t.Errorf("%s: key %s, want %s (%v)", name, p.KeyID, want, err)
			}
			if d := cmp.Diff([]string{"accept", "anthropic-version", "authorization", "content-type"}, p.Headers); d != "" {
				t.Error(d)
			}
			if !p.Covers("Anthropic-Version") || p.Covers("User-Agent") {
				t.Error("it covers what it does not, or does not what it does")
			}
			if p.Expires.Sub(p.Created) > Life || p.Created.After(now) || now.After(p.Expires) {
				t.Errorf("from %s to %s", p.Created, p.Expires)
			}
		}
	}
}

func TestAlterations(t *testing.T) {
	now := time.Now()
	replace := func(field, old, with string) func(*message) {
		return func(m *message) {
			v := m.header.Get(field)
			if !strings.Contains(v, old) {
				panic(field + " has no " + old)
			}
			m.header.Set(field, strings.Replace(v, old, with, 1))
		}
	}
	set := func(field, value string) func(*message) { return func(m *message) { m.header.Set(field, value) } }
	add := func(field, value string) func(*message) { return func(m *message) { m.header.Add(field, value) } }
	del := func(field string) func(*message) { return func(m *message) { m.header.Del(field) } }
	ks := keys(t)
	another := signed(t, keys(t)["ed25519"], someTerms(), now)
	for _, c := range []struct {
		name  string
		alter func(*message)
		err   error
	}{
		{"nothing", func(*message) {}, nil},
		{"a field that is not covered", set("User-Agent", "other"), nil},
		{"the method", func(m *message) { m.method = "GET" }, ErrSignature},
		{"the path", func(m *message) { m.url = strings.Replace(m.url, "chat", "chat%2f", 1) }, ErrSignature},
		{"the query", func(m *message) { m.url = strings.TrimSuffix(m.url, "?beta=true") }, ErrSignature},
		{"the host", func(m *message) { m.url = strings.Replace(m.url, "gw.", "gx.", 1) }, ErrSignature},
		{"the scheme", func(m *message) { m.url = strings.Replace(m.url, "https", "http", 1) }, ErrSignature},
		{"the body", func(m *message) { m.body[3] ^= 1 }, ErrDigest},
		{"no body", func(m *message) { m.body = nil }, ErrDigest},
		{"the body with its digest", func(m *message) { m.body = []byte("{}"); m.header.Set(FieldDigest, Digest(m.body)) }, ErrSignature},
		{"a digest of another kind", set(FieldDigest, "sha-512=:AAAA:"), ErrDigest},
		{"no digest", del(FieldDigest), ErrMalformed},
		{"the token", set("Authorization", "Bearer other.token.here"), ErrSignature},
		{"no token", del("Authorization"), ErrMalformed},
		{"the credential", set(FieldCredential, "research-anthropic"), ErrSignature},
		{"the audience", set(FieldAudience, "c2"), ErrSignature},
		{"the custodian's nonce", set(FieldNonce, "AAAA"), ErrSignature},
		{"no nonce", del(FieldNonce), ErrMalformed},
		{"an empty credential", set(FieldCredential, ""), ErrMalformed},
		{"two credentials", add(FieldCredential, "research-openai"), ErrMalformed},
		{"a fallback", set(FieldFallbacks, "research-anthropic"), ErrMalformed},
		{"the content type", set("Content-Type", "text/plain"), ErrSignature},
		{"a second content type", add("Content-Type", "application/json"), ErrMalformed},
		{"no accept", del("Accept"), ErrMalformed},
		{"a covered field", set("Anthropic-Version", "2024-01-01"), ErrSignature},
		{"a covered field without it", del("Anthropic-Version"), ErrMalformed},
		{"accept not covered", replace(FieldInput, `"accept" `, ""), ErrMalformed},
		{"authorization not covered", replace(FieldInput, `"authorization" `, ""), ErrMalformed},
		{"a field less", replace(FieldInput, `"anthropic-version" `, ""), ErrSignature},
		{"a field more", replace(FieldInput, `"content-type" `, `"content-type" "user-agent" `), ErrSignature},
		{"the order of fields", replace(FieldInput, `"accept" "anthropic-version"`, `"anthropic-version" "accept"`), ErrMalformed},
		{"a field twice", replace(FieldInput, `"accept" `, `"accept" "accept" `), ErrMalformed},
		{"a field in upper case", replace(FieldInput, `"accept"`, `"Accept"`), ErrMalformed},
		{"a field with a parameter", replace(FieldInput, `"accept"`, `"accept";sf`), ErrMalformed},
		{"a reeve field as another", replace(FieldInput, `"content-type" `, `"content-type" "reeve-svid" `), ErrMalformed},
		{"no method", replace(FieldInput, `"@method" `, ""), ErrMalformed},
		{"another derived component", replace(FieldInput, `"@target-uri"`, `"@authority"`), ErrMalformed},
		{"no digest component", replace(FieldInput, `"content-digest" `, ""), ErrMalformed},
		{"two spaces", replace(FieldInput, `"@method" `, `"@method"  `), ErrMalformed},
		{"a space before a parameter", replace(FieldInput, `;expires`, `; expires`), ErrMalformed},
		{"a parameter more", replace(FieldInput, `;tag=`, `;alg="ed25519";tag=`), ErrMalformed},
		{"a parameter after", add(FieldInput, ""), ErrMalformed},
		{"a longer end", func(m *message) { m.header.Set(FieldInput, m.header.Get(FieldInput)+";x=1") }, ErrMalformed},
		{"a second signature", func(m *message) { m.header.Set(FieldInput, m.header.Get(FieldInput)+`, b=("@method")`) }, ErrMalformed},
		{"another label", replace(FieldInput, "reeve=", "sig1="), ErrMalformed},
		{"another tag", replace(FieldInput, Tag, "reeve-pop-v2"), ErrMalformed},
		{"no quotes", replace(FieldInput, `nonce="`, `nonce=`), ErrMalformed},
		{"a nonce too short", func(m *message) {
			i := strings.Index(m.header.Get(FieldInput), `nonce="`) + 7
			v := m.header.Get(FieldInput)
			m.header.Set(FieldInput, v[:i]+v[i+1:])
		}, ErrMalformed},
		{"created later", replace(FieldInput, "created=1", "created=2"), ErrMalformed},
		{"created as a decimal", replace(FieldInput, "created=1", "created=0.1"), ErrMalformed},
		{"created with a zero", replace(FieldInput, "created=1", "created=01"), ErrMalformed},
		{"expires later", replace(FieldInput, ";expires=1", ";expires=11"), ErrMalformed},
		{"a signature of other bytes", set(FieldSignature, "reeve=:"+base64.StdEncoding.EncodeToString(make([]byte, 64))+":"), ErrSignature},
		{"a signature cut", replace(FieldSignature, "reeve=:", "reeve=:AAAA"), ErrMalformed},
		{"no signature", del(FieldSignature), ErrMalformed},
		{"no input", del(FieldInput), ErrMalformed},
		{"another key", set(FieldKey, another.header.Get(FieldKey)), ErrMalformed},
		{"no key", del(FieldKey), ErrMalformed},
		{"two keys", add(FieldKey, another.header.Get(FieldKey)), ErrMalformed},
		{"key and SVID", set(FieldSVID, "AAAA"), ErrMalformed},
		{"a key with a member more", set(FieldKey, base64.RawURLEncoding.EncodeToString([]byte(`{"crv":"Ed25519","kty":"OKP","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","d":""}`))), ErrMalformed},
		{"an SVID that is none", func(m *message) { m.header.Del(FieldKey); m.header.Set(FieldSVID, "AAAA") }, ErrMalformed},
		{"a line break", set("Accept", "a\nb"), ErrMalformed},
		{"another script", set("Accept", "ä"), ErrMalformed},
		{"a space in the URL", func(m *message) { m.url += " x" }, ErrMalformed},
		{"a line in the method", func(m *message) { m.method = "POST\n\"a\": b" }, ErrMalformed},
		{"another's signature, whole", func(m *message) { maps.Copy(m.header, another.header) }, nil}, // whose key it is the caller judges
	} {
		t.Run(c.name, func(t *testing.T) {
			for kind, key := range ks {
				m := signed(t, key, someTerms(), now)
				c.alter(m)
				if _, err := check(m, now); !errors.Is(err, c.err) || c.err == nil && err != nil {
					t.Errorf("%s: got %v, want %v", kind, err, c.err)
				}
			}
		})
	}
}

func TestTimes(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	m := signed(t, keys(t)["ed25519"], someTerms(), now)
	for _, c := range []struct {
		after time.Duration
		err   error
	}{
		{-Skew, nil}, {-Skew - time.Second, ErrTime}, {0, nil}, {Life, nil}, {Life + Skew - 1, nil}, {Life + Skew, ErrTime}, {24 * time.Hour, ErrTime},
	} {
		if _, err := check(m, now.Add(c.after)); !errors.Is(err, c.err) || c.err == nil && err != nil {
			t.Errorf("after %s: got %v, want %v", c.after, err, c.err)
		}
	}
}

// Of every byte of every part that is signed, none can change.
func TestEveryByte(t *testing.T) {
	now := time.Now()
	m := signed(t, keys(t)["ed25519"], someTerms(), now)
	flip := func(s string, i int) string { b := []byte(s); b[i] ^= 1; return string(b) }
	for name := range m.header {
		if name == "User-Agent" {
			continue
		}
		for i := range m.header.Get(name) {
			x := m.clone()
			x.header.Set(name, flip(x.header.Get(name), i))
			if _, err := check(x, now); err == nil {
				t.Fatalf("byte %d of %s can change: %q", i, name, x.header.Get(name))
			}
		}
	}
	for i := range m.url {
		x := m.clone()
		x.url = flip(x.url, i)
		if _, err := check(x, now); err == nil {
			t.Fatalf("byte %d of the URL can change", i)
		}
	}
}

func TestSVID(t *testing.T) {
	for name, key := range keys(t) {
		id, _ := url.Parse("spiffe://acme.example/agent")
		der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1), URIs: []*url.URL{id}, NotAfter: time.Now().Add(time.Hour)}, &x509.Certificate{SerialNumber: big.NewInt(1)}, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		s, err := NewSVIDSigner(key, []*x509.Certificate{leaf, leaf})
		if err != nil {
			t.Fatal(err)
		}
		m, now := newMessage(), time.Now()
		if err := s.Sign(m.request(), someTerms(), nil, now, m.header.Set); err != nil {
			t.Fatal(err)
		}
		p, err := check(m, now)
		if err != nil || len(p.Chain) != 2 || p.Chain[0].URIs[0].String() != id.String() || p.KeyID != s.KeyID() {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
		if _, err := NewSVIDSigner(keys(t)[name], []*x509.Certificate{leaf}); err == nil {
			t.Error("signed with another's SVID")
		}
	}
}

func TestSignRefuses(t *testing.T) {
	s := newSigner(t, keys(t)["ed25519"])
	for name, f := range map[string]func(*message, *Terms) []string{
		"no credential":       func(_ *message, x *Terms) []string { x.Credential = ""; return nil },
		"a field it has not":  func(*message, *Terms) []string { return []string{"X-Other"} },
		"a field twice":       func(m *message, _ *Terms) []string { m.header.Add("Accept", "b"); return nil },
		"a field of its own":  func(*message, *Terms) []string { return []string{"Signature"} },
		"a line break":        func(_ *message, x *Terms) []string { x.Nonce = "a\nb"; return nil },
		"a URL with a space":  func(m *message, _ *Terms) []string { m.url = "https://a b"; return nil },
		"a method of nothing": func(m *message, _ *Terms) []string { m.method = ""; return nil },
	} {
		m, terms := newMessage(), someTerms()
		cover := f(m, &terms)
		if err := s.Sign(m.request(), terms, cover, time.Now(), m.header.Set); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewSigner(p384); err == nil {
		t.Error("a P-384 key signs")
	}
}

func FuzzParse(f *testing.F) {
	now := time.Unix(1_800_000_000, 0) // every worker makes the same signature
	s, m := newSigner(f, ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))), newMessage()
	p := &Proof{Terms: someTerms(), KeyID: s.id, ClientNonce: "EBESExQVFhcYGRobHB0eHw", Created: now, Expires: now.Add(Life)}
	if err := s.sign(p, m.request(), nil, m.header.Set); err != nil {
		f.Fatal(err)
	}
	f.Add(m.header.Get(FieldInput), m.header.Get(FieldSignature), m.header.Get(FieldKey), "")
	f.Add(`reeve=();created=1`, "reeve=::", "e30", "AAAA")
	f.Fuzz(func(t *testing.T, input, signature, key, svid string) {
		x := m.clone()
		x.header.Set(FieldInput, input)
		x.header.Set(FieldSignature, signature)
		x.header.Set(FieldKey, key)
		if svid != "" {
			x.header.Set(FieldSVID, svid)
		}
		p, err := Parse(x.request())
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		if p.Verify(now) == nil && (input != m.header.Get(FieldInput) || signature != m.header.Get(FieldSignature) || key != m.header.Get(FieldKey)) {
			t.Fatalf("a forged signature: %q %q %q", input, signature, key)
		}
	})
}

func BenchmarkSign(b *testing.B) {
	for name, key := range keys(b) {
		b.Run(name, func(b *testing.B) {
			s, m := newSigner(b, key), newMessage()
			for b.Loop() {
				if err := s.Sign(m.request(), someTerms(), nil, time.Now(), m.header.Set); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkVerify(b *testing.B) {
	for name, key := range keys(b) {
		b.Run(name, func(b *testing.B) {
			now := time.Now()
			m := signed(b, key, someTerms(), now)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := check(m, now); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
