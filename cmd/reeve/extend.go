package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/terminal"
)

func newExtendCmd() *cobra.Command {
	var s signing
	var with, reason, custodian, out string
	var life time.Duration
	cmd := &cobra.Command{
		Use:   "extend witness|feed",
		Short: "Let a custodian go on without its witness or its news, for an hour at most",
		Long: "A custodian stops using secrets when no witness has cosigned its ledger for 30 s, or when its news of revocations is older than\n" +
			"the class allows. Two owners of different roles may extend that by an hour at most, while they mend the cause. The record goes\n" +
			"to this host's custodian; with -o it goes to a file, for the operator of another host, or for the second owner when he signs\n" +
			"elsewhere: reeve approve adds his signature to it, reeve publish hands it over.",
		Example:   "  reeve extend feed --as bea --reason 'the authority is being moved' -o extension.json\n  reeve extend witness --for 30m --as bea --with cora --reason 'the auditor is being moved'",
		Args:      cobra.ExactArgs(1),
		ValidArgs: []string{"witness", "feed"},
		RunE: func(cmd *cobra.Command, args []string) error {
			d, set, err := openSet(cmd)
			if err != nil {
				return err
			}
			signers, err := s.both(d, with)
			if err != nil {
				return failed(err)
			}
			if custodian, err = onlyCustodian(set, custodian); err != nil {
				return &exitError{exitUsage, err}
			}
			now := time.Now().UTC().Truncate(time.Second)
			env, err := estate.Seal("extension", statement.Extension{Estate: set.Charter.Estate, Custodian: custodian, What: args[0], Until: now.Add(life), Created: now, Reason: reason}, signers...)
			if err != nil {
				return failed(err)
			}
			if out != "" {
				return failed(draft(cmd, set, env, out))
			}
			if err := estate.Take(set, env, now); err != nil {
				return failed(err)
			}
			raw, err := statement.Canonical(env)
			if err != nil {
				return failed(err)
			}
			return failed(accept(cmd, d, raw))
		},
	}
	s.flags(cmd)
	cmd.Flags().StringVar(&with, "with", "", "the second `person`, of another role, who signs on this machine too")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the ledger")
	cmd.Flags().StringVar(&custodian, "custodian", "", "`id` of the custodian; not needed when the estate has one")
	cmd.Flags().DurationVar(&life, "for", time.Hour, "how long, an hour at most")
	cmd.Flags().StringVarP(&out, "out", "o", "", "write the record to this `file` instead of handing it over")
	_ = cmd.MarkFlagRequired("reason")
	return cmd
}

// draft writes a record to a new file, for the owner who signs elsewhere or the operator of another host. A record that no further
// signature would make good is refused.
func draft(cmd *cobra.Command, set *statement.Set, env *statement.Envelope, file string) error {
	lacks := estate.Take(set, env, time.Now())
	if lacks != nil && !estate.Unsigned(lacks) {
		return lacks
	}
	raw, err := statement.Canonical(env)
	if err != nil {
		return err
	}
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		return err
	}
	if lacks == nil {
		terminal.Printf(cmd.OutOrStdout(), "%s holds: reeve publish %s, on the host that it is for, puts it into effect.\n", file, file)
		return nil
	}
	terminal.Printf(cmd.OutOrStdout(), "%s waits for another owner, who signs it with reeve approve %s: %v\n", file, file, lacks)
	return nil
}

// onlyCustodian is the one that is named, or the only one of the estate.
func onlyCustodian(set *statement.Set, named string) (string, error) {
	known := map[string]bool{}
	for _, c := range set.Custody {
		for _, one := range c.Custodians {
			known[one.ID] = true
		}
	}
	switch {
	case named != "" && known[named]:
		return named, nil
	case named != "":
		return "", fmt.Errorf("the custody statements name no custodian %q", named)
	case len(known) != 1:
		return "", errors.New("the estate has several custodians; name one with --custodian")
	}
	for id := range known {
		named = id
	}
	return named, nil
}
