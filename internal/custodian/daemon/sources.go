package daemon

import (
	"fmt"

	"github.com/reevehq/reeve/internal/custodian/source"
)

// newSource makes the source that a custody record names. internal/custody has the same kinds.
func newSource(c source.Config) (source.Source, error) {
	switch kind := c.Record.Source; kind {
	default:
		return nil, fmt.Errorf("this version knows no source %q", kind)
	}
}
