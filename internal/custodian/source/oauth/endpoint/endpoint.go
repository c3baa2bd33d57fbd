// Package endpoint speaks with an OAuth 2 token endpoint, and the revocation endpoint beside it, as one client: how it shows who it is, what
// it sends, and what the answers mean.
package endpoint

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/reevehq/reeve/internal/custodian/egress"
	"github.com/reevehq/reeve/internal/custodian/source"
	"github.com/reevehq/reeve/internal/custody"
	"github.com/reevehq/reeve/internal/hop"
)

// Endpoint is that of one credential. Safe for concurrent use.
type Endpoint struct {
	cfg      source.Config
	method   string // by which the client authenticates
	audience string // of its assertions
	departs  custody.TokenEndpoint
}

// New checks the record and returns an endpoint without connections.
func New(cfg source.Config) (*Endpoint, error) {
	if err := custody.Check(cfg.Record); err != nil {
		return nil, err
	}
	probe, err := source.NewClient(cfg.Record.From, cfg.Resolve)
	if err != nil {
		return nil, err
	}
	probe.Close()
	e := &Endpoint{cfg: cfg}
	e.method, e.audience = e.param("authentication"), e.param("assertion_audience")
	if e.method == "" {
		e.method = "client_secret_basic"
	}
	if e.audience == "" {
		e.audience = cfg.Record.From.URL
	}
	e.departs = custody.Endpoint(e.param("provider"))
	return e, nil
}

func (e *Endpoint) param(name string) string { return e.cfg.Record.From.Parameters[name] }

// Rotates reports whether the grant is a refresh token.
func (e *Endpoint) Rotates() bool { return e.param("grant") == "refresh_token" }

// Revokes reports whether there is a revocation endpoint.
func (e *Endpoint) Revokes() bool { return e.param("revocation") != "" }

// Token asks for an access token: for the client itself (RFC 6749, section 4.4.2), or for a refresh token (section 6) unless that is nil.
// The caller wipes the answer.
func (e *Endpoint) Token(ctx context.Context, r *Root, refresh []byte) (*Answer, error) {
	f := new(form)
	f.add("grant_type", []byte(e.param("grant")))
	for _, name := range []string{"scope", "audience"} {
		if v := e.param(name); v != "" {
			f.add(name, []byte(v))
		}
	}
	for uri := range strings.FieldsSeq(e.param("resource")) { // RFC 8707, section 2
		f.add("resource", []byte(uri))
	}
	if refresh != nil {
		f.add("refresh_token", refresh)
	}
	begun := e.cfg.Clock()
	a, err := e.send(ctx, r, "", f, nil)
	if err != nil {
		return nil, err
	}
	return e.read(a, begun)
}

// Revoke revokes a token (RFC 7009, section 2.1); hint is access_token or refresh_token. What is gone already is no error.
func (e *Endpoint) Revoke(ctx context.Context, r *Root, hint string, token []byte) error {
	if e.departs.Bearer && hint == "refresh_token" {
		return nil // there is no call for it
	}
	f := new(form)
	if !e.departs.Bearer {
		f.add("token", token)
		f.add("token_type_hint", []byte(hint))
	}
	a, err := e.send(ctx, r, e.param("revocation"), f, token)
	if err != nil {
		return err
	}
	defer clear(a.Body)
	if err := e.judge(a); !errors.Is(err, errGone) {
		return err
	}
	return nil
}

// send sends a form as the client to a path, and wipes it; an empty path is the record's. Of a provider that has a token authenticate
// its own revocation, token does instead.
func (e *Endpoint) send(ctx context.Context, r *Root, path string, f *form, token []byte) (*source.Answer, error) {
	defer func() { clear(*f) }()
	req := source.Request{Method: "POST", Path: path, Header: []hop.Field{{Name: "Content-Type", Value: "application/x-www-form-urlencoded"}}}
	if token != nil && e.departs.Bearer {
		req.Secret = egress.Secret{Name: "Authorization", Value: append([]byte("Bearer "), token...)}
	} else if err := e.authenticate(r, f, &req.Secret); err != nil {
		return nil, err
	}
	defer clear(req.Secret.Value)
	cert, err := e.certificate(r)
	if err != nil {
		return nil, err
	}
	c, err := source.NewClient(e.cfg.Record.From, e.cfg.Resolve, func(c *egress.Config) { c.Certificate = cert })
	if err != nil {
		return nil, err
	}
	defer c.Close() // one exchange, one connection: no copy of a secret waits in an unused one
	req.Body = *f
	return c.Do(ctx, req)
}

// authenticate adds what shows the client: in a header, in the form, or nothing beyond its id where TLS does.
func (e *Endpoint) authenticate(r *Root, f *form, header *egress.Secret) error {
	id := []byte(e.param("client_id"))
	if e.method == "client_secret_basic" { // RFC 6749, section 2.3.1: both parts are form-encoded first
		var pair form
		pair.escape(id)
		pair.put(':')
		pair.escape(r.Secret.Reveal())
		*header = egress.Secret{Name: "Authorization", Value: base64.StdEncoding.AppendEncode([]byte("Basic "), pair)}
		clear(pair)
		return nil
	}
	f.add("client_id", id)
	switch e.method {
	case "client_secret_post":
		f.add("client_secret", r.Secret.Reveal())
	case "private_key_jwt":
		assertion, err := e.assertion(r)
		if err != nil {
			return err
		}
		f.add("client_assertion_type", []byte("urn:ietf:params:oauth:client-assertion-type:jwt-bearer"))
		f.add("client_assertion", assertion)
		clear(assertion)
	}
	return nil
}

// Says names the endpoint and the credential behind an error.
func (e *Endpoint) Says(err error) error {
	return fmt.Errorf("%w (%s, for %s)", err, e.cfg.Record.From.URL, e.cfg.Record.ID)
}
