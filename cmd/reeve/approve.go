package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/durable"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/terminal"
)

func newApproveCmd() *cobra.Command {
	var s signing
	cmd := &cobra.Command{
		Use:   "approve STATEMENT…|RECORD|FILE",
		Short: "Sign what somebody else drafted, after you have read it",
		Long: "Add your signature to the drafts named. What you sign lies under DIR/estate/.pending. \"all\" stands for every draft that your\n" +
			"role approves, or that changes what you answer for. A record that waits for a second owner is named as reeve revoke\n" +
			"printed it, such as revocation/cora-3, or is a file that came from another machine, such as an extension or a retirement:\n" +
			"your signature is added to the file. A step of an incident is named as reeve incident printed it, such as incident/inc-20261123-1-2.\n\n" + withKeys,
		Example: "  reeve approve policy-research --as ada\n  reeve approve all --as ada --passkey\n  reeve approve revocation/cora-3 --as bea\n  reeve approve extension.json --as cora",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := openDir(cmd)
			if err != nil {
				return err
			}
			signer, err := s.open(d)
			if err != nil {
				return failed(err)
			}
			e := estateDir(d)
			if args[0] == "all" {
				if args, err = mine(e, d.Pin(), s.as); err != nil {
					return failed(err)
				}
			}
			for _, name := range args {
				switch {
				case strings.HasPrefix(name, "incident/"):
					err = approveStep(cmd, name, signer)
				case e.Waits(name):
					err = approveRecord(cmd, name, signer)
				case isFile(name):
					err = approveFile(cmd, name, signer)
				default:
					if err = e.Approve(name, signer); err == nil {
						terminal.Printf(cmd.OutOrStdout(), "%s signed %s.\n", s.as, name)
					}
				}
				if err != nil {
					return failed(err)
				}
			}
			return nil
		},
	}
	s.flags(cmd)
	return cmd
}

// mine are the drafts that the person may approve, or must for the sake of an item, and did not write.
func mine(e estate.Dir, pin statement.Pin, person string) (names []string, err error) {
	set, err := e.Check()
	if err != nil {
		return nil, err
	}
	for _, name := range estate.Names(&set.Charter) {
		drafts, err := estate.Log(e.Drafting(), name)
		if err != nil {
			return nil, err
		}
		if len(drafts) == 0 || drafts[0].Author == person {
			continue
		}
		wants, err := e.Wants(pin, name, time.Now())
		if err != nil {
			return nil, err
		}
		if set.Charter.MayApprove(person, name) || estate.WantedFrom(wants, person) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		err = fmt.Errorf("nothing waits for %s", person)
	}
	return names, err
}

// approveRecord adds a second signature to a record that waits in the estate, and sends it.
func approveRecord(cmd *cobra.Command, name string, by *estate.Signer) error {
	d, set, err := openSet(cmd)
	if err != nil {
		return err
	}
	v := delivery{wait: 10 * time.Second}
	to, err := v.prepare(d, set)
	if err != nil {
		return err
	}
	env, err := estateDir(d).ApproveRecord(set, name, by, time.Now())
	if err != nil {
		return err
	}
	return v.send(cmd, to, set, env)
}

// isFile reports whether the name is that of a file, and not of a statement or a record of the estate.
func isFile(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.Mode().IsRegular()
}

// approveFile adds a signature to a record in a file, after it has shown what the record says.
func approveFile(cmd *cobra.Command, file string, by *estate.Signer) error {
	_, set, err := openSet(cmd)
	if err != nil {
		return err
	}
	env, err := readRecord(file)
	if err != nil {
		return err
	}
	if err := showRecord(cmd, env); err != nil {
		return err
	}
	holds, err := estate.Cosign(set, env, by, time.Now())
	if err != nil {
		return err
	}
	raw, err := statement.Canonical(env)
	if err != nil {
		return err
	}
	if err := replace(file, raw); err != nil {
		return err
	}
	if holds == nil {
		terminal.Printf(cmd.OutOrStdout(), "%s signed it. It holds: reeve publish %s, on the host that it is for, puts it into effect.\n", by.Person, file)
		return nil
	}
	terminal.Printf(cmd.OutOrStdout(), "%s signed it. It does not hold yet: %v\n", by.Person, holds)
	return nil
}

// readRecord reads a record's file.
func readRecord(file string) (*statement.Envelope, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	env, err := statement.ParseEnvelope(b)
	if err == nil && estate.Kind(env) == "" {
		err = fmt.Errorf("it is of the type %q, which is no record's", env.PayloadType)
	}
	if err != nil {
		return nil, fmt.Errorf("%s is not a record: %w", file, err)
	}
	return env, nil
}

// showRecord says what a record says.
func showRecord(cmd *cobra.Command, env *statement.Envelope) error {
	members, err := estate.Members(env.Payload)
	if err != nil {
		return err
	}
	terminal.Printf(cmd.OutOrStdout(), "The record, of kind %s:\n", estate.Kind(env))
	for _, m := range members {
		terminal.Printf(cmd.OutOrStdout(), "  %s: %s\n", m.Name, m.Value)
	}
	return nil
}

// replace writes a file over what was there, whole or not at all, with the mode that it had.
func replace(file string, b []byte) error {
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	return durable.Replace(file, b, info.Mode().Perm())
}
