package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/drill"
	"github.com/reevehq/reeve/internal/process"
	"github.com/reevehq/reeve/internal/terminal"
)

// errTaken and errUndecided are a drill's bad ends; the table above them has said why.
var (
	errTaken     = errors.New("the drill found a downstream secret in an attacker's hands, or something done that he may not")
	errUndecided = errors.New("the drill could not find anything in the double, so it proves nothing")
)

func newDrillCmd() *cobra.Command {
	var asJSON bool
	var again time.Duration
	var to filing
	var onEstate runningDrill
	o := drill.Options{}
	cmd := &cobra.Command{
		Use:   "drill",
		Short: "Take a gateway over and show what that brought",
		Long: "Start an estate of its own with the real processes, capture its gateway and its authority, and look for downstream secrets in every place\n" +
			"that an attacker reaches; forge and replay calls; have the upstream reflect the keys; take bait; chain over credentials; stop processes; have an\n" +
			"owner leave. The same is done to a gateway of one process with the keys in it. The result is filed with the estate in --dir, if there is one. Exit\n" +
			"status 1 when a secret was found in reeve or something was done that may not be, 3 when none was found in either.",
		Example: "  reeve drill\n  reeve drill --scenario S7,S9 --json\n  reeve drill --dir /srv/estate --as bea              # file it and sign for it\n" +
			"  reeve drill --dir /srv/estate --as bea --every 720h # and again every 30 days\n" +
			"  reeve drill --dir /srv/estate --on-estate --canary research-canary --canary-key canary.key --as bea",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, os.Interrupt)
			defer stop()
			bin, err := binaries()
			if err != nil {
				return failed(err)
			}
			o.Bin, o.Progress = bin, cmd.ErrOrStderr()
			if err := drill.Check(o.Only); err != nil {
				return err
			}
			if err := to.open(cmd); err != nil {
				return failed(err)
			}
			if err := onEstate.check(&o, cmd); err != nil {
				return err
			}
			once := func(ctx context.Context) error {
				report, err := onEstate.run(ctx, cmd, o)
				if err != nil {
					return &exitError{exitUndecided, err}
				}
				return errors.Join(show(report, asJSON, cmd.OutOrStdout()), to.file(ctx, cmd, report))
			}
			if again > 0 {
				return every(ctx, again, func(err error) { terminal.Printf(cmd.ErrOrStderr(), "reeve: %v\n", err) }, once)
			}
			return failed(once(ctx))
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().IntVar(&o.Calls, "calls", 1000, "calls made through each gateway before the attack")
	cmd.Flags().StringSliceVar(&o.Only, "scenario", nil, "scenarios to play, such as S7,S9; all unless named")
	cmd.Flags().BoolVar(&o.Keep, "keep", false, "leave the drill's directory behind")
	cmd.Flags().DurationVar(&again, "every", 0, "do it again so long after each end, until stopped")
	onEstate.flags(cmd)
	to.optional(cmd)
	cmd.AddCommand(newDrillListCmd(), newCapturedCmd("captured", "The gateway", drill.Captured()), newCapturedCmd("captured-authority", "The authority", drill.CapturedAuthority()), newAttackerCmd(), newDoubleCmd())
	return cmd
}

func show(r *drill.Report, asJSON bool, w io.Writer) error {
	if asJSON {
		if err := r.WriteJSON(w); err != nil {
			return err
		}
	} else {
		r.WriteTable(w)
	}
	switch {
	case r.ReeveHits > 0:
		return &exitError{exitNot, errTaken}
	case !r.Held():
		return &exitError{exitUndecided, errUndecided}
	}
	return nil
}

func newCapturedCmd[C any](name, who string, app process.App[C]) *cobra.Command {
	return &cobra.Command{
		Use: name, Hidden: true, DisableFlagParsing: true,
		Short: who + " with an attacker in it; started by a drill",
		RunE: func(_ *cobra.Command, args []string) error {
			if status := process.RunArgs(app, args); status != 0 {
				return &exitError{status, errors.New("the captured process ended")}
			}
			return nil
		},
	}
}

func newAttackerCmd() *cobra.Command {
	var socket string
	cmd := &cobra.Command{
		Use: "attacker", Hidden: true, Args: cobra.NoArgs,
		Short: "An attacker as a bare process; started by a drill",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return untilSignal(cmd, func(ctx context.Context) error { return drill.Bare(ctx, socket) })
		},
	}
	cmd.Flags().StringVar(&socket, "socket", "", "where it takes orders")
	return cmd
}

func newDoubleCmd() *cobra.Command {
	var config, listen, socket string
	cmd := &cobra.Command{
		Use: "double", Hidden: true, Args: cobra.NoArgs,
		Short: "A gateway of one process with the keys in it; started by a drill",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return untilSignal(cmd, func(ctx context.Context) error { return drill.Double(ctx, config, listen, socket) })
		},
	}
	cmd.Flags().StringVar(&config, "config", "", "file with the keys")
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:0", "where clients connect")
	cmd.Flags().StringVar(&socket, "socket", "", "where its attacker takes orders; empty for none")
	return cmd
}

func untilSignal(cmd *cobra.Command, run func(context.Context) error) error {
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	return failed(run(ctx))
}
