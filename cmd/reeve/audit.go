package main

import "github.com/spf13/cobra"

func newAuditCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "The auditor's books",
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
