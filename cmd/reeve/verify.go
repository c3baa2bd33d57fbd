package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/ledger"
	"github.com/reevehq/reeve/internal/ledger/offline"
	"github.com/reevehq/reeve/internal/table"
	"github.com/reevehq/reeve/internal/terminal"
	"github.com/reevehq/reeve/verify"
)

// lagBound is how long after a promise its entry must be published: later it is a broken promise.
const lagBound = time.Minute

// verifyFlags are what 'verify' and 'receipt get' are told.
type verifyFlags struct {
	trust, ledger, need, since string
	wait                       time.Duration
	json                       bool
}

func newVerifyCmd() *cobra.Command {
	var f verifyFlags
	cmd := &cobra.Command{
		Use:   "verify [FILE|RECEIPT]",
		Short: "Check a receipt, a bundle or a whole ledger offline",
		Long: "Check a receipt (the value of a Reeve-Receipt header), a bundle that 'reeve receipt get' wrote, or, with neither, a\n" +
			"published ledger with every tile, entry, signature and link: the custodian's of --dir unless --ledger names another.\n" +
			"A fresh receipt is waited for. Nothing is asked of any server.\n\n" +
			"Exit status: 0 everything asked for holds, 1 it does not, 2 wrong usage, 3 it cannot be decided.",
		Example: "  reeve verify\n  reeve verify v1.0123456789abcdef.7.…\n  reeve verify proof.json --trust trust.json --need cosigned\n  reeve verify --ledger ./tiles --trust trust.json --since kept-checkpoint",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			need, err := verify.ParseLevel(f.need)
			if err != nil {
				return err // usage
			}
			trust, err := f.loadTrust(cmd)
			if err != nil {
				return err
			}
			switch {
			case len(args) == 0:
				return f.verifyLedger(cmd, trust, need)
			case strings.HasPrefix(args[0], "v1."):
				return f.verifyReceipt(cmd, trust, need, args[0])
			}
			raw, err := os.ReadFile(args[0])
			if errors.Is(err, fs.ErrNotExist) {
				err = fmt.Errorf("%q is neither a file here nor a receipt, which begins with \"v1.\"", args[0])
			}
			if err != nil {
				return &exitError{exitUndecided, err}
			}
			r, err := trust.Bundle(raw)
			return f.judge(cmd, r, need, err)
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&f.need, "need", "cosigned", "what must be proven: promised, included or cosigned")
	cmd.Flags().StringVar(&f.since, "since", "", "an earlier checkpoint `FILE`: the ledger must still begin with it")
	return cmd
}

// add declares the flags that both commands have.
func (f *verifyFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.trust, "trust", "", "trust `FILE` with the keys (default: trust.json in --dir)")
	cmd.Flags().StringVar(&f.ledger, "ledger", "", "published ledger `DIR` (default: the custodian's in --dir)")
	cmd.Flags().DurationVar(&f.wait, "wait", 10*time.Second, "how long to wait for the checkpoint that a fresh receipt needs")
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON")
}

// loadTrust reads the trust file.
func (f *verifyFlags) loadTrust(cmd *cobra.Command) (*verify.Trust, error) {
	path := f.trust
	if path == "" {
		path = filepath.Join(dirFlag(cmd), "trust.json")
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, &exitError{exitUndecided, fmt.Errorf("without a trust file there is nothing to check with: %w; name one with --trust, or the estate's directory with --dir", err)}
	}
	t, err := verify.ParseTrust(raw)
	if err != nil {
		return nil, &exitError{exitUndecided, fmt.Errorf("%s: %w", path, err)}
	}
	return t, nil
}

// published opens the published ledger. Symbolic links that lead out of it are not followed.
func (f *verifyFlags) published(cmd *cobra.Command) (fs.FS, error) {
	path := f.ledger
	if path == "" {
		d, err := openDir(cmd)
		if errors.Is(err, host.ErrNone) {
			err = &exitError{exitUndecided, fmt.Errorf("whether the log has the entry cannot be decided without the published ledger or a bundle of it: name the ledger with --ledger, or the estate's directory with --dir: %w", err)}
		}
		if err != nil {
			return nil, err
		}
		path = d.Join("tiles", host.Custodian)
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, &exitError{exitUndecided, err}
	}
	return root.FS(), nil
}

// verifyLedger checks a published ledger and, for the one in --dir, the write-ahead log behind it.
func (f *verifyFlags) verifyLedger(cmd *cobra.Command, trust *verify.Trust, need verify.Level) error {
	dir, err := f.published(cmd)
	if err != nil {
		return err
	}
	var opts verify.Options
	if f.since != "" {
		if opts.Since, err = os.ReadFile(f.since); err != nil {
			return &exitError{exitUndecided, err}
		}
	}
	r, err := trust.Directory(dir, opts)
	if err != nil {
		return f.judge(cmd, nil, need, err)
	}
	if f.ledger == "" {
		f.checkWAL(cmd, trust, r)
	}
	if f.json {
		if err := printJSON(cmd, r); err != nil {
			return err
		}
	} else {
		printReport(cmd.OutOrStdout(), r)
	}
	switch {
	case len(r.Findings) > 0:
		return &exitError{exitNot, errDoesNotHold}
	case r.Level < need:
		return &exitError{exitNot, fmt.Errorf("the ledger is %s, %s was asked for", r.Level, need)}
	case len(r.Incomplete) > 0:
		return &exitError{exitUndecided, errors.New("the ledger is incomplete")}
	}
	return nil
}

