package custody

import (
	"fmt"
	"strings"

	"github.com/reevehq/reeve/internal/statement"
)

func oauth() Kind {
	return Kind{
		Name: "oauth", Doc: "an OAuth 2 token endpoint gives access tokens for a client's own secret or key, or for a refresh token",
		Root: "the client secret, or PEM: the private key, with its certificate if TLS shows that; for a refresh token one object of JSON " +
			"with refresh_token, home, and one of client_secret, private_key, certificate beside it",
		Standing: true,
		Parameters: []Parameter{
			{Name: "grant", Required: true, Values: []string{"client_credentials", "refresh_token"}, Doc: "RFC 6749, section 4.4 or 6"},
			{Name: "client_id", Required: true, Doc: "the client's id at the provider"},
			{Name: "authentication", Values: []string{"client_secret_basic", "client_secret_post", "private_key_jwt", "tls_client_auth", "none"},
				Doc: "how the client authenticates (RFC 7591, section 2, RFC 7523, RFC 8705); client_secret_basic when left out"},
			{Name: "scope", Doc: "what is asked for, with blanks between (RFC 6749, section 3.3)"},
			{Name: "resource", Doc: "URIs of what the token is for, with blanks between (RFC 8707)"},
			{Name: "audience", Doc: "whom the token is for, at providers that call it so"},
			{Name: "revocation", Doc: "path of the revocation endpoint on the host of from.url (RFC 7009); without it nothing can be revoked there"},
			{Name: "assertion_audience", Doc: "aud of private_key_jwt; from.url when left out"},
			{Name: "key_id", Doc: "kid of private_key_jwt"},
			{Name: "algorithm", Values: []string{"RS256", "PS256", "ES256", "ES384", "EdDSA"}, Doc: "alg of private_key_jwt; RS256, ES256, ES384 or EdDSA by the key when left out"},
			{Name: "provider", Values: []string{"slack"}, Doc: "a provider that departs from the RFCs"},
		},
		Check: checkOAuth,
	}
}

// checkOAuth has the revocation endpoint be on the same host, and a refresh token be spent by one custodian, and for all workloads alike: it can be spent once.
func checkOAuth(c statement.Credential) error {
	if err := noLifetime(c); err != nil {
		return err
	}
	if p := c.From.Parameters["revocation"]; p != "" && !strings.HasPrefix(p, "/") {
		return fmt.Errorf("%w: credential %s: from.parameters.revocation %q is not a path on the host of from.url, such as /oauth/revoke", ErrRecord, c.ID, p)
	}
	if c.From.Parameters["grant"] != "refresh_token" {
		return nil
	}
	if c.From.Home == "" {
		return fmt.Errorf("%w: credential %s: a refresh token can be spent once, so from.home names the one custodian that spends it", ErrRecord, c.ID)
	}
	if c.From.PerWorkload {
		return fmt.Errorf("%w: credential %s: one refresh token brings no secret for each workload; leave out from.per_workload", ErrRecord, c.ID)
	}
	return nil
}

// noLifetime refuses to ask for a lifetime where a provider takes no such wish: nothing in a record is passed over.
func noLifetime(c statement.Credential) error {
	if c.From.Lifetime != 0 {
		return fmt.Errorf("%w: credential %s: source %s cannot ask for a lifetime, which is the provider's to say; leave out from.lifetime", ErrRecord, c.ID, c.Source)
	}
	return nil
}

// TokenEndpoint is where a provider's endpoints depart from RFC 6749 and RFC 7009. The zero TokenEndpoint departs nowhere.
type TokenEndpoint struct {
	Types  []string // token types besides Bearer, in lower case
	OK     bool     // refusals have status 200, "ok": false and a word in "error"
	Bearer bool     // an access token authenticates its own revocation, without a form; a refresh token is not revoked
	Words  map[string]string
}

// Endpoint returns what a provider departs in; Words has its error words that mean the same as one of the RFCs', or "gone" or "down".
func Endpoint(provider string) TokenEndpoint {
	if provider != "slack" {
		return TokenEndpoint{}
	}
	return TokenEndpoint{ // https://docs.slack.dev/authentication/using-token-rotation, https://docs.slack.dev/reference/methods/auth.revoke
		Types: []string{"bot", "user"}, OK: true, Bearer: true,
		Words: map[string]string{
			"invalid_refresh_token": "invalid_grant", "bad_client_secret": "invalid_client", "invalid_client_id": "invalid_client",
			"invalid_grant_type": "unsupported_grant_type", "token_revoked": "gone", "token_expired": "gone",
			"account_inactive": "gone", "ratelimited": "down", "internal_error": "down", "fatal_error": "down", "service_unavailable": "down",
			"request_timeout": "down",
		},
	}
}
