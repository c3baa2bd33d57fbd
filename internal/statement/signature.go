package statement

import (
	"crypto/ed25519"
	"errors"
	"strings"
)

// Signature is one person's or one service's signature. KeyID is the key's id in the charter. Sig is for an ed25519 key the 64 bytes
// of the signature over the PAE; for ssh the signature that ssh-keygen writes, without its armour; for webauthn the authenticator's,
// and WebAuthn holds what it is over.
type Signature struct {
	KeyID    string     `json:"keyid"`
	Sig      []byte     `json:"sig"`
	WebAuthn *Assertion `json:"webauthn,omitempty"`
}

// Approval is a person's signature that holds, and what it shows of how it was made.
type Approval struct {
	Person string `json:"person"`
	KeyID  string `json:"key"`
	Type   string `json:"type"` // of the key: ed25519, ssh or webauthn
	// Authenticator is file (a key file, or an agent that holds one), security-key, passkey or synced-passkey.
	Authenticator string `json:"authenticator"`
	UserPresent   bool   `json:"user_present"`
	UserVerified  bool   `json:"user_verified"`
	// AAL is the authenticator assurance level (NIST SP 800-63B-4) that the signature can show: 2 where the authenticator verified
	// its user by PIN or biometry, else 1. No attestation is asked for, so 3 is never shown.
	AAL     int    `json:"aal"`
	Counter uint32 `json:"counter,omitempty"` // of the authenticator; 0 where it keeps none
}

// Check refuses a key that no charter may have. The error says why.
func (k *Key) Check() error {
	_, err := k.parse()
	return err
}

// Verify checks a signature over the payload by this key; a person's name is left to the caller. The error says why it does not hold.
func (k *Key) Verify(payloadType string, payload []byte, s *Signature) (Approval, error) {
	return k.verify(PAE(payloadType, payload), s)
}

func (k *Key) verify(pae []byte, s *Signature) (Approval, error) {
	a := Approval{KeyID: k.ID, Type: k.Type, Authenticator: "file", AAL: 1}
	p, err := k.parse()
	if err != nil {
		return a, err
	}
	if (s.WebAuthn != nil) != (k.Type == "webauthn") {
		return a, errors.New("the signature is not of the key's type")
	}
	var flags byte
	switch k.Type {
	case "ed25519":
		if !holds(p.public, pae, s.Sig) {
			return a, errors.New("the signature is of something else, by another key, or was altered")
		}
		return a, nil
	case "ssh":
		got, err := p.ssh.verify(pae, s.Sig)
		if err != nil || !p.securityKey() {
			return a, err
		}
		flags, a.Counter, a.Authenticator = got.flags, got.counter, "security-key"
		if flags&userPresent == 0 {
			return a, errors.New("nobody touched the security key: one that signs without a touch is not accepted")
		}
		if k.RequireUserVerification && flags&userVerified == 0 {
			return a, errors.New("the security key did not verify its user, which the charter asks for: make it with ssh-keygen -O verify-required")
		}
	case "webauthn":
		if flags, a.Counter, err = s.WebAuthn.verify(p, pae, s.Sig); err != nil {
			return a, err
		}
		a.Authenticator = "passkey"
		if flags&backupEligible != 0 {
			a.Authenticator = "synced-passkey"
		}
	}
	a.UserPresent, a.UserVerified = true, flags&userVerified != 0
	if a.UserVerified {
		a.AAL = 2
	}
	return a, nil
}

// maxSignatures bounds the signatures of one statement or record.
const maxSignatures = 64

// Approvals returns the signatures over the payload that hold, at most one of each key, as they come. A signature by a key that the
// charter does not have, or that does not hold, counts for nothing.
func (c *Charter) Approvals(payloadType string, payload []byte, sigs []Signature) (got []Approval) {
	pae, done := PAE(payloadType, payload), map[string]bool{}
	for i := range sigs[:min(len(sigs), maxSignatures)] {
		p, k := c.key(sigs[i].KeyID)
		if k == nil || done[k.ID] {
			continue
		}
		if a, err := k.verify(pae, &sigs[i]); err == nil {
			a.Person, done[k.ID] = p.ID, true
			got = append(got, a)
		}
	}
	return got
}

// key returns the person's key of that id, or nil.
func (c *Charter) key(id string) (*Person, *Key) {
	for i := range c.People {
		p := &c.People[i]
		for j := range p.Keys {
			if p.Keys[j].ID == id {
				return p, &p.Keys[j]
			}
		}
	}
	return nil, nil
}

// signers returns the people of the charter whose signatures over the payload hold.
func (c *Charter) signers(payloadType string, payload []byte, sigs []Signature) signers {
	return c.by(c.Approvals(payloadType, payload, sigs))
}

// by is the people who approved.
func (c *Charter) by(approvals []Approval) signers {
	people := make(signers)
	for _, a := range approvals {
		people[a.Person] = c.person(a.Person)
	}
	return people
}

// pinned counts the pinned keys that signed. A key is pinned by its public half alone, as it would stand in a charter; what more a charter
// says of its keys is judged with it.
func (g *signed) pinned(keys []string) (n int) {
	pae, seen := PAE(PayloadType, g.raw), map[string]bool{}
	for _, public := range keys {
		k := Key{Type: "ed25519", Public: public}
		if strings.Contains(public, " ") {
			k.Type = "ssh"
		} else if decode64(public, ed25519.PublicKeySize) == nil {
			k.Type, k.Credential, k.Synced = "webauthn", "AA", "accepted"
		}
		p, err := k.parse()
		if err != nil || seen[p.point] {
			continue
		}
		for i := range g.sigs[:min(len(g.sigs), maxSignatures)] {
			if _, err := k.verify(pae, &g.sigs[i]); err == nil && !seen[p.point] {
				seen[p.point] = true
				n++
			}
		}
	}
	return n
}
