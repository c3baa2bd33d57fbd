package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/audit/register"
	"github.com/reevehq/reeve/internal/table"
	"github.com/reevehq/reeve/internal/terminal"
)

func newDutiesCmd() *cobra.Command {
	var m moment
	var conflicts, orphans, asJSON bool
	cmd := &cobra.Command{
		Use:   "duties [PERSON|COMPONENT]",
		Short: "Who answers for what: of a person, of a component, or all; who holds powers together",
		Long: "What a person answers for, as an owner or as the deputy of one who is not live, with the rule that says so; or who answers for what of a component.\n" +
			"R1 what a component can do is what is declared, discovered and observed of it. R2 whatever can forward, cache, retrieve or mint: its operations\n" +
			"owner answers for containment, its policy owner for the audit, each credential's lifecycle owner for revocation. R3 transport or invoke alone:\n" +
			"routing integrity, caller authentication, misuse within the window. R4 who approved the policy in force answers for the reach. R5 a vendor's\n" +
			"gateway without a live verdict can do everything. R6 what has no owner is an orphan: it is the root holders' to find one, and nobody inherits it.\n" +
			"Exit status 1: --conflicts or --orphans found some.",
		Example: "  reeve duties cora\n  reeve duties g1 --as-of 2026-11-01T00:00:00Z\n  reeve duties --conflicts\n  reeve duties --orphans --json",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if conflicts && (orphans || len(args) > 0) {
				return &exitError{exitUsage, errors.New("--conflicts is asked alone")}
			}
			v, err := m.look(cmd)
			if err != nil {
				return err
			}
			if conflicts {
				return lacking(v, printConflicts(cmd, v.Conflicts(), asJSON))
			}
			a := dutiesAnswer{At: v.At, AsOf: v.AsOf, Duties: v.Duties}
			if len(args) > 0 {
				if err := a.of(args[0], v); err != nil {
					return failed(err)
				}
			}
			if orphans {
				a.Duties = register.Orphans(a.Duties)
			}
			if err := lacking(v, a.print(cmd, asJSON)); err != nil || !orphans || len(a.Duties) == 0 {
				return err
			}
			return &exitError{exitNot, nil}
		},
	}
	m.add(cmd)
	cmd.Flags().BoolVar(&conflicts, "conflicts", false, "who holds power over policy, operations and secrets together")
	cmd.Flags().BoolVar(&orphans, "orphans", false, "only what nobody answers for")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// dutiesAnswer is the answer as JSON.
type dutiesAnswer struct {
	At        time.Time       `json:"at"`
	AsOf      time.Time       `json:"as_of,omitzero"`
	Person    string          `json:"person,omitempty"`
	Live      bool            `json:"live,omitempty"`
	Until     time.Time       `json:"until,omitzero"` // when he stops being live
	Deputies  []string        `json:"deputies,omitempty"`
	Component string          `json:"component,omitempty"`
	Duties    []register.Duty `json:"duties"`
	Escalated []register.Duty `json:"escalated,omitempty"` // orphans that he, a root holder, has to find somebody for
}

// of narrows the answer to a component or a person.
func (a *dutiesAnswer) of(name string, v *register.View) error {
	if _, duties, ok := v.Component(name); ok {
		a.Component, a.Duties = name, duties
		return nil
	}
	p, ok := v.Set.Person(name)
	if !ok {
		return noSuch("%q was neither a person of the charter nor a component of the register at %s: see reeve component list", name, v.At.Format(time.RFC3339))
	}
	a.Person, a.Live, a.Until, a.Deputies = name, p.Live(v.At), p.Until(), p.Deputies
	a.Duties, a.Escalated = register.Of(v.Duties, name), register.Escalated(v.Duties, name)
	return nil
}

func (a *dutiesAnswer) print(cmd *cobra.Command, asJSON bool) error {
	if a.Duties == nil {
		a.Duties = []register.Duty{}
	}
	if asJSON {
		return printJSON(cmd, a)
	}
	out := cmd.OutOrStdout()
	if a.Person != "" {
		state := "is live until " + a.Until.Format(time.RFC3339)
		if !a.Live {
			state = "was not live any more (until " + a.Until.Format(time.RFC3339) + "): what is his goes to his deputies, or is orphaned"
		}
		deputies := "nobody: without him it is orphaned"
		if len(a.Deputies) > 0 {
			deputies = strings.Join(a.Deputies, ", ")
		}
		terminal.Printf(out, "%s %s. Deputies: %s.\n\n", a.Person, state, deputies)
	}
	if err := printDuties(out, a.Duties); err != nil {
		return err
	}
	for _, d := range a.Escalated {
		terminal.Printf(out, "escalated: %s\n", orphanShown(&d))
	}
	return nil
}

func printDuties(out io.Writer, duties []register.Duty) error {
	if len(duties) == 0 {
		_, err := fmt.Fprintln(out, "No duties.")
		return err
	}
	t := table.New(out)
	fmt.Fprintln(t, "RULE\tCOMPONENT\tTASK\tOF\tWHO\tDEPUTIES\tWHY")
	for i, d := range duties {
		who := ownerShown(d.Person, d.Named)
		if d.Task == register.Reach && !d.Orphan {
			who = d.Person
		}
		switch n := alike(duties[i:]); {
		case i > 0 && d.Task == register.Revocation && likes(&duties[i-1], &d):
			continue // in the row of the first
		case n > 1:
			d.Of += fmt.Sprintf(" and %d more", n-1)
		}
		terminal.Printf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", d.Rule, d.Component, d.Task, d.Of, who, strings.Join(d.Deputies, ", "), d.Why)
	}
	return t.Flush()
}

// alike counts the revocations at the head of the list that are the same but for the credential.
func alike(list []register.Duty) (n int) {
	for n < len(list) && list[0].Task == register.Revocation && likes(&list[0], &list[n]) {
		n++
	}
	return n
}

func likes(a, b *register.Duty) bool {
	return a.Component == b.Component && a.Task == b.Task && a.Rule == b.Rule && a.Person == b.Person && a.Named == b.Named && a.Why == b.Why
}

func printConflicts(cmd *cobra.Command, list []register.Conflict, asJSON bool) error {
	if list == nil {
		list = []register.Conflict{}
	}
	var err error
	if asJSON {
		err = printJSON(cmd, list)
	} else {
		err = writeConflicts(cmd.OutOrStdout(), list)
	}
	if err != nil || len(list) == 0 {
		return err
	}
	return &exitError{exitNot, nil}
}

func writeConflicts(out io.Writer, list []register.Conflict) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(out, "Nobody holds two of policy, operations and secrets together.")
		return err
	}
	t := table.New(out)
	fmt.Fprintln(t, "PERSON\tWHERE\tNOW\tPOWERS")
	for _, c := range list {
		now := "now"
		if c.Latent {
			now = "as a deputy"
		}
		terminal.Printf(t, "%s\t%s\t%s\t%s\n", c.Person, c.Where, now, strings.Join(c.Powers, "; "))
	}
	return t.Flush()
}
