package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/backup"
	"github.com/reevehq/reeve/internal/up"
)

func newBackupCmd() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "backup",
		Short: "Save ledgers, sealed secrets and closings of this host's processes, also while they run",
		Long: "Write an archive (tar) of the ledgers, the published tiles, the custodian's sealed secrets, its closings and the last\n" +
			"statements. The keys are left out: keep custodian/identity.age and every log.key apart from it.",
		Example: "  reeve backup -o reeve-2026-06-01.tar",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := openDir(cmd)
			if err != nil {
				return err
			}
			if out == "" {
				return failed(backup.Write(d, os.Stdout))
			}
			f, err := os.OpenFile(out, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
			if err != nil {
				return failed(err)
			}
			if err := errors.Join(backup.Write(d, f), f.Sync(), f.Close()); err != nil {
				return failed(errors.Join(err, os.Remove(out)))
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&out, "output", "o", "", "a new `file` (default: standard output)")
	return cmd
}

func newRestoreCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "restore [FILE]",
		Short: "Put a backup back, where ledgers were moved away and processes are stopped",
		Long: "Unpack what `reeve backup` wrote. The processes' keys and configurations must be there already; their ledgers must not: what is\n" +
			"there is evidence, so a person moves it away. A log that a witness has seen further than the backup refuses to start;\n" +
			"`reeve ledger retire` closes it and begins a new one.",
		Example: "  reeve restore reeve-2026-06-01.tar",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := openDir(cmd)
			if err != nil {
				return err
			}
			if s := up.Look(cmd.Context(), d); s.Running {
				return failed(fmt.Errorf("the processes run (pid %d): stop them first, with reeve down", s.PID))
			}
			in := io.Reader(cmd.InOrStdin())
			if len(args) == 1 {
				f, err := os.Open(args[0])
				if err != nil {
					return failed(err)
				}
				defer f.Close()
				in = f
			}
			return failed(backup.Restore(d, in))
		},
	}
}
