package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/table"
	"github.com/reevehq/reeve/internal/terminal"
)

func newPeopleCmd() *cobra.Command {
	var asJSON bool
	var q inForce
	cmd := &cobra.Command{
		Use:     "people",
		Short:   "Who signs for what, until when each is attested, and who acts for whom",
		Example: "  reeve people\n  reeve people --as-of 2026-11-01T00:00:00Z --json\n  reeve people leave cora --as bea --reason 'left the company'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := q.open(cmd)
			if err != nil {
				return err
			}
			list := estate.People(f.set, f.at)
			if asJSON {
				return printJSON(cmd, list)
			}
			t := table.New(cmd.OutOrStdout())
			fmt.Fprintln(t, "PERSON\tSTATE\tUNTIL\tATTESTED BY\tDEPUTIES\tROLES\tANSWERS FOR")
			for _, p := range list {
				state := p.State
				if p.Acting != "" {
					state += ", " + p.Acting + " acts"
				}
				terminal.Printf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", p.ID, state, p.Until.UTC().Format(time.DateOnly), p.AttestedBy, strings.Join(p.Deputies, ", "),
					strings.Join(p.Roles, ", "), strings.Join(append(p.Credentials, p.Gateways...), ", "))
			}
			return t.Flush()
		},
	}
	q.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.AddCommand(newPeopleLeaveCmd())
	return cmd
}

func newPeopleLeaveCmd() *cobra.Command {
	var s signing
	var v delivery
	var with, reason string
	cmd := &cobra.Command{
		Use:   "leave PERSON",
		Short: "What somebody who leaves must give to others; with --as, close what he held",
		Long: "List what needs another owner and what is to be rotated when the person leaves. With --as, sign and send a revocation of the\n" +
			"person: from then on he counts as left, his deputies act for him, and what he alone held is not used. He himself signs it, a\n" +
			"holder of root, or two owners of different roles. The charter's next version then says when he left.",
		Example: "  reeve people leave cora\n  reeve people leave cora --as bea --reason 'left the company'",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, set, err := openSet(cmd)
			if err != nil {
				return err
			}
			for _, person := range []string{s.as, with} {
				if err := named(set, "person", person); err != nil {
					return err
				}
			}
			l, err := estateDir(d).Leave(set, args[0], time.Now())
			if err != nil {
				return failed(err)
			}
			if s.as == "" && v.asJSON {
				return printJSON(cmd, l)
			}
			if !v.asJSON {
				printLeaving(cmd, l)
			}
			if s.as == "" {
				return nil
			}
			if reason == "" {
				return fmt.Errorf("--reason is missing: it is written into the ledger")
			}
			signers, err := s.both(d, with)
			if err != nil {
				return failed(err)
			}
			to, err := v.prepare(d, set)
			if err != nil {
				return failed(err)
			}
			env, err := estateDir(d).Revoke(set, statement.Revocation{Target: statement.Target{Kind: "person", ID: args[0]}, Reason: reason}, time.Now(), signers...)
			if err != nil {
				return failed(err)
			}
			return v.send(cmd, to, set, env)
		},
	}
	s.optional(cmd)
	v.flags(cmd)
	cmd.Flags().StringVar(&with, "with", "", "a second `person` who signs on this machine too, with DIR/people/PERSON.key")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the ledger")
	return cmd
}

func printLeaving(cmd *cobra.Command, l *estate.Leaving) {
	out := cmd.OutOrStdout()
	for _, part := range []struct {
		title string
		lines []string
	}{
		{"To be given to others:", l.Transfer},
		{"To be rotated:", l.Rotate},
		{"Held alone, and not usable once he has left:", l.Person.Alone},
	} {
		if len(part.lines) > 0 {
			terminal.Printf(out, "%s\n  %s\n", part.title, terminal.Lines(strings.Join(part.lines, "\n  ")))
		}
	}
}

func newAttestCmd() *cobra.Command {
	var s signing
	var life time.Duration
	cmd := &cobra.Command{
		Use:   "attest PERSON",
		Short: "Attest that a person still holds his roles, by a new charter",
		Long: "Write into charter.yaml until when the person is attested and that you attest it, and draft the charter as its author. You hold\n" +
			"an owner role that he does not. The root quorum approves it, a lock binds it, and it is published like any change. A charter\n" +
			"with an attestation that its attester did not sign is refused.",
		Example: "  reeve attest ada --as bea --for 4320h\n  reeve approve charter --as cora",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, set, err := openSet(cmd)
			if err != nil {
				return err
			}
			by, err := s.open(d)
			if err != nil {
				return failed(err)
			}
			e, now := estateDir(d), time.Now()
			until := now.Add(life).UTC().Truncate(time.Second)
			if err := e.Attest(args[0], by.Person, until); err != nil {
				return failed(err)
			}
			v, err := e.Sign(set.Charter.Estate, "charter", by, estate.Terms{Created: now, Expires: now.Add(estate.Life("charter"))})
			if err != nil {
				return failed(err)
			}
			terminal.Printf(cmd.OutOrStdout(), "Version %d of the charter is drafted by %s: %s is attested until %s. Who may approve it: %s. Then: reeve sign lock, and reeve publish.\n",
				v, by.Person, args[0], until.Format(time.RFC3339), strings.Join(approvers(&set.Charter, "charter", by.Person), ", "))
			return nil
		},
	}
	s.flags(cmd)
	cmd.Flags().DurationVar(&life, "for", 180*24*time.Hour, "for how long")
	return cmd
}