// errDoesNotHold says what to do about an altered ledger.
var errDoesNotHold = errors.New("the ledger does not hold: its files are not what was written. Keep a copy of them as evidence. A restart of the process\n" +
	"publishes again what its write-ahead log has; what is older comes from a backup ('reeve restore'); a log that its process\n" +
	"refuses is closed with 'reeve ledger retire'")

// checkWAL adds what the custodian's write-ahead log shows, where it may be read.
func (f *verifyFlags) checkWAL(cmd *cobra.Command, trust *verify.Trust, r *verify.Report) {
	d, err := openDir(cmd)
	if err != nil || len(r.Logs) == 0 {
		return
	}
	var keys []string
	for _, l := range trust.Logs {
		if first, _ := entry.Successor(l.Origin); first == r.Logs[0].Origin {
			keys = append(keys, l.Key)
		}
	}
	if len(keys) > 0 {
		_, err := offline.Check(d.Join(host.Custodian, "ledger"), keys...)
		var damaged *ledger.DamagedError
		switch {
		case errors.As(err, &damaged):
			r.Findings = append(r.Findings, err.Error())
		case err != nil:
			r.Unknown = append(r.Unknown, fmt.Sprintf("the write-ahead log was not read: %v", err))
		}
	}
}

func printReport(w io.Writer, r *verify.Report) {
	t := table.New(w)
	fmt.Fprintln(t, "LOG\tENTRIES\tCOSIGNED\tBY\tINTENTS\tDENIALS\tWITHOUT OUTCOME")
	for _, l := range r.Logs {
		terminal.Printf(t, "%s\t%d\t%d\t%s\t%d\t%d\t%d\n", l.Origin, l.Size, l.Cosigned, strings.Join(l.Cosigners, " "), l.Types["intent"], l.Types["deny"], l.Open)
	}
	t.Flush()
	for _, part := range []struct {
		name string
		list []string
	}{{"DOES NOT HOLD", r.Findings}, {"INCOMPLETE", r.Incomplete}, {"unknown", r.Unknown}} {
		for _, s := range part.list {
			terminal.Printf(w, "%s: %s\n", part.name, s)
		}
	}
	if len(r.Findings)+len(r.Incomplete) == 0 {
		terminal.Printf(w, "The ledger holds: %s.\n", r.Level)
	}
}

// verifyReceipt checks a promise and, unless only that was asked for, that the published ledger keeps it.
func (f *verifyFlags) verifyReceipt(cmd *cobra.Command, trust *verify.Trust, need verify.Level, receipt string) error {
	r, err := trust.Promise(receipt)
	if err != nil || need == verify.Promised && f.ledger == "" {
		return f.judge(cmd, r, need, err)
	}
	r, err = f.find(cmd, trust, receipt, need)
	return f.judge(cmd, r, need, err)
}

// find looks a receipt up in the published ledger, and waits for the level while the promise is fresh.
func (f *verifyFlags) find(cmd *cobra.Command, trust *verify.Trust, receipt string, need verify.Level) (r *verify.Result, err error) {
	dir, err := f.published(cmd)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), f.wait)
	defer cancel()
	for {
		r, err = trust.Published(dir, receipt)
		fresh := r == nil || time.Since(time.Unix(0, r.TimeNS)) < lagBound
		if err == nil && r.Level >= need || err != nil && !errors.Is(err, verify.ErrUndecided) || !fresh || !sleep(ctx) {
			break
		}
	}
	var missing *verify.MissingError
	if errors.As(err, &missing) && time.Since(time.Unix(0, missing.Receipt.TimeNS)) > lagBound {
		err = fmt.Errorf("%w: %v, more than %s after the promise: it was broken, or this is an older copy of the ledger", verify.ErrDoesNotHold, err, lagBound)
	}
	return r, err
}

// sleep waits before the next look and reports whether there is to be one.
func sleep(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(200 * time.Millisecond):
		return true
	}
}

// judge prints a result and turns it into the exit status.
func (f *verifyFlags) judge(cmd *cobra.Command, r *verify.Result, need verify.Level, err error) error {
	if err != nil {
		status := exitUndecided
		if errors.Is(err, verify.ErrDoesNotHold) {
			status = exitNot
		}
		return &exitError{status, err}
	}
	if f.json {
		err = printJSON(cmd, r)
	} else {
		printResult(cmd.OutOrStdout(), r)
	}
	if err == nil && r.Level < need {
		err = &exitError{exitNot, fmt.Errorf("the entry is %s, %s was asked for", r.Level, need)}
	}
	return err
}

func printResult(w io.Writer, r *verify.Result) {
	terminal.Printf(w, "%s: entry %d of %s, written %s\n", r.Level, r.Seq, r.Origin, time.Unix(0, r.TimeNS).UTC().Format("2006-01-02T15:04:05.000Z"))
	if e := r.Entry; e != nil {
		terminal.Printf(w, "  %s %s", e.Type, e.Decision)
		for _, p := range []struct{ name, value string }{{"tenant", e.Tenant}, {"unit", e.Unit}, {"workload", e.Workload}, {"credential", e.Credential}, {"to", e.Dest}, {"reason", e.Reason}} {
			if p.value != "" {
				terminal.Printf(w, ", %s %s", p.name, p.value)
			}
		}
		fmt.Fprintln(w)
	}
	if o, err := entry.Parse([]byte(r.Outcome)); err == nil {
		terminal.Printf(w, "  outcome %s, status %d, %d bytes\n", o.Reason, o.Status, o.Bytes)
	}
	if r.CosignedAt != "" {
		terminal.Printf(w, "  cosigned by %s at %s\n", strings.Join(r.Cosigners, ", "), r.CosignedAt)
	}
	for _, s := range r.Unknown {
		terminal.Printf(w, "  unknown: %s\n", s)
	}
}
