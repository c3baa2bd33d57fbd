package estate_test

import (
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/estate/estatetest"
)

func TestGrounds(t *testing.T) {
	e := estatetest.New(t)
	lock := hex.EncodeToString(e.Set.LockHash[:])
	g, err := e.Dir.Grounds(e.Set, lock, []string{"research"}, []string{"research/use.cedar#agent"})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range g.Statements {
		names = append(names, s.Statement)
	}
	if got := strings.Join(names, " "); got != "charter custody-research operations policy-research" {
		t.Error(got)
	}
	if len(g.Policies) != 1 || !strings.Contains(g.Policies[0].Text, "permit") || g.Policies[0].Statement != "policy-research" || g.Policies[0].Line == 0 {
		t.Errorf("%+v", g.Policies)
	}
	if len(g.Lock.Approvals) < 2 {
		t.Errorf("%+v", g.Lock)
	}
	if _, err := e.Dir.Grounds(e.Set, strings.Repeat("0", 64), nil, nil); !errors.Is(err, estate.ErrNoLock) {
		t.Errorf("a lock that the store does not have: %v", err)
	}
	for _, id := range []string{"support/use.cedar#agent", "research/use.cedar#none", "research/none.cedar#agent", "nonsense"} {
		if _, err := e.Dir.Grounds(e.Set, lock, []string{"research"}, []string{id}); err == nil {
			t.Errorf("the policy %s was found", id)
		}
	}
	// Words that nobody signed are not quoted.
	file := filepath.Join(e.Dir.Signed(), "policy-research", "1", "use.cedar")
	text, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(file, append(text, "// more\n"...), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Dir.Grounds(e.Set, lock, []string{"research"}, []string{"research/use.cedar#agent"}); err == nil || !strings.Contains(err.Error(), "is not the file that was signed") {
		t.Errorf("an altered policy file: %v", err)
	}
}
