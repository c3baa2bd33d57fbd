package drill

import (
	"bytes"
	"strings"
	"testing"

	"github.com/reevehq/reeve/internal/drill/loot"
)

func survey(place string, hits int) *loot.Survey {
	s := &loot.Survey{Read: map[string]int{place: 1}, Denied: map[string]int{}}
	for range hits {
		s.Hits = append(s.Hits, loot.Hit{Place: place, Where: "somewhere", Secret: "c", Form: "raw"})
	}
	return s
}

// What a level does not defend is said, and only that: the same finding inside the gateway, or at another level, is a hit.
func TestJudge(t *testing.T) {
	for _, c := range []struct {
		name, level, who string
		hits             int
		reeve            int
		notHeld          bool
	}{
		{"clean", "separate-uid", "in the gateway", 0, 0, false},
		{"in the gateway", "one-uid", "in the gateway", 2, 2, false},
		{"beside, own users", "separate-uid", "beside the gateway", 1, 1, false},
		{"beside, one user", "one-uid", "beside the gateway", 3, 0, true},
		{"beside, one user, clean", "one-uid", "beside the gateway", 0, 0, false},
		{"another host", "host", "beside the gateway", 1, 1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &Report{Level: c.level}
			s := new(field).judge(r, c.who, "files", survey("files", c.hits), survey("files", 4))
			if s.Reeve != c.reeve || s.NotHeld != c.notHeld || len(r.NotHeld) > 0 != c.notHeld || s.Double != 4 {
				t.Errorf("%+v, not held %v", s, r.NotHeld)
			}
		})
	}
}

func TestVerdict(t *testing.T) {
	for _, c := range []struct {
		reeve, double int
		held          bool
		word          string
	}{
		{0, 3, true, "HELD"}, {1, 3, false, "NOT HELD"}, {0, 0, false, "UNDECIDED"},
	} {
		r := &Report{}
		r.add(Scenario{ID: "S1", Place: "memory", Reeve: c.reeve, Double: c.double})
		var out bytes.Buffer
		r.WriteTable(&out)
		last := out.String()[strings.LastIndex(strings.TrimSpace(out.String()), "\n")+1:]
		if r.Held() != c.held || !strings.HasPrefix(last, c.word+":") {
			t.Errorf("%d and %d hits: held %v, %q", c.reeve, c.double, r.Held(), last)
		}
	}
}

// The forms that S4 asks for are the upstream's: a typing error would ask for nothing and find nothing.
func TestReflectionsAreTheUpstreams(t *testing.T) {
	if err := checkReflections(); err != nil {
		t.Error(err)
	}
}

func TestLookOverLineEnds(t *testing.T) {
	for _, text := range []string{"abc\r\ndefgh", `abc\r\ndefgh`, "abcdefgh"} {
		var a Answer
		if a.look(loot.Needles("s", []byte("abcdefgh")), []byte("x "+text+" y")); len(a.Found) != 1 {
			t.Errorf("%q: %v", text, a.Found)
		}
	}
}

func TestJoinDeltas(t *testing.T) {
	body := `data: {"choices":[{"delta":{"content":"a\u0062"}}]}` + "\n\n" + `data: {"delta":{"text":"c\"d"}}` + "\n\n"
	if got := string(joinDeltas([]byte(body))); got != `abc"d` {
		t.Errorf("joined %q", got)
	}
}
