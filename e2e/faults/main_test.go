// Package faults breaks the real processes and what they stand on: kill -9, full and failing disks, flipped bits, restored
// snapshots, a witness or an authority that is away. What is left is held against what was promised.
package faults

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
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
		err = build(dir, "")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "building the binaries:", err)
		return 1
	}
	return m.Run()
}

// build puts the binaries into dir, where every user may run them. overlay, if not empty, is a file for go build -overlay.
func build(dir, overlay string, programs ...string) error {
	if len(programs) == 0 {
		programs = []string{"reeve", "reeve-gateway", "reeve-custodian", "reeve-authority", "reeve-auditor"}
	}
	args := []string{"build", "-o", dir + "/"}
	if overlay != "" {
		args = append(args, "-overlay", overlay)
	}
	for _, p := range programs {
		args = append(args, "./cmd/"+p)
	}
	cmd := exec.Command("go", args...)
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	for _, p := range programs {
		if err := os.Chmod(filepath.Join(dir, p), 0o755); err != nil {
			return err
		}
	}
	return nil
}
