package ledger

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/durable"
	"github.com/reevehq/reeve/internal/secret"
	"github.com/reevehq/reeve/internal/statement"
)

// Key signs a log's checkpoints and receipts. Its name is the origin of the first log that it signs. Read from a file it may have others
// after it, each for the log that it is named after and those that follow.
type Key struct {
	name string
	key  secret.Value // an ed25519.PrivateKey
	text secret.Value // as it is in its file
	file string       // that it was read from
	next []Key
}

// GenerateKey makes a key for an origin such as "reeve/<estate>/<process>".
func GenerateKey(origin string) (Key, error) {
	skey, _, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		return Key{}, err
	}
	return parseKey(skey)
}

// LoadKey reads a note signer key ("PRIVATE+KEY+…", golang.org/x/mod/sumdb/note), or several of one ledger, one a line, the oldest
// first, from a file that only its owner may read.
func LoadKey(path string) (Key, error) {
	text, err := secret.ReadFile(path)
	if err != nil {
		return Key{}, fmt.Errorf("log key: %w", err)
	}
	var keys []Key
	for line := range strings.Lines(string(text.Reveal())) {
		k, err := parseKey(strings.TrimSpace(line))
		if err != nil {
			return Key{}, fmt.Errorf("log key %s, line %d: %w", path, len(keys)+1, err)
		}
		if len(keys) > 0 {
			first, before := entry.Successor(keys[len(keys)-1].name)
			if same, n := entry.Successor(k.name); same != first || n <= before {
				return Key{}, fmt.Errorf("log key %s, line %d: %s is not named after a later log of %s", path, len(keys)+1, k.name, first)
			}
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return Key{}, fmt.Errorf("log key %s: the file is empty", path)
	}
	keys[0].file, keys[0].next = path, keys[1:]
	return keys[0], nil
}

// of is the key of number n of the chain: the last one that is named after it or after a log before it.
func (k Key) of(n int) Key {
	best := k
	for _, next := range k.next {
		if _, from := entry.Successor(next.name); from <= n {
			best = next
		}
	}
	best.next = nil
	return best
}

// reread reads the file again, for keys that came since.
func (k Key) reread() (Key, error) {
	if k.file == "" {
		return k, nil
	}
	return LoadKey(k.file)
}

// Verifiers are the note verifier keys of the key and of those after it.
func (k Key) Verifiers() []string {
	list := []string{k.Verifier()}
	for _, next := range k.next {
		list = append(list, next.Verifier())
	}
	return list
}

// Endorse signs a DSSE payload with each key that the file has now, the newest eight, in the order of key ids. It is how the ledger's process says who it is;
// what a log signs begins with its origin, so neither signature is good for the other.
func (k Key) Endorse(payloadType string, payload []byte) ([]statement.Signature, error) {
	first, err := k.reread()
	if err != nil {
		return nil, err
	}
	var sigs []statement.Signature
	all := append([]Key{first}, first.next...)
	for _, k := range all[max(len(all)-8, 0):] {
		id := k.Verifier()
		sig := k.sign(statement.PAE(payloadType, payload))
		sigs = append(sigs, statement.Signature{KeyID: id[:len(k.name)+len("+00000000")], Sig: sig[:]})
	}
	slices.SortFunc(sigs, func(a, b statement.Signature) int { return strings.Compare(a.KeyID, b.KeyID) })
	return sigs, nil
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
