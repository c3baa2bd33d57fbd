package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/audit/register"
	"github.com/reevehq/reeve/internal/table"
	"github.com/reevehq/reeve/internal/terminal"
)

func newComponentListCmd() *cobra.Command {
	var m moment
	var plane, orphans, asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List all components: flags, control plane, owners, verdicts, orphans",
		Long: "FLAGS are what a component has to be taken to be able to do: declared, and where it says so discovered by a probe or observed. Whatever can forward,\n" +
			"cache, retrieve or mint has had keys: it is in the identity control plane. A vendor's gateway without a live verdict counts as able to do everything.",
		Example: "  reeve component list\n  reeve component list --control-plane --as-of 2026-11-01T00:00:00Z\n  reeve component list --orphans --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v, err := m.look(cmd)
			if err != nil {
				return err
			}
			v.Components = slices.DeleteFunc(v.Components, func(c register.Judged) bool {
				return plane && !c.ControlPlane || orphans && len(c.Orphans) == 0
			})
			if asJSON {
				return lacking(v, printJSON(cmd, v))
			}
			return lacking(v, printComponents(cmd.OutOrStdout(), v))
		},
	}
	m.add(cmd)
	cmd.Flags().BoolVar(&plane, "control-plane", false, "only those that have had keys")
	cmd.Flags().BoolVar(&orphans, "orphans", false, "only those that somebody has to be found for")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printComponents(out io.Writer, v *register.View) error {
	t := table.New(out)
	fmt.Fprintln(t, "COMPONENT\tKIND\tUNITS\tFLAGS\tCONTROL PLANE\tOPERATIONS\tPOLICY\tLIFECYCLE\tVERDICT\tRECORDED")
	for _, c := range v.Components {
		plane := "no"
		if c.ControlPlane {
			plane = "yes"
		}
		terminal.Printf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", c.ID, c.Kind, unitsShown(&c), flagsShown(&c), plane, ownerShown(c.Owners.Operations, c.Named.Operations),
			ofUnits(&c, func(o register.Owners) string { return o.Policy }), ofUnits(&c, func(o register.Owners) string { return o.Lifecycle }), verdictShown(&c, v.At), recorded(&c))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, c := range v.Components {
		for _, f := range c.Undeclared {
			terminal.Printf(out, "finding: %s can %s, and nobody declared it: declare it, or stop it\n", c.ID, f)
		}
		for _, d := range c.Orphans {
			terminal.Printf(out, "orphan: %s\n", orphanShown(&d))
		}
	}
	return nil
}

func orphanShown(d *register.Duty) string {
	of := ""
	if d.Of != "" {
		of = " of " + d.Of
	}
	return fmt.Sprintf("%s of %s%s: %s (%s)", d.Task, d.Component, of, d.Why, strings.Join(d.Escalated, ", "))
}

func unitsShown(c *register.Judged) string {
	if len(c.Units) == 0 {
		return "all"
	}
	if len(c.Units) > 3 {
		return fmt.Sprintf("%s and %d more", strings.Join(c.Units[:2], ", "), len(c.Units)-2)
	}
	return strings.Join(c.Units, ", ")
}

// flagsShown says how each flag is known.
func flagsShown(c *register.Judged) string {
	if c.Unprobed {
		return "all: not probed"
	}
	var list []string
	for _, f := range c.Effective {
		how := ""
		switch {
		case slices.Contains(c.Declared, f):
		case slices.Contains(c.Observed, f):
			how = " (observed)"
		case !slices.Contains(c.Discovered, f):
			how = " (not seen either way)"
		default:
			how = " (discovered)"
		}
		list = append(list, string(f)+how)
	}
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ", ")
}

func ownerShown(is, named string) string {
	switch {
	case is == "":
		return "ORPHAN"
	case is != named:
		return is + " for " + named
	}
	return is
}

// ofUnits is the owner, or of a custodian those of its units.
func ofUnits(c *register.Judged, of func(register.Owners) string) string {
	if c.UnitOwners == nil {
		return ownerShown(of(c.Owners), of(c.Named))
	}
	var all []string
	for _, u := range c.Units {
		all = append(all, ownerShown(of(c.UnitOwners[u]), of(c.UnitOwners[u])))
	}
	slices.Sort(all)
	if all = slices.Compact(all); len(all) > 3 {
		return fmt.Sprintf("%d people, by unit", len(all))
	}
	return strings.Join(all, ", ")
}

func verdictShown(c *register.Judged, at time.Time) string {
	switch {
	case c.Probed.IsZero() && c.Kind == register.Vendor:
		return "none"
	case c.Probed.IsZero():
		return ""
	case !c.Probing(at):
		return "over since " + c.Probed.Format(time.DateOnly)
	}
	return "until " + c.Probed.Format(time.DateOnly)
}

func recorded(c *register.Judged) string {
	s := c.Recorded.Format(time.RFC3339)
	if !c.Anchored {
		s += ", not anchored yet"
	}
	return s
}
