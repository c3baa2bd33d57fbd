package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/audit/bom"
	"github.com/reevehq/reeve/internal/table"
	"github.com/reevehq/reeve/internal/terminal"
)

func newCredentialBOMCmd() *cobra.Command {
	var w window
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "bom",
		Short: "The bill of materials: every credential, its owner, reach and living versions",
		Long: "List every credential that was in force at an instant, with the custodians and gateways that reach it, the origins that it may go to, and the versions\n" +
			"of its secret that lived. With --json it is a CycloneDX 1.7 document. It holds no secret; fingerprints are keyed and say nothing outside their custodian.",
		Example: "  reeve credential bom\n  reeve credential bom --json > credentials.cdx.json\n  reeve credential bom --as-of 720h --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, _, at, err := w.times(time.Now())
			if err != nil {
				return err
			}
			_, b, err := openBooks(cmd)
			if err != nil {
				return err
			}
			defer b.Close()
			d, err := bom.Make(cmd.Context(), b, at)
			if err != nil {
				return &exitError{exitUndecided, err}
			}
			if asJSON {
				return printJSON(cmd, d)
			}
			on := map[string]string{}
			for _, x := range d.Dependencies {
				on[x.Ref] = strings.ReplaceAll(strings.Join(x.On, " "), "service:", "")
			}
			t := table.New(cmd.OutOrStdout())
			fmt.Fprintln(t, "CREDENTIAL\tUNIT\tKIND\tOWNER\tVERSIONS\tREACHES")
			for _, c := range d.Components {
				if c.Crypto == nil {
					continue
				}
				owner := ""
				for _, p := range c.Properties {
					if p.Name == "reeve:owner" {
						owner = p.Value
					}
				}
				terminal.Printf(t, "%s\t%s\t%s\t%s\t%d\t%s\n", c.Name, c.Group, c.Crypto.Material.Type, owner, len(c.Components), on[c.Ref])
			}
			return t.Flush()
		},
	}
	w.addAsOf(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a CycloneDX document")
	return cmd
}
