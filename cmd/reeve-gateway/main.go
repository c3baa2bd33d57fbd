// Command reeve-gateway speaks the client APIs, authenticates workloads, chooses credentials by name and hands requests to the
// custodian. It holds no downstream secret.
package main

import (
	"os"

	"github.com/reevehq/reeve/internal/gateway"
	"github.com/reevehq/reeve/internal/process"
)

func main() { os.Exit(process.Run(gateway.App())) }
