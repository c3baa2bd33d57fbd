package faults

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/ledger"
)

// TestKill kills the custodian with signal 9 at random, twenty times, while 32 callers go on calling: most times in full work,
// sometimes while it starts. Then nothing that was acknowledged may be missing or doubled, and nothing may have reached the
// upstream without a durable intent.
func TestKill(t *testing.T) {
	const kills, callers = 20, 32
	s := start(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	began := time.Now()
	l := s.load("kill", callers, 2*time.Millisecond)
	for n := range kills {
		if n%5 == 4 { // while it starts
			time.Sleep(time.Duration(r.Int64N(int64(200 * time.Millisecond))))
		} else {
			before := l.used.Load()
			s.await("calls work between two kills", 30*time.Second, func() bool { return l.used.Load() > before+callers })
			time.Sleep(time.Duration(r.Int64N(int64(300 * time.Millisecond))))
		}
		s.kill(host.Custodian)
		s.spawn(host.Custodian)
	}
	s.await("the custodian is ready", 30*time.Second, func() bool { return s.health(host.Custodian).Ready })
	s.usable(10 * time.Second)
	answers := l.end()
	s.settled()

	got := s.mustHold(answers)
	t.Logf("%d kills in %s: %v", kills, time.Since(began).Round(time.Second), got)
	if got.receipts < 1000 || got.open == 0 {
		t.Errorf("too little happened for the kills to have shown anything: %v", got)
	}
	if _, err := ledger.Check(s.dir.Join(host.Custodian, "ledger"), s.trust.Logs[s.log(host.Custodian)].Key); err != nil {
		t.Error(err)
	}
	out, status := s.reeve("verify", lastReceipt(answers))
	if status != 0 {
		t.Errorf("reeve verify of a receipt from among the kills: exit status %d: %s", status, out)
	}
	out, status = s.reeve("verify")
	contains(t, "reeve verify", out, "used, outcome unknown")
	if status != 0 {
		t.Errorf("reeve verify: exit status %d: %s", status, out)
	}
}

// log is the index of a process's log in the trust file.
func (s *site) log(process string) int {
	id := map[string]string{host.Custodian: "c1", host.Authority: "a1", host.Gateway: "g1"}[process]
	for i, l := range s.trust.Logs {
		if l.Process == id {
			return i
		}
	}
	s.Fatalf("the trust file has no log of %s", process)
	return -1
}

func lastReceipt(answers []answer) string {
	for i := len(answers) - 1; i >= 0; i-- {
		if strings.HasPrefix(answers[i].receipt, "v1.") {
			return answers[i].receipt
		}
	}
	return ""
}
