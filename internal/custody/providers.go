package custody

import "github.com/reevehq/reeve/internal/statement"

// Templates are the providers that this version knows. What each documents stands beside it.
func Templates() []Template {
	bearer := statement.Inject{As: "bearer"}
	header := func(name string) statement.Inject { return statement.Inject{As: "header", Name: name} }
	sealed := []Way{{Source: "sealed", Inject: bearer}}
	// The paths of OpenAI's API that others serve too. https://platform.openai.com/docs/api-reference
	chat := []string{"POST /v1/chat/completions", "POST /v1/embeddings", "GET /v1/models", "GET /v1/models/**"} // some providers' model ids hold "/"
	responses := append([]string{"POST /v1/responses", "GET,DELETE /v1/responses/*", "POST /v1/responses/*/cancel", "GET /v1/responses/*/input_items"}, chat...)
	models := func(holds string) statement.Probe {
		return statement.Probe{Method: "GET", Path: "/v1/models", Status: 401, Holds: holds}
	}
	return []Template{
		{
			Name: "openai", Doc: "OpenAI", Page: "https://platform.openai.com/docs/guides/error-codes", Dialect: "openai",
			Origin: "https://api.openai.com", Paths: responses, Probe: models("invalid_api_key"),
			Ways: []Way{
				{Source: "federation", Inject: bearer, URL: "https://auth.openai.com/oauth/token", Parameters: map[string]string{"exchange": "openai"}},
				{Source: "openai-key", Inject: bearer, URL: "https://api.openai.com/v1/organization/projects"},
				{Source: "sealed", Inject: bearer},
			},
		},
		{
			Name: "anthropic", Doc: "Anthropic", Page: "https://docs.claude.com/en/api/errors", Dialect: "anthropic",
			Origin: "https://api.anthropic.com",
			Paths:  []string{"POST /v1/messages", "POST /v1/messages/count_tokens", "GET /v1/models", "GET /v1/models/*"},
			Probe:  models("authentication_error"),
			Ways: []Way{
				// An access token goes as a bearer token beside a beta header; a key has a header of its own.
				{Source: "federation", Inject: statement.Inject{As: "bearer", With: []string{"anthropic-beta: oauth-2025-04-20"}},
					URL: "https://api.anthropic.com/v1/oauth/token", Parameters: map[string]string{"exchange": "anthropic"}},
				{Source: "sealed", Inject: header("x-api-key")},
			},
		},
		{
			Name: "openrouter", Doc: "OpenRouter", Page: "https://openrouter.ai/docs/api-reference/errors", Dialect: "openai",
			Origin: "https://openrouter.ai", Prefix: "/api", Paths: chat,
			Probe: statement.Probe{Method: "GET", Path: "/v1/key", Status: 401, Holds: "401"}, // models are public
			Ways: []Way{
				{Source: "federation", Inject: bearer, URL: "https://openrouter.ai/api/v1/oauth/token", Parameters: map[string]string{"exchange": "openrouter"}},
				{Source: "sealed", Inject: bearer},
			},
		},
		{
			Name: "bedrock", Doc: "Amazon Bedrock: signed requests of a role, or a bearer key", Page: "https://docs.aws.amazon.com/bedrock/latest/APIReference/CommonErrors.html",
			Origin: "https://bedrock-runtime.{region}.amazonaws.com",
			Paths:  []string{"POST /model/*/invoke", "POST /model/*/invoke-with-response-stream", "POST /model/*/converse", "POST /model/*/converse-stream"},
			Probe:  statement.Probe{Method: "GET", Path: "/async-invoke", Status: 403, Holds: "security token included in the request is"}, // invalid, or expired
			Ways: []Way{
				{Source: "federation", Inject: statement.Inject{As: "sigv4", Name: "bedrock", Region: "{region}"}, URL: "https://sts.{region}.amazonaws.com/", Parameters: map[string]string{"exchange": "aws"}},
				{Source: "sealed", Inject: bearer},
			},
		},
		{
			Name: "vertex", Doc: "Google Vertex AI", Page: "https://cloud.google.com/iam/docs/workload-identity-federation-with-other-providers",
			Origin: "https://{region}-aiplatform.googleapis.com",
			Paths:  []string{"POST /v1/projects/*/locations/*/publishers/*/models/*", "POST /v1/projects/*/locations/*/endpoints/*"},
			Probe:  statement.Probe{Method: "GET", Path: "/v1/projects/{project}/locations/{region}/models", Status: 401, Holds: "UNAUTHENTICATED"},
			Ways: []Way{{Source: "federation", Inject: bearer, URL: "https://sts.googleapis.com/v1/token",
				Parameters: map[string]string{"exchange": "google"}}},
		},
		{
			Name: "gemini", Doc: "Google Gemini API", Page: "https://ai.google.dev/gemini-api/docs/troubleshooting",
			Origin: "https://generativelanguage.googleapis.com", Paths: []string{"POST /v1beta/models/*", "GET /v1beta/models", "GET /v1beta/models/*"},
			Probe: statement.Probe{Method: "GET", Path: "/v1beta/models", Status: 400, Holds: "API_KEY_INVALID"},
			Ways:  []Way{{Source: "sealed", Inject: header("x-goog-api-key")}},
		},
		{
			Name: "azure", Doc: "Azure OpenAI and Foundry", Page: "https://learn.microsoft.com/azure/ai-foundry/openai/latest", Dialect: "openai",
			Origin: "https://{resource}.openai.azure.com", Prefix: "/openai", Paths: responses, Probe: models(""),
			Ways: []Way{
				{Source: "federation", Inject: bearer, URL: "https://login.microsoftonline.com/{directory}/oauth2/v2.0/token",
					Parameters: map[string]string{"exchange": "entra", "scope": "https://cognitiveservices.azure.com/.default"}},
				{Source: "sealed", Inject: header("api-key")},
			},
		},
		{
			Name: "databricks", Doc: "Databricks model serving", Page: "https://docs.databricks.com/dev-tools/auth/oauth-federation",
			Origin: "https://{workspace}", Paths: []string{"POST /serving-endpoints/*/invocations", "GET /api/2.0/serving-endpoints"},
			Probe: statement.Probe{Method: "GET", Path: "/api/2.0/serving-endpoints", Status: 401},
			Ways: []Way{
				{Source: "federation", Inject: bearer, URL: "https://{workspace}/oidc/v1/token", Parameters: map[string]string{"exchange": "databricks", "scope": "all-apis"}},
				{Source: "oauth", Inject: bearer, URL: "https://{workspace}/oidc/v1/token", Parameters: map[string]string{"grant": "client_credentials", "scope": "all-apis"}},
				{Source: "sealed", Inject: bearer},
			},
		},
		{
			Name: "huggingface", Doc: "Hugging Face inference providers", Page: "https://huggingface.co/docs/inference-providers", Dialect: "openai",
			Origin: "https://router.huggingface.co", Paths: chat, // its error for a bad token is not documented
			Ways: []Way{
				{Source: "federation", Inject: bearer, URL: "https://huggingface.co/oauth/token", Parameters: map[string]string{"exchange": "generic"}},
				{Source: "sealed", Inject: bearer},
			},
		},
		{
			Name: "github", Doc: "GitHub, as an app's installation", Page: "https://docs.github.com/apps/creating-github-apps/authenticating-with-a-github-app",
			Origin: "https://api.github.com",
			Paths: []string{"GET /repos/**", "POST /repos/*/*/issues", "POST /repos/*/*/issues/*/comments", "POST /repos/*/*/pulls", "GET /search/*",
				"GET /installation/repositories"},
			Probe: statement.Probe{Method: "GET", Path: "/installation/repositories", Status: 401, Holds: "Bad credentials"},
			Ways: []Way{
				{Source: "github-app", Inject: bearer, URL: "https://api.github.com/app/installations/{installation}/access_tokens"},
				{Source: "sealed", Inject: bearer},
			},
		},
		{
			Name: "slack", Doc: "Slack, as an app", Page: "https://docs.slack.dev/authentication/using-token-rotation",
			Origin: "https://slack.com", Paths: []string{"POST /api/chat.postMessage", "GET /api/conversations.list", "GET /api/conversations.history", "GET /api/users.info"},
			Probe: statement.Probe{Method: "POST", Path: "/api/auth.test", Status: 200, Holds: "token_revoked"},
			Ways: []Way{
				{Source: "oauth", Inject: bearer, URL: "https://slack.com/api/oauth.v2.access",
					Parameters: map[string]string{"grant": "refresh_token", "provider": "slack", "revocation": "/api/auth.revoke"}},
				{Source: "sealed", Inject: bearer},
			},
		},
		{
			Name: "vault", Doc: "any API whose secret OpenBao or Vault keeps or leases", Page: "https://openbao.org/api-docs/",
			Ways: []Way{{Source: "vault", Inject: bearer}},
		},
		{
			Name: "oauth", Doc: "any API behind an OAuth 2 token endpoint", Page: "https://www.rfc-editor.org/rfc/rfc6749",
			Ways: []Way{
				{Source: "oauth", Inject: bearer},
				{Source: "federation", Inject: bearer, Parameters: map[string]string{"exchange": "generic"}},
			},
		},
		{Name: "api", Doc: "any other API with a key that its owner hands over", Page: "https://www.rfc-editor.org/rfc/rfc6750", Ways: sealed},
		{Name: "mistral", Doc: "Mistral", Page: "https://docs.mistral.ai/api", Dialect: "openai", Origin: "https://api.mistral.ai", Paths: chat, Probe: models(""), Ways: sealed},
		{Name: "groq", Doc: "Groq", Page: "https://console.groq.com/docs/errors", Dialect: "openai", Origin: "https://api.groq.com", Prefix: "/openai", Paths: responses,
			Probe: models("invalid_api_key"), Ways: sealed},
		{Name: "xai", Doc: "xAI", Page: "https://docs.x.ai/docs/key-information/debugging", Dialect: "openai", Origin: "https://api.x.ai", Paths: responses,
			Probe: models(""), Ways: sealed},
		{Name: "openai-compatible", Doc: "whatever serves OpenAI's API", Page: "https://platform.openai.com/docs/api-reference", Dialect: "openai", Paths: responses, Ways: sealed},
	}
}
