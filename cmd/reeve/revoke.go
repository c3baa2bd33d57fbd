package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/statement"
)

func newRevokeCmd() *cobra.Command {
	var s signing
	var v delivery
	var with, reason string
	var open bool
	cmd := &cobra.Command{
		Use:   "revoke credential|workload|agent|person|tenant|unit|gateway|key|token|everything [ID]",
		Short: "Close something with an owner's signature; two owners open it again",
		Long: "Sign a revocation record, send it by every channel (authority, auditor, gateways, this host's custodian), and print for each\n" +
			"custodian of the estate when it denied, as its own signed ledger says, and by which channel it heard.\n" +
			"Its owner closes a thing alone: the lifecycle owner a credential; a policy owner a workload, agent, key, token or unit; an\n" +
			"operations owner a gateway; a root holder a person or a tenant; a person himself. Two owners of different roles, of its tenant or\n" +
			"of the whole estate, close anything; \"everything\" takes them. --open reopens all but keys and tokens, and takes the owner and one\n" +
			"of another role. A key is named by itself, or by the beginning of it or of its id; a token by the SHA-256 of it or its jti.\n" +
			"Exit status 0: every custodian is known to deny; 3: not known of all.",
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
					return &exitError{exitUsage, err}
				}
			}
			if target.Kind != "agent" { // its names are its issuer's
				if err := named(set, target.Kind, target.ID); err != nil {
					return err
				}
			}
			signers, err := s.both(d, with)
			if err != nil {
				return failed(err)
			}
			to, err := v.prepare(d, set)
			if err != nil {
				return failed(err)
			}
			env, err := estateDir(d).Revoke(set, statement.Revocation{Target: target, Open: open, Reason: reason}, time.Now(), signers...)
			if err != nil {
				return failed(err)
			}
			return v.send(cmd, to, set, env)
		},
	}
	s.flags(cmd)
	v.flags(cmd)
	cmd.Flags().StringVar(&with, "with", "", "a second `person` who signs on this machine too, with DIR/people/PERSON.key")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the ledger and for whoever is refused")
	cmd.Flags().BoolVar(&open, "open", false, "open what was closed")
	_ = cmd.MarkFlagRequired("reason")
	return cmd
}
