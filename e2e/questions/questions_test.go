// Package questions asks the twenty questions of an auditor, a command each, of an invented company with a month of ledgers and a captured gateway in
// it, and holds the answers against what was planted there.
package questions

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/reevehq/reeve/e2e/binaries"
	"github.com/reevehq/reeve/internal/audit/sample"
)

// world is the company and what was planted in it.
type world struct {
	base    string // its folder has bin and month
	answers *sample.Answers

	mu    sync.Mutex
	asked []asking
}

// asking is how long a question took.
type asking struct {
	question, command string
	took              time.Duration
}

func TestQuestions(t *testing.T) {
	w := build(t)
	t.Cleanup(func() { // once all scripts have ended
		slices.SortFunc(w.asked, func(a, b asking) int {
			return cmp.Or(strings.Compare(a.question, b.question), strings.Compare(a.command, b.command))
		})
		for _, a := range w.asked {
			t.Logf("%-4s %6.2f s  reeve %s", a.question, a.took.Seconds(), a.command)
		}
	})
	t.Run("ask", func(t *testing.T) {
		testscript.Run(t, testscript.Params{
			Dir:                 "testdata",
			RequireUniqueNames:  true,
			RequireExplicitExec: true,
			Setup:               w.setup,
			Cmds:                map[string]func(*testscript.TestScript, bool, []string){"ask": w.ask, "agrees": w.agrees, "copies": w.copies, "flip": flip},
		})
	})
}

