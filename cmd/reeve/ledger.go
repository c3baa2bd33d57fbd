package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/ledger/offline"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/table"
	"github.com/reevehq/reeve/internal/terminal"
	"github.com/reevehq/reeve/verify"
)

func newLedgerCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ledger",
		Short: "Look at the ledgers, rotate them, close a damaged one",
	}
	cmd.AddCommand(newLedgerStatusCmd(), newLedgerShowCmd(), newLedgerRotateCmd(), newLedgerRetireCmd())
	return cmd
}

// ledgerFlags choose one process's ledger.
type ledgerFlags struct {
	process string
	verifyFlags
}

func (f *ledgerFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.process, "process", host.Custodian, "whose ledger: custodian, authority or gateway")
	cmd.Flags().StringVar(&f.trust, "trust", "", "trust `FILE` with the keys (default: trust.json in --dir)")
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON")
}

// heads opens the chosen process's published ledger.
func (f *ledgerFlags) heads(cmd *cobra.Command) (*host.Dir, []verify.Head, error) {
	if !slices.Contains([]string{host.Custodian, host.Authority, host.Gateway}, f.process) {
		return nil, nil, fmt.Errorf("--process: %q keeps no ledger: custodian, authority or gateway", f.process)
	}
	trust, err := f.loadTrust(cmd)
	if err != nil {
		return nil, nil, err
	}
	d, err := openDir(cmd)
	if err != nil {
		return nil, nil, err
	}
	f.ledger = d.Join("tiles", f.process)
	dir, err := f.published(cmd)
	if err != nil {
		return nil, nil, err
	}
	heads, err := trust.Heads(dir)
	if err != nil {
		return nil, nil, f.judge(cmd, nil, verify.Included, err)
	}
	return d, heads, nil
}

func newLedgerStatusCmd() *cobra.Command {
	var f ledgerFlags
	cmd := &cobra.Command{
		Use:     "status",
		Short:   "Show how much each process's ledger has signed and how much of it is cosigned",
		Example: "  reeve ledger status\n  reeve ledger status --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			type row struct {
				Process  string `json:"process"`
				Origin   string `json:"origin,omitempty"`
				ID       string `json:"id,omitempty"`
				Signed   int64  `json:"signed"`
				Cosigned int64  `json:"cosigned"`
				Problem  string `json:"problem,omitempty"`
			}
			var rows []row
			for _, p := range []string{host.Custodian, host.Authority, host.Gateway} {
				f.process = p
				r := row{Process: p}
				if _, heads, err := f.heads(cmd); err != nil {
					r.Problem = err.Error()
				} else {
					h := heads[len(heads)-1]
					r.Origin, r.ID, r.Signed = h.Log.Origin, h.ID, h.Signed.N
					if h.Cosigned != nil {
						r.Cosigned = h.Cosigned.N
					}
				}
				rows = append(rows, r)
			}
			if f.json {
				return printJSON(cmd, rows)
			}
			t := table.New(cmd.OutOrStdout())
			fmt.Fprintln(t, "PROCESS\tLOG\tID\tSIGNED\tCOSIGNED\tPROBLEM")
			for _, r := range rows {
				terminal.Printf(t, "%s\t%s\t%s\t%d\t%d\t%s\n", r.Process, r.Origin, r.ID, r.Signed, r.Cosigned, r.Problem)
			}
			return t.Flush()
		},
	}
	cmd.Flags().StringVar(&f.trust, "trust", "", "trust `FILE` with the keys (default: trust.json in --dir)")
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON")
	return cmd
}

func newLedgerShowCmd() *cobra.Command {
	var f ledgerFlags
	var count int
	cmd := &cobra.Command{
		Use:     "show [SEQ]",
		Short:   "Print published entries, one JSON object a line, each proven to be in the signed tree",
		Long:    "Print published entries of the newest log, one JSON object a line, each proven to be in the signed tree: from SEQ on, or the last ones.",
		Example: "  reeve ledger show\n  reeve ledger show 120 --count 5\n  reeve ledger show --process authority",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			from := int64(-1)
			if len(args) == 1 {
				var err error
				if from, err = strconv.ParseInt(args[0], 10, 64); err != nil || from < 0 {
					return fmt.Errorf("%q is no sequence number", args[0])
				}
			}
			_, heads, err := f.heads(cmd)
			if err != nil {
				return err
			}
			c := heads[len(heads)-1].Signed
			switch {
			case from < 0:
				from = c.N - int64(count)
			case from >= c.N:
				return failed(fmt.Errorf("the log of the %s has %d entries, numbered from 0", f.process, c.N))
			}
			dir, err := f.published(cmd)
			if err != nil {
				return err
			}
			entries, err := c.Entries(dir, from, count)
			for _, e := range entries {
				terminal.Printf(cmd.OutOrStdout(), "%v\n", e)
			}
			if err != nil {
				return f.judge(cmd, nil, verify.Included, err)
			}
			return nil
		},
	}
	f.add(cmd)
	cmd.Flags().IntVar(&count, "count", 20, "at most so many entries")
	return cmd
}

