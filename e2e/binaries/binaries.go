// Package binaries builds reeve's programs for tests that run them.
package binaries

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// All are the programs.
func All() []string {
	return []string{"reeve", "reeve-gateway", "reeve-custodian", "reeve-authority", "reeve-auditor"}
}

// Build puts programs into dir, where every user may run them. overlay, if not empty, is a file for go build -overlay.
func Build(dir, overlay string, programs ...string) error {
	_, self, _, ok := runtime.Caller(0)
	if !ok {
		return errors.New("finding the module's root")
	}
	args := []string{"build", "-o", dir + "/"}
	if overlay != "" {
		args = append(args, "-overlay", overlay)
	}
	for _, p := range programs {
		args = append(args, "./cmd/"+p)
	}
	cmd := exec.Command("go", args...)
	cmd.Dir = filepath.Join(filepath.Dir(self), "..", "..")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building %v: %w: %s", programs, err, out)
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
