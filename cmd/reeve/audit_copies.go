package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/audit/index"
	"github.com/reevehq/reeve/internal/audit/logs"
	"github.com/reevehq/reeve/internal/database"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/table"
	"github.com/reevehq/reeve/internal/terminal"
	"github.com/reevehq/reeve/verify"
)

// copyFlags say which copies of the ledgers are meant, and which index over them.
type copyFlags struct {
	verifyFlags
	logs, index, password string
}

func (f *copyFlags) add(cmd *cobra.Command, withIndex bool) {
	cmd.Flags().StringVar(&f.logs, "logs", "", "`DIR` with a folder for each copy of a ledger (default: the auditor's in --dir)")
	cmd.Flags().StringVar(&f.trust, "trust", "", "trust `FILE` with the keys (default: trust.json in --dir)")
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON")
	if withIndex {
		cmd.Flags().StringVar(&f.index, "index", "", "SQLite `FILE` or postgres URL of the index (default: the auditor's in --dir)")
		cmd.Flags().StringVar(&f.password, "password-file", "", "`FILE` with the password of the database in --index, mode 0600")
	}
}

// copies reads the copies' checkpoints.
func (f *copyFlags) copies(cmd *cobra.Command) (*verify.Trust, []*logs.Log, error) {
	trust, err := f.loadTrust(cmd)
	if err != nil {
		return nil, nil, err
	}
	from := f.logs
	if from == "" {
		d, err := openDir(cmd)
		if err != nil {
			return nil, nil, err
		}
		from = filepath.Join(auditorState(cmd, d), "logs")
	}
	all, err := logs.Read(from, trust)
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("%s has no copy of a ledger", from)
	}
	if errors.Is(err, verify.ErrDoesNotHold) {
		return nil, nil, &exitError{exitNot, err}
	}
	if err != nil {
		return nil, nil, &exitError{exitUndecided, err}
	}
	return trust, all, nil
}

// place is the index that the flags name.
func (f *copyFlags) place(cmd *cobra.Command) (index.Place, error) {
	switch {
	case strings.HasPrefix(f.index, "postgres://") || strings.HasPrefix(f.index, "postgresql://"):
		at := database.Server{Connection: f.index, PasswordFile: f.password}
		return index.Place{Server: at}, at.Check()
	case f.index != "":
		return index.Place{File: f.index}, nil
	}
	d, err := openDir(cmd)
	if err != nil {
		return index.Place{}, err
	}
	return indexPlace(d)
}

// indexPlace is where the auditor of --dir keeps its index.
func indexPlace(d *host.Dir) (index.Place, error) {
	p := index.Place{File: d.Join(host.Auditor, "index.db")}
	f, err := os.Open(d.Config(host.Auditor))
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	var text []byte
	var info fs.FileInfo
	if err == nil {
		defer f.Close()
		info, err = f.Stat()
	}
	if err == nil {
		text, err = io.ReadAll(io.LimitReader(f, 1<<20))
	}
	var config struct {
		Index struct {
			Connection   string `yaml:"connection"`
			PasswordFile string `yaml:"password_file"`
		} `yaml:"index"`
	}
	if err == nil && yaml.Unmarshal(text, &config) != nil {
		err = fmt.Errorf("%s is no configuration", d.Config(host.Auditor)) // nothing of it is shown: it may be another file by now
	}
	if err != nil {
		return p, &exitError{exitUndecided, fmt.Errorf("where the auditor keeps its index: %w", err)}
	}
	p.Server = database.Server{Connection: config.Index.Connection, PasswordFile: config.Index.PasswordFile}
	if owner := int(info.Sys().(*syscall.Stat_t).Uid); owner != os.Geteuid() {
		p.Server.Owner = owner // a captured auditor would have any file sent to a server of its own
	}
	return p, nil
}

