package upstream

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// reflection says in which form the key goes back to who sent it.
type reflection struct {
	place, encoding, coding string
}

var (
	places    = []string{"body", "header", "header-name", "trailer", "location", "error", "sse", "sse-delta", "ndjson", "onebyte"}
	encodings = []string{"raw", "base64", "base64-1", "base64-2", "base64url", "base64-wrapped", "hex", "hex-upper", "url", "json", "html", "html-hex"}
	codings   = []string{"gzip", "deflate", "deflate-raw", "br"}
)

// Forms lists every form of reflection, for tests that go through all.
func Forms() []string { return slices.Concat(places, encodings, codings) }

func parseReflection(forms []string) (*reflection, error) {
	r := &reflection{place: "body", encoding: "raw"}
	for _, form := range forms {
		switch form = strings.TrimSpace(form); {
		case slices.Contains(places, form):
			r.place = form
		case slices.Contains(encodings, form):
			r.encoding = form
		case slices.Contains(codings, form):
			r.coding = form
		case form != "":
			return nil, fmt.Errorf("x-demo-reflect: %q is no form", form)
		}
	}
	return r, nil
}

// encode writes key in the reflection's encoding.
func (r *reflection) encode(key string) string {
	switch r.encoding {
	case "base64":
		return base64.StdEncoding.EncodeToString([]byte(key))
	case "base64-1":
		return base64.StdEncoding.EncodeToString([]byte("." + key))
	case "base64-2":
		return base64.StdEncoding.EncodeToString([]byte(".." + key))
	case "base64url":
		return base64.RawURLEncoding.EncodeToString([]byte(key))
	case "base64-wrapped": // broken as in a PEM file, wherever the key lies in its lines
		text := base64.StdEncoding.EncodeToString([]byte(strings.Repeat(".", 39) + key))
		for at := 64; at < len(text); at += 64 + len(`\r\n`) {
			text = text[:at] + `\r\n` + text[at:]
		}
		return text
	case "hex":
		return hex.EncodeToString([]byte(key))
	case "hex-upper":
		return strings.ToUpper(hex.EncodeToString([]byte(key)))
	case "url":
		return each(key, "%%%02X")
	case "json":
		return each(key, `\u%04x`)
	case "html":
		return each(key, "&#%d;")
	case "html-hex":
		return each(key, "&#x%X;")
	}
	return key
}

func each(key, format string) string {
	var b strings.Builder
	for i := range len(key) {
		fmt.Fprintf(&b, format, key[i])
	}
	return b.String()
}

// reflect answers with the key in the form asked for.
func (c *call) reflect() {
	r := c.control.reflect
	key := r.encode(c.key)
	h := c.w.Header()
	switch r.place {
	case "header":
		h.Set("X-Demo-Reflected", key)
		c.text("look at the header\n")
	case "header-name":
		h[http.CanonicalHeaderKey("X-Demo-"+key)] = []string{"1"}
		c.text("look at the header\n")
	case "trailer":
		h.Set("Trailer", "X-Demo-Reflected")
		c.text("look at the trailer\n")
		h.Set("X-Demo-Reflected", key)
	case "location":
		h.Set("Location", "https://127.0.0.1:1/?key="+key)
		c.w.WriteHeader(http.StatusFound)
	case "error":
		c.fail(http.StatusBadRequest, "You sent "+key)
	case "sse":
		c.reflectStream([]string{"You sent ", key, "."})
	case "sse-delta":
		c.reflectStream(strings.Split(key, ""))
	case "ndjson":
		c.reflectLines(strings.Split(key, ""))
	case "onebyte":
		c.reflectSlowly(key)
	default:
		c.reflectBody(key)
	}
}

func (c *call) text(s string) {
	c.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	io.WriteString(c.w, s)
}

// reflectBody sends a JSON body with the key and, raw, every header field; under the content coding asked for. The key is
// spliced in as it is encoded: form json is itself an escape inside a JSON string.
func (c *call) reflectBody(key string) {
	var b bytes.Buffer
	fmt.Fprintf(&b, `{"demo":"reflection","key":"%s"`, key)
	if c.control.reflect.encoding == "raw" {
		for _, name := range slices.Sorted(maps.Keys(c.r.Header)) {
			fmt.Fprintf(&b, `,%q:%q`, name, strings.Join(c.r.Header[name], ", "))
		}
	}
	b.WriteString("}\n")
	c.w.Header().Set("Content-Type", "application/json")
	if coding := c.control.reflect.coding; coding != "" {
		c.w.Header().Set("Content-Encoding", strings.TrimSuffix(coding, "-raw"))
	}
	zw := compressor(c.w, c.control.reflect.coding)
	zw.Write(b.Bytes())
	zw.Close()
}

type plain struct{ io.Writer }

func (plain) Close() error { return nil }

func compressor(w io.Writer, coding string) io.WriteCloser {
	switch coding {
	case "gzip":
		return gzip.NewWriter(w)
	case "deflate": // RFC 9110: the zlib format
		return zlib.NewWriter(w)
	case "deflate-raw": // what some servers send under the same name
		zw, _ := flate.NewWriter(w, flate.DefaultCompression)
		return zw
	}
	return plain{w}
}

// reflectLines sends the pieces as lines of JSON, as Ollama's own API does.
func (c *call) reflectLines(pieces []string) {
	c.w.Header().Set("Content-Type", "application/x-ndjson")
	for _, piece := range pieces {
		fmt.Fprintf(c.w, `{"message":{"role":"assistant","content":%q},"done":false}`+"\n", piece)
		http.NewResponseController(c.w).Flush()
	}
}

// reflectSlowly writes one byte at a time, each in a chunk of its own.
func (c *call) reflectSlowly(key string) {
	c.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	rc := http.NewResponseController(c.w)
	text := "You sent " + key + ".\n"
	for i := range len(text) {
		io.WriteString(c.w, text[i:i+1])
		rc.Flush()
	}
}

// reflectStream sends the pieces as the text deltas of the provider's stream.
func (c *call) reflectStream(pieces []string) {
	if c.dialect == anthropic {
		c.streamMessage(&messageRequest{Model: c.model()}, &reply{pieces: pieces})
		return
	}
	c.streamChat(&chatRequest{Model: c.model()}, []*reply{{pieces: pieces}})
}
