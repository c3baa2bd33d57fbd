package terminal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"unicode/utf8"
)

// hostile is what somebody may write into a name, and how it is shown.
var hostile = map[string]string{
	"":                                "",
	"research-openai":                 "research-openai",
	"größer — 日本 \\n":                 "größer — 日本 \\n",
	"\x1b[2J\x1b]0;root\x07":          `\u001b[2J\u001b]0;root\u0007`,
	"a\r\nincident inc-1: closed\tok": `a\u000d\u000aincident inc-1: closed\u0009ok`,
	"\u009b31m red":                   `\u009b31m red`, // C1: CSI in one character
	"abc\u202egnp.exe":                `abc\u202egnp.exe`,
	"\u2066x\u2069\u200f\ufeff\u200b": `\u2066x\u2069\u200f\ufeff\u200b`,
	"a\u2028b\u00a0c\x7f\b":           `a\u2028b\u00a0c\u007f\u0008`,
	"tag \U000e0041":                  `tag \udb40\udc41`,
	"\xff\xfe broken \xe2\x80":        `\xff\xfe broken \xe2\x80`,
}

func TestVisible(t *testing.T) {
	for s, want := range hostile {
		if got := Visible(s); got != want {
			t.Errorf("%q: %s, want %s", s, got, want)
		}
	}
}

func TestPrintf(t *testing.T) {
	var b bytes.Buffer
	type word string
	Printf(&b, "%s\t%v|%q|%.3s|%-4s|%d|%v|%s|%x|%%\n", "a\x1b\tb", word("c\n"), "d\x1be", "efgh", "i", 7, []string{"j\x1b"}, errors.New("k\u202e"), "l")
	want := "a\\u001b\\u0009b\tc\\u000a|\"d\\x1be\"|efg|i   |7|[j\\u001b]|k\\u202e|6c|%\n"
	if b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
	b.Reset()
	if Printf(&b, "reeve: %v\n", errors.Join(errors.New("a\tb"), errors.New("c"))); b.String() != "reeve: a\\u0009b\n  c\n" {
		t.Errorf("%q", b.String())
	}
	b.Reset()
	if Printf(&b, "%s %[1]s\n", Lines("a\n\tb")); b.String() != "a\n\tb a\n\tb\n" {
		t.Errorf("%q", b.String())
	}
}

// However text is cut into writes, it is shown the same; JSON says the same as before.
func TestWriter(t *testing.T) {
	for s := range hostile {
		text := "x\n\t" + s + "y"
		var whole bytes.Buffer
		if n, err := NewWriter(&whole).Write([]byte(text)); n != len(text) || err != nil {
			t.Fatal(n, err)
		}
		for i := range len(text) {
			var parts bytes.Buffer
			w := NewWriter(&parts)
			fmt.Fprint(w, text[:i])
			fmt.Fprint(w, text[i:])
			if parts.String() != whole.String() {
				t.Errorf("%q cut at %d: %q, want %q", text, i, parts.String(), whole.String())
			}
		}
		var shown bytes.Buffer
		if err := json.NewEncoder(NewWriter(&shown)).Encode(s); err != nil {
			t.Fatal(err)
		}
		var back string
		if err := json.Unmarshal(shown.Bytes(), &back); err != nil || utf8.ValidString(s) && back != s {
			t.Errorf("%q came back as %q: %v", s, back, err)
		}
	}
	for _, c := range []byte("\x00\x07\x1b\x7f\r") {
		var b bytes.Buffer
		if NewWriter(&b).Write([]byte{c}); bytes.IndexByte(b.Bytes(), c) >= 0 {
			t.Errorf("%#x is passed on", c)
		}
	}
}

func FuzzVisible(f *testing.F) {
	for s := range hostile {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := Visible(s)
		for _, r := range got {
			if r == utf8.RuneError && utf8.ValidString(s) {
				continue
			}
			if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
				t.Errorf("%q shows %U", s, r)
			}
		}
		if Visible(got) != got {
			t.Errorf("%q is shown as %q, which is not shown as it is", s, got)
		}
	})
}
