package hop

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

const (
	// Version is the protocol's version byte. Both ends must speak the same one.
	Version = 1

	magic       = "REEVEHOP"
	prefaceSize = 16
	headerSize  = 8
	// maxBody is the largest payload of one BODY frame in bytes: small enough that streams take turns.
	maxBody = 32 << 10
	// maxRecord is the largest signed record in bytes, as feed.MaxRecord.
	maxRecord = 16 << 10
	// maxNumber is the largest number in a payload: four varint bytes. It bounds bodies, windows and stream ids.
	maxNumber = 1<<28 - 1
)

// Frame types: up to frameWindow and frameRecord from the client, up to frameGoaway from the server, the others from both.
const (
	frameOpen byte = 1 + iota
	frameCancel
	frameWindow
	frameHead
	frameTrailer
	frameError
	frameGoaway
	frameBody
	frameEnd
	frameRecord
)

// Status byte of the server's preface.
const (
	statusReady   byte = iota
	statusPeer         // this peer is not known
	statusVersion      // the client's version is not spoken here
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

// limit is the largest payload of a frame type in bytes.
func (l *Limits) limit(kind byte) int {
	switch kind {
	case frameBody:
		return maxBody
	case frameEnd, frameCancel:
		return 0
	case frameWindow:
		return 4
	case frameRecord:
		return maxRecord
	}
	return l.Header
}

// check refuses what no peer may send, before any payload is read.
func (h header) check(l *Limits, fromClient bool) error {
	known := h.kind >= frameOpen && h.kind <= frameRecord
	direction := h.kind == frameBody || h.kind == frameEnd || (h.kind <= frameWindow || h.kind == frameRecord) == fromClient
	stream := h.stream <= maxNumber && (h.stream == 0) == (h.kind == frameGoaway || h.kind == frameRecord)
	empty := h.kind == frameBody && h.size == 0
	if !known || !direction || !stream || empty || h.size > l.limit(h.kind) {
		return violation("frame of type %d with %d bytes on stream %d may not be sent", h.kind, h.size, h.stream)
	}
	return nil
}

func appendText(b []byte, texts ...string) []byte {
	for _, s := range texts {
		b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	return b
}

func appendFields(b []byte, fields []Field) []byte {
	b = binary.AppendUvarint(b, uint64(len(fields)))
	for i := range fields {
		b = appendText(b, fields[i].Name, fields[i].Value)
	}
	return b
}

// appendOpen puts the proof first, so that the receiver can copy it apart from what it keeps longer.
func appendOpen(b []byte, o *Open) []byte {
	b = append(binary.AppendUvarint(b, uint64(len(o.Proof.Value))), o.Proof.Value...)
	b = binary.AppendUvarint(b, uint64(len(o.Body)))
	b = appendText(b, o.Proof.Kind, o.RequestID, o.Credential, o.Method, o.Path, o.URL)
	return appendFields(appendFields(b, o.Header), o.Asserted)
}

// decodeOpen fills o but for its body, whose length it returns.
func decodeOpen(p []byte, o *Open, l *Limits) (body int, err error) {
	proof, n := number(p)
	if n == 0 || proof > len(p)-n {
		return 0, violation("OPEN cut short")
	}
	if proof > 0 {
		o.Proof.Value = append([]byte(nil), p[n:n+proof]...)
	}
	d := decoder{rest: string(p[n+proof:])}
	body = d.number()
	for _, s := range [...]*string{&o.Proof.Kind, &o.RequestID, &o.Credential, &o.Method, &o.Path, &o.URL} {
		*s = d.text()
	}
	o.Header, o.Asserted = d.fields(l), d.fields(l)
	return body, d.end()
}

func appendHead(b []byte, status int, fields []Field) []byte {
	return appendFields(binary.AppendUvarint(b, uint64(status)), fields)
}

func decodeHead(p []byte, l *Limits) (status int, fields []Field, err error) {
	d := decoder{rest: string(p)}
	status, fields = d.number(), d.fields(l)
	d.bad = d.bad || status < 200 || status > 999
	return status, fields, d.end()
}

func decodeTrailer(p []byte, l *Limits) ([]Field, error) {
	d := decoder{rest: string(p)}
	return d.fields(l), d.end()
}

func appendRefusal(b []byte, r *Refusal) []byte {
	sent := byte(0)
	if r.Sent {
		sent = 1
	}
	b = binary.AppendUvarint(append(b, sent), uint64(r.Status))
	b = binary.AppendUvarint(b, uint64(min(max(r.RetryAfter, 0), maxNumber)))
	return appendText(b, r.Code, r.Message, r.Receipt, r.Nonce)
}

func decodeRefusal(p []byte) (*Refusal, error) {
	d := decoder{rest: string(p)}
	sent := d.number()
	r := &Refusal{Sent: sent == 1, Status: d.number(), RetryAfter: d.number(), Code: d.text(), Message: d.text(), Receipt: d.text(), Nonce: d.text()}
	d.bad = d.bad || sent > 1 || r.Status < 400 || r.Status > 599
	return r, d.end()
}

// number reads an unsigned varint of at most four bytes in its shortest form, and returns how many it took, 0 for a fault.
func number[T string | []byte](b T) (v, n int) {
	for i := 0; i < 4 && i < len(b); i++ {
		v |= int(b[i]&0x7f) << (7 * i)
		if b[i] < 0x80 {
			if b[i] == 0 && i > 0 {
				return 0, 0
			}
			return v, i + 1
		}
	}
	return 0, 0
}

// decoder takes a payload apart. All strings share the memory of rest; after a fault everything is empty.
type decoder struct {
	rest string
	bad  bool
}

func (d *decoder) number() int {
	v, n := number(d.rest)
	d.bad = d.bad || n == 0
	d.rest = d.rest[n:]
	return v
}

func (d *decoder) text() string {
	n := d.number()
	if d.bad = d.bad || n > len(d.rest); d.bad {
		return ""
	}
	s := d.rest[:n]
	d.rest = d.rest[n:]
	return s
}

func (d *decoder) fields(l *Limits) []Field {
	n := d.number()
	if d.bad = d.bad || n > l.Fields || 2*n > len(d.rest); d.bad || n == 0 { // each takes two bytes at least
		return nil
	}
	fields := make([]Field, n)
	for i := range fields {
		f := &fields[i]
		f.Name, f.Value = d.text(), d.text()
		// A line break or NUL would become another field in the HTTP/1.1 message that either end writes.
		d.bad = d.bad || strings.ContainsAny(f.Name, "\r\n\x00") || strings.ContainsAny(f.Value, "\r\n\x00")
	}
	return fields
}

func (d *decoder) end() error {
	if d.bad || d.rest != "" {
		return violation("malformed payload")
	}
	return nil
}
