// Package faults breaks the real processes and what they stand on: kill -9, full and failing disks, flipped bits, restored
// snapshots, a witness or an authority that is away. What is left is held against what was promised.
package faults

import (
	"fmt"
	"os"
	"testing"

	"github.com/reevehq/reeve/e2e/binaries"
)

// bin is the folder of the binaries, built once for all tests.
var bin string

// binVariable tells a test that runs in a process of its own where they are.
const binVariable = "REEVE_FAULTS_BIN"

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if bin = os.Getenv(binVariable); bin != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "reeve-faults-bin-")
	if err == nil {
		defer os.RemoveAll(dir)
		bin = dir
		err = binaries.Build(dir, "", binaries.All()...)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "building the binaries:", err)
		return 1
	}
	return m.Run()
}
