package statement

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// RelyingParty is the relying party id of every passkey that signs: the page that asks for it comes from the signer's own machine.
const RelyingParty = "localhost"

// Assertion is what a passkey's signature is over (WebAuthn level 3, section 7.2).
type Assertion struct {
	AuthenticatorData []byte `json:"authenticator_data"` // 37 bytes: hash of the relying party id, flags, counter
	ClientData        []byte `json:"client_data"`        // the browser's JSON, as it was signed
}

// maxClientData bounds the browser's JSON, in bytes.
const maxClientData = 2 << 10

// Challenge is what a passkey signs to sign a payload: the SHA-256 of its PAE.
func Challenge(payloadType string, payload []byte) [sha256.Size]byte {
	return sha256.Sum256(PAE(payloadType, payload))
}

// verify checks the assertion for the key over the PAE, and returns the authenticator's flags and counter.
func (a *Assertion) verify(k *parsedKey, pae, sig []byte) (flags byte, counter uint32, err error) {
	if len(a.AuthenticatorData) != 37 {
		return 0, 0, errors.New("its authenticator data have not 37 bytes")
	}
	rp := sha256.Sum256([]byte(RelyingParty))
	flags, counter = a.AuthenticatorData[32], binary.BigEndian.Uint32(a.AuthenticatorData[33:])
	switch {
	case !bytes.Equal(a.AuthenticatorData[:32], rp[:]):
		return 0, 0, fmt.Errorf("it is for another relying party than %s", RelyingParty)
	case flags&userPresent == 0 || flags&userVerified == 0:
		return 0, 0, errors.New("the authenticator did not verify its user: a PIN or a fingerprint is needed")
	case flags&(attested|extended) != 0 || flags&backedUp != 0 && flags&backupEligible == 0:
		return 0, 0, fmt.Errorf("its flags %08b contradict its authenticator data", flags)
	case flags&backupEligible != 0 && k.Synced != "accepted":
		return 0, 0, errors.New("the passkey is a synced one, and the charter does not say synced: accepted for it")
	}
	if err := checkClientData(a.ClientData, sha256.Sum256(pae)); err != nil {
		return 0, 0, err
	}
	hash := sha256.Sum256(a.ClientData)
	if !holds(k.public, append(bytes.Clone(a.AuthenticatorData), hash[:]...), sig) {
		return 0, 0, errors.New("it was made by another key, or was altered")
	}
	return flags, counter, nil
}

// checkClientData reads the JSON of collected client data (WebAuthn, section 5.8.1). Members of other names are passed over: browsers
// add some, to be seen to do so.
func checkClientData(raw []byte, challenge [sha256.Size]byte) error {
	if len(raw) > maxClientData {
		return fmt.Errorf("its client data have more than %d bytes", maxClientData)
	}
	m, err := members(raw)
	if err != nil {
		return fmt.Errorf("its client data cannot be read: %w", err)
	}
	text := func(name string) (s string) {
		if json.Unmarshal(m[name], &s) != nil {
			return ""
		}
		return s
	}
	_, framed := m["topOrigin"]
	cross, said := m["crossOrigin"]
	switch {
	case text("type") != "webauthn.get":
		return fmt.Errorf("its client data are of type %q, not webauthn.get", text("type"))
	case text("challenge") != base64.RawURLEncoding.EncodeToString(challenge[:]):
		return errors.New("it is of something else: the challenge is not the hash of this")
	case !localOrigin(text("origin")):
		return fmt.Errorf("it was asked for by the page %q, not by one of this machine (http://localhost)", text("origin"))
	case framed || said && string(cross) != "false":
		return errors.New("it was asked for by a page within another page")
	}
	return nil
}

// members splits a JSON object. A name that comes twice is an error: another reader could take the other one.
func members(raw []byte) (map[string]json.RawMessage, error) {
	dec, m := json.NewDecoder(bytes.NewReader(raw)), map[string]json.RawMessage{}
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("it is not a JSON object")
	}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return nil, err
		}
		name, _ := t.(string)
		if _, twice := m[name]; twice {
			return nil, fmt.Errorf("the member %q comes twice", name)
		}
		var v json.RawMessage
		if err := dec.Decode(&v); err != nil {
			return nil, err
		}
		m[name] = v
	}
	if _, err := dec.Token(); err != nil { // the closing brace
		return nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("something follows the JSON object")
	}
	return m, nil
}

// localOrigin reports whether s is http://localhost or https://localhost, with or without a port.
func localOrigin(s string) bool {
	rest, ok := strings.CutPrefix(s, "http://"+RelyingParty)
	if !ok {
		rest, ok = strings.CutPrefix(s, "https://"+RelyingParty)
	}
	port, has := strings.CutPrefix(rest, ":")
	n, err := strconv.ParseUint(port, 10, 16)
	return ok && (rest == "" || has && err == nil && n > 0 && strconv.FormatUint(n, 10) == port)
}
