package scan

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestBody(t *testing.T) {
	deep := func(n int) string { return `{"a":` + strings.Repeat("[", n-1) + strings.Repeat("]", n-1) + `}` }
	many := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `,"k%d":0`, i)
		}
		return "{" + b.String()[1:] + "}"
	}
	type call struct {
		Model  string
		Max    int64
		Stream bool
	}
	none := call{Max: -1}
	tests := []struct {
		name, body string
		want       call
		reason     string // part of it; empty when accepted
	}{
		{"empty object", `{}`, none, ""},
		{"plain", `{"model":"m","messages":[{"role":"user","content":"hi \n é \ud83d\ude00"}],"stream":true,"max_tokens":5}`, call{"m", 5, true}, ""},
		{"space everywhere", " \t\r\n{ \"model\" : \"m\" , \"stream\" :\nfalse } \n", call{"m", -1, false}, ""},
		{"largest limit counts", `{"max_tokens":5,"max_output_tokens":7,"max_completion_tokens":6}`, call{Max: 7}, ""},
		{"null limit and stream", `{"max_tokens":null,"stream":null}`, none, ""},
		{"zero limit", `{"max_tokens":0}`, call{Max: 0}, ""},
		{"escaped name and value", `{"mod\u0065l":"a\/\u0062\u00e9"}`, call{"a/bé", -1, false}, ""},
		{"nested duplicates pass", `{"a":{"model":"x","model":"y"}}`, none, ""},
		{"deepest", deep(MaxDepth), none, ""},
		{"most members", many(MaxMembers), none, ""},

		{"empty", ``, none, "not a JSON object"},
		{"array", `[]`, none, "not a JSON object"},
		{"string", `"model"`, none, "not a JSON object"},
		{"byte order mark", "\xef\xbb\xbf{}", none, "not a JSON object"},
		{"trailing data", `{"model":"a"}{"model":"b"}`, none, "something after"},
		{"trailing NUL", "{}\x00", none, "something after"},
		{"duplicate", `{"model":"a","model":"b"}`, none, "twice"},
		{"duplicate not looked at", `{"x":1,"x":2}`, none, "twice"},
		{"duplicate by escape", `{"mod\u0065l":"a","model":"b"}`, none, "twice"},
		{"case", `{"Model":"a"}`, none, "read as model"},
		{"case next to it", `{"model":"a","MODEL":"b"}`, none, "read as model"},
		{"case by escape", `{"\u004dodel":"a"}`, none, "read as model"},
		{"Kelvin sign", `{"max_to` + "\u212a" + `ens":1}`, none, "read as max_tokens"},
		{"long s", `{"` + "\u017f" + `tream":true}`, none, "read as stream"},
		{"lower camel case", `{"maxTokens":1}`, none, "read as max_tokens"},
		{"dashes", `{"max-tokens":1}`, none, "read as max_tokens"},
		{"NUL in a name", `{"model\u0000":"a"}`, none, "member name with"},
		{"lone surrogate in a name", `{"a\ud800":"a"}`, none, "member name with"},
		{"reversed surrogates in a name", `{"a\ude00\ud83d":"a"}`, none, "member name with"},
		{"not UTF-8 in a name", "{\"a\xff\":1}", none, "UTF-8"},
		{"not UTF-8 in a value", "{\"a\":\"\xff\"}", none, "UTF-8"},
		{"overlong quote", "{\"a\":\"\xc0\xa2\"}", none, "UTF-8"},
		{"raw control character", "{\"a\":\"\n\"}", none, "control character"},
		{"bad escape", `{"a":"\x41"}`, none, "bad escape"},
		{"short escape", `{"a":"\u12"}`, none, "bad escape"},
		{"open string", `{"a":"abcdefghijkl`, none, "without end"},
		{"backslash at the end", `{"a":"\`, none, "bad escape"},
		{"leading zero", `{"a":01}`, none, "expected ,"},
		{"plus", `{"a":+1}`, none, "not a JSON value"},
		{"bare point", `{"a":1.}`, none, "not a JSON value"},
		{"bare exponent", `{"a":1e}`, none, "not a JSON value"},
		{"NaN", `{"a":NaN}`, none, "not a JSON value"},
		{"single quotes", `{'a':1}`, none, "member name"},
		{"comment", `{/**/"a":1}`, none, "member name"},
		{"trailing comma", `{"a":1,}`, none, "member name"},
		{"trailing comma in array", `{"a":[1,]}`, none, "not a JSON value"},
		{"wrong closer", `{"a":[1}`, none, "expected ,"},
		{"too deep", deep(MaxDepth + 1), none, "deeply"},
		{"too many members", many(MaxMembers + 1), none, "too many"},
		{"model no string", `{"model":1}`, none, "must be a string"},
		{"model null", `{"model":null}`, none, "must be a string"},
		{"model with NUL", `{"model":"a\u0000b"}`, none, "looked at"},
		{"model with lone surrogate", `{"model":"a\ud800"}`, none, "looked at"},
		{"limit as string", `{"max_tokens":"5"}`, none, "whole number"},
		{"limit as fraction", `{"max_tokens":5.0}`, none, "whole number"},
		{"limit with exponent", `{"max_tokens":1e3}`, none, "whole number"},
		{"negative limit", `{"max_tokens":-1}`, none, "whole number"},
		{"huge limit", `{"max_tokens":99999999999999999999}`, none, "whole number"},
		{"stream as string", `{"stream":"true"}`, none, "stream"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := Body([]byte(tt.body))
			if tt.reason != "" {
				var e *Error
				if !errors.As(err, &e) || !strings.Contains(e.Reason, tt.reason) {
					t.Fatalf("got %v, want a refusal that says %q", err, tt.reason)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, call{string(c.Name), c.MaxTokens, c.Stream}); diff != "" {
				t.Error(diff)
			}
		})
	}
	if _, err := Body(make([]byte, MaxBytes+1)); err == nil || !strings.Contains(err.Error(), "too long") {
		t.Errorf("oversized: %v", err)
	}
}

func TestReplace(t *testing.T) {
	for _, text := range []string{"gpt-4o", `a"b\c`, "é/\x01\n", ""} {
		body := []byte(` {"x":[1], "model" :"demo\u002fold" , "stream":true}`)
		c, err := Body(body)
		if err != nil {
			t.Fatal(err)
		}
		got := Replace(body, c.Model, text)
		var m struct{ Model string }
		if err := json.Unmarshal(got, &m); err != nil || m.Model != text {
			t.Fatalf("%s: model %q, %v", got, m.Model, err)
		}
		if !bytes.HasPrefix(got, []byte(` {"x":[1], "model" :"`)) || !bytes.HasSuffix(got, []byte(`" , "stream":true}`)) {
			t.Errorf("other bytes changed: %s", got)
		}
	}
}

// members reads the top-level members with encoding/json: names in order and their raw values.
func members(body []byte) (names []string, values []json.RawMessage, ok bool) {
	d := json.NewDecoder(bytes.NewReader(body))
	if tok, err := d.Token(); err != nil || tok != json.Delim('{') {
		return nil, nil, false
	}
	for d.More() {
		tok, err := d.Token()
		name, isName := tok.(string)
		var v json.RawMessage
		if err != nil || !isName || d.Decode(&v) != nil {
			return nil, nil, false
		}
		names, values = append(names, name), append(values, v)
	}
	if _, err := d.Token(); err != nil {
		return nil, nil, false
	}
	_, err := d.Token()
	return names, values, err == io.EOF
}

// plain reports whether body has none of the things that Top refuses although encoding/json takes them.
func plain(body []byte, names, wanted []string) bool {
	if !json.Valid(body) || !utf8.Valid(body) || len(names) > MaxMembers {
		return false
	}
	depth, deepest, inside := 0, 0, false
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case inside && c == '\\':
			i++
		case c == '"':
			inside = !inside
		case !inside && (c == '{' || c == '['):
			depth++
			deepest = max(deepest, depth)
		case !inside && (c == '}' || c == ']'):
			depth--
		}
	}
	strip := func(s string) string {
		return strings.ToLower(strings.NewReplacer("-", "", "_", "", "\u017f", "s", "\u212a", "k").Replace(s))
	}
	seen := map[string]bool{}
	for _, n := range names {
		if seen[n] || strings.ContainsFunc(n, func(r rune) bool { return r < 0x20 || r == 0x7f || r == utf8.RuneError }) {
			return false
		}
		seen[n] = true
		for _, w := range wanted {
			if n != w && strip(n) == strip(w) {
				return false
			}
		}
	}
	return deepest <= MaxDepth
}

