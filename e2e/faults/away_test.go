package faults

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/demo"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/statement"
)

// bound is the witness fuse, and how old news of revocations may be for a credential of the class normal.
const bound = 30 * time.Second

// extension is the file of a record that lengthens the witness fuse or the feed bound.
func (s *site) extension(what string, by time.Duration, people ...string) []byte {
	s.Helper()
	now := time.Now().UTC().Truncate(time.Second)
	return s.seal("extension", statement.Extension{Estate: demo.ID, Custodian: demo.Processes.Custodian, What: what,
		Until: now.Add(by), Created: now, Reason: "the machine room is dark"}, people...)
}

// refusedAfter calls until it is refused with that word, and returns how long that took. Nothing else may go wrong.
func (s *site) refusedAfter(word string) time.Duration {
	s.Helper()
	for began := time.Now(); ; time.Sleep(250 * time.Millisecond) {
		switch a := s.chat("how long"); {
		case a.refusal == word:
			return time.Since(began)
		case !a.used():
			s.Fatalf("while waiting for %q: %v", word, a)
		case time.Since(began) > 2*bound:
			s.Fatalf("%s later calls still work", 2*bound)
		}
	}
}

// waits is what the custodian's /readyz waits for.
func (s *site) waits(name string) string {
	s.Helper()
	s.await("the custodian says that it waits for "+name, 5*time.Second, func() bool { return s.health(host.Custodian).Reasons[name] != "" })
	reason := s.health(host.Custodian).Reasons[name]
	out, status := s.reeve("status")
	if status != 1 {
		s.Errorf("reeve status: exit status %d: %s", status, out)
	}
	return reason
}

// mustClose closes two things while uses are refused: by the operator's freeze and by a signed revocation record.
func (s *site) mustClose() {
	s.Helper()
	out := s.mustRun("freeze", "workload", "support-agent", "--reason", "seen in a public place")
	contains(s, "reeve freeze", out, "frozen, and its streams are cut")
	s.mustRun("revoke", "unit", "support", "--as", "ada", "--reason", "the same")
	st := s.status()
	if !closedAt(st, statement.Target{Kind: "unit", ID: "support"}) || !closedAt(st, statement.Target{Kind: "workload", ID: "support-agent"}) || st.Unsaved != "" {
		s.Errorf("closed: %+v, unsaved: %q", st.Closed, st.Unsaved)
	}
	if a := s.support(); a.refusal != "frozen" {
		s.Errorf("a closed workload: %v", a)
	}
}

// mustReopen opens both again, as an owner and one of another role can.
func (s *site) mustReopen() {
	s.Helper()
	s.mustRun("revoke", "unit", "support", "--open", "--as", "ada", "--with", "bea", "--reason", "a false alarm")
	if a := s.support(); a.refusal != "frozen" {
		s.Errorf("the workload itself is frozen still: %v", a)
	}
	s.mustRun("revoke", "workload", "support-agent", "--open", "--as", "ada", "--with", "bea", "--reason", "a false alarm")
	if a := s.support(); !a.used() {
		s.Errorf("after both were opened: %v", a)
	}
}

// support makes a call of the other workload.
func (s *site) support() answer {
	return s.call(s.supportKey(), http.MethodGet, "/v1/responses/resp-support", "")
}

// mustExtend lengthens a bound: one owner cannot, two of different roles can, for as long as they say.
func (s *site) mustExtend(what, word string) {
	s.Helper()
	ctx := context.Background()
	_, err := s.admin.Accept(ctx, s.extension(what, time.Minute, "ada"))
	if err == nil {
		s.Fatal("one owner alone extended a bound")
	}
	contains(s, "the refusal of one owner's extension", err.Error(), "two people with two different owner roles")
	s.mustRefuse(word)
	if _, err := s.admin.Accept(ctx, s.extension(what, 5*time.Second, "ada", "bea")); err != nil {
		s.Fatalf("an extension by two owners: %v", err)
	}
	s.mustUse("extended")
	if s.status().Extensions[what] <= 0 {
		s.Errorf("the status does not tell of the extension: %+v", s.status().Extensions)
	}
	s.await("the extension has ended", 10*time.Second, func() bool { return s.chat("still").refusal == word })
}

// mustTell looks into the ledger for the extension, which has to be there before the first use that it allowed, and for the
// two closings.
func (s *site) mustTell(what string) {
	s.Helper()
	s.settled()
	ev := s.gather(nil)
	glass, use := -1, -1
	var actors []string
	closings := map[string]int{}
	for _, e := range ev.logs[ev.report.Logs[0].ID] {
		switch {
		case e.Type == entry.BreakGlass && e.Reason == "extend_"+what && glass < 0:
			glass, actors = int(e.Seq), e.Actor
		case e.Type == entry.Intent && glass >= 0 && use < 0:
			use = int(e.Seq)
		case e.Type == entry.Freeze && e.Workload == "support-agent", e.Type == entry.Revoke && e.Unit == "support":
			closings[string(e.Type)]++
		}
	}
	if glass < 0 || use < glass || strings.Join(actors, " ") != "ada-1 bea-1" {
		s.Errorf("the extension is entry %d by %q, the next use entry %d", glass, actors, use)
	}
	if closings["freeze"] != 1 || closings["revoke"] != 1 {
		s.Errorf("the ledger tells of the closings %v", closings)
	}
	_, wrong := ev.check()
	for _, w := range wrong {
		s.Error(w)
	}
}

// TestWitnessAway takes the auditor away: uses end when the fuse has burnt down, closing goes on, two owners can lengthen the
// fuse, and uses come back by themselves with the auditor.
func TestWitnessAway(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.mustUse("before")
	s.settled()
	s.kill(host.Auditor)
	if took := s.refusedAfter("uncosigned"); took < bound-time.Second || took > bound+10*time.Second {
		t.Errorf("uses ended %s after the witness went away", took)
	}
	s.mustRefuse("uncosigned", "The oldest ledger entry that no witness has cosigned is", "30s is the bound",
		"It clears by itself when enough witnesses (the auditor) are reached again.")
	contains(t, "/readyz", s.waits("witnesses"), "no cosignature for", "connection refused", "start the auditor, or have two owners run: reeve extend witness")
	s.mustClose()
	s.mustExtend("witness", "uncosigned")
	s.restart(host.Auditor)
	s.usable(10 * time.Second)
	s.await("the custodian is ready", 5*time.Second, func() bool { return s.health(host.Custodian).Ready })
	s.mustReopen()
	s.mustTell("witness")
}

// TestAuthorityAway takes the authority away: uses end when the news of revocations is too old, closing goes on, two owners can
// lengthen the bound, and uses come back by themselves with the authority.
func TestAuthorityAway(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.mustUse("before")
	s.kill(host.Authority)
	if took := s.refusedAfter("stale"); took < bound-time.Second || took > bound+10*time.Second {
		t.Errorf("uses ended %s after the authority went away", took)
	}
	s.mustRefuse("stale", "The newest news of revocations is", "30s is the bound", "It clears by itself when the authority is reached again")
	contains(t, "/readyz", s.waits("feed"), "the news of revocations is too old", "connection refused", "start the authority, or have two owners run: reeve extend feed")
	s.mustClose()
	s.mustExtend("feed", "stale")
	s.restart(host.Authority)
	s.usable(10 * time.Second)
	s.await("the custodian is ready", 5*time.Second, func() bool { return s.health(host.Custodian).Ready })
	s.mustReopen()
	s.mustTell("feed")
}
