package drill

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/reevehq/reeve/internal/audit/drills"
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

// A scenario that found nothing is held only when the same attack found something elsewhere, or did work where it may.
func TestVerdict(t *testing.T) {
	for _, c := range []struct {
		name          string
		reeve, double int
		lines         int
		controlled    bool
		state, word   string
	}{
		{"held", 0, 3, 1, false, drills.Held, "HELD"},
		{"found", 1, 3, 1, false, drills.NotHeld, "NOT HELD"},
		{"nothing found anywhere", 0, 0, 1, false, drills.Undecided, "UNDECIDED"},
		{"refusals after uses", 0, 0, 1, true, drills.Held, "HELD"},
		{"found after uses", 1, 0, 1, true, drills.NotHeld, "NOT HELD"},
		{"not played", 0, 0, 0, true, drills.Undecided, "UNDECIDED"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &Report{}
			for range c.lines {
				r.add(Line{ID: "S1", Place: "memory", Reeve: c.reeve, Double: c.double})
			}
			r.measure("took_ms", 7)
			r.end(Scenario{"S1", "one", c.controlled}, time.Second)
			r.end(Scenario{"S10", "ten", true}, time.Second) // without lines: never held
			r.Results = r.Results[:1]
			var out bytes.Buffer
			r.WriteTable(&out)
			last := out.String()[strings.LastIndex(strings.TrimSpace(out.String()), "\n")+1:]
			if got := r.Results[0]; got.State != c.state || got.Found != c.reeve || r.Held() != (c.state == drills.Held) || !strings.HasPrefix(last, c.word+":") || got.Figures["took_ms"] != 7 {
				t.Errorf("%+v, held %v, %q", got, r.Held(), last)
			}
		})
	}
	if new(Report).Held() {
		t.Error("a drill that played nothing held")
	}
}

// The catalogue has ten scenarios; each can be chosen, in the order in which they are played.
func TestChoose(t *testing.T) {
	var ids []string
	for _, s := range Scenarios() {
		ids = append(ids, s.ID)
	}
	if want := []string{"S1", "S2", "S3", "S4", "S5", "S6", "S7", "S8", "S9", "S10"}; !slices.Equal(ids, want) {
		t.Fatalf("%v", ids)
	}
	chosen, err := choose([]string{"S10", "S7"})
	if err != nil || len(chosen) != 2 || chosen[0].ID != "S7" {
		t.Fatalf("%v, %v", chosen, err)
	}
	if _, err := choose([]string{"S11"}); err == nil {
		t.Error("S11 was chosen")
	}
	if all, err := choose(nil); err != nil || len(all) != 10 || all[9].ID != "S10" {
		t.Errorf("%d, %v", len(all), err)
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
