package faults

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/reevehq/reeve/internal/demo"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/ledger/offline"
	"github.com/reevehq/reeve/internal/need"
	"github.com/reevehq/reeve/verify"
)

// TestKill kills the custodian with signal 9 at random, twenty times, while 32 callers go on calling: most times in full work,
// sometimes while it starts. Then nothing that was acknowledged may be missing or doubled, and nothing may have reached the
// upstream without a durable intent.
func TestKill(t *testing.T) {
	s := start(t)
	answers := s.kills(20)
	got := s.mustHold(answers)
	t.Log(got)
	if got.receipts < 1000 || got.open == 0 {
		t.Errorf("too little happened for the kills to have shown anything: %v", got)
	}
	if _, err := offline.Check(s.dir.Join(host.Custodian, "ledger"), s.custodianLog().Key); err != nil {
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

// TestRealKillIsRed kills a custodian whose entries reach its disk late: the seeded fault that the check must find.
func TestRealKillIsRed(t *testing.T) {
	need.Real(t, "linux")
	s := newSite(t)
	s.seed("internal/ledger/commit.go",
		"// flush writes buf", `var late = make(chan func(), 1<<16)

func init() {
	go func() {
		for write := range late {
			time.Sleep(5 * time.Millisecond)
			write()
		}
	}()
}

// flush writes buf`,
		"if _, err := v.file.WriteAt(buf, v.off); err != nil {", `b, at, file := append([]byte(nil), buf...), v.off, v.file
	late <- func() { file.WriteAt(b, at); file.Sync() }
	if err := error(nil); err != nil {`)
	s.mustUp()
	_, wrong := s.gather(s.kills(4)).check()
	all := strings.Join(wrong, "\n")
	contains(t, "the check", all, "acknowledged entry", "is missing", "reached the upstream, the ledger has")
	t.Logf("%d faults found", len(wrong))
}

// kills kills the custodian n times under 32 callers and lets it come to rest. It returns what the callers got.
func (s *site) kills(n int) []answer {
	s.Helper()
	const callers = 32
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 0))
	began := time.Now()
	l := s.load("kill", callers, 2*time.Millisecond)
	for i := range n {
		if i%5 == 4 { // while it starts
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
	s.Logf("seed %d: %d kills in %s", seed, n, time.Since(began).Round(time.Second))
	answers := l.end()
	s.settled()
	return answers
}

// custodianLog is the custodian's log in the trust file.
func (s *site) custodianLog() verify.Log {
	i := slices.IndexFunc(s.trust.Logs, func(l verify.Log) bool { return l.Process == demo.Processes.Custodian })
	if i < 0 {
		s.Fatal("the trust file does not have the custodian's log")
	}
	return s.trust.Logs[i]
}

func lastReceipt(answers []answer) string {
	for i := len(answers) - 1; i >= 0; i-- {
		if strings.HasPrefix(answers[i].receipt, "v1.") {
			return answers[i].receipt
		}
	}
	return ""
}
