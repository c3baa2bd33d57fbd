package guard

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
)

// shapes are the events in which providers stream text: n numbers the text, piece is JSON, quotes included.
func shapes() map[string]func(n int, piece string) string {
	shape := func(format string) func(int, string) string {
		return func(n int, piece string) string {
			return strings.NewReplacer("$N", fmt.Sprint(n), "$P", piece).Replace(format) + "\n\n"
		}
	}
	return map[string]func(int, string) string{
		"chat":          shape(`data: {"id":"c","model":"m","choices":[{"index":$N,"delta":{"role":"assistant","content":$P},"finish_reason":null}],"usage":null}`),
		"chat, last":    shape(`data: {"choices":[{"delta":{"content":$P},"index":$N}]}`),
		"reasoning":     shape(`data: {"choices":[{"index":$N,"delta":{"content":null,"reasoning_content":$P}}]}`),
		"tool":          shape(`data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":$N,"function":{"arguments":$P}}]}}]}`),
		"completion":    shape(`data: {"choices":[{"text":$P,"index":$N}]}`),
		"responses":     shape("event: response.output_text.delta\n" + `data: {"type":"response.output_text.delta","item_id":"i","output_index":$N,"content_index":0,"delta":$P}`),
		"text":          shape("event: content_block_delta\n" + `data: {"type":"content_block_delta","index":$N,"delta":{"type":"text_delta","text":$P}}`),
		"input":         shape(`data: {"type":"content_block_delta","index":$N,"delta":{"type":"input_json_delta","partial_json":$P}}`),
		"thinking":      shape(`data: {"type":"content_block_delta","index":$N,"delta":{"type":"thinking_delta","thinking":$P}}`),
		"gemini":        shape(`data: {"candidates":[{"content":{"parts":[{"text":$P}],"role":"model"},"index":$N}]}`),
		"spread":        shape("data: {\"index\" : $N,\ndata:\"delta\":\n: comment\ndata:  { \"text\" :$P } }\nid: 1"),
		"no space, BOM": shape("\ufeff" + `data:{"index":$N,"delta":$P}`),
	}
}

