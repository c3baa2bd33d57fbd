package custody

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Exchange is how one provider gives a short-lived secret for a token that the custodian signed. What providers do differently is
// said here and nowhere else.
type Exchange struct {
	Name string
	Doc  string // one line for a person, with the document that it follows
	URL  string // the provider's endpoint, where it is the same for everybody
	// Audience is the token's aud where the record names none; empty: it has to.
	Audience  string
	Algorithm string        // of the token's signature where the record names none
	Lifetime  time.Duration // what is asked for where the record says nothing: the shortest that the provider gives or that is of use
	Form      string        // of the request: json or form
	Header    [][2]string
	Fields    []Field
	Answer    Answer
	// Then is a second step that takes the first one's token as its bearer, where the record has the parameter If.
	Then *Step
	// Parameters are those of the record besides the kind's own.
	Parameters []Parameter
}

// Field is one member of a request. Without a value it is left out.
type Field struct {
	Name string
	From string // a parameter of the record, or one of the words below; empty for none
	Is   string // the value where From gives none
	As   string // how the value is written: a string (the default), number, list or duration
}

// Words of Field.From that are no parameters.
const (
	FromToken    = "the token"    // that the custodian signed
	FromLifetime = "the lifetime" // in seconds
	FromSession  = "the session"  // names the credential and the workload in the provider's log
)

// Answer is what a provider answers with.
type Answer struct {
	Form    string // json, or sts: the XML of AWS's security token service
	Secret  string // member with the secret
	Seconds string // member with its life in seconds, or
	Until   string // member with its end (RFC 3339)
	Type    string // member that says "Bearer", where there is one
}

// Step is an exchange's second request, to another endpoint with the networks and roots of the first.
type Step struct {
	If     string // the parameter without which there is no second step; its value ends the URL's placeholder
	URL    string // with {} for the parameter's value
	At     string // the parameter that replaces the URL's origin
	Form   string
	Fields []Field
	Answer Answer
}

const (
	grantExchange = "urn:ietf:params:oauth:grant-type:token-exchange" // RFC 8693, section 2.1
	grantBearer   = "urn:ietf:params:oauth:grant-type:jwt-bearer"     // RFC 7523, section 2.1
	clientBearer  = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
	typeJWT       = "urn:ietf:params:oauth:token-type:jwt"
	typeAccess    = "urn:ietf:params:oauth:token-type:access_token"
)

// tokenAnswer is the answer of RFC 6749, section 5.1.
func tokenAnswer() Answer {
	return Answer{Form: "json", Secret: "access_token", Seconds: "expires_in", Type: "token_type"}
}

