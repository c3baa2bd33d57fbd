// Package passkey has a person sign, or make a passkey, in a browser on the person's own machine. It serves one page for one signature
// and ends. The page shows what is signed from this machine's files; no server of anybody else is asked.
package passkey

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/statement"
)

// Page says where the address of the page is written and how long it waits.
type Page struct {
	Out  io.Writer
	Life time.Duration
}

// ErrSynced means that a passkey may leave its device, and that this was not accepted.
var ErrSynced = errors.New("this passkey is synced: whoever gets into its owner's cloud account could sign with it. " +
	"Use a security key or a device's own passkey; or accept it with --synced, which the root quorum then signs")

// Signer returns a signer who signs in the browser with one of the person's passkeys.
func Signer(person string, keys []statement.Key, page *Page) (*estate.Signer, error) {
	if keys = estate.OfType(keys, "webauthn"); len(keys) == 0 {
		return nil, fmt.Errorf("the charter has no passkey of %s: reeve key add %s --passkey makes one and prints what to add", person, person)
	}
	return &estate.Signer{Person: person, Keys: keys, Hand: hand{person, keys, page}}, nil
}

// hand signs on the page.
type hand struct {
	person string
	keys   []statement.Key
	page   *Page
}

// Sign serves the page until a signature that holds has come, or its time is over.
func (h hand) Sign(m *estate.Message) (sig statement.Signature, err error) {
	v := newView(h.person, m)
	for _, k := range h.keys {
		id, err := base64.RawURLEncoding.DecodeString(k.Credential)
		if err != nil {
			return sig, err
		}
		v.Credentials = append(v.Credentials, id)
	}
	err = h.page.serve(v, func(a *answer) error {
		var why []error
		for i := range h.keys {
			sig = a.signature(h.keys[i].ID)
			_, err := h.keys[i].Verify(m.PayloadType, m.Payload, &sig)
			if err == nil {
				return nil
			}
			why = append(why, fmt.Errorf("%s: %w", h.keys[i].ID, err))
		}
		return fmt.Errorf("the signature does not hold: %w", errors.Join(why...))
	})
	return sig, err
}

// registration is what a new passkey signs to show that it can.
type registration struct {
	Person string `json:"person"`
	KeyID  string `json:"key"`
	Random []byte `json:"random"`
}

// Register makes a passkey in the browser, has it sign once to show that it can, and returns it as it stands in the charter. A synced one
// is ErrSynced unless that is accepted. known are keys whose authenticators are not used again.
func (p *Page) Register(person, keyID string, known []statement.Key, synced bool) (k statement.Key, err error) {
	r := registration{Person: person, KeyID: keyID, Random: make([]byte, 32)}
	if _, err := rand.Read(r.Random); err != nil {
		return k, err
	}
	payload, err := json.Marshal(r)
	if err != nil {
		return k, err
	}
	m := &estate.Message{PayloadType: statement.RecordType("registration"), Payload: payload}
	v := newView(person, m)
	v.Create, v.User = true, r.Random[:16]
	for _, k := range estate.OfType(known, "webauthn") {
		if id, err := base64.RawURLEncoding.DecodeString(k.Credential); err == nil {
			v.Credentials = append(v.Credentials, id)
		}
	}
	err = p.serve(v, func(a *answer) error {
		k = statement.Key{ID: keyID, Type: "webauthn", Public: base64.StdEncoding.EncodeToString(a.Public), Credential: base64.RawURLEncoding.EncodeToString(a.ID), Synced: "accepted"}
		sig := a.signature(keyID)
		shown, err := k.Verify(m.PayloadType, m.Payload, &sig)
		if err != nil {
			return fmt.Errorf("the new passkey does not sign as it should: %w", err)
		}
		if shown.Authenticator != "synced-passkey" {
			k.Synced = ""
		} else if !synced {
			return ErrSynced
		}
		return nil
	})
	return k, err
}

// answer is what the page sends: a signature and, of a new passkey, its public key.
type answer struct {
	ID                []byte `json:"id"`
	AuthenticatorData []byte `json:"authenticator_data"`
	ClientData        []byte `json:"client_data"`
	Signature         []byte `json:"signature"`
	Public            []byte `json:"public"`
}

func (a *answer) signature(keyID string) statement.Signature {
	return statement.Signature{KeyID: keyID, Sig: a.Signature, WebAuthn: &statement.Assertion{AuthenticatorData: a.AuthenticatorData, ClientData: a.ClientData}}
}
