package guard

import (
	"bytes"
	"slices"
	"unicode/utf8"
)

// A secret that a model's answer spells out arrives in pieces, each in an event of its own, so that the raw bytes never
// hold it in one run. events joins the pieces of each text again and searches them.
//
// Withholding: an event in which a match may have begun, and all behind it, until the text goes on otherwise, or an event
// says that it has ended, as each of these protocols does. An upstream may lie about that: then a match of fewer than fewChars
// characters is let go, but still followed, and the answer is cut before its end; a longer one waits all the same.
const (
	fewChars    = MinSecret
	maxChannels = 256 // texts in which a match has begun
	maxNesting  = 32  // of one event's JSON; deeper values are only searched raw
)

type events struct {
	p        *Patterns
	lines    bool      // each line is an event: newline-delimited JSON
	open     int64     // offset of the event that is not complete
	line     int64     // offset of its line that is not complete
	seen     int64     // offset up to which that line was searched for its end
	afterCR  bool      // a line ended in CR: an LF that follows belongs to it
	data     []byte    // of the data lines so far
	channels []channel // those in which a match has begun
	walk     walk
	text     []byte // decoded piece, reused
}

// channel is one text that is delivered in pieces: the same path of member names and the same index members.
type channel struct {
	id    uint64
	place []uint64 // the index members around it, outwards: see walk.place
	ended bool     // an event said so after its last piece
	scanner
}

// scan reads what is new in held, whose first byte is at offset base.
func (e *events) scan(held []byte, base int64) error {
	for {
		if i := e.line - base; e.afterCR && i < int64(len(held)) {
			e.afterCR = false
			if held[i] == '\n' {
				e.line++
				if e.open == e.line-1 { // it ended the event before
					e.open++
				}
			}
		}
		e.seen = max(e.seen, e.line)
		end := bytes.IndexAny(held[e.seen-base:], "\r\n")
		if end < 0 {
			e.seen = base + int64(len(held))
			return nil
		}
		stop := e.seen - base + int64(end)
		line := held[e.line-base : stop]
		e.afterCR = held[stop] == '\r'
		e.line = base + stop + 1
		if len(line) > 0 {
			e.add(line)
		}
		if len(line) > 0 && !e.lines {
			continue
		}
		if err := e.complete(); err != nil {
			return err
		}
		e.open = e.line
	}
}

// finish reads the last line and event, which lack their ends.
func (e *events) finish(held []byte, base int64) error {
	e.add(held[e.line-base:])
	return e.complete()
}

// keep returns the offset of the first byte that must be withheld, of those from base on.
func (e *events) keep(base int64) int64 {
	keep := e.open
	for i := range e.channels {
		c := &e.channels[i]
		for _, t := range c.threads {
			if !c.ended || t.pos >= fewChars {
				keep = min(keep, max(base, t.start))
			}
		}
	}
	return keep
}

// add takes one line of an event (WHATWG HTML, "server-sent events").
func (e *events) add(line []byte) {
	line = bytes.TrimPrefix(line, []byte("\ufeff"))
	if e.lines {
		e.data = append(e.data, line...)
	} else if value, ok := bytes.CutPrefix(line, []byte("data:")); ok {
		e.data = append(append(e.data, value...), '\n')
	}
}

// complete searches the texts of one event.
func (e *events) complete() error {
	e.walk.reset(e.data)
	e.walk.value(0, 0, -1, 0)
	for _, l := range e.walk.leaves {
		if err := e.piece(&l, e.data[l.from:l.to]); err != nil {
			return err
		}
	}
	for _, object := range e.walk.ends {
		place := e.walk.place(nil, object)[0]
		for i := range e.channels {
			c := &e.channels[i]
			c.ended = c.ended || place == 0 || slices.Contains(c.place, place)
		}
	}
	if e.data = e.data[:0]; cap(e.data) > 16<<10 {
		e.data = nil
	}
	return nil
}

// piece continues one channel with a JSON string's inside.
func (e *events) piece(l *leaf, raw []byte) error {
	if e.text = unescape(e.text[:0], raw); len(e.text) == 0 {
		return nil
	}
	id, k := e.walk.channel(*l), 0
	for k < len(e.channels) && e.channels[k].id != id {
		k++
	}
	if k == len(e.channels) {
		if k == maxChannels {
			return ErrBounds
		}
		if k < cap(e.channels) {
			e.channels = e.channels[:k+1] // keeps the thread buffers of one that ended
		} else {
			e.channels = append(e.channels, channel{})
		}
		c := &e.channels[k]
		c.id, c.p, c.place = id, e.p, e.walk.place(c.place[:0], l.object)
	}
	c := &e.channels[k]
	c.ended = false
	if !c.feed(e.text, e.open, 0) {
		return ErrReflected
	}
	if len(c.threads) == 0 {
		last := len(e.channels) - 1
		e.channels[k], e.channels[last] = e.channels[last], e.channels[k]
		e.channels = e.channels[:last]
	}
	return nil
}

// unescape decodes a JSON string's inside. What is not ASCII cannot be part of a match and only has to stay something.
func unescape(dst, b []byte) []byte {
	for i := 0; i < len(b); i++ {
		if b[i] != '\\' || i+1 == len(b) {
			dst = append(dst, b[i])
			continue
		}
		i++
		switch b[i] {
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 'b', 'f', 't':
			dst = append(dst, ' ')
		case 'u':
			var r rune
			for k := 1; k <= 4 && i+k < len(b); k++ {
				d, _ := digit(b[i+k])
				r = r<<4 | rune(d)
			}
			dst = utf8.AppendRune(dst, r)
			i += 4
		default:
			dst = append(dst, b[i])
		}
	}
	return dst
}

