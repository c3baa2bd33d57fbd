// Package api makes calls to the API of OpenBao and HashiCorp Vault, whose paths and members are those of
// developer.hashicorp.com/vault/api-docs and openbao.org/api-docs.
package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/custodian/egress"
	"github.com/reevehq/reeve/internal/custodian/source"
	"github.com/reevehq/reeve/internal/hop"
	"github.com/reevehq/reeve/internal/secret"
)

// Longest is how many bytes a secret of the server may have.
const Longest = 64 << 10

// Farthest is how long a login or a lease may live: beyond, an answer is malformed.
const Farthest = 10 * 365 * 24 * time.Hour

// Client speaks with one server.
type Client struct {
	Path string // that the record's URL names below /v1/

	client    *source.Client
	root      string // of the API, as /v1/
	namespace string
}

// New returns a client for a record that custody.Check has passed. It makes no connection.
func New(cfg source.Config) (*Client, error) {
	from := cfg.Record.From
	u, err := url.Parse(from.URL)
	if err != nil {
		return nil, fmt.Errorf("from.url: %w", err)
	}
	before, path, _ := strings.Cut(u.EscapedPath(), "/v1/")
	c, err := source.NewClient(from, cfg.Resolve)
	if err != nil {
		return nil, err
	}
	return &Client{Path: path, client: c, root: before + "/v1/", namespace: from.Parameters["namespace"]}, nil
}

// Close ends every connection at once.
func (c *Client) Close() { c.client.Close() }

// Answer is what every path answers; other members come and go.
type Answer struct {
	LeaseID       string                     `json:"lease_id"`
	Renewable     bool                       `json:"renewable"`
	LeaseDuration int64                      `json:"lease_duration"` // seconds
	Data          map[string]json.RawMessage `json:"data"`
	Auth          *Auth                      `json:"auth"`
}

// Auth is what a login gives.
type Auth struct {
	ClientToken   source.Text `json:"client_token"`
	Policies      []string    `json:"policies"`
	LeaseDuration int64       `json:"lease_duration"` // seconds; 0: no end
	Renewable     bool        `json:"renewable"`
}

// Wipe overwrites what may be secret, but for what was taken out and a login's token.
func (a *Answer) Wipe() {
	for _, raw := range a.Data {
		clear(raw)
	}
}

// Text takes a text out of data. The error wraps source.ErrMalformed.
func (a *Answer) Text(name string) (secret.Value, error) {
	var t source.Text
	if len(a.Data[name]) == 0 || json.Unmarshal(a.Data[name], &t) != nil || t.Empty() || t.Len() > Longest {
		t.Wipe()
		return secret.Value{}, Malformed("its answer has no %s that is a text of at most %d bytes", name, Longest)
	}
	return t.Value, nil
}

// Call makes one call to a path below /v1/; does says what for, in errors. An error wraps source.ErrDown, ErrMalformed or ErrRefused.
func (c *Client) Call(ctx context.Context, method, path string, token secret.Value, body []byte, does string) (*Answer, error) {
	r := source.Request{Method: method, Path: c.root + path, Body: body, Header: []hop.Field{{Name: "X-Vault-Request", Value: "true"}}}
	if c.namespace != "" {
		r.Header = append(r.Header, hop.Field{Name: "X-Vault-Namespace", Value: c.namespace})
	}
	if body != nil {
		r.Header = append(r.Header, hop.Field{Name: "Content-Type", Value: "application/json"})
	}
	if !token.Empty() {
		r.Secret = egress.Secret{Name: "X-Vault-Token", Value: token.Reveal()}
	}
	got, err := c.client.Do(ctx, r)
	if err != nil {
		return nil, err
	}
	defer clear(got.Body)
	switch {
	case got.Status == 204:
		return &Answer{}, nil
	case got.Status == 200:
		a, ok := parse(got.Body)
		if !ok {
			return nil, Malformed("to %s it answered something else than the JSON of this API", does)
		}
		return a, nil
	case got.Status == 429 || got.Status >= 500:
		return nil, fmt.Errorf("%w: the vault answered status %d to %s: it is sealed, stands by, is overloaded or fails; look there", source.ErrDown, got.Status, does)
	case got.Status >= 400:
		return nil, &refusal{got.Status, does}
	}
	return nil, Malformed("to %s it answered with status %d", does, got.Status)
}

func parse(body []byte) (*Answer, bool) {
	a := &Answer{}
	if err := json.Unmarshal(body, a); err != nil || body[0] != '{' {
		a.Wipe()
		return nil, false
	}
	return a, true
}

// refusal is a 4xx answer. It wraps source.ErrRefused.
type refusal struct {
	status int
	does   string
}

func (r *refusal) Error() string {
	hint := "see its audit log for the reason"
	switch r.status {
	case 403:
		hint = "role or policy of this login do not allow it, or the login was revoked"
	case 404:
		hint = "nothing is there, or it was deleted; look at from.url and namespace"
	}
	return fmt.Sprintf("the vault refused to %s (status %d): %s", r.does, r.status, hint)
}

func (r *refusal) Unwrap() error { return source.ErrRefused }

// Malformed returns an error that wraps source.ErrMalformed.
func Malformed(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{source.ErrMalformed}, args...)...)
}

// Status returns the status of a refusal that err wraps, or 0.
func Status(err error) int {
	var no *refusal
	if errors.As(err, &no) {
		return no.status
	}
	return 0
}

// Life returns how long something lives that an answer gives in seconds; 0 for without end. The error wraps source.ErrMalformed.
func Life(seconds int64) (time.Duration, error) {
	if seconds < 0 || seconds > int64(Farthest/time.Second) {
		return 0, Malformed("it lives for %d seconds", seconds)
	}
	return time.Duration(seconds) * time.Second, nil
}

// Object writes a JSON object of texts, names and values in turn, in bytes that can be wiped. It refuses a value that JSON would have to
// escape: no id, token or path of this API has such a byte.
func Object(pairs ...[]byte) ([]byte, error) {
	size := 2
	for _, p := range pairs {
		size += len(p) + 3
	}
	body := append(make([]byte, 0, size), '{')
	for i, p := range pairs {
		if len(p) == 0 || bytes.ContainsFunc(p, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '"' || r == '\\' }) {
			clear(body)
			return nil, fmt.Errorf("%w: the %s has bytes that none has; hand it over again, without spaces around it", source.ErrRefused, pairs[i&^1])
		}
		body = append(append(append(body, '"'), p...), '"', ":,"[i%2])
	}
	body[len(body)-1] = '}'
	return body, nil
}
