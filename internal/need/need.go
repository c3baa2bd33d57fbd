// Package need is for tests that depend on a part of the machine: Node, strace, nginx, root. A test names what it needs; where
// that is missing it is skipped with the reason, or fails when $REEVE_REQUIRE (a comma-separated list, or "all") names the part.
package need

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Part skips the test, or fails it, when one of the parts is missing. Parts: root, linux, node (20 or later), cc, userns,
// postgres, and every program by its name, such as strace or nginx.
func Part(t testing.TB, parts ...string) {
	t.Helper()
	for _, part := range parts {
		err := have(part)
		switch {
		case err == nil:
		case required(part):
			t.Fatalf("%s is required ($REEVE_REQUIRE) and missing: %v", part, err)
		default:
			t.Skipf("needs %s: %v", part, err)
		}
	}
}

// Real is Part for the tests that `make test-real` runs: those that need servers, system calls traced or file systems mounted.
// Such a test's name begins with TestReal.
func Real(t testing.TB, parts ...string) {
	t.Helper()
	if !strings.HasPrefix(t.Name(), "TestReal") {
		t.Fatalf("%s: the name of a test that calls need.Real begins with TestReal", t.Name())
	}
	if os.Getenv("REEVE_REAL") == "" {
		t.Skip("run by make test-real")
	}
	Part(t, parts...)
}

func required(part string) bool {
	list := strings.Split(os.Getenv("REEVE_REQUIRE"), ",")
	return slices.Contains(list, part) || slices.Contains(list, "all")
}

// have is nil when the part is there.
func have(part string) error {
	switch part {
	case "root":
		if os.Geteuid() != 0 {
			return fmt.Errorf("running as uid %d", os.Geteuid())
		}
		return nil
	case "linux":
		if runtime.GOOS != "linux" {
			return fmt.Errorf("running on %s", runtime.GOOS)
		}
		return nil
	case "node":
		return node()
	case "cc":
		_, err := exec.LookPath("cc")
		return err
	case "userns":
		return exec.Command("unshare", "--user", "--map-root-user", "true").Run()
	case "postgres":
		_, err := Postgres()
		return err
	}
	_, err := exec.LookPath(part)
	return err
}

// Postgres is the folder of PostgreSQL's programs: that of initdb in $PATH, or where Debian puts the newest.
func Postgres() (string, error) {
	if path, err := exec.LookPath("initdb"); err == nil {
		path, err = filepath.EvalSymlinks(path)
		return filepath.Dir(path), err
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		return "", errors.New("no initdb in $PATH or /usr/lib/postgresql")
	}
	return filepath.Dir(found[len(found)-1]), nil
}

// node is nil for Node 20 or later with npm.
func node() error {
	if _, err := exec.LookPath("npm"); err != nil {
		return err
	}
	out, err := exec.Command("node", "--version").Output()
	if err != nil {
		return err
	}
	version := strings.TrimSpace(string(out))
	major, _, _ := strings.Cut(strings.TrimPrefix(version, "v"), ".")
	if n, err := strconv.Atoi(major); err != nil || n < 20 {
		return fmt.Errorf("node is %s, older than 20", version)
	}
	return nil
}
