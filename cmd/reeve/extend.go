package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/admin"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/statement"
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
			"to this host's custodian; with -o it goes to a file, for the operator of another host, or when one of the two signs elsewhere.",
		Example:   "  reeve extend witness --for 30m --as bea --with cora --reason 'the auditor is being moved'",
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
			x := statement.Extension{Estate: set.Charter.Estate, Custodian: custodian, What: args[0], Until: now.Add(life), Created: now, Reason: reason}
			raw, err := sealExtension(set, x, now, signers)
			if err != nil {
				return failed(err)
			}
			if out != "" {
				return failed(os.WriteFile(out, raw, 0o600))
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), 10*time.Second)
			defer cancel()
			done, err := admin.New(d.Socket(host.Custodian, "admin")).Accept(ctx, raw)
			if done != "" {
				fmt.Fprintln(cmd.OutOrStdout(), done)
			}
			return failed(err)
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

// sealExtension signs an extension and refuses one that the custodian would refuse.
func sealExtension(set *statement.Set, x statement.Extension, now time.Time, signers []*estate.Signer) ([]byte, error) {
	env, err := estate.Seal("extension", x, signers...)
	if err != nil {
		return nil, err
	}
	if _, err := set.OpenExtension(env, x.Custodian, now); err != nil {
		return nil, err
	}
	return statement.Canonical(env)
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
