// Package verify checks receipts, bundles and published logs offline, with nothing but a trust file.
//
// It says what holds, what does not, and what cannot be known from what it was given.
package verify

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/reevehq/reeve/entry"
)

var (
	// ErrDoesNotHold is wrapped by errors that mean: this is false, or was altered.
	ErrDoesNotHold = errors.New("does not hold")
	// ErrUndecided is wrapped by errors that mean: what was given does not suffice to tell.
	ErrUndecided = errors.New("cannot be decided")
)

func fails(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrDoesNotHold, fmt.Errorf(format, args...))
}

func undecided(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrUndecided, fmt.Errorf(format, args...))
}

// Level is how far an entry is proven.
type Level int

const (
	Promised Level = iota + 1 // the log signed a receipt
	Included                  // the entry is in a tree that the log signed
	Cosigned                  // and enough witnesses cosigned that tree
)

func (l Level) String() string {
	switch l {
	case Promised:
		return "promised"
	case Included:
		return "included"
	case Cosigned:
		return "cosigned"
	}
	return "unproven"
}

// MarshalText implements encoding.TextMarshaler.
func (l Level) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// ParseLevel reads a level's name.
func ParseLevel(s string) (Level, error) {
	for l := Promised; l <= Cosigned; l++ {
		if l.String() == s {
			return l, nil
		}
	}
	return 0, fmt.Errorf("level %q is none of promised, included, cosigned", s)
}

// Trust is trust.json: the keys, taken from an estate's charter, that everything else is checked with.
type Trust struct {
	Estate    string    `json:"estate"`
	Logs      []Log     `json:"logs"`
	Witnesses []Witness `json:"witnesses"`
	Need      int       `json:"need"` // distinct witnesses that make a checkpoint cosigned; 0 means 1
}

// Log is the key of one process's log and of its successors: reeve/<estate>/<process> is the first, /1, /2 and so on are those after
// it. A key is good for the log that it is named after and for those that follow, up to the one that the next key is named after.
type Log struct {
	Process string `json:"process"`
	Origin  string `json:"origin"`
	Key     string `json:"key"` // note verifier key, Ed25519, named Origin

	n int // which successor
}

// Witness is a cosigner's key (C2SP tlog-cosignature).
type Witness struct {
	Name string `json:"name"`
	Key  string `json:"key"` // note verifier key with algorithm 0x04
}

