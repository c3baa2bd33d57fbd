package dispatch

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/reevehq/reeve/entry"
)

// TestEnd: what a custodian's entries say of a credential's versions after the record, in the order in which they come.
func TestEnd(t *testing.T) {
	at := func(s int64) time.Time { return time.Unix(1000+s, 0).UTC() }
	version := func(s int64, lease, state string, expires int64) *entry.Entry {
		return &entry.Entry{Type: entry.Version, Credential: "x", Record: "r", Lease: lease, State: state, Expires: expires, TimeNS: at(s).UnixNano()}
	}
	probe := func(s int64, lease, reason string) *entry.Entry {
		return &entry.Entry{Type: entry.Outcome, Credential: "x", Lease: lease, Reason: reason, TimeNS: at(s).UnixNano()}
	}
	e := &End{Custodian: "c1", Versions: []Ended{}}
	take := func(entries ...*entry.Entry) {
		for _, x := range entries {
			e.Take(x, "x", "r")
		}
	}
	other := version(1, "a", "revoked-proven", 0)
	other.Credential = "y"
	rotated := version(1, "b", "revoked-unproven", 0)
	rotated.Record = ""
	take(other, rotated, &entry.Entry{Type: entry.Outcome, Credential: "x"}, probe(1, "of nobody", "refused"))
	if _, ok := e.LastUse(); ok || e.Proved() || len(e.Versions) != 0 {
		t.Errorf("nothing was said: %+v", e)
	}
	take(version(1, "a", "frozen", 0), version(1, "b", "frozen", 1500), version(2, "a", "revoked-unproven", 0))
	if !e.Provider().IsZero() {
		t.Error("one has not been ended at its source")
	}
	take(version(3, "b", "revoked-unproven", 1500))
	if _, ok := e.LastUse(); ok || e.Proved() || !e.Provider().Equal(at(3)) {
		t.Errorf("a has no end of its own: %+v", e)
	}
	take(probe(4, "a", "refused"), probe(64, "a", "works"), probe(124, "a", "refused"), probe(184, "a", "refused"), version(184, "a", "revoked-proven", 0), version(185, "a", "destroyed", 0))
	last, ok := e.LastUse()
	if !ok || !last.Equal(at(500)) || e.Proved() {
		t.Errorf("b lives to its own end: %v, %v", last, ok)
	}
	take(probe(200, "b", "refused"), probe(260, "b", "refused"), version(260, "b", "revoked-proven", 1500))
	if last, ok = e.LastUse(); !ok || !last.Equal(at(200)) || !e.Proved() {
		t.Errorf("the first probe of the two tells: %v, %v", last, ok)
	}
	want := []Ended{{Lease: "a", State: "destroyed", Provider: at(2), Refused: at(124), Proven: at(184)}, {Lease: "b", State: "revoked-proven", Provider: at(3), Refused: at(200), Proven: at(260), Expires: at(500)}}
	if diff := cmp.Diff(want, e.Versions); diff != "" {
		t.Error(diff)
	}
}
