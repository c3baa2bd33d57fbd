// Package openapi holds the descriptions of reeve's own HTTP interfaces.
package openapi

import _ "embed"

// Authority describes the authority's interface: OpenAPI 3.1, in YAML.
//
//go:embed authority.yaml
var Authority []byte
