package federation

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/reevehq/reeve/internal/custodian/egress"
	"github.com/reevehq/reeve/internal/custodian/source"
	"github.com/reevehq/reeve/internal/custody"
	"github.com/reevehq/reeve/internal/hop"
	"github.com/reevehq/reeve/internal/secret"
)

// step is one request of an exchange.
type step struct {
	form   string
	header [][2]string
	fields []custody.Field
	answer custody.Answer
}

// ask makes one request. bearer is the secret of the step before, if there was one.
func (s *Source) ask(ctx context.Context, c *source.Client, st step, token, bearer secret.Value, ask source.Ask) (*source.Secret, error) {
	r := source.Request{Method: "POST", Body: s.body(st, token, ask)}
	defer clear(r.Body)
	kind := "application/x-www-form-urlencoded"
	if st.form == "json" {
		kind = "application/json"
	}
	r.Header = append(r.Header, hop.Field{Name: "Content-Type", Value: kind})
	for _, h := range st.header {
		r.Header = append(r.Header, hop.Field{Name: h[0], Value: h[1]})
	}
	if !bearer.Empty() {
		r.Secret = egress.Secret{Name: "Authorization", Value: append([]byte("Bearer "), bearer.Reveal()...)}
		defer clear(r.Secret.Value)
	}
	a, err := c.Do(ctx, r)
	if err != nil {
		return nil, err
	}
	defer clear(a.Body)
	if err := judge(a); err != nil {
		return nil, err
	}
	return parse(st.answer, a.Body, s.cfg.Clock())
}

// body writes the fields in their order, into one buffer so that no copy of the token is left behind by growing.
func (s *Source) body(st step, token secret.Value, ask source.Ask) []byte {
	out := make([]byte, 0, 8<<10+2*token.Len())
	open, between, end := "", "&", ""
	if st.form == "json" {
		open, between, end = "{", ",", "}"
	}
	out = append(out, open...)
	for _, f := range st.fields {
		value := s.value(f, ask)
		if f.From != custody.FromToken && value == "" {
			continue
		}
		if len(out) > len(open) {
			out = append(out, between...)
		}
		if st.form != "json" {
			out = append(append(out, f.Name...), '=')
			if f.From == custody.FromToken {
				out = append(out, token.Reveal()...) // a JWT's characters stand for themselves
			} else {
				out = append(out, url.QueryEscape(value)...)
			}
			continue
		}
		out = append(strconv.AppendQuote(out, f.Name), ':')
		switch {
		case f.From == custody.FromToken:
			out = append(append(append(out, '"'), token.Reveal()...), '"')
		case f.As == "number":
			out = append(out, value...)
		case f.As == "list":
			out = append(append(append(out, '['), quote(value)...), ']')
		case f.As == "duration":
			out = append(out, quote(value+"s")...)
		default:
			out = append(out, quote(value)...)
		}
	}
	return append(out, end...)
}

// value is a field's, but for the token.
func (s *Source) value(f custody.Field, ask source.Ask) string {
	switch f.From {
	case custody.FromToken:
		return ""
	case custody.FromLifetime:
		return strconv.FormatInt(int64(s.lifetime/time.Second), 10)
	case custody.FromSession:
		name := "reeve-" + s.cfg.Record.ID // AWS takes 64 characters of A-Z a-z 0-9 = , . @ - _
		if ask.Workload != "" {
			name += "," + ask.Workload
		}
		return name[:min(len(name), 64)]
	}
	return s.word(f.From, f.Is)
}

// judge turns a status into the error that it means. Of a refusal it says the error code where that is one of those documented, and
// nothing else of the body.
func judge(a *source.Answer) error {
	err := a.Err()
	switch {
	case err == nil && a.Status != 200:
		return fmt.Errorf("%w: status %d", source.ErrMalformed, a.Status)
	case !errors.Is(err, source.ErrRefused):
		return err
	}
	for _, code := range codes() {
		if bytes.Contains(a.Body, []byte(`"`+code+`"`)) || bytes.Contains(a.Body, []byte("<Code>"+code+"</Code>")) {
			err = fmt.Errorf("%w, %s", err, code)
			break
		}
	}
	return fmt.Errorf("%w; see that the provider trusts this issuer, key set, audience and subject: reeve federation show", err)
}

// codes are those of RFC 6749 section 5.2, RFC 8693 section 2.2.2 and AssumeRoleWithWebIdentity.
func codes() []string {
	return []string{
		"invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type", "invalid_scope", "invalid_target",
		"InvalidIdentityToken", "ExpiredTokenException", "IDPRejectedClaim", "IDPCommunicationError", "AccessDenied", "MalformedPolicyDocument",
	}
}

// quote writes a JSON string.
func quote(s string) []byte {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // strings always encode
	}
	return b
}
