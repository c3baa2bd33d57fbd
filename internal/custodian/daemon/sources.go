package daemon

import (
	"fmt"

	"github.com/reevehq/reeve/internal/custodian/source"
	"github.com/reevehq/reeve/internal/custodian/source/federation"
	"github.com/reevehq/reeve/internal/custodian/source/githubapp"
	"github.com/reevehq/reeve/internal/custodian/source/oauth"
	"github.com/reevehq/reeve/internal/custodian/source/openaikey"
	"github.com/reevehq/reeve/internal/custodian/source/vault"
)

// newSource makes the source that a custody record names. internal/custody has the same kinds.
func newSource(c source.Config) (source.Source, error) {
	switch kind := c.Record.Source; kind {
	case "oauth":
		return oauth.New(c)
	case "github-app":
		return githubapp.New(c)
	case "federation":
		return federation.New(c)
	case "vault":
		return vault.New(c)
	case "openai-key":
		return openaikey.New(c)
	default:
		return nil, fmt.Errorf("this version knows no source %q", kind)
	}
}
