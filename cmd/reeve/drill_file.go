package main

import (
	"context"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/audit/drills"
	"github.com/reevehq/reeve/internal/drill"
	"github.com/reevehq/reeve/internal/evidence"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/terminal"
)

// filing is where a drill's result goes: with an estate, signed for by a person where one is named.
type filing struct {
	signing
	dir *host.Dir
	set *statement.Set
}

// open opens the estate that --dir names. Without one there is nothing to file with.
func (f *filing) open(cmd *cobra.Command) error {
	if _, err := os.Stat(dirFlag(cmd)); os.IsNotExist(err) && !cmd.Flags().Changed("dir") && f.as == "" {
		return nil
	}
	var err error
	f.dir, f.set, err = openSet(cmd)
	if f.as != "" || cmd.Flags().Changed("dir") {
		return err
	}
	if err != nil { // not asked for
		f.dir = nil
	}
	return nil
}

// file writes the result into the estate's folder and, for a person who signs, makes it evidence that the ledger knows.
func (f *filing) file(ctx context.Context, cmd *cobra.Command, r *drill.Report) error {
	if f.dir == nil {
		return nil
	}
	say := func(format string, args ...any) { terminal.Printf(cmd.ErrOrStderr(), format+"\n", args...) }
	doc := r.Document(f.set.Charter.Estate)
	if err := doc.Write(f.dir.Path + "/" + drills.Folder); err != nil {
		return err
	}
	say("Filed as %s/%s in %s.", drills.Folder, doc.File, host.Shown(f.dir.Path))
	if f.as == "" {
		say("Nobody signed for it (--as PERSON): no control is judged by it.")
		return nil
	}
	by, err := f.signing.open(f.dir)
	if err != nil {
		return err
	}
	whole, err := doc.Encode()
	if err != nil {
		return err
	}
	name := "drill-" + strings.TrimSuffix(doc.File, ".json")
	part, err := doc.Evidence().Write(f.dir.Path, name)
	if err != nil {
		return err
	}
	to := evidence.Place{Dir: estateDir(f.dir), Authorities: []string{"http://" + host.Local(f.dir.Run.Ports.Authority)}}
	for subject, b := range map[string][]byte{drills.Folder + "/" + doc.File: whole, name: part} {
		a, err := evidence.Anchor(ctx, to, f.set, evidence.Drill, subject, b, by)
		if err != nil {
			return err
		}
		if a.Waits != "" {
			say("%s signed for %s; no ledger has it yet: %s", f.as, subject, a.Waits)
			continue
		}
		say("%s signed for %s; the authority's ledger has it: record %s", f.as, subject, a.Record)
	}
	return nil
}

// every does what is to be done again and again, from its end to its next begin, until ctx ends. What fails is told and does not end it.
func every(ctx context.Context, pause time.Duration, tell func(error), do func(context.Context) error) error {
	for {
		if err := do(ctx); err != nil && ctx.Err() == nil {
			tell(err)
		}
		t := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-t.C:
		}
	}
}
