package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/audit/books"
	"github.com/reevehq/reeve/internal/audit/contain"
	"github.com/reevehq/reeve/internal/audit/control"
	"github.com/reevehq/reeve/internal/audit/incident"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/evidence"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/table"
	"github.com/reevehq/reeve/internal/terminal"
)

func newIncidentCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "incident",
		Short: "Record an incident, step by step and signed by two, and make its report",
		Long: "Each step is signed by two people of two roles (DSSE), follows the one before by its hash, and is entered in the authority's cosigned\n" +
			"ledger. On two machines the first one's step waits in estate/incidents/.pending; the other adds his signature with\n" +
			"reeve approve incident/ID-N. docs/procedures/incident.md says what to type in which order.",
	}
	cmd.AddCommand(newIncidentOpenCmd(), newIncidentNoteCmd(), newIncidentCloseCmd(), newIncidentReportCmd(), newIncidentShowCmd(), newIncidentListCmd())
	return cmd
}

// stepping are the flags of commands that record a step.
type stepping struct {
	s           signing
	with        string
	text        string
	contains    []string
	authorities []string
}

func (o *stepping) flags(cmd *cobra.Command, name, usage string) {
	o.s.flags(cmd)
	cmd.Flags().StringVar(&o.with, "with", "", "the second `person`, of another role, who signs on this machine too")
	cmd.Flags().StringVar(&o.text, name, "", usage)
	cmd.Flags().StringSliceVar(&o.contains, "contains", nil, "what was contained for it, as reeve contain names it, such as gateway:g1")
	cmd.Flags().StringSliceVar(&o.authorities, "authority", nil, "`URL` of an authority, in place of this directory's")
	_ = cmd.MarkFlagRequired(name)
}

// record signs a step and has it entered in the ledger.
func (o *stepping) record(cmd *cobra.Command, s incident.Step) error {
	d, set, err := openSet(cmd)
	if err != nil {
		return err
	}
	_, b, err := openBooks(cmd)
	if err != nil {
		return err
	}
	defer b.Close()
	for _, c := range o.contains {
		scope, err := contain.ParseScope(c)
		if err != nil {
			return &exitError{exitUsage, err}
		}
		s.Contains = append(s.Contains, scope)
	}
	if err := o.known(cmd, d, b, &s); err != nil {
		return failed(err)
	}
	signers, err := o.s.both(d, o.with)
	if err != nil {
		return failed(err)
	}
	all := incident.In(estateDir(d), b.History)
	if s.Kind == incident.KindOpen && s.Incident == "" {
		if s.Incident, err = all.Next(time.Now()); err != nil {
			return failed(err)
		}
	}
	if s.Kind != incident.KindReport {
		s.Text = o.text
	}
	done, err := all.Append(s, time.Now(), signers...)
	var waits *incident.Pending
	if errors.As(err, &waits) {
		if err := o.course(cmd, d, b, set, waits.Step, signers); err != nil {
			return failed(err)
		}
		return &exitError{exitUndecided, fmt.Errorf("%s: %w", s.Incident, waits)}
	}
	if err != nil {
		return failed(err)
	}
	if err := anchor(cmd, d, set, done, o.authorities); err != nil {
		return failed(err)
	}
	return failed(o.course(cmd, d, b, set, &done.Step, signers))
}

// known checks that something has each of the names that a step is about.
func (o *stepping) known(cmd *cobra.Command, d *host.Dir, b *books.Books, s *incident.Step) error {
	if s.Kind == incident.KindOpen {
		if err := s.Known(cmd.Context(), b); err != nil {
			return err
		}
	} else if _, err := readIncident(cmd, d, b, s.Incident); err != nil {
		return err
	}
	for _, c := range s.Contains {
		if _, err := (&reporting{dir: d, books: b}).plan(cmd.Context(), c); err != nil {
			return err
		}
	}
	return nil
}

// anchor has a step entered in the ledger, and says so.
func anchor(cmd *cobra.Command, d *host.Dir, set *statement.Set, s *incident.Signed, authorities []string) error {
	a, err := evidence.Enter(cmd.Context(), anchorage(d, authorities), set, s.Evidence)
	if err != nil {
		return err
	}
	where := "entered in the authority's ledger as record " + a.Record[:16]
	if a.Waits != "" {
		where = "not in a ledger yet: " + a.Waits + "; it lies in the signed store, where the authority finds it"
	}
	_, err = terminal.Printf(cmd.OutOrStdout(), "%s: step %d, %s, signed by %s; %s.\n", s.Incident, s.Number, s.Kind, strings.Join(s.Signers, " and "), where)
	return err
}

