package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/audit/history"
	"github.com/reevehq/reeve/internal/audit/register"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/statement"
)

// inForce is the flag --as-of of questions that the signed statements answer, without any ledger.
type inForce struct{ window }

func (q *inForce) add(cmd *cobra.Command) { q.addAsOf(cmd) }

// force is the set in force at a time.
type force struct {
	dir  *host.Dir
	set  *statement.Set
	at   time.Time
	read *history.History // of the signed store; nil when at is now
}

// open loads it: now's, which has to hold, or what the signed store says of then.
func (q *inForce) open(cmd *cobra.Command) (*force, error) {
	now := time.Now()
	if !cmd.Flags().Changed("as-of") {
		d, set, err := openSet(cmd)
		return &force{dir: d, set: set, at: now}, err
	}
	at, err := q.past(now)
	if err != nil {
		return nil, err
	}
	d, err := openDir(cmd)
	if err != nil {
		return nil, err
	}
	h, err := history.Open(estateDir(d).Store(), d.Pin(), now)
	if err != nil {
		return nil, failed(err)
	}
	span, err := h.At(at)
	if errors.Is(err, history.ErrBefore) {
		return nil, &exitError{exitUndecided, err}
	}
	if err == nil && !at.Before(span.Expires) {
		err = fmt.Errorf("nothing was in force at %s: version %d of the lock had expired on %s", at.Format(time.RFC3339), span.Lock.Version, span.Expires.Format(time.RFC3339))
	}
	if err != nil {
		return nil, failed(err)
	}
	return &force{dir: d, set: span.Set, at: at, read: h}, nil
}

// closed is what signed revocations closed then.
func (f *force) closed() (map[statement.Target]*statement.Revocation, error) {
	d := estateDir(f.dir)
	if f.read != nil {
		return d.ClosedAt(f.set, f.at)
	}
	return d.Closed(f.set, f.at)
}

// hands are who can read a credential then, by the statements and the register's records. When those were said is their signers' word here.
func (f *force) hands(credential string) ([]register.Hand, error) {
	now := time.Now()
	store, h := estateDir(f.dir).Store(), f.read
	if h == nil {
		var err error
		if h, err = history.Open(store, f.dir.Pin(), now); err != nil {
			return nil, err
		}
	}
	j, err := register.Open(store, h, now)
	if err != nil {
		return nil, err
	}
	all, err := register.New(h, j).At(f.at, f.at)
	if err != nil {
		return nil, err
	}
	return register.Hands(f.set, all, credential, f.at), nil
}
