package endpoint

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/custodian/source"
	"github.com/reevehq/reeve/internal/scan"
	"github.com/reevehq/reeve/internal/seal"
	"github.com/reevehq/reeve/internal/secret"
)

var (
	// errGone says that what was to be revoked is not valid any more.
	errGone = errors.New("it is gone already")
	// ErrGrant is RFC 6749's invalid_grant.
	ErrGrant = errors.New("the refresh token is spent, expired or revoked; authorize the client anew and hand over what comes: reeve credential put")
)

const longest = 1 << 31 // seconds that a token may live

// Answer is a success of a token endpoint (RFC 6749, section 5.1).
type Answer struct {
	at                     *Endpoint
	begun                  time.Time // when it was asked for: no token lives longer than from then
	body                   []byte
	token, kind, next, end scan.Field
}

// Wipe overwrites it.
func (a *Answer) Wipe() { clear(a.body) }

// judge returns why an answer is no success, or nil.
func (e *Endpoint) judge(a *source.Answer) error {
	err := a.Err()
	switch {
	case err == nil && a.Status != 200:
		return e.Says(fmt.Errorf("%w: status %d", source.ErrMalformed, a.Status))
	case err == nil && !e.departs.OK:
		return nil
	case errors.Is(err, source.ErrDown):
		return e.Says(err)
	}
	var f [2]scan.Field
	var word []byte
	if scan.Top(a.Body, f[:], "ok", "error") == nil {
		if err == nil && string(a.Body[f[0].Start:f[0].End]) == "true" {
			return nil
		}
		word, _ = f[1].Text(a.Body)
	}
	switch {
	case err == nil && len(word) == 0:
		err = fmt.Errorf("%w: neither a success nor an error", source.ErrMalformed)
	case err == nil:
		err = source.ErrRefused
	}
	return e.refusal(err, string(word))
}

// refusal says what an error word means (RFC 6749, section 5.2; RFC 8707, section 2; RFC 7009, section 2.2.1). Of a word that is none
// of these nothing is quoted.
func (e *Endpoint) refusal(err error, word string) error {
	switch same := e.departs.Words[word]; same {
	case "gone":
		return e.Says(fmt.Errorf("%w: %w", source.ErrRefused, errGone))
	case "down":
		return e.Says(fmt.Errorf("%w: it says so itself", source.ErrDown))
	case "":
	default:
		word = same
	}
	switch word {
	case "temporarily_unavailable", "server_error":
		return e.Says(fmt.Errorf("%w: %s", source.ErrDown, word))
	case "unsupported_token_type":
		return e.Says(fmt.Errorf("%w: no token of this type", source.ErrCannotRevoke))
	case "invalid_grant":
		return e.Says(fmt.Errorf("%w: invalid_grant: %w", err, ErrGrant))
	}
	if why := meaning(word); why != "" {
		return e.Says(fmt.Errorf("%w: %s: %s", err, word, why))
	}
	return e.Says(err)
}

// meaning is what a word says to the owner, and what he does; empty for a word that is not one of theirs.
func meaning(word string) string {
	const may = "the client may not use from.parameters.grant there; have its administrator permit it"
	return map[string]string{
		"invalid_client":         "it does not take the client's secret, key or certificate; hand over the one that it has now: reeve credential put",
		"unauthorized_client":    may,
		"unsupported_grant_type": may,
		"invalid_scope":          "from.parameters.scope asks for what the client may not have",
		"invalid_target":         "it takes no token for from.parameters.resource",
		"invalid_request":        "a parameter is missing there or one too many; see the provider's documentation and from.parameters",
	}[word]
}

// read finds the members of a success.
func (e *Endpoint) read(a *source.Answer, begun time.Time) (*Answer, error) {
	if err := e.judge(a); err != nil {
		clear(a.Body)
		return nil, err
	}
	var f [4]scan.Field
	if scan.Top(a.Body, f[:], "access_token", "token_type", "expires_in", "refresh_token") != nil {
		clear(a.Body)
		return nil, e.Says(fmt.Errorf("%w: not one object of JSON", source.ErrMalformed))
	}
	return &Answer{at: e, begun: begun, body: a.Body, token: f[0], kind: f[1], end: f[2], next: f[3]}, nil
}

// Secret is the access token.
func (a *Answer) Secret() (*source.Secret, error) {
	kind, err := a.kind.Text(a.body)
	if err != nil || !strings.EqualFold(string(kind), "bearer") && !slices.Contains(a.at.departs.Types, strings.ToLower(string(kind))) {
		return nil, a.malformed("a token_type that is not Bearer") // RFC 6749, section 7.1: not to be used
	}
	got := &source.Secret{Lease: rand.Text(), Issued: a.begun}
	if !a.end.Absent() {
		seconds, err := a.end.Int(a.body)
		if err != nil || seconds == 0 || seconds > longest {
			return nil, a.malformed("expires_in is no number of seconds")
		}
		got.Expires = a.begun.Add(time.Duration(seconds) * time.Second)
	}
	token, err := a.token.Text(a.body)
	if err != nil || seal.Check(token) != nil {
		return nil, a.malformed("no access_token that can be put into a header and kept from leaking back")
	}
	got.Value = secret.New(bytes.Clone(token))
	return got, nil
}

// Refresh is the next refresh token, nil when the endpoint gives none: the one that it was asked with goes on.
func (a *Answer) Refresh() ([]byte, error) {
	if a.next.Absent() {
		return nil, nil
	}
	token, err := a.next.Text(a.body)
	if err != nil || !Visible(token) {
		return nil, a.malformed("a refresh_token that is none")
	}
	return bytes.Clone(token), nil
}

func (a *Answer) malformed(what string) error {
	return a.at.Says(fmt.Errorf("%w: %s", source.ErrMalformed, what))
}

// Visible reports whether b can be a refresh token (RFC 6749, appendix A.17).
func Visible(b []byte) bool {
	for _, c := range b {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return len(b) > 0 && len(b) <= seal.MaxLen
}
