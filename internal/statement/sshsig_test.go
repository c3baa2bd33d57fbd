package statement_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/asn1"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/reevehq/reeve/internal/need"
	"github.com/reevehq/reeve/internal/statement"
)

const (
	skEd25519 = "sk-ssh-ed25519@openssh.com"
	skECDSA   = "sk-ecdsa-sha2-nistp256@openssh.com"
)

// sshBlob is an OpenSSH signature in all its parts, to be taken apart by the tests. The zero value of a part is the right one.
type sshBlob struct {
	key                       *sshPair
	version                   uint32
	namespace, reserved, hash string
	message                   string
	pae                       []byte // instead of that of message
	format                    string
	flags                     byte // of a security key
	counter                   uint32
	numbers                   func(r, s []byte) []byte // how ECDSA's are written
	after, inner              string                   // what follows the signature, and what follows within it
}

// sshPair is a key pair with its OpenSSH public key.
type sshPair struct {
	private     crypto.Signer
	application string
	public      ssh.PublicKey
}

func sshKey(t testing.TB, algorithm, application string) *sshPair {
	t.Helper()
	var private crypto.Signer
	var err error
	if strings.Contains(algorithm, "ed25519") {
		_, private, err = ed25519.GenerateKey(rand.Reader)
	} else {
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	must(t, err)
	return sshPairOf(t, private, algorithm, application)
}

func sshPairOf(t testing.TB, private crypto.Signer, algorithm, application string) *sshPair {
	t.Helper()
	fields := [][]byte{[]byte(algorithm)}
	switch public := private.Public().(type) {
	case ed25519.PublicKey:
		fields = append(fields, public)
	case *ecdsa.PublicKey:
		point, err := public.Bytes()
		must(t, err)
		fields = append(fields, []byte("nistp256"), point)
	}
	if application != "" {
		fields = append(fields, []byte(application))
	}
	public, err := ssh.ParsePublicKey(wire(fields...))
	must(t, err)
	return &sshPair{private, application, public}
}

// line is the key as an id_*.pub file and the charter have it.
func (p *sshPair) line() string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(p.public)))
}

func (p *sshPair) key(verify bool) *statement.Key {
	return &statement.Key{ID: "ada-1", Type: "ssh", Public: p.line(), RequireUserVerification: verify}
}

// wire is SSH's encoding of strings.
func wire(fields ...[]byte) (b []byte) {
	for _, f := range fields {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(f))), f...)
	}
	return b
}

// sign makes the blob.
func (s sshBlob) sign(t testing.TB) []byte {
	t.Helper()
	or := func(a, b string) string {
		if a == "" {
			return b
		}
		return a
	}
	namespace, hash := or(s.namespace, statement.Namespace), or(s.hash, "sha512")
	message := s.pae
	if message == nil {
		message = statement.PAE("t", []byte(s.message))
	}
	sum := sha512.Sum512(message)
	digest := sum[:]
	if hash == "sha256" {
		sum := sha256.Sum256(message)
		digest = sum[:]
	}
	signed := append([]byte("SSHSIG"), wire([]byte(namespace), []byte(s.reserved), []byte(hash), digest)...)
	sig := s.key.raw(t, signed, s.flags, s.counter)
	if s.numbers != nil {
		var n struct{ R, S []byte }
		must(t, ssh.Unmarshal(sig.Blob, &n))
		sig.Blob = s.numbers(n.R, n.S)
	}
	b := binary.BigEndian.AppendUint32([]byte("SSHSIG"), max(1, s.version))
	inner := append(wire([]byte(or(s.format, sig.Format)), sig.Blob), append(sig.Rest, s.inner...)...)
	b = append(b, wire(s.key.public.Marshal(), []byte(namespace), []byte(s.reserved), []byte(hash), inner)...)
	return append(b, s.after...)
}

