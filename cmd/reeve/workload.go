package main

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

func newWorkloadCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "workload", Short: "Issue and list the keys that workloads call the gateway with"}
	key := &cobra.Command{Use: "key", Short: "Issue and list the keys that workloads call the gateway with"}
	key.AddCommand(newKeyIssueCmd(), newKeyListCmd())
	cmd.AddCommand(key)
	return cmd
}

func newKeyIssueCmd() *cobra.Command {
	var s signing
	var life time.Duration
	cmd := &cobra.Command{
		Use:   "issue WORKLOAD",
		Short: "Make a key for a workload; it is shown once",
		Long: "Make a key for a workload and print it on standard output, once: only its hash is kept, in a record that a policy owner of\n" +
			"the workload's unit signs. Issue the next one before the last ends: both are good until then.",
		Example: "  reeve workload key issue research-agent --as ada > research-agent.key\n  reeve workload key issue research-agent --as ada --for 24h",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, set, err := openSet(cmd)
			if err != nil {
				return err
			}
			signer, err := s.open(d)
			if err != nil {
				return failed(err)
			}
			key, record, err := estateDir(d).IssueKey(set, args[0], time.Now(), life, signer)
			if err != nil {
				return failed(err)
			}
			defer key.Wipe()
			fmt.Fprintf(cmd.ErrOrStderr(), "The key %s of %s is valid until %s. It is not shown again:\n", record.SHA256[:16], record.Workload, record.NotAfter.Format(time.RFC3339))
			fmt.Fprintf(cmd.OutOrStdout(), "%s\n", key.Reveal())
			return nil
		},
	}
	s.flags(cmd)
	cmd.Flags().DurationVar(&life, "for", 30*24*time.Hour, "how long the key is valid, at most 720h")
	return cmd
}

func newKeyListCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "Every key that was issued, and whether it is good",
		Example: "  reeve workload key list --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, set, err := openSet(cmd)
			if err != nil {
				return err
			}
			list, err := estateDir(d).Keys(set, time.Now())
			if err != nil {
				return failed(err)
			}
			if asJSON {
				return printJSON(cmd, list)
			}
			t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 8, 2, ' ', 0)
			fmt.Fprintln(t, "KEY\tWORKLOAD\tBEGINS WITH\tFROM\tUNTIL\tSIGNED BY\tSTATE")
			for _, k := range list {
				fmt.Fprintf(t, "%.16s\t%s\t%s…\t%s\t%s\t%s\t%s\n", k.SHA256, k.Workload, k.Prefix, k.NotBefore.Format(time.RFC3339), k.NotAfter.Format(time.RFC3339), strings.Join(k.Signers, ", "), k.State)
			}
			return t.Flush()
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
