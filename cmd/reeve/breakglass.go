package main

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/admin"
	"github.com/reevehq/reeve/internal/admin/operator"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/table"
	"github.com/reevehq/reeve/internal/terminal"
)

func newBreakGlassCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "break-glass",
		Short: "In an emergency: let one credential be used for an hour at most, or recover its secret",
		Long: "A lifecycle owner, or his deputy, and a person of another role may together let one credential be used for an hour at most:\n" +
			"without the policy's permit for one workload, without fresh news of revocations, without witnesses. It is written to the ledger\n" +
			"first, all owners are told, it ends by itself, and its review stays open until somebody else signs it. It opens nothing that was\n" +
			"closed, and changes neither charter nor destination nor injection.",
	}
	cmd.AddCommand(newGlassOpenCmd(), newGlassRecoverCmd(), newGlassListCmd(), newGlassReviewCmd())
	return cmd
}

// glassOrder is what open and recover share.
type glassOrder struct {
	s                 signing
	v                 delivery
	with, reason, out string
	life              time.Duration
}

func (o *glassOrder) flags(cmd *cobra.Command) {
	o.s.flags(cmd)
	o.v.flags(cmd)
	cmd.Flags().StringVar(&o.with, "with", "", "the second `person`, of another role, who signs on this machine too")
	cmd.Flags().StringVar(&o.reason, "reason", "", "why, for the ledger and the review")
	cmd.Flags().DurationVar(&o.life, "for", time.Hour, "how long, an hour at most")
	cmd.Flags().StringVarP(&o.out, "out", "o", "", "write the signed record to this `file` instead of sending it: reeve approve adds the other person's signature, reeve publish sends it")
}

// record signs a break-glass.
func (o *glassOrder) record(d *host.Dir, set *statement.Set, b *statement.BreakGlass) (*statement.Envelope, error) {
	if strings.TrimSpace(o.reason) == "" {
		return nil, errors.New("say why, with --reason: it is what the review will ask")
	}
	signers, err := o.s.both(d, o.with)
	if err != nil {
		return nil, err
	}
	now := time.Now().UTC().Truncate(time.Second)
	b.Estate, b.Reason, b.Created, b.Until = set.Charter.Estate, o.reason, now, now.Add(o.life)
	slices.Sort(b.Waive)
	return estate.Seal("break-glass", b, signers...)
}

// deliver verifies a break-glass as a custodian would, and sends it. What goes to a file may still lack a signature.
func (o *glassOrder) deliver(cmd *cobra.Command, b *statement.BreakGlass) (env *statement.Envelope, err error) {
	d, set, err := openSet(cmd)
	if err != nil {
		return nil, err
	}
	if err := cmp.Or(named(set, "credential", b.Credential), named(set, "workload", b.Workload), named(set, "person", b.Recipient)); err != nil {
		return nil, err
	}
	if env, err = o.record(d, set, b); err != nil {
		return nil, failed(err)
	}
	if o.out != "" {
		raw, err := statement.Canonical(env)
		if err != nil {
			return nil, failed(err)
		}
		return nil, failed(os.WriteFile(o.out, raw, 0o600))
	}
	checked, _, err := set.OpenBreakGlass(env, time.Now())
	if err != nil {
		return nil, failed(err)
	}
	to, err := o.v.prepare(d, set)
	if err != nil {
		return nil, failed(err)
	}
	to.Only(func(id string) bool { return set.Serves(id, checked.Credential) })
	return env, o.v.send(cmd, to, set, env)
}

func newGlassOpenCmd() *cobra.Command {
	var o glassOrder
	var b statement.BreakGlass
	cmd := &cobra.Command{
		Use:   "open",
		Short: "Let one credential be used for an hour, against policy, news or witnesses",
		Example: "  reeve break-glass open --credential research-openai --workload research-agent --waive policy --for 30m \\\n" +
			"      --as cora --with bea --reason 'policy owner unreachable, outage'\n" +
			"  reeve break-glass open --credential research-openai --waive feed,witness --as cora -o glass.json --reason 'authority lost'\n" +
			"  reeve approve glass.json --as bea && reeve publish glass.json",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := o.deliver(cmd, &b)
			return err
		},
	}
	o.flags(cmd)
	cmd.Flags().StringVar(&b.Credential, "credential", "", "the one `credential`")
	cmd.Flags().StringVar(&b.Workload, "workload", "", "the one `workload` that may use it; needed to waive the policy")
	cmd.Flags().StringSliceVar(&b.Waive, "waive", nil, "what is waived: policy, feed (fresh news of revocations), witness (cosignatures)")
	return cmd
}

