package faults

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/host"
)

// flip changes one bit of a file.
func flip(t testing.TB, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x10
	if _, err := f.WriteAt(b[:], at); err != nil {
		t.Fatal(err)
	}
}

// sums are the hashes of all files below a folder, by path.
func sums(t testing.TB, dir string) map[string][32]byte {
	t.Helper()
	all := map[string][32]byte{}
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		all[path] = sha256.Sum256(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// calls makes n calls and returns their receipts.
func (s *site) calls(n int) (receipts []string) {
	s.Helper()
	for i := range n {
		receipts = append(receipts, s.mustUse(fmt.Sprint(i)).receipt)
	}
	return receipts
}

// mustRetire goes the way back from a log that the custodian refuses: two owners sign that it is closed, the next start begins
// its successor, calls work again, the old log stays and verify follows from one to the other.
func (s *site) mustRetire(old string, more ...string) {
	s.Helper()
	retire := func(people ...string) (string, int) {
		args := append([]string{"ledger", "retire", "--reason", "the disk lied", "--as", people[0]}, more...)
		if len(people) > 1 {
			args = append(args, "--with", people[1])
		}
		return s.reeve(args...)
	}
	for _, people := range [][]string{{"ada"}, {"ada", "ada"}} {
		if out, status := retire(people...); status == 0 || !strings.Contains(out, "two people with two different owner roles") {
			s.Errorf("retiring signed by %v: exit status %d: %s", people, status, out)
		}
	}
	out, status := retire("ada", "cora")
	if status != 0 {
		s.Fatalf("reeve ledger retire: exit status %d: %s", status, out)
	}
	contains(s, "reeve ledger retire", out, "is to be retired at", "Start the custodian again ('reeve up')")
	wal := sums(s, s.dir.Join(host.Custodian, "ledger", "0", "wal"))
	s.mustUp()
	fresh := s.mustUse("with the successor").receipt
	s.settled()

	ev := s.gather(nil)
	if len(ev.report.Logs) != 2 || len(ev.report.Findings) != 0 || len(ev.report.Incomplete) != 1 {
		s.Fatalf("verify reports %+v", ev.report)
	}
	contains(s, "verify", ev.report.Incomplete[0], "reeve/demo/c1 was retired as damaged at", "the disk lied", "is not known")
	before, after := ev.report.Logs[0], ev.report.Logs[1]
	first := ev.logs[after.ID][0]
	if first.Type != entry.Retire || first.PrevLog != before.Origin || first.Reason != "the disk lied" {
		s.Errorf("the successor begins with %+v", first.Entry)
	}
	if after.Cosigned == 0 {
		s.Error("no witness cosigned the successor")
	}
	for path, sum := range sums(s, s.dir.Join(host.Custodian, "ledger", "0", "wal")) {
		if wal[path] != sum {
			s.Errorf("the evidence in %s was changed", path)
		}
	}
	for _, receipt := range []string{old, fresh} {
		if out, status := s.reeve("verify", receipt); status != 0 {
			s.Errorf("reeve verify of a receipt: exit status %d: %s", status, out)
		}
	}
	out, status = s.reeve("verify")
	if status != 3 {
		s.Errorf("reeve verify: exit status %d: %s", status, out)
	}
	contains(s, "reeve verify", out, "the ledger is incomplete", "retired as damaged")
}

// TestFlippedBitInWriteAheadLog alters what was acknowledged. The custodian must not start, must not change anything, and must
// say what to do.
func TestFlippedBitInWriteAheadLog(t *testing.T) {
	s := start(t)
	receipts := s.calls(20)
	s.settled()
	s.down()
	wal := s.dir.Join(host.Custodian, "ledger", "0", "wal")
	flip(t, filepath.Join(wal, "wal-00000001"), 6000)
	before := sums(t, wal)

	err := s.up()
	if err == nil {
		t.Fatal("the custodian started on an altered log")
	}
	contains(t, "reeve up", err.Error(), "the custodian (pid", "opening the ledger: ledger reeve/demo/c1 is damaged: ",
		"Entries that were acknowledged are missing or altered, so nothing was truncated and nothing is started.",
		"restore the newest backup, or close this log with 'reeve ledger retire' (two owners sign) to begin a successor")
	for path, sum := range sums(t, wal) {
		if before[path] != sum {
			t.Errorf("%s was changed", path)
		}
	}
	out, status := s.reeve("verify")
	if status != 1 {
		t.Errorf("reeve verify: exit status %d: %s", status, out)
	}
	contains(t, "reeve verify", out, "reeve/demo/c1 is damaged")
	s.mustRetire(receipts[3])
}

// TestFlippedBitInTile alters what was published, everywhere a bit can be. verify must see each; a restart of the custodian
// publishes again what its write-ahead log has.
func TestFlippedBitInTile(t *testing.T) {
	s := start(t)
	s.calls(140) // more than a full tile of intents and outcomes
	s.settled()
	s.down()
	tiles := s.dir.Join("tiles", host.Custodian)
	published := sums(t, tiles)
	if out, status := s.reeve("verify"); status != 0 {
		t.Fatalf("reeve verify: exit status %d: %s", status, out)
	}
	for path := range published {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		at := info.Size() / 2
		flip(t, path, at)
		out, status := s.reeve("verify")
		name, _ := filepath.Rel(tiles, path)
		if status != 1 {
			t.Errorf("a flipped bit in %s: reeve verify: exit status %d: %s", name, status, out)
		}
		contains(t, "reeve verify", out, "DOES NOT HOLD", "the ledger does not hold: its files are not what was written. Keep a copy of them as evidence.",
			"publishes again what its write-ahead log has")
		flip(t, path, at)
	}
	for _, name := range []string{"tile/entries/000", "tile/0/000", "checkpoint.signed"} {
		flip(t, filepath.Join(tiles, name), 50)
	}
	if _, status := s.reeve("verify"); status != 1 {
		t.Error("reeve verify does not see three flipped bits")
	}
	s.mustUp()
	s.mustUse("after the restart")
	s.settled()
	if out, status := s.reeve("verify"); status != 0 {
		t.Errorf("after the restart, reeve verify: exit status %d: %s", status, out)
	}
}

// TestOldSnapshot brings back an earlier state of the custodian, as a restored machine does. Its own keys and files are in
// order; only the witness knows that there was more.
func TestOldSnapshot(t *testing.T) {
	s := start(t)
	before := s.calls(5)
	s.settled()
	s.down()
	state, tiles := s.dir.Join(host.Custodian), s.dir.Join("tiles", host.Custodian)
	kept := t.TempDir()
	copied(t, state, filepath.Join(kept, "state"))
	copied(t, tiles, filepath.Join(kept, "tiles"))

	s.mustUp()
	receipts := s.calls(5)
	s.settled()
	s.down()
	for _, dir := range []string{state, tiles} {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	copied(t, filepath.Join(kept, "state"), state)
	copied(t, filepath.Join(kept, "tiles"), tiles)

	err := s.up()
	if err == nil {
		t.Fatal("the custodian started on an old snapshot")
	}
	contains(t, "reeve up", err.Error(), "ledger was rolled back", "entries on this disk, but a witness has seen", "an older copy was restored",
		"Nothing is appended, because that would make a second history.",
		"Bring the newer files back, or close this log with 'reeve ledger retire' (two owners sign) to begin a successor")
	if out, status := s.reeve("verify", "--wait", "100ms", receipts[4]); status == 0 {
		t.Errorf("the lost receipt verifies: %s", out)
	}
	s.mustRetire(before[0], "--checkpoint", s.audited())
}

// audited is the auditor's own copy of the newest cosigned checkpoint of the custodian's first log.
func (s *site) audited() string {
	s.Helper()
	found, err := filepath.Glob(s.dir.Join(host.Auditor, "logs", entry.LogID(s.custodianLog().Key), "checkpoint*"))
	if err != nil || len(found) == 0 {
		s.Fatalf("the auditor has no checkpoint: %v", err)
	}
	return found[0]
}

// copied copies a folder with owners and modes.
func copied(t testing.TB, from, to string) {
	t.Helper()
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}
