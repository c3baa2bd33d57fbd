package estatetest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"testing"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/statement"
)

// Passkey is an authenticator and its browser in software.
type Passkey struct {
	ID      []byte // credential id
	private crypto.Signer
}

// NewPasskey makes a passkey: of Ed25519, or ECDSA on P-256.
func NewPasskey(t testing.TB, ed bool) *Passkey {
	t.Helper()
	var private crypto.Signer
	var err error
	if ed {
		_, private, err = ed25519.GenerateKey(rand.Reader)
	} else {
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	must(t, err)
	id := make([]byte, 16)
	_, err = rand.Read(id)
	must(t, err)
	return PasskeyOf(private, id)
}

// PasskeyOf is a passkey with that private key and credential id. Its signatures are always the same (RFC 8032, RFC 6979).
func PasskeyOf(private crypto.Signer, id []byte) *Passkey { return &Passkey{id, private} }

// Public is the SubjectPublicKeyInfo.
func (p *Passkey) Public(t testing.TB) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(p.private.Public())
	must(t, err)
	return der
}

// Key is the key as it stands in the charter.
func (p *Passkey) Key(t testing.TB, id string) statement.Key {
	t.Helper()
	return statement.Key{ID: id, Type: "webauthn", Public: base64.StdEncoding.EncodeToString(p.Public(t)), Credential: base64.RawURLEncoding.EncodeToString(p.ID)}
}

// Ceremony is one use of a passkey.
type Ceremony struct {
	RelyingParty string // id
	Flags        byte   // of the authenticator
	Counter      uint32
	Extra        []byte         // after the authenticator data
	Client       map[string]any // client data
	ClientJSON   string         // instead of Client
}

// NewCeremony is the ceremony that a good browser makes on a page of this machine.
func NewCeremony(challenge [sha256.Size]byte) *Ceremony {
	return &Ceremony{RelyingParty: "localhost", Flags: 0x05, Counter: 7, Client: map[string]any{
		"type": "webauthn.get", "challenge": base64.RawURLEncoding.EncodeToString(challenge[:]), "origin": "http://localhost:7800", "crossOrigin": false,
	}}
}

// Sign signs in a ceremony.
func (p *Passkey) Sign(t testing.TB, keyID string, c *Ceremony) statement.Signature {
	t.Helper()
	rp := sha256.Sum256([]byte(c.RelyingParty))
	a := &statement.Assertion{AuthenticatorData: append(binary.BigEndian.AppendUint32(append(rp[:], c.Flags), c.Counter), c.Extra...), ClientData: []byte(c.ClientJSON)}
	if c.ClientJSON == "" {
		var err error
		a.ClientData, err = json.Marshal(c.Client)
		must(t, err)
	}
	hash := sha256.Sum256(a.ClientData)
	message, opts := append(a.AuthenticatorData[:len(a.AuthenticatorData):len(a.AuthenticatorData)], hash[:]...), crypto.Hash(0)
	if _, ec := p.private.(*ecdsa.PrivateKey); ec {
		sum := sha256.Sum256(message)
		message, opts = sum[:], crypto.SHA256
	}
	sig, err := p.private.Sign(nil, message, opts)
	must(t, err)
	return statement.Signature{KeyID: keyID, Sig: sig, WebAuthn: a}
}

// Signer is a person who signs with the passkey; edit, if not nil, changes each ceremony.
func (p *Passkey) Signer(t testing.TB, person string, edit func(*Ceremony)) *estate.Signer {
	t.Helper()
	k := p.Key(t, person+"-1")
	return &estate.Signer{Person: person, Keys: []statement.Key{k}, Hand: passkeyHand{t, p, edit}}
}

type passkeyHand struct {
	t    testing.TB
	p    *Passkey
	edit func(*Ceremony)
}

func (h passkeyHand) Sign(m *estate.Message) (statement.Signature, error) {
	c := NewCeremony(statement.Challenge(m.PayloadType, m.Payload))
	if h.edit != nil {
		h.edit(c)
	}
	return h.p.Sign(h.t, "", c), nil
}
