package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/admin/operator"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/terminal"
)

func newPublishCmd() *cobra.Command {
	var v delivery
	var process string
	cmd := &cobra.Command{
		Use:   "publish [FILE]",
		Short: "Verify the signed drafts as a custodian would, and put them into force",
		Long: "Verify the published statements with the signed drafts over them, exactly as every process will. If they hold, move the drafts\n" +
			"into DIR/estate/.signed, the lock last; else nothing is moved and the rule, the person, the file and the line are named.\n\n" +
			"With the FILE of a record that its owners have signed elsewhere, put the record into effect on this host: an extension goes to\n" +
			"the custodian, a retirement to the process whose ledger it closes, anything else to every custodian that it concerns, as reeve\n" +
			"revoke does, and all but a break-glass into the signed store.",
		Example: "  reeve publish\n  reeve publish extension.json",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				return failed(publishFile(cmd, args[0], process, &v))
			}
			d, err := openDir(cmd)
			if err != nil {
				return err
			}
			set, err := estateDir(d).Publish(d.Pin(), time.Now())
			if err != nil {
				return failed(fmt.Errorf("%w\nnothing was published; reeve estate check shows what waits, and who has signed it", err))
			}
			if err := d.WriteTrust(&set.Charter); err != nil {
				return failed(err)
			}
			terminal.Printf(cmd.OutOrStdout(), "Version %d of the lock is published, valid until %s. Its hash is %x.\n", set.Lock.Version, set.Expires.Format(time.RFC3339), set.LockHash)
			for _, w := range estate.Warnings(set, time.Now()) {
				terminal.Printf(cmd.OutOrStdout(), "warning: %s\n", w)
			}
			return nil
		},
	}
	v.flags(cmd)
	cmd.Flags().StringVar(&process, "process", "", "whose ledger a retirement closes: custodian, authority or gateway (default: the one whose log it names)")
	return cmd
}

// publishFile puts a record into effect on this host.
func publishFile(cmd *cobra.Command, file, process string, v *delivery) error {
	d, set, err := openSet(cmd)
	if err != nil {
		return err
	}
	env, err := readRecord(file)
	if err != nil {
		return err
	}
	if err := estate.Take(set, env, time.Now()); err != nil {
		return err
	}
	switch estate.Kind(env) {
	case "extension":
		raw, err := statement.Canonical(env)
		if err != nil {
			return err
		}
		return accept(cmd, d, raw)
	case "retirement":
		return retire(cmd, d, env, process)
	}
	to, err := v.prepare(d, set)
	if err != nil {
		return err
	}
	if b, _, err := set.OpenBreakGlass(env, time.Now()); err == nil {
		to.Only(func(id string) bool { return set.Serves(id, b.Credential) })
		return v.send(cmd, to, set, env)
	}
	name, err := estate.RecordName(env)
	if err != nil {
		return err
	}
	if err := estateDir(d).WriteRecord(name, env); err != nil {
		return err
	}
	return v.send(cmd, to, set, env)
}

// accept gives a record to this host's custodian, which must take it.
func accept(cmd *cobra.Command, d *host.Dir, raw []byte) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), 10*time.Second)
	defer cancel()
	done, err := operator.New(d.Socket(host.Custodian, "admin")).Accept(ctx, raw)
	if done != "" {
		terminal.Printf(cmd.OutOrStdout(), "%v\n", done)
	}
	return err
}
