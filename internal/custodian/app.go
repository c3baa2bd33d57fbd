package custodian

import (
	"context"
	"errors"

	"github.com/reevehq/reeve/internal/process"
)

// App is the custodian as a process.
func App() process.App[Config] {
	return process.App[Config]{
		Name:    "reeve-custodian",
		Check:   (*Config).check,
		Ops:     func(c *Config) string { return c.Ops },
		Confine: (*Config).confine,
		Run:     run,
	}
}

func run(ctx context.Context, rt *process.Runtime, cfg *Config) error {
	return errors.New("custodian: not built")
}
