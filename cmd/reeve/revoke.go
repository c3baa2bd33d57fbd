package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/admin"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/statement"
)

func newRevokeCmd() *cobra.Command {
	var s signing
	var with, reason string
	var open bool
	cmd := &cobra.Command{
		Use:   "revoke credential|workload|unit|gateway|key|everything [ID]",
		Short: "Close something with an owner's signature; two owners open it again",
		Long: "Sign a revocation record and send it: into the estate's signed store, from where the authority carries it to every custodian,\n" +
			"and to this host's custodian at once. Its owner closes a thing alone: the lifecycle owner a credential, a policy owner a\n" +
			"workload, key or unit, an operations owner a gateway. Two owners of different roles close anything; \"everything\" takes them.\n" +
			"--open reopens and takes the owner and one of another role. A key is named by itself, or by the beginning of it or of its id.",
		Example: "  reeve revoke credential research-openai --as cora --reason 'seen in a public repository'\n" +
			"  reeve revoke everything --as ada --with bea --reason incident\n" +
			"  reeve revoke credential research-openai --open --as cora --with ada --reason rotated",
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, set, err := openSet(cmd)
			if err != nil {
				return err
			}
			target := statement.Target{Kind: args[0]}
			if len(args) == 2 {
				target.ID = args[1]
			}
			if target.Kind == "key" {
				if target.ID, err = estateDir(d).FindKey(target.ID); err != nil {
					return failed(err)
				}
			}
			signers, err := s.both(d, with)
			if err != nil {
				return failed(err)
			}
			env, err := estateDir(d).Revoke(set, target, open, reason, time.Now(), signers...)
			return failed(sent(cmd, d, env, err))
		},
	}
	s.flags(cmd)
	cmd.Flags().StringVar(&with, "with", "", "a second `person` who signs on this machine too, with DIR/people/PERSON.key")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the ledger and for whoever is refused")
	cmd.Flags().BoolVar(&open, "open", false, "open what was closed")
	_ = cmd.MarkFlagRequired("reason")
	return cmd
}

// both opens the signer's key and that of the second person, if one is named.
func (s *signing) both(d *host.Dir, with string) ([]*estate.Signer, error) {
	first, err := s.open(d)
	if err != nil || with == "" {
		return []*estate.Signer{first}, err
	}
	second, err := (&signing{as: with}).open(d)
	return []*estate.Signer{first, second}, err
}

// sent sends a record that was written to this host's custodian too, and says what became of it.
func sent(cmd *cobra.Command, d *host.Dir, env *statement.Envelope, err error) error {
	if err != nil {
		return err
	}
	fmt.Fprintln(cmd.OutOrStdout(), "The record is in the signed store; the authority carries it to every custodian.")
	raw, err := statement.Canonical(env)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), 10*time.Second)
	defer cancel()
	done, err := admin.New(d.Socket(host.Custodian, "admin")).Accept(ctx, raw)
	if err != nil {
		fmt.Fprintf(cmd.OutOrStdout(), "This host's custodian did not take it: %v\n", err)
		return nil // the store has it
	}
	fmt.Fprintf(cmd.OutOrStdout(), "This host's custodian: %s\n", done)
	return nil
}

// approveRecord adds a second signature to a record that waits, and sends it.
func approveRecord(cmd *cobra.Command, name string, by *estate.Signer) error {
	d, set, err := openSet(cmd)
	if err != nil {
		return err
	}
	env, err := estateDir(d).ApproveRecord(set, name, by, time.Now())
	return sent(cmd, d, env, err)
}
