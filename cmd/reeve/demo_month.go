package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/audit/sample"
	"github.com/reevehq/reeve/internal/terminal"
)

func newDemoMonthCmd() *cobra.Command {
	var o sample.Options
	var end string
	cmd := &cobra.Command{
		Use:   "month DIR",
		Short: "Make an invented company with a month of ledgers, to try questions on",
		Long: "Make an invented company in a new directory: 40 business units of three tenants, 10,000 credentials, three gateways and three\n" +
			"custodians, every statement signed by people whose keys come from the seed, and the auditor's copies of a month of ledgers. For\n" +
			"three hours of it a gateway was in somebody else's hands. DIR/answers.json says what was planted. Nothing runs.",
		Example: "  reeve demo month ./month\n  reeve --dir ./month people leave lukas",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			o.End = time.Now()
			if end != "" {
				if o.End, err = time.Parse(time.RFC3339, end); err != nil {
					return fmt.Errorf("--end: %w", err)
				}
			}
			a, err := sample.Write(args[0], o)
			if err != nil {
				return failed(err)
			}
			terminal.Printf(cmd.OutOrStdout(), "%s has a month of %d entries in %d ledgers, until %s. %s was captured from %s to %s.\n", args[0], a.Entries, len(a.Logs),
				a.End.Format(time.RFC3339), a.Captured, a.From.Format(time.RFC3339), a.To.Format(time.RFC3339))
			return nil
		},
	}
	cmd.Flags().Int64Var(&o.Seed, "seed", 1, "the same seed, end and sizes make the same month")
	cmd.Flags().StringVar(&end, "end", "", "when the month ends: a `time` such as 2026-11-23T15:00:00Z; this hour when left out")
	cmd.Flags().IntVar(&o.Credentials, "credentials", 10_000, "how many, 2,400 at least")
	cmd.Flags().IntVar(&o.Uses, "uses", 100_000, "how many honest uses")
	return cmd
}
