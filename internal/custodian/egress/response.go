package egress

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http/httputil"
	"strconv"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/hop"
)

// interim is how many 1xx answers may come before the final one.
const interim = 8

// head is an answer's status line and header fields.
type head struct {
	status int
	minor  byte // of HTTP/1.x
	fields []hop.Field
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrResponse, fmt.Sprintf(format, args...))
}

// readFinal skips interim answers. 101 is refused: nobody asked for another protocol.
func readFinal(in *bufio.Reader, cfg *Config) (*head, error) {
	for range interim {
		h, err := readHead(in, cfg)
		if err != nil || h.status >= 200 {
			return h, err
		}
		if h.status == 101 {
			return nil, malformed("status 101, a change of protocol that was not asked for")
		}
	}
	return nil, malformed("more than %d interim answers", interim)
}

// readHead reads a status line and fields. It is stricter than net/http: no bare LF, no folded lines, no space before a colon.
func readHead(in *bufio.Reader, cfg *Config) (*head, error) {
	block, err := readBlock(in, cfg.HeaderBytes, true)
	if err != nil {
		return nil, err
	}
	line, rest, _ := strings.Cut(block, "\r\n")
	h := &head{}
	if len(line) < 12 || line[:7] != "HTTP/1." || line[7] != '0' && line[7] != '1' || line[8] != ' ' || len(line) > 12 && line[12] != ' ' || !text(line) {
		return nil, malformed("status line %.40q", line)
	}
	h.minor = line[7] - '0'
	for _, c := range line[9:12] {
		if c < '0' || c > '9' {
			return nil, malformed("status line %.40q", line)
		}
		h.status = h.status*10 + int(c-'0')
	}
	if h.status < 100 {
		return nil, malformed("status %d", h.status)
	}
	h.fields, err = parseFields(rest, cfg.Fields)
	return h, err
}

// readBlock reads lines up to and without the empty one, each with its CRLF. With first, one line at least comes before it.
func readBlock(in *bufio.Reader, limit int, first bool) (string, error) {
	var block []byte
	var room [2048]byte
	block = room[:0]
	for begin := 0; ; {
		part, err := in.ReadSlice('\n')
		block = append(block, part...)
		if len(block) > limit {
			return "", malformed("more than %d bytes of header", limit)
		}
		if err == bufio.ErrBufferFull {
			continue
		}
		if err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return "", err
		}
		n := len(block)
		if n-begin < 2 || block[n-2] != '\r' {
			return "", malformed("a header line that does not end with CRLF")
		}
		if n-begin == 2 && (begin > 0 || !first) {
			return string(block[:begin]), nil
		}
		begin = n
	}
}

func parseFields(block string, limit int) ([]hop.Field, error) {
	n := strings.Count(block, "\n")
	if n > limit {
		return nil, malformed("more than %d header fields", limit)
	}
	if n == 0 {
		return nil, nil
	}
	fields := make([]hop.Field, 0, n)
	for block != "" {
		var line string
		line, block, _ = strings.Cut(block, "\r\n")
		name, value, ok := strings.Cut(line, ":")
		if value = strings.Trim(value, " \t"); !ok || !token(name) || !text(value) {
			return nil, malformed("header line %.40q", line)
		}
		fields = append(fields, hop.Field{Name: name, Value: value})
	}
	return fields, nil
}

// body is an answer's body and what is left to do for its connection.
type body struct {
	c      *conn
	stop   func() bool // ends the watch over the request's context
	wrote  chan error  // result of the request body's writer; nil if all was written before
	keep   bool        // the connection may carry another request
	length int64       // announced, -1 if not

	left    int64     // of length; -1 for chunked, -2 for delimited by the connection's end
	chunks  io.Reader // decodes chunked
	trailer []hop.Field
	err     error // sticky
}

const (
	chunked = -1
	toClose = -2
)

