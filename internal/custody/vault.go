package custody

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/reevehq/reeve/internal/statement"
)

func vault() Kind {
	return Kind{
		Name: "vault", Doc: "OpenBao or HashiCorp Vault: a version of a kv2 engine, or a lease of an engine that makes secrets; from.url is https://HOST/v1/ and the path that is read",
		Root:     "for login approle the secret id, or a wrapping token that holds it; nothing for the others",
		Standing: true,
		Parameters: []Parameter{
			{Name: "engine", Required: true, Values: []string{"kv2", "lease"}, Doc: "kv2 for a version of a key-value engine, lease for database, aws and others that lease"},
			{Name: "field", Required: true, Doc: "the member of data that is the secret, such as password"},
			{Name: "public", Doc: "the member that goes beside it in the clear, such as username or access_key"},
			{Name: "session", Doc: "the member that goes beside it and is secret, such as session_token"},
			{Name: "login", Required: true, Values: []string{"approle", "jwt", "kubernetes"}, Doc: "how the custodian logs in"},
			{Name: "role", Required: true, Doc: "the role of the login; for approle its role id"},
			{Name: "auth_path", Doc: "where the auth method is mounted; as login when left out"},
			{Name: "token", Doc: "for login jwt and kubernetes the file with the JWT in the unit's folder of the custodian's token_dir; when left out, its own token in Kubernetes, and for jwt one that the unit's federation key signs"},
			{Name: "audience", Doc: "whom the signed token for login jwt is for"},
			{Name: "wrapped", Doc: "says that the secret id is handed over in a wrapping, and which path made it, such as auth/approle/role/reeve/secret-id"},
			{Name: "namespace", Doc: "X-Vault-Namespace"},
			{Name: "audit", Values: []string{"unchecked"}, Doc: "lets a login through that may not list the audit devices; otherwise it needs read and sudo on sys/audit"},
			{Name: "destroy", Values: []string{"revoked"}, Doc: "has a version of kv2 destroyed in the vault when it is revoked here"},
		},
		Check: checkVault,
	}
}

func checkVault(c statement.Credential) error {
	no := func(format string, args ...any) error {
		return fmt.Errorf("%w: credential %s: "+format, append([]any{ErrRecord, c.ID}, args...)...)
	}
	p, kv := c.From.Parameters, c.From.Parameters["engine"] == "kv2"
	u, err := url.Parse(c.From.URL)
	if err != nil {
		return no("from.url: %w", err)
	}
	_, path, found := strings.Cut(u.EscapedPath(), "/v1/")
	switch {
	case !found || path == "" || strings.HasSuffix(path, "/") || u.RawQuery != "":
		return no("from.url is not https://HOST/v1/ and the path that is read, such as database/creds/readonly")
	case kv && !strings.Contains(path, "/data/"):
		return no("from.url has no /data/ behind the mount of the kv2 engine, as in https://HOST/v1/secret/data/openai")
	case kv && c.From.PerWorkload:
		return no("a kv2 engine holds one secret for all workloads; leave out from.per_workload")
	case !kv && p["destroy"] != "":
		return no("from.parameters.destroy is for engine kv2")
	case p["login"] == "approle" && p["token"] != "":
		return no("from.parameters.token is for login jwt and kubernetes")
	case strings.ContainsAny(p["token"], `/\`):
		return no("from.parameters.token is the name of a file in the unit's folder of the custodian's token_dir, not a path")
	case VaultFederates(c) != (p["audience"] != ""):
		return no("from.parameters.audience and login jwt without from.parameters.token go together")
	case p["wrapped"] != "" && p["login"] != "approle":
		return no("from.parameters.wrapped is for login approle")
	case p["wrapped"] != "" && c.From.Home == "":
		return no("a wrapping opens once, so from.home names the one custodian that opens it")
	}
	return nil
}

// VaultFederates reports whether the login of a record of source vault is by a token that the unit's federation key signs.
func VaultFederates(c statement.Credential) bool {
	p := c.From.Parameters
	return p["login"] == "jwt" && p["token"] == ""
}
