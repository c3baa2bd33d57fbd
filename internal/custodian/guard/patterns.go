// Package guard keeps a credential out of the answers that its own use brings back. It finds the secret in every form that
// docs name (raw, hex, base64 in three alignments and wrapped in lines, each character as it is, percent-encoded, JSON-escaped or as an HTML entity),
// across any split, and withholds exactly the longest suffix that could begin one.
package guard

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math/bits"

	"github.com/reevehq/reeve/internal/hop"
	"github.com/reevehq/reeve/internal/secret"
)

// Bounds of a secret in bytes. A shorter one would be found in ordinary text, so it is refused when it is handed over.
const (
	MinSecret = 8
	MaxSecret = 8 << 10
)

var (
	// ErrReflected means that the upstream sent the secret back. Nothing of it was released; the stream must be cut.
	ErrReflected = errors.New("the upstream's answer holds the credential; the answer was cut before it and nothing of it was passed on; rotate the credential if the upstream is not yours")
	// ErrSecret means that a secret cannot be guarded, and so must not be used.
	ErrSecret = errors.New("secret cannot be guarded")
)

// Patterns are the forms of one secret version, compiled once. Safe for concurrent use.
type Patterns struct {
	forms []form
	// fast has a lane of 16 bits for each of the first four bytes of a match; a bit is one form begun in one way.
	fast [256]uint64
	next *Patterns // of what goes out beside the secret and is secret too
}

// form is one spelling of the secret. Each character of want may stand raw, as %XX, \u00XX, &#NN; or &#xXX;, mixed freely.
type form struct {
	want []byte
	fold *[256]byte // a byte b stands for want[i] when fold[b] == want[i]
	wrap bool       // line breaks may stand between two characters
}

// New compiles the forms of the secrets that go out together: printable ASCII without spaces at its ends, MinSecret to MaxSecret bytes. Without
// any, everything passes. The error wraps ErrSecret.
func New(secrets ...secret.Value) (*Patterns, error) {
	p := &Patterns{}
	for i, v := range secrets {
		for _, c := range v.Reveal() {
			if c < ' ' || c > '~' {
				return nil, fmt.Errorf("%w: it has a byte that is not printable ASCII", ErrSecret)
			}
		}
		one, err := compile(v)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			one.next = p
		}
		p = one
	}
	return p, nil
}

// Key is New for the bytes of a key, which are no text. They are found as they are, in hex and in base64: in PEM too.
func Key(v secret.Value) (*Patterns, error) { return compile(v) }

func compile(v secret.Value) (*Patterns, error) {
	s := v.Reveal()
	if len(s) < MinSecret || len(s) > MaxSecret {
		return nil, fmt.Errorf("%w: it has %d bytes; %d to %d are needed", ErrSecret, len(s), MinSecret, MaxSecret)
	}
	var exact, hexed, base [256]byte
	for i := range exact {
		exact[i], hexed[i], base[i] = byte(i), byte(i), byte(i)
	}
	for c := byte('A'); c <= 'F'; c++ {
		hexed[c] = c | 0x20
	}
	base['+'], base['/'] = '-', '_'

	p := &Patterns{forms: []form{
		{append([]byte(nil), s...), &exact, false},
		{hex.AppendEncode(nil, s), &hexed, true},
	}}
	room := make([]byte, 2+len(s)) // so that no copy is left behind
	copy(room[2:], s)
	defer clear(room)
	for before := range 3 {
		// The secret behind 0, 1 or 2 unknown bytes: only characters whose six bits all come from the secret count, so
		// neither what stands around it nor padding matters.
		text := base64.RawURLEncoding.AppendEncode(nil, room[2-before:])
		p.forms = append(p.forms, form{text[(before*8+5)/6 : (before+len(s))*8/6], &base, true})
	}
	p.compile()
	return p, nil
}

// Wipe overwrites the forms. No stream may still use them.
func (p *Patterns) Wipe() {
	for _, f := range p.forms {
		clear(f.want)
	}
	clear(p.fast[:])
	if p.next != nil {
		p.next.Wipe()
	}
}