// check compares Top with encoding/json: accepted means valid with the same values; plain means accepted.
func check(t *testing.T, body []byte) {
	t.Helper()
	wanted := []string{"model", "stream", "max_tokens"}
	var f [3]Field
	err := Top(body, f[:], wanted...)
	names, values, ok := members(body)
	if err != nil {
		if ok && plain(body, names, wanted) {
			t.Fatalf("refused %q: %v", body, err)
		}
		return
	}
	if !ok || !json.Valid(body) {
		t.Fatalf("accepted %q", body)
	}
	for k, w := range wanted {
		got := ""
		if !f[k].Absent() {
			got = string(body[f[k].Start:f[k].End])
		}
		want := ""
		for i, n := range names {
			if n == w {
				want = string(values[i])
			}
		}
		if got != want {
			t.Fatalf("%q: %s is %q, want %q", body, w, got, want)
		}
		if strings.HasPrefix(got, `"`) {
			var s string
			json.Unmarshal([]byte(want), &s)
			if text, err := f[k].Text(body); err == nil && string(text) != s {
				t.Fatalf("%q: %s reads %q, want %q", body, w, text, s)
			}
		}
	}
}

// document makes a random JSON object, mostly valid.
func document(r *rand.Rand) []byte {
	pick := func(s ...string) string { return s[r.Intn(len(s))] }
	str := func() string {
		var b strings.Builder
		b.WriteByte('"')
		for range r.Intn(20) {
			b.WriteString(pick("a", "é", "😀", `\n`, `\"`, `\\`, `\u0041`, `\ud83d\ude00`, " ", "{", "]", ",", `\/`, "model", `\ud800`, "\x7f"))
		}
		return b.String() + `"`
	}
	space := func() string { return pick("", "", "", " ", "\n", "\t \r") }
	var value func(depth int) string
	value = func(depth int) string {
		k := r.Intn(10)
		if depth > 4 && k > 6 {
			k = 0
		}
		switch k {
		case 0, 1, 2:
			return str()
		case 3:
			return pick("0", "-0", "17", "1.5", "-2e9", "3E-4", "1e+2", "0.10")
		case 4, 5, 6:
			return pick("true", "false", "null")
		case 7:
			return "{}"
		}
		var items []string
		for range r.Intn(4) {
			item := space() + value(depth+1) + space()
			if k == 8 {
				item = space() + str() + space() + ":" + item
			}
			items = append(items, item)
		}
		if k == 8 {
			return "{" + strings.Join(items, ",") + space() + "}"
		}
		return "[" + strings.Join(items, ",") + space() + "]"
	}
	var items []string
	for range r.Intn(8) {
		name := pick(str(), str(), str(), `"model"`, `"stream"`, `"max_tokens"`, `"mod\u0065l"`, `"Model"`, `"max-Tokens"`)
		items = append(items, space()+name+space()+":"+space()+value(0)+space())
	}
	return []byte(space() + "{" + strings.Join(items, ",") + "}" + space())
}

