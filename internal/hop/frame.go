package hop

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// Version is the protocol's version byte. Both ends must speak the same one.
const Version = 1

const (
	magic       = "REEVEHOP"
	prefaceSize = 16
	headerSize  = 8
	// maxBody is the largest payload of one BODY frame in bytes: small enough that streams take turns.
	maxBody = 32 << 10
	// maxWindow is the most that a stream may be allowed to send, in bytes.
	maxWindow = 1<<31 - 1
	// maxStream is the last stream id of a connection; the client then dials another.
	maxStream = 1<<31 - 1
)

// Frame types. docs/formats/hop.md has the payloads.
const (
	frameOpen    byte = 1
	frameBody    byte = 2
	frameEnd     byte = 3
	frameCancel  byte = 4
	frameWindow  byte = 5
	frameHead    byte = 6
	frameTrailer byte = 7
	frameError   byte = 8
	frameGoaway  byte = 9
)

// Status byte of the server's preface.
const (
	statusReady   byte = 0
	statusPeer    byte = 1 // this peer is not known
	statusVersion byte = 2 // the client's version is not spoken here
	statusBusy    byte = 3 // too many connections, or closing
)

// codeBroken in an ERROR frame means that the stream broke off; every other code is a Refusal.
const codeBroken = "broken_off"

var errProtocol = errors.New("hop protocol violated")

func violation(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errProtocol, fmt.Sprintf(format, args...))
}

// header is a frame's first 8 bytes: type, payload length (24 bits), stream id (32 bits), big-endian.
type header struct {
	kind   byte
	size   int
	stream uint32
}

func parseHeader(b []byte) header {
	return header{b[0], int(b[1])<<16 | int(b[2])<<8 | int(b[3]), binary.BigEndian.Uint32(b[4:])}
}

// check refuses what no peer may send, before any payload is read. fromClient tells the direction.
func (h header) check(l *Limits, fromClient bool) error {
	limit, client, server := 0, false, false
	switch h.kind {
	case frameOpen:
		limit, client = l.Header, true
	case frameBody:
		limit, client, server = maxBody, true, true
	case frameEnd:
		client, server = true, true
	case frameCancel:
		client = true
	case frameWindow:
		limit, client = 4, true
	case frameHead, frameTrailer, frameError:
		limit, server = l.Header, true
	case frameGoaway:
		limit, server = l.Header, true
	default:
		return violation("unknown frame type %d", h.kind)
	}
	switch {
	case fromClient && !client || !fromClient && !server:
		return violation("frame type %d in the wrong direction", h.kind)
	case h.size > limit:
		return violation("frame type %d has %d bytes, at most %d are allowed", h.kind, h.size, limit)
	case (h.kind == frameGoaway) != (h.stream == 0) || h.stream > maxStream:
		return violation("frame type %d on stream %d", h.kind, h.stream)
	}
	return nil
}

// begin appends a frame's header with the length left open; finish fills it in.
func begin(b []byte, kind byte, stream uint32) []byte {
	return binary.BigEndian.AppendUint32(append(b, kind, 0, 0, 0), stream)
}

func finish(b []byte, start int) []byte {
	n := len(b) - start - headerSize
	b[start+1], b[start+2], b[start+3] = byte(n>>16), byte(n>>8), byte(n)
	return b
}

func appendPreface(b []byte, status byte, window int) []byte {
	b = append(append(b, magic...), Version, status, 0, 0)
	return binary.BigEndian.AppendUint32(b, uint32(window))
}

// parsePreface reads the other end's 16 bytes. The version is judged by the caller, who may have to answer first.
func parsePreface(b []byte) (version, status byte, window int, err error) {
	w := binary.BigEndian.Uint32(b[12:])
	if string(b[:8]) != magic || w > maxWindow {
		return 0, 0, 0, violation("the other end does not speak this protocol")
	}
	return b[8], b[9], int(w), nil
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendPairs(b []byte, fields []Field) []byte {
	for i := range fields {
		b = appendString(appendString(b, fields[i].Name), fields[i].Value)
	}
	return b
}

func appendFields(b []byte, fields []Field) []byte {
	return appendPairs(binary.AppendUvarint(b, uint64(len(fields))), fields)
}

// appendOpen writes the proof first, so that the receiver can copy it apart from what it keeps longer.
func appendOpen(b []byte, o *Open) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(o.Body)))
	b = binary.BigEndian.AppendUint32(b, uint32(len(o.Proof.Value)))
	b = append(b, o.Proof.Value...)
	for _, s := range [...]string{o.Proof.Kind, o.RequestID, o.Credential, o.Method, o.Path, o.URL} {
		b = appendString(b, s)
	}
	b = binary.AppendUvarint(b, uint64(len(o.Header)))
	b = binary.AppendUvarint(b, uint64(len(o.Asserted)))
	return appendPairs(appendPairs(b, o.Header), o.Asserted)
}

