package credential

import (
	"net/url"
	"os"
	"strings"

	"github.com/reevehq/reeve/internal/custody"
	"github.com/reevehq/reeve/internal/statement"
)

// Identity is what the tokens that a custodian signs for a credential say, for the trust rule of a provider. Empty members are not known.
type Identity struct {
	Issuer   string `json:"issuer"`   // iss
	Subject  string `json:"subject"`  // sub
	Audience string `json:"audience"` // aud
	JWKS     string `json:"jwks"`     // the key set file
}

// Step is something to do at the provider.
type Step struct {
	Do    string `json:"do"`              // for a person
	Paste string `json:"paste,omitempty"` // command or document, with <WORD> for what only he knows
}

// Setup is what has to be done at the provider before a filled record works, in order.
func Setup(c statement.Credential, id Identity) (steps []Step) {
	kind := c.Source
	if kind == "federation" {
		kind = c.From.Parameters["exchange"]
	}
	if kind == "vault" {
		kind += "-" + c.From.Parameters["login"]
		if kind == "vault-jwt" && c.From.Parameters["token"] != "" {
			kind += "-token"
		}
	}
	if kind == "oauth" && c.From.Parameters["provider"] != "" {
		kind = c.From.Parameters["provider"]
	}
	known := words(c, id)
	for _, s := range setups()[kind] {
		expand := func(text string) string {
			return os.Expand(text, func(name string) string {
				if v := known[name]; v != "" {
					return v
				}
				return "<" + strings.ToUpper(name) + ">"
			})
		}
		steps = append(steps, Step{expand(s.Do), expand(s.Paste)})
	}
	return steps
}

// words are what the texts below may name: the record's parameters, and these.
func words(c statement.Credential, id Identity) map[string]string {
	m := map[string]string{}
	for name, value := range c.From.Parameters {
		m[name] = value
	}
	m["credential"], m["issuer"], m["subject"], m["audience"], m["jwks"] = c.ID, id.Issuer, id.Subject, id.Audience, id.JWKS
	if u, err := url.Parse(id.Issuer); err == nil {
		m["issuer_path"] = u.Host + u.Path // as AWS names it
	}
	m["test"] = "sub == '" + id.Subject + "'" // CEL
	if prefix, several := strings.CutSuffix(id.Subject, "*"); several {
		m["test"] = "sub.startsWith('" + prefix + "')"
	}
	if u, err := url.Parse(c.From.URL); err == nil {
		_, path, _ := strings.Cut(u.Path, "/v1/")
		m["path"] = path
	}
	if m["auth_path"] == "" {
		m["auth_path"] = c.From.Parameters["login"]
	}
	return m
}

