package faults

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/demo/upstream"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/verify"
)

// leaf is one published entry.
type leaf struct {
	entry.Entry
	hash [32]byte
}

// evidence is what three parties know of the same calls: the callers, the upstream, and the custodian's ledger.
type evidence struct {
	answers []answer
	seen    []upstream.Request
	logs    map[string][]leaf // by log id
	report  *verify.Report
}

// tally is what the check counted.
type tally struct {
	calls, receipts, seen, intents, open int
}

func (t tally) String() string {
	return fmt.Sprintf("%d calls, %d receipts in the ledger, %d requests at the upstream, %d intents, %d of them without outcome",
		t.calls, t.receipts, t.seen, t.intents, t.open)
}

// gather reads the custodian's published ledger, verifying every byte of it, and the upstream's record.
func (s *site) gather(answers []answer) *evidence {
	s.Helper()
	dir := os.DirFS(s.dir.Join("tiles", host.Custodian))
	ev := &evidence{answers: answers, seen: s.seen(), logs: map[string][]leaf{}}
	var err error
	if ev.report, err = s.trust.Directory(dir, verify.Options{}); err != nil {
		s.Fatal(err)
	}
	for n, l := range ev.report.Logs {
		if ev.logs[l.ID], err = readEntries(dir, n, l.Size); err != nil {
			s.Fatalf("%s: %v", l.Origin, err)
		}
	}
	return ev
}

// readEntries reads the first size entries of the nth log's bundles (C2SP tlog-tiles).
func readEntries(dir fs.FS, n int, size int64) ([]leaf, error) {
	var all []leaf
	for start := int64(0); start < size; start += 256 {
		t := tlog.Tile{H: 8, L: -1, N: start / 256, W: int(min(size-start, 256))}
		name := strings.Replace(t.Path(), "tile/8/data", "tile/entries", 1)
		if n > 0 {
			name = fmt.Sprintf("%d/%s", n, name)
		}
		b, err := fs.ReadFile(dir, name)
		if err != nil {
			return nil, err
		}
		for len(b) >= 2 {
			text := b[2 : 2+binary.BigEndian.Uint16(b)]
			e, err := entry.Parse(text)
			if err != nil {
				return nil, err
			}
			all = append(all, leaf{*e, tlog.RecordHash(text)})
			b = b[2+len(text):]
		}
	}
	return all, nil
}

// own reports whether a path is one call's alone, as those of site.look are.
func own(path string) bool { return strings.HasPrefix(path, "/v1/responses/") }

func pathHash(path string) string {
	sum := sha256.Sum256([]byte(path))
	return hex.EncodeToString(sum[:])
}

// check returns what does not hold:
//
//   - what was acknowledged is in the ledger, under the number that was promised, and no number was promised twice;
//   - an answer of the upstream carries the receipt of an intent for that very path;
//   - what reached the upstream has an intent, and no call has two intents or reached it twice;
//   - verify finds nothing false, and lists exactly the intents that have no outcome.
func (ev *evidence) check() (t tally, wrong []string) {
	bad := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	t.calls, t.seen = len(ev.answers), len(ev.seen)

	promised := map[string]bool{}
	for _, a := range ev.answers {
		if a.receipt == "" {
			if a.used() {
				bad("an answer without a receipt: %v", a)
			}
			continue
		}
		r, err := entry.ParseReceipt(a.receipt)
		if err != nil {
			bad("%v: %v", a, err)
			continue
		}
		name := fmt.Sprintf("%s/%d", r.Log, r.Seq)
		if promised[name] {
			bad("entry %s was promised to two callers", name)
		}
		promised[name] = true
		log := ev.logs[r.Log]
		switch {
		case r.Seq >= int64(len(log)):
			bad("acknowledged entry %s is missing: the log ends at %d", name, len(log))
			continue
		case !bytes.Equal(log[r.Seq].hash[:], r.Leaf[:]):
			bad("entry %s is not the one that was acknowledged", name)
			continue
		}
		t.receipts++
		if e := log[r.Seq]; a.used() && (e.Type != entry.Intent || e.PathHash != pathHash(a.path)) {
			bad("the upstream's answer for %s carries the receipt of %s, which is a %s of another path", a.path, name, e.Type)
		}
	}

	intents, open := map[string]int{}, map[string]bool{}
	for id, log := range ev.logs {
		for _, e := range log {
			switch e.Type {
			case entry.Intent:
				t.intents++
				intents[e.PathHash]++
				open[fmt.Sprintf("%s/%d", id, e.Seq)] = true
			case entry.Outcome:
				from := id
				if e.IntentLog != "" {
					from = e.IntentLog
				}
				delete(open, fmt.Sprintf("%s/%d", from, e.IntentSeq))
			}
		}
	}
	t.open = len(open)

	reached := map[string]int{}
	for _, r := range ev.seen {
		path, _, _ := strings.Cut(r.Path, "?")
		reached[path]++
	}
	for path, n := range reached {
		switch i := intents[pathHash(path)]; {
		case n > i:
			bad("%d requests to %s reached the upstream, the ledger has %d intents", n, path, i)
		case own(path) && (n > 1 || i > 1):
			bad("one call to %s has %d intents and reached the upstream %d times", path, i, n)
		}
	}

	for _, f := range ev.report.Findings {
		bad("verify: %s", f)
	}
	listed := slices.ContainsFunc(ev.report.Unknown, func(u string) bool {
		return strings.Contains(u, fmt.Sprintf("used, outcome unknown: %d intents without an outcome", len(open)))
	})
	if len(open) > 0 && !listed {
		bad("%d intents have no outcome, but verify says %q", len(open), ev.report.Unknown)
	}
	return t, wrong
}

