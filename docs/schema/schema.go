// Package schema has the JSON Schemas (2020-12) of the owners' files, for editors. What a statement may say,
// package statement and internal/custody decide; these are made from both.
package schema

import "embed"

// Files are <name>.json for charter, operations, policy and custody.
//
//go:embed *.json
var Files embed.FS
