package upstream

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// signed is a compact JWS of claims.
func signed(t *testing.T, key *ecdsa.PrivateKey, kid string, claims map[string]any) string {
	t.Helper()
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: kid}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	jws, err := s.Sign(b)
	if err != nil {
		t.Fatal(err)
	}
	text, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestExchange: the documented request is answered with a token that works, until it ends; everything else is refused.
func TestExchange(t *testing.T) {
	now := time.Now()
	var later atomic.Int64 // seconds
	r := newRig(t, func(c *Config) {
		c.Now = func() time.Time { return now.Add(time.Duration(later.Load()) * time.Second) }
	})
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k1", Algorithm: "ES256", Use: "sig"}}})
	if err != nil {
		t.Fatal(err)
	}
	trust := Trust{Issuer: "https://id.example", JWKS: set, Audience: "upstream", Subject: "spiffe://demo/unit/research/credential/research-openai", Account: "research-openai"}
	oi, an := trust, trust
	oi.Dialect, oi.IDs = "openai", map[string]string{"identity_provider_id": "idp", "service_account_id": "sa"}
	an.Dialect, an.IDs = "anthropic", map[string]string{"federation_rule_id": "fdrl", "organization_id": "org", "service_account_id": "svac"}
	if err := WriteTrust(r.state, []Trust{oi, an}); err != nil {
		t.Fatal(err)
	}
	claims := func(edit func(map[string]any)) map[string]any {
		c := map[string]any{"iss": trust.Issuer, "aud": []string{"upstream"}, "sub": trust.Subject, "iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(), "jti": "1"}
		if edit != nil {
			edit(c)
		}
		return c
	}
	body := func(anthropic bool, token string) string {
		if anthropic {
			return `{"grant_type":"urn:ietf:params:oauth:grant-type:jwt-bearer","assertion":"` + token + `","federation_rule_id":"fdrl","organization_id":"org","service_account_id":"svac"}`
		}
		return `{"grant_type":"urn:ietf:params:oauth:grant-type:token-exchange","subject_token_type":"urn:ietf:params:oauth:token-type:jwt","subject_token":"` + token +
			`","identity_provider_id":"idp","service_account_id":"sa"}`
	}
	ask := func(anthropic bool, body string, header ...string) (*http.Response, map[string]any) {
		t.Helper()
		path := "/oauth/token"
		if anthropic {
			path = "/v1/oauth/token"
		}
		req, err := http.NewRequest("POST", r.url+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		if anthropic {
			req.Header.Set("Anthropic-Beta", "oidc-federation-2026-04-01")
		}
		for _, h := range header {
			name, value, _ := strings.Cut(h, ": ")
			req.Header.Set(name, value)
		}
		resp, err := r.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]any
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		return resp, got
	}

	for _, c := range []struct {
		anthropic bool
		path      string
		life      time.Duration
	}{{false, "/v1/chat/completions", 5 * time.Minute}, {true, "/v1/messages", 10 * time.Minute}} {
		later.Store(0)
		resp, got := ask(c.anthropic, body(c.anthropic, signed(t, key, "k1", claims(nil))))
		life, _ := got["expires_in"].(float64)
		token, _ := got["access_token"].(string)
		if resp.StatusCode != 200 || got["token_type"] != "Bearer" || time.Duration(life)*time.Second < c.life-2*time.Second || time.Duration(life)*time.Second > c.life || (got["issued_token_type"] == nil) != c.anthropic {
			t.Fatalf("%d %v", resp.StatusCode, got)
		}
		call := func(token string) int {
			return r.do("POST", c.path, `{"model":"demo","max_tokens":5,"messages":[{"role":"user","content":"hi"}]}`, "X-Api-Key: ", "Authorization: Bearer "+token).StatusCode
		}
		if status := call(token); status != 200 {
			t.Errorf("%s with the token: %d", c.path, status)
		}
		for name, bad := range map[string]string{"changed": token[:len(token)-2] + "AA", "empty": "", "a prefix": tokenPrefix, "another key's": tokenPrefix + "e30.e30"} {
			if status := call(bad); status != 401 {
				t.Errorf("%s, %s: %d", c.path, name, status)
			}
		}
		later.Store(int64(c.life/time.Second) + 1)
		if status := call(token); status != 401 {
			t.Errorf("%s with a token past its end: %d", c.path, status)
		}
	}
	if status := r.do("POST", "/v1/messages", `{}`, "X-Api-Key: ", "Authorization: Bearer "+anthropicKey).StatusCode; status != 401 {
		t.Errorf("a key in the place of a token: %d", status)
	}

	later.Store(0)
	good := signed(t, key, "k1", claims(nil))
	type refused struct {
		name, body string
		header     []string
	}
	for _, anthropic := range []bool{false, true} {
		list := []refused{
			{"no token", body(anthropic, ""), nil},
			{"another key", body(anthropic, signed(t, other, "k1", claims(nil))), nil},
			{"an unknown kid", body(anthropic, signed(t, key, "k2", claims(nil))), nil},
			{"no kid", body(anthropic, signed(t, key, "", claims(nil))), nil},
			{"an unknown member", strings.Replace(body(anthropic, good), "{", `{"scope":"all",`, 1), nil},
			{"two bodies", body(anthropic, good) + "{}", nil},
			{"another grant", strings.Replace(body(anthropic, good), "grant-type:", "grant-type:x", 1), nil},
			{"other ids", strings.Replace(body(anthropic, good), `"sv`, `"xx`, 1) + "", []string{"X-Unused: 1"}},
			{"a form", body(anthropic, good), []string{"Content-Type: application/x-www-form-urlencoded"}},
			{"with credentials", body(anthropic, good), []string{"Authorization: Bearer x"}},
		}
		if !anthropic {
			list[7].body = strings.Replace(body(anthropic, good), `"idp"`, `"ipd"`, 1)
		}
		for claim, value := range map[string]any{"iss": "https://id.example/", "aud": []string{"upstream", "x"}, "sub": trust.Subject + "x", "iat": now.Add(time.Minute).Unix(),
			"exp": now.Add(-time.Second).Unix(), "jti": ""} {
			list = append(list, refused{"claim " + claim, body(anthropic, signed(t, key, "k1", claims(func(c map[string]any) { c[claim] = value }))), nil})
		}
		list = append(list, refused{"a token of two hours", body(anthropic, signed(t, key, "k1", claims(func(c map[string]any) { c["exp"] = now.Add(2 * time.Hour).Unix() }))), nil})
		if anthropic {
			list = append(list, refused{"without the beta", body(true, good), []string{"Anthropic-Beta: oauth"}})
		}
		for _, c := range list {
			t.Run(fmt.Sprintf("%v %s", anthropic, c.name), func(t *testing.T) {
				if resp, got := ask(anthropic, c.body, c.header...); resp.StatusCode != 400 || got["error"] == nil || got["access_token"] != nil {
					t.Errorf("%d %v", resp.StatusCode, got)
				}
			})
		}
	}
}
