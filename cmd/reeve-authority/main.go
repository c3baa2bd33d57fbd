// Command reeve-authority publishes an estate's signed statements and records, and the heartbeats that make silence visible.
package main

import (
	"os"

	"github.com/reevehq/reeve/internal/authority"
	"github.com/reevehq/reeve/internal/process"
)

func main() { os.Exit(process.Run(authority.App())) }
