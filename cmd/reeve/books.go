package main

import (
	"cmp"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/audit/books"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/verify"
)

// ownBooks are the flag --books: somebody's own copy of the auditor's state directory, or nothing.
func ownBooks(cmd *cobra.Command) string {
	own, _ := cmd.Flags().GetString("books") // a command on its own has no such flag
	return own
}

// auditorState is where what the auditor knows is read.
func auditorState(cmd *cobra.Command, d *host.Dir) string {
	return cmp.Or(ownBooks(cmd), d.Join(host.Auditor))
}

// openBooks opens --dir and what the auditor knows of it: the verified copies of its ledgers, the index over them, the signed statements in time
// and the register of components. Without them the status is 3: nothing can be said; with --books it is 1 when the copies were altered. Close ends the books.
func openBooks(cmd *cobra.Command) (*host.Dir, *books.Books, error) {
	d, err := openDir(cmd)
	if err != nil {
		return nil, nil, err
	}
	where := books.At(auditorState(cmd, d), d.Trust(), estateDir(d).Store(), d.Pin())
	if where.Alone = ownBooks(cmd) != ""; !where.Alone {
		where.Index, err = indexPlace(d)
	}
	if err != nil {
		return nil, nil, err
	}
	debug.SetGCPercent(400) // a command ends before most of what it would collect is worth collecting
	b, err := books.Open(where, time.Now())
	if where.Alone && errors.Is(err, verify.ErrDoesNotHold) {
		return nil, nil, failed(err)
	}
	if err != nil {
		return nil, nil, &exitError{exitUndecided, fmt.Errorf("the auditor's books cannot be opened: %w", err)}
	}
	return d, b, nil
}