// decodeOpen fills o but for its body, whose length it returns.
func decodeOpen(p []byte, o *Open, l *Limits) (body int64, err error) {
	if len(p) < 8 {
		return 0, violation("OPEN cut short")
	}
	body = int64(binary.BigEndian.Uint32(p))
	proof := int64(binary.BigEndian.Uint32(p[4:]))
	if p = p[8:]; proof > int64(len(p)) {
		return 0, violation("OPEN cut short")
	}
	if proof > 0 {
		o.Proof.Value = append([]byte(nil), p[:proof]...)
	}
	d := decoder{rest: string(p[proof:])}
	for _, s := range [...]*string{&o.Proof.Kind, &o.RequestID, &o.Credential, &o.Method, &o.Path, &o.URL} {
		*s = d.text()
	}
	header, asserted := d.count(l), d.count(l)
	fields := d.pairs(header + asserted)
	if err := d.end(); err != nil {
		return 0, err
	}
	o.Header, o.Asserted = fields[:header:header], fields[header:]
	return body, nil
}

func appendHead(b []byte, status int, fields []Field) []byte {
	return appendFields(binary.BigEndian.AppendUint16(b, uint16(status)), fields)
}

func decodeHead(p []byte, l *Limits) (status int, fields []Field, err error) {
	if len(p) < 2 {
		return 0, nil, violation("HEAD cut short")
	}
	status = int(binary.BigEndian.Uint16(p))
	if status < 200 || status > 999 {
		return 0, nil, violation("HEAD with status %d", status)
	}
	fields, err = decodeFields(p[2:], l)
	return status, fields, err
}

func decodeFields(p []byte, l *Limits) ([]Field, error) {
	d := decoder{rest: string(p)}
	fields := d.pairs(d.count(l))
	return fields, d.end()
}

func appendRefusal(b []byte, r *Refusal) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(r.Status))
	b = binary.BigEndian.AppendUint32(b, uint32(max(r.RetryAfter, 0)))
	sent := byte(0)
	if r.Sent {
		sent = 1
	}
	return appendString(appendString(appendString(append(b, sent), r.Code), r.Message), r.Receipt)
}

func decodeRefusal(p []byte) (*Refusal, error) {
	if len(p) < 7 {
		return nil, violation("ERROR cut short")
	}
	r := &Refusal{Status: int(binary.BigEndian.Uint16(p)), RetryAfter: int(binary.BigEndian.Uint32(p[2:])), Sent: p[6] == 1}
	d := decoder{rest: string(p[7:])}
	r.Code, r.Message, r.Receipt = d.text(), d.text(), d.text()
	if p[6] > 1 || r.Status < 400 || r.Status > 599 {
		d.bad = true
	}
	return r, d.end()
}

// decoder takes a payload apart. All strings share the memory of rest; after a fault everything is empty.
type decoder struct {
	rest string
	bad  bool
}

// number reads an unsigned varint of at most 4 bytes in its shortest form.
func (d *decoder) number() int {
	v := 0
	for i := 0; i < 4 && i < len(d.rest); i++ {
		c := d.rest[i]
		v |= int(c&0x7f) << (7 * i)
		if c < 0x80 {
			if c == 0 && i > 0 {
				break
			}
			d.rest = d.rest[i+1:]
			return v
		}
	}
	d.bad, d.rest = true, ""
	return 0
}

func (d *decoder) text() string {
	n := d.number()
	if n > len(d.rest) {
		d.bad, d.rest = true, ""
		return ""
	}
	s := d.rest[:n]
	d.rest = d.rest[n:]
	return s
}

func (d *decoder) count(l *Limits) int {
	n := d.number()
	if n > l.Fields {
		d.bad, d.rest = true, ""
		return 0
	}
	return n
}

func (d *decoder) pairs(n int) []Field {
	if n == 0 || 2*n > len(d.rest) { // each field takes two bytes at least
		d.bad = d.bad || n > 0
		return nil
	}
	fields := make([]Field, n)
	for i := range fields {
		fields[i].Name, fields[i].Value = d.text(), d.text()
		// A line break or NUL here would become another field in the HTTP/1.1 message that either end writes.
		if strings.ContainsAny(fields[i].Name, "\r\n\x00") || strings.ContainsAny(fields[i].Value, "\r\n\x00") {
			d.bad = true
		}
	}
	return fields
}

func (d *decoder) end() error {
	if d.bad || d.rest != "" {
		return violation("malformed payload")
	}
	return nil
}
