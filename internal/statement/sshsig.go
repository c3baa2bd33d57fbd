package statement

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"strings"
)

// Namespace is the namespace that an OpenSSH signature is made in: ssh-keygen -Y sign -n reeve-statement-v1. A signature made
// for anything else, such as a commit, means nothing here.
const Namespace = "reeve-statement-v1"

// Names of OpenSSH's algorithms, for keys and their signatures alike (RFC 8709, RFC 5656, OpenSSH's PROTOCOL.u2f).
const (
	sshEd25519   = "ssh-ed25519"
	sshECDSA     = "ecdsa-sha2-nistp256"
	sshSKEd25519 = "sk-ssh-ed25519@openssh.com"
	sshSKECDSA   = "sk-ecdsa-sha2-nistp256@openssh.com"
)

// Flags of an authenticator, in OpenSSH's signatures and in authenticator data (WebAuthn, section 6.1).
const (
	userPresent    = 1 << 0
	userVerified   = 1 << 2
	backupEligible = 1 << 3 // the key may leave its device
	backedUp       = 1 << 4
	attested       = 1 << 6
	extended       = 1 << 7
)

// maxSSHSig bounds a signature blob, in bytes: the longest that is accepted has about 400.
const maxSSHSig = 1 << 10

// sshKey is an OpenSSH public key.
type sshKey struct {
	algorithm   string
	blob        []byte // in SSH wire format, as it stands in a signature
	public      crypto.PublicKey
	application string // of a security key, "ssh:" and what its owner added; else empty
}

// parseSSHKey reads "<algorithm> <base64>", the line of an id_*.pub file without its comment. The error continues "key K …".
func parseSSHKey(line string) (*sshKey, error) {
	name, b64, _ := strings.Cut(line, " ")
	switch name {
	case sshEd25519, sshECDSA, sshSKEd25519, sshSKECDSA:
	case "ssh-rsa", "ssh-dss":
		return nil, fmt.Errorf("is of type %s, which is not accepted for signing: make one with ssh-keygen -t ed25519, or -t ed25519-sk on a security key", name)
	default:
		return nil, fmt.Errorf("begins with %q, not with %s, %s, %s or %s", name, sshEd25519, sshECDSA, sshSKEd25519, sshSKECDSA)
	}
	blob, err := base64.StdEncoding.DecodeString(b64)
	if err != nil || base64.StdEncoding.EncodeToString(blob) != b64 {
		return nil, errors.New("is not an OpenSSH public key: the algorithm, a space, base64, no comment")
	}
	k, w := &sshKey{algorithm: name, blob: blob}, wire{rest: blob}
	same := string(w.bytes()) == name
	if name == sshECDSA || name == sshSKECDSA {
		same = string(w.bytes()) == "nistp256" && same
		k.public, err = ecdsa.ParseUncompressedPublicKey(elliptic.P256(), w.bytes())
	} else {
		raw := w.bytes()
		same = same && len(raw) == ed25519.PublicKeySize
		k.public = ed25519.PublicKey(raw)
	}
	if strings.HasPrefix(name, "sk-") {
		k.application = string(w.bytes())
		same = same && strings.HasPrefix(k.application, "ssh:") // anything else is a passkey's relying party
	}
	if err != nil || !same || !w.ended() {
		return nil, fmt.Errorf("is not the OpenSSH public key of type %s that it says", name)
	}
	return k, nil
}

// sshSig is an OpenSSH signature (OpenSSH's PROTOCOL.sshsig), without its armour.
type sshSig struct {
	key, hash []byte
	format    string // the algorithm of the signature
	sig       []byte
	flags     byte   // of a security key
	counter   uint32 // of a security key
}

