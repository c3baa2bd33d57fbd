package statement

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// Key is one signing key of a person.
type Key struct {
	ID   string `yaml:"id"`
	Type string `yaml:"type"` // ed25519, ssh or webauthn
	// Public is for ed25519 the base64 of 32 bytes; for ssh the line of an OpenSSH public key file without its comment; for
	// webauthn the base64 of a SubjectPublicKeyInfo (RFC 5280), as a browser's getPublicKey() gives it.
	Public string `yaml:"public"`
	// RequireUserVerification wants a PIN or a fingerprint besides the touch, of an OpenSSH security key. A passkey always does.
	RequireUserVerification bool `yaml:"require_user_verification"`
	// Credential is a passkey's credential id, base64url without padding: what the browser asks its authenticator for.
	Credential string `yaml:"credential"`
	// Synced is empty or "accepted": a passkey that may leave its device by way of somebody's cloud is refused otherwise.
	Synced string `yaml:"synced"`
}

// parsedKey is a key that can verify.
type parsedKey struct {
	*Key
	public crypto.PublicKey // ed25519.PublicKey, or *ecdsa.PublicKey on P-256
	point  string           // the public point: the same in every encoding of one key
	ssh    *sshKey          // of type ssh
}

// parse reads the public key and holds the key's members against its type.
func (k *Key) parse() (p *parsedKey, err error) {
	p = &parsedKey{Key: k}
	switch k.Type {
	case "ed25519":
		raw := decode64(k.Public, ed25519.PublicKeySize)
		if raw == nil {
			return nil, fmt.Errorf("key %q is not the base64 of 32 bytes", k.ID)
		}
		p.public = ed25519.PublicKey(raw)
	case "ssh":
		if p.ssh, err = parseSSHKey(k.Public); err != nil {
			return nil, fmt.Errorf("key %q %w", k.ID, err)
		}
		p.public = p.ssh.public
	case "webauthn":
		if p.public, err = parsePasskey(k); err != nil {
			return nil, fmt.Errorf("key %q %w", k.ID, err)
		}
	default:
		return nil, fmt.Errorf("key %q has the unknown type %q: ed25519, ssh and webauthn are known", k.ID, k.Type)
	}
	if k.RequireUserVerification && !p.securityKey() {
		return nil, fmt.Errorf("key %q cannot verify its user: require_user_verification is for OpenSSH security keys (sk-), passkeys always do", k.ID)
	}
	if (k.Credential != "" || k.Synced != "") && k.Type != "webauthn" {
		return nil, fmt.Errorf("key %q is no passkey: credential and synced are for those", k.ID)
	}
	if p.point, err = point(p.public); err != nil {
		return nil, fmt.Errorf("key %q %w", k.ID, err)
	}
	return p, nil
}

// securityKey reports whether the key is an OpenSSH one on a security key.
func (p *parsedKey) securityKey() bool { return p.ssh != nil && p.ssh.application != "" }

// point is the public point of a key, whatever the encoding that it came in.
func point(public crypto.PublicKey) (string, error) {
	switch k := public.(type) {
	case ed25519.PublicKey:
		return string(k), nil
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() {
			b, err := k.Bytes()
			return string(b), err
		}
	}
	return "", errors.New("is neither Ed25519 nor ECDSA on P-256")
}

// holds reports whether sig is the signature over message by a key of a passkey or file: Ed25519 (RFC 8032), or ECDSA with
// SHA-256 in ASN.1.
func holds(public crypto.PublicKey, message, sig []byte) bool {
	switch k := public.(type) {
	case ed25519.PublicKey:
		return ed25519.Verify(k, message, sig)
	case *ecdsa.PublicKey:
		sum := sha256.Sum256(message)
		return ecdsa.VerifyASN1(k, sum[:], sig)
	}
	return false
}

// parsePasskey reads a passkey's public key.
func parsePasskey(k *Key) (crypto.PublicKey, error) {
	id, err := base64.RawURLEncoding.Strict().DecodeString(k.Credential)
	if err != nil || len(id) == 0 || len(id) > 1023 || strings.ContainsAny(k.Credential, "\r\n") { // WebAuthn, section 4: at most 1023 bytes
		return nil, errors.New("names no credential: the base64url of 1 to 1023 bytes")
	}
	if k.Synced != "" && k.Synced != "accepted" {
		return nil, fmt.Errorf("says %q of syncing: it is accepted, or left out", k.Synced)
	}
	der, err := base64.StdEncoding.DecodeString(k.Public)
	if err != nil {
		return nil, fmt.Errorf("is not base64: %w", err)
	}
	public, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, fmt.Errorf("is not a SubjectPublicKeyInfo: %w", err)
	}
	if again, err := x509.MarshalPKIXPublicKey(public); err != nil || base64.StdEncoding.EncodeToString(again) != k.Public {
		return nil, errors.New("is not in the one encoding of its SubjectPublicKeyInfo")
	}
	return public, nil
}
