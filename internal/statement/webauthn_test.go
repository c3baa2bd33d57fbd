package statement_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/reevehq/reeve/internal/estate/estatetest"
	"github.com/reevehq/reeve/internal/statement"
)

func TestPasskeySignatures(t *testing.T) {
	for _, ed := range []bool{true, false} {
		for name, c := range map[string]struct {
			synced string
			edit   func(*estatetest.Ceremony)
			want   statement.Approval
		}{
			"of a device": {"", func(*estatetest.Ceremony) {}, statement.Approval{Authenticator: "passkey"}},
			"synced, where that is accepted": {"accepted", func(c *estatetest.Ceremony) { c.Flags |= 0x18 },
				statement.Approval{Authenticator: "synced-passkey"}},
			"without a port":         {"", func(c *estatetest.Ceremony) { c.Client["origin"] = "https://localhost" }, statement.Approval{Authenticator: "passkey"}},
			"of a browser that adds": {"", func(c *estatetest.Ceremony) { c.Client["other_keys_can_be_added_here"] = "…" }, statement.Approval{Authenticator: "passkey"}},
			"of one that says less":  {"", func(c *estatetest.Ceremony) { delete(c.Client, "crossOrigin") }, statement.Approval{Authenticator: "passkey"}},
		} {
			t.Run(fmt.Sprint(name, " ed=", ed), func(t *testing.T) {
				p := estatetest.NewPasskey(t, ed)
				k := p.Key(t, "ada-1")
				k.Synced = c.synced
				ceremony := estatetest.NewCeremony(statement.Challenge("t", []byte("m")))
				c.edit(ceremony)
				s := p.Sign(t, "ada-1", ceremony)
				c.want.KeyID, c.want.Type, c.want.AAL, c.want.Counter, c.want.UserPresent, c.want.UserVerified = "ada-1", "webauthn", 2, 7, true, true
				got, err := k.Verify("t", []byte("m"), &s)
				if err != nil || got != c.want {
					t.Errorf("%+v, %v", got, err)
				}
				if _, err := k.Verify("t", []byte("n"), &s); err == nil || !strings.Contains(err.Error(), "challenge") {
					t.Errorf("over something else: %v", err)
				}
				for _, part := range [][]byte{s.Sig, s.WebAuthn.AuthenticatorData, s.WebAuthn.ClientData} {
					for i := range part {
						part[i] ^= 1
						if _, err := k.Verify("t", []byte("m"), &s); err == nil {
							t.Errorf("holds with a byte changed at %d", i)
						}
						part[i] ^= 1
					}
				}
			})
		}
	}
}

