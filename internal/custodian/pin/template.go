package pin

import (
	"net/url"
	"slices"
	"strings"

	"github.com/reevehq/reeve/internal/statement"
)

// Fill returns the record with what it leaves out taken from its template: openai, anthropic, openai-compatible, or none.
// Template paths stand behind the record's prefix.
func Fill(c statement.Credential) (statement.Credential, error) {
	var origin, dialect string
	var inject statement.Inject
	var verbs, paths []string
	switch c.Template {
	case "":
		return c, nil
	case "openai", "openai-compatible": // https://platform.openai.com/docs/api-reference
		if dialect = "openai"; c.Template == "openai" {
			origin = "https://api.openai.com"
		}
		inject = statement.Inject{As: "bearer"}
		verbs = []string{"GET", "POST", "DELETE"}
		paths = []string{
			"POST /v1/chat/completions",
			"POST /v1/responses",
			"GET,DELETE /v1/responses/*",
			"POST /v1/responses/*/cancel",
			"GET /v1/responses/*/input_items",
			"POST /v1/embeddings",
			"GET /v1/models",
			"GET /v1/models/**", // some providers' model ids hold "/"
		}
	case "anthropic": // https://docs.claude.com/en/api
		origin, dialect = "https://api.anthropic.com", "anthropic"
		inject = statement.Inject{As: "header", Name: "x-api-key"}
		verbs = []string{"GET", "POST"}
		paths = []string{
			"POST /v1/messages",
			"POST /v1/messages/count_tokens",
			"GET /v1/models",
			"GET /v1/models/*",
		}
	default:
		return c, refuse("credential %s: unknown template %q; there are openai, anthropic and openai-compatible", c.ID, c.Template)
	}
	d := &c.Destination
	if d.Origin == "" {
		d.Origin = origin
	}
	if c.Dialect == "" {
		c.Dialect = dialect
	}
	if c.Inject.As == "" {
		c.Inject = inject
	}
	if len(d.Paths) == 0 {
		if len(d.Methods) == 0 {
			d.Methods = verbs
		}
		for _, path := range paths {
			some, path, _ := strings.Cut(path, " ")
			some = strings.Join(slices.DeleteFunc(strings.Split(some, ","), func(m string) bool { return !slices.Contains(d.Methods, m) }), ",")
			if some != "" {
				d.Paths = append(d.Paths, some+" "+d.Prefix+path)
			}
		}
	}
	return c, nil
}

// issuing lists the paths whose answers hold new secrets: a credential must not be turned into another that the ledger does
// not know. Segments, folded by word, anywhere in a path. Widen it when a provider adds one; never narrow it.
func issuing() []string {
	return []string{
		// OpenAI administration: admin API keys, project keys, service accounts.
		// https://developers.openai.com/api/reference/resources/organization
		"/organization/", "/adminapikeys/", "/serviceaccounts/",
		// Anthropic Admin API. https://platform.claude.com/docs/manage-claude/admin-api
		"/organizations/",
		// OpenAI and Azure realtime client secrets, also for translation; xAI uses the same name.
		// https://developers.openai.com/api/reference/resources/realtime/subresources/client_secrets
		"/clientsecrets/",
		// OpenAI realtime beta: the session object holds a client secret.
		"/realtime/sessions/", "/realtime/transcriptionsessions/",
		// ChatKit sessions hold a client secret. https://openai.github.io/chatkit-js/guides/authentication
		"/chatkit/sessions/",
		// Gemini ephemeral tokens. https://ai.google.dev/gemini-api/docs/ephemeral-tokens
		"/authtokens/",
		// OpenRouter keys and the PKCE exchange. https://openrouter.ai/docs/features/programmatic-api-key-management
		"/keys/", "/apikeys/", "/ephemeralkeys/",
		// Token endpoints: RFC 6749; Anthropic /v1/oauth/token; GitHub app/installations/*/access_tokens.
		"/oauth/", "/oauth2/", "/token/", "/tokens/", "/accesstokens/",
		// Google IAM credentials, after the ":" of the last segment.
		// https://cloud.google.com/iam/docs/reference/credentials/rest
		"/generateaccesstoken/", "/generateidtoken/", "/signjwt/", "/signblob/",
	}
}

// issues reports whether path, which is canonical, issues secrets. ":" counts as "/".
func issues(path string) bool {
	path, err := url.PathUnescape(path)
	folded := word(strings.ReplaceAll(path, ":", "/")) + "/"
	return err != nil || slices.ContainsFunc(issuing(), func(s string) bool { return strings.Contains(folded, s) })
}
