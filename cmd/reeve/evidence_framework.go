package main

import (
	"errors"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/audit/control"
	"github.com/reevehq/reeve/internal/audit/pack"
	"github.com/reevehq/reeve/internal/terminal"
)

func newEvidenceCmd() *cobra.Command {
	var p posture
	var s signing
	var out, incident string
	cmd := &cobra.Command{
		Use:   "evidence --framework F|--incident ID --out DIR",
		Short: "Write the evidence pack for a framework or an incident, and a manifest of hashes",
		Long: "Judge the controls that answer to a framework (reeve controls) and write what an assessor is given: results.json, controls.html, the six OSCAL\n" +
			"documents, the signed heads of the ledgers, and manifest.json with the hash of each. With --as, that person signs for the manifest, and the authority\n" +
			"writes it into its ledger. Exit status as of reeve controls. With --incident: its report, an annex for each business unit, proofs of the entries that it rests\n" +
			"on, OSCAL of before and after, and its journal. Exit status as of reeve incident report.\n\n" + withKeys,
		Example: "  reeve evidence --framework csf2 --out pack\n  reeve evidence --framework soc2 --as-of 2026-11-01T00:00:00Z --out pack --as ada\n  reeve evidence --incident inc-20261123-1 --out pack --as bea",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if incident != "" {
				return incidentEvidence(cmd, incident, out, &s)
			}
			d, b, o, refused, err := p.open(cmd)
			if err != nil {
				return err
			}
			defer b.Close()
			r, err := control.Make(cmd.Context(), b, o)
			if errors.Is(err, control.ErrFramework) || errors.Is(err, control.ErrUnit) {
				return err // of usage
			} else if err != nil {
				return &exitError{exitUndecided, err}
			}
			r.Refused = refused
			files, err := pack.Make(r, b, "")
			if err != nil {
				return failed(err)
			}
			if err := pack.Write(out, files); err != nil {
				return failed(err)
			}
			terminal.Printf(cmd.OutOrStdout(), "%s: %d files, %s\n", filepath.Join(out, pack.ManifestFile), len(files)-1, r.State)
			if s.as != "" {
				if err := vouch(cmd, d, b.History.Newest().Set, &s, "pack", p.framework, files[pack.ManifestFile]); err != nil {
					return err
				}
			}
			return judged(r.State)
		},
	}
	p.flags(cmd)
	s.optional(cmd)
	cmd.Flags().StringVar(&out, "out", "", "the `folder`, which is made and must be empty")
	cmd.Flags().StringVar(&incident, "incident", "", "the pack of this incident, by its `id`")
	cmd.MarkFlagsOneRequired("framework", "incident")
	cmd.MarkFlagsMutuallyExclusive("framework", "incident")
	_ = cmd.MarkFlagRequired("out")
	_ = cmd.Flags().MarkHidden("json")
	return cmd
}