// compile fills fast: a lane for each of the first four bytes, a bit in it for each form and first byte kind.
func (p *Patterns) compile() {
	for f := range p.forms {
		for kind := range kinds {
			threads := []thread{{form: uint8(f)}}
			for lane := range 4 {
				var next []thread
				for b := range 256 {
					if lane == 0 && kind != kindOf(byte(b)) {
						continue
					}
					for _, t := range threads {
						before := len(next)
						if next = p.advance(next, t, byte(b)); len(next) > before {
							p.fast[b] |= 1 << (16*lane + kinds*f + kind)
						}
					}
				}
				threads = next
			}
		}
	}
}

// kinds of first bytes: a character; what begins an escape of an URL or of HTML; of JSON, which whole answers may consist of.
const kinds = 3

func kindOf(b byte) int {
	switch b {
	case '%', '&':
		return 1
	case '\\':
		return 2
	}
	return 0
}

// thread is one match begun: form and pos say which character comes next, stage how much of its spelling was read.
type thread struct {
	start int64 // offset of its first byte; in deltas, of its event
	pos   uint16
	form  uint8
	stage uint8
	digit uint8 // the high half of the byte, or so much of an entity's number, or how many zeros begin that
}

// Stages inside one character. Up to four backslashes stand before an escape: JSON in JSON in JSON.
const (
	between  = 0
	slash1   = 1 // one backslash read
	slash4   = 4
	u        = 5 // \u
	u0       = 6
	u00      = 7
	u00x     = 8
	percent  = 9
	percentX = 10
	amp      = 11 // &
	ampNum   = 12 // &#
	ampDec   = 13 // &#6
	ampX     = 14 // &#x
	ampHex   = 15 // &#x4
	ampName  = 16 // and what follows: the rest of a name, from its second character on
)

// maxZeros is how many zeros may begin the number of an entity, which has seven digits at most (&#039; is what PHP writes).
const maxZeros = 5

// entities are the characters that HTML has names for (WHATWG HTML, section 13.5; those that every encoder uses).
func entity(c byte) string {
	switch c {
	case '&':
		return "amp;"
	case '<':
		return "lt;"
	case '>':
		return "gt;"
	case '"':
		return "quot;"
	case '\'':
		return "apos;"
	}
	return ""
}

// advance appends to dst what t becomes with byte b: nothing when it dies, two threads where b can be read in two ways.
func (p *Patterns) advance(dst []thread, t thread, b byte) []thread {
	f := &p.forms[t.form]
	want := f.want[t.pos]
	takes := func(b byte) bool { return f.fold[b] == want }
	to := func(stage uint8) { n := t; n.stage = stage; dst = append(dst, n) }
	done := func() { n := t; n.pos, n.stage, n.digit = n.pos+1, between, 0; dst = append(dst, n) }
	d, isDigit := digit(b)
	breaks := f.wrap && t.pos > 0 // a line may end before this character
	switch t.stage {
	case between:
		if takes(b) {
			done()
		}
		switch {
		case b == '%':
			to(percent)
		case b == '\\':
			to(slash1)
		case b == '&':
			to(amp)
		case (b == '\r' || b == '\n') && breaks:
			to(between)
		}
	case u, u0:
		if b == '0' {
			to(t.stage + 1)
		}
	case u00, percent:
		if isDigit && f.begins(want, int(d), 16) {
			t.digit = d
			to(t.stage + 1)
		}
	case u00x, percentX:
		if isDigit && takes(t.digit<<4|d) {
			done()
		}
	case amp:
		if b == '#' {
			to(ampNum)
		} else if name := entity(want); name != "" && name[0] == b {
			to(ampName)
		}
	case ampNum:
		switch {
		case b|0x20 == 'x' && t.digit == 0:
			to(ampX)
		case b == '0' && t.digit < maxZeros:
			t.digit++
			to(ampNum)
		case isDigit && d < 10 && f.begins(want, int(d), 10):
			t.digit = d
			to(ampDec)
		}
	case ampX:
		switch {
		case b == '0' && t.digit < maxZeros:
			t.digit++
			to(ampX)
		case isDigit && f.begins(want, int(d), 16):
			t.digit = d
			to(ampHex)
		}
	case ampDec, ampHex:
		base := 10
		if t.stage == ampHex {
			base = 16
		}
		if n := int(t.digit)*base + int(d); isDigit && int(d) < base && f.begins(want, n, base) {
			t.digit = uint8(n)
			to(t.stage)
		} else if b == ';' && takes(t.digit) {
			done()
		}
	default:
		if t.stage >= ampName {
			if name, k := entity(want), int(t.stage-ampName)+1; name[k] == b && b == ';' {
				done()
			} else if name[k] == b {
				to(t.stage + 1)
			}
			return dst
		}
		if (b == '/' || b == '"' || b == '\\') && takes(b) { // after backslashes
			done()
		}
		switch {
		case b == 'u':
			to(u)
		case b == '\\' && t.stage < slash4:
			to(t.stage + 1)
		case (b == 'r' || b == 'n') && breaks:
			to(between)
		}
	}
	return dst
}