func newAuditRebuildCmd() *cobra.Command {
	var f copyFlags
	cmd := &cobra.Command{
		Use:   "rebuild",
		Short: "Make the index anew from the copies, and say whether the one that was there was right",
		Long: "Make the index anew from the auditor's copies of the ledgers, or any copies, and a trust file. An index that is there is held\n" +
			"against the copies as far as it goes, also while the auditor adds to it, and is replaced only when it is wrong.\n\n" +
			"Exit status: 0 there was none or it was right, 1 it was wrong, 2 wrong usage, 3 it cannot be decided.",
		Example: "  reeve audit rebuild\n  reeve audit rebuild --logs ./copies --trust trust.json --index ./index.db",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			place, err := f.place(cmd)
			if err != nil {
				return err
			}
			_, all, err := f.copies(cmd)
			if err != nil {
				return err
			}
			r, err := place.Rebuild(cmd.Context(), all, progress(cmd.ErrOrStderr()))
			if err != nil && r.Wrong == "" {
				return &exitError{exitUndecided, err}
			}
			if err != nil {
				return failed(err)
			}
			if f.json {
				err = printJSON(cmd, r)
			} else {
				printRebuilt(cmd.OutOrStdout(), r)
			}
			if err == nil && r.Wrong != "" {
				err = &exitError{status: exitNot}
			}
			return err
		},
	}
	f.add(cmd, true)
	return cmd
}

// progress prints how far an index is, every two seconds.
func progress(w io.Writer) func(index.Progress) {
	next := time.Now().Add(2 * time.Second)
	return func(p index.Progress) {
		if now := time.Now(); now.After(next) && p.Total > 0 {
			next = now.Add(2 * time.Second)
			terminal.Printf(w, "%d of %d entries, %d %%\n", p.Done, p.Total, 100*p.Done/p.Total)
		}
	}
}

func printRebuilt(w io.Writer, r index.Rebuilt) {
	terminal.Printf(w, "%s  %d entries, %s\n", r.Hash, r.Entries, placeShown(r.Index))
	switch {
	case r.Wrong != "" && r.Was == "":
		terminal.Printf(w, "The index that was there was replaced: %s.\n", r.Wrong)
	case r.Wrong != "":
		terminal.Printf(w, "DIFFERS from the index that was there, which had the hash %s and was replaced: %s.\n", r.Was, r.Wrong)
	case r.Was != "":
		terminal.Printf(w, "The same as the index that was there, as far as that went.\n")
	default:
		fmt.Fprintln(w, "There was none before.")
	}
}

// placeShown is a file as a person would type it, or a database.
func placeShown(name string) string {
	if filepath.IsAbs(name) {
		return host.Shown(name)
	}
	return name
}

// auditedLog is a line of `reeve audit status`.
type auditedLog struct {
	Process string        `json:"process"`
	Origin  string        `json:"origin"`
	ID      string        `json:"id"`
	Entries int64         `json:"entries"` // verified
	Indexed int64         `json:"indexed"`
	Lag     int64         `json:"lag"` // verified and not indexed
	First   time.Time     `json:"first,omitzero"`
	Last    time.Time     `json:"last,omitzero"` // newest entry that is indexed
	Silence time.Duration `json:"silence_ns"`    // longest time between two entries
	After   int64         `json:"silence_seq"`   // of the entry after it
}

func newAuditStatusCmd() *cobra.Command {
	var f copyFlags
	cmd := &cobra.Command{
		Use:     "status",
		Short:   "How far the ledgers are verified and indexed, their longest silence, the index's hash",
		Example: "  reeve audit status\n  reeve audit status --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			place, err := f.place(cmd)
			if err != nil {
				return err
			}
			_, all, err := f.copies(cmd)
			if err != nil {
				return err
			}
			var hash string
			var indexed []index.Log
			x, err := place.Read(cmd.Context())
			if err == nil {
				hash, indexed, err = x.State(cmd.Context())
				err = errors.Join(err, x.Close())
			}
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return &exitError{exitUndecided, err}
			}
			status := struct {
				Logs  []auditedLog `json:"logs"`
				Index string       `json:"index"`
				Hash  string       `json:"hash,omitempty"` // empty where no index is kept
			}{audited(all, indexed), place.Name(), hash}
			if f.json {
				return printJSON(cmd, status)
			}
			printAudited(cmd.OutOrStdout(), status.Logs)
			if hash == "" {
				terminal.Printf(cmd.OutOrStdout(), "No index in %s: commands read the copies themselves. `reeve audit rebuild` makes one.\n", placeShown(status.Index))
			} else {
				terminal.Printf(cmd.OutOrStdout(), "%s  %s\n", hash, placeShown(status.Index))
			}
			return nil
		},
	}
	f.add(cmd, true)
	return cmd
}