func newLedgerRotateCmd() *cobra.Command {
	var f ledgerFlags
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "End a process's log with a final cosigned checkpoint and begin its successor",
		Long: "Ask the running process to end its log with a final cosigned checkpoint and to begin the successor, whose first entry\n" +
			"names it. The process does so within a second or two; where the checkpoint cannot be cosigned it keeps trying.",
		Example: "  reeve ledger rotate\n  reeve ledger rotate --process authority",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, heads, err := f.heads(cmd)
			if err != nil {
				return err
			}
			if err := offline.RequestRotation(d.Join(f.process, "ledger")); err != nil {
				return failed(fmt.Errorf("asking the %s to rotate: %w", f.process, err))
			}
			for until := time.Now().Add(10 * time.Second); time.Now().Before(until); time.Sleep(200 * time.Millisecond) {
				_, now, err := f.heads(cmd)
				if err == nil && len(now) > len(heads) {
					h := now[len(now)-1]
					if f.json {
						return printJSON(cmd, h)
					}
					terminal.Printf(cmd.OutOrStdout(), "%s is closed; %s has begun.\n", heads[len(heads)-1].Log.Origin, h.Log.Origin)
					return nil
				}
			}
			return &exitError{exitUndecided, fmt.Errorf("the %s has not rotated its ledger yet: it does so when it runs and its witnesses cosign ('reeve status' shows both)", f.process)}
		},
	}
	f.add(cmd)
	return cmd
}

func newLedgerRetireCmd() *cobra.Command {
	var f ledgerFlags
	var s signing
	var with, reason, checkpoint, out string
	cmd := &cobra.Command{
		Use:   "retire",
		Short: "Close a damaged log, by two owners; its process begins another at its next start",
		Long: "Sign, as two owners of different roles, that a log is closed at its last cosigned checkpoint, and leave that for its\n" +
			"process: at its next start it begins a successor whose first entry names the old log, size and root. The old files stay\n" +
			"as evidence. What happened after the checkpoint is reported as incomplete from then on.\n\n" +
			"The newest cosigned checkpoint may be with the auditor rather than here: name it with --checkpoint. When one of the two signs\n" +
			"elsewhere, -o writes the record to a file: reeve approve adds his signature there, reeve publish puts it into effect here.",
		Example: "  reeve ledger retire --reason 'disk failed' --as ada --with bea\n  reeve ledger retire --reason 'old snapshot restored' --checkpoint from-auditor --as ada -o retirement.json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := f.lastCosigned(cmd, checkpoint)
			if err != nil {
				return err
			}
			d, set, err := openSet(cmd)
			if err != nil {
				return err
			}
			signers, err := s.both(d, with)
			if err != nil {
				return failed(err)
			}
			env, err := estate.Seal("retirement", statement.Retirement{
				Estate: set.Charter.Estate, Log: c.ID(), Size: c.N, Root: c.Hash.String(), Reason: reason, Created: time.Now().UTC().Truncate(time.Second),
			}, signers...)
			if err != nil {
				return failed(err)
			}
			if out != "" {
				return failed(draft(cmd, set, env, out))
			}
			if err := estate.Take(set, env, time.Now()); err != nil {
				return failed(fmt.Errorf("no process would accept this retirement: %w", err))
			}
			return failed(retire(cmd, d, env, f.process))
		},
	}
	f.add(cmd)
	s.flags(cmd)
	cmd.Flags().StringVar(&with, "with", "", "the second `person`, of another role, who signs on this machine too")
	cmd.Flags().StringVar(&reason, "reason", "", "what happened, for those who read the ledger later")
	cmd.Flags().StringVar(&checkpoint, "checkpoint", "", "the newest cosigned checkpoint `FILE` (default: the one published here)")
	cmd.Flags().StringVarP(&out, "out", "o", "", "write the record to this `file`, for the second owner, instead of leaving it for the process")
	_ = cmd.MarkFlagRequired("reason")
	return cmd
}

// retire leaves a retirement for the process of this host whose log it closes. The process is found by its published ledger when it
// is not named.
func retire(cmd *cobra.Command, d *host.Dir, env *statement.Envelope, process string) error {
	var r statement.Retirement
	if err := json.Unmarshal(env.Payload, &r); err != nil {
		return err
	}
	for _, p := range []string{host.Custodian, host.Authority, host.Gateway} {
		if process != "" {
			break
		}
		if _, heads, err := (&ledgerFlags{process: p}).heads(cmd); err == nil && slices.ContainsFunc(heads, func(h verify.Head) bool { return h.ID == r.Log }) {
			process = p
		}
	}
	if process == "" {
		return fmt.Errorf("no process of this host publishes the log %s: name it with --process", r.Log)
	}
	raw, err := statement.Canonical(env)
	if err != nil {
		return err
	}
	if err := offline.RequestRetirement(d.Join(process, "ledger"), raw); err != nil {
		return err
	}
	terminal.Printf(cmd.OutOrStdout(), "The log %s is to be retired at %d entries. Start the %s again ('reeve up'): it begins the successor.\n", r.Log, r.Size, process)
	return nil
}

// lastCosigned is the checkpoint at which the log is retired.
func (f *ledgerFlags) lastCosigned(cmd *cobra.Command, path string) (*verify.Checkpoint, error) {
	if path == "" {
		_, heads, err := f.heads(cmd)
		if err != nil {
			return nil, err
		}
		if c := heads[len(heads)-1].Cosigned; c != nil {
			return c, nil
		}
		return nil, &exitError{exitUndecided, errors.New("no cosigned checkpoint is published here; name the auditor's with --checkpoint")}
	}
	trust, err := f.loadTrust(cmd)
	if err != nil {
		return nil, err
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, failed(err)
	}
	c, err := trust.Checkpoint(raw)
	if err == nil && len(c.Cosigners) < max(trust.Need, 1) {
		err = fmt.Errorf("%s has %d cosignatures, %d are needed", path, len(c.Cosigners), max(trust.Need, 1))
	}
	return c, failed(err)
}
