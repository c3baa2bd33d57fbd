// Package pin holds a credential to its destination: which methods and paths it may be sent to, which of the client's header
// fields go along, and how the secret is put in. It matches the exact bytes that are sent, and refuses every path that
// another parser could read as another path.
package pin

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/reevehq/reeve/internal/custody"
	"github.com/reevehq/reeve/internal/statement"
)

// ErrRefused is wrapped by every refusal of this package: of a record when it is compiled, of a request before it is sent.
var ErrRefused = errors.New("refused by the credential's destination")

func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrRefused}, args...)...)
}

// MaxTarget is the longest request target (path and query) in bytes.
const MaxTarget = 8 << 10

// methods that a destination may name: no CONNECT, TRACE or OPTIONS.
const methods = "GET HEAD POST PUT PATCH DELETE"

// Pin is one credential's compiled destination and injection. It is immutable.
type Pin struct {
	Credential statement.Credential // with what its template filled in
	rules      []rule
}

// rule is one path pattern: literal segments, "*" for one whole segment; rest is a final "**", one or more segments.
type rule struct {
	methods  []string
	segments []string
	rest     bool
}

// Compile fills the record from its template and checks all of it. A pattern is "/v1/models/*" for all of the destination's
// methods or "GET,DELETE /v1/responses/*" for some.
func Compile(c statement.Credential) (*Pin, error) {
	c, err := custody.Fill(c)
	if err != nil {
		return nil, refuse("%w", err)
	}
	d := &c.Destination
	u, err := url.Parse(d.Origin)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || "https://"+u.Host != d.Origin {
		return nil, refuse("credential %s: origin %q is not https://host[:port]", c.ID, d.Origin)
	}
	if d.Prefix != "" && canonical(d.Prefix) != nil {
		return nil, refuse("credential %s: prefix %q is not a plain path such as /api", c.ID, d.Prefix)
	}
	if len(d.Methods) == 0 || len(d.Paths) == 0 {
		return nil, refuse("credential %s: a destination needs methods and paths", c.ID)
	}
	if err := checkMethods(d.Methods, strings.Fields(methods)); err != nil {
		return nil, fmt.Errorf("credential %s: %w", c.ID, err)
	}
	p := &Pin{Credential: c}
	for _, pattern := range d.Paths {
		r, err := compile(pattern, d.Methods)
		if err != nil {
			return nil, fmt.Errorf("credential %s: path pattern %q: %w", c.ID, pattern, err)
		}
		p.rules = append(p.rules, r)
	}
	if path, query, _ := strings.Cut(c.Probe.Path, "?"); c.Probe.Method != "" && (canonical(path) != nil || issues(path) || p.checkQuery(query) != nil) {
		return nil, refuse("credential %s: the probe's path %q is not one that may be sent", c.ID, c.Probe.Path)
	}
	return p, checkInject(c)
}

func checkMethods(got, allowed []string) error {
	for _, m := range got {
		if !slices.Contains(allowed, m) {
			return refuse("method %q is not one of %s", m, strings.Join(allowed, " "))
		}
	}
	return nil
}

func compile(pattern string, all []string) (rule, error) {
	r := rule{methods: all}
	if some, path, ok := strings.Cut(pattern, " "); ok {
		r.methods, pattern = strings.Split(some, ","), path
		if err := checkMethods(r.methods, all); err != nil {
			return r, err
		}
	}
	pattern, r.rest = strings.CutSuffix(pattern, "/**")
	if pattern == "" {
		return r, refuse("it names no first segment")
	}
	if err := canonical(pattern); err != nil {
		return r, err
	}
	if issues(pattern) {
		return r, refuse("it issues secrets; a credential that can make credentials is not passed on")
	}
	r.segments = strings.Split(pattern[1:], "/")
	for _, s := range r.segments {
		if s != "*" && strings.Contains(s, "*") {
			return r, refuse(`"*" stands for one whole segment, "**" for the last ones`)
		}
	}
	return r, nil
}

// Public maps a public path, with its query, to what is sent: without a leading /openai, /anthropic or /credentials/ID, behind the
// destination's prefix.
func Public(public, id, prefix string) string {
	if rest, ok := strings.CutPrefix(public, "/credentials/"); ok {
		if rest, ok := strings.CutPrefix(rest, id); ok && strings.HasPrefix(rest, "/") {
			return prefix + rest
		}
	}
	for _, dialect := range []string{"/openai/", "/anthropic/"} {
		if strings.HasPrefix(public, dialect) {
			public = public[len(dialect)-1:]
			break
		}
	}
	return prefix + public
}