// raw signs as the key's own algorithm does, always the same; a security key signs with its flags and counter.
func (p *sshPair) raw(t testing.TB, signed []byte, flags byte, counter uint32) *ssh.Signature {
	t.Helper()
	sig := &ssh.Signature{Format: p.public.Type()}
	if p.application != "" {
		app, h := sha256.Sum256([]byte(p.application)), sha256.Sum256(signed)
		sig.Rest = binary.BigEndian.AppendUint32([]byte{flags}, counter)
		signed = bytes.Join([][]byte{app[:], sig.Rest, h[:]}, nil)
	}
	if _, ec := p.private.(*ecdsa.PrivateKey); !ec {
		var err error
		sig.Blob, err = p.private.Sign(nil, signed, crypto.Hash(0))
		must(t, err)
		return sig
	}
	sum := sha256.Sum256(signed)
	der, err := p.private.Sign(nil, sum[:], crypto.SHA256)
	must(t, err)
	var n struct{ R, S *big.Int }
	_, err = asn1.Unmarshal(der, &n)
	must(t, err)
	sig.Blob = ssh.Marshal(n)
	return sig
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func verify(k *statement.Key, message string, blob []byte) (statement.Approval, error) {
	return k.Verify("t", []byte(message), &statement.Signature{KeyID: k.ID, Sig: blob})
}

// Every kind of key is accepted in both hashes, as the real ssh-keygen accepts it, and says what it showed.
func TestSSHSignatures(t *testing.T) {
	keygen, _ := exec.LookPath("ssh-keygen")
	const touched, verified = 1, 5
	for _, c := range []struct {
		algorithm, application string
		flags                  byte
		want                   statement.Approval
	}{
		{"ssh-ed25519", "", 0, statement.Approval{Authenticator: "file", AAL: 1}},
		{"ecdsa-sha2-nistp256", "", 0, statement.Approval{Authenticator: "file", AAL: 1}},
		{skEd25519, "ssh:", touched, statement.Approval{Authenticator: "security-key", AAL: 1, UserPresent: true, Counter: 7}},
		{skEd25519, "ssh:reeve", verified, statement.Approval{Authenticator: "security-key", AAL: 2, UserPresent: true, UserVerified: true, Counter: 7}},
		{skECDSA, "ssh:", touched, statement.Approval{Authenticator: "security-key", AAL: 1, UserPresent: true, Counter: 7}},
		{skECDSA, "ssh:", verified, statement.Approval{Authenticator: "security-key", AAL: 2, UserPresent: true, UserVerified: true, Counter: 7}},
	} {
		for _, hash := range []string{"sha512", "sha256"} {
			t.Run(c.algorithm+" "+hash, func(t *testing.T) {
				pair := sshKey(t, c.algorithm, c.application)
				blob := sshBlob{key: pair, hash: hash, message: "m", flags: c.flags, counter: 7}.sign(t)
				got, err := verify(pair.key(false), "m", blob)
				c.want.KeyID, c.want.Type = "ada-1", "ssh"
				if err != nil || got != c.want {
					t.Errorf("%+v, %v", got, err)
				}
				if keygen != "" {
					keygenVerifies(t, pair, blob, "m")
				}
				for i := range blob {
					for _, bit := range []byte{1, 0x80} {
						bad := bytes.Clone(blob)
						bad[i] ^= bit
						if _, err := verify(pair.key(false), "m", bad); err == nil {
							t.Errorf("holds with byte %d changed", i)
						}
					}
					if _, err := verify(pair.key(false), "m", blob[:i]); err == nil {
						t.Errorf("holds when cut at %d", i)
					}
				}
			})
		}
	}
}

// keygenVerifies has the real ssh-keygen verify the blob.
func keygenVerifies(t *testing.T, pair *sshPair, blob []byte, message string) {
	t.Helper()
	dir := t.TempDir()
	allowed, sig := filepath.Join(dir, "allowed"), filepath.Join(dir, "sig")
	must(t, os.WriteFile(allowed, []byte("ada "+pair.line()+"\n"), 0o600))
	must(t, os.WriteFile(sig, pem.EncodeToMemory(&pem.Block{Type: "SSH SIGNATURE", Bytes: blob}), 0o600))
	cmd := exec.CommandContext(t.Context(), "ssh-keygen", "-Y", "verify", "-f", allowed, "-I", "ada", "-n", statement.Namespace, "-s", sig)
	cmd.Stdin = bytes.NewReader(statement.PAE("t", []byte(message)))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("ssh-keygen does not accept it: %v: %s", err, out)
	}
}

