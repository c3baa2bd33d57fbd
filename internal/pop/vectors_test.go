package pop

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write docs/formats/vectors anew")

func decode(t *testing.T, text string) []byte {
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The signatures of RFC 9421 appendix B.2.4 and B.2.6, over the bases that are printed there, with the public keys of B.1.
func TestRFC9421(t *testing.T) {
	for _, c := range []struct{ name, key, base, signature string }{
		{"ed25519", "MCowBQYDK2VwAyEAJrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs=",
			`"date": Tue, 20 Apr 2021 02:07:55 GMT` + "\n" + `"@method": POST` + "\n" + `"@path": /foo` + "\n" + `"@authority": example.com` + "\n" +
				`"content-type": application/json` + "\n" + `"content-length": 18` + "\n" +
				`"@signature-params": ("date" "@method" "@path" "@authority" "content-type" "content-length");created=1618884473;keyid="test-key-ed25519"`,
			"wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw=="},
		{"p256", "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEqIVYZVLCrPZHGHjP17CTW0/+D9Lfw0EkjqF7xB4FivAxzic30tMM4GF+hR6Dxh71Z50VGGdldkkDXZCnTNnoXQ==",
			`"@status": 200` + "\n" + `"content-type": application/json` + "\n" +
				`"content-digest": sha-512=:mEWXIS7MaLRuGgxOBdODa3xqM1XdEvxoYhvlCFJ41QJgJc4GTsPp29l5oGX69wWdXymyU0rjJuahq4l5aGgfLQ==:` + "\n" + `"content-length": 23` + "\n" +
				`"@signature-params": ("@status" "content-type" "content-digest" "content-length");created=1618884473;keyid="test-key-ecc-p256"`,
			"wNmSUAhwb5LxtOtOpNa6W5xj067m5hFrj0XQ4fvpaCLx0NKocgPquLgyahnzDnDAUy5eCdlYUEkLIj+32oiasw=="},
	} {
		key, err := x509.ParsePKIXPublicKey(decode(t, c.key))
		if err != nil {
			t.Fatal(err)
		}
		if !verify(key, []byte(c.base), decode(t, c.signature)) {
			t.Errorf("%s: the signature does not hold", c.name)
		}
		if verify(key, []byte(strings.Replace(c.base, "application", "applicatiom", 1)), decode(t, c.signature)) {
			t.Errorf("%s: another message's signature holds", c.name)
		}
	}
}

// RFC 9530 appendix D (as in RFC 9421 section B.2), RFC 8037 appendix A.3, RFC 9449 section 6.1.
func TestRFCDigestAndThumbprints(t *testing.T) {
	if got, want := Digest([]byte(`{"hello": "world"}`)), "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:"; got != want {
		t.Errorf("digest %s, want %s", got, want)
	}
	for want, j := range map[string]jwk{
		"kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k": {"Ed25519", "OKP", "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", ""},
		"0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I": {"P-256", "EC", "l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs", "9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA"},
	} {
		key, err := j.key()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Thumbprint(key); err != nil || got != want {
			t.Errorf("thumbprint %s, want %s (%v)", got, want, err)
		}
	}
}

// vector is one signed request, for other implementations.
type vector struct {
	Name   string            `json:"name"`
	Method string            `json:"method"`
	URL    string            `json:"url"`
	Body   string            `json:"body"`
	Header map[string]string `json:"header"`
	Base   string            `json:"base,omitempty"`
	Error  string            `json:"error,omitempty"`
}

type vectors struct {
	Seed       string   `json:"seed"` // hex, of the Ed25519 key: 32 bytes that count up
	JWK        string   `json:"jwk"`
	Thumbprint string   `json:"thumbprint"`
	Now        int64    `json:"now"`
	Requests   []vector `json:"requests"`
}

func makeVectors(t *testing.T) *vectors {
	seed := make([]byte, ed25519.SeedSize)
	for i := range seed {
		seed[i] = byte(i)
	}
	now := time.Unix(1_800_000_000, 0)
	s := newSigner(t, ed25519.NewKeyFromSeed(seed))
	c, err := canonical(s.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	v := &vectors{Seed: "000102…1f", JWK: string(c), Thumbprint: s.id, Now: now.Unix()}
	add := func(name string, m *message, terms Terms, cover []string, alter func(*message)) {
		p := &Proof{Terms: terms, KeyID: s.id, ClientNonce: "EBESExQVFhcYGRobHB0eHw", Created: now, Expires: now.Add(Life)}
		if err := s.sign(p, m.request(), cover, m.header.Set); err != nil {
			t.Fatal(err)
		}
		if alter != nil {
			alter(m)
		}
		x := vector{Name: name, Method: m.method, URL: m.url, Body: string(m.body), Header: map[string]string{}}
		for field := range m.header {
			x.Header[field] = m.header.Get(field)
		}
		parsed, err := check(m, now)
		switch {
		case err == nil:
			x.Base = parsed.base
		case errors.Is(err, ErrMalformed):
			x.Error = "malformed"
		case errors.Is(err, ErrDigest):
			x.Error = "digest"
		case errors.Is(err, ErrSignature):
			x.Error = "signature"
		}
		v.Requests = append(v.Requests, x)
	}
	get := func() *message {
		return &message{"GET", "https://gw.example/v1/models/a?x=%20y", http.Header{"Accept": {"*/*"}, "Authorization": {"Bearer some.token.here"}}, nil}
	}
	add("a call", newMessage(), someTerms(), []string{"anthropic-version"}, nil)
	add("without a body", get(), Terms{Credential: "fast", Audience: "c1", Nonce: someTerms().Nonce, Fallbacks: []string{"research-openai", "research-anthropic"}}, nil, nil)
	add("another body", newMessage(), someTerms(), nil, func(m *message) { m.body = []byte(`{"model":"demo-large"}`) })
	add("another query", newMessage(), someTerms(), nil, func(m *message) { m.url += "&a=b" })
	add("another credential", newMessage(), someTerms(), nil, func(m *message) { m.header.Set(FieldCredential, "research-anthropic") })
	add("a parameter more", newMessage(), someTerms(), nil, func(m *message) { m.header.Set(FieldInput, m.header.Get(FieldInput)+`;alg="ed25519"`) })
	return v
}

func TestVectors(t *testing.T) {
	file := filepath.Join("..", "..", "docs", "formats", "vectors", "proof.json")
	made := makeVectors(t)
	if *update {
		b, err := json.MarshalIndent(made, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var kept vectors
	if err := json.Unmarshal(b, &kept); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(&kept, made); d != "" {
		t.Fatalf("what the code writes is not what the vectors say (go test -run Vectors -update, if that is meant):\n%s", d)
	}
	if len(kept.Requests) != 6 || kept.Requests[0].Base == "" || kept.Requests[5].Error != "malformed" {
		t.Errorf("the vectors are not what they should be: %+v", kept)
	}
}

// Any curve point encoding but the canonical one is refused.
func TestKeyForms(t *testing.T) {
	good, ok := keys(t)["p256"].Public().(*ecdsa.PublicKey)
	if !ok {
		t.Fatal("no P-256 key")
	}
	c, err := canonical(good)
	if err != nil {
		t.Fatal(err)
	}
	field := func(json string) string { return base64.RawURLEncoding.EncodeToString([]byte(json)) }
	if _, err := parseJWK(field(string(c))); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"spaces":             field(strings.ReplaceAll(string(c), ",", ", ")),
		"off the curve":      field(`{"crv":"P-256","kty":"EC","x":"` + strings.Repeat("A", 43) + `","y":"` + strings.Repeat("A", 43) + `"}`),
		"padded":             field(string(c)) + "=",
		"another order":      field(`{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`),
		"a y that should go": field(`{"crv":"Ed25519","kty":"OKP","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","y":"AA"}`),
		"RSA":                field(`{"e":"AQAB","kty":"RSA","n":"AA"}`),
		"no JSON":            field(`x`),
		"huge":               strings.Repeat("A", maxJWK+1),
		"empty":              "",
	} {
		if _, err := parseJWK(text); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
