package federation

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/custodian/source"
	"github.com/reevehq/reeve/internal/custody"
	"github.com/reevehq/reeve/internal/seal"
	"github.com/reevehq/reeve/internal/secret"
)

// parse reads an answer. Members that the provider does not document are passed over: providers add some.
func parse(a custody.Answer, body []byte, now time.Time) (*source.Secret, error) {
	if a.Form == "sts" {
		return parseSTS(body, now)
	}
	var members map[string]json.RawMessage // of its own memory: not body's
	if err := json.Unmarshal(body, &members); err != nil {
		return nil, malformed("it is not a JSON object")
	}
	defer func() {
		for _, m := range members {
			clear(m)
		}
	}()
	if a.Type != "" {
		if !strings.EqualFold(string(text(members[a.Type]).Reveal()), "bearer") {
			return nil, malformed("%s is not Bearer", a.Type)
		}
	}
	expires, err := end(a, members, now)
	if err != nil {
		return nil, err
	}
	value := text(members[a.Secret]).Value
	if err := check(a.Secret, value.Reveal()); err != nil {
		value.Wipe()
		return nil, err
	}
	return &source.Secret{Value: value, Expires: expires}, nil
}

// end is when the provider says that the secret ends.
func end(a custody.Answer, members map[string]json.RawMessage, now time.Time) (time.Time, error) {
	var t time.Time
	if a.Until != "" {
		t, _ = time.Parse(time.RFC3339, string(text(members[a.Until]).Reveal()))
	} else if seconds, err := strconv.ParseUint(string(members[a.Seconds]), 10, 31); err == nil {
		t = now.Add(time.Duration(seconds) * time.Second)
	}
	if !t.After(now) {
		return t, malformed("%s%s says no end that is still to come", a.Seconds, a.Until)
	}
	return t, nil
}

// text is a member that is a string, else empty. The caller wipes it.
func text(raw json.RawMessage) source.Text {
	var t source.Text
	if json.Unmarshal(raw, &t) != nil {
		t.Wipe()
		return source.Text{}
	}
	return t
}

// check refuses what could not be injected or looked for in answers.
func check(name string, b []byte) error {
	if seal.Check(b) != nil || bytes.ContainsAny(b, " \"\\") {
		return malformed("%s is not between %d and %d characters that a header can carry", name, seal.MinLen, seal.MaxLen)
	}
	return nil
}

// session is the answer of AssumeRoleWithWebIdentity (AWS Security Token Service API Reference).
type session struct {
	XMLName xml.Name `xml:"https://sts.amazonaws.com/doc/2011-06-15/ AssumeRoleWithWebIdentityResponse"`
	Key     []byte   `xml:"AssumeRoleWithWebIdentityResult>Credentials>AccessKeyId"`
	Secret  []byte   `xml:"AssumeRoleWithWebIdentityResult>Credentials>SecretAccessKey"`
	Token   []byte   `xml:"AssumeRoleWithWebIdentityResult>Credentials>SessionToken"`
	Until   string   `xml:"AssumeRoleWithWebIdentityResult>Credentials>Expiration"`
}

func parseSTS(body []byte, now time.Time) (_ *source.Secret, err error) {
	var s session
	defer func() {
		if err != nil {
			clear(s.Secret)
			clear(s.Token)
		}
	}()
	d := xml.NewDecoder(bytes.NewReader(body))
	if d.Decode(&s) != nil || len(bytes.TrimSpace(body[d.InputOffset():])) > 0 {
		return nil, malformed("it is not the XML of AssumeRoleWithWebIdentity")
	}
	until, err := time.Parse(time.RFC3339, s.Until)
	if err != nil || !until.After(now) {
		return nil, malformed("Expiration says no end that is still to come")
	}
	if n := len(s.Key); n < 16 || n > 128 || len(bytes.Trim(s.Key, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")) > 0 {
		return nil, malformed("AccessKeyId is none")
	}
	if err = errors.Join(check("SecretAccessKey", s.Secret), check("SessionToken", s.Token)); err != nil {
		return nil, err
	}
	return &source.Secret{Value: secret.New(s.Secret), Session: secret.New(s.Token), Public: string(s.Key), Expires: until}, nil
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{source.ErrMalformed}, args...)...)
}
