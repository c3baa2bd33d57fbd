package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/audit/blast"
	"github.com/reevehq/reeve/internal/audit/books"
	"github.com/reevehq/reeve/internal/audit/contain"
	"github.com/reevehq/reeve/internal/audit/control"
	"github.com/reevehq/reeve/internal/audit/incident"
	"github.com/reevehq/reeve/internal/audit/oscal"
	"github.com/reevehq/reeve/internal/durable"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/terminal"
)

func newIncidentReportCmd() *cobra.Command {
	var o stepping
	var page, document, assessment, annexes, of string
	cmd := &cobra.Command{
		Use:   "report ID",
		Short: "Make the report: what was read, used, reachable; who answers; what was done",
		Long: "Make the report of an incident from the auditor's books, in eleven parts: header; one page of answer; accountability; timeline; credentials; an annex\n" +
			"for each business unit; what cannot be known; containment; controls before and after; completeness; signatures. --json is the report itself;\n" +
			"--html one page that holds everything it shows and prints as A4; --oscal a folder of OSCAL documents; --annexes a folder for each business\n" +
			"unit with what concerns it alone, as a page, JSON and proofs, to be handed over without the others'.\n" +
			"With --as and --with, two people sign for the JSON's hash as a step of the incident; with one, the step waits for reeve approve, and then\n" +
			"--of FILE makes the page again with both signatures.",
		Example: "  reeve incident report inc-20261123-1 --html report.html --json report.json\n" +
			"  reeve incident report inc-20261123-1 --html report.html --json report.json --oscal oscal --as bea --with ada\n" +
			"  reeve incident report inc-20261123-1 --of report.json --annexes annexes\n" +
			"  reeve incident report inc-20261123-1 --of report.json --html report.html",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if page == "" && document == "" && assessment == "" && annexes == "" || o.s.as != "" && document == "" {
				return &exitError{exitUsage, errors.New("say what to write: --html FILE, --json FILE, --oscal DIR, --annexes DIR; what is signed is the JSON")}
			}
			m, err := openReport(cmd, args[0])
			if err != nil {
				return err
			}
			defer m.books.Close()
			text, err := m.text(cmd.Context(), of)
			if err != nil {
				return failed(err)
			}
			if document != "" {
				if err := durable.Replace(document, text, 0o600); err != nil {
					return failed(err)
				}
			}
			waits := ""
			if o.s.as != "" {
				err := o.record(cmd, incident.Step{Incident: args[0], Kind: incident.KindReport, SHA256: incident.HashOf(text)})
				var p *incident.Pending
				if errors.As(err, &p) {
					waits = p.Name
				} else if err != nil {
					return err
				}
			}
			if page != "" {
				b, err := m.page(cmd, text, waits)
				if err == nil {
					err = durable.Replace(page, b, 0o600)
				}
				if err != nil {
					return failed(err)
				}
			}
			if assessment != "" {
				if err := m.oscal(assessment); err != nil {
					return failed(err)
				}
			}
			if annexes != "" {
				n, err := writeAnnexes(cmd.Context(), annexes, m.books, m.made, incident.HashOf(text))
				if err != nil {
					return failed(err)
				}
				terminal.Printf(cmd.OutOrStdout(), "%s: annexes of %s.\n", annexes, counted(n, "business unit"))
			}
			return m.conclude(cmd, waits)
		},
	}
	o.s.optional(cmd)
	cmd.Flags().StringVar(&o.with, "with", "", "the second `person`, of another role, who signs on this machine too")
	cmd.Flags().StringSliceVar(&o.authorities, "authority", nil, "`URL` of an authority, in place of this directory's")
	cmd.Flags().StringVar(&page, "html", "", "write the page to this `file`")
	cmd.Flags().StringVar(&document, "json", "", "write the report to this `file`")
	cmd.Flags().StringVar(&assessment, "oscal", "", "write the controls before and after as OSCAL documents into this `folder`")
	cmd.Flags().StringVar(&annexes, "annexes", "", "write a folder for each business unit that it concerns into this `folder`: annex.html, annex.json, proofs")
	cmd.Flags().StringVar(&of, "of", "", "a report's JSON `file` that was made before, instead of a new one")
	return cmd
}

// reporting makes reports of one incident.
type reporting struct {
	dir      *host.Dir
	books    *books.Books
	incident *shownIncident
	in       incident.Input
	made     *incident.Report
}

