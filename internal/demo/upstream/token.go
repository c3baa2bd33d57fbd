package upstream

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/reevehq/reeve/internal/durable"
)

const (
	trustFile    = "federation.json"
	tokenKeyFile = "token.key"
	tokenPrefix  = "demo-upstream-token-"

	shortest = time.Minute      // that a token is given for
	longest  = 15 * time.Minute // the same
	ruleLife = 10 * time.Minute // token_lifetime_seconds of every rule of the Anthropic dialect
	skew     = 5 * time.Second  // that another clock may be ahead
)

// Trust is what its owner has told the upstream about one subject of an issuer: OpenAI's identity provider with a service account mapping,
// or Anthropic's federation issuer with a rule.
type Trust struct {
	Dialect  string            `json:"dialect"`
	Issuer   string            `json:"issuer"`
	JWKS     json.RawMessage   `json:"jwks"` // uploaded
	Audience string            `json:"audience"`
	Subject  string            `json:"subject"`
	Account  string            `json:"account"` // that the tokens are for, such as research-openai
	IDs      map[string]string `json:"ids"`     // the members of a request that name this trust at the provider
	Life     int64             `json:"life"`    // seconds, token_lifetime_seconds of a rule of Anthropic's; 0 for ten minutes
}

// WriteTrust replaces what the upstream with this state folder trusts; a running one goes by it at once.
func WriteTrust(state string, all []Trust) error {
	b, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	if err := durable.Replace(filepath.Join(state, trustFile), append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("writing whom the demo upstream trusts: %w", err)
	}
	return nil
}

// mint gives tokens for tokens. What it gives tells by itself what it is for and until when: nothing is kept.
type mint struct {
	path string // of the trust file
	key  []byte
}

func openMint(state string) (*mint, error) {
	path := filepath.Join(state, tokenKeyFile)
	key, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		key = []byte(rand.Text())
		err = durable.Create(path, key, 0o600)
	}
	if err != nil {
		return nil, fmt.Errorf("opening the key of the demo upstream's tokens: %w", err)
	}
	return &mint{filepath.Join(state, trustFile), key}, nil
}

// passport is what a token says.
type passport struct {
	Account string  `json:"account"`
	Dialect dialect `json:"dialect"`
	Until   int64   `json:"until"` // Unix time
	Nonce   string  `json:"nonce"`
}

func (m *mint) issue(d dialect, account string, until time.Time) string {
	b, err := json.Marshal(passport{account, d, until.Unix(), rand.Text()})
	if err != nil {
		panic(err) // strings always encode
	}
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(b) + "." + base64.RawURLEncoding.EncodeToString(m.sum(b))
}

func (m *mint) sum(b []byte) []byte {
	h := hmac.New(sha256.New, m.key)
	h.Write(b)
	return h.Sum(nil)
}

// find returns the account that a token is for.
func (m *mint) find(d dialect, token string, now time.Time) (account string, ok bool) {
	text, ours := strings.CutPrefix(token, tokenPrefix)
	body, sum, two := strings.Cut(text, ".")
	b, err := base64.RawURLEncoding.DecodeString(body)
	got, err2 := base64.RawURLEncoding.DecodeString(sum)
	var p passport
	if !ours || !two || err != nil || err2 != nil || !hmac.Equal(got, m.sum(b)) || json.Unmarshal(b, &p) != nil || p.Dialect != d || now.Unix() >= p.Until {
		return "", false
	}
	return p.Account, true
}

// exchangeRequest is the body of POST /oauth/token at auth.openai.com (developers.openai.com/api/reference/workload-identity-federation).
type exchangeRequest struct {
	GrantType        string `json:"grant_type"`
	SubjectTokenType string `json:"subject_token_type"`
	SubjectToken     string `json:"subject_token"`
	IdentityProvider string `json:"identity_provider_id"`
	ServiceAccount   string `json:"service_account_id"`
}

// assertionRequest is the body of POST /v1/oauth/token at api.anthropic.com (platform.claude.com/docs/en/manage-claude/wif-reference).
type assertionRequest struct {
	GrantType      string `json:"grant_type"`
	Assertion      string `json:"assertion"`
	FederationRule string `json:"federation_rule_id"`
	Organization   string `json:"organization_id"`
	ServiceAccount string `json:"service_account_id"`
	Workspace      string `json:"workspace_id,omitempty"`
}

type exchangeAnswer struct {
	AccessToken string `json:"access_token"`
	IssuedType  string `json:"issued_token_type,omitempty"`
	TokenType   string `json:"token_type"`
	ExpiresIn   int64  `json:"expires_in"`
}

// refusal is an error of RFC 6749, section 5.2.
type refusal struct {
	Code        string `json:"error"`
	Description string `json:"error_description"`
}

func (r *refusal) Error() string { return r.Code + ": " + r.Description }

// exchange answers one of the two token endpoints, and refuses everything that its provider does not document.
func (s *Server) exchange(d dialect, w http.ResponseWriter, r *http.Request) {
	answer, err := s.exchanged(d, w, r)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	var no *refusal
	if errors.As(err, &no) {
		s.log.Info("token refused", "dialect", string(d), "reason", no.Error())
		w.WriteHeader(http.StatusBadRequest)
		json.NewEncoder(w).Encode(no)
		return
	}
	json.NewEncoder(w).Encode(answer)
}

