package ledger

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/reevehq/reeve/internal/durable"
	"github.com/reevehq/reeve/internal/secret"
)

// Key signs a log's checkpoints and receipts. Its name is the origin of the first log that it signs.
type Key struct {
	name string
	key  secret.Value // an ed25519.PrivateKey
	text secret.Value // as it is in its file
}

// GenerateKey makes a key for an origin such as "reeve/<estate>/<process>".
func GenerateKey(origin string) (Key, error) {
	skey, _, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		return Key{}, err
	}
	return parseKey(skey)
}

// LoadKey reads a note signer key ("PRIVATE+KEY+…", golang.org/x/mod/sumdb/note) from a file that only its owner may read.
func LoadKey(path string) (Key, error) {
	text, err := secret.ReadFile(path)
	if err != nil {
		return Key{}, fmt.Errorf("log key: %w", err)
	}
	k, err := parseKey(string(text.Reveal()))
	if err != nil {
		return Key{}, fmt.Errorf("log key %s: %w", path, err)
	}
	return k, nil
}

// Save writes the key to a new file with mode 0600.
func (k Key) Save(path string) error {
	return durable.Create(path, fmt.Appendf(nil, "%s\n", k.text.Reveal()), 0o600)
}

// Origin is the key's name.
func (k Key) Origin() string { return k.name }

// Verifier is the note verifier key ("origin+hash+base64").
func (k Key) Verifier() string {
	// The public key has the right length, so this cannot fail.
	v, _ := note.NewEd25519VerifierKey(k.name, k.private().Public().(ed25519.PublicKey))
	return v
}

func (k Key) private() ed25519.PrivateKey { return ed25519.PrivateKey(k.key.Reveal()) }

// signer is a note.Signer: a key under the origin of its log.
type signer struct {
	note.Verifier
	key Key
}

func (s signer) Sign(text []byte) ([]byte, error) { return ed25519.Sign(s.key.private(), text), nil }

func parseKey(skey string) (Key, error) {
	s, err := note.NewSigner(skey)
	if err != nil {
		return Key{}, err
	}
	// NewSigner has checked the form; the base64 may hold "+" too, so cut after the fourth.
	raw, err := base64.StdEncoding.DecodeString(strings.SplitN(skey, "+", 5)[4])
	if err != nil {
		return Key{}, err
	}
	return Key{name: s.Name(), key: secret.New(ed25519.NewKeyFromSeed(raw[1:])), text: secret.New([]byte(skey))}, nil
}

func (k Key) sign(message []byte) [ed25519.SignatureSize]byte {
	return [ed25519.SignatureSize]byte(ed25519.Sign(k.private(), message))
}
