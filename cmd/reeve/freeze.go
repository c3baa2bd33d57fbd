package main

import (
	"fmt"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/admin/operator"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/terminal"
)

func newFreezeCmd() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "freeze credential|workload|agent|person|tenant|unit|gateway|key|token|everything [ID]",
		Short: "Close something at this host's custodian, at once",
		Long: "Close something at this host's custodian: its calls are refused and its running streams are cut before this command returns.\n" +
			"It needs no signature, no network and no authority. Opening again takes two owners: reeve revoke --open.\n" +
			"Exit status 0: closed; 1: not closed, or closed and known to nobody by that name, as when it is mistyped.",
		Example:   "  reeve freeze credential research-openai --reason 'seen in a public repository'\n  reeve freeze everything --reason incident",
		ValidArgs: append(closable(), "everything"),
		Args:      cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := openDir(cmd)
			if err != nil {
				return err
			}
			target, err := freezeTarget(d, args)
			if err != nil {
				return &exitError{exitUsage, err}
			}
			if reason == "" {
				reason = "by " + whoami(user.Current()) + " on this host"
			}
			done, err := operator.New(d.Socket(host.Custodian, "admin")).Freeze(cmd.Context(), target, reason)
			if done != "" {
				terminal.Printf(cmd.OutOrStdout(), "%s: %s\n", strings.Join(args, " "), done)
			}
			if err == nil && target.Kind != "key" && target.Kind != "token" {
				terminal.Printf(cmd.OutOrStdout(), "Two owners of different roles open it again: reeve revoke %s --open --as OWNER --with OTHER --reason WHY\n", strings.Join(args, " "))
			}
			if _, set, bad := openSet(cmd); err != nil && bad == nil && target.Kind != "agent" && named(set, target.Kind, target.ID) != nil {
				return &exitError{exitUsage, err} // the custodian says that it has no such name, and what it did all the same
			}
			return failed(err)
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the ledger and for whoever is refused")
	return cmd
}

// whoami names the user who types. In a container the user often has no name.
func whoami(u *user.User, err error) string {
	if err != nil {
		return "user " + strconv.Itoa(os.Getuid())
	}
	return u.Username
}

// closable are the kinds that have an id.
func closable() []string {
	return []string{"credential", "workload", "agent", "person", "tenant", "unit", "gateway", "key", "token"}
}

// freezeTarget reads a kind and, unless it is everything, an id. A key is named by the beginning of its id or of the key.
func freezeTarget(d *host.Dir, args []string) (statement.Target, error) {
	kinds := closable()
	t := statement.Target{Kind: args[0]}
	if len(args) == 2 {
		t.ID = args[1]
	}
	var err error
	switch {
	case t.Kind == "everything" && t.ID == "":
	case !slices.Contains(kinds, t.Kind) || t.ID == "":
		return t, fmt.Errorf("%q is nothing to freeze: everything, or %s and its id", strings.Join(args, " "), strings.Join(kinds, ", "))
	case t.Kind == "key":
		t.ID, err = estateDir(d).FindKey(t.ID)
	}
	return t, err
}
