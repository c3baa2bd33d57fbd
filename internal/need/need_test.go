package need

import "testing"

func TestRequired(t *testing.T) {
	for _, c := range []struct {
		list, part string
		want       bool
	}{{"", "root", false}, {"node,root", "root", true}, {"node", "root", false}, {"all", "strace", true}} {
		t.Setenv("REEVE_REQUIRE", c.list)
		if got := required(c.part); got != c.want {
			t.Errorf("REEVE_REQUIRE=%s: required(%s) = %v", c.list, c.part, got)
		}
	}
}

func TestMissingPartIsNamed(t *testing.T) {
	if have("no-such-program-as-this") == nil {
		t.Error("a program that does not exist was found")
	}
	if err := have("go"); err != nil {
		t.Errorf("go: %v", err)
	}
}
