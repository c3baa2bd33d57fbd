package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/audit/history"
	"github.com/reevehq/reeve/internal/audit/register"
	"github.com/reevehq/reeve/internal/evidence"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/terminal"
)

func newComponentCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "component",
		Short: "The register of everything that touches credentials: what it can do, and whose it is",
		Long: "This estate's gateways, custodians, authorities and auditors are in it by the signed statements; gateways of other teams and vendors, agent hosts\n" +
			"and secret stores by records that an operations owner or a root holder signs. Nothing is overwritten: it can be asked as of any time.",
	}
	cmd.AddCommand(newComponentAddCmd(), newComponentListCmd(), newComponentShowCmd(), newComponentRetireCmd())
	return cmd
}

// moment is the time that a question about the register is about.
type moment struct {
	window
	at string
}

func (m *moment) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&m.at, "at", "", "the time that the answer is about (default: that of --as-of): RFC 3339, or a duration back from now")
	m.addAsOf(cmd)
}

// lacking ends an answer from a register that is known to lack records: status 3, after the answer.
func lacking(v *register.View, err error) error {
	if err == nil && v.Lacks != "" {
		err = &exitError{exitUndecided, errors.New(v.Lacks)}
	}
	return err
}

// look opens the books and reads the register.
func (m *moment) look(cmd *cobra.Command) (*register.View, error) {
	var recorded time.Time
	now := time.Now()
	valid := now
	var err error
	if cmd.Flags().Changed("as-of") {
		if recorded, err = instant(m.asOf, now); err != nil {
			return nil, &exitError{exitUsage, fmt.Errorf("--as-of: %w", err)}
		}
		valid = recorded
	}
	if m.at != "" {
		if valid, err = instant(m.at, now); err != nil {
			return nil, &exitError{exitUsage, fmt.Errorf("--at: %w", err)}
		}
	}
	_, b, err := openBooks(cmd)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	v, err := register.Look(b.History, b.Register, valid.UTC(), recorded)
	if errors.Is(err, history.ErrBefore) {
		return nil, &exitError{exitUndecided, err}
	}
	return v, failed(err)
}

// anchorage is where evidence goes: this directory's store, and its authority or those that are named.
func anchorage(d *host.Dir, authorities []string) evidence.Place {
	if authorities == nil {
		authorities = []string{"http://" + host.Local(d.Run.Ports.Authority)}
	}
	return evidence.Place{Dir: estateDir(d), Authorities: authorities}
}

func printAnchored(out io.Writer, e *evidence.Anchored) {
	if e.Waits != "" {
		terminal.Printf(out, "not anchored yet: %s; reeve audit anchor sends it again\n", e.Waits)
		return
	}
	terminal.Printf(out, "anchored: the authority entered evidence %.16s of it in its ledger\n", e.Record)
}
