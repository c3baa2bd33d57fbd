// Package books opens what an auditor's questions are answered from: the verified copies of the ledgers, the index over them, what was in force
// when, and the register of components.
package books

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/reevehq/reeve/internal/audit/history"
	"github.com/reevehq/reeve/internal/audit/index"
	"github.com/reevehq/reeve/internal/audit/logs"
	"github.com/reevehq/reeve/internal/audit/register"
	"github.com/reevehq/reeve/internal/evidence"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/verify"
)

// Where says where the books lie.
type Where struct {
	State string // the auditor's state directory: logs/
	Index index.Place
	// Alone has answers come from the copies alone: every byte of them is verified first, and no index is believed. Who can write to State meanwhile
	// can change them after that: it is for a copy of the auditor's state that is one's own.
	Alone bool
	Trust string // trust.json
	Store statement.Store
	Pin   statement.Pin
}

// Books are open books. Close ends them.
type Books struct {
	Trust    *verify.Trust
	Logs     []*logs.Log
	Index    index.Reader
	History  *history.History
	Register register.Reader
	Now      time.Time

	close func() error
}

// Open opens the books as of now.
func Open(w Where, now time.Time) (*Books, error) {
	text, err := os.ReadFile(w.Trust)
	if err != nil {
		return nil, err
	}
	b := &Books{Now: now}
	if b.Trust, err = verify.ParseTrust(text); err != nil {
		return nil, err
	}
	if b.Logs, err = logs.Open(w.State, b.Trust); err != nil {
		return nil, err
	}
	if b.History, err = history.Open(w.Store, w.Pin, now); err != nil {
		return nil, err
	}
	if w.Alone {
		if err := verified(b.Trust, b.Logs); err != nil {
			return nil, err
		}
		w.Index = index.Place{} // a passing one is made
	}
	current, err := w.Index.Usable(context.Background(), b.Logs)
	if err != nil {
		return nil, err
	}
	b.Index, b.close = current, current.Close
	if b.Register, err = openRegister(w.Store, b); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

// verified refuses copies that were altered. What they cannot show, answers say themselves.
func verified(trust *verify.Trust, all []*logs.Log) error {
	checked, err := logs.Check(trust, all, 0)
	if err != nil {
		return err
	}
	for _, c := range checked {
		if n := len(c.Report.Findings); n > 0 {
			return fmt.Errorf("%w: the copy of the ledger of %s: %s (%d findings: `reeve audit verify --logs` shows all)", verify.ErrDoesNotHold, c.Process, c.Report.Findings[0], n)
		}
	}
	return nil
}

// openRegister verifies the register's journal and holds it against the ledgers, which have evidence of its records.
func openRegister(store statement.Store, b *Books) (*register.Register, error) {
	j, err := register.Open(store, b.History, b.Now)
	if err != nil {
		return nil, err
	}
	kept, err := evidence.Read(store)
	if err != nil {
		return nil, err
	}
	of := map[string]string{} // document by record
	for _, k := range kept {
		of[k.Record] = k.SHA256
	}
	entered, err := b.Entered(context.Background())
	if err != nil {
		return nil, err
	}
	var list []register.Entered
	for _, e := range entered {
		if e.Kind == evidence.Component {
			list = append(list, register.Entered{Evidence: e.Record, Document: of[e.Record], By: e.By, Time: e.Time, Span: e.Span})
		}
	}
	j.Anchor(list)
	return register.New(b.History, j), nil
}

// AsOf are the books as they were read at t, which is not after their own time: what was in force by then, and the clock. Who reads the index or the
// register asks for no later time than Now. They end with the books that they are of. The error is history.ErrBefore.
func (b *Books) AsOf(t time.Time) (*Books, error) {
	h, err := b.History.Until(t)
	if err != nil {
		return nil, err
	}
	then := *b
	then.History, then.Now, then.close = h, t, nil
	return &then, nil
}

// Close ends them.
func (b *Books) Close() error {
	if b.close == nil {
		return nil
	}
	return b.close()
}

// At is where `reeve` finds the books of an estate's directory.
func At(auditor, trust string, store statement.Store, pin statement.Pin) Where {
	return Where{State: filepath.Clean(auditor), Index: index.Place{File: filepath.Join(auditor, "index.db")}, Trust: trust, Store: store, Pin: pin}
}
