// Package scan finds top-level members of a JSON request body without rebuilding it, so that the bytes that were looked at are
// the bytes that are sent. It accepts only what every parser reads the same way (RFC 8259, and narrower where RFC 8259
// leaves a choice): strict UTF-8, no byte order mark, one object, no top-level name twice, nothing after it.
package scan

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Bounds of a body. A body beyond them is refused.
const (
	MaxBytes   = 64 << 20 // length of a body; callers bound it more tightly
	MaxDepth   = 128      // nested arrays and objects, the outermost counted
	MaxMembers = 128      // top-level members
)

// Error says why a body is refused. It holds no byte of the body beyond the names that the caller asked for.
type Error struct {
	Offset int    // of the byte at which reading stopped
	Reason string // such as "a control character in a string"
}

func (e *Error) Error() string {
	return fmt.Sprintf("request body refused at byte %d: %s; parsers could read it differently, so nothing was sent; send one plain JSON object", e.Offset, e.Reason)
}

// Field is where the value of one top-level member stands: body[Start:End], for a string with its quotes. The zero Field is a
// member that is not there.
type Field struct{ Start, End int }

// Absent reports whether the body has no such member.
func (f Field) Absent() bool { return f.End == 0 }

// Text returns what a string holds, decoded. It aliases the body unless the value has escapes. It refuses values that
// parsers read differently: control characters and lone surrogates.
func (f Field) Text(body []byte) ([]byte, error) {
	if f.Absent() || body[f.Start] != '"' {
		return nil, &Error{f.Start, "a member that must be a string is not"}
	}
	text, ok := unescape(body[f.Start+1 : f.End-1])
	if !ok {
		return nil, &Error{f.Start, "a control character or half a surrogate pair in a string that is looked at"}
	}
	return text, nil
}

// Int returns a whole number from 0 to 2^53. Anything that parsers read differently (fractions,
// exponents, signs, larger numbers) is refused.
func (f Field) Int(body []byte) (int64, error) {
	if f.Absent() {
		return 0, &Error{0, "a limit that is not there"}
	}
	var n int64
	for i := f.Start; i < f.End; i++ {
		if body[i] < '0' || body[i] > '9' || n > 1<<53/10 {
			return 0, &Error{i, "a limit that is not a whole number from 0 to 2^53"}
		}
		n = n*10 + int64(body[i]-'0')
	}
	return n, nil
}

// Top checks the whole body and stores the values of the named top-level members in dst, one for each name. A member whose
// name differs from a wanted one only by case, "-" or "_" is refused: some parsers read it as the wanted one. The error is
// an *Error.
func Top(body []byte, dst []Field, names ...string) error {
	clear(dst[:len(names)])
	if len(body) > MaxBytes {
		return &Error{MaxBytes, "too long"}
	}
	if !utf8.Valid(body) {
		return &Error{0, "not UTF-8"}
	}
	s := scanner{body: body}
	i := s.space(0)
	if s.at(i) != '{' {
		return &Error{i, "not a JSON object"}
	}
	if i = s.top(i, dst, names); i >= 0 {
		if i = s.space(i); i == len(body) {
			return nil
		}
		return &Error{i, "something after the JSON object"}
	}
	return &Error{s.offset, s.reason}
}

// Replace returns a new body with the value of f replaced by the JSON string of text.
func Replace(body []byte, f Field, text string) []byte {
	out := make([]byte, 0, len(body)-(f.End-f.Start)+len(text)+16)
	out = append(append(out, body[:f.Start]...), '"')
	for _, r := range strings.ToValidUTF8(text, "\uFFFD") {
		if r < 0x20 || r == '"' || r == '\\' {
			out = fmt.Appendf(out, `\u%04x`, r)
		} else {
			out = utf8.AppendRune(out, r)
		}
	}
	return append(append(out, '"'), body[f.End:]...)
}

// scanner walks one body. Its methods take an offset and return the offset behind what they read, or -1 after fail.
type scanner struct {
	body   []byte
	offset int
	reason string
}

func (s *scanner) fail(at int, reason string) int {
	s.offset, s.reason = at, reason
	return -1
}

