package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"
)

func newComponentRetireCmd() *cobra.Command {
	var s signing
	var valid string
	var authorities []string
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "retire ID",
		Short:   "Sign that a component is gone; the register keeps what was",
		Example: "  reeve component retire acme-ai --as bea",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := openAddition(cmd, &s)
			if err != nil {
				return err
			}
			last := a.journal.Last(args[0])
			if last == nil || last.Said.Kind.Own() {
				return noSuch("no record of the register says that there is a %q; a component of this estate goes when the statements do not name it any more", args[0])
			}
			next := last.Said
			next.Valid = a.now
			if valid != "" {
				if next.Valid, err = instant(valid, a.now); err != nil {
					return &exitError{exitUsage, fmt.Errorf("--valid: %w", err)}
				}
			}
			next.Valid = next.Valid.UTC().Truncate(time.Second)
			next.Until = next.Valid
			return a.write(cmd, next, authorities, asJSON)
		},
	}
	s.flags(cmd)
	cmd.Flags().StringVar(&valid, "valid", "", "from when it is gone (default now): RFC 3339, or a duration back from now")
	cmd.Flags().StringSliceVar(&authorities, "authority", nil, "`URL` of an authority, in place of this directory's")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
