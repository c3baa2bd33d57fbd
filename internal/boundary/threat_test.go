package boundary

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every test that the threat model names exists: a claim whose test was renamed or removed is no claim.
func TestThreatModelNamesTests(t *testing.T) {
	root := filepath.Join("..", "..")
	text, err := os.ReadFile(filepath.Join(root, "docs", "threat-model.md"))
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`([a-z0-9/]+)\\.(Test[A-Za-z0-9]+)`").FindAllStringSubmatch(string(text), -1)
	if len(named) < 20 {
		t.Fatalf("the threat model names only %d tests", len(named))
	}
	for _, n := range named {
		if !declares(t, filepath.Join(root, filepath.FromSlash(n[1])), n[2]) {
			t.Errorf("the threat model names %s.%s, which is not there", n[1], n[2])
		}
	}
	for _, line := range strings.Split(string(text), "\n") {
		cells := strings.Split(line, "|")
		if len(cells) < 4 || strings.HasPrefix(cells[1], "---") || strings.Contains(line, "| tests |") {
			continue
		}
		tests := cells[len(cells)-2]
		if !strings.Contains(tests, "Test") && !strings.Contains(tests, "the drill") && strings.TrimSpace(tests) != "–" {
			t.Errorf("a line of the threat model names no test: %s", line)
		}
	}
}

func declares(t *testing.T, dir, name string) bool {
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(b), "\nfunc "+name+"(t *testing.T)") {
			return true
		}
	}
	return false
}