func newIncidentOpenCmd() *cobra.Command {
	var o stepping
	var s incident.Step
	var from, to string
	cmd := &cobra.Command{
		Use:   "open",
		Short: "Open an incident: what is taken to be captured, since when, why, and who commands",
		Example: "  reeve incident open --subject gateway:g1 --from 3h --why 'malicious release of a dependency' --commander bea --as bea --with ada\n" +
			"  reeve incident open --subject gateway:g1 --subject authority:a1 --from 2026-11-23T06:00:00Z --to 2026-11-23T09:00:00Z --why theft --commander ada --as ada",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			now := time.Now()
			var err error
			if s.From, err = instant(from, now); err != nil {
				return &exitError{exitUsage, fmt.Errorf("--from: %w", err)}
			}
			if to != "" {
				if s.To, err = instant(to, now); err != nil {
					return &exitError{exitUsage, fmt.Errorf("--to: %w", err)}
				}
			}
			s.Kind = incident.KindOpen
			if s.Commander == "" {
				s.Commander = o.s.as
			}
			return o.record(cmd, s)
		},
	}
	o.flags(cmd, "why", "why it is opened")
	cmd.Flags().StringVar(&s.Incident, "id", "", "its id (default inc-DATE-N)")
	cmd.Flags().StringSliceVar(&s.Subjects, "subject", nil, "what is taken to be captured, as reeve blast names it: gateway:g1, authority:a1, workload:W …")
	cmd.Flags().StringVar(&from, "from", "3h", "begin of the window: RFC 3339, or a duration back from now")
	cmd.Flags().StringVar(&to, "to", "", "its end, not included; without it the incident goes on")
	cmd.Flags().StringVar(&s.Commander, "commander", "", "`person` who commands (default: who signs)")
	_ = cmd.MarkFlagRequired("subject")
	return cmd
}

func newIncidentNoteCmd() *cobra.Command {
	var o stepping
	var refs []string
	cmd := &cobra.Command{
		Use:     "note ID",
		Short:   "Record something of an incident",
		Example: "  reeve incident note inc-20261123-1 --text 'the release was pulled' --as bea --with ada\n  reeve incident note inc-20261123-1 --text 'first forged call' --ref 975c314badef5a4c:65 --as bea --with ada",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s := incident.Step{Incident: args[0], Kind: incident.KindNote}
			for _, r := range refs {
				var ref control.Ref
				if _, err := fmt.Sscanf(strings.Replace(r, ":", " ", 1), "%s %d", &ref.Log, &ref.Seq); err != nil {
					return &exitError{exitUsage, fmt.Errorf("--ref %s: an entry is named as LOG:NUMBER, such as 975c314badef5a4c:65", r)}
				}
				s.Refs = append(s.Refs, ref)
			}
			return o.record(cmd, s)
		},
	}
	o.flags(cmd, "text", "the note")
	cmd.Flags().StringSliceVar(&refs, "ref", nil, "an entry that it is about, `LOG:NUMBER`")
	return cmd
}

func newIncidentCloseCmd() *cobra.Command {
	var o stepping
	cmd := &cobra.Command{
		Use:     "close ID",
		Short:   "Close an incident; notes and reports may follow",
		Example: "  reeve incident close inc-20261123-1 --outcome 'contained; keys of research-agent issued anew' --as bea --with cora",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.record(cmd, incident.Step{Incident: args[0], Kind: incident.KindClose})
		},
	}
	o.flags(cmd, "outcome", "what came of it")
	return cmd
}

// shownIncident is an incident as it is shown.
type shownIncident struct {
	*incident.Journal
	State    string                      `json:"state"`   // open or closed
	Anchors  map[string]*incident.Anchor `json:"anchors"` // by the steps' hashes
	Findings []string                    `json:"findings"`
	Remarks  []string                    `json:"remarks"`
}

func readIncident(cmd *cobra.Command, d *host.Dir, b *books.Books, id string) (*shownIncident, error) {
	j, err := incident.In(estateDir(d), b.History).Read(id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, noSuch("there is no incident %q: reeve incident list shows all", id)
	}
	if err != nil {
		return nil, err
	}
	kept, err := evidence.Read(estateDir(d).Store())
	if err != nil {
		return nil, err
	}
	s := &shownIncident{Journal: j, State: "open"}
	if s.Anchors, s.Findings, s.Remarks, err = j.Anchors(cmd.Context(), b, kept); err != nil {
		return nil, err
	}
	if j.Broken != "" {
		s.Findings = append([]string{"the journal was changed: " + j.Broken}, s.Findings...)
	}
	if len(j.Steps) > 0 && j.Closed() != nil {
		s.State = "closed"
	}
	return s, nil
}

// verdict is exit status 1 for a journal that was tampered with.
func (s *shownIncident) verdict() error {
	if len(s.Findings) == 0 {
		return nil
	}
	return &exitError{exitNot, fmt.Errorf("the record of %s does not hold: %s", s.ID, strings.Join(s.Findings, "; "))}
}

func newIncidentShowCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "show ID",
		Short:   "Verify an incident's journal and show it",
		Long:    "Verify signatures, chain, and that the journal has every step that the authority's ledger has. Exit status 1 when it was changed.",
		Example: "  reeve incident show inc-20261123-1",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, b, err := openBooks(cmd)
			if err != nil {
				return err
			}
			defer b.Close()
			s, err := readIncident(cmd, d, b, args[0])
			if err != nil {
				return failed(err)
			}
			if asJSON {
				err = printJSON(cmd, s)
			} else {
				err = printIncident(cmd.OutOrStdout(), s)
			}
			if err != nil {
				return err
			}
			return s.verdict()
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printIncident(w io.Writer, s *shownIncident) error {
	t := table.New(w)
	terminal.Printf(t, "%s is %s.\n\n", s.ID, s.State)
	fmt.Fprintln(t, "STEP\tKIND\tTIME\tSIGNED BY\tENTERED\tENTRY\tWHAT")
	for _, x := range s.Steps {
		entered, ref := "not yet", ""
		if a := s.Anchors[x.Hash]; a != nil {
			entered, ref = a.Time.Format(time.RFC3339), fmt.Sprintf("%s:%d", a.Entry.Log, a.Entry.Seq)
		}
		terminal.Printf(t, "%d\t%s\t%s\t%s\t%s\t%s\t%s\n", x.Number, x.Kind, x.Time.Format(time.RFC3339), strings.Join(x.Signers, ", "), entered, ref, said(&x.Step))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, r := range s.Remarks {
		terminal.Printf(w, "remark: %v\n", r)
	}
	for _, f := range s.Findings {
		terminal.Printf(w, "FINDING: %v\n", f)
	}
	return nil
}

// said is what a step says, on one line.
func said(s *incident.Step) string {
	text := s.Text
	switch s.Kind {
	case incident.KindOpen:
		to := "now"
		if !s.To.IsZero() {
			to = s.To.Format(time.RFC3339)
		}
		text = fmt.Sprintf("%s, from %s to %s: %s (commander %s)", strings.Join(s.Subjects, ", "), s.From.Format(time.RFC3339), to, text, s.Commander)
	case incident.KindReport:
		text = strings.TrimSpace("sha256:" + s.SHA256 + " " + text)
	}
	for _, c := range s.Contains {
		text += " [contained " + c.String() + "]"
	}
	return text
}

func newIncidentListCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the incidents",
		Example: "  reeve incident list",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, b, err := openBooks(cmd)
			if err != nil {
				return err
			}
			defer b.Close()
			ids, err := incident.In(estateDir(d), b.History).List()
			if err != nil {
				return failed(err)
			}
			list := []*shownIncident{}
			for _, id := range ids {
				s, err := readIncident(cmd, d, b, id)
				if err != nil {
					return failed(err)
				}
				list = append(list, s)
			}
			kept, err := evidence.Read(estateDir(d).Store())
			if err != nil {
				return failed(err)
			}
			lost, err := incident.In(estateDir(d), b.History).Lost(kept)
			if err != nil {
				return failed(err)
			}
			for _, id := range lost {
				why := "the signed store has evidence of its steps, and its journal was taken away"
				list = append(list, &shownIncident{Journal: &incident.Journal{ID: id, Steps: []incident.Signed{}, Broken: why}, State: "unknown", Findings: []string{why}})
			}
			if asJSON {
				return printJSON(cmd, list)
			}
			if len(list) == 0 {
				fmt.Fprintln(cmd.OutOrStdout(), "No incidents.")
				return nil
			}
			t := table.New(cmd.OutOrStdout())
			fmt.Fprintln(t, "INCIDENT\tSTATE\tSTEPS\tRECORD\tWHAT")
			for _, s := range list {
				holds, what := "holds", ""
				if len(s.Findings) > 0 {
					holds = "DOES NOT HOLD"
				}
				if len(s.Steps) > 0 {
					what = said(&s.Opened().Step)
				}
				terminal.Printf(t, "%s\t%s\t%d\t%s\t%s\n", s.ID, s.State, len(s.Steps), holds, what)
			}
			return t.Flush()
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// approveStep adds a second signature to a step of an incident that waits.
func approveStep(cmd *cobra.Command, name string, by *estate.Signer) error {
	d, b, err := openBooks(cmd)
	if err != nil {
		return err
	}
	defer b.Close()
	s, err := incident.In(estateDir(d), b.History).Approve(name, func(s *incident.Step) error {
		_, err := terminal.Printf(cmd.OutOrStdout(), "Step %d of %s, %s, by %s at %s: %s\n", s.Number, s.Incident, s.Kind, s.Author, s.Time.Format(time.RFC3339), said(s))
		return err
	}, by)
	if err != nil {
		return err
	}
	if err := anchor(cmd, d, b.History.Newest().Set, s, nil); err != nil {
		return err
	}
	return confirm(cmd, d, b.History.Newest().Set, &s.Step, by)
}