func audited(all []*logs.Log, indexed []index.Log) (list []auditedLog) {
	at := func(ns int64) time.Time {
		if ns == 0 {
			return time.Time{}
		}
		return time.Unix(0, ns).UTC()
	}
	for _, l := range all {
		a := auditedLog{Process: l.Process, Origin: l.Checkpoint.Log.Origin, ID: l.ID, Entries: l.Checkpoint.N, Lag: l.Checkpoint.N}
		for _, i := range indexed {
			if i.ID == l.ID {
				a.Indexed, a.Lag, a.First, a.Last, a.Silence, a.After = i.Size, max(l.Checkpoint.N-i.Size, 0), at(i.First), at(i.Last), time.Duration(i.Silence), i.SilenceSeq
			}
		}
		list = append(list, a)
	}
	return list
}

func printAudited(w io.Writer, list []auditedLog) {
	t := table.New(w)
	fmt.Fprintln(t, "LOG\tENTRIES\tINDEXED\tLAG\tNEWEST\tLONGEST SILENCE")
	for _, a := range list {
		newest, silence := "-", "-"
		if !a.Last.IsZero() {
			newest, silence = a.Last.Format(time.RFC3339), fmt.Sprintf("%s before entry %d", a.Silence.Round(time.Second), a.After)
		}
		terminal.Printf(t, "%s\t%d\t%d\t%d\t%s\t%s\n", a.Origin, a.Entries, a.Indexed, a.Lag, newest, silence)
	}
	t.Flush()
}

func newAuditVerifyCmd() *cobra.Command {
	var f copyFlags
	var silence time.Duration
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Check the auditor's copies of all ledgers offline: complete, unaltered, without silence",
		Long: "Check the auditor's copies of all ledgers, or any copies: every byte, entry, number, signature, cosignature and the links from log to\n" +
			"log. Every process writes a heartbeat each minute: a longer silence means that it did not run, or that its log does not tell.\n\n" +
			"Exit status: 0 all hold, 1 one does not, 2 wrong usage, 3 it cannot be decided (a log without enough cosignatures, a silence).",
		Example: "  reeve audit verify\n  reeve audit verify --logs ./copies --trust trust.json --silence 5m",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			trust, all, err := f.copies(cmd)
			if err != nil {
				return err
			}
			list, err := logs.Check(trust, all, silence)
			if err != nil {
				return f.judge(cmd, nil, verify.Cosigned, err)
			}
			if f.json {
				if err := printJSON(cmd, list); err != nil {
					return err
				}
			}
			return judgeCopies(cmd, list, f.json)
		},
	}
	f.add(cmd, false)
	cmd.Flags().DurationVar(&silence, "silence", 2*time.Minute, "longest time between two entries; 0 for any")
	return cmd
}

// judgeCopies prints what was found, unless that was done as JSON, and turns it into the exit status.
func judgeCopies(cmd *cobra.Command, list []logs.Checked, printed bool) error {
	out, status := cmd.OutOrStdout(), exitHolds
	for _, c := range list {
		if !printed {
			printReport(out, c.Report)
			for _, s := range c.Silence {
				terminal.Printf(out, "SILENCE: %s: nothing from %s to %s, before entry %d\n", s.Log, s.From.Format(time.RFC3339), s.To.Format(time.RFC3339), s.Seq)
			}
		}
		switch {
		case len(c.Report.Findings) > 0:
			status = exitNot
		case status == exitHolds && (c.Report.Level < verify.Cosigned || len(c.Report.Incomplete)+len(c.Silence) > 0):
			status = exitUndecided
		}
	}
	switch status {
	case exitNot:
		return &exitError{status, errors.New("the auditor's copies do not hold: keep them as evidence, and compare with the published ledgers (reeve verify)")}
	case exitUndecided:
		return &exitError{status, errors.New("what the copies have holds, and does not show everything")}
	}
	return nil
}