func TestPasskeySignatureRefused(t *testing.T) {
	text := func(c *estatetest.Ceremony, format string, args ...any) {
		b, err := json.Marshal(c.Client)
		must(t, err)
		c.ClientJSON = fmt.Sprintf(strings.Replace(string(b), "{", format, 1), args...)
	}
	for name, c := range map[string]struct {
		want string
		edit func(*estatetest.Ceremony)
	}{
		"another relying party":          {"another relying party", func(c *estatetest.Ceremony) { c.RelyingParty = "reeve.example" }},
		"user not present":               {"did not verify", func(c *estatetest.Ceremony) { c.Flags = 0x04 }},
		"user not verified":              {"did not verify", func(c *estatetest.Ceremony) { c.Flags = 0x01 }},
		"a synced passkey":               {"synced one", func(c *estatetest.Ceremony) { c.Flags |= 0x08 }},
		"a synced passkey, backed up":    {"synced one", func(c *estatetest.Ceremony) { c.Flags |= 0x18 }},
		"backed up and not eligible":     {"contradict", func(c *estatetest.Ceremony) { c.Flags |= 0x10 }},
		"extensions announced":           {"contradict", func(c *estatetest.Ceremony) { c.Flags |= 0x80 }},
		"a credential announced":         {"contradict", func(c *estatetest.Ceremony) { c.Flags |= 0x40 }},
		"extensions":                     {"37 bytes", func(c *estatetest.Ceremony) { c.Extra = []byte{0xa0} }},
		"a registration":                 {"not webauthn.get", func(c *estatetest.Ceremony) { c.Client["type"] = "webauthn.create" }},
		"a payment":                      {"not webauthn.get", func(c *estatetest.Ceremony) { c.Client["type"] = "payment.get" }},
		"no type":                        {"not webauthn.get", func(c *estatetest.Ceremony) { delete(c.Client, "type") }},
		"a page of the web":              {"not by one of this machine", func(c *estatetest.Ceremony) { c.Client["origin"] = "https://reeve.example" }},
		"a page whose name begins alike": {"not by one of this machine", func(c *estatetest.Ceremony) { c.Client["origin"] = "http://localhost.example" }},
		"a page of a name below":         {"not by one of this machine", func(c *estatetest.Ceremony) { c.Client["origin"] = "http://a.localhost:80" }},
		"a page by address":              {"not by one of this machine", func(c *estatetest.Ceremony) { c.Client["origin"] = "http://127.0.0.1:7800" }},
		"a page with a path":             {"not by one of this machine", func(c *estatetest.Ceremony) { c.Client["origin"] = "http://localhost:7800/" }},
		"a page with a user":             {"not by one of this machine", func(c *estatetest.Ceremony) { c.Client["origin"] = "http://localhost:7800@a" }},
		"port 0":                         {"not by one of this machine", func(c *estatetest.Ceremony) { c.Client["origin"] = "http://localhost:0" }},
		"no port":                        {"not by one of this machine", func(c *estatetest.Ceremony) { c.Client["origin"] = "http://localhost:" }},
		"a port in another spelling":     {"not by one of this machine", func(c *estatetest.Ceremony) { c.Client["origin"] = "http://localhost:080" }},
		"an application":                 {"not by one of this machine", func(c *estatetest.Ceremony) { c.Client["origin"] = "android:apk-key-hash:x" }},
		"a page within another":          {"within another", func(c *estatetest.Ceremony) { c.Client["crossOrigin"] = true }},
		"a page within one not said":     {"within another", func(c *estatetest.Ceremony) { c.Client["crossOrigin"] = "false" }},
		"a page within a named one":      {"within another", func(c *estatetest.Ceremony) { c.Client["topOrigin"] = "http://localhost:1" }},
		"another challenge": {"challenge", func(c *estatetest.Ceremony) {
			c.Client["challenge"] = base64.RawURLEncoding.EncodeToString(make([]byte, 32))
		}},
		"a challenge in another form": {"challenge", func(c *estatetest.Ceremony) { c.Client["challenge"] = c.Client["challenge"].(string) + "=" }},
		"a member twice":              {"comes twice", func(c *estatetest.Ceremony) { text(c, `{"type":"webauthn.create",`) }},
		"a member in other letters":   {"not webauthn.get", func(c *estatetest.Ceremony) { c.Client["Type"] = "webauthn.get"; delete(c.Client, "type") }},
		"no object":                   {"cannot be read", func(c *estatetest.Ceremony) { c.ClientJSON = "[]" }},
		"half an object":              {"cannot be read", func(c *estatetest.Ceremony) { c.ClientJSON = `{"type":"webauthn.get"` }},
		"something after the object":  {"cannot be read", func(c *estatetest.Ceremony) { text(c, "{"); c.ClientJSON += "{}" }},
		"endless client data":         {"more than 2048", func(c *estatetest.Ceremony) { text(c, `{"x":"%s",`, strings.Repeat("x", 2048)) }},
	} {
		t.Run(name, func(t *testing.T) {
			p := estatetest.NewPasskey(t, false)
			k, ceremony := p.Key(t, "ada-1"), estatetest.NewCeremony(statement.Challenge("t", []byte("m")))
			c.edit(ceremony)
			s := p.Sign(t, "ada-1", ceremony)
			if _, err := k.Verify("t", []byte("m"), &s); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("want %q, got %v", c.want, err)
			}
		})
	}
	p, other := estatetest.NewPasskey(t, true), estatetest.NewPasskey(t, true)
	k := p.Key(t, "ada-1")
	s := other.Sign(t, "ada-1", estatetest.NewCeremony(statement.Challenge("t", []byte("m"))))
	if _, err := k.Verify("t", []byte("m"), &s); err == nil || !strings.Contains(err.Error(), "another key") {
		t.Errorf("another passkey: %v", err)
	}
	if s.WebAuthn = nil; true {
		if _, err := k.Verify("t", []byte("m"), &s); err == nil {
			t.Error("a signature without its assertion holds")
		}
	}
}