// setups are the steps by source, federation by its exchange. Each follows the provider's document that custody has for it.
func setups() map[string][]Step {
	federated := []Step{
		{"Have the provider trust this unit's issuer, with the key set uploaded where it takes one, and let this subject exchange its tokens:",
			"issuer:   ${issuer}\naudience: ${audience}\nsubject:  ${subject}\nkey set:  ${jwks}"},
	}
	policy := Step{"Let the login read no more than it has to (policy.hcl), list the audit devices, and look after its own leases:",
		"path \"${path}\"         { capabilities = [\"read\"] }\npath \"sys/audit\"       { capabilities = [\"read\", \"sudo\"] }\npath \"sys/leases/renew\"  { capabilities = [\"update\"] }\npath \"sys/leases/revoke\" { capabilities = [\"update\"] }"}
	write := Step{"", "bao policy write reeve-${credential} policy.hcl"}
	return map[string][]Step{
		"sealed": {{"Make a key at the provider for this credential alone, with no more rights than its paths need.", ""}},
		"anthropic": {
			{"Create a federation issuer in the Console (Settings, Workload identity) with the key set inline or by discovery:", "issuer:  ${issuer}\nkey set: ${jwks}"},
			{"Create a service account that is a member of one workspace, and a rule for it (POST /v1/organizations/federation_rules):", `{
  "name": "reeve-${credential}",
  "issuer_id": "<ISSUER_ID>",
  "match": {
    "audience": "${audience}",
    "condition": "claims.${test}"
  },
  "target": {"type": "service_account", "service_account_id": "${service_account_id}"},
  "oauth_scope": "workspace:inference",
  "token_lifetime_seconds": 900
}`},
			{"To end it: archive the rule. It stops new tokens; those that are out live to their end.", ""},
		},
		"openai": {
			{"Create a workload identity provider (POST /v1/organization/workload_identity_providers) with the key set in the place of the list of keys:", `{
  "name": "reeve-${credential}",
  "type": "oidc",
  "issuer": "${issuer}",
  "audience": "${audience}",
  "verification": {"type": "uploaded_jwks", "jwks": {"keys": [<KEYS of ${jwks}>]}}
}`},
			{"Map the subject to a service account of one project (Settings, Security, Workload Identity Provider):", "sub = ${subject}  ->  ${service_account_id}"},
		},
		"openrouter": {{"Add a federation policy (Settings, Workload identity) that names the issuer, audience and subject, for one API key with a limit:",
			"issuer:   ${issuer}\naudience: ${audience}\nsubject:  ${subject}"}},
		"aws": {
			{"Publish the discovery document and the key set below the issuer, where AWS reads them. Then:", "aws iam create-open-id-connect-provider --url ${issuer} --client-id-list ${audience}"},
			{"Create the role ${role_arn} with this trust policy (trust.json):", `{
  "Version": "2012-10-17",
  "Statement": [{
    "Effect": "Allow",
    "Principal": {"Federated": "arn:aws:iam::<ACCOUNT>:oidc-provider/${issuer_path}"},
    "Action": "sts:AssumeRoleWithWebIdentity",
    "Condition": {
      "StringEquals": {"${issuer_path}:aud": "${audience}"},
      "StringLike": {"${issuer_path}:sub": "${subject}"}
    }
  }]
}`},
			{"", "aws iam create-role --role-name <ROLE> --assume-role-policy-document file://trust.json --max-session-duration 3600"},
			{"Let it invoke models and nothing else:", `{
  "Version": "2012-10-17",
  "Statement": [{
    "Effect": "Allow",
    "Action": ["bedrock:InvokeModel", "bedrock:InvokeModelWithResponseStream"],
    "Resource": "arn:aws:bedrock:*::foundation-model/*"
  }]
}`},
			{"To end sessions that are out: deny the role everything where aws:TokenIssueTime is earlier than now.", ""},
		},
		"google": {
			{"Create a pool and a provider that trusts the uploaded key set. A subject has at most 127 characters there:",
				"gcloud iam workload-identity-pools create <POOL> --location=global\n" +
					"gcloud iam workload-identity-pools providers create-oidc <PROVIDER> --location=global --workload-identity-pool=<POOL> \\\n" +
					"  --issuer-uri='${issuer}' --allowed-audiences='${audience}' --jwk-json-path=jwks.json \\\n" +
					"  --attribute-mapping='google.subject=assertion.sub' --attribute-condition=\"assertion.${test}\""},
			{"Let the subject act as the service account:",
				"gcloud iam service-accounts add-iam-policy-binding ${service_account} --role=roles/iam.workloadIdentityUser \\\n" +
					"  --member='principal://iam.googleapis.com/projects/<PROJECT_NUMBER>/locations/global/workloadIdentityPools/<POOL>/subject/${subject}'"},
			{"And let the service account use models:", "gcloud projects add-iam-policy-binding <PROJECT> --role=roles/aiplatform.user --member='serviceAccount:${service_account}'"},
		},
		"entra": {
			{"Publish the discovery document and the key set below the issuer, where Entra reads them. Then:",
				"az ad app federated-credential create --id ${client_id} --parameters '{\n  \"name\": \"reeve-${credential}\",\n  \"issuer\": \"${issuer}\",\n  \"subject\": \"${subject}\",\n  \"audiences\": [\"${audience}\"]\n}'"},
			{"Let the application use models of one resource:", "az role assignment create --assignee ${client_id} --role 'Cognitive Services OpenAI User' --scope <RESOURCE_ID>"},
		},
		"databricks": {{"Give the service principal a federation policy:",
			"databricks account service-principal-federation-policy create <SERVICE_PRINCIPAL_ID> --json '{\"oidc_policy\": {\n  \"issuer\": \"${issuer}\",\n  \"audiences\": [\"${audience}\"],\n  \"subject\": \"${subject}\"\n}}'"}},
		"generic":    federated,
		"openai-key": {{"Make an admin key with the right to manage service accounts of this project only. Hand it over: the custodian makes and deletes the project's keys with it.", ""}},
		"oauth": {{"Register a client for this credential alone at the provider, for this grant and no more scopes than it needs:",
			"grant:          ${grant}\nclient id:      ${client_id}\nauthentication: ${authentication}\nscope:          ${scope}"}},
		"slack": {{"Turn token rotation on for the app (OAuth & Permissions), install it with no more scopes than it needs, and take the refresh token and the client secret.", ""}},
		"github-app": {
			{"Create a GitHub App (Settings, Developer settings) without webhook and user authorization, with these permissions, and install it on these repositories only:",
				"permissions:  ${permissions}\nrepositories: ${repositories}"},
			{"Generate a private key of the app. What is handed over is one line of JSON:", "jq -cRs '{private_key: .}' < app.private-key.pem"},
		},
		"vault-approle": {policy, write,
			{"", "bao auth enable -path=${auth_path} approle\nbao write auth/${auth_path}/role/<ROLE> token_policies=reeve-${credential} token_ttl=15m token_max_ttl=1h secret_id_ttl=2160h"},
			{"Read the role id (${role} in this record) and make the secret id that is handed over:", "bao read auth/${auth_path}/role/<ROLE>/role-id\nbao write -f -field=secret_id auth/${auth_path}/role/<ROLE>/secret-id"}},
		"vault-jwt": {policy, write,
			{"Bind the role to what the unit's custodians say of this credential:", "bao auth enable -path=${auth_path} jwt\nbao write auth/${auth_path}/config jwks_url=${jwks} bound_issuer=${issuer}\n" +
				"bao write auth/${auth_path}/role/${role} role_type=jwt user_claim=sub bound_subject=${subject} bound_audiences=${audience} \\\n  token_policies=reeve-${credential} token_ttl=15m token_max_ttl=1h"}},
		"vault-jwt-token": {policy, write,
			{"Bind the role to the token that the file ${token} holds in the custodian's token_dir:", "bao auth enable -path=${auth_path} jwt\nbao write auth/${auth_path}/config oidc_discovery_url=<ISSUER of that token>\n" +
				"bao write auth/${auth_path}/role/${role} role_type=jwt user_claim=sub bound_subject=<SUBJECT of that token> bound_audiences=<AUDIENCE of that token> \\\n  token_policies=reeve-${credential} token_ttl=15m token_max_ttl=1h"}},
		"vault-kubernetes": {policy, write,
			{"", "bao auth enable -path=${auth_path} kubernetes\nbao write auth/${auth_path}/role/${role} bound_service_account_names=<SERVICE_ACCOUNT> bound_service_account_namespaces=<NAMESPACE> \\\n  token_policies=reeve-${credential} token_ttl=15m token_max_ttl=1h"}},
	}
}

// IdentityOf is what the unit's custodians say for a filled record, with "*" for the workload where each gets a secret of its own. It is
// empty for a unit without a federation.
func IdentityOf(unit *statement.CustodyStatement, c *statement.Credential) Identity {
	f := unit.Federation
	exchange, ok := custody.FindExchange(c.From.Parameters["exchange"])
	if f == nil || !(c.Source == "federation" && ok || c.Source == "vault" && custody.VaultFederates(*c)) {
		return Identity{}
	}
	id := Identity{Issuer: f.Issuer, Subject: f.Subject(unit.Unit, c.ID, ""), Audience: c.From.Parameters["audience"], JWKS: f.Issuer + "/jwks.json"}
	if c.From.PerWorkload && c.Source == "federation" {
		id.Subject = f.Subject(unit.Unit, c.ID, "*")
	}
	if id.Audience == "" {
		id.Audience = exchange.Audience
	}
	return id
}
