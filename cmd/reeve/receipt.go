package main

import (
	"context"
	"errors"
	"os"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/terminal"
	"github.com/reevehq/reeve/verify"
)

func newReceiptCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "receipt",
		Short: "Turn receipts into proofs that stand by themselves",
	}
	cmd.AddCommand(newReceiptGetCmd())
	return cmd
}

func newReceiptGetCmd() *cobra.Command {
	var f verifyFlags
	var out string
	cmd := &cobra.Command{
		Use:   "get RECEIPT",
		Short: "Write a bundle: the entry, its outcome, their proofs and a cosigned checkpoint",
		Long: "Write a self-contained bundle for a receipt: the entry, its outcome if there is one, inclusion proofs and a cosigned\n" +
			"checkpoint. It waits for the checkpoint. 'reeve verify FILE' checks the bundle anywhere with a trust file alone.",
		Example: "  reeve receipt get v1.0123456789abcdef.7.… -o proof.json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			trust, err := f.loadTrust(cmd)
			if err != nil {
				return err
			}
			dir, err := f.published(cmd)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), f.wait)
			defer cancel()
			b, err := trust.Collect(dir, args[0])
			for errors.Is(err, verify.ErrUndecided) && sleep(ctx) {
				b, err = trust.Collect(dir, args[0])
			}
			if err != nil {
				return f.judge(cmd, nil, verify.Cosigned, err)
			}
			// What was written must convince somebody else.
			r, err := trust.Bundle(b.Encode())
			if err != nil {
				return f.judge(cmd, nil, verify.Cosigned, err)
			}
			if out == "" || out == "-" {
				_, err := cmd.OutOrStdout().Write(b.Encode())
				return err
			}
			if err := os.WriteFile(out, b.Encode(), 0o644); err != nil {
				return failed(err)
			}
			if !f.json {
				terminal.Printf(cmd.OutOrStdout(), "%s written.\n", out)
			}
			return f.judge(cmd, r, verify.Included, nil)
		},
	}
	f.add(cmd)
	cmd.Flags().StringVarP(&out, "output", "o", "", "write the bundle to `FILE` (default: standard output)")
	return cmd
}
