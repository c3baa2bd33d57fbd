package guard

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"html"
	"math/rand"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/reevehq/reeve/internal/hop"
	"github.com/reevehq/reeve/internal/secret"
)

const demo = "demo-upstream-key-7H?>q/2+~Zx"

func compiled(t testing.TB, s string) *Patterns {
	t.Helper()
	p, err := New(secret.New([]byte(s)))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// oracle knows every spelling of every character and tries them all, from every offset. It shares no code with the guard.
type oracle [][][]string // form, position, spellings

func newOracle(s string) (o oracle) {
	var raw, hexed [][]byte
	for _, c := range []byte(s) {
		raw = append(raw, []byte{c})
	}
	for _, c := range hex.EncodeToString([]byte(s)) {
		hexed = append(hexed, bytes.Clone([]byte(strings.ToLower(string(c))+strings.ToUpper(string(c)))))
	}
	forms := [][][]byte{raw, hexed}
	for before := range 3 {
		// What base64 makes of the secret wherever it stands: the characters that are the same whatever is around it.
		zeros := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("\x00", before) + s + "\x00\x00\x00"))
		highs := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("\xff", before) + s + "\xff\xff\xff"))
		var form [][]byte
		for i := range zeros {
			if zeros[i] != highs[i] {
				continue
			}
			switch zeros[i] {
			case '+', '/':
				form = append(form, []byte{zeros[i], map[byte]byte{'+': '-', '/': '_'}[zeros[i]]})
			default:
				form = append(form, []byte{zeros[i]})
			}
		}
		forms = append(forms, form)
	}
	for _, form := range forms {
		var f [][]string
		for _, accepted := range form {
			var all []string
			for _, c := range accepted {
				all = append(all, string(c))
				for _, h := range []string{fmt.Sprintf("%02x", c), fmt.Sprintf("%02X", c),
					fmt.Sprintf("%x%X", c>>4, c&15), fmt.Sprintf("%X%x", c>>4, c&15)} {
					all = append(all, "%"+h, "&#x"+h+";", "&#X"+h+";")
					for n := 1; n <= 4; n++ {
						all = append(all, strings.Repeat(`\`, n)+"u00"+h)
					}
				}
				for zeros := range 6 {
					all = append(all, fmt.Sprintf("&#%s%d;", strings.Repeat("0", zeros), c), fmt.Sprintf("&#x%s%x;", strings.Repeat("0", zeros), c), fmt.Sprintf("&#X%s%X;", strings.Repeat("0", zeros), c))
				}
				if name := map[byte]string{'&': "amp", '<': "lt", '>': "gt", '"': "quot", '\'': "apos"}[c]; name != "" {
					all = append(all, "&"+name+";")
				}
				if strings.IndexByte(`/\"`, c) >= 0 {
					for n := 1; n <= 4; n++ {
						all = append(all, strings.Repeat(`\`, n)+string(c))
					}
				}
			}
			slices.Sort(all)
			f = append(f, slices.Compact(all))
		}
		o = append(o, f)
	}
	return o
}

// at reports whether a match begins text, and whether all of text could begin one; pos is the position in the form, wrap whether
// lines may be broken in it.
func at(form [][]string, text string, pos int, wrap bool) (match, begins bool) {
	if pos == len(form) {
		return true, false
	}
	if text == "" {
		return false, true
	}
	try := func(s string, next int) {
		if strings.HasPrefix(text, s) {
			m, b := at(form, text[len(s):], next, wrap)
			match, begins = match || m, begins || b
		} else if strings.HasPrefix(s, text) {
			begins = true
		}
	}
	for _, s := range form[pos] {
		try(s, pos+1)
	}
	if wrap && pos > 0 {
		try("\r", pos)
		try("\n", pos)
		for n := 1; n <= 4; n++ {
			try(strings.Repeat(`\`, n)+"r", pos)
			try(strings.Repeat(`\`, n)+"n", pos)
		}
	}
	return match, begins
}

// judge returns the offset of the first match in text, or -1, and the offset of the longest suffix that could begin one.
func (o oracle) judge(text string) (match, keep int) {
	keep = len(text)
	for i := range text {
		for k, form := range o {
			m, b := at(form, text[i:], 0, k > 0)
			if m {
				return i, keep
			}
			if b {
				keep = min(keep, i)
			}
		}
	}
	return -1, keep
}

// check writes text in the given pieces and compares what comes out with the oracle after each.
func check(t *testing.T, p *Patterns, o oracle, pieces []string) {
	t.Helper()
	var out bytes.Buffer
	s := p.Stream(&out, "application/json")
	text := ""
	for _, piece := range pieces {
		text += piece
		_, err := s.Write([]byte(piece))
		match, keep := o.judge(text)
		if match >= 0 {
			if !errors.Is(err, ErrReflected) {
				t.Fatalf("match at %d of %q passed: %v", match, text, err)
			}
			if out.Len() > match || !strings.HasPrefix(text, out.String()) {
				t.Fatalf("of %q %q was released, the match begins at %d", text, out.String(), match)
			}
			if n := out.Len(); s.Flush() == nil || out.Len() != n {
				t.Fatal("went on after a match")
			}
			return
		}
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if out.String() != text[:keep] {
			t.Fatalf("of %q (pieces %q) %q was released, want all but the last %d", text, pieces, out.String(), len(text)-keep)
		}
		if s.Withheld() != len(text)-keep {
			t.Fatalf("withheld %d, want %d", s.Withheld(), len(text)-keep)
		}
	}
	if err := s.Flush(); err != nil || out.String() != text {
		t.Fatalf("clean text %q came out as %q, %v", text, out.String(), err)
	}
}

func split(r *rand.Rand, text string) (pieces []string) {
	for len(text) > 0 {
		n := min(len(text), 1+r.Intn(1+r.Intn(12)))
		pieces = append(pieces, text[:n])
		text = text[n:]
	}
	return pieces
}

// spell writes characters from..to of a form, each in a random spelling.
func spell(r *rand.Rand, form [][]string, from, to int) string {
	var b strings.Builder
	for _, spellings := range form[from:to] {
		if r.Intn(2) == 0 {
			b.WriteString(spellings[r.Intn(len(spellings))])
		} else {
			b.WriteString(spellings[len(spellings)-1]) // the raw one, mostly
		}
	}
	return b.String()
}

func TestAgainstOracle(t *testing.T) {
	seed := time.Now().UnixNano()
	r := rand.New(rand.NewSource(seed))
	t.Logf("seed %d", seed)
	alphabets := []string{"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_", "ab", `%2530`, `\u0c5/"`, "0123456789abcdef", `34%\ua`, "?>~a", "&amp;#x&"}
	for range 400 {
		alphabet := alphabets[r.Intn(len(alphabets))]
		key := make([]byte, MinSecret+r.Intn(8))
		for i := range key {
			key[i] = alphabet[r.Intn(len(alphabet))]
		}
		p, o := compiled(t, string(key)), newOracle(string(key))
		for range 8 {
			var text strings.Builder
			for range r.Intn(6) {
				form := o[r.Intn(len(o))]
				switch r.Intn(4) {
				case 0:
					text.WriteString([]string{"%", `\`, `\u00`, "%2", " ", "x", `"`, `\\\\\`, "&", "&#", "&#x6", "\n", "\r\n", `\n`}[r.Intn(14)])
				case 1:
					text.WriteByte(alphabet[r.Intn(len(alphabet))])
				default: // part of a match, from its beginning mostly
					from := r.Intn(2) * r.Intn(len(form))
					to := from + r.Intn(len(form)-from+1)
					if r.Intn(4) > 0 {
						to = min(to, from+6)
					}
					text.WriteString(spell(r, form, from, to))
					if r.Intn(3) == 0 { // a line ends here, and goes on
						text.WriteString("\n" + spell(r, form, to, min(len(form), to+r.Intn(4))))
					}
				}
			}
			check(t, p, o, split(r, text.String()))
		}
	}
}

// forms are what an upstream makes of the secret, by the encoders that upstreams use.
func forms(s string) map[string]string {
	each := func(format string) string {
		var b strings.Builder
		for _, c := range []byte(s) {
			fmt.Fprintf(&b, format, c)
		}
		return b.String()
	}
	m := map[string]string{
		"raw": s, "bearer": "Bearer " + s,
		"hex": hex.EncodeToString([]byte(s)), "HEX": strings.ToUpper(hex.EncodeToString([]byte(s))),
		"query": url.QueryEscape(s), "path": url.PathEscape(s), "percent lower": each("%%%02x"), "percent UPPER": each("%%%02X"),
		"json lower": each(`\u%04x`), "json UPPER": each(`\u%04X`), "json slash": strings.ReplaceAll(s, "/", `\/`),
		"html dec": each("&#%d;"), "html hex": each("&#x%X;"), "html": html.EscapeString(s),
		"json in json": strings.ReplaceAll(s, "/", `\\\/`), "json in json u": each(`\\u%04x`),
	}
	for _, columns := range []int{64, 76} {
		for _, end := range []string{"\n", "\r\n", `\n`, `\r\n`} {
			for _, skip := range []int{0, columns - 1, columns - 10, columns + 11} { // where in a line the secret begins
				text := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", skip/4*3) + s + s))
				var b strings.Builder
				for len(text) > columns {
					b.WriteString(text[:columns] + end)
					text = text[columns:]
				}
				m[fmt.Sprintf("base64 wrapped %d %q %d", columns, end, skip)] = b.String() + text
			}
		}
	}
	for i, before := range []string{"", "x", "xy", "user:"} {
		for name, e := range map[string]*base64.Encoding{"std": base64.StdEncoding, "url": base64.URLEncoding,
			"raw std": base64.RawStdEncoding, "raw url": base64.RawURLEncoding} {
			for _, after := range []string{"", "!", "!?"} {
				m[fmt.Sprintf("base64 %s %d+%d", name, i, len(after))] = e.EncodeToString([]byte(before + s + after))
			}
		}
	}
	return m
}

func TestEveryFormEverySplit(t *testing.T) {
	p := compiled(t, demo)
	for name, form := range forms(demo) {
		text := `{"error":"you sent ` + form + ` to us"}`
		released := func(pieces ...string) {
			t.Helper()
			var out bytes.Buffer
			s := p.Stream(&out, "")
			var err error
			for _, piece := range pieces {
				if _, err = s.Write([]byte(piece)); err != nil {
					break
				}
			}
			// Of base64, up to three characters before the match hold bits of what stands before the secret.
			before := 9
			if strings.HasPrefix(name, "base64 wrapped") {
				before = 100
			}
			if !errors.Is(err, ErrReflected) || out.Len() > len(`{"error":"you sent `)+before {
				t.Fatalf("%s in %q: %v, released %q", name, pieces, err, out.String())
			}
		}
		for i := range text {
			released(text[:i], text[i:])
		}
		released(strings.Split(text, "")...)
		if err := p.Header([]hop.Field{{Name: "X-Echo", Value: "a " + form}}); !errors.Is(err, ErrReflected) {
			t.Errorf("%s in a header value: %v", name, err)
		}
	}
	if err := p.Header([]hop.Field{{Name: demo, Value: ""}}); !errors.Is(err, ErrReflected) {
		t.Error("in a header name")
	}
	if err := p.Header([]hop.Field{{Name: "X", Value: demo[:9]}, {Name: "Y", Value: demo[9:]}}); err != nil {
		t.Error("two fields were read as one")
	}
	if err := p.Header([]hop.Field{{Name: demo[:9], Value: demo[9:]}}); err != nil {
		t.Error("a name and its value were read as one")
	}
}

func TestNew(t *testing.T) {
	for _, bad := range []string{"", "1234567", "demo\nkey-1", "démo-key", strings.Repeat("a", MaxSecret+1)} {
		if _, err := New(secret.New([]byte(bad))); !errors.Is(err, ErrSecret) {
			t.Errorf("%.20q: %v", bad, err)
		}
	}
}

const longestSpell = len("&#x00000XX;")

// TestLongest holds the bound of what is withheld, and a secret that repeats itself.
func TestLongest(t *testing.T) {
	p := compiled(t, demo)
	var out bytes.Buffer
	s := p.Stream(&out, "")
	h := hex.EncodeToString([]byte(demo))
	for _, c := range h[:len(h)-1] {
		fmt.Fprintf(s, "&#x%07x;", c)
	}
	if s.Withheld() != longestSpell*(len(h)-1) || out.Len() != 0 {
		t.Errorf("withheld %d", s.Withheld())
	}
	fmt.Fprint(s, "!")
	if s.Withheld() != 0 || out.Len() != longestSpell*(len(h)-1)+1 {
		t.Errorf("after the match broke: withheld %d", s.Withheld())
	}
	same := compiled(t, strings.Repeat("a", 1000))
	s = same.Stream(&out, "")
	if _, err := s.Write(bytes.Repeat([]byte("a"), 999)); !errors.Is(err, ErrReflected) {
		t.Errorf("unbounded work: %v", err)
	}
}

func TestWriterError(t *testing.T) {
	s := compiled(t, demo).Stream(broken{}, "")
	if _, err := s.Write([]byte("abc")); err == nil {
		t.Error("lost the error")
	}
	if err := s.Flush(); err == nil {
		t.Error("forgot the error")
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("gone") }

func FuzzStream(f *testing.F) {
	f.Add(demo, "a "+demo[:9]+"%41\\u0041", int64(1))
	f.Add(`%2530%25`, `%2525%25%253030`, int64(2))
	f.Fuzz(func(t *testing.T, key, text string, seed int64) {
		p, err := New(secret.New([]byte(key)))
		if err != nil || len(key) > 16 || len(text) > 200 {
			return
		}
		check(t, p, newOracle(key), split(rand.New(rand.NewSource(seed)), text))
	})
}

// What goes out beside the secret is searched for too, in header and body; without any secret everything passes.
func TestTwoSecrets(t *testing.T) {
	const key, session = "demo-key-of-two-0001", "demo-session-of-two-0002"
	two, err := New(secret.New([]byte(key)), secret.New([]byte(session)))
	if err != nil {
		t.Fatal(err)
	}
	none, err := New()
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"application/json", "text/event-stream"} {
		for _, found := range []string{key, session} {
			text := "data: {\"a\":\"" + found + "\"}\n\n"
			for cut := range len(text) {
				var out bytes.Buffer
				s := two.Stream(&out, kind)
				_, err := s.Write([]byte(text[:cut]))
				if err == nil {
					_, err = s.Write([]byte(text[cut:]))
				}
				if err == nil {
					err = s.Flush()
				}
				if !errors.Is(err, ErrReflected) || strings.Contains(out.String(), found[:8]) && kind != "application/json" {
					t.Fatalf("%s cut at %d: %v, %q", kind, cut, err, out.String())
				}
			}
			if two.Header([]hop.Field{{Name: "X", Value: found}}) == nil || none.Header([]hop.Field{{Name: "X", Value: found}}) != nil {
				t.Error("header")
			}
			var out bytes.Buffer
			s := none.Stream(&out, kind)
			if _, err := s.Write([]byte(text)); err != nil || s.Flush() != nil || out.String() != text {
				t.Errorf("without a secret: %v, %q", err, out.String())
			}
		}
		var out bytes.Buffer
		s := two.Stream(&out, kind)
		s.Write([]byte("data: demo-key-of-tw"))
		s.Write([]byte(" demo-sess\n\n"))
		if err := s.Flush(); err != nil || out.String() != "data: demo-key-of-tw demo-sess\n\n" || s.Withheld() != 0 {
			t.Errorf("%s: what only begins like a secret: %v, %q", kind, err, out.String())
		}
	}
}
