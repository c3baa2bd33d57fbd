package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/audit/blast"
	"github.com/reevehq/reeve/internal/audit/control"
	"github.com/reevehq/reeve/internal/audit/history"
	"github.com/reevehq/reeve/internal/table"
	"github.com/reevehq/reeve/internal/terminal"
)

// usesFlags are what the command is told.
type usesFlags struct {
	window
	none, breaks, json bool
	silence            time.Duration
	limit              int
}

func newUsesCmd() *cobra.Command {
	var f usesFlags
	cmd := &cobra.Command{
		Use:   "uses CREDENTIAL",
		Short: "Who used a credential; proof that nobody did; what breaks without it",
		Long: "What the auditor's verified copies of the ledgers say of a credential: each workload, the gateway that it came through, the version of the\n" +
			"lock under which it was decided and the policies, the proof, the first and the last entry. Refusals are listed apart.\n\n" +
			"With --prove-none: that there is no use. Every custodian that served or held the credential has to have a ledger that is whole, without\n" +
			"silence and cosigned up to the window's end; without --to the window ends with what all of them have cosigned. Exit status 0 when it is\n" +
			"proven that nobody used it, 1 when somebody did, 3 when it cannot be known.\n\n" +
			"With --breaks: what stops when it is revoked: its workloads with their last use, models, aliases, and what could take its place.",
		Example: "  reeve uses research-openai --from 720h\n  reeve uses research-openai --from 2026-11-01T00:00:00Z --prove-none\n  reeve uses research-openai --breaks --as-of 24h",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			from, to, _, err := f.times(time.Now())
			if err != nil {
				return err
			}
			_, b, err := openBooks(cmd)
			if err != nil {
				return err
			}
			defer b.Close()
			if cmd.Flags().Changed("as-of") {
				at, err := f.past(b.Now)
				if err != nil {
					return err
				}
				if b, err = b.AsOf(at); err != nil {
					return known(err)
				}
			}
			if f.breaks {
				x, err := blast.Breaks(cmd.Context(), b, args[0], from)
				if err != nil {
					return known(err)
				}
				if f.json {
					return printJSON(cmd, x)
				}
				return printBroken(cmd.OutOrStdout(), x)
			}
			if !cmd.Flags().Changed("to") {
				to = time.Time{}
			}
			u, err := blast.UsesOf(cmd.Context(), b, args[0], from, to, f.silence)
			if err != nil {
				return known(err)
			}
			if f.json {
				err = printJSON(cmd, u)
			} else {
				err = f.print(cmd.OutOrStdout(), u)
			}
			if err != nil || !f.none {
				return err
			}
			return proven(u)
		},
	}
	f.window.add(cmd, 24*time.Hour)
	cmd.Flags().BoolVar(&f.none, "prove-none", false, "prove that nobody used it: exit status 0, 1 or 3")
	cmd.Flags().BoolVar(&f.breaks, "breaks", false, "say what breaks when it is revoked")
	cmd.MarkFlagsMutuallyExclusive("prove-none", "breaks")
	cmd.Flags().DurationVar(&f.silence, "silence", blast.Silence, "longest time without an entry that says nothing about a custodian's ledger")
	cmd.Flags().IntVar(&f.limit, "limit", 50, "list at most so many lines; 0 for all")
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON")
	return cmd
}

// known makes a window or an instant that nothing is known of undecided.
func known(err error) error {
	if errors.Is(err, blast.ErrWindow) || errors.Is(err, history.ErrBefore) {
		return &exitError{exitUndecided, err}
	}
	return failed(err)
}

// proven turns the verdict into the exit status.
func proven(u *blast.Uses) error {
	switch u.Verdict {
	case blast.None:
		return nil
	case blast.Used:
		return &exitError{exitNot, fmt.Errorf("%s was used", u.Credential)}
	}
	return &exitError{exitUndecided, fmt.Errorf("no entry tells of a use of %s, but it cannot be known that there was none", u.Credential)}
}