// at returns the byte at i, or 0, which no JSON text holds.
func (s *scanner) at(i int) byte {
	if i < len(s.body) {
		return s.body[i]
	}
	return 0
}

func (s *scanner) space(i int) int {
	for i < len(s.body) && (s.body[i] == ' ' || s.body[i] == '\n' || s.body[i] == '\t' || s.body[i] == '\r') {
		i++
	}
	return i
}

// top reads the outermost object.
func (s *scanner) top(i int, dst []Field, names []string) int {
	var seen [MaxMembers][]byte
	n := 0
	if i = s.space(i + 1); s.at(i) == '}' {
		return i + 1
	}
	for {
		start := i
		if i = s.name(i); i < 0 {
			return -1
		}
		key, ok := unescape(bytes.TrimRight(s.body[start:i], ": \n\t\r"))
		if !ok {
			return s.fail(start, "a member name with a control character or half a surrogate pair")
		}
		key = key[1 : len(key)-1]
		for _, other := range seen[:n] {
			if bytes.Equal(key, other) {
				return s.fail(start, "a top-level member name twice")
			}
		}
		if n == MaxMembers {
			return s.fail(start, "too many top-level members")
		}
		seen[n] = key
		n++
		want := -1
		for k, name := range names {
			if string(key) == name {
				want = k
			} else if alike(key, name) {
				return s.fail(start, "a member name that some parsers read as "+name)
			}
		}
		first := s.space(i)
		if i = s.value(first, 2); i < 0 {
			return -1
		}
		if want >= 0 {
			dst[want] = Field{first, i}
		}
		switch i = s.space(i); s.at(i) {
		case ',':
			i = s.space(i + 1)
		case '}':
			return i + 1
		default:
			return s.fail(i, "expected , or }")
		}
	}
}

// name reads a member name, the colon behind it and the space between.
func (s *scanner) name(i int) int {
	if s.at(i) != '"' {
		return s.fail(i, "expected a member name")
	}
	if i = s.str(i); i < 0 {
		return -1
	}
	if i = s.space(i); s.at(i) != ':' {
		return s.fail(i, "expected :")
	}
	return i + 1
}

// value reads the value at i, which is no space. depth counts it if it is an array or object.
func (s *scanner) value(i, depth int) int {
	switch s.at(i) {
	case '"':
		return s.str(i)
	case '{', '[':
		return s.nested(i, depth, s.at(i)+2) // in ASCII both closers stand two behind their openers
	case 't':
		return s.word(i, "true")
	case 'f':
		return s.word(i, "false")
	case 'n':
		return s.word(i, "null")
	}
	return s.number(i)
}

// nested reads an object or array below the outermost.
func (s *scanner) nested(i, depth int, end byte) int {
	if depth > MaxDepth {
		return s.fail(i, "nested too deeply")
	}
	if i = s.space(i + 1); s.at(i) == end {
		return i + 1
	}
	for {
		if end == '}' {
			if i = s.name(i); i < 0 {
				return -1
			}
			i = s.space(i)
		}
		if i = s.value(i, depth+1); i < 0 {
			return -1
		}
		switch i = s.space(i); s.at(i) {
		case ',':
			i = s.space(i + 1)
		case end:
			return i + 1
		default:
			return s.fail(i, "expected , or "+string(rune(end)))
		}
	}
}

func (s *scanner) word(i int, w string) int {
	if !bytes.HasPrefix(s.body[i:], []byte(w)) {
		return s.fail(i, "not a JSON value")
	}
	return i + len(w)
}

// number reads RFC 8259 section 6: no leading zero, plus sign or bare point.
func (s *scanner) number(i int) int {
	if s.at(i) == '-' {
		i++
	}
	if s.at(i) == '0' {
		i++
	} else if i = s.digits(i); i < 0 {
		return -1
	}
	if s.at(i) == '.' {
		if i = s.digits(i + 1); i < 0 {
			return -1
		}
	}
	if c := s.at(i); c == 'e' || c == 'E' {
		if c = s.at(i + 1); c == '+' || c == '-' {
			i++
		}
		return s.digits(i + 1)
	}
	return i
}

