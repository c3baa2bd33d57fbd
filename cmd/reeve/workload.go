package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/secret"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/table"
	"github.com/reevehq/reeve/internal/terminal"
)

func newWorkloadCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "workload", Short: "Issue and list the keys that workloads call the gateway with"}
	key := &cobra.Command{Use: "key", Short: "Issue and list the keys that workloads call the gateway with"}
	key.AddCommand(newKeyIssueCmd(), newKeyRotateCmd(), newKeyListCmd())
	cmd.AddCommand(key)
	return cmd
}

func newKeyIssueCmd() *cobra.Command {
	var s signing
	var life time.Duration
	var networks []string
	cmd := &cobra.Command{
		Use:   "issue WORKLOAD",
		Short: "Make a key for a workload; it is shown once",
		Long: "Make a key for a workload and print it on standard output, once: only its hash is kept, in a record that a policy owner of\n" +
			"the workload's unit signs. Issue the next one before the last ends: both are good until then.",
		Example: "  reeve workload key issue research-agent --as ada > research-agent.key\n  reeve workload key issue research-agent --as ada --for 24h",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, set, signer, err := s.forWorkload(cmd, args[0])
			if err != nil {
				return err
			}
			key, record, err := estateDir(d).IssueKey(set, args[0], time.Now(), life, signer, networks...)
			if err != nil {
				return failed(err)
			}
			defer key.Wipe()
			showKey(cmd, key, record)
			return nil
		},
	}
	s.flags(cmd)
	keyFlags(cmd, &life, &networks)
	return cmd
}

// forWorkload opens what signing for a workload of the estate needs.
func (s *signing) forWorkload(cmd *cobra.Command, id string) (*host.Dir, *statement.Set, *estate.Signer, error) {
	d, set, err := openSet(cmd)
	if err != nil {
		return nil, nil, nil, err
	}
	if err := named(set, "workload", id); err != nil {
		return nil, nil, nil, err
	}
	signer, err := s.open(d)
	return d, set, signer, failed(err)
}

func keyFlags(cmd *cobra.Command, life *time.Duration, networks *[]string) {
	cmd.Flags().DurationVar(life, "for", 30*24*time.Hour, "how long the key is valid, at most 720h")
	cmd.Flags().StringSliceVar(networks, "network", nil, "where it may be used from, such as 10.0.0.0/8, by what the gateway says")
}

// showKey prints a workload's key, once.
func showKey(cmd *cobra.Command, key secret.Value, record *statement.WorkloadKey) {
	terminal.Printf(cmd.ErrOrStderr(), "The key %s of %s is valid until %s. It is not shown again:\n", record.SHA256[:16], record.Workload, record.NotAfter.Format(time.RFC3339))
	terminal.Printf(cmd.OutOrStdout(), "%s\n", key.Reveal())
}

func newKeyRotateCmd() *cobra.Command {
	var s signing
	var life, overlap time.Duration
	var networks []string
	cmd := &cobra.Command{
		Use:   "rotate WORKLOAD",
		Short: "Make a new key for a workload and let its others end after an overlap",
		Long: "Make a new key for a workload and print it on standard output, once. The workload's other keys are good for the overlap and end\n" +
			"then, by records that a policy owner of its unit signs. For a key that was stolen use reeve revoke key: it ends at once.",
		Example: "  reeve workload key rotate research-agent --as ada --overlap 1h > research-agent.key",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, set, signer, err := s.forWorkload(cmd, args[0])
			if err != nil {
				return err
			}
			key, record, cut, err := estateDir(d).RotateKey(set, args[0], time.Now(), life, overlap, signer, networks...)
			defer key.Wipe()
			if record != nil { // it is good whatever became of the others
				showKey(cmd, key, record)
			}
			for _, old := range cut {
				terminal.Printf(cmd.ErrOrStderr(), "The key %s ends at %s.\n", old.SHA256[:16], old.NotAfter.Format(time.RFC3339))
			}
			if err != nil {
				return failed(err)
			}
			return nil
		},
	}
	s.flags(cmd)
	keyFlags(cmd, &life, &networks)
	cmd.Flags().DurationVar(&overlap, "overlap", time.Hour, "how long the other keys stay good")
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
			t := table.New(cmd.OutOrStdout())
			fmt.Fprintln(t, "KEY\tWORKLOAD\tBEGINS WITH\tFROM\tUNTIL\tSIGNED BY\tSTATE")
			for _, k := range list {
				terminal.Printf(t, "%.16s\t%s\t%s…\t%s\t%s\t%s\t%s\n", k.SHA256, k.Workload, k.Prefix, k.NotBefore.Format(time.RFC3339), k.NotAfter.Format(time.RFC3339), strings.Join(k.Signers, ", "), k.State)
			}
			return t.Flush()
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
