package estate

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/internal/reach"
)

// Each path is said once: a permit that gets conditions is a narrowing, one that loses them opens.
func TestCompare(t *testing.T) {
	path := func(workload string, conditional bool) reach.Path {
		return reach.Path{Workload: workload, Conditional: conditional}
	}
	none := []reach.Path{}
	for _, tt := range []struct {
		name                   string
		old, next              []reach.Path
		opens, narrows, closes []reach.Path
	}{
		{"nothing", []reach.Path{path("a", true)}, []reach.Path{path("a", true)}, none, none, none},
		{"a new one", nil, []reach.Path{path("a", true)}, []reach.Path{path("a", true)}, none, none},
		{"one is gone", []reach.Path{path("a", false)}, nil, none, none, []reach.Path{path("a", false)}},
		{"conditions come", []reach.Path{path("a", false)}, []reach.Path{path("a", true)}, none, []reach.Path{path("a", true)}, none},
		{"conditions go", []reach.Path{path("a", true)}, []reach.Path{path("a", false)}, []reach.Path{path("a", false)}, none, none},
		{"another's", []reach.Path{path("a", false)}, []reach.Path{path("b", true)}, []reach.Path{path("b", true)}, none, []reach.Path{path("a", false)}},
	} {
		opens, narrows, closes := compare(tt.old, tt.next)
		if d := cmp.Diff([][]reach.Path{tt.opens, tt.narrows, tt.closes}, [][]reach.Path{opens, narrows, closes}); d != "" {
			t.Errorf("%s: opens, narrows, closes (-want +got):\n%s", tt.name, d)
		}
	}
}
