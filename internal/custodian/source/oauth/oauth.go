// Package oauth gets access tokens from an OAuth 2 token endpoint: for the client itself (RFC 6749, section 4.4), or for a refresh token
// (section 6), of which it keeps the next one before anything is used. It revokes both (RFC 7009).
package oauth

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/custodian/egress"
	"github.com/reevehq/reeve/internal/custodian/source"
	"github.com/reevehq/reeve/internal/custody"
	"github.com/reevehq/reeve/internal/hop"
	"github.com/reevehq/reeve/internal/ledger"
)

// patience is for one exchange of a refresh token, whoever waits for it or does not.
const patience = 10 * time.Second

// Source is the token endpoint of one credential. The three methods of source.Source are safe for concurrent use; refresh tokens are spent
// one after another.
type Source struct {
	cfg      source.Config
	method   string // by which the client authenticates
	audience string // of its assertions
	host     string // for errors
	departs  custody.TokenEndpoint
	end      context.Context // of the source
	close    context.CancelFunc
	lineage  lineage
}

// New checks the record and returns a source without connections.
func New(cfg source.Config) (source.Source, error) {
	if err := custody.Check(cfg.Record); err != nil {
		return nil, err
	}
	u, err := url.Parse(cfg.Record.From.URL)
	if err != nil {
		return nil, fmt.Errorf("from.url: %w", err)
	}
	probe, err := source.NewClient(cfg.Record.From, cfg.Resolve)
	if err != nil {
		return nil, err
	}
	probe.Close()
	s := &Source{cfg: cfg, host: u.Host, lineage: newLineage()}
	s.method, s.audience = s.param("authentication"), s.param("assertion_audience")
	if s.method == "" {
		s.method = "client_secret_basic"
	}
	if s.audience == "" {
		s.audience = cfg.Record.From.URL
	}
	s.departs = custody.Endpoint(s.param("provider"))
	s.end, s.close = context.WithCancel(context.Background())
	return s, nil
}

func (s *Source) param(name string) string { return s.cfg.Record.From.Parameters[name] }

func (s *Source) rotates() bool { return s.param("grant") == "refresh_token" }

// Fetch gets an access token. For a refresh token it returns when ctx ends, and the exchange goes on: its answer is kept for the next Fetch.
func (s *Source) Fetch(ctx context.Context, d ledger.Durable, _ source.Ask) (*source.Secret, error) {
	switch {
	case !d.Valid():
		return nil, source.ErrNotDurable
	case s.rotates():
		return s.next(ctx, d)
	}
	r, err := s.root(d)
	if err != nil {
		return nil, err
	}
	defer r.wipe()
	ctx, stop := s.until(ctx)
	defer stop()
	begun := s.cfg.Clock()
	a, err := s.send(ctx, r, "", s.ask("client_credentials"), nil)
	if err != nil {
		return nil, err
	}
	defer clear(a.Body)
	got, err := s.read(a)
	if err != nil {
		return nil, err
	}
	return got.secret(begun, s.departs)
}

// Revoke revokes an access token (RFC 7009, section 2.1). A provider may take the refresh token that it came from for revoked too.
func (s *Source) Revoke(ctx context.Context, d ledger.Durable, old *source.Secret) error {
	if !d.Valid() {
		return source.ErrNotDurable
	}
	if s.param("revocation") == "" {
		return source.ErrCannotRevoke
	}
	r, err := s.root(d)
	if err != nil {
		return err
	}
	defer r.wipe()
	ctx, stop := s.until(ctx)
	defer stop()
	return s.revoke(ctx, r, "access_token", old.Value.Reveal())
}

// until is ctx that ends with the source too.
func (s *Source) until(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.end, cancel)
	return ctx, func() { stop(); cancel() }
}

func (s *Source) revoke(ctx context.Context, r *root, hint string, token []byte) error {
	f := new(form)
	if !s.departs.Bearer {
		f.add("token", token)
		f.add("token_type_hint", []byte(hint))
	}
	a, err := s.send(ctx, r, s.param("revocation"), f, token)
	if err != nil {
		return err
	}
	defer clear(a.Body)
	if err := s.judge(a); err != errGone {
		return err
	}
	return nil
}

