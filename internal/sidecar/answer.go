package sidecar

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// fault is an answer of the sidecar's own.
type fault struct {
	status  int
	code    string
	message string
}

// ServeHTTP proves a request and passes it on.
func (s *Sidecar) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := &call{Sidecar: s, w: w, r: r, start: s.Now()}
	defer c.log()
	if f := c.serve(); f != nil {
		c.refuse(f)
	}
}

// call is one request on its way.
type call struct {
	*Sidecar
	w     http.ResponseWriter
	r     *http.Request
	start time.Time

	status, attempts int
	in, out          int64
	code             string // of a refusal, the sidecar's own or the gateway's
	broken           bool   // the answer broke off
}

func (c *call) serve() *fault {
	if f := c.Door.admit(c.r); f != nil {
		return f
	}
	uri := c.r.RequestURI
	if !strings.HasPrefix(uri, "/") || strings.HasPrefix(uri, "//") {
		return &fault{http.StatusBadRequest, "sidecar_path", "The sidecar passes requests to its gateway only, by their path. Nothing was sent. Use it as a base URL, not as a proxy."}
	}
	body, done, f := c.body(c.r)
	if f != nil {
		return f
	}
	defer done()
	c.in = int64(len(body))
	name := c.cfg.Credential
	if name == "" {
		name = c.r.Header.Get("Reeve-Credential")
	}
	if name == "" {
		name = named(body)
	}
	ctx := c.r.Context()
	terms, err := c.terms(ctx, uri, name)
	if err != nil {
		return c.failed(err)
	}
	out := &request{method: c.r.Method, uri: uri, header: outgoing(c.r.Header), body: body, terms: terms}
	resp, err := c.send(ctx, out)
	c.attempts = out.attempts
	if err != nil {
		return c.failed(err)
	}
	defer resp.Body.Close()
	c.pass(resp)
	return nil
}

// failed says why a request was not sent, or got no answer.
func (c *call) failed(err error) *fault {
	switch {
	case errors.Is(err, context.Canceled):
		return &fault{499, "client_gone", "The client went away."}
	case errors.Is(err, errUnsigned):
		return &fault{http.StatusBadRequest, "sidecar_unsigned", "Nothing was sent: " + err.Error() + "."}
	}
	return &fault{http.StatusBadGateway, "sidecar_failed", "The sidecar has no answer for this request: " + err.Error() + "."}
}

// pass passes the answer on as it comes. One that breaks off breaks off here, too.
func (c *call) pass(resp *http.Response) {
	h := c.w.Header()
	for name, values := range resp.Header {
		if !slices.Contains([]string{"Connection", "Keep-Alive", "Proxy-Connection", "Transfer-Encoding", "Upgrade", "Trailer", "Te"}, name) {
			h[name] = values
		}
	}
	c.status, c.code = resp.StatusCode, resp.Header.Get("Reeve-Refusal")
	c.w.WriteHeader(resp.StatusCode)
	flusher := http.NewResponseController(c.w)
	flusher.Flush() // the head goes ahead: the first event may take its time
	piece := make([]byte, 32<<10)
	for {
		n, err := resp.Body.Read(piece)
		if n > 0 {
			if _, err := c.w.Write(piece[:n]); err != nil {
				c.broken = true
				return // the client went away, and with it the request's context
			}
			c.out += int64(n)
			flusher.Flush()
		}
		if err == io.EOF {
			return
		}
		if err != nil {
			c.broken = true
			panic(http.ErrAbortHandler)
		}
	}
}

// refuse answers in a form that OpenAI's SDKs and Anthropic's both read.
func (c *call) refuse(f *fault) {
	c.status, c.code = f.status, f.code
	kind := "invalid_request_error"
	switch {
	case f.status == http.StatusUnauthorized:
		kind = "authentication_error"
	case f.status == http.StatusForbidden:
		kind = "permission_error"
	case f.status >= 500:
		kind = "api_error"
	}
	b, err := json.Marshal(map[string]any{"type": "error", "error": map[string]any{"type": kind, "code": f.code, "message": f.message, "param": nil}})
	if err != nil {
		panic("sidecar: encoding an error: " + err.Error()) // strings: cannot fail
	}
	h := c.w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("Reeve-Refusal", f.code)
	h.Set("Content-Length", strconv.Itoa(len(b)))
	if f.status < 500 {
		h.Set("X-Should-Retry", "false") // honoured by OpenAI's and Anthropic's SDKs
	}
	c.w.WriteHeader(f.status)
	n, _ := c.w.Write(b) // a client that does not read its error has gone
	c.out = int64(n)
}

// log writes one line without body, key or token.
func (c *call) log() {
	path, _, _ := strings.Cut(c.r.RequestURI, "?")
	level := slog.LevelInfo
	if c.broken || c.status >= 500 {
		level = slog.LevelWarn
	}
	c.Log.Log(c.r.Context(), level, "request", "method", c.r.Method, "path", path, "status", c.status, "code", c.code, "attempts", c.attempts,
		"bytes_in", c.in, "bytes_out", c.out, "broken", c.broken, "ms", c.Now().Sub(c.start).Milliseconds())
}