func TestSSHSignatureRefused(t *testing.T) {
	plain, other := sshKey(t, "ssh-ed25519", ""), sshKey(t, "ssh-ed25519", "")
	ec, sk, skEC := sshKey(t, "ecdsa-sha2-nistp256", ""), sshKey(t, skEd25519, "ssh:"), sshKey(t, skECDSA, "ssh:")
	for _, c := range []struct {
		name, want string
		key        *statement.Key
		blob       sshBlob
	}{
		{"another namespace", `in the namespace "git"`, plain.key(false), sshBlob{key: plain, namespace: "git"}},
		{"a longer namespace", "in the namespace", plain.key(false), sshBlob{key: plain, namespace: statement.Namespace + "x"}},
		{"SHA-1", `hashes with "sha1"`, plain.key(false), sshBlob{key: plain, hash: "sha1"}},
		{"SHA-384", `hashes with "sha384"`, plain.key(false), sshBlob{key: plain, hash: "sha384"}},
		{"version 2", "version 1", plain.key(false), sshBlob{key: plain, version: 2}},
		{"a reserved field", "not a whole", plain.key(false), sshBlob{key: plain, reserved: "x"}},
		{"something after it", "not a whole", plain.key(false), sshBlob{key: plain, after: "x"}},
		{"something within it", "not a whole", plain.key(false), sshBlob{key: plain, inner: "x"}},
		{"too much within it", "version 1", plain.key(false), sshBlob{key: plain, inner: strings.Repeat("x", 1024)}},
		{"another key", "another key", plain.key(false), sshBlob{key: other}},
		{"a key of another type", "another key", plain.key(false), sshBlob{key: ec}},
		{"another algorithm's signature", "another key", plain.key(false), sshBlob{key: plain, format: "rsa-sha2-256"}},
		{"a security key's form", "another key", plain.key(false), sshBlob{key: plain, format: skEd25519, inner: "\x01\x00\x00\x00\x07"}},
		{"another message", "something else", plain.key(false), sshBlob{key: plain, message: "n"}},
		{"another message, ECDSA", "something else", ec.key(false), sshBlob{key: ec, message: "n"}},
		{"no touch", "nobody touched", sk.key(false), sshBlob{key: sk}},
		{"no touch, ECDSA", "nobody touched", skEC.key(false), sshBlob{key: skEC}},
		{"verified without a touch", "nobody touched", sk.key(false), sshBlob{key: sk, flags: 4}},
		{"no verification where it is required", "did not verify its user", sk.key(true), sshBlob{key: sk, flags: 1}},
		{"verification as required", "", sk.key(true), sshBlob{key: sk, flags: 5}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.blob.message == "" {
				c.blob.message = "m"
			}
			_, err := verify(c.key, "m", c.blob.sign(t))
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("want %q, got %v", c.want, err)
			}
		})
	}
	t.Run("a signature for a passkey", func(t *testing.T) {
		s := &statement.Signature{Sig: sshBlob{key: plain, message: "m"}.sign(t), WebAuthn: &statement.Assertion{}}
		if _, err := plain.key(false).Verify("t", []byte("m"), s); err == nil {
			t.Error("holds")
		}
	})
}

// An ECDSA signature's two numbers have one spelling.
func TestSSHSignatureNumbers(t *testing.T) {
	for name, change := range map[string]func(r, s []byte) []byte{
		"as they are":        func(r, s []byte) []byte { return wire(r, s) },
		"a zero before":      func(r, s []byte) []byte { return wire(append([]byte{0}, r...), s) },
		"something after":    func(r, s []byte) []byte { return append(wire(r, s), 0) },
		"negative":           func(r, s []byte) []byte { return wire(r, append([]byte{0xff}, s...)) },
		"none":               func(r, s []byte) []byte { return wire(r, nil) },
		"the other s":        func(r, s []byte) []byte { return wire(s, r) },
		"a zero and no sign": func(r, s []byte) []byte { return wire([]byte{0}, s) },
	} {
		t.Run(name, func(t *testing.T) {
			pair := sshKey(t, "ecdsa-sha2-nistp256", "")
			_, err := verify(pair.key(false), "m", sshBlob{key: pair, message: "m", numbers: change}.sign(t))
			if (err == nil) != (name == "as they are") {
				t.Error(err)
			}
		})
	}
}

// A number whose first bit is set has a zero before it; without, it is another number to whoever reads its sign.
func TestSSHSignatureSign(t *testing.T) {
	pair := sshKey(t, "ecdsa-sha2-nistp256", "")
	for range 100 {
		short := false
		blob := sshBlob{key: pair, message: "m", numbers: func(r, s []byte) []byte {
			short = r[0] == 0
			return wire(bytes.TrimPrefix(r, []byte{0}), s)
		}}.sign(t)
		if _, err := verify(pair.key(false), "m", blob); (err == nil) == short {
			t.Fatalf("short=%v: %v", short, err)
		}
	}
}

