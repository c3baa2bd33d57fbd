package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/audit/books"
	"github.com/reevehq/reeve/internal/host"
)

// openBooks opens --dir and what the auditor knows of it: the verified copies of its ledgers, the index over them, the signed statements in time
// and the register of components. Without them the status is 3: nothing can be said. Close ends the books.
func openBooks(cmd *cobra.Command) (*host.Dir, *books.Books, error) {
	d, err := openDir(cmd)
	if err != nil {
		return nil, nil, err
	}
	where := books.At(d.Join(host.Auditor), d.Trust(), estateDir(d).Store(), d.Pin())
	if where.Index, err = indexPlace(d); err != nil {
		return nil, nil, err
	}
	b, err := books.Open(where, time.Now())
	if err != nil {
		return nil, nil, &exitError{exitUndecided, fmt.Errorf("the auditor's books cannot be opened: %w", err)}
	}
	return d, b, nil
}
