package register

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A vendor's gateway can do what no live verdict has seen it without.
func TestEffective(t *testing.T) {
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	verdict := &Verdict{Unseen: []Flag{Retrieve, Mint}}
	for name, c := range map[string]struct {
		kind   Kind
		probed time.Time
		want   []Flag
		unseen []Flag
	}{
		"a vendor's":                {Vendor, now.Add(time.Hour), []Flag{Transport, Forward, Retrieve, Mint}, []Flag{Mint}},
		"a vendor's, over":          {Vendor, now, Flags, nil},
		"another team's, as before": {Foreign, now.Add(time.Hour), []Flag{Transport, Forward, Retrieve}, nil},
	} {
		x := Component{Kind: c.kind, Declared: []Flag{Transport}, Discovered: []Flag{Forward}, Observed: []Flag{Retrieve}, Probed: c.probed, Verdict: verdict}
		if d := cmp.Diff(c.want, x.Effective(now)); d != "" {
			t.Errorf("%s: (-want +got) %s", name, d)
		}
		if d := cmp.Diff(c.unseen, x.Unseen(now)); d != "" {
			t.Errorf("%s: unseen (-want +got) %s", name, d)
		}
	}
}
