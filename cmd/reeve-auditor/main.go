// Command reeve-auditor follows, verifies and cosigns the ledgers of an estate.
package main

import (
	"os"

	"github.com/reevehq/reeve/internal/auditor"
	"github.com/reevehq/reeve/internal/process"
)

func main() { os.Exit(process.Run(auditor.App())) }