// ParseTrust reads trust.json strictly: unknown members, doubled keys and keys that do not parse are refused.
func ParseTrust(b []byte) (*Trust, error) {
	t := new(Trust)
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(t); err != nil {
		return nil, fmt.Errorf("trust file: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("trust file: data after its end")
	}
	return t, t.check()
}

func (t *Trust) check() error {
	origins, keys := map[string]bool{}, map[string]bool{}
	for _, l := range t.Logs {
		name, _, err := parseKey(l.Key, algEd25519)
		if err != nil || name != l.Origin || origins[l.Origin] {
			return fmt.Errorf("trust file: log %q: its key is malformed, has another name, or the origin stands twice", l.Origin)
		}
		origins[l.Origin] = true
	}
	for _, w := range t.Witnesses {
		name, pub, err := parseKey(w.Key, algCosignature)
		if err != nil || name != w.Name || keys[string(pub)] {
			return fmt.Errorf("trust file: witness %q: its key is malformed, has another name, or stands twice", w.Name)
		}
		keys[string(pub)] = true
	}
	if t.Need < 0 || t.Need > len(t.Witnesses) {
		return fmt.Errorf("trust file: %d cosignatures needed from %d witnesses", t.Need, len(t.Witnesses))
	}
	return nil
}

// need is how many distinct witnesses make a checkpoint cosigned.
func (t *Trust) need() int { return max(t.Need, 1) }

// Algorithm bytes of note keys (C2SP signed-note).
const (
	algEd25519     = 0x01
	algCosignature = 0x04
)

// parseKey reads a note verifier key of one algorithm.
func parseKey(vkey string, alg byte) (name string, pub ed25519.PublicKey, err error) {
	part := strings.SplitN(vkey, "+", 3)
	if len(part) != 3 {
		return "", nil, errors.New("malformed verifier key")
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(part[2])
	if err != nil || len(raw) != 1+ed25519.PublicKeySize || raw[0] != alg || part[0] == "" || strings.ContainsAny(part[0], " \t\n") {
		return "", nil, errors.New("malformed verifier key")
	}
	if hash, err := strconv.ParseUint(part[1], 16, 32); err != nil || len(part[1]) != 8 || uint32(hash) != keyHash(part[0], raw) {
		return "", nil, errors.New("the verifier key's hash is wrong")
	}
	return part[0], raw[1:], nil
}

func keyHash(name string, algAndKey []byte) uint32 {
	sum := sha256.Sum256(append([]byte(name+"\n"), algAndKey...))
	return binary.BigEndian.Uint32(sum[:])
}

// verifier is a note.Verifier of a log or, with cosignature, of a witness.
type verifier struct {
	name        string
	pub         ed25519.PublicKey
	cosignature bool
}

// NewVerifier returns the verifier of a note key: a log's (Ed25519) or a witness's (cosignature/v1).
func NewVerifier(vkey string) (note.Verifier, error) {
	if name, pub, err := parseKey(vkey, algCosignature); err == nil {
		return &verifier{name, pub, true}, nil
	}
	name, pub, err := parseKey(vkey, algEd25519)
	return &verifier{name, pub, false}, err
}

func (v *verifier) Name() string { return v.name }

func (v *verifier) KeyHash() uint32 {
	alg := byte(algEd25519)
	if v.cosignature {
		alg = algCosignature
	}
	return keyHash(v.name, append([]byte{alg}, v.pub...))
}

func (v *verifier) Verify(text, sig []byte) bool {
	if !v.cosignature {
		return ed25519.Verify(v.pub, text, sig)
	}
	if len(sig) != 8+ed25519.SignatureSize {
		return false
	}
	// C2SP tlog-cosignature, cosignature/v1: eight bytes of Unix seconds, then the signature over a header and the note.
	t := binary.BigEndian.Uint64(sig)
	return t < 1<<63 && ed25519.Verify(v.pub, append(fmt.Appendf(nil, "cosignature/v1\ntime %d\n", t), text...), sig[8:])
}

// at is number n of the chain of logs, with the same key under its own origin.
func (l Log) at(n int) Log {
	first, named := entry.Successor(l.Origin)
	if l.n = n; n > named {
		_, pub, _ := parseKey(l.Key, algEd25519)
		l.Origin = fmt.Sprintf("%s/%d", first, n)
		l.Key, _ = note.NewEd25519VerifierKey(l.Origin, pub)
	}
	return l
}

// maxSuccessors bounds the search for a log by its id: 340 years of monthly rotation.
const maxSuccessors = 4096

// log finds the log, or the successor of one, that a predicate names. It looks at the first logs of all processes before their successors: few
// have many.
func (t *Trust) log(is func(Log) bool) (Log, bool) {
	type span struct {
		log      Log
		from, to int
	}
	var spans []span
	for _, l := range t.Logs {
		first, from := entry.Successor(l.Origin)
		s := span{l, from, maxSuccessors}
		for _, other := range t.Logs { // the next key takes over
			if base, n := entry.Successor(other.Origin); base == first && n > from {
				s.to = min(s.to, n)
			}
		}
		spans = append(spans, s)
	}
	for n := range maxSuccessors {
		for _, s := range spans {
			if s.from <= n && n < s.to {
				if l := s.log.at(n); is(l) {
					return l, true
				}
			}
		}
	}
	return Log{}, false
}

// ByOrigin finds a log by its origin line: its key is the last one that is named after it or after a log before it.
func (t *Trust) ByOrigin(origin string) (found Log, ok bool) {
	first, n := entry.Successor(origin)
	if n >= maxSuccessors {
		return Log{}, false
	}
	from := -1
	for _, l := range t.Logs {
		if base, m := entry.Successor(l.Origin); base == first && m <= n && m > from {
			found, from = l.at(n), m
		}
	}
	return found, from >= 0
}

// Chain is the key of number n of the chain of a process's logs.
func (t *Trust) Chain(process string, n int) (Log, bool) {
	for _, l := range t.Logs {
		if l.Process == process {
			first, _ := entry.Successor(l.Origin)
			if n > 0 {
				first = fmt.Sprintf("%s/%d", first, n)
			}
			return t.ByOrigin(first)
		}
	}
	return Log{}, false
}

// Checkpoint is a verified checkpoint.
type Checkpoint struct {
	tlog.Tree
	Log       Log
	Cosigners []string  // names of the distinct witnesses whose cosignatures hold
	Time      time.Time // the latest time at which enough witnesses had cosigned; zero without
	Raw       []byte
}

// Checkpoint verifies a signed checkpoint (C2SP tlog-checkpoint) and counts its cosignatures, one for each distinct key.
func (t *Trust) Checkpoint(raw []byte) (*Checkpoint, error) {
	origin, _, _ := bytes.Cut(raw, []byte("\n"))
	l, ok := t.ByOrigin(string(origin))
	if !ok {
		return nil, fails("no key for log %q in the trust file: the checkpoint was altered, or is of another estate", origin)
	}
	v, err := NewVerifier(l.Key)
	if err != nil {
		return nil, err
	}
	n, err := note.Open(raw, note.VerifierList(v))
	if err != nil {
		return nil, fails("checkpoint of %s: %w", l.Origin, err)
	}
	for _, sig := range slices.Concat(n.Sigs, n.UnverifiedSigs) {
		// The note package overlooks the unused bits of a last digit; one spelling only is accepted here.
		if _, err := base64.StdEncoding.Strict().DecodeString(sig.Base64); err != nil {
			return nil, fails("checkpoint of %s: signature of %s is not canonical base64", l.Origin, sig.Name)
		}
	}
	c := &Checkpoint{Log: l, Raw: raw}
	if c.Tree, err = parseTree(l.Origin, n.Text); err != nil {
		return nil, fails("checkpoint of %s: %w", l.Origin, err)
	}
	var times []time.Time
	for _, w := range t.Witnesses {
		v, err := NewVerifier(w.Key)
		if err != nil {
			return nil, err
		}
		signed, err := note.Open(raw, note.VerifierList(v))
		var unverified *note.UnverifiedNoteError
		if errors.As(err, &unverified) {
			continue // this witness has not cosigned
		}
		if err != nil {
			return nil, fails("cosignature of %s: %w", w.Name, err)
		}
		if slices.Contains(c.Cosigners, w.Name) {
			continue // two keys of one witness, which changes over, are one witness
		}
		c.Cosigners = append(c.Cosigners, w.Name)
		sig, _ := base64.StdEncoding.DecodeString(signed.Sigs[0].Base64) // four bytes of key hash, then time and signature
		times = append(times, time.Unix(int64(binary.BigEndian.Uint64(sig[4:])), 0).UTC())
	}
	if len(c.Cosigners) >= t.need() {
		c.Time = nth(times, t.need())
	}
	return c, nil
}

// nth is the time at which the nth of the cosignatures was made.
func nth(times []time.Time, n int) time.Time {
	for _, t := range times {
		before := 0
		for _, u := range times {
			if !u.After(t) {
				before++
			}
		}
		if before == n {
			return t
		}
	}
	return times[0]
}

// level of what is included in the checkpoint.
func (t *Trust) level(c *Checkpoint) Level {
	if len(c.Cosigners) >= t.need() {
		return Cosigned
	}
	return Included
}

// parseTree reads a checkpoint's text: origin, size, root, and nothing else.
func parseTree(origin, text string) (tlog.Tree, error) {
	line := strings.Split(text, "\n")
	if len(line) != 4 || line[0] != origin || line[3] != "" {
		return tlog.Tree{}, errors.New("not a checkpoint of three lines")
	}
	n, err := strconv.ParseInt(line[1], 10, 64)
	if err != nil || n < 0 || strconv.FormatInt(n, 10) != line[1] || n > maxLeaves {
		return tlog.Tree{}, errors.New("malformed size")
	}
	h, err := tlog.ParseHash(line[2])
	if err != nil || h.String() != line[2] {
		return tlog.Tree{}, errors.New("malformed root")
	}
	return tlog.Tree{N: n, Hash: h}, nil
}

// maxLeaves is what a sequence number can count (entry: integers below 2^53).
const maxLeaves = 1 << 53

// Receipt verifies a promise: the log's signature over its sequence number, leaf hash and time.
func (t *Trust) Receipt(s string) (*entry.Receipt, Log, error) {
	r, err := entry.ParseReceipt(s)
	if err != nil {
		return nil, Log{}, fails("%w", err)
	}
	l, ok := t.log(func(l Log) bool { return entry.LogID(l.Key) == r.Log })
	if !ok {
		return nil, Log{}, undecided("no key for log id %s in the trust file", r.Log)
	}
	_, pub, err := parseKey(l.Key, algEd25519)
	if err != nil {
		return nil, Log{}, err
	}
	if err := r.Verify(pub); err != nil {
		return nil, l, fails("%w", err)
	}
	return r, l, nil
}

// ID is the log id.
func (c *Checkpoint) ID() string { return entry.LogID(c.Log.Key) }