// mustHold checks and fails the test with what does not hold.
func (s *site) mustHold(answers []answer) tally {
	s.Helper()
	t, wrong := s.gather(answers).check()
	for i, w := range wrong {
		if i == 20 {
			s.Errorf("… and %d more", len(wrong)-i)
			break
		}
		s.Error(w)
	}
	return t
}

// TestCheckIsRed feeds the check with every kind of loss that it is there to see.
func TestCheckIsRed(t *testing.T) {
	const log = "0123456789abcdef"
	// fresh is three calls: two looks and one whose outcome was lost.
	fresh := func() *evidence {
		ev := &evidence{logs: map[string][]leaf{}, report: &verify.Report{Unknown: []string{"used, outcome unknown: 1 intents without an outcome " + log + "/4"}}}
		add := func(e entry.Entry) *leaf {
			e.Seq = int64(len(ev.logs[log]))
			ev.logs[log] = append(ev.logs[log], leaf{e, sha256.Sum256([]byte{byte(e.Seq)})})
			return &ev.logs[log][e.Seq]
		}
		for i := range 3 {
			path := fmt.Sprintf("/v1/responses/resp-%d", i)
			l := add(entry.Entry{Type: entry.Intent, PathHash: pathHash(path)})
			r := entry.NewGroup(log, l.Seq, 1, [][32]byte{l.hash}).Receipt(l.Seq, l.hash)
			ev.answers = append(ev.answers, answer{path: path, status: 200, receipt: r.String()})
			ev.seen = append(ev.seen, upstream.Request{Path: path})
			if i < 2 {
				add(entry.Entry{Type: entry.Outcome, HasIntent: true, IntentSeq: l.Seq})
			}
		}
		return ev
	}
	if n, wrong := fresh().check(); len(wrong) != 0 || n.receipts != 3 || n.open != 1 {
		t.Fatalf("nothing is wrong, but: %v, %q", n, wrong)
	}
	for _, c := range []struct {
		name, want string
		spoil      func(*evidence)
	}{
		{"a request without an intent", "the ledger has 0 intents", func(ev *evidence) {
			ev.seen = append(ev.seen, upstream.Request{Path: "/v1/responses/resp-9"})
		}},
		{"an intent that was lost", "is missing: the log ends at 4", func(ev *evidence) { ev.logs[log] = ev.logs[log][:4] }},
		{"another entry in its place", "is not the one that was acknowledged", func(ev *evidence) { ev.logs[log][2].hash[0] ^= 1 }},
		{"a number promised twice", "was promised to two callers", func(ev *evidence) { ev.answers[1] = ev.answers[0] }},
		{"a call written twice", "has 2 intents", func(ev *evidence) { ev.logs[log][1] = ev.logs[log][0] }},
		{"a call sent twice", "2 requests to /v1/responses/resp-0 reached", func(ev *evidence) { ev.seen = append(ev.seen, ev.seen[0]) }},
		{"an answer with another call's receipt", "of another path", func(ev *evidence) { ev.answers[0].path, ev.answers[1].path = ev.answers[1].path, ev.answers[0].path }},
		{"an answer without receipt", "without a receipt", func(ev *evidence) { ev.answers[0].receipt = "" }},
		{"a lost outcome that verify hides", "2 intents have no outcome", func(ev *evidence) { ev.logs[log][1].Type = entry.Heartbeat }},
		{"a finding of verify", "verify: the tree", func(ev *evidence) { ev.report.Findings = []string{"the tree is broken"} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			ev := fresh()
			c.spoil(ev)
			if _, wrong := ev.check(); !strings.Contains(strings.Join(wrong, "\n"), c.want) {
				t.Errorf("wanted %q, got %q", c.want, wrong)
			}
		})
	}
}
