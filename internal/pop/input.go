package pop

import (
	"encoding/base64"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Signature-Input is a structured dictionary (RFC 8941). Of all that such a field can say one form is taken: one signature named
// reeve, the form's components in its order, and five parameters in their order. What is read is written again and compared, so
// that no second spelling exists.

const maxHeaders = 32 // further header fields that a signature covers

// parameters writes what follows "reeve=".
func (p *Proof) parameters(components []string) string {
	b := []byte{'('}
	for i, c := range components {
		if i > 0 {
			b = append(b, ' ')
		}
		b = append(append(append(b, '"'), c...), '"')
	}
	b = append(b, ");created="...)
	b = strconv.AppendInt(b, p.Created.Unix(), 10)
	b = append(b, ";expires="...)
	b = strconv.AppendInt(b, p.Expires.Unix(), 10)
	b = append(append(append(b, `;nonce="`...), p.ClientNonce...), `";keyid="`...)
	b = append(append(append(b, p.KeyID...), `";tag="`...), Tag...)
	return string(append(b, '"'))
}

// parseInput reads Signature-Input into p and returns the parameters' text.
func (p *Proof) parseInput(text string) (params string, err error) {
	params, ok := strings.CutPrefix(text, "reeve=(")
	list, rest, found := strings.Cut(params, ");")
	if !ok || !found {
		return "", malformed("%s is not of the form reeve=(…);…", FieldInput)
	}
	var names []string
	for item := range strings.SplitSeq(list, " ") {
		name, quoted := strings.CutPrefix(item, `"`)
		name, ended := strings.CutSuffix(name, `"`)
		if !quoted || !ended || len(names) > maxHeaders+7 { // so many are the form's own
			return "", malformed("%s has components that are not quoted names, or too many", FieldInput)
		}
		names = append(names, name)
	}
	var created, expires string
	for _, f := range []struct {
		name string
		to   *string
	}{{"created=", &created}, {"expires=", &expires}, {"nonce=", &p.ClientNonce}, {"keyid=", &p.KeyID}, {"tag=", new(string)}} {
		var value string
		value, rest, _ = strings.Cut(rest, ";")
		if *f.to, ok = strings.CutPrefix(value, f.name); !ok {
			return "", malformed("%s has no %q in its place", FieldInput, f.name)
		}
		*f.to = strings.Trim(*f.to, `"`)
	}
	if !token(p.ClientNonce, 16) || !token(p.KeyID, 32) {
		return "", malformed("the nonce is not 128 bits, or keyid not 256, in base64url")
	}
	if p.Created, err = second(created); err != nil {
		return "", err
	}
	if p.Expires, err = second(expires); err != nil {
		return "", err
	}
	if life := p.Expires.Sub(p.Created); life <= 0 || life > Life {
		return "", malformed("it lives %s, and %s is the longest", life, Life)
	}
	fallbacks := slices.Contains(names, "reeve-fallbacks")
	last := len(names) - 3
	if fallbacks {
		last--
	}
	if last < 3 {
		return "", malformed("it covers too little")
	}
	p.Headers = names[3:last]
	if err := checkHeaders(p.Headers); err != nil {
		return "", err
	}
	if fallbacks != (len(p.request.Header(FieldFallbacks)) > 0) {
		return "", malformed("%s is sent and not covered, or covered and not sent", FieldFallbacks)
	}
	for _, name := range always() {
		if !p.Covers(name) && len(p.request.Header(name)) > 0 {
			return "", malformed("%s is sent and not covered", name)
		}
	}
	if params = p.parameters(components(p.Headers, fallbacks)); "reeve="+params != text {
		return "", malformed("%s is not in the one form that is taken, %s", FieldInput, Tag)
	}
	return params, nil
}

// always names the fields that are covered wherever a request has them.
func always() []string { return []string{"accept", "authorization", "content-type"} }

// checkHeaders wants lower-case names that are sorted.
func checkHeaders(names []string) error {
	for i, name := range names {
		lower := name != "" && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-_") == ""
		if !lower || own(name) || len(names) > maxHeaders || i > 0 && names[i-1] >= name {
			return malformed("the header field %q may not be covered, or not in this place", name)
		}
	}
	return nil
}

// second reads a time in seconds, of at most eleven digits.
func second(text string) (time.Time, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || len(text) > 11 {
		return time.Time{}, malformed("%.20q is not a time in seconds", text)
	}
	return time.Unix(n, 0), nil
}

// token reports whether s is the base64url of so many bytes.
func token(s string, size int) bool {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	return err == nil && len(b) == size && len(s) == base64.RawURLEncoding.EncodedLen(size)
}

// parseBytes reads a dictionary of one byte sequence of so many bytes: prefix, then the base64 between colons.
func parseBytes(text, prefix string, size int) ([]byte, error) {
	inner, ok := strings.CutPrefix(text, prefix+":")
	inner, end := strings.CutSuffix(inner, ":")
	b, err := base64.StdEncoding.Strict().DecodeString(inner)
	if !ok || !end || err != nil || len(b) != size || strings.ContainsAny(inner, "\r\n") {
		return nil, malformed("a byte sequence is not %s:…: with %d bytes", prefix, size)
	}
	return b, nil
}
