package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/audit/detect"
	"github.com/reevehq/reeve/internal/table"
	"github.com/reevehq/reeve/internal/terminal"
)

func newAuditFindingsCmd() *cobra.Command {
	var w window
	var asJSON, rules bool
	cmd := &cobra.Command{
		Use:   "findings",
		Short: "What no person does by hand: chaining, bursts, first uses, fan-out, bait",
		Long: "What no person does by hand, found in the auditor's copies of the ledgers: per workload, with the people who have to act. --rules prints\n" +
			"what is looked for, the limits and why they are what they are. Exit status 1 when there is any finding.",
		Example: "  reeve audit findings --from 24h\n  reeve audit findings --from 2026-11-01T00:00:00Z --to 2026-11-02T00:00:00Z --json\n  reeve audit findings --rules",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if rules {
				return printDetection(cmd, asJSON)
			}
			from, to, _, err := w.times(time.Now())
			if err != nil {
				return err
			}
			_, b, err := openBooks(cmd)
			if err != nil {
				return err
			}
			defer b.Close()
			list, err := detect.Find(cmd.Context(), b, from, to)
			if err != nil {
				return failed(err)
			}
			if asJSON {
				err = printJSON(cmd, list)
			} else {
				err = printDetected(cmd, list)
			}
			if err == nil && len(list) > 0 {
				err = &exitError{status: exitNot}
			}
			return err
		},
	}
	w.add(cmd, 24*time.Hour)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVar(&rules, "rules", false, "print the rules instead")
	return cmd
}

func printDetected(cmd *cobra.Command, list []*detect.Finding) error {
	if len(list) == 0 {
		fmt.Fprintln(cmd.OutOrStdout(), "No findings.")
		return nil
	}
	t := table.New(cmd.OutOrStdout())
	fmt.Fprintln(t, "SEVERITY\tRULE\tSUBJECT\tUNIT\tTHROUGH\tCOUNT\tFIRST\tLAST\tWHO MUST ACT")
	for _, f := range list {
		var owners []string
		for _, o := range f.Owners {
			owners = append(owners, o.Person+" ("+o.For+")")
		}
		if len(owners) > 4 {
			owners = append(owners[:4], fmt.Sprintf("and %d more", len(owners)-4))
		}
		terminal.Printf(t, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\n", f.Severity, f.Rule, f.Subject, f.Unit, strings.Join(f.Gateways, ", "), f.Count,
			f.First.Format(time.RFC3339), f.Last.Format(time.RFC3339), strings.Join(owners, ", "))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, f := range list {
		terminal.Printf(cmd.OutOrStdout(), "\n%s", f.What)
	}
	fmt.Fprintln(cmd.OutOrStdout())
	return nil
}

func printDetection(cmd *cobra.Command, asJSON bool) error {
	if asJSON {
		return printJSON(cmd, detect.Rules())
	}
	t := table.New(cmd.OutOrStdout())
	fmt.Fprintln(t, "RULE\tSEVERITY\tCOUNTS\tUP TO\tWITHIN\tWHY")
	for _, r := range detect.Rules() {
		within := ""
		if r.Window > 0 {
			within = r.Window.String()
		}
		terminal.Printf(t, "%s\t%s\t%s\t%d\t%s\t%s\n", r.ID, r.Severity, r.What, r.Limit, within, r.Why)
	}
	return t.Flush()
}