func TestSSHKeyRefused(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	must(t, err)
	line := func(k any) string {
		public, err := ssh.NewPublicKey(k)
		must(t, err)
		return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(public)))
	}
	good := sshKey(t, "ssh-ed25519", "")
	encoded := func(fields ...[]byte) string {
		return string(fields[0]) + " " + base64.StdEncoding.EncodeToString(wire(fields...))
	}
	point := []byte(good.private.Public().(ed25519.PublicKey))
	p256, err := sshKey(t, "ecdsa-sha2-nistp256", "").private.Public().(*ecdsa.PublicKey).Bytes()
	must(t, err)
	for _, c := range []struct{ name, want, line string }{
		{"RSA", "not accepted for signing: make one with ssh-keygen -t ed25519", line(&rsaKey.PublicKey)},
		{"DSA", "not accepted for signing", "ssh-dss AAAA"},
		{"P-384", "begins with", line(&p384.PublicKey)},
		{"a comment", "no comment", good.line() + " ada@example"},
		{"two spaces", "no comment", strings.Replace(good.line(), " ", "  ", 1)},
		{"a line break", "no comment", good.line() + "\n"},
		{"nothing", "begins with", ""},
		{"only a name", "that it says", "ssh-ed25519 "},
		{"another name", "that it says", strings.Replace(encoded([]byte("ssh-rsa"), point), "ssh-rsa", "ssh-ed25519", 1)},
		{"too short", "that it says", encoded([]byte("ssh-ed25519"), point[1:])},
		{"something after it", "that it says", encoded([]byte("ssh-ed25519"), point, nil)},
		{"no point", "that it says", encoded([]byte("ecdsa-sha2-nistp256"), []byte("nistp256"), point)},
		{"a point of another curve's name", "that it says", encoded([]byte("ecdsa-sha2-nistp256"), []byte("nistp384"), p256)},
		{"another curve", "that it says", encoded([]byte("ecdsa-sha2-nistp256"), []byte("nistp384"), point)},
		{"no application", "that it says", encoded([]byte(skEd25519), point)},
		{"a passkey's application", "that it says", encoded([]byte(skEd25519), point, []byte("localhost"))},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := &statement.Key{ID: "ada-1", Type: "ssh", Public: c.line}
			if _, err := verify(k, "m", sshBlob{key: good, message: "m"}.sign(t)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("want %q, got %v", c.want, err)
			}
		})
	}
}

// The real ssh-keygen signs, from a file and through ssh-agent.
func TestSSHKeygen(t *testing.T) {
	need.Part(t, "ssh-keygen")
	for _, kind := range []string{"ed25519", "ecdsa"} {
		t.Run(kind, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "id")
			run := func(stdin []byte, args ...string) []byte {
				cmd := exec.CommandContext(t.Context(), "ssh-keygen", args...)
				cmd.Stdin = bytes.NewReader(stdin)
				out, err := cmd.Output()
				if err != nil {
					t.Fatalf("ssh-keygen %v: %v", args, err)
				}
				return out
			}
			run(nil, "-q", "-t", kind, "-N", "", "-C", "", "-f", file)
			public, err := os.ReadFile(file + ".pub")
			must(t, err)
			block, _ := pem.Decode(run(statement.PAE("t", []byte("m")), "-q", "-Y", "sign", "-n", statement.Namespace, "-f", file))
			k := &statement.Key{ID: "ada-1", Type: "ssh", Public: strings.TrimSpace(string(public))}
			if _, err := verify(k, "m", block.Bytes); err != nil {
				t.Error(err)
			}
			if _, err := verify(k, "n", block.Bytes); err == nil {
				t.Error("holds over something else")
			}
		})
	}
}

// A blob that holds over the message is one of the two that were made: there is one encoding of a signature.
func FuzzSSHSig(f *testing.F) {
	pair := sshKey(f, skEd25519, "ssh:")
	seen := map[string]bool{}
	for _, hash := range []string{"sha512", "sha256"} {
		blob := sshBlob{key: pair, hash: hash, message: "m", flags: 1}.sign(f)
		seen[string(blob)] = true
		f.Add(blob)
	}
	f.Fuzz(func(t *testing.T, blob []byte) {
		if _, err := verify(pair.key(false), "m", blob); (err == nil) != seen[string(blob)] {
			t.Errorf("%x: %v", blob, err)
		}
	})
}

// A public key that is accepted is the one that it was read from, in the one form.
func FuzzSSHKey(f *testing.F) {
	for _, c := range [][2]string{{"ssh-ed25519", ""}, {"ecdsa-sha2-nistp256", ""}, {skEd25519, "ssh:"}, {skECDSA, "ssh:x"}} {
		f.Add(sshKey(f, c[0], c[1]).line())
	}
	f.Fuzz(func(t *testing.T, line string) {
		k := &statement.Key{ID: "ada-1", Type: "ssh", Public: line}
		_, err := verify(k, "m", nil)
		if strings.Contains(err.Error(), "version 1") { // the key was read; the empty signature was not
			public, _, _, rest, err := ssh.ParseAuthorizedKey([]byte(line))
			if err != nil || len(rest) > 0 || strings.TrimSpace(string(ssh.MarshalAuthorizedKey(public))) != line {
				t.Errorf("%q: %v", line, err)
			}
		}
	})
}
