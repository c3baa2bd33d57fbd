package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// commands measures questions as people ask them, whole commands from their start to their end, of the company that `reeve demo month` makes: 10,000
// credentials of 40 units behind 3 gateways, and a month of ledgers. Most of a command is reading and verifying what was signed.
func (a *auditing) commands(ctx context.Context) error {
	month := filepath.Join(a.dir, "month")
	for _, args := range [][]string{{"demo", "month", month}, {"--dir", month, "audit", "rebuild"}} {
		progress("reeve %s", strings.Join(args[:2], " "))
		if out, err := exec.CommandContext(ctx, filepath.Join(a.bin, "reeve"), args...).CombinedOutput(); err != nil {
			return fmt.Errorf("reeve %q: %w\n%s", args, err, out)
		}
	}
	var answers struct {
		Start, End, From, To time.Time
		Captured, Unused     string
		Entries              int64
	}
	text, err := os.ReadFile(filepath.Join(month, "answers.json"))
	if err == nil {
		err = json.Unmarshal(text, &answers)
	}
	if err != nil {
		return err
	}
	window := func(from, to time.Time, args ...string) []string {
		return append(args, "--from", from.Format(time.RFC3339), "--to", to.Format(time.RFC3339))
	}
	load, _ := os.ReadFile("/proc/loadavg")
	fmt.Fprintf(a.out, "\nWhole commands, of the month that `reeve demo month` makes (%d entries), milliseconds of five turns; load average before %s:\n\n| command | median | slowest | CPU |\n|---|--:|--:|--:|\n",
		answers.Entries, strings.Join(strings.Fields(string(load))[:1], ""))
	for _, args := range [][]string{
		{"duties", "olga"},
		window(answers.Start, answers.End, "uses", answers.Unused),
		window(answers.From, answers.To, "blast", answers.Captured),
		window(answers.Start, answers.End, "blast", "--credential", answers.Unused),
		window(answers.From, answers.To, "blast", "--person", "olga"),
		window(answers.From, answers.To, "blast", "--tenant", "northwind"),
		{"controls"},
	} {
		if err := a.command(ctx, month, args); err != nil {
			return err
		}
	}
	return nil
}

// command measures one; its exit status is its answer.
func (a *auditing) command(ctx context.Context, dir string, args []string) error {
	var took, used []time.Duration
	for range 5 {
		cmd := exec.CommandContext(ctx, filepath.Join(a.bin, "reeve"), append([]string{"--dir", dir}, args...)...)
		cmd.Stdout = io.Discard
		begun := time.Now()
		err := cmd.Run()
		var exit *exec.ExitError
		if err != nil && (!errors.As(err, &exit) || exit.ExitCode() == 2) {
			return fmt.Errorf("reeve %q: %w", args, err)
		}
		took, used = append(took, time.Since(begun)), append(used, cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime())
	}
	slices.Sort(took)
	slices.Sort(used)
	fmt.Fprintf(a.out, "| `reeve %s` | %d | %d | %d |\n", strings.Join(args, " "), took[2].Milliseconds(), took[4].Milliseconds(), used[2].Milliseconds())
	return nil
}
