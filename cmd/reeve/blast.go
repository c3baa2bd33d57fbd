package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/audit/blast"
	"github.com/reevehq/reeve/internal/audit/books"
	"github.com/reevehq/reeve/internal/audit/usage"
	"github.com/reevehq/reeve/internal/terminal"
)

// blastFlags are what the command is told.
type blastFlags struct {
	window
	subjects [5]string // as subjectKinds
	silence  time.Duration
	live     bool
	by       string
	limit    int
	json     bool
	html     string
	annex    string
	out      string
}

// subjectKinds are the subjects that are no components, each a flag.
var subjectKinds = [5]blast.Kind{blast.Credential, blast.Workload, blast.Person, blast.Tenant, blast.Unit}

func newBlastCmd() *cobra.Command {
	var f blastFlags
	cmd := &cobra.Command{
		Use:   "blast [COMPONENT]",
		Short: "What a captured component meant: what was read, used, reachable; who answers",
		Long: "The blast radius of a component (a gateway, a custodian, the authority, the auditor, or what the register has besides), or of what a flag\n" +
			"names, from the auditor's verified copies of the ledgers and the signed statements in time. Each credential and business unit is in one class:\n\n" +
			"  READ           its plaintext was in the component\n" +
			"  OUT-OF-BAND    the provider saw a use that the ledgers do not have\n" +
			"  USED-ASSERTED  only a bearer token, or the component, vouched for the uses\n" +
			"  USED-PROVEN    the custodian verified the workload's own signature over each request\n" +
			"  REACHABLE      the policy in force would have allowed it, or nobody can know; there is no entry\n" +
			"  EXCLUDED       no policy permitted it, and the ledgers are complete for the window\n\n" +
			"Exit status 3 when a ledger is not complete for the window: what is said then is a lower bound of what is known, and what is not\n" +
			"known counts as reachable.",
		Example: "  reeve blast g1 --from 3h\n  reeve blast g1 --from 2026-11-23T02:00:00Z --to 2026-11-23T05:00:00Z --by unit\n  reeve blast --credential research-openai --from 720h --json\n" +
			"  reeve blast g1 --from 3h --html blast.html\n  reeve blast g1 --from 3h --annex research --out annex-research",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := f.subject(args)
			if err != nil {
				return err
			}
			_, b, err := openBooks(cmd)
			if err != nil {
				return err
			}
			defer b.Close()
			a, err := f.ask(cmd, b, s)
			if err != nil {
				return err
			}
			if f.annex != "" {
				return failed(f.writeAnnex(cmd, b, a))
			}
			if f.html != "" {
				if err := writeFile(f.html, func(w io.Writer) error { return blast.WritePage(w, a) }); err != nil {
					return failed(err)
				}
			}
			if f.live {
				a.Rows = slices.DeleteFunc(a.Rows, func(r blast.Row) bool { return !r.Live })
			}
			if f.json {
				err = printJSON(cmd, a)
			} else {
				err = f.print(cmd.OutOrStdout(), a)
			}
			if err == nil && !a.Complete {
				err = &exitError{exitUndecided, errors.New("a ledger is not complete for the window: see what cannot be known")}
			}
			return failed(err)
		},
	}
	f.window.add(cmd, 24*time.Hour)
	for i, k := range subjectKinds {
		cmd.Flags().StringVar(&f.subjects[i], string(k), "", fmt.Sprintf("instead of a component: this %s", k))
	}
	cmd.Flags().DurationVar(&f.silence, "silence", blast.Silence, "longest time without an entry that says nothing about a custodian's ledger")
	cmd.Flags().BoolVar(&f.live, "live", false, "list only what is still usable")
	cmd.Flags().StringVar(&f.by, "by", "", "count by unit instead of listing rows: unit")
	cmd.Flags().IntVar(&f.limit, "limit", 50, "list at most so many rows of a class; 0 for all")
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON")
	cmd.Flags().StringVar(&f.html, "html", "", "write the answer to `FILE` too, as a page that needs nothing else")
	cmd.Flags().StringVar(&f.annex, "annex", "", "write only what concerns this business `UNIT`, with proofs, and nothing of the others")
	cmd.Flags().StringVar(&f.out, "out", "", "write annex.html, annex.json and the proofs of --annex into `DIR`")
	cmd.MarkFlagsRequiredTogether("annex", "out")
	cmd.MarkFlagsMutuallyExclusive("annex", "html")
	return cmd
}

// writeAnnex writes what concerns one business unit.
func (f *blastFlags) writeAnnex(cmd *cobra.Command, b *books.Books, a *blast.Answer) error {
	x, err := blast.AnnexOf(cmd.Context(), b, a, f.annex)
	if err != nil {
		return known(err)
	}
	if err := writeAnnex(f.out, x); err != nil {
		return err
	}
	terminal.Printf(cmd.OutOrStdout(), "%s: annex.html, annex.json and %d proofs, of %d rows.\n", f.out, len(x.Proofs), len(x.Answer.Rows))
	if !x.Answer.Complete {
		return &exitError{exitUndecided, errors.New("a ledger is not complete for the window: see what cannot be known")}
	}
	return nil
}

// subject is what is asked about.
func (f *blastFlags) subject(args []string) (s blast.Subject, err error) {
	var all []blast.Subject
	if len(args) == 1 {
		all = append(all, blast.Subject{Kind: blast.Component, ID: args[0]})
	}
	for i, id := range f.subjects {
		if id != "" {
			all = append(all, blast.Subject{Kind: subjectKinds[i], ID: id})
		}
	}
	switch {
	case len(all) != 1:
		return s, errors.New("name one subject: a component, or one of --credential, --workload, --person, --tenant and --unit")
	case f.by != "" && f.by != "unit":
		return s, fmt.Errorf("--by %q: the word is unit", f.by)
	}
	return all[0], nil
}

// ask computes the answer.
func (f *blastFlags) ask(cmd *cobra.Command, b *books.Books, s blast.Subject) (*blast.Answer, error) {
	from, to, asOf, err := f.times(time.Now())
	if err != nil {
		return nil, err
	}
	d, err := openDir(cmd)
	if err != nil {
		return nil, err
	}
	strays, err := strays(auditorState(cmd, d))
	if err != nil {
		return nil, err
	}
	a, err := blast.Radius(cmd.Context(), b, s, from, to, blast.Options{AsOf: asOf, Silence: f.silence, OutOfBand: strays})
	if err != nil {
		return nil, known(err)
	}
	return a, nil
}

// strays are what 'reeve reconcile' found and kept.
func strays(state string) (list []blast.Stray, err error) {
	results, err := usage.Load(state)
	if err != nil {
		return nil, &exitError{exitUndecided, fmt.Errorf("what was compared with the providers' records: %w", err)}
	}
	for _, r := range results {
		for _, s := range r.Strays {
			why := fmt.Sprintf("it counted %d between %s and %s, the ledgers have %d", s.Counted, s.From.Format(time.RFC3339), s.To.Format(time.RFC3339), s.Ledger)
			if s.Confidence != usage.Certain {
				why += ", and do not cover that time whole"
			}
			list = append(list, blast.Stray{Credential: s.Credential, Provider: s.Provider, Count: s.Difference, First: s.From, Last: s.To, Why: why})
		}
	}
	return list, nil
}
