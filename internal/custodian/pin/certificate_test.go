package pin

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/reevehq/reeve/internal/custodian/guard"
	"github.com/reevehq/reeve/internal/custodian/source"
	"github.com/reevehq/reeve/internal/hop"
	"github.com/reevehq/reeve/internal/secret"
	"github.com/reevehq/reeve/internal/statement"
)

// issue makes a certificate for a key, signed by itself.
func issue(t *testing.T, key crypto.Signer) string {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)},
		&x509.Certificate{}, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func inPEM(t *testing.T, kind string, der []byte, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func TestCertificate(t *testing.T) {
	c := explicit("/v1/a")
	c.Inject = statement.Inject{As: "tls"}
	p := compiled(t, c)
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	rs, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8 := func(key any) string {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		return inPEM(t, "PRIVATE KEY", der, err)
	}
	sec1, err := x509.MarshalECPrivateKey(ec)
	ecChain, ecKey := issue(t, ec), inPEM(t, "EC PRIVATE KEY", sec1, err)
	for name, tt := range map[string]struct {
		key, public string
		certs       int
	}{
		"EC, PKCS 8":   {pkcs8(ec), ecChain, 1},
		"EC, SEC 1":    {ecKey, ecChain, 1},
		"RSA, PKCS 8":  {pkcs8(rs), issue(t, rs), 1},
		"RSA, PKCS 1":  {inPEM(t, "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rs), nil), issue(t, rs), 1},
		"Ed25519":      {pkcs8(ed), issue(t, ed), 1},
		"one text":     {pkcs8(ec) + "\n" + ecChain, "", 1},
		"behind":       {ecChain + pkcs8(ec), "", 1},
		"with issuers": {pkcs8(ec), ecChain + issue(t, ed) + issue(t, rs), 3},
	} {
		s := &source.Secret{Value: secret.New([]byte(tt.key)), Public: tt.public}
		got, err := p.Open(s)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if c := got.Certificate; len(c.Certificate) != tt.certs || time.Until(c.Leaf.NotAfter) > time.Hour || !s.Value.Equal([]byte(tt.key)) {
			t.Errorf("%s: %d certificates until %v", name, len(c.Certificate), c.Leaf.NotAfter)
		}
		// The key would not come back in any of its forms: PEM as it is or wrapped otherwise, DER in hex.
		if got.Patterns.Header([]hop.Field{{Name: "X", Value: ecChain}}) != nil {
			t.Errorf("%s: the certificate would not come back", name)
		}
		for text := []byte(tt.key); ; {
			block, rest := pem.Decode(text)
			if block == nil {
				break
			}
			if text = rest; block.Type == "CERTIFICATE" {
				continue
			}
			for form, v := range map[string]string{"PEM": tt.key, "base64": base64.StdEncoding.EncodeToString(block.Bytes), "hex": hex.EncodeToString(block.Bytes), "DER": string(block.Bytes)} {
				for split := range 3 { // over pieces
					var out bytes.Buffer
					stream := got.Patterns.Stream(&out, "application/octet-stream")
					_, err1 := stream.Write([]byte(v[:len(v)*split/3]))
					_, err2 := stream.Write([]byte(v[len(v)*split/3:]))
					if err := errors.Join(err1, err2, stream.Flush()); !errors.Is(err, guard.ErrReflected) {
						t.Errorf("%s, %s: it would come back: %v", name, form, err)
					}
				}
			}
		}
	}
	for name, tt := range map[string]struct{ key, public string }{
		"nothing":            {"", ""},
		"no certificate":     {pkcs8(ec), ""},
		"no key":             {ecChain, ""},
		"another's":          {pkcs8(ed), ecChain},
		"in the wrong order": {pkcs8(ec), issue(t, ed) + ecChain},
		"two keys":           {pkcs8(ec) + pkcs8(ed), ecChain},
		"a tail":             {pkcs8(ec) + ecChain + "demo-tail-of-a-key", ""},
		"no PEM":             {"demo-tail-of-a-key", ecChain},
		"a public key":       {"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n" + pkcs8(ec), ecChain},
	} {
		_, err := p.Open(&source.Secret{Value: secret.New([]byte(tt.key)), Public: tt.public})
		if !errors.Is(err, ErrRefused) || strings.Contains(err.Error(), "demo-tail") || strings.Contains(err.Error(), "BEGIN") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzCertificate: whatever is handed over, what comes of it is whole or refused, and the text is left as it was.
func FuzzCertificate(f *testing.F) {
	for _, s := range []string{"", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"} {
		f.Add(s, s)
	}
	c := explicit("/v1/a")
	c.Inject = statement.Inject{As: "tls"}
	p, err := Compile(c)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, value, public string) {
		s := &source.Secret{Value: secret.New([]byte(value)), Public: public}
		parts, err := p.Open(s)
		if (parts == nil) == (err == nil) || err == nil && (parts.Patterns == nil || parts.Certificate.Leaf == nil) {
			t.Errorf("%+v, %v", parts, err)
		}
		if !s.Value.Equal([]byte(value)) {
			t.Error("the text was changed")
		}
	})
}
