package isolation

import (
	"os"
	"testing"
	"time"

	"github.com/reevehq/reeve/internal/hop"
	"github.com/reevehq/reeve/internal/statement"
)

func TestNeed(t *testing.T) {
	for _, tt := range []struct {
		demo              bool
		charter, accepted string
		level             string
		used              bool
	}{
		{true, "none", "", None, true},
		{true, "", "", None, true},
		{true, "one-uid", "", None, false},
		{false, "", "", OneUID, false},
		{false, "none", "", OneUID, false},
		{false, "none", "", SeparateUID, true},
		{false, "none", "one-uid", OneUID, true},
		{false, "none", "one-uid", None, false},
		{false, "none", "none", None, true},
		{false, "host", "", SeparateUID, false},
		{false, "host", "separate-uid", SeparateUID, true},
		{false, "host", "", Host, true},
	} {
		charter := &statement.Charter{Demo: tt.demo, RequireIsolation: tt.charter}
		if got := Reaches(tt.level, Need(charter, tt.accepted)); got != tt.used {
			t.Errorf("%+v: used %v", tt, got)
		}
	}
}

func TestLevel(t *testing.T) {
	now := time.Unix(1, 0)
	own := os.Getuid()
	for _, tt := range []struct {
		name       string
		undumpable bool
		peer       hop.Peer
		want       string
	}{
		{"another machine", false, hop.Peer{UID: -1, Key: "pin", Apart: true}, Host},
		{"TLS on this machine", true, hop.Peer{UID: -1, Key: "pin"}, None},
		{"TLS on this machine, whatever its uid says", true, hop.Peer{UID: own + 1, Key: "pin"}, None},
		{"no uid and no key", true, hop.Peer{UID: -1}, None},
		{"another user", false, hop.Peer{UID: own + 1}, SeparateUID},
		{"this user, unconfined", true, hop.Peer{UID: own, PID: os.Getpid()}, None},
		{"this user, no such process", true, hop.Peer{UID: own, PID: 1 << 30}, None},
		{"this user, process not told", true, hop.Peer{UID: own}, None},
		{"root, unconfined", true, hop.Peer{UID: 0, PID: os.Getpid()}, None},
	} {
		if got := (&Judge{Undumpable: tt.undumpable}).Level(tt.peer, now); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

// TestJudgedAgain: a level is believed for a second, for that very peer.
func TestJudgedAgain(t *testing.T) {
	j, now := &Judge{}, time.Unix(1, 0)
	a, b := hop.Peer{UID: os.Getuid() + 1, PID: 1, Name: "g1"}, hop.Peer{UID: os.Getuid(), PID: 1, Name: "g2"}
	if j.Level(a, now) != SeparateUID || j.Level(b, now) != None || len(j.Seen()) != 2 {
		t.Error("wrong at first")
	}
	for _, first := range []bool{true, false} { // of two connections of one gateway the weaker counts, in either order
		two := &Judge{}
		two.Level(hop.Peer{UID: -1, Key: "pin", Apart: first, Name: "g3"}, now)
		two.Level(hop.Peer{UID: -1, Key: "pin", Apart: !first, Name: "g3"}, now)
		if got := two.Seen()["g3"]; got != None {
			t.Errorf("seen as %s", got)
		}
	}
	later := now.Add(2 * time.Second)
	if j.Level(b, later) != None || len(j.Seen()) != 1 {
		t.Errorf("an old judgement is kept: %v", j.Seen())
	}
}
