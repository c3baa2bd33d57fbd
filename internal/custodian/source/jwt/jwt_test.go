package jwt

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"testing"
)

func block(kind string, der []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func pkcs8(key any) []byte {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return block("PRIVATE KEY", der, err)
}

// TestSign verifies with the standard library alone (RFC 7515, section 5.2; RFC 7518, section 3).
func TestSign(t *testing.T) {
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p256, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	public, ed, _ := ed25519.GenerateKey(rand.Reader)
	sec1, err := x509.MarshalECPrivateKey(p256)
	ec := func(key *ecdsa.PublicKey) func(sum, sig []byte) bool {
		return func(sum, sig []byte) bool {
			n := len(sig) / 2
			return ecdsa.Verify(key, sum, new(big.Int).SetBytes(sig[:n]), new(big.Int).SetBytes(sig[n:]))
		}
	}
	for _, tt := range []struct {
		text      []byte
		algorithm string
		want      string
		verify    func(sum, sig []byte) bool
	}{
		{pkcs8(r), "", "RS256", func(sum, sig []byte) bool { return rsa.VerifyPKCS1v15(&r.PublicKey, crypto.SHA256, sum, sig) == nil }},
		{block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(r), nil), "PS256", "PS256", func(sum, sig []byte) bool {
			return rsa.VerifyPSS(&r.PublicKey, crypto.SHA256, sum, sig, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
		}},
		{pkcs8(p256), "", "ES256", ec(&p256.PublicKey)},
		{block("EC PRIVATE KEY", sec1, err), "ES256", "ES256", ec(&p256.PublicKey)},
		{pkcs8(p384), "", "ES384", ec(&p384.PublicKey)},
		{pkcs8(ed), "", "EdDSA", nil},
	} {
		key, err := Key(tt.text)
		if err != nil {
			t.Fatalf("%s: %v", tt.want, err)
		}
		text, err := Sign(key, tt.algorithm, "k1", map[string]any{"iss": "me"})
		if err != nil {
			t.Fatalf("%s: %v", tt.want, err)
		}
		parts := strings.Split(string(text), ".")
		head, _ := base64.RawURLEncoding.DecodeString(parts[0])
		body, _ := base64.RawURLEncoding.DecodeString(parts[1])
		sig, _ := base64.RawURLEncoding.DecodeString(parts[2])
		var h map[string]string
		if json.Unmarshal(head, &h) != nil || h["alg"] != tt.want || h["kid"] != "k1" || h["typ"] != "JWT" || string(body) != `{"iss":"me"}` {
			t.Errorf("%s: header %s, claims %s", tt.want, head, body)
		}
		signed := []byte(parts[0] + "." + parts[1])
		ok := false
		switch {
		case tt.verify == nil:
			ok = ed25519.Verify(public, signed, sig)
		case tt.want == "ES384":
			sum := sha512.Sum384(signed)
			ok = tt.verify(sum[:], sig)
		default:
			sum := sha256.Sum256(signed)
			ok = tt.verify(sum[:], sig)
		}
		if !ok {
			t.Errorf("%s: the signature is not good", tt.want)
		}
	}
}

func TestRefusedKeys(t *testing.T) {
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Skip(err) // the toolchain refuses them by itself
	}
	p521, _ := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	p256, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	agreement, _ := ecdh.X25519().GenerateKey(rand.Reader)
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	for name, text := range map[string][]byte{
		"nothing": nil, "no PEM": []byte("demo-client-secret-0001"), "a certificate": block("CERTIFICATE", []byte("demo"), nil),
		"damaged": block("PRIVATE KEY", []byte("demo-key-bytes"), nil), "weak": pkcs8(weak), "two": append(pkcs8(ed), pkcs8(ed)...),
		"for agreement": pkcs8(agreement),
	} {
		if _, err := Key(text); !errors.Is(err, ErrKey) || strings.Contains(err.Error(), "demo") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, c := range []struct {
		key       crypto.Signer
		algorithm string
	}{{p521, ""}, {p256, "RS256"}, {ed, "ES256"}, {ed, "none"}} {
		if _, err := Sign(c.key, c.algorithm, "", nil); !errors.Is(err, ErrKey) {
			t.Errorf("%T with %q: %v", c.key, c.algorithm, err)
		}
	}
}

func FuzzKey(f *testing.F) {
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	f.Add(pkcs8(ed))
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----"))
	f.Fuzz(func(t *testing.T, text []byte) {
		key, err := Key(text)
		if err != nil && (!errors.Is(err, ErrKey) || len(err.Error()) > 200) {
			t.Error(err)
		}
		if err == nil {
			Sign(key, "", "", map[string]any{"iss": "me"})
		}
	})
}