// frame decides where the body ends (RFC 9112, section 6.3), and refuses what two readers could see differently.
func (b *body) frame(h *head, method string) error {
	length, encoding := int64(-1), ""
	for _, f := range h.fields {
		switch {
		case strings.EqualFold(f.Name, "Content-Length"):
			n, err := strconv.ParseUint(f.Value, 10, 63)
			if err != nil || length >= 0 || f.Value[0] == '+' {
				return malformed("content-length %.40q, or more than one", f.Value)
			}
			length = int64(n)
		case strings.EqualFold(f.Name, "Transfer-Encoding"):
			if encoding != "" || !strings.EqualFold(f.Value, "chunked") {
				return malformed("transfer-encoding %.40q", f.Value)
			}
			encoding = f.Value
		case strings.EqualFold(f.Name, "Connection"):
			for _, option := range strings.Split(f.Value, ",") {
				if strings.EqualFold(strings.Trim(option, " \t"), "close") {
					b.keep = false
				}
			}
		}
	}
	b.keep = b.keep && h.minor == 1
	switch {
	case encoding != "" && (length >= 0 || h.minor == 0 || h.status == 204):
		return malformed("transfer-encoding together with content-length, HTTP/1.0 or status 204")
	case method == "HEAD" || h.status == 204 || h.status == 304:
		b.length, b.left = 0, 0
	case encoding != "":
		b.length, b.left = -1, chunked
		b.chunks = httputil.NewChunkedReader(b.c.in)
	case length >= 0:
		b.length, b.left = length, length
	default:
		b.length, b.left, b.keep = -1, toClose, false
	}
	return nil
}

// Read implements io.Reader. Only a body that is whole ends with io.EOF. With an empty p it waits until something has
// come, so that a reader of many idle streams needs no buffer for each.
func (b *body) Read(p []byte) (n int, err error) {
	if b.err != nil {
		return 0, b.err
	}
	b.patience()
	switch {
	case len(p) == 0:
		b.c.in.Peek(1) // an error comes with the next Read
	case b.left >= 0:
		n, err = b.c.in.Read(p[:min(int64(len(p)), b.left)])
		b.left -= int64(n)
		switch {
		case b.left == 0:
			err = io.EOF
		case err == io.EOF:
			err = io.ErrUnexpectedEOF
		}
	case b.left == chunked:
		if n, err = b.chunks.Read(p); err == io.EOF {
			err = b.readTrailer()
		}
	default:
		// Only TLS's close_notify tells an end from a cut; crypto/tls takes a bare end of the connection for one too.
		if n, err = b.c.in.Read(p); err == io.EOF && b.c.raw.eof.Load() {
			err = io.ErrUnexpectedEOF
		}
	}
	if err == io.EOF {
		b.finish()
	} else if err != nil {
		b.end(fmt.Errorf("reading the answer: %w", err), false)
	}
	return n, b.err
}

// patience gives the upstream the idle time, or seven eighths of it at least, for its next piece: setting a deadline for every
// piece costs more than reading it.
func (b *body) patience() {
	if b.left >= 0 && b.c.in.Buffered() > 0 {
		return // nothing to wait for
	}
	idle := b.c.pool.cfg.IdleTimeout
	if left := time.Until(b.c.readBy); left > idle || left < idle-idle/8 {
		b.c.readBy = time.Now().Add(idle)
		b.c.raw.SetReadDeadline(b.c.readBy)
	}
}

func (b *body) readTrailer() error {
	cfg := &b.c.pool.cfg
	block, err := readBlock(b.c.in, cfg.HeaderBytes, false)
	if err == nil {
		b.trailer, err = parseFields(block, cfg.Fields)
	}
	if err == nil {
		err = io.EOF
	}
	return err
}

// finish ends a body that is whole.
func (b *body) finish() {
	keep := b.keep && b.c.in.Buffered() == 0
	if keep && b.wrote != nil {
		t := time.NewTimer(afterwards)
		select {
		case err := <-b.wrote:
			keep = err == nil
		case <-t.C:
			keep = false // the upstream answered before it had read the request
		}
		t.Stop()
	}
	b.end(io.EOF, keep)
}

// end gives the connection back or closes it.
func (b *body) end(err error, keep bool) {
	b.err = err
	if b.stop() && keep {
		b.c.raw.SetDeadline(time.Time{})
		b.c.pool.put(b.c)
	} else {
		b.c.close()
	}
}

// Close implements io.Closer.
func (b *body) Close() error {
	if b.err == nil {
		b.end(errors.New("reading the answer: closed"), false)
	}
	return nil
}

func (b *body) trailerFields() []hop.Field { return b.trailer }
