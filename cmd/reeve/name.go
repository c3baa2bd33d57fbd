package main

import (
	"errors"
	"fmt"

	"github.com/reevehq/reeve/internal/audit/blast"
	"github.com/reevehq/reeve/internal/audit/contain"
	"github.com/reevehq/reeve/internal/audit/control"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/handover"
	"github.com/reevehq/reeve/internal/statement"
)

// A name that nothing has is an error of usage, status 2, in every command: what is typed wrong is no answer, neither "no" nor "unknown".

// noSuch is the error of such a name.
func noSuch(format string, args ...any) error {
	return &exitError{exitUsage, fmt.Errorf(format, args...)}
}

// unknown reports whether a package found that nothing has a name that it was given.
func unknown(err error) bool {
	for _, of := range []error{blast.ErrUnknown, contain.ErrScope, control.ErrControl, control.ErrFramework, control.ErrUnit, estate.ErrPerson, handover.ErrCredential} {
		if errors.Is(err, of) {
			return true
		}
	}
	return false
}

// undecided marks an error that leaves a question open: exit status 3, unless it is of a name that nothing has.
func undecided(err error) error {
	if unknown(err) {
		return failed(err)
	}
	return &exitError{exitUndecided, err}
}

// named is the error of a name that the set in force does not have, or nil. An empty name was not given.
func named(set *statement.Set, kind, id string) error {
	if id == "" || set.Has(statement.Target{Kind: kind, ID: id}) {
		return nil
	}
	switch kind {
	case "credential":
		return noSuch("%w: %q; `reeve credential list` shows all", handover.ErrCredential, id)
	case "gateway":
		return noSuch("the estate has no gateway %q: operations.yaml lists them", id)
	}
	return noSuch("the estate has no %s %q: charter.yaml lists them", kind, id)
}