func (s *scanner) digits(i int) int {
	start := i
	for s.at(i) >= '0' && s.at(i) <= '9' {
		i++
	}
	if i == start {
		return s.fail(i, "not a JSON value")
	}
	return i
}

// Eight bytes at a time: ones is 0x01 in each byte, highs 0x80.
const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// stops has, in the high bits of its bytes, none set when no byte of w is a quote, a backslash or below 0x20. Its lowest high bit
// that is set is that of the first such byte. The exclusive or with 2 puts the quote (0x22) right behind the control characters.
// The other bits mean nothing.
func stops(w uint64) uint64 { return ((w ^ ones*2 - ones*0x21) | (w ^ ones*'\\' - ones)) & ^w }

// plain returns the offset of the first byte from i on that is a quote, a backslash or below 0x20, or, if there is none, one of the
// last seven.
func (s *scanner) plain(i int) int {
	b := s.body[i:]
	for ; len(b) >= 32; b = b[32:] { // most text is plain
		if (stops(word(b))|stops(word(b[8:]))|stops(word(b[16:]))|stops(word(b[24:])))&highs != 0 {
			break
		}
	}
	for ; len(b) >= 8; b = b[8:] {
		if m := stops(word(b)) & highs; m != 0 {
			return len(s.body) - len(b) + bits.TrailingZeros64(m)/8
		}
	}
	return len(s.body) - len(b)
}

func word(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }

// str reads the string whose opening quote is at i.
func (s *scanner) str(i int) int {
	b := s.body
	for i++; ; {
		i = s.plain(i)
		switch c := s.at(i); {
		case c == '"':
			return i + 1
		case c == '\\':
			switch s.at(i + 1) {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
				i += 2
			case 'u':
				if _, ok := hex4(b, i+2); !ok {
					return s.fail(i, "a bad escape in a string")
				}
				i += 6
			default:
				return s.fail(i, "a bad escape in a string")
			}
		case i >= len(b):
			return s.fail(i, "a string without end")
		case c < 0x20:
			return s.fail(i, "a control character in a string")
		default:
			i++
		}
	}
}

// hex4 reads four hexadecimal digits at i.
func hex4(b []byte, i int) (r rune, ok bool) {
	if i+4 > len(b) {
		return 0, false
	}
	for _, c := range b[i : i+4] {
		switch {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			r = r<<4 | rune(c|0x20-'a'+10)
		default:
			return 0, false
		}
	}
	return r, true
}

// unescape decodes a string that str has read. Without escapes the result is b itself. It is false for a decoded control
// character (some parsers end a string at NUL) and for half a surrogate pair (some replace it, some refuse it).
func unescape(b []byte) ([]byte, bool) {
	if bytes.IndexByte(b, '\\') < 0 {
		return b, bytes.IndexByte(b, 0x7f) < 0
	}
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		if b[i] != '\\' {
			out = append(out, b[i])
			continue
		}
		i++
		r := rune(b[i])
		switch r {
		case 'b', 'f', 'n', 'r', 't':
			return nil, false
		case 'u':
			r, _ = hex4(b, i+1)
			i += 4
			if utf16.IsSurrogate(r) {
				if i+2 >= len(b) || b[i+1] != '\\' || b[i+2] != 'u' {
					return nil, false
				}
				low, _ := hex4(b, i+3)
				if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
					return nil, false
				}
				i += 6
			}
		}
		if r < 0x20 || r == 0x7f {
			return nil, false
		}
		out = utf8.AppendRune(out, r)
	}
	return out, bytes.IndexByte(out, 0x7f) < 0
}

// alike reports whether key reads as name where case, "-" and "_" do not count: Go's encoding/json folds case (with U+017F and
// U+212A), protobuf's JSON takes lowerCamelCase for snake_case, encoding/json/v2 can ignore dashes and underscores.
func alike(key []byte, name string) bool {
	for {
		key, name = bytes.TrimLeft(key, "-_"), strings.TrimLeft(name, "-_")
		if len(key) == 0 || name == "" {
			return len(key) == 0 && name == ""
		}
		_, n := utf8.DecodeRune(key)
		if !strings.EqualFold(string(key[:n]), name[:1]) {
			return false
		}
		key, name = key[n:], name[1:]
	}
}