// parseSSHSig reads a signature blob. The namespace must be ours and the reserved field empty; there is one encoding of it.
func parseSSHSig(blob []byte) (*sshSig, error) {
	rest, ok := bytes.CutPrefix(blob, []byte("SSHSIG\x00\x00\x00\x01"))
	if !ok || len(blob) > maxSSHSig {
		return nil, errors.New("it is not an OpenSSH signature of version 1")
	}
	w := wire{rest: rest}
	s := &sshSig{key: w.bytes()}
	namespace, reserved := string(w.bytes()), w.bytes()
	s.hash = w.bytes()
	inner := wire{rest: w.bytes(), bad: !w.ended()}
	s.format, s.sig = string(inner.bytes()), inner.bytes()
	if strings.HasPrefix(s.format, "sk-") {
		s.flags, s.counter = inner.byte(), inner.uint32()
	}
	switch {
	case !inner.ended() || len(reserved) > 0:
		return nil, errors.New("it is not a whole OpenSSH signature, or more than one")
	case namespace != Namespace:
		return nil, fmt.Errorf("it was made in the namespace %q, not %q", namespace, Namespace)
	}
	return s, nil
}

// verify checks a signature blob over the message, and returns what the key says about its user.
func (k *sshKey) verify(message, blob []byte) (*sshSig, error) {
	s, err := parseSSHSig(blob)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(s.key, k.blob) || s.format != k.algorithm {
		return nil, errors.New("it was made by another key")
	}
	var sum []byte
	switch string(s.hash) {
	case "sha512":
		h := sha512.Sum512(message)
		sum = h[:]
	case "sha256":
		h := sha256.Sum256(message)
		sum = h[:]
	default:
		return nil, fmt.Errorf("it hashes with %q, not with sha512 or sha256", s.hash)
	}
	signed := []byte("SSHSIG")
	for _, field := range [][]byte{[]byte(Namespace), nil, s.hash, sum} {
		signed = appendWire(signed, field)
	}
	if k.application != "" { // OpenSSH's PROTOCOL.u2f: what the authenticator signed
		app, h := sha256.Sum256([]byte(k.application)), sha256.Sum256(signed)
		signed = binary.BigEndian.AppendUint32(append(app[:], s.flags), s.counter)
		signed = append(signed, h[:]...)
	}
	if !k.holds(signed, s.sig) {
		return nil, errors.New("it is of something else, or was altered")
	}
	return s, nil
}

// holds verifies a raw signature in SSH's encoding.
func (k *sshKey) holds(signed, sig []byte) bool {
	public, ok := k.public.(*ecdsa.PublicKey)
	if !ok {
		return holds(k.public, signed, sig)
	}
	w := wire{rest: sig}
	r, s := w.positive(), w.positive()
	sum := sha256.Sum256(signed)
	return w.ended() && ecdsa.Verify(public, sum[:], r, s)
}

// wire reads SSH's binary encoding (RFC 4251, section 5). After something that does not fit, everything is empty and bad is set.
type wire struct {
	rest []byte
	bad  bool
}

func (w *wire) take(n int) []byte {
	if w.bad = w.bad || n > len(w.rest); w.bad {
		return make([]byte, min(n, 4))
	}
	b := w.rest[:n:n]
	w.rest = w.rest[n:]
	return b
}

func (w *wire) byte() byte     { return w.take(1)[0] }
func (w *wire) uint32() uint32 { return binary.BigEndian.Uint32(w.take(4)) }

// bytes reads a string: its length and its bytes.
func (w *wire) bytes() []byte {
	n := w.uint32()
	if w.bad = w.bad || uint64(n) > uint64(len(w.rest)); w.bad {
		return nil
	}
	return w.take(int(n))
}

// positive reads a positive mpint in its one encoding.
func (w *wire) positive() *big.Int {
	b := w.bytes()
	if len(b) == 0 || b[0] >= 0x80 || b[0] == 0 && (len(b) == 1 || b[1] < 0x80) {
		w.bad = true
	}
	return new(big.Int).SetBytes(b)
}

// ended reports whether everything was read and fitted.
func (w *wire) ended() bool { return !w.bad && len(w.rest) == 0 }

func appendWire(to, field []byte) []byte {
	return append(binary.BigEndian.AppendUint32(to, uint32(len(field))), field...)
}
