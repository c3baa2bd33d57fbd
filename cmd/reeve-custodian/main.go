// Command reeve-custodian holds the credentials, decides each use by its own copy of the signed policy, and writes every use
// to its ledger before it happens.
package main

import (
	"os"

	"github.com/reevehq/reeve/internal/custodian/daemon"
	"github.com/reevehq/reeve/internal/process"
)

func main() { os.Exit(process.Run(daemon.App())) }