// walk finds the texts in one event's JSON, leniently: whatever it cannot read is still searched raw.
type walk struct {
	b       []byte
	leaves  []leaf
	objects []object
	ends    []int // objects that say that their texts have ended
}

// leaf is a text: the inside of the string b[from:to].
type leaf struct {
	path     uint64 // hash of the member names that lead to it
	object   int
	from, to int
}

// object is a JSON object; index hashes its own members that number things, which may stand behind its texts.
type object struct {
	parent int
	index  uint64
}

func (w *walk) reset(b []byte) {
	w.b, w.leaves, w.objects, w.ends = b, w.leaves[:0], w.objects[:0], w.ends[:0]
}

// channel identifies the text that l is a piece of.
func (w *walk) channel(l leaf) uint64 {
	id := l.path
	for o := l.object; o >= 0; o = w.objects[o].parent {
		id = id*fnvPrime ^ w.objects[o].index
	}
	return id
}

// place appends what names an object among its siblings, one for each level outwards at which something is numbered; 0 where nothing is.
func (w *walk) place(dst []uint64, object int) []uint64 {
	for o := object; o >= 0; o = w.objects[o].parent {
		h := uint64(0)
		for a := o; a >= 0; a = w.objects[a].parent {
			if i := w.objects[a].index; i != 0 {
				h = h*fnvPrime ^ i
			}
		}
		dst = append(dst, h)
	}
	return dst
}

const fnvPrime = 1099511628211

func hash(h uint64, b []byte) uint64 {
	for _, c := range b {
		h = (h ^ uint64(c)) * fnvPrime
	}
	return (h ^ '/') * fnvPrime
}

// value reads the value at i and returns the offset behind it, or len(w.b) when it cannot.
func (w *walk) value(i int, path uint64, object, depth int) int {
	i = w.space(i)
	if i >= len(w.b) || depth > maxNesting {
		return len(w.b)
	}
	switch w.b[i] {
	case '{':
		return w.members(i+1, path, object, depth)
	case '[':
		for i++; ; i++ {
			if i = w.space(i); i < len(w.b) && w.b[i] == ']' {
				return i + 1
			}
			if i = w.space(w.value(i, path, object, depth+1)); i >= len(w.b) || w.b[i] != ',' {
				return min(i+1, len(w.b))
			}
		}
	case '"':
		return w.str(i)
	}
	end := bytes.IndexAny(w.b[i:], ",]} \t\r\n")
	if end < 0 {
		return len(w.b)
	}
	return i + end
}

func (w *walk) members(i int, path uint64, parent, depth int) int {
	self := len(w.objects)
	w.objects = append(w.objects, object{parent: parent})
	for {
		if i = w.space(i); i >= len(w.b) || w.b[i] != '"' {
			return min(i+1, len(w.b))
		}
		end := w.str(i)
		name := w.b[i+1 : max(end-1, i+1)]
		if i = w.space(end); i >= len(w.b) || w.b[i] != ':' {
			return len(w.b)
		}
		from := w.space(i + 1)
		i = w.value(from, hash(path, name), self, depth+1)
		if from < len(w.b) && w.b[from] == '"' && isText(name) {
			w.leaves = append(w.leaves, leaf{hash(path, name), self, from + 1, max(i-1, from+1)})
		} else if bytes.HasSuffix(name, []byte("index")) {
			w.objects[self].index ^= hash(hash(1, name), w.b[from:i])
		} else if isEnd(name, w.b[from:i]) {
			w.ends = append(w.ends, self)
		}
		if i = w.space(i); i >= len(w.b) || w.b[i] != ',' {
			return min(i+1, len(w.b))
		}
		i++
	}
}

// isText names the members in which providers stream text: OpenAI chat (content, refusal, reasoning, arguments), completions
// and Gemini (text), Responses (delta), Anthropic (text, thinking, partial_json, signature, data).
func isText(name []byte) bool {
	switch string(name) {
	case "content", "text", "delta", "arguments", "partial_json", "thinking", "reasoning", "reasoning_content", "refusal",
		"transcript", "signature", "input", "output", "data", "summary":
		return true
	}
	return false
}

// isEnd reports whether a member says that the texts beside it have ended: a reason to stop (OpenAI, Anthropic, Gemini), or the
// type of an event that does (Responses: ….done, ….completed; Anthropic: …_stop).
func isEnd(name, value []byte) bool {
	switch string(name) {
	case "finish_reason", "finishReason", "stop_reason":
		return value[0] == '"'
	case "type":
		return bytes.HasSuffix(value, []byte(`_stop"`)) || bytes.HasSuffix(value, []byte(`.done"`)) || bytes.HasSuffix(value, []byte(`.completed"`))
	}
	return false
}

// str returns the offset behind the string at i.
func (w *walk) str(i int) int {
	for i++; i < len(w.b); i++ {
		if w.b[i] == '\\' {
			i++
		} else if w.b[i] == '"' {
			return i + 1
		}
	}
	return len(w.b)
}

func (w *walk) space(i int) int {
	for i < len(w.b) && (w.b[i] == ' ' || w.b[i] == '\n' || w.b[i] == '\t' || w.b[i] == '\r') {
		i++
	}
	return i
}
