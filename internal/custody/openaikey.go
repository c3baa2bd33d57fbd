package custody

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/reevehq/reeve/internal/statement"
)

func openAIKey() Kind {
	return Kind{
		Name: "openai-key", Doc: "keys of service accounts in an OpenAI project, made and deleted by the admin API; from.lifetime is how long one lives, an hour when left out",
		Root: "an admin key of the organisation", Standing: true,
		Parameters: []Parameter{{Name: "project", Required: true, Doc: "the project's id, proj_…"}},
		Check:      checkOpenAIKey,
	}
}

func checkOpenAIKey(c statement.Credential) error {
	no := func(format string, args ...any) error {
		return fmt.Errorf("%w: credential %s: "+format, append([]any{ErrRecord, c.ID}, args...)...)
	}
	u, err := url.Parse(c.From.URL)
	switch life := time.Duration(c.From.Lifetime); {
	case err != nil:
		return no("from.url: %w", err)
	case u.RawQuery != "" || strings.HasSuffix(u.Path, "/"):
		return no("from.url is the address of projects, as in https://api.openai.com/v1/organization/projects")
	case !IsOpenAIID(c.From.Parameters["project"]):
		return no("from.parameters.project is no id of a project, proj_…")
	case life != 0 && (life < time.Minute || life > 365*24*time.Hour):
		return no("from.lifetime is %s; OpenAI's keys live for up to a year, and one is replaced after half of its life: no less than a minute", life)
	}
	return nil
}

// IsOpenAIID reports whether s may be an id of OpenAI's, such as proj_abc: one segment of a path, with no need to be escaped.
func IsOpenAIID(s string) bool {
	return s != "" && len(s) <= 128 && !strings.ContainsFunc(s, func(r rune) bool {
		return (r|0x20 < 'a' || r|0x20 > 'z') && (r < '0' || r > '9') && r != '_' && r != '-'
	})
}
