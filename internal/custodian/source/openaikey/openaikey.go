// Package openaikey has OpenAI's admin API make service accounts in a project, each with one key, and delete them. The calls are those of
// developers.openai.com/api/reference: organization, projects, service accounts.
package openaikey

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/custodian/egress"
	"github.com/reevehq/reeve/internal/custodian/source"
	"github.com/reevehq/reeve/internal/custody"
	"github.com/reevehq/reeve/internal/hop"
	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/internal/secret"
)

const (
	usual    = time.Hour // that a key lives when the record does not say
	longest  = 4 << 10   // bytes of a key
	farthest = 400 * 24 * time.Hour
	page     = 100 // accounts of a list, the most that there may be
	pages    = 100 // of a list
)

const (
	account = "organization.project.service_account"
	key     = "organization.project.service_account.api_key"
	deleted = "organization.project.service_account.deleted"
)

// Source makes the keys of one credential. The lease of a key is its service account's id. It is a source.Renewer and a source.Sweeper.
type Source struct {
	cfg    source.Config
	client *source.Client
	path   string // of the project's service accounts
	prefix string // of the names of those made here
	life   time.Duration
}

// New checks the record and returns a source without connections.
func New(cfg source.Config) (source.Source, error) {
	if err := custody.Check(cfg.Record); err != nil {
		return nil, err
	}
	from := cfg.Record.From
	u, err := url.Parse(from.URL)
	if err != nil {
		return nil, fmt.Errorf("from.url: %w", err)
	}
	c, err := source.NewClient(from, cfg.Resolve)
	if err != nil {
		return nil, fmt.Errorf("credential %s: %w", cfg.Record.ID, err)
	}
	s := &Source{cfg: cfg, client: c, path: u.EscapedPath() + "/" + from.Parameters["project"] + "/service_accounts", life: time.Duration(from.Lifetime)}
	if s.life == 0 {
		s.life = usual
	}
	s.prefix = prefix(cfg)
	return s, nil
}

// prefix is what the names of a custodian's accounts for one credential and tenant begin with. No other custodian's do.
func prefix(c source.Config) string {
	sum := sha256.New()
	for _, word := range []string{c.Estate, c.Tenant, c.Custodian, c.Record.ID} {
		fmt.Fprintf(sum, "%d:%s", len(word), word)
	}
	return "reeve-" + hex.EncodeToString(sum.Sum(nil)[:8]) + "-"
}

// made is the answer about a service account. Only its making brings a key.
type made struct {
	Object string `json:"object"`
	ID     string `json:"id"`
	Name   string `json:"name"`
	Key    *struct {
		Object  string      `json:"object"`
		Value   source.Text `json:"value"`
		Expires *int64      `json:"expires_at"` // Unix time in seconds; null: never
	} `json:"api_key"`
}

// Fetch implements source.Source: it makes a service account.
func (s *Source) Fetch(ctx context.Context, d ledger.Durable, _ source.Ask) (*source.Secret, error) {
	asked := s.cfg.Clock()
	name := s.prefix + strings.ToLower(rand.Text()[:16])
	body, err := json.Marshal(struct {
		Name    string `json:"name"`
		Expires int64  `json:"expires_in_seconds"`
	}{name, int64(s.life / time.Second)})
	if err != nil {
		return nil, err
	}
	var a made
	if err := s.call(ctx, d, "POST", "", body, &a, "make a service account"); err != nil {
		if a.Key != nil {
			a.Key.Value.Wipe()
		}
		return nil, err
	}
	if a.Key == nil {
		return nil, malformed("a service account without a key")
	}
	got := &source.Secret{Value: a.Key.Value.Value, Lease: a.ID, Issued: asked}
	if a.Key.Expires != nil {
		got.Expires = time.Unix(*a.Key.Expires, 0)
	}
	if a.Object != account || a.Key.Object != key || a.Name != name || !custody.IsOpenAIID(a.ID) || !isKey(got.Value.Reveal()) ||
		a.Key.Expires != nil && (!got.Expires.After(asked) || got.Expires.After(asked.Add(farthest))) {
		got.Value.Wipe()
		return nil, malformed("it made something else than a service account of that name with a key")
	}
	return got, nil
}

// Renew implements source.Renewer: no key's life can be made longer, but one is good until half of it is over, if its account is still there.
func (s *Source) Renew(ctx context.Context, d ledger.Durable, old *source.Secret) (*source.Secret, error) {
	if !custody.IsOpenAIID(old.Lease) || s.cfg.Clock().Sub(old.Issued) > s.life/2 {
		if !d.Valid() {
			return nil, source.ErrNotDurable
		}
		return nil, fmt.Errorf("%w: half of the key's life is over: fetch another", source.ErrRefused)
	}
	var a made
	if err := s.call(ctx, d, "GET", "/"+old.Lease, nil, &a, "look at a service account"); err != nil {
		return nil, err
	}
	if a.Object != account || a.ID != old.Lease {
		return nil, malformed("it knows another service account by that id")
	}
	next := *old
	next.Value = secret.New(slices.Clone(old.Value.Reveal()))
	return &next, nil
}

