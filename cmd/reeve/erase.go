package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/ledger/offline"
	"github.com/reevehq/reeve/internal/terminal"
)

// erased is what was done about one process's ledger.
type erased struct {
	Process string `json:"process"`
	State   string `json:"state"` // erased, nothing or waits
}

func newEraseCmd() *cobra.Command {
	var subject string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "erase TENANT",
		Short: "Erase what decisions looked at, of a tenant or about one subject, in copies too",
		Long: "Have the processes on this machine destroy the keys with which they sealed a tenant's payloads, the full inputs of their decisions; with --subject only\n" +
			"of those about a workload, or about who acts for workloads. The ledgers stay whole and verify; what is erased can no longer be replayed, in copies and\n" +
			"backups either, and is unknown from then on. Pseudonymous ids in entries stay. Each process does so within a second or two, or at its next start, and\n" +
			"writes an entry of type erasure, which does not say whom it was about. Exit status 1 when there was nothing to erase, 3 when a process has not done it yet.",
		Example: "  reeve erase acme\n  reeve erase acme --subject research-agent\n  reeve erase acme --subject paula@example.com",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := openDir(cmd)
			if err != nil {
				return err
			}
			all, err := eraseAll(d, args[0], subject)
			if err != nil {
				return failed(err)
			}
			var waits []string
			did := false
			for _, e := range all {
				did = did || e.State == "erased"
				if e.State == "waits" {
					waits = append(waits, e.Process)
				}
			}
			if asJSON {
				err = printJSON(cmd, all)
			} else {
				for _, e := range all {
					if e.State == "erased" {
						terminal.Printf(cmd.OutOrStdout(), "The %s has destroyed the key of the payloads.\n", e.Process)
					}
				}
			}
			switch {
			case err != nil:
				return err
			case len(waits) > 0:
				return &exitError{exitUndecided, fmt.Errorf("not erased yet by %s: it does so when it runs ('reeve status' shows it)", strings.Join(waits, " and "))}
			case !did:
				if _, set, err := openSet(cmd); err == nil {
					if err := named(set, "tenant", args[0]); err != nil {
						return err
					}
				}
				return failed(errors.New("nothing of it was sealed here, or it was erased already; check the name"))
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&subject, "subject", "", "only what is about this workload, or this actor of a delegation")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// eraseAll asks every process that keeps a ledger here, and waits for those that run.
func eraseAll(d *host.Dir, tenant, subject string) (all []erased, err error) {
	for _, p := range host.WithLedger() {
		dir := d.Join(p, "ledger")
		e := erased{p, "waits"}
		err := offline.RequestErasure(dir, tenant, subject)
		switch {
		case errors.Is(err, offline.ErrNothing) || errors.Is(err, os.ErrNotExist):
			e.State = "nothing"
		case err != nil:
			return all, fmt.Errorf("asking the %s to erase: %w", p, err)
		}
		all = append(all, e)
	}
	for until := time.Now().Add(10 * time.Second); time.Now().Before(until); time.Sleep(100 * time.Millisecond) {
		left := false
		for i := range all {
			if all[i].State != "waits" {
				continue
			}
			if offline.ErasureWaits(d.Join(all[i].Process, "ledger")) {
				left = true
			} else {
				all[i].State = "erased"
			}
		}
		if !left {
			break
		}
	}
	return all, nil
}