// Close ends its connections. It waits for an exchange of a refresh token, ten seconds at most: the answer holds the only copy of the next one.
func (s *Source) Close() {
	s.close()
	s.lineage.turn <- struct{}{}
	<-s.lineage.turn
}

// ask is a form for a token (RFC 6749, section 4.4.2; RFC 8707, section 2).
func (s *Source) ask(grant string) *form {
	f := new(form)
	f.add("grant_type", []byte(grant))
	for _, name := range []string{"scope", "audience"} {
		if v := s.param(name); v != "" {
			f.add(name, []byte(v))
		}
	}
	for uri := range strings.FieldsSeq(s.param("resource")) {
		f.add("resource", []byte(uri))
	}
	return f
}

// send sends a form as the client to a path, and wipes it; an empty path is the record's. Of a provider that has a token authenticate
// its own revocation, token does instead.
func (s *Source) send(ctx context.Context, r *root, path string, f *form, token []byte) (*source.Answer, error) {
	defer func() { clear(*f) }()
	req := source.Request{Method: "POST", Path: path, Header: []hop.Field{{Name: "Content-Type", Value: "application/x-www-form-urlencoded"}}}
	if token != nil && s.departs.Bearer {
		req.Secret = egress.Secret{Name: "Authorization", Value: append([]byte("Bearer "), token...)}
	} else if err := s.authenticate(r, f, &req.Secret); err != nil {
		return nil, err
	}
	defer clear(req.Secret.Value)
	cert, err := s.certificate(r)
	if err != nil {
		return nil, err
	}
	c, err := source.NewClient(s.cfg.Record.From, s.cfg.Resolve, func(e *egress.Config) { e.Certificate = cert })
	if err != nil {
		return nil, err
	}
	defer c.Close() // one exchange, one connection: no copy of a secret waits in an unused one
	req.Body = *f
	return c.Do(ctx, req)
}

// authenticate adds what shows the client: in a header, in the form, or nothing beyond its id where TLS does.
func (s *Source) authenticate(r *root, f *form, header *egress.Secret) error {
	id := []byte(s.param("client_id"))
	if s.method == "client_secret_basic" { // RFC 6749, section 2.3.1: both parts are form-encoded first
		var pair form
		pair.escape(id)
		pair.put(':')
		pair.escape(r.Secret.Reveal())
		*header = egress.Secret{Name: "Authorization", Value: base64.StdEncoding.AppendEncode([]byte("Basic "), pair)}
		clear(pair)
		return nil
	}
	f.add("client_id", id)
	switch s.method {
	case "client_secret_post":
		f.add("client_secret", r.Secret.Reveal())
	case "private_key_jwt":
		assertion, err := s.assertion(r)
		if err != nil {
			return err
		}
		f.add("client_assertion_type", []byte("urn:ietf:params:oauth:client-assertion-type:jwt-bearer"))
		f.add("client_assertion", assertion)
		clear(assertion)
	}
	return nil
}

// name is a name that nothing else has.
func name() string { return rand.Text() }

// form is application/x-www-form-urlencoded. It leaves no copy of itself behind by growing.
type form []byte

func (f *form) add(name string, value []byte) {
	if len(*f) > 0 {
		f.put('&')
	}
	f.escape([]byte(name))
	f.put('=')
	f.escape(value)
}

// escape appends text. What is escaped beyond need is read alike by everybody.
func (f *form) escape(text []byte) {
	const hex = "0123456789ABCDEF"
	for _, c := range text {
		switch {
		case c == ' ':
			f.put('+')
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '.', c == '_':
			f.put(c)
		default:
			f.put('%', hex[c>>4], hex[c&15])
		}
	}
}

func (f *form) put(c ...byte) {
	if cap(*f)-len(*f) < len(c) {
		larger := make([]byte, len(*f), 2*cap(*f)+512)
		copy(larger, *f)
		clear(*f)
		*f = larger
	}
	*f = append(*f, c...)
}
