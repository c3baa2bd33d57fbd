// Package securitykey signs with OpenSSH's keys on security keys: the real ssh-keygen, and a security key in software.
package securitykey

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/need"
	"github.com/reevehq/reeve/internal/statement"
)

func TestSecurityKeys(t *testing.T) {
	need.Part(t, "ssh-keygen", "cc", "linux")
	provider := filepath.Join(t.TempDir(), "provider.so")
	build := exec.Command("go", "build", "-buildmode=c-shared", "-o", provider, "./provider")
	build.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the security key: %v: %s", err, out)
	}
	t.Setenv("SSH_SK_PROVIDER", provider)
	t.Setenv("SSH_ASKPASS", "/bin/true") // the PIN is empty: the key takes any
	t.Setenv("SSH_ASKPASS_REQUIRE", "force")

	touched := statement.Approval{KeyID: "ada-1", Type: "ssh", Authenticator: "security-key", UserPresent: true, AAL: 1, Counter: 23}
	verified := touched
	verified.UserVerified, verified.AAL = true, 2
	for _, c := range []struct {
		name, kind, option string
		required           bool // verification, by the charter
		want               statement.Approval
		refusal            string
	}{
		{"Ed25519", "ed25519-sk", "", false, touched, ""},
		{"P-256", "ecdsa-sk", "", false, touched, ""},
		{"Ed25519, verified", "ed25519-sk", "verify-required", true, verified, ""},
		{"P-256, verified", "ecdsa-sk", "verify-required", true, verified, ""},
		{"no verification where the charter wants it", "ed25519-sk", "", true, touched, "the security key did not verify its user"},
		{"no touch", "ed25519-sk", "no-touch-required", false, touched, "nobody touched the security key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "id")
			args := []string{"-q", "-t", c.kind, "-N", "", "-f", file}
			if c.option != "" {
				args = append(args, "-O", c.option)
			}
			if out, err := exec.CommandContext(t.Context(), "ssh-keygen", args...).CombinedOutput(); err != nil {
				t.Fatalf("ssh-keygen: %v: %s", err, out)
			}
			k, err := estate.ReadKey("ada-1", file+".pub")
			if err != nil {
				t.Fatal(err)
			}
			k.RequireUserVerification = c.required
			signer, err := estate.OpenSSH("ada", []statement.Key{k}, file)
			if err != nil {
				t.Fatal(err)
			}
			m := &estate.Message{PayloadType: statement.PayloadType, Payload: []byte("{}")}
			sig, err := signer.Sign(m)
			if c.refusal != "" {
				if err == nil || !strings.Contains(err.Error(), c.refusal) {
					t.Errorf("want %q, got %v", c.refusal, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got, err := k.Verify(m.PayloadType, m.Payload, &sig); err != nil || got != c.want {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}
