package faults

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/need"
	"github.com/reevehq/reeve/internal/statement"
)

// inMounts runs the test again in a process with a mount name space of its own, so that its mounts end with it, and reports
// whether this is that process.
func inMounts(t *testing.T) bool {
	t.Helper()
	const inside = "REEVE_FAULTS_INSIDE"
	if os.Getenv(inside) == t.Name() {
		return true
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.timeout=5m")
	cmd.Env = append(os.Environ(), inside+"="+t.Name(), binVariable+"="+bin)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGTERM}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

// onSmallDisk gives the custodian's state a file system of its own, of that size.
func (s *site) onSmallDisk(size string) {
	s.Helper()
	state := s.dir.Join(host.Custodian)
	if err := os.Rename(state, state+".away"); err != nil {
		s.Fatal(err)
	}
	if err := os.Mkdir(state, 0o700); err != nil {
		s.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", state, "tmpfs", 0, "mode=0700,size="+size); err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { syscall.Unmount(state, syscall.MNT_DETACH) })
	copied(s, state+".away/.", state)
}

// fill writes a file until no more than share of the file system is free, or, for 0, nothing.
func (s *site) fill(path string, share float64) {
	s.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.Fatal(err)
	}
	defer f.Close()
	for _, piece := range []int{64 << 10, 4 << 10, 1} { // to the last byte
		for {
			var fs syscall.Statfs_t
			if err := syscall.Statfs(filepath.Dir(path), &fs); err != nil {
				s.Fatal(err)
			}
			if float64(fs.Bavail) < share*float64(fs.Blocks) {
				return
			}
			if _, err := f.Write(make([]byte, piece)); errors.Is(err, syscall.ENOSPC) {
				break
			} else if err != nil {
				s.Fatal(err)
			}
		}
	}
}

// TestRealFullDisk lets the disk of the custodian's state run full: uses end at 5 %, before it is too late to close anything;
// closing works and is written, also on a disk without a free byte; with room everything comes back.
func TestRealFullDisk(t *testing.T) {
	need.Real(t, "linux", "root")
	if !inMounts(t) {
		return
	}
	s := newSite(t)
	s.onSmallDisk("80m")
	s.mustUp()
	first := s.mustUse("while there is room")
	ballast := s.dir.Join(host.Custodian, "ballast")
	ctx := context.Background()
	s.await("the segments ahead are made: one that is not takes room and gives it back", 20*time.Second, func() bool {
		made, err := filepath.Glob(s.dir.Join(host.Custodian, "ledger", "0", "wal", "*"))
		return err == nil && len(made) == 3 && filepath.Base(made[0]) == "wal-00000001" // and none with another name, before it
	})

	s.fill(ballast, 0.04)
	s.await("uses end", 5*time.Second, func() bool { return !s.chat("until it is full").used() })
	s.mustRefuse("ledger", "The custodian could not write the use to its ledger, so it did not make it.", "The custodian's log and /readyz say what ails the disk.")
	contains(t, "/readyz", s.waits("ledger"), "the ledger's disk is full: free space below 5 % of it", "closing still works", "make room for")
	var targets []statement.Target
	closeTwo := func(unit, workload string) {
		t.Helper()
		targets = append(targets, statement.Target{Kind: "workload", ID: workload}, statement.Target{Kind: "unit", ID: unit})
		if done, err := s.admin.Freeze(ctx, targets[len(targets)-2], "the disk is full"); err != nil {
			t.Errorf("freezing: %q, %v", done, err)
		}
		if _, err := s.admin.Accept(ctx, s.revocation(int64(len(targets)/2), targets[len(targets)-1], "ada")); err != nil {
			t.Errorf("a signed revocation: %v", err)
		}
	}
	closeTwo("support", "support-agent")
	if unsaved := s.status().Unsaved; unsaved != "" {
		t.Errorf("unsaved: %s", unsaved)
	}

	s.fill(ballast, 0) // nothing is left
	targets = append(targets, statement.Target{Kind: "credential", ID: "support-openai"})
	if done, err := s.admin.Freeze(ctx, targets[len(targets)-1], "the disk is full"); err != nil {
		t.Errorf("freezing without a free byte: %q, %v", done, err)
	}
	s.kill(host.Custodian)
	s.spawn(host.Custodian)
	s.await("the custodian is back", 20*time.Second, func() bool { _, err := s.admin.Status(ctx); return err == nil })
	for _, target := range targets {
		if !closedAt(s.status(), target) {
			t.Errorf("%v is open after a restart on a full disk", target)
		}
	}

	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	s.usable(20 * time.Second)
	s.await("the custodian is ready", 5*time.Second, func() bool { return s.health(host.Custodian).Ready })
	s.settled()
	s.mustHold([]answer{first})
	told := 0
	for _, log := range s.gather(nil).logs {
		for _, e := range log {
			if e.Type == entry.Freeze || e.Type == entry.Revoke {
				told++
			}
		}
	}
	if told < len(targets) {
		t.Errorf("the ledger tells of %d of %d closings", told, len(targets))
	}
}
