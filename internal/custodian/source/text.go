package source

import (
	"errors"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/reevehq/reeve/internal/secret"
)

// Text is a secret that stands in JSON as a string. Decoding makes no string of it, so that it and the answer can both be wiped.
// It stays empty for null.
type Text struct{ secret.Value }

var errText = errors.New("not a string")

// UnmarshalJSON reads a JSON string (RFC 8259, section 7).
func (t *Text) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		t.Value = secret.Value{}
		return nil
	}
	if len(b) < 2 || b[0] != '"' || !utf8.Valid(b) {
		return errText
	}
	out, ok := unquote(b[1 : len(b)-1])
	if !ok {
		clear(out)
		return errText
	}
	t.Value = secret.New(out)
	return nil
}

// unquote writes what no escape makes longer: out never grows.
func unquote(b []byte) (out []byte, ok bool) {
	out = make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		if b[i] != '\\' {
			out = append(out, b[i])
			continue
		}
		i++ // the decoder has seen that something stands there
		switch c := b[i]; c {
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'u':
			r := hex4(b[i+1:])
			i += 4
			if utf16.IsSurrogate(r) {
				if len(b)-i < 7 || b[i+1] != '\\' || b[i+2] != 'u' {
					return out, false
				}
				if r = utf16.DecodeRune(r, hex4(b[i+3:])); r == utf8.RuneError {
					return out, false
				}
				i += 6
			}
			out = utf8.AppendRune(out, r)
		default:
			out = append(out, c)
		}
	}
	return out, true
}

// hex4 reads the four digits that the decoder has seen.
func hex4(b []byte) rune {
	n, _ := strconv.ParseUint(string(b[:4]), 16, 16)
	return rune(n)
}