func TestPasskeyKeyRefused(t *testing.T) {
	p := estatetest.NewPasskey(t, false)
	for name, c := range map[string]struct {
		want string
		edit func(*statement.Key)
	}{
		"no credential":             {"names no credential", func(k *statement.Key) { k.Credential = "" }},
		"a credential with padding": {"names no credential", func(k *statement.Key) { k.Credential += "==" }},
		"a credential without end":  {"names no credential", func(k *statement.Key) { k.Credential = strings.Repeat("A", 1368) }},
		"a credential over lines":   {"names no credential", func(k *statement.Key) { k.Credential = k.Credential[:4] + "\n" + k.Credential[4:] }},
		"syncing in another word":   {"syncing", func(k *statement.Key) { k.Synced = "yes" }},
		"no key":                    {"SubjectPublicKeyInfo", func(k *statement.Key) { k.Public = "" }},
		"a key over lines":          {"one encoding", func(k *statement.Key) { k.Public = k.Public[:4] + "\n" + k.Public[4:] }},
		"a key that is no base64":   {"base64", func(k *statement.Key) { k.Public = "-" }},
		"a key that cannot verify":  {"cannot verify its user", func(k *statement.Key) { k.RequireUserVerification = true }},
		"an RSA key":                {"neither Ed25519 nor ECDSA", func(k *statement.Key) { k.Public = rsaSPKI(t) }},
		"an OpenSSH key as passkey": {"base64", func(k *statement.Key) { k.Public = sshKey(t, "ssh-ed25519", "").line() }},
		"a passkey as OpenSSH's":    {"begins with", func(k *statement.Key) { k.Type = "ssh" }},
		"a passkey as a key file's": {"32 bytes", func(k *statement.Key) { k.Type = "ed25519" }},
		"a key with something after": {"SubjectPublicKeyInfo", func(k *statement.Key) {
			b, err := base64.StdEncoding.DecodeString(k.Public)
			must(t, err)
			k.Public = base64.StdEncoding.EncodeToString(append(b, 0))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			k := p.Key(t, "ada-1")
			s := p.Sign(t, "ada-1", estatetest.NewCeremony(statement.Challenge("t", []byte("m"))))
			if _, err := k.Verify("t", []byte("m"), &s); err != nil {
				t.Fatal(err)
			}
			c.edit(&k)
			if _, err := k.Verify("t", []byte("m"), &s); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("want %q, got %v", c.want, err)
			}
		})
	}
}

func rsaSPKI(t *testing.T) string {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	der, err := x509.MarshalPKIXPublicKey(&k.PublicKey)
	must(t, err)
	return base64.StdEncoding.EncodeToString(der)
}

// What is read as client data is read alike by another reader of JSON.
func FuzzClientData(f *testing.F) {
	challenge := statement.Challenge("t", []byte("m"))
	c := estatetest.NewCeremony(challenge)
	b, err := json.Marshal(c.Client)
	must(f, err)
	f.Add(b)
	f.Add(bytes.Replace(b, []byte("{"), []byte(`{"type":"x",`), 1))
	f.Add(bytes.Replace(b, []byte("webauthn"), []byte(`web\u0061uthn`), 1))
	p := estatetest.NewPasskey(f, true)
	k := p.Key(f, "ada-1")
	f.Fuzz(func(t *testing.T, client []byte) {
		c := *c
		c.ClientJSON = string(client)
		if len(client) == 0 {
			return
		}
		s := p.Sign(t, "ada-1", &c)
		if _, err := k.Verify("t", []byte("m"), &s); err != nil {
			return
		}
		var v map[string]any
		if err := json.Unmarshal(client, &v); err != nil || v["type"] != "webauthn.get" || v["challenge"] != base64.RawURLEncoding.EncodeToString(challenge[:]) || v["crossOrigin"] == true {
			t.Errorf("%s: %v %v", client, v, err)
		}
	})
}
