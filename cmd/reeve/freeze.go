package main

import (
	"fmt"
	"os/user"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/admin"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/statement"
)

func newFreezeCmd() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "freeze TARGET",
		Short: "Close something at this host's custodian, at once",
		Long: "Close something at this host's custodian: its calls are refused and its running streams are cut before this command returns.\n" +
			"It works without signatures, network and authority. Opening again takes a record that two owners signed.\n\n" +
			"TARGET is everything, or KIND:ID with workload, unit, credential, gateway or key (a key's SHA-256).",
		Example: "  reeve freeze credential:research-openai --reason 'seen in a public repository'\n  reeve freeze everything --reason incident",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			target, err := parseTarget(args[0])
			if err != nil {
				return &exitError{exitUsage, err}
			}
			d, err := openDir(cmd)
			if err != nil {
				return err
			}
			if u, err := user.Current(); err == nil && reason == "" {
				reason = "by " + u.Username + " on this host"
			}
			done, err := admin.New(d.Socket(host.Custodian, "admin")).Freeze(cmd.Context(), target, reason)
			if done != "" {
				fmt.Fprintln(cmd.OutOrStdout(), done)
			}
			return failed(err)
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the ledger and for whoever is refused")
	return cmd
}

// parseTarget reads "everything" or "kind:id".
func parseTarget(s string) (statement.Target, error) {
	kind, id, _ := strings.Cut(s, ":")
	kinds := []string{"workload", "unit", "credential", "gateway", "key"}
	if kind == "everything" && id == "" || slices.Contains(kinds, kind) && id != "" {
		return statement.Target{Kind: kind, ID: id}, nil
	}
	return statement.Target{}, fmt.Errorf("%q is no target: everything, or KIND:ID with %s", s, strings.Join(kinds, ", "))
}
