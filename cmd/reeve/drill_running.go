package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/drill"
	"github.com/reevehq/reeve/internal/handover"
)

// runningDrill are the flags of a drill on the processes that run an estate.
type runningDrill struct {
	on                bool
	workload, keyFile string
}

func (r *runningDrill) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&r.on, "on-estate", false, "play on the processes that run the estate in --dir what does no harm: bait, used by a canary")
	cmd.Flags().StringVar(&r.workload, "canary", "", "with --on-estate: a `workload` that policy permits nothing but bait")
	cmd.Flags().StringVar(&r.keyFile, "canary-key", "", "with --on-estate: `file` with its key, as reeve workload key issue prints it")
}

// check refuses flags that do not go together.
func (r *runningDrill) check(o *drill.Options, cmd *cobra.Command) error {
	switch {
	case r.on && (r.workload == "" || r.keyFile == ""):
		return errors.New("--on-estate needs --canary and --canary-key: a workload that policy permits nothing but bait")
	case !r.on && (r.workload != "" || r.keyFile != ""):
		return errors.New("--canary and --canary-key are for --on-estate")
	case r.on && (len(o.Only) > 0 || cmd.Flags().Changed("calls") || o.Keep):
		return errors.New("--on-estate plays what can be played without harm: --scenario, --calls and --keep are for an estate of the drill's own")
	}
	return nil
}

// run plays on the estate, or on one of the drill's own.
func (r *runningDrill) run(ctx context.Context, cmd *cobra.Command, o drill.Options) (*drill.Report, error) {
	if !r.on {
		return drill.Run(ctx, o)
	}
	d, set, err := openSet(cmd)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(r.keyFile)
	if err != nil {
		return nil, fmt.Errorf("reading the canary's key: %w", err)
	}
	defer f.Close()
	key, err := handover.Read(f)
	if err != nil {
		return nil, fmt.Errorf("reading the canary's key: %w", err)
	}
	return drill.OnEstate(ctx, d, set, drill.Canary{Workload: r.workload, Key: key}, o.Progress)
}
