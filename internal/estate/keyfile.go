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

	"github.com/reevehq/reeve/internal/durable"
	"github.com/reevehq/reeve/internal/secret"
	"github.com/reevehq/reeve/internal/statement"
)

// seed is the private half of an Ed25519 key: 32 bytes.
type seed struct{ secret.Value }

// Sign signs with the key.
func (s seed) Sign(m *Message) (statement.Signature, error) {
	key := ed25519.NewKeyFromSeed(s.Reveal())
	return statement.Signature{Sig: ed25519.Sign(key, statement.PAE(m.PayloadType, m.Payload))}, nil
}

// NewSigner makes a key of Ed25519. Its id is the person's id and "-1".
func NewSigner(person string) (*Signer, error) { return NewKeyFile(person, person+"-1") }

// NewKeyFile makes a key of Ed25519 with that id, to be saved.
func NewKeyFile(person, keyID string) (*Signer, error) {
	raw := make([]byte, ed25519.SeedSize)
	if _, err := rand.Read(raw); err != nil {
		return nil, err
	}
	return fromSeed(person, keyID, raw), nil
}

func fromSeed(person, keyID string, raw []byte) *Signer {
	public := ed25519.NewKeyFromSeed(raw).Public().(ed25519.PublicKey)
	key := statement.Key{ID: keyID, Type: "ed25519", Public: base64.StdEncoding.EncodeToString(public)}
	return &Signer{Person: person, Keys: []statement.Key{key}, Hand: seed{secret.New(raw)}}
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
	k, ok := s.Hand.(seed)
	if !ok {
		return fmt.Errorf("the key of %s is not in a key file", s.Person)
	}
	f := keyFile{Person: s.Person, ID: s.Key().ID, Type: "ed25519", Public: s.Key().Public}
	if passphrase.Empty() {
		f.Seed = k.Reveal()
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
		if _, err := w.Write(k.Reveal()); err != nil {
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
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	return durable.Create(file, append(b, '\n'), 0o600)
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
	raw := f.Seed
	if len(f.SeedAge) > 0 {
		if ask == nil {
			return nil, fmt.Errorf("%s: %w", file, ErrPassphrase)
		}
		if raw, err = unprotect(f.SeedAge, ask); err != nil {
			return nil, fmt.Errorf("opening the key file %s: %w", file, err)
		}
	}
	if len(raw) != ed25519.SeedSize {
		return nil, fmt.Errorf("%s does not hold a seed of %d bytes", file, ed25519.SeedSize)
	}
	s := fromSeed(f.Person, f.ID, raw)
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