func (f *usesFlags) print(out io.Writer, u *blast.Uses) error {
	terminal.Printf(out, "%s of %s, from %s to %s: %s\n\n", u.Credential, u.Unit, u.From.Format(time.RFC3339), u.To.Format("2006-01-02T15:04:05.000Z"), verdictWords(u.Verdict))
	for _, part := range []struct {
		head string
		list []blast.Use
	}{{"USED AS", u.Uses}, {"REFUSED AS", u.Refused}} {
		if len(part.list) == 0 {
			continue
		}
		t := table.New(out)
		terminal.Printf(t, "%s\tUNIT\tWORKLOAD\tTHROUGH\tPROOF\tLOCK\tPOLICIES\tCOUNT\tUNKNOWN\tFIRST\tLAST\tENTRIES\n", part.head)
		for i, x := range part.list {
			if f.limit > 0 && i == f.limit {
				break
			}
			as := string(x.Type)
			if x.Reason != "" {
				as += " " + x.Reason
			}
			terminal.Printf(t, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t%d\t%d\t%s\t%s\t%s\n", as, x.Unit, x.Workload, x.Gateway, x.Level+" "+x.Proof, x.Lock, brief(x.Policies), x.Count, x.Unknown,
				x.First.Format(time.RFC3339), x.Last.Format(time.RFC3339), span(x.FirstRef, x.LastRef))
		}
		if err := t.Flush(); err != nil {
			return err
		}
		if f.limit > 0 && len(part.list) > f.limit {
			terminal.Printf(out, "%d more (--limit 0 lists all)\n", len(part.list)-f.limit)
		}
		fmt.Fprintln(out)
	}
	for _, w := range u.Ledgers {
		if !w.Complete {
			terminal.Printf(out, "ledger of %s: INCOMPLETE: %s\n", w.Process, w.Why)
			continue
		}
		terminal.Printf(out, "ledger of %s: complete, entries 0 to %d of %s verified under the root %s, cosigned up to %s\n", w.Process, w.N-1, w.Origin, w.Root, w.Cosigned.Format("2006-01-02T15:04:05.000Z"))
	}
	for _, s := range u.Cannot {
		terminal.Printf(out, "cannot be known: %s\n", s)
	}
	return nil
}

func verdictWords(v blast.Verdict) string {
	return map[blast.Verdict]string{blast.Used: "it was used", blast.None: "nobody used it, and the ledgers are complete", blast.Unknown: "no entry tells of a use, and a ledger is not complete"}[v]
}

// span names the first and the last entry.
func span(first, last control.Ref) string {
	if first == last {
		return fmt.Sprintf("%s/%d", first.Log, first.Seq)
	}
	return fmt.Sprintf("%s/%d…%d", first.Log, first.Seq, last.Seq)
}

func printBroken(out io.Writer, x *blast.Broken) error {
	terminal.Printf(out, "%s of %s is %s's to revoke. Without it:\n\n", x.Credential, x.Unit, nobody(x.Lifecycle))
	t := table.New(out)
	fmt.Fprintln(t, "UNIT\tWORKLOAD\tUSES\tLAST USE\tMAY USE IT NOW")
	for _, u := range x.Users {
		last, may := "never", "no"
		if !u.Last.IsZero() {
			last = u.Last.Format(time.RFC3339)
		}
		if u.May {
			may = "yes"
		}
		terminal.Printf(t, "%s\t%s\t%d\t%s\t%s\n", u.Unit, u.Workload, u.Uses, last, may)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, part := range []struct {
		name string
		list []string
	}{{"model", x.Models}, {"alias", x.Aliases}} {
		for _, s := range part.list {
			terminal.Printf(out, "%s: %s\n", part.name, s)
		}
	}
	for _, o := range x.Others {
		terminal.Printf(out, "in its place: %s may use %s by %s\n", o.Unit, o.Credential, o.Provider)
	}
	if len(x.Others) == 0 {
		fmt.Fprintln(out, "in its place: nothing of the same dialect")
	}
	return nil
}