// build makes the binaries and the month, once for all scripts, and the index over it.
func build(t *testing.T) *world {
	t.Helper()
	base, err := os.MkdirTemp("/tmp", "reeve-questions-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(base) })
	w := &world{base: base, answers: new(sample.Answers)}
	if err := binaries.Build(filepath.Join(base, "bin"), "", binaries.All()...); err != nil {
		t.Fatal(err)
	}
	month := filepath.Join(base, "month")
	for _, args := range [][]string{{"demo", "month", month}, {"--dir", month, "audit", "rebuild"}} {
		begun := time.Now()
		out, err := exec.CommandContext(t.Context(), filepath.Join(base, "bin", "reeve"), args...).CombinedOutput()
		if err != nil {
			t.Fatalf("reeve %q: %v\n%s", args, err, out)
		}
		t.Logf("%.2f s  reeve %s", time.Since(begun).Seconds(), strings.Join(args[:2], " "))
	}
	b, err := os.ReadFile(filepath.Join(month, sample.AnswersFile))
	if err == nil {
		err = json.Unmarshal(b, w.answers)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d entries in %d ledgers", w.answers.Entries, len(w.answers.Logs))
	return w
}

// setup tells a script what it may ask about.
func (w *world) setup(env *testscript.Env) error {
	a := w.answers
	env.Setenv("PATH", filepath.Join(w.base, "bin")+":"+os.Getenv("PATH"))
	stamp := func(t time.Time) string { return t.Format(time.RFC3339) }
	for name, value := range map[string]string{
		"MONTH": filepath.Join(w.base, "month"), "START": stamp(a.Start), "END": stamp(a.End), "FROM": stamp(a.From), "TO": stamp(a.To), "CAPTURED": a.Captured,
		"PROVEN": a.Proven, "UNUSED": a.Unused, "OUTSIDE": a.Outside, "OUTSIDE_AT": stamp(a.OutsideAt), "OUTSIDE_TO": stamp(a.OutsideAt.Add(time.Hour)), "WORKLOAD": a.Workload,
		"FIRST_DRILL": stamp(a.Drilled["S10"].Time), "VENDOR": a.Vendor, "LEAVING": a.Leaving, "CONFLICT": a.Conflict, "CHAINER": a.Chainer,
	} {
		env.Setenv(name, value)
	}
	return nil
}

// ask runs reeve in the month, or in DIR: ask [-dir DIR] STATUS ARGUMENTS….
func (w *world) ask(ts *testscript.TestScript, neg bool, args []string) {
	dir := ts.Getenv("MONTH")
	if len(args) > 2 && args[0] == "-dir" {
		dir, args = ts.MkAbs(args[1]), args[2:]
	}
	if neg || len(args) < 2 {
		ts.Fatalf("usage: ask [-dir DIR] STATUS ARGUMENTS…")
	}
	begun, status := time.Now(), 0
	err := ts.Exec("reeve", append([]string{"--dir", dir}, args[1:]...)...)
	took := time.Since(begun)
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		status = exit.ExitCode()
	case err != nil:
		ts.Fatalf("reeve %q: %v", args[1:], err)
	}
	if strconv.Itoa(status) != args[0] {
		ts.Fatalf("reeve %q: exit status %d, expected %s", args[1:], status, args[0])
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = append(w.asked, asking{strings.TrimSuffix(filepath.Base(ts.Name()), ".txtar"), strings.Join(args[1:], " "), took})
}

// copies makes DIR another place for the same estate and ledgers, for questions that write something down, or to damage: copies DIR [PROCESS] copies
// the ledger of the process too, to ledger.
func (w *world) copies(ts *testscript.TestScript, neg bool, args []string) {
	month, dir := ts.Getenv("MONTH"), ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(filepath.Join(dir, "auditor", "logs"), 0o700))
	for _, name := range []string{"run.yaml", "trust.json"} {
		b, err := os.ReadFile(filepath.Join(month, name))
		ts.Check(err)
		ts.Check(os.WriteFile(filepath.Join(dir, name), b, 0o600))
	}
	ts.Check(os.Symlink(filepath.Join(month, "estate"), filepath.Join(dir, "estate")))
	if len(args) == 1 { // the ledgers stay what they are
		index, err := os.ReadFile(filepath.Join(month, "auditor", "index.db"))
		ts.Check(err)
		ts.Check(os.WriteFile(filepath.Join(dir, "auditor", "index.db"), index, 0o600))
	}
	all, err := os.ReadDir(filepath.Join(month, "auditor", "logs"))
	ts.Check(err)
	for _, log := range all {
		from, to := filepath.Join(month, "auditor", "logs", log.Name()), filepath.Join(dir, "auditor", "logs", log.Name())
		head, err := os.ReadFile(filepath.Join(from, "checkpoint"))
		ts.Check(err)
		if len(args) > 1 && strings.HasPrefix(string(head), "reeve/"+sample.ID+"/"+args[1]+"\n") {
			ts.Check(os.CopyFS(to, os.DirFS(from)))
			ts.Setenv("LEDGER", to)
			continue
		}
		ts.Check(os.Symlink(from, to))
	}
}

// flip changes one bit in the middle of a file.
func flip(ts *testscript.TestScript, neg bool, args []string) {
	path := ts.MkAbs(args[0])
	b, err := os.ReadFile(path)
	ts.Check(err)
	b[len(b)/2] ^= 1
	ts.Check(os.WriteFile(path, b, 0o600))
}

// agrees holds what was printed last, in JSON, against what was planted: agrees WHAT.
func (w *world) agrees(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 || checks[args[0]] == nil {
		ts.Fatalf("usage: agrees WHAT; %q is nothing", args)
	}
	if err := checks[args[0]](w.answers, []byte(ts.ReadFile("stdout"))); err != nil {
		ts.Fatalf("%v", err)
	}
}

// differ says how two lists differ, nil when they do not. The order does not count.
func differ(what string, got, want []string) error {
	got, want = slices.Clone(got), slices.Clone(want)
	slices.Sort(got)
	slices.Sort(want)
	if slices.Equal(got, want) {
		return nil
	}
	first := func(a, b []string) (list []string) {
		for _, s := range a {
			if !slices.Contains(b, s) && len(list) < 5 {
				list = append(list, s)
			}
		}
		return list
	}
	return fmt.Errorf("%s: %d were answered and %d were planted; not planted: %q …; not answered: %q …", what, len(got), len(want), first(got, want), first(want, got))
}
