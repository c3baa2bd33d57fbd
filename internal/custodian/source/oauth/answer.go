package oauth

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/custodian/source"
	"github.com/reevehq/reeve/internal/custody"
	"github.com/reevehq/reeve/internal/scan"
	"github.com/reevehq/reeve/internal/seal"
	"github.com/reevehq/reeve/internal/secret"
)

var (
	// errGone says that what was to be revoked is not valid any more.
	errGone = errors.New("it is gone already")
	// errGrant is RFC 6749's invalid_grant.
	errGrant = errors.New("the refresh token is spent, expired or revoked; authorize the client anew and hand over what comes: reeve credential put")
)

const longest = 1 << 31 // seconds that a token may live

// answer is a success of a token endpoint (RFC 6749, section 5.1). Its members alias the body, or are decoded from it.
type answer struct {
	body                   []byte
	token, kind, next, end scan.Field
}

// judge returns why an answer is no success, or nil.
func (s *Source) judge(a *source.Answer) error {
	err := a.Err()
	if err == nil && !s.departs.OK {
		return s.success(a)
	}
	var f [2]scan.Field
	if scan.Top(a.Body, f[:], "ok", "error") != nil {
		if err == nil {
			err = fmt.Errorf("%w: not one object of JSON", source.ErrMalformed)
		}
		return s.says(err)
	}
	if err == nil && string(a.Body[f[0].Start:f[0].End]) == "true" {
		return s.success(a)
	}
	text, bad := f[1].Text(a.Body)
	switch {
	case bad != nil && err == nil:
		return s.says(fmt.Errorf("%w: neither a success nor an error", source.ErrMalformed))
	case bad != nil || errors.Is(err, source.ErrDown):
		return s.says(err)
	case err == nil:
		err = source.ErrRefused
	}
	return s.refusal(err, string(text))
}

func (s *Source) success(a *source.Answer) error {
	if a.Status != 200 {
		return s.says(fmt.Errorf("%w: status %d", source.ErrMalformed, a.Status))
	}
	return nil
}

// refusal says what an error word means (RFC 6749, section 5.2; RFC 8707, section 2; RFC 7009, section 2.2.1). Of a word that is none
// of these nothing is quoted.
func (s *Source) refusal(err error, word string) error {
	if same := s.departs.Words[word]; same != "" {
		word = same
	}
	why := ""
	switch word {
	case "gone":
		return errGone
	case "down", "temporarily_unavailable", "server_error":
		return s.says(fmt.Errorf("%w: %s", source.ErrDown, "it says so"))
	case "unsupported_token_type":
		return s.says(fmt.Errorf("%w: no token of this type", source.ErrCannotRevoke))
	case "invalid_grant":
		return s.says(fmt.Errorf("%w: invalid_grant: %w", err, errGrant))
	case "invalid_client":
		why = "it does not take the client's secret, key or certificate; hand over the one that it has now: reeve credential put"
	case "unauthorized_client", "unsupported_grant_type":
		why = "the client may not use from.parameters.grant there; have its administrator permit it"
	case "invalid_scope":
		why = "from.parameters.scope asks for what the client may not have"
	case "invalid_target":
		why = "it takes no token for from.parameters.resource"
	case "invalid_request":
		why = "a parameter is missing there or one too many; see the provider's documentation and from.parameters"
	default:
		return s.says(err)
	}
	return s.says(fmt.Errorf("%w: %s: %s", err, word, why))
}

// says names the endpoint.
func (s *Source) says(err error) error {
	return fmt.Errorf("%w (%s, for %s)", err, s.host, s.cfg.Record.ID)
}

// read finds the members of a success.
func (s *Source) read(a *source.Answer) (*answer, error) {
	if err := s.judge(a); err != nil {
		return nil, err
	}
	var f [4]scan.Field
	if scan.Top(a.Body, f[:], "access_token", "token_type", "expires_in", "refresh_token") != nil {
		return nil, s.says(fmt.Errorf("%w: not one object of JSON", source.ErrMalformed))
	}
	return &answer{body: a.Body, token: f[0], kind: f[1], end: f[2], next: f[3]}, nil
}

// secret makes the access token one. begun is when it was asked for: it lives no longer than from then.
func (a *answer) secret(begun time.Time, departs custody.TokenEndpoint) (*source.Secret, error) {
	kind, err := a.kind.Text(a.body)
	if err != nil || !strings.EqualFold(string(kind), "bearer") && !slices.Contains(departs.Types, strings.ToLower(string(kind))) {
		return nil, fmt.Errorf("%w: a token_type that is not Bearer", source.ErrMalformed) // RFC 6749, section 7.1: not to be used
	}
	got := &source.Secret{Lease: name(), Issued: begun}
	if !a.end.Absent() {
		seconds, err := a.end.Int(a.body)
		if err != nil || seconds == 0 || seconds > longest {
			return nil, fmt.Errorf("%w: expires_in is no number of seconds", source.ErrMalformed)
		}
		got.Expires = begun.Add(time.Duration(seconds) * time.Second)
	}
	token, err := a.token.Text(a.body)
	if err != nil || seal.Check(token) != nil {
		return nil, fmt.Errorf("%w: no access_token that can be put into a header and kept from leaking back", source.ErrMalformed)
	}
	got.Value = secret.New(bytes.Clone(token))
	return got, nil
}

// refresh is the next refresh token, nil when the endpoint gives none: the one that it was asked with goes on.
func (a *answer) refresh() ([]byte, error) {
	if a.next.Absent() {
		return nil, nil
	}
	token, err := a.next.Text(a.body)
	if err != nil || !visible(token) {
		return nil, fmt.Errorf("%w: a refresh_token that is none", source.ErrMalformed)
	}
	return bytes.Clone(token), nil
}

// visible reports whether b can be a refresh token (RFC 6749, appendix A.17).
func visible(b []byte) bool {
	for _, c := range b {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return len(b) > 0 && len(b) <= seal.MaxLen
}
