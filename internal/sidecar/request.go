package sidecar

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/pop"
	"github.com/reevehq/reeve/internal/scan"
)

// request is what is signed and sent.
type request struct {
	method, uri string // uri as the client sent it: path and query
	header      http.Header
	body        []byte
	terms       pop.Terms // the nonce is set for each attempt
	attempts    int
	nonce       string    // of the client, the same for every attempt: whoever passes on several has one of them taken
	begun       time.Time // when every attempt says that it was signed, so that they end together
}

// ownField says of a request header field, by its canonical name, that it does not go on: it belongs to the connection
// (RFC 9110 section 7.6.1), shows the key of this run, or is the sidecar's to set.
func ownField(name string) bool {
	switch name {
	case "Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Authentication-Info", "Proxy-Connection", "Te", "Trailer",
		"Transfer-Encoding", "Upgrade", "Http2-Settings", "Host", "Content-Length", "Expect", "Accept-Encoding", "Cookie",
		"Content-Digest", "Signature", "Signature-Input", "Forwarded", "Via", "X-Real-Ip":
		return true
	case "Reeve-Provider":
		return false
	}
	return slices.Contains(keyFields[:], name) || strings.HasPrefix(name, "Reeve-") || strings.HasPrefix(name, "X-Forwarded-")
}

// outgoing is the header that goes on. A field that came several times is joined (RFC 9110 section 5.3): a signature covers a field once.
func outgoing(h http.Header) http.Header {
	var named []string // by Connection
	for _, v := range h["Connection"] {
		for name := range strings.SplitSeq(v, ",") {
			named = append(named, http.CanonicalHeaderKey(strings.TrimSpace(name)))
		}
	}
	out := http.Header{}
	for name, values := range h {
		if !ownField(name) && !slices.Contains(named, name) {
			out[name] = []string{strings.Join(values, ", ")}
		}
	}
	return out
}

// cover is every field of a request that a signature can cover: the custodian sends no other one upstream.
func cover(h http.Header) (names []string) {
	for name := range h {
		if name != "Reeve-Provider" && name != "X-Request-Id" { // both are the gateway's and go no further
			names = append(names, name)
		}
	}
	return names
}

// body reads a request's body whole: it is signed, and the model is read from it. done gives its memory back.
func (s *Sidecar) body(r *http.Request) (b []byte, done func(), f *fault) {
	limit := int64(32 << 20)
	if m := s.me.Load(); m != nil && m.Limits.BodyBytes > 0 {
		limit = m.Limits.BodyBytes
	}
	tooLarge := &fault{http.StatusRequestEntityTooLarge, "sidecar_too_large", fmt.Sprintf("The request's body is larger than the %d bytes that the gateway takes. Nothing was sent.", limit)}
	if r.ContentLength > limit {
		return nil, nil, tooLarge
	}
	var held int64
	done = func() { s.lent.Add(-held) }
	take := func(n int64) bool {
		held += n
		return s.lent.Add(n) <= s.cfg.Memory
	}
	full := &fault{http.StatusServiceUnavailable, "sidecar_overloaded", "The sidecar holds as many request bodies as it may. Nothing was sent. Try again shortly."}
	if !take(max(r.ContentLength, 0) + bytes.MinRead) {
		done()
		return nil, nil, full
	}
	buf := bytes.NewBuffer(make([]byte, 0, held))
	piece := make([]byte, 32<<10)
	for {
		n, err := r.Body.Read(piece)
		if int64(buf.Len()+n) > limit {
			done()
			return nil, nil, tooLarge
		}
		if grow := int64(buf.Len() + n - buf.Cap()); grow > 0 && !take(int64(buf.Cap())+grow) { // twice what it was, as bytes.Buffer grows
			done()
			return nil, nil, full
		}
		buf.Write(piece[:n])
		if err == io.EOF {
			return buf.Bytes(), done, nil
		}
		if err != nil {
			done()
			return nil, nil, &fault{http.StatusBadRequest, "sidecar_body_broken", "The request's body broke off. Nothing was sent."}
		}
	}
}

// named is the model that a body names, or empty. What is no model call is the gateway's to refuse.
func named(body []byte) string {
	if len(body) == 0 {
		return ""
	}
	call, err := scan.Body(body)
	if err != nil || call.Model.Absent() {
		return ""
	}
	return string(call.Name)
}

// errUnsigned means that the request is of a form that cannot be signed.
var errUnsigned = errors.New("the request cannot be signed")

// send proves a request and sends it; once more, with the nonce that the custodian gave, where it wants a fresh one. Then nothing of
// the first answer has been passed on, and nothing was sent upstream.
func (s *Sidecar) send(ctx context.Context, r *request) (*http.Response, error) {
	r.nonce = pop.ClientNonce()
	for {
		r.attempts++
		v, err := s.source.Vouch(ctx)
		if err != nil {
			return nil, err
		}
		req, err := s.prove(ctx, r, v)
		if err != nil {
			return nil, err
		}
		resp, err := s.way.RoundTrip(req)
		if err != nil {
			return nil, fmt.Errorf("calling the gateway %s: %w", s.cfg.Gateway, err)
		}
		nonce := resp.Header.Get(pop.FieldNonce)
		s.learn(r.terms.Audience, nonce)
		if resp.StatusCode != http.StatusUnauthorized {
			return resp, nil
		}
		if fresh := resp.Header.Get("Reeve-Refusal") == "use_reeve_nonce" && nonce != "" && v.Signer != nil; !fresh || r.attempts > 1 {
			if h, ok := s.source.(*held); ok && !fresh {
				h.drop(v.Token)
			}
			return resp, nil
		}
		io.CopyN(io.Discard, resp.Body, 64<<10) // so that the connection can be used again
		resp.Body.Close()
	}
}

// prove builds the request that is sent, with token and signature.
func (s *Sidecar) prove(ctx context.Context, r *request, v Vouch) (*http.Request, error) {
	path, query, asks := strings.Cut(r.uri, "?")
	u := &url.URL{Scheme: s.base.Scheme, Host: s.base.Host, Opaque: s.base.EscapedPath() + path, RawQuery: query, ForceQuery: asks}
	req := &http.Request{
		Method: r.method, URL: u, Host: s.base.Host, Header: r.header.Clone(), ContentLength: int64(len(r.body)),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Body: io.NopCloser(bytes.NewReader(r.body)), // without GetBody, and never http.NoBody: the transport does not send it again by itself
	}
	if len(r.body) == 0 {
		req.Body = once{}
	}
	if _, ok := req.Header["User-Agent"]; !ok {
		req.Header["User-Agent"] = []string{""} // net/http adds none of its own
	}
	if v.Token != "" {
		req.Header.Set("Authorization", "Bearer "+v.Token)
	}
	if v.Signer == nil {
		return req.WithContext(ctx), nil
	}
	if r.begun.IsZero() {
		r.begun = s.Now()
	}
	terms := r.terms
	terms.Nonce = s.nonce(terms.Audience)
	signed := &pop.Request{Method: r.method, URL: s.cfg.Gateway + r.uri, Header: req.Header.Values, Body: r.body}
	if err := v.Signer.SignAs(r.nonce, signed, terms, cover(r.header), r.begun, req.Header.Set); err != nil {
		return nil, fmt.Errorf("%w: %w", errUnsigned, err)
	}
	return req.WithContext(ctx), nil
}

// once is an empty body that net/http does not know to be empty, so that it sends a request without a body once, too.
type once struct{}

func (once) Read([]byte) (int, error) { return 0, io.EOF }
func (once) Close() error             { return nil }