// Target returns the request target that is sent for the public path, path and query exactly as they go on the wire, or a
// refusal.
func (p *Pin) Target(method, public string) (string, error) {
	target := Public(public, p.Credential.ID, p.Credential.Destination.Prefix)
	if len(target) > MaxTarget {
		return "", refuse("the path and query are longer than %d bytes", MaxTarget)
	}
	path, query, _ := strings.Cut(target, "?")
	if err := canonical(path); err != nil {
		return "", err
	}
	if issues(path) {
		return "", refuse("this path issues secrets; it is never reachable through a credential")
	}
	if err := p.checkQuery(query); err != nil {
		return "", err
	}
	for i := range p.rules {
		if r := &p.rules[i]; r.match(path) && slices.Contains(r.methods, method) {
			return target, nil
		}
	}
	return "", refuse("credential %s may not be sent with this method to this path; its custody record says where it may go", p.Credential.ID)
}

func (r *rule) match(path string) bool {
	for _, want := range r.segments {
		if path == "" {
			return false
		}
		end := strings.IndexByte(path[1:], '/') + 1
		if end == 0 {
			end = len(path)
		}
		if want != "*" && path[1:end] != want {
			return false
		}
		path = path[end:]
	}
	return (path != "") == r.rest
}

// canonical accepts only paths that every parser reads alike, however often it decodes, cleans or folds them. Allowed
// are RFC 3986 pchar without ";" (path parameters), no empty and no all-dots segment, and percent-encoding only of
// the bytes that JavaScript's encodeURIComponent encodes and that separate nothing: $ & + , : = @.
func canonical(path string) error {
	if path == "" || path[0] != '/' || path[len(path)-1] == '/' {
		return refuse("the path does not begin with / or ends with it")
	}
	dots := true // the segment so far is only dots
	for i := 1; i < len(path); i++ {
		switch c := path[i]; {
		case c == '/':
			if dots {
				return refuse("the path has an empty segment or one of only dots")
			}
			dots = true
		case c == '.':
		case c == '%' && i+2 < len(path) && harmless(path[i+1:i+3]):
			i += 2
			dots = false
		case unreserved(c) || strings.IndexByte("!$&'()*+,=:@", c) >= 0:
			dots = false
		default:
			return refuse("the path has a byte or percent-encoding that servers read differently")
		}
	}
	if dots {
		return refuse("the path ends with a segment of only dots")
	}
	return nil
}

func unreserved(c byte) bool {
	return c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '.' || c == '_' || c == '~'
}

// harmless reports whether two hex digits encode one of $ & + , : = @.
func harmless(h string) bool {
	switch strings.ToUpper(h) {
	case "24", "26", "2B", "2C", "3A", "3D", "40":
		return true
	}
	return false
}

// checkQuery refuses bytes outside RFC 3986 query, and parameters that authenticate: the request must be made with this
// credential and no other.
func (p *Pin) checkQuery(query string) error {
	for i := 0; i < len(query); i++ {
		c := query[i]
		if c == '%' {
			if i+2 >= len(query) || !hexDigit(query[i+1]) || !hexDigit(query[i+2]) {
				return refuse("the query has a broken percent-encoding")
			}
		} else if !unreserved(c) && strings.IndexByte("!$&'()*+,;=:@/?", c) < 0 {
			return refuse("the query has a byte that RFC 3986 does not allow there")
		}
	}
	for len(query) > 0 {
		end := strings.IndexAny(query, "&;") // some servers split at ";"
		if end < 0 {
			end = len(query)
		}
		name, _, _ := strings.Cut(query[:end], "=")
		if p.authenticates(name) {
			return refuse("the query carries a parameter that authenticates; leave it out, the credential is put in for you")
		}
		query = query[min(end+1, len(query)):]
	}
	return nil
}

func hexDigit(c byte) bool { return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'f' }

// authenticates compares a query parameter's name, decoded until nothing changes, with the names that carry credentials.
func (p *Pin) authenticates(name string) bool {
	for strings.ContainsAny(name, "%+") {
		once, err := url.QueryUnescape(name)
		if err != nil || once == name {
			break
		}
		name = once
	}
	name, _, _ = strings.Cut(name, "[") // PHP and Rails read key[] as key
	name = word(strings.TrimSpace(name))
	if in := p.Credential.Inject; in.As == "query" && name == word(in.Name) {
		return true
	}
	switch name { // RFC 6750 section 2.3; Google; Azure; and what others call it
	case "accesstoken", "key", "apikey", "subscriptionkey", "authorization":
		return true
	}
	return false
}

// word folds case and drops "-", "_", "." and " ", which servers replace for one another.
func word(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '-' || r == '_' || r == '.' || r == ' ':
			return -1
		case r >= 'A' && r <= 'Z':
			return r | 0x20
		}
		return r
	}, s)
}
