// Package estate is the signing side of an estate: it keeps people's keys, drafts statements, collects signatures,
// publishes what verifies, and writes signed records. The custodian never imports it.
package estate

import (
	"errors"
	"fmt"

	"github.com/reevehq/reeve/internal/statement"
)

// Signer is a person, ready to sign.
type Signer struct {
	Person string          // person id
	Keys   []statement.Key // of the charter, one of which Hand signs with
	Hand   Hand
}

// Hand makes signatures with a key of a person: a key file, ssh-keygen, or a browser with an authenticator.
type Hand interface {
	// Sign signs the message. The signature's KeyID need not be set.
	Sign(m *Message) (statement.Signature, error)
}

// Message is what is signed, with what its signer should see before he signs.
type Message struct {
	PayloadType string // of DSSE
	Payload     []byte
	// Files are those of a statement whose manifest the payload is, and Before those of its version before. Nil for records.
	Files, Before map[string][]byte
	// Effect tells what a statement with everything else that waits would change. Nil for records.
	Effect func() *Effect
}

// Effect is what a draft would change of what is published, in plain words.
type Effect struct {
	Opens, Closes []string // sentences; none when nothing is opened or closed
	Unknown       string   // why that cannot be told
}

// Sign signs the message, and makes sure that the signature holds by one of the signer's keys: a verifier would only count it for
// nothing, without saying why.
func (s *Signer) Sign(m *Message) (statement.Signature, error) {
	sig, err := s.Hand.Sign(m)
	if err != nil {
		return sig, fmt.Errorf("signing as %s: %w", s.Person, err)
	}
	var why []error
	for i := range s.Keys {
		k := &s.Keys[i]
		if _, err = k.Verify(m.PayloadType, m.Payload, &sig); err == nil {
			sig.KeyID = k.ID
			return sig, nil
		}
		why = append(why, fmt.Errorf("%s: %w", k.ID, err))
	}
	return sig, fmt.Errorf("the signature holds by none of %s's keys in the charter: %w", s.Person, errors.Join(why...))
}

// Key is the signer's only key, as it stands in the charter.
func (s *Signer) Key() statement.Key { return s.Keys[0] }
