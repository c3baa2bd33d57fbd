package gateway

import (
	"bytes"

	"github.com/reevehq/reeve/internal/gateway/dialect"
)

// events follows a stream of server-sent events (HTML Living Standard, section 9.2) as its bytes go by, and keeps no more of it
// than the beginning of the last event's name and data. The zero value is the start of a stream.
type events struct {
	line        [dialect.Head + 8]byte // beginning of the line that is being read
	n           int                    // bytes of it in line
	long        bool                   // the line has more
	event, data [dialect.Head]byte
	en, dn      int
	open        bool // the current event has lines already
	cr          bool // the last byte was a carriage return that ended a line
}

// between reports whether the stream is between two events, so that a comment can be put in.
func (e *events) between() bool { return !e.open && e.n == 0 && !e.long }

// last is the beginning of the last event's name and data.
func (e *events) last() (event, data []byte) { return e.event[:e.en], e.data[:e.dn] }

// write follows the next bytes.
func (e *events) write(p []byte) {
	for len(p) > 0 {
		if e.cr && p[0] == '\n' {
			e.cr = false
			p = p[1:]
			continue
		}
		e.cr = false
		i := lineEnd(p)
		if i < 0 {
			e.add(p)
			return
		}
		e.add(p[:i])
		e.cr = p[i] == '\r'
		e.end()
		p = p[i+1:]
	}
}

func (e *events) add(p []byte) {
	m := copy(e.line[e.n:], p)
	e.n += m
	e.long = e.long || m < len(p)
}

// end ends a line.
func (e *events) end() {
	line := e.line[:e.n]
	blank := e.n == 0 && !e.long
	e.n, e.long = 0, false
	switch {
	case blank:
		e.open = false
		return
	case line[0] == ':':
		return // a comment is no part of an event
	case !e.open:
		e.open, e.en, e.dn = true, 0, 0
	}
	field, value, _ := bytes.Cut(line, []byte(":"))
	value = bytes.TrimPrefix(value, []byte(" "))
	switch string(field) {
	case "event":
		e.en = copy(e.event[:], value)
	case "data":
		if e.dn == 0 {
			e.dn = copy(e.data[:], value)
		}
	}
}

// lineEnd is the index of the first byte that ends a line, or -1.
func lineEnd(p []byte) int {
	i := bytes.IndexByte(p, '\n')
	if i < 0 {
		return bytes.IndexByte(p, '\r')
	}
	if j := bytes.IndexByte(p[:i], '\r'); j >= 0 {
		return j
	}
	return i
}

// finish ends a last line that has no end.
func (e *events) finish() {
	if e.n > 0 || e.long {
		e.end()
	}
}
