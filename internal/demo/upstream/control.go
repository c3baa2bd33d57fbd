package upstream

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Controls describes, for --help, how a request asks the upstream to misbehave.
const Controls = `A request may ask for misbehaviour, by headers:

  x-demo-delay: 250ms              wait before the answer
  x-demo-pace: 50ms                wait between two events of a stream
  x-demo-size: 65536               bytes of text in the answer
  x-demo-events: 100               pieces that a streamed text is cut into
  x-demo-status: 429               answer this status (3xx: redirect to x-demo-location)
  x-demo-retry-after: 7            with that Retry-After
  x-demo-break: after=3            drop after 3 events of a stream, half-way through other answers
  x-demo-break: after=3;how=error  … or send an error event; how=clean: just stop; how=stall: hang
  x-demo-early: 1                  answer before the request's body is read
  x-demo-html: 1                   a page instead of JSON, with status 200
  x-demo-nonce: anything           kept in the record (GET /_demo/seen?since=N)
  x-demo-reflect: form,form,…      send the key back; see below

or, where a client cannot set headers, by the model's name: demo-break, demo-break-error, demo-break-clean,
demo-break-stall, demo-slow, demo-error-<status>, demo-html, demo-reflect-<form>, demo-missing (404). Every other name is a model.

Forms of reflection. Where: body (default), header, header-name, trailer, location, error, sse, sse-delta (a character an
event), ndjson (a character a line), onebyte (a byte a write). How: raw (default), base64, base64-1, base64-2, base64url,
base64-wrapped, hex, hex-upper, url, json, html, html-hex.
Content coding: gzip, deflate, deflate-raw, br (declared only).
`

// control is what one request asked for.
type control struct {
	delay, pace time.Duration
	size        int
	events      int
	code        int
	location    string
	retryAfter  string
	html        bool
	reflect     *reflection
	after       int    // events before the break
	how         string // abort, error, clean or stall; empty for no break
}

func (c *control) breaks() bool { return c.how == "abort" || c.how == "stall" }

// parseControl reads the headers, then the model's name.
func parseControl(h http.Header, model string) (control, error) {
	c := control{location: h.Get("X-Demo-Location"), retryAfter: h.Get("X-Demo-Retry-After"), html: h.Get("X-Demo-Html") != ""}
	var err error
	duration := func(name string, d *time.Duration) {
		if v := h.Get(name); v != "" && err == nil {
			*d, err = time.ParseDuration(v)
		}
	}
	number := func(name string, n *int, most int) {
		if v := h.Get(name); v != "" && err == nil {
			if *n, err = strconv.Atoi(v); err == nil && (*n < 0 || *n > most) {
				err = fmt.Errorf("%s: at most %d", name, most)
			}
		}
	}
	duration("X-Demo-Delay", &c.delay)
	duration("X-Demo-Pace", &c.pace)
	number("X-Demo-Size", &c.size, 64<<20)
	number("X-Demo-Events", &c.events, 1<<20)
	number("X-Demo-Status", &c.code, 599)
	if v := h.Get("X-Demo-Break"); v != "" && err == nil {
		err = c.parseBreak(v)
	}
	if v := h.Get("X-Demo-Reflect"); v != "" && err == nil {
		c.reflect, err = parseReflection(strings.Split(v, ","))
	}
	if err == nil {
		err = c.fromModel(model)
	}
	return c, err
}

// parseBreak reads "after=3;how=error".
func (c *control) parseBreak(v string) error {
	c.how = "abort"
	for part := range strings.SplitSeq(v, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch name {
		case "after":
			n, err := strconv.Atoi(value)
			if err != nil {
				return fmt.Errorf("x-demo-break: %w", err)
			}
			c.after = n
		case "how":
			c.how = value
		}
	}
	switch c.how {
	case "abort", "error", "clean", "stall":
		return nil
	}
	return fmt.Errorf("x-demo-break: how=%s is not abort, error, clean or stall", c.how)
}

// fromModel reads the names that stand for a control.
func (c *control) fromModel(model string) error {
	name, ok := strings.CutPrefix(model, "demo-")
	if !ok {
		return nil
	}
	head, rest, _ := strings.Cut(name, "-")
	switch head {
	case "break":
		if rest == "" {
			rest = "abort"
		}
		return c.parseBreak("after=3;how=" + rest)
	case "slow":
		c.delay, c.pace = time.Second, 200*time.Millisecond
	case "error":
		code, err := strconv.Atoi(rest)
		if err != nil || code < 300 || code > 599 {
			return fmt.Errorf("model %s: the status must be between 300 and 599", model)
		}
		c.code = code
	case "html":
		c.html = true
	case "reflect":
		r, err := parseReflection([]string{rest})
		c.reflect = r
		return err
	case "missing":
		c.code = http.StatusNotFound
	}
	return nil
}
