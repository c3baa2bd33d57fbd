// Package terminal shows text that others wrote. What could move the cursor, colour, hide or reorder what stands beside it is shown as its number, the
// way JSON writes it: \u001b. Text that is JSON stays the same JSON.
package terminal

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"unicode/utf16"
	"unicode/utf8"
)

// Visible is a name, a reason or another text in one line: newlines and tabs, which would look like the next line or column, are shown as numbers too.
func Visible(s string) string {
	if plain(s, "") {
		return s
	}
	b, rest := appendVisible(nil, s, "")
	return string(appendRest(b, rest))
}

// Lines is an argument of Printf that has more than one line.
type Lines string

// Printf is fmt.Fprintf with each argument Visible. Newlines and tabs of format are the caller's own. Lines keeps its own too; an error, which may be
// several, goes on in lines that are indented.
func Printf(w io.Writer, format string, args ...any) (int, error) {
	for i, a := range args { // in place, so that go vet sees a printf; an argument of an argument is shown the same
		args[i] = argument{a}
	}
	return fmt.Fprintf(w, format, args...)
}

type argument struct{ value any }

// Format implements fmt.Formatter.
func (a argument) Format(f fmt.State, verb rune) {
	text := fmt.Sprintf(fmt.FormatString(f, verb), a.value)
	switch a.value.(type) {
	case Lines:
	case error:
		lines := strings.Split(text, "\n")
		for i := range lines {
			lines[i] = Visible(lines[i])
		}
		text = strings.Join(lines, "\n  ")
	default:
		text = Visible(text)
	}
	io.WriteString(f, text)
}

// NewWriter returns a writer for a terminal or a log: everything that is shown there goes through it. Newlines and tabs are passed on. It is
// safe for concurrent use.
func NewWriter(w io.Writer) io.Writer { return &writer{w: w} }

type writer struct {
	mu   sync.Mutex // spans a write
	w    io.Writer
	rest []byte // the beginning of a character
}

const between = "\n\t"

func (t *writer) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.rest) == 0 && plain(p, between) {
		return t.w.Write(p)
	}
	b, rest := appendVisible(nil, append(t.rest, p...), between)
	t.rest = rest
	if _, err := t.w.Write(b); err != nil {
		return 0, err
	}
	return len(p), nil
}

// plain is whether s is of printable ASCII and bytes of keep.
func plain[T ~string | ~[]byte](s T, keep string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; (c < ' ' || c > '~') && strings.IndexByte(keep, c) < 0 {
			return false
		}
	}
	return true
}

// appendVisible appends s, and returns what is the beginning of a character at its end.
func appendVisible[T ~string | ~[]byte](b []byte, s T, keep string) (_, rest []byte) {
	for text := []byte(s); len(text) > 0; {
		r, n := utf8.DecodeRune(text)
		switch {
		case r == utf8.RuneError && n == 1 && !utf8.FullRune(text):
			return b, append([]byte(nil), text...)
		case r == utf8.RuneError && n == 1: // no UTF-8
			b = appendByte(b, text[0])
		case strconv.IsPrint(r), r < utf8.RuneSelf && strings.IndexByte(keep, byte(r)) >= 0:
			b = append(b, text[:n]...)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			b = fmt.Appendf(b, `\u%04x\u%04x`, high, low)
		default:
			b = fmt.Appendf(b, `\u%04x`, r)
		}
		text = text[n:]
	}
	return b, nil
}

func appendRest(b, rest []byte) []byte {
	for _, c := range rest {
		b = appendByte(b, c)
	}
	return b
}

func appendByte(b []byte, c byte) []byte { return fmt.Appendf(b, `\x%02x`, c) }
