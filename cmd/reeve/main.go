// Command reeve is the operator's command line.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/reevehq/reeve/internal/table"
	"github.com/reevehq/reeve/internal/terminal"
)

// Exit statuses of every command.
const (
	exitHolds     = 0
	exitNot       = 1
	exitUsage     = 2
	exitUndecided = 3
)

// exitError carries an exit status with the error that a person reads. Without an error the status says it all.
type exitError struct {
	status int
	err    error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.status)
	}
	return e.err.Error()
}
func (e *exitError) Unwrap() error { return e.err }

// failed marks an error of the command's work, not of its usage: exit status 1, unless it carries one or is of a name that nothing has. It passes
// nil through.
func failed(err error) error {
	var e *exitError
	switch {
	case err == nil || errors.As(err, &e):
		return err
	case unknown(err):
		return &exitError{exitUsage, err}
	}
	return &exitError{exitNot, err}
}

func main() { os.Exit(run()) }

func run() int {
	root := newRoot()
	root.SetOut(table.On(os.Stdout, terminal.NewWriter(os.Stdout))) // what others wrote comes out as text and as nothing else
	root.SetErr(terminal.NewWriter(os.Stderr))
	cmd, err := root.ExecuteContextC(context.Background())
	if err == nil {
		return exitHolds
	}
	var e *exitError
	if errors.As(err, &e) && e.err == nil {
		return e.status
	}
	terminal.Printf(root.ErrOrStderr(), "reeve: %v\n", err)
	if e != nil {
		return e.status
	}
	terminal.Printf(root.ErrOrStderr(), "usage: %s; more: %s --help\n", cmd.UseLine(), cmd.CommandPath())
	return exitUsage
}

func defaultDir() string {
	if d := os.Getenv("REEVE_DIR"); d != "" {
		return d
	}
	return "./demo"
}
