package jwks_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/internal/workload/jwks"
)

func TestParse(t *testing.T) {
	ed, _, _ := ed25519.GenerateKey(rand.Reader)
	p256, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	p521, _ := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	large, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	key := func(k any, id, use, alg string) jose.JSONWebKey {
		return jose.JSONWebKey{Key: k, KeyID: id, Use: use, Algorithm: alg}
	}
	text := func(keys ...jose.JSONWebKey) []byte {
		b, err := json.Marshal(jose.JSONWebKeySet{Keys: keys})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for _, c := range []struct {
		name string
		text []byte
		want map[string]string // algorithms by kid
		says string
	}{
		{"every kind", text(key(ed, "a", "sig", "EdDSA"), key(&p256.PublicKey, "b", "", ""), key(&p384.PublicKey, "c", "jwt-svid", ""), key(&large.PublicKey, "d", "sig", "")),
			map[string]string{"a": "EdDSA", "b": "ES256", "c": "ES384", "d": "RS256 PS256"}, ""},
		{"narrowed", text(key(&large.PublicKey, "d", "sig", "RS256")), map[string]string{"d": "RS256"}, ""},
		{"others are left out", text(key(ed, "a", "", ""), key(ed, "e", "enc", ""), key(&p521.PublicKey, "f", "sig", ""), key(ed, "g", "sig", "ES256")), map[string]string{"a": "EdDSA"}, ""},
		{"an unknown type", []byte(`{"keys":[{"kty":"AKP2","kid":"x"},` + strings.TrimSuffix(strings.TrimPrefix(string(text(key(ed, "a", "", ""))), `{"keys":[`), "]}") + `]}`), map[string]string{"a": "EdDSA"}, ""},
		{"none", []byte(`{"keys":[]}`), nil, "no key"},
		{"a private key", text(key(p256, "b", "sig", "")), nil, "private"},
		{"a shared key", text(key([]byte("0123456789abcdef0123456789abcdef"), "b", "sig", "HS256")), nil, "private"},
		{"no JSON", []byte(`keys`), nil, "not JSON"},
		{"huge", []byte(strings.Repeat(" ", jwks.MaxBytes+1)), nil, "bytes"},
		{"very many", []byte(`{"keys":[` + strings.Repeat(`{"kty":"x"},`, 100) + `{}]}`), nil, "more than"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := jwks.Parse(c.text)
			if c.says != "" {
				if err == nil || !strings.Contains(err.Error(), c.says) {
					t.Fatalf("got %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]string{}
			for _, k := range s.Keys {
				got[k.ID] = strings.Join(k.Algorithms, " ")
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestFind(t *testing.T) {
	two := &jwks.Set{Keys: []jwks.Key{{ID: "a", Algorithms: []string{"EdDSA"}}, {ID: "b", Algorithms: []string{"ES256"}}, {ID: "c", Algorithms: []string{"ES256"}}}}
	for _, c := range []struct {
		kid, algorithm string
		want           int
	}{{"a", "EdDSA", 1}, {"a", "ES256", 0}, {"x", "EdDSA", 0}, {"", "EdDSA", 1}, {"", "ES256", 0}, {"b", "none", 0}} {
		if got := len(two.Find(c.kid, c.algorithm)); got != c.want {
			t.Errorf("%+v: %d keys", c, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","kid":"a"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := jwks.Parse(b)
		if err == nil && len(s.Keys)+len(s.Roots) == 0 {
			t.Fatal("a set without keys")
		}
	})
}
