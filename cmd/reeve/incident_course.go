package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/audit/books"
	"github.com/reevehq/reeve/internal/audit/control"
	"github.com/reevehq/reeve/internal/audit/incident"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/evidence"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/terminal"
)

// course has those who signed a step that is about that sign for how the incident was contained, as the auditor's books have it: controls and metrics are
// judged by it once two have.
func (o *stepping) course(cmd *cobra.Command, d *host.Dir, b *books.Books, set *statement.Set, s *incident.Step, by []*estate.Signer) error {
	if s.Kind == incident.KindOpen || s.Kind == incident.KindNote && len(s.Contains) == 0 {
		return nil // it says nothing of that
	}
	j, err := incident.In(estateDir(d), b.History).Read(s.Incident)
	if err != nil {
		return err
	}
	c, err := incident.Measure(cmd.Context(), incident.Input{Books: b, Journal: j, Plan: (&reporting{dir: d, books: b}).plan})
	if err != nil {
		return err
	}
	name := courseName(s)
	document, err := (&control.Evidence{Incidents: []control.Incident{c}}).Write(d.Path, name)
	if err != nil {
		return err
	}
	a, err := evidence.Anchor(cmd.Context(), anchorage(d, o.authorities), set, "document", name, document, by...)
	if err != nil {
		return err
	}
	sayCourse(cmd.OutOrStdout(), &c)
	if a.Waits != "" {
		terminal.Printf(cmd.ErrOrStderr(), "reeve: no ledger has yet how it went: %s\n", a.Waits)
	}
	return nil
}

// courseName names the document that is signed for with a step.
func courseName(s *incident.Step) string { return fmt.Sprintf("incident-%s-%d", s.Incident, s.Number) }

// confirm has the second person of a step sign for what the first one signed for with it, if there is such a document.
func confirm(cmd *cobra.Command, d *host.Dir, set *statement.Set, s *incident.Step, by *estate.Signer) error {
	name := courseName(s)
	document, err := os.ReadFile(d.Join(control.EvidenceDir, name+".json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	e, err := control.ParseEvidence(document)
	if err != nil || len(e.Incidents) != 1 || e.Incidents[0].ID != s.Incident {
		return fmt.Errorf("%s.json is not how %s went: nobody signs for it", name, s.Incident)
	}
	sayCourse(cmd.OutOrStdout(), &e.Incidents[0])
	_, err = evidence.Anchor(cmd.Context(), anchorage(d, nil), set, "document", name, document, by)
	return err
}

func sayCourse(out io.Writer, c *control.Incident) {
	if c.Contained.IsZero() {
		terminal.Printf(out, "%s: not contained, as the auditor's books have it.\n", c.ID)
		return
	}
	terminal.Printf(out, "%s: contained in %s; %d of %d secrets that were to end are proven dead; %.1f credential-seconds after the freeze.\n", c.ID, seconds(c.Contain().Seconds()), c.Dead, c.Dead+c.Unproven, c.Residual)
}