// begins reports whether a number that stands for want has n as its first digits.
func (f *form) begins(want byte, n, base int) bool {
	for c := ' '; c <= '~'; c++ {
		if f.fold[c] == want && n > 0 && (int(c) == n || int(c)/base == n || int(c)/base/base == n) {
			return true
		}
	}
	return false
}

func digit(b byte) (byte, bool) {
	switch {
	case b >= '0' && b <= '9':
		return b - '0', true
	case b|0x20 >= 'a' && b|0x20 <= 'f':
		return b | 0x20 - 'a' + 10, true
	}
	return 0, false
}

// maxThreads bounds the work for a byte. Only a secret that repeats itself can reach it, in text that repeats it: that
// counts as a match.
const maxThreads = 256

// scanner follows every match begun in one run of bytes. Its zero value with p set is ready.
type scanner struct {
	p             *Patterns
	threads, next []thread // ordered by start
}

// feed reads b, whose first byte is at offset at; each following one is stride further. It is false once a match is
// complete.
func (s *scanner) feed(b []byte, at, stride int64) bool {
	for i := 0; i < len(b); i++ {
		if len(s.threads) == 0 {
			if i = s.p.skip(b, i); i == len(b) {
				break
			}
		}
		if !s.step(b[i], at+int64(i)*stride, s.p.begun(b[i:])) {
			return false
		}
	}
	return true
}

// skip returns the first offset from i at which a match could begin.
func (p *Patterns) skip(b []byte, i int) int {
	lanes := uint64(0) // lane k: forms whose first k+1 bytes fit what was just read
	for j := i; j < len(b); j++ {
		lanes = (lanes<<16 | 0xffff) & p.fast[b[j]]
		if lanes>>48 != 0 {
			return j - 3
		}
	}
	for k := 2; k >= 0; k-- {
		if lanes>>(16*k)&0xffff != 0 {
			return len(b) - 1 - k
		}
	}
	return len(b)
}

// begun returns the lane bits of the forms that could begin with b, as far as four bytes tell.
func (p *Patterns) begun(b []byte) uint64 {
	bits := p.fast[b[0]]
	for k := 1; k < 4 && k < len(b); k++ {
		bits &= p.fast[b[k]] >> (16 * k)
	}
	return bits & 0xffff
}

func (s *scanner) step(b byte, at int64, begun uint64) bool {
	s.next = s.next[:0]
	for _, t := range s.threads {
		s.add(t, b)
	}
	for ; begun != 0; begun &= begun - 1 {
		s.add(thread{start: at, form: uint8(bits.TrailingZeros64(begun) / kinds)}, b)
	}
	s.threads, s.next = s.next, s.threads
	for _, t := range s.threads {
		if int(t.pos) == len(s.p.forms[t.form].want) {
			return false
		}
	}
	return len(s.threads) <= maxThreads
}

// add keeps what t becomes with b, of equal threads the one that began first.
func (s *scanner) add(t thread, b byte) {
	n := len(s.next)
	s.next = s.p.advance(s.next, t, b)
new:
	for _, t := range s.next[n:] {
		for _, o := range s.next[:n] {
			if t.pos == o.pos && t.form == o.form && t.stage == o.stage && t.digit == o.digit {
				continue new
			}
		}
		s.next[n] = t
		n++
	}
	s.next = s.next[:n]
}

// Header looks for the secret in the names and values of header or trailer fields.
func (p *Patterns) Header(fields []hop.Field) error {
	s := scanner{p: p}
	for _, f := range fields {
		for _, text := range []string{f.Name, f.Value} {
			s.threads = s.threads[:0]
			if !s.feed([]byte(text), 0, 1) {
				return ErrReflected
			}
		}
	}
	if p.next != nil {
		return p.next.Header(fields)
	}
	return nil
}
