package pin

import (
	"net/url"
	"slices"
	"strings"
)

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
