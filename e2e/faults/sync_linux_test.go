package faults

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/need"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/up"
)

// failing makes the custodian's every fdatasync fail with EIO from its next start on.
func (s *site) failing() {
	s.Helper()
	dir, err := os.MkdirTemp("", "reeve-faults-failsync-")
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { os.RemoveAll(dir) })
	program := filepath.Join(dir, "failsync")
	cmd := exec.Command("go", "build", "-o", program, "./testdata/failsync")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		s.Fatalf("%v: %s", err, out)
	}
	for _, path := range []string{dir, program} {
		if err := os.Chmod(path, 0o755); err != nil {
			s.Fatal(err)
		}
	}
	s.changed(func(spec up.Spec) up.Spec {
		if spec.Name == host.Custodian {
			spec.Args = append([]string{spec.Path}, spec.Args...)
			spec.Path = program
		}
		return spec
	})
}

// TestSyncFailsFromTheStart starts the custodian where no fdatasync works, with a new ledger and with one that has entries.
func TestSyncFailsFromTheStart(t *testing.T) {
	for _, used := range []bool{false, true} {
		s := newSite(t)
		if used {
			s.mustUp()
			s.calls(3)
			s.settled()
			s.down()
		}
		s.failing()
		err := s.up()
		if err == nil {
			t.Fatalf("with entries: %v: the custodian is ready where nothing can be made durable", used)
		}
		contains(t, "reeve up", err.Error(), "the custodian (pid", "opening the ledger: the disk fails: ", "input/output error",
			"Nothing that is written there is sure to stay, so nothing is started.", "to a disk that works")
		s.changed(nil)
		s.mustUp()
		s.mustUse("on a disk that works")
	}
}

// TestRealSyncFails makes every fdatasync of a running custodian fail. The first failure must be the last try: nothing more
// is written, nothing is used, closing goes on, and a restart brings it back.
func TestRealSyncFails(t *testing.T) {
	need.Real(t, "linux", "root", "strace")
	s := start(t)
	s.calls(5)
	l := s.load("sync", 8, time.Millisecond)
	s.await("calls work", 10*time.Second, func() bool { return l.used.Load() > 100 })
	end := s.strace(s.pid(host.Custodian), "pwrite64,fdatasync", "fdatasync:error=EIO")
	s.await("the ledger is closed", 10*time.Second, func() bool { return strings.Contains(s.health(host.Custodian).Reasons["ledger"], "input/output error") })
	contains(t, "/readyz", s.health(host.Custodian).Reasons["ledger"], "ledger closed", "syncing wal-00000001", "input/output error")
	time.Sleep(100 * time.Millisecond) // what was sent before has arrived
	before := len(s.seen())
	for range 5 {
		s.mustRefuse("ledger", "The custodian could not write the use to its ledger, so it did not make it.", "The custodian's log and /readyz say what ails the disk.")
	}
	answers := l.end()
	if after := len(s.seen()); after != before {
		t.Errorf("%d requests reached the upstream after the disk had failed", after-before)
	}

	target := statement.Target{Kind: "workload", ID: "support-agent"}
	if done, err := s.admin.Freeze(context.Background(), target, "while the disk fails"); err != nil {
		t.Errorf("freezing: %q, %v", done, err)
	}
	if a := s.support(); a.refusal != "frozen" && a.refusal != "ledger" {
		t.Errorf("a frozen workload: %v", a)
	}
	if retries := afterFailure(t, end()); len(retries) > 0 {
		t.Errorf("after the failure: %q", retries)
	}
	s.kill(host.Custodian)
	s.restart(host.Custodian)
	if !closedAt(s.status(), target) {
		t.Error("what was frozen while the disk failed is open after the restart")
	}
	s.usable(10 * time.Second)
	s.settled()
	t.Log(s.mustHold(answers))
}

// afterFailure lists what a custodian did to the segment whose fdatasync failed, after that.
func afterFailure(t *testing.T, trace []byte) (calls []string) {
	t.Helper()
	all, err := events(trace)
	if err != nil {
		t.Fatal(err)
	}
	failed := ""
	for _, e := range all {
		if failed != "" && e.fd == failed && !e.ends {
			calls = append(calls, e.call)
		}
		if e.call == "fdatasync" && e.ends && failed == "" && strings.Contains(e.result, "EIO") && strings.Contains(e.fd, "/wal/wal-") {
			failed = e.fd
		}
	}
	if failed == "" {
		t.Error("no fdatasync of the ledger failed")
	}
	return calls
}
