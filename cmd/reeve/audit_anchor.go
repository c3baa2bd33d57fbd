package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/books"
	"github.com/reevehq/reeve/internal/audit/index"
	"github.com/reevehq/reeve/internal/evidence"
	"github.com/reevehq/reeve/internal/terminal"
)

func newAuditAnchorCmd() *cobra.Command {
	var authorities []string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "anchor",
		Short: "Send evidence of documents that no ledger has yet to an authority again",
		Long: "Drills, incidents, reconciliations and records of the register are documents whose hashes the authority enters in its cosigned ledger. When it was away,\n" +
			"the evidence waits in the signed store. An authority on this machine finds it there by itself; this sends it, and lists what was sent.\n" +
			"Exit status 3: something still waits.",
		Example: "  reeve audit anchor\n  reeve audit anchor --authority https://authority.example --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, b, err := openBooks(cmd)
			if err != nil {
				return err
			}
			defer b.Close()
			have, err := attested(cmd.Context(), b)
			if err != nil {
				return failed(err)
			}
			list, err := evidence.Again(cmd.Context(), anchorage(d, authorities), func(record string) bool { return have[record] })
			if err != nil {
				return failed(err)
			}
			waiting := 0
			for _, a := range list {
				if a.Waits != "" {
					waiting++
				}
			}
			if asJSON {
				if list == nil {
					list = []evidence.Anchored{}
				}
				err = printJSON(cmd, list)
			} else {
				out := cmd.OutOrStdout()
				terminal.Printf(out, "%d of the documents with evidence in the signed store are in no ledger that the auditor has verified\n", len(list))
				for _, a := range list {
					terminal.Printf(out, "%s %s: ", a.Kind, a.Subject)
					printAnchored(out, &a)
				}
			}
			if err != nil || waiting == 0 {
				return err
			}
			return &exitError{exitUndecided, fmt.Errorf("%d documents are not anchored yet", waiting)}
		},
	}
	cmd.Flags().StringSliceVar(&authorities, "authority", nil, "`URL` of an authority, in place of this directory's")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// attested are the records that ledgers have as evidence.
func attested(ctx context.Context, b *books.Books) (map[string]bool, error) {
	events, err := b.Index.Events(ctx, index.Filter{Types: []entry.Type{entry.Attest}})
	have := map[string]bool{}
	for _, e := range events {
		have[e.Record] = true
	}
	return have, err
}
