package main

import (
	"fmt"

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

// course has those who signed a step sign for how the incident was contained, as the auditor's books have it: controls and metrics are judged by it.
func (o *stepping) course(cmd *cobra.Command, d *host.Dir, b *books.Books, set *statement.Set, s *incident.Signed, by []*estate.Signer) error {
	j, err := incident.In(estateDir(d), b.History).Read(s.Incident)
	if err != nil {
		return err
	}
	c, err := incident.Measure(cmd.Context(), incident.Input{Books: b, Journal: j, Plan: (&reporting{dir: d, books: b}).plan})
	if err != nil {
		return err
	}
	name := fmt.Sprintf("incident-%s-%d", s.Incident, s.Number)
	document, err := (&control.Evidence{Incidents: []control.Incident{c}}).Write(d.Path, name)
	if err != nil {
		return err
	}
	a, err := evidence.Anchor(cmd.Context(), anchorage(d, o.authorities), set, "document", name, document, by...)
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	if c.Contained.IsZero() {
		terminal.Printf(out, "%s: not contained, as the auditor's books have it.\n", s.Incident)
	} else {
		terminal.Printf(out, "%s: contained in %s; %d of %d secrets that were to end are proven dead; %.1f credential-seconds after the freeze.\n", s.Incident, seconds(c.Contain().Seconds()), c.Dead, c.Dead+c.Unproven, c.Residual)
	}
	if a.Waits != "" {
		terminal.Printf(cmd.ErrOrStderr(), "reeve: no ledger has yet how it went: %s\n", a.Waits)
	}
	return nil
}
