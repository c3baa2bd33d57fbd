package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/audit/register"
	"github.com/reevehq/reeve/internal/terminal"
)

func newComponentShowCmd() *cobra.Command {
	var m moment
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "show ID",
		Short:   "What one component can do, how that is known, and who answers for it",
		Example: "  reeve component show acme-ai\n  reeve component show g1 --as-of 720h --json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			v, err := m.look(cmd)
			if err != nil {
				return err
			}
			c, duties, ok := v.Component(args[0])
			if !ok {
				return failed(noComponent(args[0], v))
			}
			if asJSON {
				return lacking(v, printJSON(cmd, struct {
					register.Judged
					Duties []register.Duty `json:"duties"`
				}{c, duties}))
			}
			return lacking(v, printComponent(cmd.OutOrStdout(), v, &c, duties))
		},
	}
	m.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func noComponent(id string, v *register.View) error {
	return noSuch("the register had no component %q at %s: see reeve component list", id, v.At.Format(time.RFC3339))
}

func printComponent(out io.Writer, v *register.View, c *register.Judged, duties []register.Duty) error {
	name := c.ID
	if c.Name != "" {
		name += " (" + c.Name + ")"
	}
	terminal.Printf(out, "%s is a %s for units: %s. So from %s; recorded %s, by %s.\n\n", name, c.Kind, unitsShown(c), c.Valid.Format(time.RFC3339), recorded(c), by(c))
	for _, f := range register.Flags {
		terminal.Printf(out, "%-10s %s\n", f, canShown(c, f, v.At))
	}
	plane := "It is not in the identity control plane: it can cause uses at most."
	if c.ControlPlane {
		plane = "It is in the identity control plane: keys have to be taken to have been in it."
	}
	terminal.Printf(out, "\n%s\n", plane)
	if len(c.Credentials) > 0 {
		terminal.Printf(out, "It is known to reach, beside what the statements say: %s\n", strings.Join(c.Credentials, ", "))
	}
	if c.Verdict != nil {
		terminal.Printf(out, "\nProbed at %s from %s to %s; the verdict holds until %s.\n", c.Verdict.URL, c.Verdict.Begun.Format(time.RFC3339), c.Verdict.Ended.Format(time.RFC3339), c.Probed.Format(time.RFC3339))
		for _, s := range c.Verdict.Cannot {
			terminal.Printf(out, "- cannot be told: %s\n", s)
		}
	}
	fmt.Fprintln(out)
	return printDuties(out, duties)
}

func by(c *register.Judged) string {
	if c.Kind.Own() && len(c.Signers) == 0 {
		return "the signed statements"
	}
	return strings.Join(c.Signers, ", ")
}

// canShown says whether and how it is known that a component can do something.
func canShown(c *register.Judged, f register.Flag, at time.Time) string {
	var how []string
	if slices.Contains(c.Declared, f) {
		how = append(how, "declared")
	}
	if slices.Contains(c.Discovered, f) {
		why := "discovered"
		if c.Verdict != nil {
			for _, found := range c.Verdict.Found {
				if found.Flag == f {
					why += ": " + found.Why
				}
			}
		}
		how = append(how, why)
	}
	if slices.Contains(c.Observed, f) {
		how = append(how, "observed")
	}
	switch {
	case len(how) > 0:
		return "yes, " + strings.Join(how, "; ")
	case c.Unprobed:
		return "has to be assumed: no verdict of a probe holds (reeve probe " + c.ID + ")"
	case slices.Contains(c.Effective, f):
		return "has to be assumed: the probe could not see it either way"
	case c.Probing(at):
		return "not seen by the probe"
	}
	return "no"
}
