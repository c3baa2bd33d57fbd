package gateway

import (
	"net/http"
	"strings"

	"github.com/reevehq/reeve/internal/hop"
	"github.com/reevehq/reeve/internal/pop"
)

// forward is what of a request's header goes on to the custodian: everything, but for what authenticates the client to the
// gateway, what belongs to this connection, and what proxies assert. The custodian strips again: it does not rely on this.
// A signed request's own fields go on too.
func forward(h http.Header, signed bool) []hop.Field {
	var named []string // by Connection, as belonging to this connection
	for _, v := range h["Connection"] {
		for name := range strings.SplitSeq(v, ",") {
			named = append(named, http.CanonicalHeaderKey(strings.TrimSpace(name)))
		}
	}
	out := make([]hop.Field, 0, len(h))
	for name, values := range h {
		if stays(name) && !(signed && strings.HasPrefix(name, "Reeve-")) || contains(named, name) {
			continue
		}
		for _, v := range values {
			out = append(out, hop.Field{Name: name, Value: v})
		}
	}
	return out
}

// stays reports whether a request header field, by its canonical name, ends at the gateway.
func stays(name string) bool {
	switch name {
	case "Authorization", "X-Api-Key", "X-Goog-Api-Key", "Api-Key", "Cookie",
		"Host", "Content-Length", "Expect", "Accept-Encoding",
		"Forwarded", "Via", "X-Real-Ip", "X-Request-Id":
		return true
	}
	return connection(name) || strings.HasPrefix(name, "X-Forwarded-") || strings.HasPrefix(name, "Reeve-")
}

// connection reports whether a field belongs to one connection: RFC 9110 section 7.6.1.
func connection(name string) bool {
	switch name {
	case "Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Authentication-Info", "Proxy-Connection",
		"Te", "Trailer", "Transfer-Encoding", "Upgrade", "Http2-Settings":
		return true
	}
	return false
}

func contains(list []string, s string) bool {
	for _, v := range list {
		if v == s {
			return true
		}
	}
	return false
}

// Header fields of answers.
const (
	requestID         = "X-Request-Id"
	upstreamRequestID = "Reeve-Upstream-Request-Id" // what the upstream sent as X-Request-Id
	receiptField      = "Reeve-Receipt"
	nonceField        = pop.FieldNonce
	refusalField      = "Reeve-Refusal" // the stable word of an error that is not the upstream's
)

// copyAnswer puts the custodian's header fields into the client's answer, but for what belongs to a connection and cookies:
// client cookies are not sent upstream either.
func copyAnswer(to http.Header, from []hop.Field) {
	for _, f := range from {
		name := http.CanonicalHeaderKey(f.Name)
		switch {
		case connection(name), name == "Set-Cookie", name == "Alt-Svc", name == refusalField:
			continue
		case name == requestID:
			name = upstreamRequestID
		}
		to[name] = append(to[name], f.Value)
	}
}