func mutate(r *rand.Rand, b []byte) []byte {
	b = bytes.Clone(b)
	for range 1 + r.Intn(3) {
		i := r.Intn(len(b))
		switch r.Intn(4) {
		case 0:
			b[i] = byte(r.Intn(256))
		case 1:
			b[i] = `"\{}[],:0eu- `[r.Intn(13)]
		case 2:
			b = append(b[:i], b[min(len(b), i+1+r.Intn(4)):]...)
		case 3:
			b = append(b, b[i:]...)
		}
		if len(b) == 0 {
			b = []byte("{")
		}
	}
	return b
}

func TestAgainstEncodingJSON(t *testing.T) {
	seed := time.Now().UnixNano()
	r := rand.New(rand.NewSource(seed))
	t.Logf("seed %d", seed)
	for range 20000 {
		b := document(r)
		check(t, b)
		check(t, mutate(r, b))
	}
}

func FuzzTop(f *testing.F) {
	r := rand.New(rand.NewSource(1))
	for range 20 {
		f.Add(document(r))
	}
	f.Fuzz(func(t *testing.T, b []byte) { check(t, b); Body(b) })
}

// prompt is a chat body of about n bytes, with the escapes and non-ASCII letters of ordinary prose.
func prompt(n int) []byte {
	text := strings.Repeat(`The quick brown fox jumps over the lazy dog, said \"nobody\" at the café.\n`, n/75+1)[:n]
	return []byte(`{"model":"openai/gpt-4o","messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"` +
		strings.TrimRight(strings.ToValidUTF8(text, ""), `\`) + `"}],"max_tokens":100,"stream":true}`)
}

func TestNoAllocation(t *testing.T) {
	b := prompt(64 << 10)
	if n := testing.AllocsPerRun(100, func() {
		if _, err := Body(b); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkBody(b *testing.B) {
	for _, n := range []int{200, 64 << 10} {
		body := prompt(n)
		for name, f := range map[string]func(){
			"scan": func() { Body(body) },
			"json": func() { json.Valid(body) },
		} {
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				b.SetBytes(int64(len(body)))
				b.ReportAllocs()
				for b.Loop() {
					f()
				}
			})
		}
	}
}
