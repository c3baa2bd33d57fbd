package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/entry"
	"github.com/reevehq/reeve/internal/audit/books"
	"github.com/reevehq/reeve/internal/audit/control"
	"github.com/reevehq/reeve/internal/audit/dossier"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/table"
	"github.com/reevehq/reeve/internal/terminal"
)

// posture are the flags of a command that judges controls.
type posture struct {
	framework, unit string
	window          window
	life, attested  time.Duration
	idle            time.Duration
	replay          string
	json            bool
}

func (p *posture) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&p.framework, "framework", "", "only what answers to it, by its ids: owasp-nhi, csf2, ai-rmf, 800-63, 800-53, iso42001, soc2, owasp-agentic, owasp-mcp, atlas or eu-ai-act")
	cmd.Flags().StringVar(&p.unit, "unit", "", "only what concerns this business unit, or all")
	cmd.Flags().DurationVar(&p.life, "life", 24*time.Hour, "longest life of a credential (RV-10)")
	cmd.Flags().DurationVar(&p.idle, "idle", 90*24*time.Hour, "for how long uses are looked at, and what nobody used is dormant (RV-11)")
	cmd.Flags().DurationVar(&p.attested, "attested", 180*24*time.Hour, "longest time since an attestation (RV-04)")
	cmd.Flags().StringVar(&p.replay, "replay", strconv.Itoa(control.Replays), "how many uses RV-07 replays at most where policy looks at what the ledgers do not say, or all: the others are unknown")
	cmd.Flags().BoolVar(&p.json, "json", false, "print JSON")
	p.window.addAsOf(cmd)
}

// open opens the books and gathers what controls are judged from beside them.
func (p *posture) open(cmd *cobra.Command) (*host.Dir, *books.Books, control.Options, []string, error) {
	o := control.Options{Unit: p.unit, Framework: p.framework, Life: p.life, Attested: p.attested, Window: p.idle, Replays: -1}
	if n, err := strconv.Atoi(p.replay); err == nil && n > 0 {
		o.Replays = n
	} else if p.replay != "all" {
		return nil, nil, o, nil, &exitError{exitUsage, fmt.Errorf("--replay %q: say how many, or all", p.replay)}
	}
	d, b, err := openBooks(cmd)
	if err != nil {
		return nil, nil, o, nil, err
	}
	if _, _, o.AsOf, err = p.window.times(b.Now); err != nil {
		return nil, nil, o, nil, errors.Join(err, b.Close())
	}
	var refused []string
	o.Evidence, refused, err = dossier.Read(cmd.Context(), dossier.Where{Dir: d.Path, State: auditorState(cmd, d), Estate: estateDir(d)}, b)
	if err != nil {
		return nil, nil, o, nil, errors.Join(&exitError{exitUndecided, err}, b.Close())
	}
	o.Payload = dossier.Payloads(d.Join(host.Custodian, "ledger"), func(log string) int {
		for _, l := range b.Logs {
			if l.ID == log {
				_, n := entry.Successor(l.Checkpoint.Log.Origin)
				return n
			}
		}
		return 0
	})
	return d, b, o, refused, nil
}

func newControlsCmd() *cobra.Command {
	var p posture
	var failing, metrics bool
	cmd := &cobra.Command{
		Use:   "controls [ID]",
		Short: "Judge the 22 controls from live data: what holds, what does not, what nobody knows",
		Long: "Judge the control catalogue from the auditor's books: ledgers, statements in force, the register, and evidence that people signed for. Each control\n" +
			"has one check that refutes it. A control without data is unknown, which never counts as satisfied. With an ID, everything that its check found, who has\n" +
			"to act, and where the ledgers show it. Exit status 0: every control passes or is exempt; 1: one fails; 3: none fails and some are unknown.",
		Example: "  reeve controls\n  reeve controls RV-01\n  reeve controls --framework csf2 --unit research\n  reeve controls --as-of 2026-11-01T00:00:00Z --json\n  reeve controls --metrics",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, b, o, refused, err := p.open(cmd)
			if err != nil {
				return err
			}
			defer b.Close()
			if metrics {
				return p.metrics(cmd, b, o)
			}
			if len(args) == 1 {
				o.Controls = []string{strings.ToUpper(args[0])}
			}
			r, err := control.Make(cmd.Context(), b, o)
			if err != nil {
				return undecided(err)
			}
			r.Refused = refused
			if failing {
				r.Results = slices.DeleteFunc(r.Results, func(x control.Result) bool { return x.State != control.Fail })
			}
			out := cmd.OutOrStdout()
			switch {
			case p.json:
				err = printJSON(cmd, r)
			case len(args) == 1 && len(r.Results) == 1:
				err = printControl(out, &r.Results[0])
			case len(r.Groups) > 0:
				err = printGroups(out, r)
			default:
				err = printControls(out, r.Results)
			}
			if !p.json {
				printUncounted(cmd.ErrOrStderr(), r)
			}
			return cmp.Or(err, judged(r.State))
		},
	}
	p.flags(cmd)
	cmd.Flags().BoolVar(&failing, "failing", false, "only controls that fail")
	cmd.Flags().BoolVar(&metrics, "metrics", false, "show the metrics of the catalogue, now and week by week before")
	cmd.AddCommand(newControlsRecordCmd(), newControlsExemptCmd())
	return cmd
}