// Exchanges are those that a record's from.parameters.exchange may name.
func Exchanges() []Exchange {
	exchange := func(subject ...Field) []Field {
		return append([]Field{{Name: "grant_type", Is: grantExchange}, {Name: "subject_token_type", Is: typeJWT}, {Name: "subject_token", From: FromToken}}, subject...)
	}
	return []Exchange{
		{
			Name: "openai", Doc: "developers.openai.com/api/reference/workload-identity-federation",
			URL: "https://auth.openai.com/oauth/token", Audience: "https://api.openai.com/v1", Algorithm: "ES256", Lifetime: 5 * time.Minute, // lives no longer than our token
			Form: "json", Fields: exchange(Field{Name: "identity_provider_id", From: "identity_provider_id"}, Field{Name: "service_account_id", From: "service_account_id"}),
			Answer: tokenAnswer(),
			Parameters: []Parameter{
				{Name: "identity_provider_id", Required: true, Doc: "OpenAI's id of the workload identity provider that has this unit's issuer"},
				{Name: "service_account_id", Required: true, Doc: "OpenAI's id of the service account that the token is mapped to"},
			},
		},
		{
			Name: "anthropic", Doc: "platform.claude.com/docs/en/manage-claude/wif-reference",
			URL: "https://api.anthropic.com/v1/oauth/token", Audience: "https://api.anthropic.com", Algorithm: "ES256", Lifetime: time.Minute, // the rule's token_lifetime_seconds says how long the secret lives
			Form: "json", Header: [][2]string{{"anthropic-beta", "oidc-federation-2026-04-01"}},
			Fields: []Field{
				{Name: "grant_type", Is: grantBearer}, {Name: "assertion", From: FromToken}, {Name: "federation_rule_id", From: "federation_rule_id"},
				{Name: "organization_id", From: "organization_id"}, {Name: "service_account_id", From: "service_account_id"}, {Name: "workspace_id", From: "workspace_id"},
			},
			Answer: tokenAnswer(),
			Parameters: []Parameter{
				{Name: "federation_rule_id", Required: true, Doc: "Anthropic's id of the federation rule, fdrl_…"},
				{Name: "organization_id", Required: true, Doc: "the organization's UUID at Anthropic"},
				{Name: "service_account_id", Required: true, Doc: "Anthropic's id of the service account, svac_…"},
				{Name: "workspace_id", Doc: "Anthropic's id of the workspace, wrkspc_… or default; needed when the rule is for more than one"},
			},
		},
		{
			Name: "openrouter", Doc: "openrouter.ai/docs/guides/overview/auth/workload-identity-federation",
			URL: "https://openrouter.ai/api/v1/oauth/token", Audience: "https://openrouter.ai", Algorithm: "ES256", Lifetime: 5 * time.Minute, // lives no longer than our token
			Form: "form", Fields: exchange(Field{Name: "federation_policy_id", From: "federation_policy_id"}),
			Answer:     tokenAnswer(),
			Parameters: []Parameter{{Name: "federation_policy_id", Required: true, Doc: "OpenRouter's id of the federation policy"}},
		},
		{
			Name: "databricks", Doc: "docs.databricks.com/en/dev-tools/auth/oauth-federation-exchange",
			Algorithm: "ES256", Lifetime: 5 * time.Minute, // lives as long as our token
			Form: "form", Fields: exchange(Field{Name: "scope", From: "scope", Is: "all-apis"}, Field{Name: "client_id", From: "client_id"}),
			Answer:     tokenAnswer(),
			Parameters: []Parameter{{Name: "client_id", Doc: "the service principal's id, for a federation policy of its own"}, {Name: "scope", Doc: "other than all-apis"}},
		},
		{
			Name: "huggingface", Doc: "huggingface.co/docs/hub/trusted-publishers",
			URL: "https://huggingface.co/oauth/token", Audience: "https://huggingface.co", Algorithm: "RS256", Lifetime: 5 * time.Minute, // an hour, whatever is asked for
			Form: "form", Fields: exchange(Field{Name: "resource", From: "resource"}),
			Answer:     tokenAnswer(),
			Parameters: []Parameter{{Name: "resource", Required: true, Doc: "the user or the repository, namespace/name, that the token is for"}},
		},
		{
			Name: "google", Doc: "cloud.google.com/iam/docs/reference/sts/rest/v1/TopLevel/token, then iamcredentials generateAccessToken",
			URL: "https://sts.googleapis.com/v1/token", Algorithm: "ES256", Lifetime: 5 * time.Minute,
			Form: "form", Fields: exchange(Field{Name: "audience", From: "provider"}, Field{Name: "requested_token_type", Is: typeAccess}, Field{Name: "scope", From: "scope", Is: cloudPlatform}),
			Answer: tokenAnswer(),
			Then: &Step{
				If: "service_account", URL: "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{}:generateAccessToken", At: "credentials_origin",
				Form: "json", Fields: []Field{{Name: "scope", From: "scope", Is: cloudPlatform, As: "list"}, {Name: "lifetime", From: FromLifetime, As: "duration"}},
				Answer: Answer{Form: "json", Secret: "accessToken", Until: "expireTime"},
			},
			Parameters: []Parameter{
				{Name: "provider", Required: true, Doc: "//iam.googleapis.com/projects/…/locations/global/workloadIdentityPools/…/providers/…"},
				{Name: "scope", Doc: "other than " + cloudPlatform},
				{Name: "service_account", Doc: "e-mail of the service account to act as; without one the federated token itself is used"},
				{Name: "credentials_origin", Doc: "another origin than https://iamcredentials.googleapis.com"},
			},
		},
		{
			Name: "entra", Doc: "learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow, third case",
			Audience: "api://AzureADTokenExchange", Algorithm: "RS256", Lifetime: 5 * time.Minute, // the tenant says how long the secret lives
			Form: "form", Fields: []Field{
				{Name: "grant_type", Is: "client_credentials"}, {Name: "client_id", From: "client_id"}, {Name: "scope", From: "scope"},
				{Name: "client_assertion_type", Is: clientBearer}, {Name: "client_assertion", From: FromToken},
			},
			Answer: tokenAnswer(),
			Parameters: []Parameter{
				{Name: "client_id", Required: true, Doc: "the application's (client) id in the tenant"},
				{Name: "scope", Required: true, Doc: "such as https://cognitiveservices.azure.com/.default"},
			},
		},
		{
			Name: "aws", Doc: "docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html",
			Audience: "sts.amazonaws.com", Algorithm: "ES256", Lifetime: 15 * time.Minute, // DurationSeconds is 900 at least
			Form: "form", Header: [][2]string{{"Accept", "text/xml"}},
			Fields: []Field{
				{Name: "Action", Is: "AssumeRoleWithWebIdentity"}, {Name: "Version", Is: "2011-06-15"}, {Name: "RoleArn", From: "role_arn"},
				{Name: "RoleSessionName", From: FromSession}, {Name: "DurationSeconds", From: FromLifetime}, {Name: "Policy", From: "policy"},
				{Name: "WebIdentityToken", From: FromToken},
			},
			Answer: Answer{Form: "sts"},
			Parameters: []Parameter{
				{Name: "role_arn", Required: true, Doc: "arn:aws:iam::<account>:role/<name>"},
				{Name: "policy", Doc: "a session policy, JSON, that narrows the role"},
			},
		},
		{
			Name: "generic", Doc: "RFC 8693", Algorithm: "ES256", Lifetime: 5 * time.Minute,
			Form: "form", Fields: exchange(Field{Name: "audience", From: "target"}, Field{Name: "resource", From: "resource"}, Field{Name: "scope", From: "scope"}, Field{Name: "client_id", From: "client_id"}),
			Answer: tokenAnswer(),
			Parameters: []Parameter{
				{Name: "target", Doc: "the request's audience (RFC 8693, section 2.1)"}, {Name: "resource", Doc: "the request's resource"},
				{Name: "scope", Doc: "the request's scope"}, {Name: "client_id", Doc: "the request's client_id"},
			},
		},
	}
}

const cloudPlatform = "https://www.googleapis.com/auth/cloud-platform"

// FindExchange returns the exchange of that name.
func FindExchange(name string) (Exchange, bool) {
	all := Exchanges()
	i := slices.IndexFunc(all, func(e Exchange) bool { return e.Name == name })
	if i < 0 {
		return Exchange{}, false
	}
	return all[i], true
}

// Endpoint is the step's URL for a record's parameters.
func (s *Step) Endpoint(parameters map[string]string) (string, error) {
	who := parameters[s.If]
	if who == "" || strings.ContainsFunc(who, func(r rune) bool { return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789.-_@", r) }) {
		return "", fmt.Errorf("%w: from.parameters.%s %q is not an e-mail address", ErrRecord, s.If, who)
	}
	u, err := url.Parse(strings.Replace(s.URL, "{}", who, 1))
	if err != nil {
		return "", err
	}
	if at := parameters[s.At]; at != "" {
		other, err := url.Parse(at)
		if err != nil || at != "https://"+other.Host {
			return "", fmt.Errorf("%w: from.parameters.%s %q is not an origin: https://host[:port]", ErrRecord, s.At, at)
		}
		u.Host = other.Host
	}
	return u.String(), nil
}
