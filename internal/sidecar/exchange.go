package sidecar

import (
	"context"
	"crypto"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// The parameters of the authority's token endpoint (docs/formats/token.md).
const (
	grantClient   = "client_credentials"
	grantBearer   = "urn:ietf:params:oauth:grant-type:jwt-bearer"
	assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
)

// exchange gets an access token of the authority for what inner gives: the workload's own assertion (private_key_jwt), or another
// issuer's token (RFC 7523 section 2.1).
type exchange struct {
	endpoint string // <issuer>/v1/token, as DPoP proofs name it
	url      string // where it is reached
	inner    Fetch
	own      bool          // inner is the workload's own assertion
	key      crypto.Signer // that the token is bound to, or nil
	client   http.RoundTripper
	now      func() time.Time
}

func (e *exchange) fetch(ctx context.Context) (string, error) {
	assertion, err := e.inner(ctx)
	if err != nil {
		return "", err
	}
	form := url.Values{"grant_type": {grantBearer}, "assertion": {assertion}}
	if e.own {
		form = url.Values{"grant_type": {grantClient}, "client_assertion_type": {assertionType}, "client_assertion": {assertion}}
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url, strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	req.GetBody = nil // an assertion is good once
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if e.key != nil {
		proof, err := e.proof()
		if err != nil {
			return "", err
		}
		req.Header.Set("DPoP", proof)
	}
	resp, err := e.client.RoundTrip(req)
	if err != nil {
		return "", fmt.Errorf("asking the authority for a token: %w", err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return "", fmt.Errorf("asking the authority for a token: %w", err)
	}
	var answer struct {
		Token       string `json:"access_token"`
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	if err := json.Unmarshal(b, &answer); err != nil || resp.StatusCode == http.StatusOK && answer.Token == "" {
		return "", fmt.Errorf("the authority answers %d with something that is no answer of a token endpoint; is authority.url right?", resp.StatusCode)
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("the authority gives no token: %.100q: %.300q", answer.Error, answer.Description)
	}
	return answer.Token, nil
}

// proof is a DPoP proof (RFC 9449 section 4.2): a bound assertion is taken from who has its key.
func (e *exchange) proof() (string, error) {
	return signJWT(e.key, map[string]any{"jti": rand.Text(), "htm": http.MethodPost, "htu": e.endpoint, "iat": e.now().Unix()},
		(&jose.SignerOptions{EmbedJWK: true}).WithType("dpop+jwt"))
}