// openReport opens what a report is made from.
func openReport(cmd *cobra.Command, id string) (*reporting, error) {
	p := posture{life: 24 * time.Hour, attested: 180 * 24 * time.Hour, replay: strconv.Itoa(control.Replays)}
	d, b, o, refused, err := p.open(cmd)
	if err != nil {
		return nil, err
	}
	s, err := readIncident(cmd, d, b, id)
	if err != nil {
		return nil, errors.Join(failed(err), b.Close())
	}
	seen, err := strays(auditorState(cmd, d))
	if err != nil {
		return nil, errors.Join(err, b.Close())
	}
	m := &reporting{dir: d, books: b, incident: s}
	m.in = incident.Input{Books: b, Blast: blast.Options{OutOfBand: seen}, Journal: s.Journal, Anchors: s.Anchors, Findings: s.Findings, Remarks: append(s.Remarks, refused...), Controls: o, Plan: m.plan}
	return m, nil
}

// plan says what a scope's containment is, by what is signed.
func (m *reporting) plan(ctx context.Context, s contain.Scope) (*contain.Plan, error) {
	basis := &contain.Basis{Set: m.books.History.Newest().Set, Index: m.books.Index, Now: m.books.Now}
	var err error
	if basis.Records, err = estate.ReadRecords(estateDir(m.dir).Store(), "revocation"); err != nil {
		return nil, err
	}
	if basis.Keys, err = estateDir(m.dir).Keys(basis.Set, basis.Now); err != nil {
		return nil, err
	}
	return contain.New(ctx, basis, s, nil, "")
}

// text is the report's JSON: a new one's, or that of a file.
func (m *reporting) text(ctx context.Context, file string) (text []byte, err error) {
	if file == "" {
		if m.made, err = incident.Make(ctx, m.in); err != nil {
			return nil, err
		}
		return m.made.Encode()
	}
	if text, err = os.ReadFile(file); err != nil {
		return nil, err
	}
	m.made = new(incident.Report)
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(m.made); err != nil {
		return nil, fmt.Errorf("%s is no report: %w", file, err)
	}
	if m.made.Incident != m.incident.ID {
		return nil, fmt.Errorf("%s is the report of %s", file, m.made.Incident)
	}
	return text, nil
}

// page is the report's page, with the signatures that the journal has of it by now.
func (m *reporting) page(cmd *cobra.Command, text []byte, waits string) ([]byte, error) {
	s, err := readIncident(cmd, m.dir, m.books, m.incident.ID)
	if err != nil {
		return nil, err
	}
	hash := incident.HashOf(text)
	var out bytes.Buffer
	err = (&incident.Page{Report: m.made, Hash: hash, Signatures: s.Signed(hash, m.books.History.Newest().Set), Waits: waits}).WriteHTML(&out)
	return out.Bytes(), err
}

// assessments are the controls before and after.
func (m *reporting) assessments() (oscal.Input, error) {
	c, err := control.Catalog()
	in := oscal.Input{Estate: m.made.Estate, Catalogue: c}
	for i, title := range []string{"before", "after"} {
		if len(m.made.Judged[i]) > 0 {
			at := m.made.Judged[i][0].AsOf
			in.Results = append(in.Results, oscal.Assessment{Title: "Controls " + title + " the incident " + m.made.Incident, From: at, To: at, Results: m.made.Judged[i]})
		}
	}
	return in, err
}

func (m *reporting) oscal(dir string) error {
	in, err := m.assessments()
	if err != nil {
		return err
	}
	return oscal.Write(dir, in)
}

// conclude prints the answer. A record that does not hold is exit status 1, a report that waits or an incident that never was contained 3.
func (m *reporting) conclude(cmd *cobra.Command, waits string) error {
	terminal.Printf(cmd.OutOrStdout(), "%s\n", terminal.Lines(strings.Join(m.made.Answer, "\n")))
	if err := m.incident.verdict(); err != nil {
		return err
	}
	switch {
	case waits != "":
		return &exitError{exitUndecided, fmt.Errorf("the report is signed by one and waits for a second person, of another role: reeve approve %s --as PERSON", waits)}
	case !m.made.Contained && len(m.made.Containment.Held) == 0:
		return &exitError{exitUndecided, fmt.Errorf("%s is not contained: reeve contain with its subject and --plan shows what is open", m.made.Incident)}
	}
	return nil
}
