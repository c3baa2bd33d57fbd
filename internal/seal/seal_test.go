package seal

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/reevehq/reeve/internal/statement"
)

func TestSeal(t *testing.T) {
	x, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("k", MaxLen)
	for _, tt := range []struct {
		name, value string
		ok          bool
	}{
		{"a key", "demo-upstream-key-0001", true},
		{"a value with a blank inside", "Basic ZGVtbzpkZW1v", true},
		{"the shortest", strings.Repeat("k", MinLen), true},
		{"the longest", long, true},
		{"too short", strings.Repeat("k", MinLen-1), false},
		{"too long", long + "k", false},
		{"empty", "", false},
		{"a newline at the end", "demo-upstream-key-0001\n", false},
		{"a blank at the end", "demo-upstream-key-0001 ", false},
		{"a header inside", "demo-upstream-key\r\nX: 1", false},
		{"not ASCII", "demo-upstream-schlüssel", false},
		{"a NUL", "demo-upstream-key\x00-0001", false},
	} {
		err := Fit(&statement.Credential{Source: "sealed"}, []byte(tt.value))
		if (err == nil) != tt.ok || err != nil && !errors.Is(err, ErrUnfit) {
			t.Errorf("%s: %v", tt.name, err)
		}
		if err != nil {
			if tt.value != "" && strings.Contains(err.Error(), tt.value) {
				t.Errorf("%s: the error shows the secret: %v", tt.name, err)
			}
			continue
		}
		c, err := Seal(x.Recipient().String(), []byte(tt.value))
		if err != nil {
			t.Fatal(err)
		}
		r, err := age.Decrypt(bytes.NewReader(c), x)
		if err != nil {
			t.Fatal(err)
		}
		if plain, err := io.ReadAll(r); err != nil || string(plain) != tt.value || bytes.Contains(c, []byte(tt.value)) {
			t.Errorf("%s: opens as %q, %v", tt.name, plain, err)
		}
	}
	pem := []byte("-----BEGIN DEMO KEY-----\ndemo\n-----END DEMO KEY-----")
	for _, c := range []statement.Credential{{Source: "vault"}, {Source: "sealed", Inject: statement.Inject{As: "tls"}}} {
		if err := Fit(&c, pem); err != nil || Fit(&c, append(pem, long...)) == nil || Fit(&c, pem[:8]) == nil {
			t.Errorf("%+v: text of several lines: %v, or its length is not looked at", c, err)
		}
	}
	if _, err := Seal("age1notarecipient", []byte("demo-upstream-key-0001")); err == nil {
		t.Error("sealed to nobody")
	}
}
