package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/up"
)

func newUpCmd() *cobra.Command {
	var port int
	var sealed bool
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Start everything on this machine; in a new directory, a demo",
		Long: "Start the processes of the estate in --dir as child processes of this one, and stop them on Ctrl-C.\n" +
			"In a new directory it makes a demo estate first. On a directory that runs already it prints the status.",
		Example: "  reeve up\n  reeve up --dir ./demo2",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, os.Interrupt)
			context.AfterFunc(ctx, stop) // a second signal ends this process at once, and with it the others
			bin, err := binaries()
			if err != nil {
				return failed(err)
			}
			return failed(up.Run(ctx, up.Options{Dir: dirFlag(cmd), Bin: bin, Port: port, Sealed: sealed, Out: cmd.OutOrStdout(), Now: time.Now}))
		},
	}
	cmd.Flags().BoolVar(&sealed, "sealed", false, "make a demo whose keys of the upstream are handed over and stay, instead of tokens that are exchanged")
	cmd.Flags().IntVar(&port, "port", host.DefaultPort, "first port of a new directory's processes; 0 takes any free ones")
	return cmd
}

func newStatusCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "status",
		Short:   "What runs in this directory, as which user, and what it waits for",
		Example: "  reeve status --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := openDir(cmd)
			if err != nil {
				return err
			}
			if !asJSON {
				return failed(up.PrintStatus(cmd.Context(), cmd.OutOrStdout(), d))
			}
			s := up.Look(cmd.Context(), d)
			if err := printJSON(cmd, s); err != nil {
				return err
			}
			return failed(s.Check())
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func newDownCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "down",
		Short:   "Stop what `reeve up` started in this directory",
		Example: "  reeve down --dir ./demo2",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := openDir(cmd)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), 3*time.Minute)
			defer cancel()
			return failed(up.Down(ctx, d))
		},
	}
}

func dirFlag(cmd *cobra.Command) string { return cmd.Flag("dir").Value.String() }

// openDir opens --dir. Without an estate there the status is 3: nothing can be said.
func openDir(cmd *cobra.Command) (*host.Dir, error) {
	bin, err := binaries()
	if err != nil {
		return nil, failed(err)
	}
	d, err := host.Open(dirFlag(cmd), bin)
	if errors.Is(err, host.ErrNone) {
		return nil, &exitError{exitUndecided, err}
	}
	return d, failed(err)
}

// binaries is the folder that this program runs from: the others lie beside it.
func binaries() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("finding the binaries: %w", err)
	}
	if self, err = filepath.EvalSymlinks(self); err != nil {
		return "", fmt.Errorf("finding the binaries: %w", err)
	}
	return filepath.Dir(self), nil
}

func printJSON(cmd *cobra.Command, v any) error {
	enc := json.NewEncoder(cmd.OutOrStdout())
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
