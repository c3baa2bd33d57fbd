package main

import "github.com/spf13/cobra"

func newAuditCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "The auditor's copies of the ledgers: how far, whole, findings, export",
	}
	cmd.AddCommand(
		newAuditAnchorCmd(),
		newAuditExportCmd(),
		newAuditFindingsCmd(),
		newAuditRebuildCmd(),
		newAuditStatusCmd(),
		newAuditVerifyCmd(),
		newAuditWatchCmd(),
	)
	return cmd
}
