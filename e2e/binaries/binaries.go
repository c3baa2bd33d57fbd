// Package binaries builds reeve's programs for tests that run them.
package binaries

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// All are the programs.
func All() []string {
	return []string{"reeve", "reeve-gateway", "reeve-custodian", "reeve-authority", "reeve-auditor"}
}

// Build puts programs into dir, where every user may run them. overlay, if not empty, is a file for go build -overlay.
func Build(dir, overlay string, programs ...string) error {
	root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/reevehq/reeve").Output()
	if err != nil {
		return fmt.Errorf("finding the module's root: %w", err)
	}
	args := []string{"build", "-o", dir + "/"}
	if overlay != "" {
		args = append(args, "-overlay", overlay)
	}
	for _, p := range programs {
		args = append(args, "./cmd/"+p)
	}
	cmd := exec.Command("go", args...)
	cmd.Dir = strings.TrimSpace(string(root))
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
