// Package seal encrypts a secret to a custodian. It cannot decrypt: it is for those who hand a secret over.
package seal

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"filippo.io/age"

	"github.com/reevehq/reeve/internal/statement"
)

const (
	// MinLen is the least length in bytes of a secret that can be handed over. The custodian looks for the secret in every
	// answer, and what is shorter would be found by chance.
	MinLen = 16
	// MaxLen is the greatest length, so that the secret fits into one header field.
	MaxLen = 8 << 10
)

// ErrUnfit refuses a secret that cannot be injected or guarded.
var ErrUnfit = errors.New("not usable as a secret")

// Check refuses a secret that is too short to be told from chance, too long for a header, or holds bytes other than printable
// ASCII, which could end a header field or are a slip such as a newline at the end of a file.
func Check(plaintext []byte) error {
	if err := checkLength(plaintext); err != nil {
		return err
	}
	for i, b := range plaintext {
		if b < ' ' || b > '~' || b == ' ' && (i == 0 || i == len(plaintext)-1) {
			return fmt.Errorf("%w: byte %d of %d is a line break, a blank at an end or not ASCII; take it away and try again", ErrUnfit, i+1, len(plaintext))
		}
	}
	return nil
}

// Fit is Check for the secret that a record needs. Where it is not injected itself, as with a private key or what a source is given, it may be text of
// several lines: PEM or JSON.
func Fit(c *statement.Credential, plaintext []byte) error {
	if c.Source == "sealed" && c.Inject.As != "tls" {
		return Check(plaintext)
	}
	return checkLength(plaintext)
}

func checkLength(plaintext []byte) error {
	if n := len(plaintext); n < MinLen || n > MaxLen {
		return fmt.Errorf("%w: it has %d bytes; between %d and %d can be kept from leaking back in an answer", ErrUnfit, n, MinLen, MaxLen)
	}
	return nil
}

// Seal encrypts a secret to an age recipient ("age1…"), as the custody statement names it. The caller has asked Fit, and wipes plaintext.
func Seal(recipient string, plaintext []byte) ([]byte, error) {
	if err := checkLength(plaintext); err != nil {
		return nil, err
	}
	return Encrypt(plaintext, recipient)
}

// Encrypt encrypts what is not injected anywhere, such as a workload's token, to any of several recipients.
func Encrypt(plaintext []byte, recipients ...string) ([]byte, error) {
	var to []age.Recipient
	for _, name := range recipients {
		r, err := age.ParseX25519Recipient(name)
		if err != nil {
			return nil, fmt.Errorf("reading the custodian's recipient: %w", err)
		}
		to = append(to, r)
	}
	var out bytes.Buffer
	w, err := age.Encrypt(&out, to...)
	if err != nil {
		return nil, fmt.Errorf("sealing: %w", err)
	}
	if _, err := w.Write(plaintext); err != nil {
		return nil, fmt.Errorf("sealing: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("sealing: %w", err)
	}
	return out.Bytes(), nil
}

// Handover is the record that makes a sealed secret acceptable to the custodian, for the credential's lifecycle owner to sign.
func Handover(estate, credential string, version int64, custodian string, ciphertext []byte, created time.Time) statement.Handover {
	return statement.Handover{
		Estate:     estate,
		Credential: credential,
		Version:    version,
		Custodian:  custodian,
		SHA256:     Sum(ciphertext),
		Created:    created,
	}
}

// Sum is the hash that a handover names: hex SHA-256 of the ciphertext.
func Sum(ciphertext []byte) string {
	sum := sha256.Sum256(ciphertext)
	return hex.EncodeToString(sum[:])
}