func newGlassRecoverCmd() *cobra.Command {
	var o glassOrder
	var b statement.BreakGlass
	var secret string
	cmd := &cobra.Command{
		Use:   "recover",
		Short: "Have a credential's secret encrypted to a person who has no say in its use",
		Long: "The custodian encrypts the secret to the recipient that the charter has for --to: a live person without a policy role who is neither\n" +
			"of the two signers. Nothing shows the secret; the file is opened with his age key. The credential has to be rotated within a day:\n" +
			"after that it is closed.",
		Example: "  reeve break-glass recover --credential research-openai --to bea --as cora --with ada --reason 'provider wants the old key' --secret old.age",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b.Waive = []string{}
			env, err := o.deliver(cmd, &b)
			if env == nil || err != nil && secret == "" {
				return err
			}
			if err := fetchRecovered(cmd, env, secret); err != nil {
				return failed(err)
			}
			return err
		},
	}
	o.flags(cmd)
	cmd.Flags().StringVar(&b.Credential, "credential", "", "the one `credential`")
	cmd.Flags().StringVar(&b.Recipient, "to", "", "the `person` to whose recipient it is encrypted")
	cmd.Flags().StringVar(&secret, "secret", "", "`file` for the encrypted secret")
	_ = cmd.MarkFlagRequired("secret")
	return cmd
}

// fetchRecovered writes the encrypted secret to a file.
func fetchRecovered(cmd *cobra.Command, env *statement.Envelope, file string) error {
	d, err := openDir(cmd)
	if err != nil {
		return err
	}
	sum := env.ID()
	ctx, cancel := context.WithTimeout(cmd.Context(), 10*time.Second)
	defer cancel()
	ciphertext, err := operator.New(d.Socket(host.Custodian, "admin")).Recovered(ctx, hex.EncodeToString(sum[:]))
	if err != nil {
		return err
	}
	return os.WriteFile(file, ciphertext, 0o600)
}

func newGlassListCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List this host's break-glasses, and which reviews are open",
		Example: "  reeve break-glass list",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := openDir(cmd)
			if err != nil {
				return err
			}
			st, err := operator.New(d.Socket(host.Custodian, "admin")).Status(cmd.Context())
			if err != nil {
				return failed(err)
			}
			if asJSON {
				return printJSON(cmd, st.Glass)
			}
			if len(st.Glass) == 0 {
				fmt.Fprintln(cmd.OutOrStdout(), "No break-glasses.")
				return nil
			}
			t := table.New(cmd.OutOrStdout())
			fmt.Fprintln(t, "RECORD\tCREDENTIAL\tFOR\tWHAT\tSIGNED BY\tUNTIL\tSTATE\tREVIEW\tREASON")
			for _, g := range st.Glass {
				terminal.Printf(t, "%.16s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", g.Record, g.Credential, g.Workload, glassWhat(g), strings.Join(g.Signers, ", "),
					g.Until.Format(time.RFC3339), glassState(g), glassReview(g), g.Reason)
			}
			return t.Flush()
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func glassWhat(g admin.Glass) string {
	if g.Recipient != "" {
		return "recovery to " + g.Recipient
	}
	return "without " + strings.Join(g.Waive, ", ")
}

func glassState(g admin.Glass) string {
	switch {
	case g.Running:
		return "running"
	case g.Rotate:
		return "rotate the credential"
	}
	return "over"
}

func glassReview(g admin.Glass) string {
	if g.Reviewers == nil {
		return "open"
	}
	return g.Finding + " (" + strings.Join(g.Reviewers, ", ") + ")"
}

func newGlassReviewCmd() *cobra.Command {
	var s signing
	var v delivery
	var finding string
	cmd := &cobra.Command{
		Use:     "review RECORD",
		Short:   "Sign what a break-glass was found to have been",
		Long:    "RECORD is the beginning of its hash, as `reeve break-glass list` shows it. Who signs holds an owner role and did not sign the break-glass.",
		Example: "  reeve break-glass review 3f2a9c --as ada --finding 'justified: the outage of the 3rd'",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, set, err := openSet(cmd)
			if err != nil {
				return err
			}
			st, err := operator.New(d.Socket(host.Custodian, "admin")).Status(cmd.Context())
			if err != nil {
				return failed(err)
			}
			var found []admin.Glass
			for _, g := range st.Glass {
				if strings.HasPrefix(g.Record, args[0]) {
					found = append(found, g)
				}
			}
			if len(found) != 1 {
				return &exitError{exitUsage, fmt.Errorf("%d break-glasses begin with %q: see reeve break-glass list", len(found), args[0])}
			}
			signer, err := s.open(d)
			if err != nil {
				return failed(err)
			}
			env, err := estate.Seal("break-glass-review", statement.Review{
				Estate: set.Charter.Estate, BreakGlass: found[0].Record, Finding: finding, Created: time.Now().UTC().Truncate(time.Second)}, signer)
			if err != nil {
				return failed(err)
			}
			if slices.Contains(found[0].Signers, s.as) {
				return failed(fmt.Errorf("%s signed the break-glass: somebody else reviews it", s.as))
			}
			if _, _, err := set.OpenReview(env, time.Now()); err != nil {
				return failed(err)
			}
			to, err := v.prepare(d, set)
			if err != nil {
				return failed(err)
			}
			to.Only(func(id string) bool { return set.Serves(id, found[0].Credential) })
			return v.send(cmd, to, set, env)
		},
	}
	s.flags(cmd)
	v.flags(cmd)
	cmd.Flags().StringVar(&finding, "finding", "", "what it was found to have been")
	_ = cmd.MarkFlagRequired("finding")
	return cmd
}
