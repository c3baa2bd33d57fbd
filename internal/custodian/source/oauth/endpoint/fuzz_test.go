package endpoint

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/reevehq/reeve/internal/custodian/source"
	"github.com/reevehq/reeve/internal/custody"
	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/internal/seal"
	"github.com/reevehq/reeve/internal/secret"
	"github.com/reevehq/reeve/internal/statement"
)

// FuzzAnswer: whatever an endpoint says is a whole token or an error that quotes nothing of it.
func FuzzAnswer(f *testing.F) {
	for _, s := range []string{
		`{"access_token":"demo-access-token-1","token_type":"Bearer","expires_in":60,"refresh_token":"demo-refresh-token-1"}`,
		`{"ok":true,"access_token":"demo-access-token-1","token_type":"bot"}`, `{"ok":false,"error":"ratelimited"}`, `{"error":"invalid_grant","error_description":"x"}`, `[]`, "",
	} {
		f.Add(200, []byte(s), true)
		f.Add(400, []byte(s), false)
	}
	f.Fuzz(func(t *testing.T, status int, body []byte, slack bool) {
		e := &Endpoint{cfg: source.Config{Record: statement.Credential{ID: "a", From: statement.From{URL: "https://idp.example/token"}}}}
		if slack {
			e.departs = custody.Endpoint("slack")
		}
		a, err := e.read(&source.Answer{Status: status, Body: bytes.Clone(body)}, time.Unix(1, 0))
		if err == nil {
			var got *source.Secret
			got, err = a.Secret()
			if err == nil && (seal.Check(got.Value.Reveal()) != nil || got.Lease == "" || !got.Expires.IsZero() && !got.Expires.After(got.Issued)) {
				t.Errorf("%+v", got)
			}
			if token, err := a.Refresh(); err == nil && token != nil && !Visible(token) {
				t.Errorf("refresh token %q", token)
			}
		}
		if err != nil {
			known := errors.Is(err, source.ErrDown) || errors.Is(err, source.ErrRefused) || errors.Is(err, source.ErrMalformed) || errors.Is(err, source.ErrCannotRevoke)
			if !known || len(err.Error()) > 400 || len(body) > 20 && strings.Contains(err.Error(), string(body)) {
				t.Errorf("%v", err)
			}
		}
	})
}

// FuzzRoot: what was handed over is what the record needs, or an error that quotes nothing of it; the store's bytes stay as they are.
func FuzzRoot(f *testing.F) {
	for _, s := range []string{"demo-client-secret-1", `{"client_secret":"demo-client-secret-1","refresh_token":"demo-refresh-token-1","home":"c1"}`, `{"client_secret":7}`, "{", "", "null", "[]"} {
		f.Add([]byte(s), true)
		f.Add([]byte(s), false)
	}
	f.Fuzz(func(t *testing.T, text []byte, rotates bool) {
		stored := bytes.Clone(text)
		grant := "client_credentials"
		if rotates {
			grant = "refresh_token"
		}
		e := &Endpoint{method: "client_secret_basic", cfg: source.Config{
			Record: statement.Credential{ID: "a", From: statement.From{Parameters: map[string]string{"grant": grant}}},
			Root:   func(ledger.Durable) (secret.Value, error) { return secret.New(stored), nil },
		}}
		r, err := e.Root(ledger.Durable{})
		if err == nil {
			if r.Secret.Empty() || rotates && (!Visible(r.Refresh.Reveal()) || r.Home == "") {
				t.Errorf("%q was taken", text)
			}
			r.Wipe()
		} else if !errors.Is(err, source.ErrNoRoot) || len(text) > 20 && strings.Contains(err.Error(), string(text)) {
			t.Errorf("%v", err)
		}
		if !bytes.Equal(stored, text) {
			t.Error("the store's bytes were changed")
		}
	})
}
