package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/internal/ledger/offline"
	"github.com/reevehq/reeve/internal/terminal"
	"github.com/reevehq/reeve/verify"
)

// erased is what was done about one process's ledger.
type erased struct {
	Process string `json:"process"`
	State   string `json:"state"`         // erased, nothing or waits
	Log     string `json:"log,omitempty"` // id of the log whose entry says that it was erased
	Seq     int64  `json:"seq,omitempty"` // of that entry
	Why     string `json:"why,omitempty"` // of one that waits: what is there and what is not, and what to do
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
			"writes an entry of type erasure, which does not say whom it was about. It is done when the published ledger has that entry and the key is gone.\n" +
			"Exit status 2 when there was nothing to erase, 3 when a process has not done it yet, or nothing proves that it has.",
		Example: "  reeve erase acme\n  reeve erase acme --subject research-agent\n  reeve erase acme --subject paula@example.com",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := openDir(cmd)
			if err != nil {
				return err
			}
			all, err := eraseAll(cmd, d, args[0], subject)
			if err != nil {
				return failed(err)
			}
			var waits []string
			did := false
			for _, e := range all {
				did = did || e.State == "erased"
				if e.State == "waits" {
					waits = append(waits, e.Why)
				}
			}
			if asJSON {
				err = printJSON(cmd, all)
			} else {
				for _, e := range all {
					if e.State == "erased" {
						terminal.Printf(cmd.OutOrStdout(), "The %s has destroyed the key of the payloads: entry %d of the log %s says so.\n", e.Process, e.Seq, e.Log)
					}
				}
			}
			switch {
			case err != nil:
				return err
			case len(waits) > 0:
				return &exitError{exitUndecided, errors.New("not erased yet, or not proven: " + strings.Join(waits, "\n"))}
			case !did:
				return &exitError{exitUsage, fmt.Errorf("nothing of %q was sealed here, or it was erased already; check the name", cmp.Or(subject, args[0]))}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&subject, "subject", "", "only what is about this workload, or this actor of a delegation")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// eraseAll asks every process that keeps a ledger here, and waits until their ledgers say that it was done.
func eraseAll(cmd *cobra.Command, d *host.Dir, tenant, subject string) (all []erased, err error) {
	var asked []*erasing
	for _, p := range host.WithLedger() {
		x := &erasing{said: erased{p, "waits", "", 0, ""}, ledger: ledgerFlags{process: p}}
		asked = append(asked, x)
		// What the ledger says already is of an earlier erasure.
		if _, heads, err := x.ledger.heads(cmd); err != nil {
			x.since = time.Now().UnixNano() // nothing can be read of it yet: its clock is this machine's
		} else {
			x.log, x.next = heads[len(heads)-1].ID, heads[len(heads)-1].Signed.N
		}
		x.request, err = offline.RequestErasure(d.Join(p, "ledger"), tenant, subject)
		switch {
		case errors.Is(err, offline.ErrNothing) || errors.Is(err, fs.ErrNotExist):
			x.said.State = "nothing"
		case err != nil:
			return nil, fmt.Errorf("asking the %s to erase: %w", p, err)
		}
	}
	for until := time.Now().Add(10 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		left := false
		for _, x := range asked {
			left = x.said.State == "waits" && !x.done(cmd) || left
		}
		if !left || time.Now().After(until) {
			break
		}
	}
	for _, x := range asked {
		all = append(all, x.said)
	}
	return all, nil
}

// erasing is one process's erasure, under way.
type erasing struct {
	said    erased
	request *offline.Erasure
	ledger  ledgerFlags
	log     string // id of the log that was read so far, empty for none of them
	next    int64  // number of its first entry that was not read
	since   int64  // Unix time in nanoseconds; earlier entries are of earlier erasures
}

// done reports whether an entry of the published ledger says that the process has obeyed, and the key is gone. That the request is gone says
// nothing: whoever can write to its folder can take it away.
func (x *erasing) done(cmd *cobra.Command) bool {
	gone, err := x.request.Destroyed()
	if err == nil && x.said.Log == "" {
		err = x.read(cmd)
	}
	switch p := x.said.Process; {
	case err != nil:
		x.said.Why = fmt.Sprintf("of the %s it cannot be told: %v; mend that, and run this again", p, err)
	case gone && x.said.Log != "":
		x.said.State, x.said.Why = "erased", ""
		return true
	case x.request.Waits():
		x.said.Why = fmt.Sprintf("the %s has not obeyed: it does when it runs ('reeve status' shows it, 'reeve up' starts it). The request stays; run this again to see it through", p)
	case gone:
		x.said.Why = fmt.Sprintf("the %s's key is gone, and no published entry of its ledger says so yet: look for it with 'reeve ledger show --process %s' once it runs and publishes", p, p)
	case x.said.Log != "":
		x.said.Why = fmt.Sprintf("entry %d of the %s's ledger says that it was erased, and the key is still in %s: somebody put it back, or the process is not what it should be. Find out who could write there, and run this again",
			x.said.Seq, p, ledger.KeysPath)
	default:
		x.said.Why = fmt.Sprintf("the request to the %s is gone, and it has not obeyed: the key is there, and no entry of its ledger says otherwise. Somebody who can write to its folder took it away: find out who, and run this again", p)
	}
	return false
}

// read looks for the entry among those that were published since.
func (x *erasing) read(cmd *cobra.Command) error {
	_, heads, err := x.ledger.heads(cmd)
	if err != nil {
		return err
	}
	dir, err := x.ledger.published(cmd)
	if err != nil {
		return err
	}
	at := max(0, slices.IndexFunc(heads, func(h verify.Head) bool { return h.ID == x.log }))
	for _, h := range heads[at:] {
		from := int64(0)
		if h.ID == x.log {
			from = x.next
		}
		lines, err := h.Signed.Entries(dir, from, int(max(0, h.Signed.N-from)))
		if err != nil {
			return err
		}
		for i, line := range lines {
			e, err := entry.Parse([]byte(line))
			if err != nil {
				return err
			}
			if x.request.Said(e) && e.TimeNS >= x.since {
				x.said.Log, x.said.Seq = h.ID, from+int64(i)
			}
		}
		x.log, x.next = h.ID, h.Signed.N
	}
	return nil
}
