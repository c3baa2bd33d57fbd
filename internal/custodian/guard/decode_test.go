package guard

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/reevehq/reeve/internal/hop"
)

func pack(t testing.TB, encoding string, text []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	switch encoding {
	case "gzip":
		w = gzip.NewWriter(&b)
	case "zlib":
		w = zlib.NewWriter(&b)
	default:
		w, _ = flate.NewWriter(&b, 6)
	}
	w.Write(text)
	w.Close()
	return b.Bytes()
}

func unpack(encoding string, wire io.Reader) ([]hop.Field, []byte, error) {
	header, r, err := Decode([]hop.Field{{Name: "A", Value: "b"}, {Name: "content-encoding", Value: encoding}}, wire)
	if err != nil {
		return nil, nil, err
	}
	text, err := io.ReadAll(r)
	return header, text, err
}

func TestDecode(t *testing.T) {
	text := body("sse", 100<<10)
	for _, tt := range []struct{ header, packed string }{{"gzip", "gzip"}, {"X-GZIP", "gzip"}, {"deflate", "zlib"}, {"deflate", "raw"}} {
		wire := pack(t, tt.packed, text)
		for name, r := range map[string]io.Reader{"whole": bytes.NewReader(wire), "one byte each": iotest.OneByteReader(bytes.NewReader(wire))} {
			header, got, err := unpack(tt.header, r)
			if err != nil || !bytes.Equal(got, text) || len(header) != 1 || header[0].Name != "A" {
				t.Errorf("%s as %s, %s: %v, %v", tt.packed, tt.header, name, header, err)
			}
		}
		if _, _, err := unpack(tt.header, bytes.NewReader(wire[:len(wire)/2])); !errors.Is(err, ErrEncoding) {
			t.Errorf("%s cut short: %v", tt.packed, err)
		}
		if _, got, err := unpack(tt.header, strings.NewReader("")); err != nil || len(got) != 0 {
			t.Errorf("%s without body: %v", tt.packed, err)
		}
		gone := errors.New("connection gone")
		if _, _, err := unpack(tt.header, io.MultiReader(bytes.NewReader(wire[:100]), iotest.ErrReader(gone))); !errors.Is(err, gone) {
			t.Errorf("%s from a broken wire: %v", tt.packed, err)
		}
		if _, got, err := unpack(tt.header, bytes.NewReader(pack(t, tt.packed, make([]byte, 64<<20)))); !errors.Is(err, ErrBounds) || len(got) > 10<<20 {
			t.Errorf("%s bomb: %v after %d bytes", tt.packed, err, len(got))
		}
	}
	if _, got, err := unpack("identity", bytes.NewReader(text)); err != nil || !bytes.Equal(got, text) {
		t.Error("identity", err)
	}
	for _, bad := range []string{"br", "zstd", "gzip, gzip", "compress", "x"} {
		if _, _, err := unpack(bad, nil); !errors.Is(err, ErrEncoding) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	if _, _, err := Decode([]hop.Field{{Name: "Content-Encoding", Value: "gzip"}, {Name: "Content-Encoding", Value: "gzip"}}, nil); !errors.Is(err, ErrEncoding) {
		t.Error("two encodings:", err)
	}
	for kind, want := range map[string]error{
		"text/html; Charset = \"UTF-8\"": nil, "text/event-stream": nil, "text/plain; charset=iso-8859-1": nil,
		"application/json; charset=utf-16": ErrEncoding, "text/html; charset=utf-7": ErrEncoding, "text/html; charset=utf-8; charset=utf-16": ErrEncoding,
	} {
		if _, _, err := Decode([]hop.Field{{Name: "content-type", Value: kind}}, nil); err != want {
			t.Errorf("%s: %v", kind, err)
		}
	}
	if _, _, err := unpack("gzip", strings.NewReader("not gzip")); !errors.Is(err, ErrEncoding) {
		t.Error("garbage:", err)
	}
}

// TestDecodeThenGuard is the way an answer goes: packed by the upstream, then searched.
func TestDecodeThenGuard(t *testing.T) {
	wire := pack(t, "gzip", []byte("you sent "+demo))
	_, r, err := Decode([]hop.Field{{Name: "Content-Encoding", Value: "gzip"}}, bytes.NewReader(wire))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := io.Copy(compiled(t, demo).Stream(&out, "text/plain"), r); !errors.Is(err, ErrReflected) || out.Len() != 0 {
		t.Errorf("%v, released %q", err, out.String())
	}
}
