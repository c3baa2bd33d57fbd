package guard

import (
	"bufio"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/reevehq/reeve/internal/hop"
)

// Bounds of a decoded body: at most maxRatio times what came over the wire, after the first megabyte.
const (
	maxDecoded = 1 << 30
	maxRatio   = 128
	freeBytes  = 1 << 20
)

// ErrEncoding means a content encoding that cannot be searched, or a broken one.
var ErrEncoding = errors.New("the upstream's answer is encoded in a way that the response guard cannot read, although identity was asked for, so it was not passed on")

// Decode returns the body in plain and the header without Content-Encoding: gzip and deflate (with or without zlib's frame)
// are decoded within bounds; whatever else, and a charset in which ASCII is not ASCII, is ErrEncoding. Reading fails with
// ErrEncoding or ErrBounds wrapped.
func Decode(header []hop.Field, body io.Reader) ([]hop.Field, io.Reader, error) {
	encoding := ""
	out := make([]hop.Field, 0, len(header))
	for _, f := range header {
		if !strings.EqualFold(f.Name, "Content-Encoding") {
			if strings.EqualFold(f.Name, "Content-Type") && !asciiType(f.Value) {
				return nil, nil, ErrEncoding
			}
			out = append(out, f)
			continue
		}
		switch v := strings.ToLower(strings.TrimSpace(f.Value)); {
		case v == "identity" || v == "":
		case encoding == "" && (v == "gzip" || v == "x-gzip" || v == "deflate"):
			encoding = v
		default:
			return nil, nil, ErrEncoding
		}
	}
	if encoding == "" {
		return out, body, nil
	}
	return out, &decoder{wire: counter{r: body}, encoding: encoding}, nil
}

// asciiType reports whether the charset of a Content-Type, if it names one, spells ASCII as itself.
func asciiType(value string) bool {
	_, charset, found := strings.Cut(strings.ToLower(value), "charset")
	charset = strings.Trim(strings.TrimLeft(charset, " \t="), `"; `)
	switch charset {
	case "utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1", "latin1", "windows-1252":
		return true
	}
	return !found
}

type decoder struct {
	wire     counter
	encoding string
	plain    io.Reader // nil until the first Read: an answer without body has no frame
	n        int64     // decoded so far
}

type counter struct {
	r   io.Reader
	n   int64
	err error // of the wire itself, which is not the encoding's fault
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += int64(n)
	if err != io.EOF {
		c.err = err
	}
	return n, err
}

func (d *decoder) Read(b []byte) (int, error) {
	if d.plain == nil {
		if err := d.start(); err != nil {
			return 0, d.blame(err)
		}
	}
	n, err := d.plain.Read(b)
	if d.n += int64(n); d.n > maxDecoded || d.n > freeBytes+maxRatio*d.wire.n {
		return 0, ErrBounds
	}
	return n, d.blame(err)
}

func (d *decoder) start() (err error) {
	in := bufio.NewReader(&d.wire)
	head, err := in.Peek(2)
	switch {
	case len(head) == 0:
		return err
	case d.encoding != "deflate":
		d.plain, err = gzip.NewReader(in)
	case len(head) == 2 && head[0]&0x0f == 8 && (int(head[0])<<8|int(head[1]))%31 == 0: // RFC 1950 section 2.2
		d.plain, err = zlib.NewReader(in)
	default:
		d.plain, err = flate.NewReader(in), nil
	}
	return err
}

// blame says whose fault an error is: the wire's stays what it is.
func (d *decoder) blame(err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	if d.wire.err != nil {
		return d.wire.err
	}
	return fmt.Errorf("%w: %v", ErrEncoding, err)
}
