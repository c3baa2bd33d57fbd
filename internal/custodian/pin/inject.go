package pin

import (
	"strings"

	"github.com/reevehq/reeve/internal/secret"
	"github.com/reevehq/reeve/internal/statement"
)

func checkInject(c statement.Credential) error {
	for _, f := range c.Inject.With {
		name, value, ok := strings.Cut(f, ": ")
		if bad := fold(name); !ok || !token(name) || !fieldValue(value) || local(bad) || authField(bad) || once(bad) != 0 {
			return refuse("credential %s: inject with %q, which is not a field that may stand beside the secret", c.ID, f)
		}
	}
	name := fold(c.Inject.Name)
	switch c.Inject.As {
	case "bearer":
		if name == "" {
			return nil
		}
	case "header":
		if token(name) && (!local(name) || strings.HasPrefix(name, "cf-")) && name != "content-type" && name != "content-encoding" {
			return nil
		}
	case "query":
		if name != "" && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-.") == "" {
			return nil
		}
	}
	return refuse("credential %s: inject as bearer without a name, as header with a field name, or as query with a parameter name", c.ID)
}

// Check reports whether the secret can be carried as the record says: printable ASCII, and no space except inside a header
// value such as "Basic …". The error does not hold the secret.
func (p *Pin) Check(v secret.Value) error {
	b := v.Reveal()
	for i, c := range b {
		inner := p.Credential.Inject.As == "header" && c == ' ' && i > 0 && i < len(b)-1
		if (c <= ' ' || c >= 0x7f) && !inner {
			return refuse("credential %s: the secret has a space, line break or other byte that cannot be sent; hand it over again without it", p.Credential.ID)
		}
	}
	if len(b) == 0 {
		return refuse("credential %s: the secret is empty", p.Credential.ID)
	}
	return nil
}

// AppendTarget appends the request target that Target returned, with the secret where it goes into the query. The
// caller wipes the bytes after use.
func (p *Pin) AppendTarget(dst []byte, target string, v secret.Value) []byte {
	dst = append(dst, target...)
	if p.Credential.Inject.As != "query" {
		return dst
	}
	joint := byte('?')
	if strings.Contains(target, "?") {
		joint = '&'
	}
	dst = append(append(append(dst, joint), p.Credential.Inject.Name...), '=')
	for _, c := range v.Reveal() {
		if unreserved(c) {
			dst = append(dst, c)
		} else {
			dst = append(dst, '%', "0123456789ABCDEF"[c>>4], "0123456789ABCDEF"[c&15])
		}
	}
	return dst
}

// Field returns the header field that carries the secret; its name is empty when the secret goes into the query. The caller
// wipes the value after use.
func (p *Pin) Field(v secret.Value) (name string, value []byte) {
	switch p.Credential.Inject.As {
	case "bearer":
		return "Authorization", append([]byte("Bearer "), v.Reveal()...)
	case "header":
		return p.Credential.Inject.Name, append([]byte(nil), v.Reveal()...)
	}
	return "", nil
}
