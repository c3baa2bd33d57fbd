package custody

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/reevehq/reeve/internal/statement"
)

func githubApp() Kind {
	return Kind{ // https://docs.github.com/en/rest/apps/apps#create-an-installation-access-token-for-an-app
		Name: "github-app", Doc: "a GitHub App gives installation access tokens of one hour",
		Root:     "the app's private key as GitHub gives it, in PEM",
		Standing: true,
		Parameters: []Parameter{
			{Name: "app", Required: true, Doc: "the app's client id, or its app id"},
			{Name: "repositories", Doc: "names of the repositories that the token is for, with blanks between; all of the installation's when left out"},
			{Name: "permissions", Doc: "what the token may, such as contents:read issues:write; all that the app may when left out"},
		},
		Check: checkGitHubApp,
	}
}

func checkGitHubApp(c statement.Credential) error {
	_, installation, _ := strings.Cut(strings.TrimSuffix(c.From.URL, "/access_tokens"), "/app/installations/")
	if n, err := strconv.ParseUint(installation, 10, 63); err != nil || n == 0 || !strings.HasSuffix(c.From.URL, "/access_tokens") {
		return fmt.Errorf("%w: credential %s: from.url %q is not https://api.github.com/app/installations/NUMBER/access_tokens, or that of another server", ErrRecord, c.ID, c.From.URL)
	}
	for one := range strings.FieldsSeq(c.From.Parameters["permissions"]) {
		if name, level, _ := strings.Cut(one, ":"); name == "" || level != "read" && level != "write" && level != "admin" {
			return fmt.Errorf("%w: credential %s: from.parameters.permissions %q is not a permission with its level, such as contents:read", ErrRecord, c.ID, one)
		}
	}
	return noLifetime(c)
}
