package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/ledger/offline"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/terminal"
	"github.com/reevehq/reeve/verify"
)

func newWhyCmd() *cobra.Command {
	var f verifyFlags
	cmd := &cobra.Command{
		Use:   "why RECEIPT",
		Short: "Why a use was allowed or denied: the policies, their words, and who signed them",
		Long: "Find the receipt's entry in the published ledger, prove it, and say what the decision rested on: the policies by id and in\n" +
			"their own words, the versions of the statements that were in force at that moment, and the people who signed them.\n" +
			"Exit status 3 when the signed store does not reach back to those versions, and when what the decision looked at was erased.",
		Example: "  reeve why v1.0123456789abcdef.7.…\n  reeve why v1.0123456789abcdef.7.… --json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			trust, err := f.loadTrust(cmd)
			if err != nil {
				return err
			}
			r, err := f.find(cmd, trust, args[0], verify.Included)
			if err != nil {
				return f.judge(cmd, nil, verify.Included, err)
			}
			d, set, err := openSet(cmd)
			if err != nil {
				return err
			}
			g, err := estateDir(d).Grounds(set, r.Entry.Estate, unitsOf(set, r.Entry), r.Entry.Policies)
			if errors.Is(err, estate.ErrNoLock) {
				return &exitError{exitUndecided, fmt.Errorf("%w. The entry stands, but who signed what it rests on cannot be said from this store", err)}
			}
			if err != nil {
				return failed(err)
			}
			input, said := inputOf(d, r)
			if f.json {
				err = printJSON(cmd, struct {
					*verify.Result
					Grounds *estate.Grounds `json:"grounds"`
					Input   string          `json:"input"` // kept, erased or elsewhere
				}{r, g, input})
			} else {
				printResult(cmd.OutOrStdout(), r)
				if err = printWhy(cmd.OutOrStdout(), r.Entry, g); err == nil {
					_, err = terminal.Printf(cmd.OutOrStdout(), "\n%s\n", said)
				}
			}
			if err == nil && input == inputErased {
				return &exitError{status: exitUndecided}
			}
			return err
		},
	}
	f.add(cmd)
	return cmd
}

// Where the input of a decision is.
const (
	inputKept      = "kept"
	inputErased    = "erased"
	inputElsewhere = "elsewhere"
)

// inputOf says where what a decision looked at is, and what that means, for a person.
func inputOf(d *host.Dir, r *verify.Result) (word, said string) {
	if r.Entry.Commit == "" {
		return inputElsewhere, "The entry commits to no input."
	}
	_, n := entry.Successor(r.Origin)
	_, err := offline.Payload(d.Join(host.Custodian, "ledger"), n, r.Entry)
	switch {
	case err == nil:
		return inputKept, "What the decision looked at is kept: it can be replayed."
	case errors.Is(err, offline.ErrErased):
		return inputErased, "Unknown: what the decision looked at was erased, so that it cannot be replayed. The entry and its proofs stand."
	}
	return inputElsewhere, fmt.Sprintf("Whether what the decision looked at is kept cannot be said here: %v.", err)
}

// unitsOf are the units whose statements had a say: of the workload, of the credential, and of the policies.
func unitsOf(set *statement.Set, e *entry.Entry) []string {
	units := []string{e.Unit}
	if _, u, ok := set.Credential(e.Credential); ok {
		units = append(units, u.ID)
	}
	for _, id := range e.Policies {
		unit, _, _ := strings.Cut(id, "/")
		units = append(units, unit)
	}
	return units
}

func printWhy(out io.Writer, e *entry.Entry, g *estate.Grounds) error {
	by := strings.Join(append([]string{e.Proof}, e.Actor...), ", ") // keys and tokens, and who acted for the workload
	terminal.Printf(out, "\n%s proved itself at level %s (%s) to use it with %s through %s. Version %d of the lock was in force, created %s.\n", e.Workload, e.Level, by, e.Method, e.Gateway, g.Lock.Version.Version, g.Lock.Created.Format(time.RFC3339))
	if len(g.Policies) == 0 {
		fmt.Fprintln(out, "No policy decided.")
	}
	for _, p := range g.Policies {
		terminal.Printf(out, "\n%s (%s, version %d, line %d):\n  %s\n", p.ID, p.Statement, p.Version, p.Line, terminal.Lines(strings.ReplaceAll(strings.TrimSpace(p.Text), "\n", "\n  ")))
	}
	fmt.Fprintln(out)
	return printGrounds(out, g)
}
