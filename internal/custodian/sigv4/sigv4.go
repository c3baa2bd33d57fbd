// Package sigv4 signs requests for AWS, with Signature Version 4 in the Authorization field.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
package sigv4

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"slices"
	"strings"
	"time"
)

const (
	algorithm = "AWS4-HMAC-SHA256"
	// Time is the layout of the X-Amz-Date field. Times are in UTC; AWS takes those within five minutes of its own.
	Time = "20060102T150405Z"
)

// Field is a header field that is signed. Name is in lower case.
type Field struct {
	Name  string
	Value []byte
}

// Request is what is signed: exactly what is sent, of services that encode the path once more (all but S3). The path has no empty segment and
// none of dots, and is already percent-encoded.
type Request struct {
	Method string
	Target string  // path and query
	Fields []Field // host and x-amz-date at least; Authorization sorts them
	Body   [sha256.Size]byte
}

// Scope is what a signature is good for, besides its day.
type Scope struct{ Region, Service string }

// Authorization returns the value of the Authorization field. id is the access key id, key the secret access key.
func (s Scope) Authorization(r *Request, id string, key []byte, at time.Time) []byte {
	slices.SortFunc(r.Fields, func(a, b Field) int { return strings.Compare(a.Name, b.Name) })
	stamp := at.UTC().Format(Time)
	scope := stamp[:8] + "/" + s.Region + "/" + s.Service + "/aws4_request"
	h := sha256.New()
	r.write(h)
	text := algorithm + "\n" + stamp + "\n" + scope + "\n" + hex.EncodeToString(h.Sum(nil))
	signing := s.key(key, stamp[:8])
	signature := mac(signing, text)
	clear(signing)

	b := make([]byte, 0, 256)
	b = append(append(append(append(append(b, algorithm...), " Credential="...), id...), '/'), scope...)
	b = append(b, ", SignedHeaders="...)
	for i := range r.Fields {
		if i > 0 {
			b = append(b, ';')
		}
		b = append(b, r.Fields[i].Name...)
	}
	return hex.AppendEncode(append(b, ", Signature="...), signature)
}

// key is the day's key. It is made anew for each request: that costs less than to look after another secret.
func (s Scope) key(secret []byte, day string) []byte {
	first := append(append(make([]byte, 0, 4+len(secret)), "AWS4"...), secret...)
	defer clear(first)
	k := first
	for _, text := range [...]string{day, s.Region, s.Service, "aws4_request"} {
		next := mac(k, text)
		clear(k)
		k = next
	}
	return k
}

func mac(key []byte, text string) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(text))
	return m.Sum(nil)
}

// write writes the canonical request. It goes into the hash piece by piece: a session token in it leaves no copy behind.
func (r *Request) write(h hash.Hash) {
	path, query, _ := strings.Cut(r.Target, "?")
	b := append(append(make([]byte, 0, 512), r.Method...), '\n')
	b = escape(b, path, '/')
	b = append(b, '\n')
	b = canonicalQuery(b, query)
	b = append(b, '\n')
	h.Write(b)
	for i := range r.Fields {
		f := &r.Fields[i]
		h.Write(append(append(b[:0], f.Name...), ':'))
		collapse(h, f.Value)
		h.Write([]byte{'\n'})
	}
	b = append(b[:0], '\n')
	for i := range r.Fields {
		if i > 0 {
			b = append(b, ';')
		}
		b = append(b, r.Fields[i].Name...)
	}
	h.Write(hex.AppendEncode(append(b, '\n'), r.Body[:]))
}

// collapse writes a field's value without blanks around it, and with one for each row of them.
func collapse(h hash.Hash, value []byte) {
	for begun := false; ; begun = true {
		for len(value) > 0 && blank(value[0]) {
			value = value[1:]
		}
		if len(value) == 0 {
			return
		}
		end := 0
		for end < len(value) && !blank(value[end]) {
			end++
		}
		if begun {
			h.Write([]byte{' '})
		}
		h.Write(value[:end])
		value = value[end:]
	}
}

func blank(c byte) bool { return c == ' ' || c == '\t' }

// canonicalQuery appends the parameters in the order of their encoded names and values.
func canonicalQuery(b []byte, query string) []byte {
	if query == "" {
		return b
	}
	var list []string
	for part := range strings.SplitSeq(query, "&") {
		if part != "" {
			name, value, _ := strings.Cut(part, "=")
			list = append(list, string(escape(append(escape(nil, plain(name), 0), '='), plain(value), 0)))
		}
	}
	slices.SortFunc(list, byName)
	return append(b, strings.Join(list, "&")...)
}

// byName compares name=value: a name that another begins with comes first, though "=" sorts behind digits.
func byName(a, b string) int {
	nameA, valueA, _ := strings.Cut(a, "=")
	nameB, valueB, _ := strings.Cut(b, "=")
	if c := strings.Compare(nameA, nameB); c != 0 {
		return c
	}
	return strings.Compare(valueA, valueB)
}

// plain undoes percent-encoding. "+" is itself: AWS reads no blank there.
func plain(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if c, err := hex.DecodeString(s[i+1 : i+3]); err == nil {
				b = append(b, c[0])
				i += 2
				continue
			}
		}
		b = append(b, s[i])
	}
	return string(b)
}

// escape appends s with every byte percent-encoded but unreserved ones (RFC 3986, section 2.3) and keep.
func escape(b []byte, s string, keep byte) []byte {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '.' || c == '_' || c == '~' || c == keep && keep != 0 {
			b = append(b, c)
		} else {
			b = append(b, '%', "0123456789ABCDEF"[c>>4], "0123456789ABCDEF"[c&15])
		}
	}
	return b
}
