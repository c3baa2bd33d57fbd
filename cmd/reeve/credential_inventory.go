package main

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/audit/history"
	"github.com/reevehq/reeve/internal/audit/inventory"
	"github.com/reevehq/reeve/internal/table"
	"github.com/reevehq/reeve/internal/terminal"
)

// selection chooses credentials: those that are any of what is asked for, or all.
type selection struct {
	orphaned, static bool
	stale            time.Duration // 0 does not ask
}

const unused = 90 * 24 * time.Hour // what is stale, unless somebody says otherwise

func (s *selection) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&s.orphaned, "orphaned", false, "those that nobody live answers for")
	cmd.Flags().DurationVar(&s.stale, "stale", 0, "those that nobody has used for 90 days, or for `DURATION` with --stale=DURATION")
	cmd.Flags().Lookup("stale").NoOptDefVal = unused.String()
	cmd.Flags().BoolVar(&s.static, "static", false, "those whose secrets live a day and more, or have no end")
}

func (s *selection) any() bool { return s.orphaned || s.static || s.stale > 0 }

func (s *selection) has(orphaned, stale, static bool) bool {
	return !s.any() || s.orphaned && orphaned || s.stale > 0 && stale || s.static && static
}

// listFromLedger answers from the auditor's books, as of a time.
func listFromLedger(cmd *cobra.Command, only *selection, at *window, asJSON bool) error {
	_, b, err := openBooks(cmd)
	if err != nil {
		return err
	}
	defer b.Close()
	_, _, asOf, err := at.times(b.Now)
	if err != nil {
		return err
	}
	stale := only.stale
	if stale == 0 {
		stale = unused
	}
	v, err := inventory.List(cmd.Context(), b, asOf, stale)
	if errors.Is(err, history.ErrBefore) {
		return &exitError{exitUndecided, err}
	} else if err != nil {
		return failed(err)
	}
	v.Credentials = slices.DeleteFunc(v.Credentials, func(r inventory.Row) bool { return !only.has(r.Orphaned, r.Stale, r.Static) })
	if asJSON {
		return printJSON(cmd, v)
	}
	t := table.New(cmd.OutOrStdout())
	fmt.Fprintln(t, "CREDENTIAL\tUNIT\tOWNER\tSOURCE\tLIVE\tSINCE\tUSES\tLAST USE\tIS")
	for _, r := range v.Credentials {
		owner, last, since, is := r.Owner, "never", "", ""
		if r.Orphaned {
			owner = "ORPHANED"
		}
		if !r.LastUse.IsZero() {
			last = short(int64(asOf.Sub(r.LastUse)/time.Second)) + " before"
		}
		if !r.Oldest.IsZero() {
			since = r.Oldest.Format(time.DateOnly)
		}
		for _, w := range []struct {
			is   bool
			word string
		}{{r.Orphaned, "orphaned"}, {r.Stale, "stale"}, {r.Static, "static"}} {
			if w.is {
				is += " " + w.word
			}
		}
		terminal.Printf(t, "%s\t%s\t%s\t%s\t%d\t%s\t%d\t%s\t%s\n", r.Credential, r.Unit, owner, r.Source, r.Live, since, r.Uses, last, is)
	}
	return t.Flush()
}