func (s *Server) exchanged(d dialect, w http.ResponseWriter, r *http.Request) (*exchangeAnswer, error) {
	no := func(format string, args ...any) (*exchangeAnswer, error) {
		return nil, &refusal{"invalid_request", fmt.Sprintf(format, args...)}
	}
	if r.Method != http.MethodPost || r.URL.RawQuery != "" || r.Header.Get("Content-Type") != "application/json" || r.Header.Get("Authorization") != "" || r.Header.Get("X-Api-Key") != "" {
		return no("POST JSON, without query and without credentials")
	}
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10))
	decoder.DisallowUnknownFields()
	var token string
	var ids map[string]string
	if d == anthropic {
		var q assertionRequest
		if err := decoder.Decode(&q); err != nil || decoder.More() {
			return no("the body is not as documented")
		}
		if q.GrantType != "urn:ietf:params:oauth:grant-type:jwt-bearer" || r.Header.Get("Anthropic-Beta") != "oidc-federation-2026-04-01" {
			return no("the grant type or the beta header is not the one of federation")
		}
		token, ids = q.Assertion, map[string]string{"federation_rule_id": q.FederationRule, "organization_id": q.Organization, "service_account_id": q.ServiceAccount}
		if q.Workspace != "" {
			ids["workspace_id"] = q.Workspace
		}
	} else {
		var q exchangeRequest
		if err := decoder.Decode(&q); err != nil || decoder.More() {
			return no("the body is not as documented")
		}
		if q.GrantType != "urn:ietf:params:oauth:grant-type:token-exchange" || q.SubjectTokenType != "urn:ietf:params:oauth:token-type:jwt" {
			return no("the grant type or the subject token's type is not one that is exchanged")
		}
		token, ids = q.SubjectToken, map[string]string{"identity_provider_id": q.IdentityProvider, "service_account_id": q.ServiceAccount}
	}
	t, left, err := s.mint.judge(d, ids, token, s.now())
	if err != nil {
		return nil, err
	}
	a := &exchangeAnswer{TokenType: "Bearer"}
	life := min(left, longest) // OpenAI: never longer than the subject token
	if d == anthropic {
		if life = time.Duration(t.Life) * time.Second; life == 0 {
			life = ruleLife
		}
	} else {
		a.IssuedType = "urn:ietf:params:oauth:token-type:access_token"
	}
	a.ExpiresIn = int64(max(life, shortest) / time.Second)
	a.AccessToken = s.mint.issue(d, t.Account, s.now().Add(time.Duration(a.ExpiresIn)*time.Second))
	return a, nil
}

// judge holds a token against what its owner has told the upstream, and returns how long it still lives.
func (m *mint) judge(d dialect, ids map[string]string, token string, now time.Time) (*Trust, time.Duration, error) {
	no := func(format string, args ...any) (*Trust, time.Duration, error) {
		return nil, 0, &refusal{"invalid_grant", fmt.Sprintf(format, args...)}
	}
	t := m.trust(d, ids)
	if t == nil {
		return no("nobody has told us of these ids")
	}
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(t.JWKS, &set); err != nil {
		return no("the uploaded key set cannot be read")
	}
	signed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.ES256, jose.RS256})
	if err != nil || len(signed.Headers) != 1 {
		return no("the token is not a signed JWT")
	}
	keys := set.Key(signed.Headers[0].KeyID)
	if signed.Headers[0].KeyID == "" || len(keys) != 1 {
		return no("the uploaded key set has no key with the token's kid")
	}
	var c jwt.Claims
	switch err := signed.Claims(keys[0], &c); {
	case err != nil:
		return no("the signature does not hold")
	case c.Issuer != t.Issuer:
		return no("another issuer")
	case len(c.Audience) != 1 || c.Audience[0] != t.Audience:
		return no("another audience")
	case c.Subject != t.Subject:
		return no("another subject")
	case c.IssuedAt == nil || c.Expiry == nil || c.ID == "":
		return no("iat, exp or jti is missing")
	case c.IssuedAt.Time().After(now.Add(skew)) || !now.Before(c.Expiry.Time()) || c.Expiry.Time().Sub(c.IssuedAt.Time()) > time.Hour:
		return no("the token is not of this time")
	}
	return t, c.Expiry.Time().Sub(now), nil
}

// trust is the one that a request's ids name, all of them.
func (m *mint) trust(d dialect, ids map[string]string) *Trust {
	b, err := os.ReadFile(m.path)
	if err != nil {
		return nil
	}
	var all []Trust
	decoder := json.NewDecoder(bytes.NewReader(b))
	if decoder.Decode(&all) != nil {
		return nil
	}
	for i, t := range all {
		if t.Dialect != string(d) || len(t.IDs) != len(ids) {
			continue
		}
		same := true
		for name, value := range ids {
			same = same && t.IDs[name] == value && value != ""
		}
		if same {
			return &all[i]
		}
	}
	return nil
}