// Revoke implements source.Source: it deletes the service account, and with it the key.
func (s *Source) Revoke(ctx context.Context, d ledger.Durable, old *source.Secret) error {
	return s.remove(ctx, d, old.Lease)
}

func (s *Source) remove(ctx context.Context, d ledger.Durable, id string) error {
	if !d.Valid() {
		return source.ErrNotDurable
	}
	if !custody.IsOpenAIID(id) {
		return fmt.Errorf("%w: no service account's id", source.ErrRefused)
	}
	var a struct {
		Object  string `json:"object"`
		ID      string `json:"id"`
		Deleted bool   `json:"deleted"`
	}
	err := s.call(ctx, d, "DELETE", "/"+id, nil, &a, "delete a service account")
	var no *refusal
	switch {
	case errors.As(err, &no) && no.status == 404:
		return nil // gone already
	case err != nil:
		return err
	case a.Object != deleted || a.ID != id || !a.Deleted:
		return malformed("it does not say that the service account was deleted")
	}
	return nil
}

// Sweep implements source.Sweeper.
func (s *Source) Sweep(ctx context.Context, d ledger.Durable, keep []string) (swept []string, err error) {
	lost, err := s.list(ctx, d)
	if err != nil {
		return nil, err
	}
	for _, id := range lost {
		if slices.Contains(keep, id) {
			continue
		}
		if err := s.remove(ctx, d, id); err != nil {
			return swept, err
		}
		swept = append(swept, id)
	}
	return swept, nil
}

// list returns the accounts that were made here.
func (s *Source) list(ctx context.Context, d ledger.Durable) (ids []string, err error) {
	after := ""
	for range pages {
		var a struct {
			Object string `json:"object"`
			Data   []made `json:"data"`
			Last   string `json:"last_id"`
			More   *bool  `json:"has_more"`
		}
		if err := s.call(ctx, d, "GET", fmt.Sprintf("?limit=%d%s", page, after), nil, &a, "list service accounts"); err != nil {
			return nil, err
		}
		if a.Object != "list" || a.Data == nil || a.More == nil {
			return nil, malformed("no list of service accounts")
		}
		for _, one := range a.Data {
			if one.Object != account || !custody.IsOpenAIID(one.ID) {
				return nil, malformed("a list of something else than service accounts")
			}
			if strings.HasPrefix(one.Name, s.prefix) {
				ids = append(ids, one.ID)
			}
		}
		if !*a.More {
			return ids, nil
		}
		if !custody.IsOpenAIID(a.Last) || after == "&after="+a.Last {
			return nil, malformed("a list that does not go on")
		}
		after = "&after=" + a.Last
	}
	return nil, malformed("a list of more than %d service accounts", pages*page)
}

// Close implements source.Source.
func (s *Source) Close() { s.client.Close() }

// call makes one call below the project's service accounts, and reads its answer.
func (s *Source) call(ctx context.Context, d ledger.Durable, method, below string, body []byte, into any, does string) error {
	if !d.Valid() {
		return source.ErrNotDurable
	}
	root, err := s.cfg.Root(d)
	if err != nil {
		return err
	}
	if !isKey(root.Reveal()) {
		return fmt.Errorf("%w: what was handed over is no admin key: it has bytes that none has", source.ErrRefused)
	}
	bearer := append([]byte("Bearer "), root.Reveal()...)
	defer clear(bearer)
	r := source.Request{Method: method, Path: s.path + below, Body: body, Secret: egress.Secret{Name: "Authorization", Value: bearer}}
	if body != nil {
		r.Header = []hop.Field{{Name: "Content-Type", Value: "application/json"}}
	}
	a, err := s.client.Do(ctx, r)
	if err != nil {
		return err
	}
	defer clear(a.Body)
	switch {
	case a.Status == 200 || a.Status == 201:
		if err := json.Unmarshal(a.Body, into); err != nil || a.Body[0] != '{' {
			return malformed("to %s it answered something else than the JSON of this API", does)
		}
		return nil
	case a.Status == 429 || a.Status >= 500:
		return fmt.Errorf("%w: OpenAI answered status %d to %s", source.ErrDown, a.Status, does)
	case a.Status >= 400:
		return &refusal{a.Status, does}
	}
	return malformed("to %s it answered with status %d", does, a.Status)
}

// refusal is a 4xx answer. It wraps source.ErrRefused.
type refusal struct {
	status int
	does   string
}

func (r *refusal) Error() string {
	hint := "see the organisation's audit log"
	switch r.status {
	case 401:
		hint = "the admin key is not valid any more: hand over another"
	case 403:
		hint = "the admin key may not manage service accounts of this project"
	case 404:
		hint = "no such project or service account"
	}
	return fmt.Sprintf("OpenAI refused to %s (status %d): %s", r.does, r.status, hint)
}

func (r *refusal) Unwrap() error { return source.ErrRefused }

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{source.ErrMalformed}, args...)...)
}

// isKey reports whether b may be a key, which stands in a header field.
func isKey(b []byte) bool {
	return len(b) > 0 && len(b) <= longest && !slices.ContainsFunc(b, func(c byte) bool { return c <= ' ' || c >= 0x7f })
}