// printUncounted says what was not taken into account, and what is not known.
func printUncounted(w io.Writer, r *control.Report) {
	for _, why := range r.Refused {
		terminal.Printf(w, "reeve: evidence that does not count: %v\n", why)
	}
	if n := len(r.Waiting); n > 0 {
		terminal.Printf(w, "reeve: evidence that no ledger has yet, so that it shows nothing good: %d records, the first %.16s; run reeve audit anchor\n", n, r.Waiting[0])
	}
	for _, what := range r.Lacks {
		terminal.Printf(w, "reeve: the register lacks: %v\n", what)
	}
}

// judged is the exit status for a state.
func judged(s control.State) error {
	switch s {
	case control.Fail:
		return &exitError{status: exitNot}
	case control.Unknown:
		return &exitError{status: exitUndecided}
	}
	return nil
}

func printControls(w io.Writer, list []control.Result) error {
	c, err := control.Catalog()
	if err != nil {
		return err
	}
	t := table.New(w)
	fmt.Fprintln(t, "CONTROL\tSTATE\tTITLE\tCHECKED\tFIRST FINDING")
	for _, r := range list {
		x, _ := c.Control(r.Control)
		first := ""
		if len(r.Findings) > 0 {
			f := r.Findings[0]
			first = clip(f.Subject+": "+f.What, 110)
			if n := len(r.Findings) - 1; n > 0 {
				first += fmt.Sprintf(" (and %d more)", n)
			}
		}
		terminal.Printf(t, "%s\t%s\t%s\t%d\t%s\n", r.Control, stateWord(&r), x.Title, r.Checked, first)
	}
	return t.Flush()
}

// clip shortens a line for a table.
func clip(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

// stateWord is a state as a table shows it: what needs somebody stands out.
func stateWord(r *control.Result) string {
	switch r.State {
	case control.Fail:
		return "FAIL"
	case control.Exempt:
		return "exempt until " + r.Until.UTC().Format(time.DateOnly)
	}
	return string(r.State)
}

func printGroups(w io.Writer, r *control.Report) error {
	c, err := control.Catalog()
	if err != nil {
		return err
	}
	f, _ := c.Framework(r.Framework)
	terminal.Printf(w, "%s (%s)\n", f.Title, f.Source)
	if f.Note != "" {
		terminal.Printf(w, "%s\n", terminal.Lines(f.Note))
	}
	states := map[string]*control.Result{}
	for i := range r.Results {
		states[r.Results[i].Control] = &r.Results[i]
	}
	fmt.Fprintln(w)
	t := table.New(w)
	fmt.Fprintln(t, "ID\tSTATE\tCONTROLS\tTITLE")
	for _, g := range r.Groups {
		var parts []string
		for _, id := range g.Controls {
			if x := states[id]; x != nil {
				parts = append(parts, id+" "+stateWord(x))
			}
		}
		if len(parts) > 0 {
			terminal.Printf(t, "%s\t%s\t%s\t%s\n", g.ID, strings.Replace(string(g.State), "fail", "FAIL", 1), strings.Join(parts, ", "), clip(g.Title, 90))
		}
	}
	if err := t.Flush(); err != nil || len(r.Uncovered) == 0 {
		return err
	}
	terminal.Printf(w, "\nNo control here answers to %s: nothing is said of them.\n", strings.Join(r.Uncovered, ", "))
	return nil
}

func printControl(w io.Writer, r *control.Result) error {
	c, err := control.Catalog()
	if err != nil {
		return err
	}
	x, _ := c.Control(r.Control)
	terminal.Printf(w, "%s %s: %s as of %s\n", x.ID, x.Title, stateWord(r), r.AsOf.Format(time.RFC3339))
	terminal.Printf(w, "Fails when %s.\n%s.\n", x.Fails, r.Summary)
	for _, f := range c.Frameworks {
		for _, id := range x.Maps[f.ID] {
			terminal.Printf(w, "  %s %s: %s\n", f.ID, id, f.Titles[id])
		}
	}
	if len(r.Findings) > 0 {
		fmt.Fprintln(w)
		t := table.New(w)
		fmt.Fprintln(t, "\tSUBJECT\tUNIT\tWHO ACTS\tFINDING\tENTRIES")
		for _, f := range r.Findings {
			word := "fails"
			switch {
			case f.Exempt != "":
				word = "exempt"
			case f.Unknown:
				word = "unknown"
			}
			var refs []string
			for _, ref := range f.Refs {
				refs = append(refs, ref.Log+"/"+strconv.FormatInt(ref.Seq, 10))
			}
			terminal.Printf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", word, f.Subject, f.Unit, f.Owner, strings.TrimSuffix(f.What+" (exempt "+f.Exempt+")", " (exempt )"), strings.Join(refs, " "))
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	if r.State == control.Fail || r.State == control.Unknown {
		terminal.Printf(w, "\nWhat to do: %s.\n", x.Act)
	}
	return nil
}
