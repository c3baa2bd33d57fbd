package pin

import (
	"slices"
	"strings"

	"github.com/reevehq/reeve/internal/hop"
)

// Header returns the client's header fields that go upstream, with Accept-Encoding: identity. Left out are whatever
// authenticates, cookies, hop-by-hop fields (RFC 9110 section 7.6.1), what describes the client's own way here, what
// overrides method or path, what would have the answer cut or spelled so that the guard cannot search it (Range,
// Accept-Charset), and what the custodian sets itself: Host, Content-Length and the injected field. It refuses malformed
// fields, repeated ones that servers read differently, and bodies that are not plain JSON.
func (p *Pin) Header(client []hop.Field) ([]hop.Field, error) {
	named := connectionNames(client)
	out := make([]hop.Field, 0, len(client)+1)
	seen := 0
	for _, f := range client {
		if !token(f.Name) || !fieldValue(f.Value) {
			return nil, refuse("a malformed header field")
		}
		name := fold(f.Name)
		if local(name) || authField(name) || p.sets(name) || slices.Contains(named, name) {
			continue
		}
		if bit := once(name); bit != 0 {
			if seen&bit != 0 {
				return nil, refuse("header field %s twice", name)
			}
			seen |= bit
		}
		if name == "content-encoding" && !strings.EqualFold(f.Value, "identity") {
			return nil, refuse("an encoded request body; policy must be able to read it, so send it without Content-Encoding")
		}
		if name == "content-type" && !jsonType(f.Value) {
			return nil, refuse("a Content-Type that is not JSON in UTF-8; policy must read what the provider reads; send Content-Type: application/json")
		}
		out = append(out, f)
	}
	return append(append(out, p.Beside()...), hop.Field{Name: "Accept-Encoding", Value: "identity"}), nil
}

// Beside returns the fields that the provider wants beside the secret, without which it may refuse one that is good.
func (p *Pin) Beside() (fields []hop.Field) {
	for _, f := range p.Credential.Inject.With {
		name, value, _ := strings.Cut(f, ": ")
		fields = append(fields, hop.Field{Name: name, Value: value})
	}
	return fields
}

// sets reports whether a field, folded, is the injection's to write.
func (p *Pin) sets(name string) bool {
	switch in := &p.Credential.Inject; in.As {
	case "header":
		return name == fold(in.Name)
	case "sigv4":
		return strings.HasPrefix(name, "x-amz-") || name == "date"
	}
	return false
}

// Response returns the upstream's header or trailer fields that go back to the client: none that is hop-by-hop, sets
// state or sends the client elsewhere. The status line is the caller's: 101 must be refused.
func Response(upstream []hop.Field) []hop.Field {
	named := connectionNames(upstream)
	out := make([]hop.Field, 0, len(upstream))
	for _, f := range upstream {
		name := fold(f.Name)
		if token(f.Name) && fieldValue(f.Value) && !hopByHop(name) && !steers(name) && !slices.Contains(named, name) {
			out = append(out, f)
		}
	}
	return out
}

// fold is how field names compare: without case, and "_" as "-", because CGI and WSGI fold them.
func fold(name string) string { return strings.ReplaceAll(strings.ToLower(name), "_", "-") }

// connectionNames returns the fields that Connection declares hop-by-hop.
func connectionNames(fields []hop.Field) (names []string) {
	for _, f := range fields {
		if fold(f.Name) == "connection" {
			for n := range strings.SplitSeq(f.Value, ",") {
				names = append(names, fold(strings.Trim(n, " \t")))
			}
		}
	}
	return names
}

func hopByHop(name string) bool {
	switch name {
	case "connection", "proxy-connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "http2-settings",
		"proxy-authenticate", "proxy-authorization", "proxy-authentication-info", "content-length":
		return true
	}
	return strings.HasPrefix(name, "reeve-")
}

// local names client fields that end here though they do not authenticate.
func local(name string) bool {
	switch name {
	case "host", "expect", "accept-encoding", "accept-charset", "range", "if-range", "forwarded", "via", "x-real-ip", "true-client-ip", "client-ip", "x-host", "x-request-id",
		"x-http-method", "x-http-method-override", "x-method-override", "x-original-url", "x-rewrite-url", "x-original-host":
		return true
	}
	return hopByHop(name) || strings.HasPrefix(name, "x-forwarded-") || strings.HasPrefix(name, "cf-")
}

// authField names client fields that authenticate somebody.
func authField(name string) bool {
	switch name {
	case "authorization", "api-key", "cookie", "cookie2", "ocp-apim-subscription-key", "x-goog-iam-authorization-token":
		return true
	}
	for _, end := range []string{"-authorization", "-api-key", "-auth-token", "-access-token", "-security-token", "-secret"} {
		if strings.HasSuffix(name, end) {
			return true
		}
	}
	return false
}

// steers names upstream fields that change the client's state or send it elsewhere.
func steers(name string) bool {
	switch name {
	case "set-cookie", "set-cookie2", "location", "refresh", "alt-svc", "alt-used", "clear-site-data", "strict-transport-security",
		"public-key-pins", "nel", "report-to", "reporting-endpoints", "link", "x-accel-redirect", "x-sendfile":
		return true
	}
	return strings.HasPrefix(name, "x-accel-")
}

// once gives each field that may stand only once a bit of its own.
func once(name string) int {
	return 1 << (1 + slices.Index([]string{"content-type", "content-encoding", "accept", "idempotency-key", "anthropic-version",
		"openai-organization", "openai-project"}, name)) &^ 1
}

// jsonType reports whether a Content-Type is JSON, in UTF-8 if it says. Servers obey both: a form parser would find other
// members in the same bytes, and UTF-7 hides quotes.
func jsonType(value string) bool {
	kind, params, _ := strings.Cut(strings.ToLower(value), ";")
	kind = strings.TrimSpace(kind)
	_, charset, found := strings.Cut(params, "charset")
	charset = strings.Trim(strings.TrimLeft(charset, " \t="), `"; `)
	return (kind == "application/json" || strings.HasPrefix(kind, "application/") && strings.HasSuffix(kind, "+json")) &&
		(!found || charset == "utf-8" || charset == "utf8")
}

// token is RFC 9110 section 5.6.2.
func token(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c != '-' && c != '_' && !unreserved(c) && strings.IndexByte("!#$%&'*+^`|", c) < 0 {
			return false
		}
	}
	return s != ""
}

// fieldValue is RFC 9110 section 5.5: no CR, LF, NUL or other control byte but tab.
func fieldValue(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < 0x20 && s[i] != '\t' || s[i] == 0x7f {
			return false
		}
	}
	return true
}
