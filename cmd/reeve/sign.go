package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/terminal"
)

func newSignCmd() *cobra.Command {
	var s signing
	var life time.Duration
	cmd := &cobra.Command{
		Use:   "sign STATEMENT…",
		Short: "Draft the next version of statements from the owners' files, as their author",
		Long: "Draft the next version of each statement from the files under DIR/estate and sign it as its author. Its role's holders\n" +
			"approve it after that; the author does not count among them. Statements are charter, operations, policy-UNIT,\n" +
			"custody-UNIT and, last, lock; \"changed\" stands for every one whose files differ from the newest version, without the lock.\n\n" + withKeys,
		Example: "  reeve sign policy-research --as bea\n  reeve sign changed --as bea --key ~/.ssh/id_ed25519\n  reeve sign lock --as ada --passkey",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := openDir(cmd)
			if err != nil {
				return err
			}
			e := estateDir(d)
			set, err := e.Check()
			if err != nil {
				return failed(err)
			}
			if args[0] == "changed" {
				if args, err = changed(e, d.Pin()); err != nil {
					return failed(err)
				}
			}
			author, err := s.open(d)
			if err != nil {
				return failed(err)
			}
			for _, name := range args {
				waits := approvers(&set.Charter, name, author.Person)
				switch {
				case len(waits) == 0 && !set.Charter.MayApprove(author.Person, name):
					return &exitError{exitUsage, fmt.Errorf("the estate has no statement %q: charter, operations, lock, and for each unit policy-UNIT and custody-UNIT", name)}
				case len(waits) == 0:
					terminal.Printf(cmd.OutOrStdout(), "%s is left out: only %s approves it, so somebody else must be its author.\n", name, author.Person)
					continue
				}
				terms := estate.Terms{Created: time.Now(), Expires: time.Now().Add(life)}
				if life == 0 {
					terms.Expires = time.Now().Add(estate.Life(name))
				}
				v, err := e.Sign(set.Charter.Estate, name, author, terms)
				if err != nil {
					return failed(err)
				}
				terminal.Printf(cmd.OutOrStdout(), "Version %d of %s is drafted by %s, valid until %s. Who may approve it: %s.\n",
					v, name, author.Person, terms.Expires.UTC().Format(time.DateOnly), strings.Join(waits, ", "))
				if err := printWanted(cmd, e, d.Pin(), name); err != nil {
					return failed(err)
				}
			}
			return nil
		},
	}
	s.flags(cmd)
	cmd.Flags().DurationVar(&life, "for", 0, "how long it is valid (default 8760h, the lock 2160h)")
	return cmd
}

// printWanted says whose signature the draft needs for the sake of an item.
func printWanted(cmd *cobra.Command, e estate.Dir, pin statement.Pin, name string) error {
	wants, err := e.Wants(pin, name, time.Now())
	for _, w := range wants {
		terminal.Printf(cmd.OutOrStdout(), "  %s signs it too (%s): %s.\n", strings.Join(w.From, " or "), w.Owner, w.Change)
	}
	return err
}

// changed are the statements whose files were changed.
func changed(e estate.Dir, pin statement.Pin) (names []string, err error) {
	r, err := e.Report(pin, time.Now())
	if err != nil {
		return nil, err
	}
	for _, s := range r.Statements {
		if s.Changed {
			names = append(names, s.Statement)
		}
	}
	if len(names) == 0 {
		err = errors.New("no file was changed since the last draft")
	}
	return names, err
}

// approvers are the people who may approve the statement.
func approvers(c *statement.Charter, name, author string) (list []string) {
	for _, p := range c.People {
		if p.ID != author && c.MayApprove(p.ID, name) {
			list = append(list, p.ID)
		}
	}
	return list
}
