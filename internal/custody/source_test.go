package custody

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/reevehq/reeve/internal/statement"
)

func TestParameters(t *testing.T) {
	const app = "https://api.github.com/app/installations/"
	type words = map[string]string
	for _, tt := range []struct {
		name, source string
		url          string
		home         string
		each         bool
		words        words
		want         string // in the refusal; empty for none
	}{
		{"sealed", "sealed", "", "", false, nil, ""},
		{"an unknown source", "carrier-pigeon", "", "", false, nil, "carrier-pigeon"},
		{"client credentials", "oauth", "https://idp.example/token", "", true, words{"grant": "client_credentials", "client_id": "c"}, ""},
		{"without the client", "oauth", "https://idp.example/token", "", false, words{"grant": "client_credentials"}, "from.parameters.client_id"},
		{"an unknown grant", "oauth", "https://idp.example/token", "", false, words{"grant": "password", "client_id": "c"}, "client_credentials, refresh_token"},
		{"an unknown parameter", "oauth", "https://idp.example/token", "", false, words{"grant": "client_credentials", "client_id": "c", "scopes": "a"}, "from.parameters.scopes"},
		{"a revocation endpoint elsewhere", "oauth", "https://idp.example/token", "", false, words{"grant": "client_credentials", "client_id": "c", "revocation": "https://elsewhere.example/revoke"}, "from.parameters.revocation"},
		{"a refresh token", "oauth", "https://idp.example/token", "c1", false, words{"grant": "refresh_token", "client_id": "c"}, ""},
		{"a refresh token without home", "oauth", "https://idp.example/token", "", false, words{"grant": "refresh_token", "client_id": "c"}, "from.home"},
		{"a refresh token for each workload", "oauth", "https://idp.example/token", "c1", true, words{"grant": "refresh_token", "client_id": "c"}, "from.per_workload"},
		{"a GitHub App", "github-app", app + "42/access_tokens", "", false, words{"app": "Iv1.demo", "repositories": "one two", "permissions": "contents:read issues:write"}, ""},
		{"an installation that is no number", "github-app", app + "42/../1/access_tokens", "", false, words{"app": "Iv1.demo"}, "from.url"},
		{"a permission without level", "github-app", app + "42/access_tokens", "", false, words{"app": "Iv1.demo", "permissions": "contents"}, "from.parameters.permissions"},
	} {
		err := Check(statement.Credential{ID: "a", Source: tt.source, Inject: statement.Inject{As: "bearer"},
			Destination: statement.Destination{Origin: "https://api.example", Methods: []string{"GET"}, Paths: []string{"/"}},
			From:        statement.From{URL: tt.url, Home: tt.home, PerWorkload: tt.each, Parameters: tt.words}})
		if tt.want == "" && err != nil || tt.want != "" && (!errors.Is(err, ErrRecord) || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	for source, url := range map[string]string{"oauth": "https://idp.example/token", "github-app": app + "42/access_tokens"} {
		c := statement.Credential{ID: "a", Source: source, Inject: statement.Inject{As: "bearer"},
			Destination: statement.Destination{Origin: "https://api.example", Methods: []string{"GET"}, Paths: []string{"/"}},
			From:        statement.From{URL: url, Lifetime: statement.Duration(time.Hour), Parameters: words{"grant": "client_credentials", "client_id": "c", "app": "Iv1.demo"}}}
		kind, _ := FindKind(source)
		for name := range c.From.Parameters {
			if !slices.ContainsFunc(kind.Parameters, func(p Parameter) bool { return p.Name == name }) {
				delete(c.From.Parameters, name)
			}
		}
		if err := Check(c); !errors.Is(err, ErrRecord) || !strings.Contains(err.Error(), "from.lifetime") {
			t.Errorf("%s asks for a lifetime: %v", source, err)
		}
	}
}
