// Package custody knows what a custody record means beyond its form: what a template fills in, and what each kind of source needs to be
// told. The custodian and the people who sign read a record alike because both ask here.
package custody

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/reevehq/reeve/internal/statement"
)

// ErrRecord is wrapped by every refusal of a custody record.
var ErrRecord = errors.New("refused custody record")

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
		return c, fmt.Errorf("%w: credential %s: unknown template %q; there are openai, anthropic and openai-compatible", ErrRecord, c.ID, c.Template)
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
