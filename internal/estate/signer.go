// Package estate is the signing side of an estate: it keeps people's keys, drafts statements, collects signatures,
// publishes what verifies, and writes signed records. The custodian never imports it.
package estate

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"filippo.io/age"

	"github.com/reevehq/reeve/internal/secret"
	"github.com/reevehq/reeve/internal/statement"
)

// Signer is one key of a person, ready to sign.
type Signer struct {
	Person string // person id
	KeyID  string // the key's id in the charter
	public ed25519.PublicKey
	seed   secret.Value
}

// NewSigner makes a key. Its id is the person's id and "-1".
func NewSigner(person string) (*Signer, error) {
	seed := make([]byte, ed25519.SeedSize)
	if _, err := rand.Read(seed); err != nil {
		return nil, err
	}
	return fromSeed(person, person+"-1", seed), nil
}

func fromSeed(person, keyID string, seed []byte) *Signer {
	public := ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
	return &Signer{Person: person, KeyID: keyID, public: public, seed: secret.New(seed)}
}

// Key is the key as it stands in the charter.
func (s *Signer) Key() statement.Key {
	return statement.Key{ID: s.KeyID, Type: "ed25519", Public: base64.StdEncoding.EncodeToString(s.public)}
}

// Sign signs a DSSE payload.
func (s *Signer) Sign(payloadType string, payload []byte) statement.Signature {
	key := ed25519.NewKeyFromSeed(s.seed.Reveal())
	return statement.Signature{KeyID: s.KeyID, Sig: ed25519.Sign(key, statement.PAE(payloadType, payload))}
}

// keyFile is a person's key file: the seed in base64, or age ciphertext of it under a passphrase.
type keyFile struct {
	Person  string `json:"person"`
	ID      string `json:"id"`
	Type    string `json:"type"` // ed25519
	Public  string `json:"public"`
	Seed    []byte `json:"seed,omitempty"`     // 32 bytes, unprotected: for a demo
	SeedAge []byte `json:"seed_age,omitempty"` // age scrypt ciphertext of the 32 bytes
}

// ErrPassphrase means that a key file needs a passphrase, or another one.
var ErrPassphrase = errors.New("the key file needs its passphrase")

// Save writes the key to a new file that only its owner may read. Without a passphrase the key lies there in the clear.
func (s *Signer) Save(file string, passphrase secret.Value) error {
	f := keyFile{Person: s.Person, ID: s.KeyID, Type: "ed25519", Public: s.Key().Public}
	if passphrase.Empty() {
		f.Seed = s.seed.Reveal()
	} else {
		r, err := age.NewScryptRecipient(string(passphrase.Reveal()))
		if err != nil {
			return err
		}
		var out bytes.Buffer
		w, err := age.Encrypt(&out, r)
		if err != nil {
			return err
		}
		if _, err := w.Write(s.seed.Reveal()); err != nil {
			return err
		}
		if err := w.Close(); err != nil {
			return err
		}
		f.SeedAge = out.Bytes()
	}
	b, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	return writeNew(file, append(b, '\n'), 0o600)
}

// Open reads a key file. ask is called for the passphrase of a protected one; a nil ask gives ErrPassphrase.
func Open(file string, ask func() (secret.Value, error)) (*Signer, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("others may read the key file %s: it may be known to them; chmod 600 it, and make a new key if they are not trusted", file)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var f keyFile
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil || f.Type != "ed25519" {
		return nil, fmt.Errorf("%s is not a key file of type ed25519: %v", file, err)
	}
	seed := f.Seed
	if len(f.SeedAge) > 0 {
		if ask == nil {
			return nil, fmt.Errorf("%s: %w", file, ErrPassphrase)
		}
		if seed, err = unprotect(f.SeedAge, ask); err != nil {
			return nil, fmt.Errorf("opening the key file %s: %w", file, err)
		}
	}
	if len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("%s does not hold a seed of %d bytes", file, ed25519.SeedSize)
	}
	s := fromSeed(f.Person, f.ID, seed)
	if s.Key().Public != f.Public {
		return nil, fmt.Errorf("the two halves of the key in %s do not belong together", file)
	}
	return s, nil
}

func unprotect(ciphertext []byte, ask func() (secret.Value, error)) ([]byte, error) {
	pass, err := ask()
	if err != nil {
		return nil, err
	}
	id, err := age.NewScryptIdentity(string(pass.Reveal()))
	if err != nil {
		return nil, err
	}
	r, err := age.Decrypt(bytes.NewReader(ciphertext), id)
	if err != nil {
		return nil, ErrPassphrase
	}
	return io.ReadAll(io.LimitReader(r, 1024))
}

// writeNew writes a file that must not exist yet, completely or not at all.
func writeNew(file string, b []byte, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	return place(file, b, mode, os.Link)
}

// replaceFile writes a file atomically, over what was there.
func replaceFile(file string, b []byte, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return place(file, b, mode, os.Rename)
}

func place(file string, b []byte, mode os.FileMode, move func(from, to string) error) error {
	f, err := os.CreateTemp(filepath.Dir(file), ".writing-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return move(f.Name(), file)
}
