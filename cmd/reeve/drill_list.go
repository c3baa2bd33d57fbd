package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/audit/drills"
	"github.com/reevehq/reeve/internal/drill"
	"github.com/reevehq/reeve/internal/evidence"
	"github.com/reevehq/reeve/internal/table"
	"github.com/reevehq/reeve/internal/terminal"
)

// drillFresh is how long a drill says something of now (RV-15).
const drillFresh = 90 * 24 * time.Hour

// listedDrill is how a scenario stands, and by which ledger record the document of its newest result is known.
type listedDrill struct {
	drills.Standing
	Fresh    bool   `json:"fresh"`              // played within 90 days
	Anchored string `json:"anchored,omitempty"` // hex SHA-256 of the record that a person signed for the newest document
}

func newDrillListCmd() *cobra.Command {
	var asJSON, history bool
	var w window
	cmd := &cobra.Command{
		Use:   "list",
		Short: "When each scenario was last drilled, and what came of it",
		Long: "Read what drills filed with the estate in --dir. Exit status 0 when every scenario was played within 90 days and held, 1 when the newest result of\n" +
			"one did not hold, 3 when one was never played, was not decided, or is older.",
		Example: "  reeve drill list\n  reeve drill list --history\n  reeve drill list --as-of 2026-11-01T00:00:00Z --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			at, err := w.past(time.Now())
			if err != nil {
				return err
			}
			d, err := openDir(cmd)
			if err != nil {
				return err
			}
			all, err := drills.Load(filepath.Join(d.Path, drills.Folder))
			if err != nil {
				return &exitError{exitUndecided, err}
			}
			if cmd.Flags().Changed("as-of") {
				all = slices.DeleteFunc(all, func(x *drills.Document) bool { return x.Ended.After(at) })
			}
			kept, err := evidence.Read(estateDir(d).Store())
			if err != nil {
				return failed(err)
			}
			var ids []string
			titles := map[string]string{}
			for _, s := range drill.Scenarios() {
				ids = append(ids, s.ID)
				titles[s.ID] = s.Title
			}
			var list []listedDrill
			for _, s := range drills.Stand(all, ids) {
				one := listedDrill{Standing: s, Fresh: s.State != drills.Never && at.Sub(s.Time) < drillFresh}
				one.Title = titles[s.Scenario]
				for _, past := range s.History {
					if past.Whole {
						one.Anchored = anchored(kept, past.Record)
					}
				}
				list = append(list, one)
			}
			if asJSON {
				err = printJSON(cmd, list)
			} else {
				err = printDrills(cmd, list, history)
			}
			if err != nil {
				return err
			}
			return standing(list)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	w.addAsOf(cmd)
	cmd.Flags().BoolVar(&history, "history", false, "print every result, not only the newest")
	return cmd
}

// anchored is the record that a person signed for a document; empty when nobody did.
func anchored(kept []evidence.Kept, document string) string {
	for _, k := range kept {
		if k.SHA256 == document {
			return k.Record
		}
	}
	return ""
}

// standing is the exit status of a list.
func standing(list []listedDrill) error {
	open := 0
	for _, s := range list {
		switch {
		case s.State == drills.NotHeld:
			return &exitError{exitNot, fmt.Errorf("%s did not hold: %s", s.Scenario, s.Detail)}
		case s.State != drills.Held || !s.Fresh:
			open++
		}
	}
	if open > 0 {
		return &exitError{exitUndecided, errors.New("not every scenario was played and decided within 90 days: reeve drill plays them")}
	}
	return nil
}

func printDrills(cmd *cobra.Command, list []listedDrill, history bool) error {
	t := table.New(cmd.OutOrStdout())
	fmt.Fprintln(t, "SCENARIO\tSTATE\tLAST\tFOUND\tSIGNED FOR\tWHAT")
	for _, s := range list {
		last, signed, figures := "", "", ""
		if s.State != drills.Never {
			last = s.Time.UTC().Format(time.RFC3339)
			signed = "no"
			if s.Anchored != "" {
				signed = s.Anchored[:16]
			}
		}
		for _, p := range s.History {
			if p.Whole {
				figures = drill.Figures(p.Figures)
			}
			if history {
				terminal.Printf(t, "%s\t%s%s\t%s\t%d\t\t%s, version %s, took %s%s\n", s.Scenario, p.State, map[bool]string{false: ", in part"}[p.Whole], p.Time.UTC().Format(time.RFC3339), p.Found,
					p.Played, p.Version, (time.Duration(p.TookMS) * time.Millisecond).Round(100*time.Millisecond), drill.Figures(p.Figures))
			}
		}
		terminal.Printf(t, "%s\t%s\t%s\t%d\t%s\t%s\n", s.Scenario, s.State, last, s.Found, signed, s.Title+figures)
	}
	return t.Flush()
}
