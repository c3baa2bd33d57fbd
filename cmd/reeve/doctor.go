package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/admin/operator"
	"github.com/reevehq/reeve/internal/doctor"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/table"
	"github.com/reevehq/reeve/internal/terminal"
	"github.com/reevehq/reeve/internal/up"
)

func newDoctorCmd() *cobra.Command {
	var call doctor.Call
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Explain why a call is refused, step by step, and what to do",
		Long: "Go through everything that a call needs, in the order in which the custodian does, and say of each step whether it holds\n" +
			"and who does what when it does not. It makes no call and changes nothing.\n\n" +
			"The workload is --workload, or the one whose key is in $REEVE_KEY, or the first one. The model is --model or $REEVE_MODEL.",
		Example: "  . demo/env && reeve doctor\n  reeve doctor --workload support-agent --model anthropic/demo-claude --path /v1/messages",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := openDir(cmd)
			if err != nil {
				return err
			}
			e := observed(cmd.Context(), d)
			if key := os.Getenv("REEVE_KEY"); call.Workload == "" && key != "" {
				sum := sha256.Sum256([]byte(key))
				call.KeyHash = hex.EncodeToString(sum[:])
			}
			call.Model = cmp.Or(call.Model, os.Getenv("REEVE_MODEL"))
			if e.Set != nil {
				complete(&call, e.Set)
			}
			found := doctor.Examine(e, call)
			if asJSON {
				if err := printJSON(cmd, found); err != nil {
					return err
				}
			} else {
				printFindings(cmd, found)
			}
			return verdict(found)
		},
	}
	f := cmd.Flags()
	f.StringVar(&call.Workload, "workload", "", "the workload that calls")
	f.StringVar(&call.Model, "model", "", "the model as the client names it")
	f.StringVar(&call.Method, "method", "POST", "the method")
	f.StringVar(&call.Path, "path", "/v1/chat/completions", "the path at the gateway")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// complete takes the first workload and model where none is named.
func complete(call *doctor.Call, set *statement.Set) {
	if call.Workload == "" && call.KeyHash == "" && len(set.Charter.Workloads) > 0 {
		call.Workload = set.Charter.Workloads[0].ID
	}
	for _, p := range set.Operations.Providers {
		if call.Model == "" && len(p.Models) > 0 {
			call.Model = p.Name + "/" + p.Models[0]
		}
	}
}

// observed asks the files, the processes and the custodian.
func observed(ctx context.Context, d *host.Dir) *doctor.Evidence {
	e := &doctor.Evidence{Now: time.Now(), Gateway: "g1", ID: "c1"}
	for _, p := range up.Look(ctx, d).Processes {
		e.Processes = append(e.Processes, doctor.Process{Name: p.Name, Ready: p.Ready, Waits: p.Waits(), Log: p.Log})
	}
	if e.Custodian, e.AskErr = operator.New(d.Socket(host.Custodian, "admin")).Status(ctx); e.AskErr != nil {
		e.Custodian = nil
	} else {
		e.ID = e.Custodian.ID
	}
	dir := estateDir(d)
	if e.Set, e.SetErr = statement.Load(dir.Store(), d.Pin(), nil, e.Now); e.SetErr != nil {
		return e
	}
	for _, g := range e.Set.Operations.Gateways {
		if slices.Contains(g.Custodians, e.ID) {
			e.Gateway = g.ID
		}
	}
	records, err := estate.ReadRecords(dir.Store(), "workload-key")
	if err != nil {
		e.SetErr = err
		return e
	}
	for _, env := range records {
		if k, err := e.Set.OpenWorkloadKey(env, e.Now); err == nil {
			e.Keys = append(e.Keys, k)
		}
	}
	return e
}

func printFindings(cmd *cobra.Command, found []doctor.Finding) {
	t := table.New(cmd.OutOrStdout())
	for _, f := range found {
		terminal.Printf(t, "%s\t%s\t%s\n", f.State, f.Step, f.Found)
		if f.Remedy != "" {
			terminal.Printf(t, "\t\t→ %s\n", f.Remedy)
		}
	}
	t.Flush()
}

// verdict is 1 when a step fails, 3 when one could not be judged.
func verdict(found []doctor.Finding) error {
	unknown := false
	for _, f := range found {
		if f.State == doctor.Fails {
			return failed(fmt.Errorf("a call like this is refused at: %s", f.Step))
		}
		unknown = unknown || f.State == doctor.Unknown
	}
	if unknown {
		return &exitError{exitUndecided, errors.New("not every step could be judged")}
	}
	return nil
}