func quote(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

// send writes the stream in pieces of n bytes, 0 for one event each, and returns what came out.
func send(p *Patterns, events []string, n int) (string, error) {
	var out bytes.Buffer
	s := p.Stream(&out, "text/event-stream; charset=utf-8")
	text := strings.Join(events, "")
	for i := 0; len(text) > 0; i++ {
		size := min(n, len(text))
		if n == 0 {
			size = len(events[i])
		}
		if _, err := s.Write([]byte(text[:size])); err != nil {
			return out.String(), err
		}
		text = text[size:]
	}
	err := s.Flush()
	return out.String(), err
}

func TestDeltas(t *testing.T) {
	p := compiled(t, demo)
	spelled := map[string]func(string) string{
		"plain": quote,
		"escaped": func(s string) string {
			var b strings.Builder
			for _, c := range []byte(s) {
				fmt.Fprintf(&b, `\u%04X`, c)
			}
			return `"` + b.String() + `"`
		},
		"slashes": func(s string) string { return strings.ReplaceAll(quote(s), "/", `\/`) },
	}
	try := func(name string, before, events []string) {
		t.Helper()
		for _, end := range []string{"\n", "\r\n", "\r"} {
			var wire []string
			for _, e := range append(before[:len(before):len(before)], events...) {
				wire = append(wire, strings.ReplaceAll(e, "\n", end))
			}
			for _, n := range []int{0, 1, 7} {
				out, err := send(p, wire, n)
				if !errors.Is(err, ErrReflected) || len(out) > len(strings.Join(wire[:len(before)], "")) {
					t.Fatalf("%s, %q, %d bytes each: %v, released %q", name, end, n, err, out)
				}
			}
		}
	}
	for name, shape := range shapes() {
		for how, say := range spelled {
			before := []string{shape(0, quote("It is ")), shape(1, quote("x"))}
			for i := 1; i < len(demo); i++ {
				try(name+" "+how, before, []string{shape(0, say(demo[:i])), shape(1, quote("x")), shape(0, say(demo[i:]+" you see"))})
			}
			var each []string
			for i := range demo {
				each = append(each, shape(0, say(demo[i:i+1])))
			}
			try(name+" one by one", before, each)
		}
		// The last event without its end.
		last := strings.TrimRight(shape(0, quote(demo[4:])), "\n")
		try(name+" open end", nil, []string{shape(0, quote(demo[:4])), last})
	}
	// JSON in JSON: a tool's arguments hold the secret with escapes of their own, cut inside one.
	tool := shapes()["tool"]
	try("tool, inner escapes", nil, []string{tool(0, quote(`{"key":"d\u00`)), tool(0, quote(`65`+strings.ReplaceAll(demo[2:], "/", `\/`)))})
	// Other forms than raw, too.
	for name, form := range forms(demo) {
		if strings.HasPrefix(name, "base64") || strings.HasPrefix(name, "json") || name == "bearer" {
			continue
		}
		chat := shapes()["chat"]
		try("chat "+name, nil, []string{chat(0, quote(form[:5])), chat(0, quote(form[5:]))})
	}
}

func TestDeltasClean(t *testing.T) {
	p := compiled(t, demo)
	for name, shape := range shapes() {
		events := []string{
			": ping\n\n", "event: ping\ndata: {\"type\": \"ping\"}\n\n",
			shape(0, quote("demo-up")), shape(0, quote("hill, demo-")), shape(1, quote("upstream-key-7H?>q/2+~Zx")), shape(0, quote(" d\n\"e")),
			"data: [DONE]\n\n", "data: {\"broken\": [1, {\"a\": \"\\\n\n", "data: not json\n\n", "data: {\"a\":" + strings.Repeat("[", 99) + "\n\n", "\n\n\n", "data: {}",
		}
		for _, n := range []int{0, 1, 5, 1000} {
			out, err := send(p, events, n)
			if err != nil || out != strings.Join(events, "") {
				t.Errorf("%s, %d bytes each: %v\n%q", name, n, err, out)
			}
		}
	}
}

// TestDeltasWithoutDelay holds that an event in which no match begins is released at once, whole.
func TestDeltasWithoutDelay(t *testing.T) {
	var out bytes.Buffer
	s := compiled(t, demo).Stream(&out, "text/event-stream")
	chat := shapes()["chat"]
	want := ""
	step := func(event string, released string) {
		t.Helper()
		if _, err := s.Write([]byte(event)); err != nil {
			t.Fatal(err)
		}
		if want += released; out.String() != want {
			t.Fatalf("released %q, want %q", out.String(), want)
		}
	}
	a, b := chat(0, quote("one")), chat(0, quote(" two demo"))
	step(a, a)
	crlf := strings.ReplaceAll(a, "\n", "\r\n")
	step(crlf, crlf)
	step(crlf[:len(crlf)-1], crlf[:len(crlf)-1]) // CR alone may end it
	step("\n", "\n")
	step(a[:20], "")
	step(a[20:], a)
	step(b, "") // could begin
	c := chat(0, quote("cracy"))
	step(c, b+c) // went on otherwise
	// A text that ends with what could begin a match waits, however many others go on, until an event says that it has ended.
	stop := func(n int) string {
		return fmt.Sprintf(`data: {"choices":[{"index":%d,"delta":{},"finish_reason":"stop"}]}`+"\n\n", n)
	}
	step(b, "")
	other := chat(1, quote("x"))
	const many = 50
	for range many {
		step(other, "")
	}
	step(stop(1), "") // another text's end
	step(chat(0, `""`), "")
	step(stop(0), b+strings.Repeat(other, many)+stop(1)+chat(0, `""`)+stop(0))
	step(other, other)
	// That was a lie: the text goes on. It was still followed: a long part of the secret is withheld whatever is said.
	long, broke := chat(0, quote(demo[4:4+fewChars])), chat(0, quote("!"))
	step(long, "")
	step(stop(0), "")
	step(broke, long+stop(0)+broke)
	step(b, "")
	step(stop(0), b+stop(0))
	if _, err := s.Write([]byte(chat(0, quote(demo[4:])))); !errors.Is(err, ErrReflected) || out.String() != want {
		t.Errorf("%v, released %q", err, out.String()[len(want):])
	}
}

// TestDeltasEnds holds which event ends which text.
func TestDeltasEnds(t *testing.T) {
	all := shapes()
	for _, c := range []struct{ name, delta, end, others string }{
		{"chat", all["chat"](1, quote("demo")), `data: {"choices":[{"index":1,"delta":{},"finish_reason":"stop"}]}`, `data: {"choices":[{"index":0,"finish_reason":"stop"},{"index":1,"finish_reason":null}]}`},
		{"chat in one", `data: {"choices":[{"index":1,"delta":{"content":"demo"},"finish_reason":"length"}]}` + "\n\n", "", ""},
		{"tool", all["tool"](3, quote("demo")), `data: {"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}`, `data: {"choices":[{"index":3,"delta":{},"finish_reason":"stop"}]}`},
		{"text", all["text"](1, quote("demo")), `data: {"type":"content_block_stop","index":1}`, `data: {"type":"content_block_stop","index":0}`},
		{"message", all["text"](1, quote("demo")), `data: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null}}`, `data: {"type":"ping"}`},
		{"responses", all["responses"](1, quote("demo")), `data: {"type":"response.output_text.done","output_index":1,"content_index":0,"text":"x"}`, `data: {"type":"response.output_text.done","output_index":0,"content_index":0,"text":"x"}`},
		{"gemini", all["gemini"](1, quote("demo")), `data: {"candidates":[{"finishReason":"STOP","index":1}]}`, `data: {"candidates":[{"finishReason":"STOP","index":0}]}`},
	} {
		var out bytes.Buffer
		s := compiled(t, demo).Stream(&out, "text/event-stream")
		wire := ""
		for i, event := range []string{c.delta, c.others, c.end} {
			if event == "" {
				continue
			}
			event = strings.TrimRight(event, "\n") + "\n\n"
			wire += event
			if _, err := s.Write([]byte(event)); err != nil {
				t.Fatal(c.name, err)
			}
			if last := i == 2 || c.end == ""; last != (out.String() == wire) || !last && out.Len() > 0 {
				t.Errorf("%s: after event %d %q was released", c.name, i, out.String())
			}
		}
	}
}

// TestLines: the pieces of a secret in newline-delimited JSON are joined, and what is clean passes line by line.
func TestLines(t *testing.T) {
	for _, end := range []string{"\n", "\r\n"} {
		var out bytes.Buffer
		s := compiled(t, demo).Stream(&out, "application/x-ndjson; charset=utf-8")
		line := func(piece string, done bool) []byte {
			return fmt.Appendf(nil, `{"model":"m","message":{"role":"assistant","content":%s},"done":%v}`+end, quote(piece), done)
		}
		s.Write(line("Hello", false))
		clean := out.Len()
		if clean != len(line("Hello", false)) && end == "\n" {
			t.Errorf("%q: released %d of a clean line", end, clean)
		}
		var err error
		for _, c := range demo {
			if _, err = s.Write(line(string(c), false)); err != nil {
				break
			}
		}
		if !errors.Is(err, ErrReflected) || out.Len() > len(line("Hello", false)) {
			t.Errorf("%q: %v, released %q", end, err, out.String())
		}
	}
}

// TestDeltasLong holds that a long part of the secret waits for as long as it takes, within the bound.
func TestDeltasLong(t *testing.T) {
	p := compiled(t, demo)
	var out bytes.Buffer
	s := p.Stream(&out, "text/event-stream")
	chat := shapes()["chat"]
	s.Write([]byte(chat(0, quote(demo[:fewChars]))))
	filler := []byte(chat(1, quote(strings.Repeat("x", 64<<10))))
	var err error
	n := 0
	for ; err == nil && n < 2*MaxEvent; n += len(filler) {
		_, err = s.Write(filler)
	}
	if !errors.Is(err, ErrBounds) || out.Len() != 0 || n < MaxEvent-len(filler) {
		t.Errorf("%v after %d bytes, released %d", err, n, out.Len())
	}
	s = p.Stream(&out, "text/event-stream")
	for n, err = 0, nil; err == nil && n < 2*MaxEvent; n += 64 << 10 {
		_, err = s.Write(bytes.Repeat([]byte("x"), 64<<10))
	}
	if !errors.Is(err, ErrBounds) || out.Len() != 0 {
		t.Errorf("an event without end: %v after %d bytes", err, n)
	}
}

func TestDeltasMany(t *testing.T) {
	s := compiled(t, demo).Stream(io.Discard, "text/event-stream")
	for n := range maxChannels + 1 {
		if _, err := s.Write([]byte(shapes()["chat"](n, quote("demo")))); err != nil {
			if n < maxChannels || !errors.Is(err, ErrBounds) {
				t.Errorf("text %d: %v", n, err)
			}
			return
		}
	}
	t.Error("texts without bound")
}

func TestDeltasAgainstOracle(t *testing.T) {
	seed := time.Now().UnixNano()
	r := rand.New(rand.NewSource(seed))
	t.Logf("seed %d", seed)
	all := shapes()
	for range 2000 {
		key := make([]byte, MinSecret+r.Intn(4))
		for i := range key {
			key[i] = "abc%4"[r.Intn(5)]
		}
		p, o := compiled(t, string(key)), newOracle(string(key))
		shape := all[[]string{"chat", "tool", "responses", "text", "spread"}[r.Intn(5)]]
		var out bytes.Buffer
		s := p.Stream(&out, "text/event-stream")
		texts, ends := [2]string{}, [2][]int{} // per text, and per byte of it its event's offset
		sent := ""
		for range 12 {
			n := r.Intn(2)
			form := o[r.Intn(2)]
			from := 0
			if r.Intn(2) == 0 {
				from = r.Intn(len(form))
			}
			piece := strings.ReplaceAll(spell(r, form, from, from+1+r.Intn(min(6, len(form)-from))), `\`, "")
			texts[n] += piece
			for range piece {
				ends[n] = append(ends[n], len(sent))
			}
			event := shape(n, quote(piece))
			_, err := s.Write([]byte(event))
			sent += event
			keep, match := len(sent), -1
			for k, text := range texts {
				m, from := o.judge(text)
				if m >= 0 {
					match = ends[k][m]
				} else if from < len(text) {
					keep = min(keep, ends[k][from])
				}
			}
			if match >= 0 {
				if !errors.Is(err, ErrReflected) || out.Len() > match {
					t.Fatalf("key %q, %q: %v, released %q", key, sent, err, out.String())
				}
				break
			}
			if err != nil || out.String() != sent[:keep] {
				t.Fatalf("key %q, texts %q: %v, released %d of %d, want %d", key, texts, err, out.Len(), len(sent), keep)
			}
		}
	}
}

func FuzzEvents(f *testing.F) {
	p := compiled(f, demo)
	for _, shape := range shapes() {
		f.Add(shape(0, quote("demo-"))+shape(0, quote("x")), 3)
	}
	f.Fuzz(func(t *testing.T, stream string, n int) {
		if n < 1 || strings.Contains(stream, "upstream") {
			return
		}
		out, err := send(p, []string{stream}, n)
		if err == nil && out != stream {
			t.Fatalf("%q came out as %q", stream, out)
		}
		if whole, same := send(p, []string{stream}, len(stream)+1); same != err || err == nil && whole != out {
			t.Fatalf("%q: chunks change the outcome: %v, %v", stream, err, same)
		}
	})
}
