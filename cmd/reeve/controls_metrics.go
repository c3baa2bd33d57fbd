package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/audit/books"
	"github.com/reevehq/reeve/internal/audit/control"
	"github.com/reevehq/reeve/internal/table"
	"github.com/reevehq/reeve/internal/terminal"
)

// weeks is how many weeks back metrics are shown.
const weeks = 4

// metrics shows the metrics at --as-of and at the end of each of the weeks before.
func (p *posture) metrics(cmd *cobra.Command, b *books.Books, o control.Options) error {
	var all []*control.Metrics
	for i := range weeks + 1 {
		at := o
		at.AsOf = o.AsOf.Add(-time.Duration(i) * 7 * 24 * time.Hour)
		m, err := control.Measure(cmd.Context(), b, at)
		if err != nil {
			return undecided(err)
		}
		all = append(all, m)
	}
	if p.json {
		return printJSON(cmd, all)
	}
	t := table.New(cmd.OutOrStdout())
	fmt.Fprint(t, "METRIC")
	for _, m := range all {
		terminal.Printf(t, "\t%s", m.AsOf.Format(time.DateOnly))
	}
	fmt.Fprintln(t, "\tTAKEN FROM")
	for i := range all[0].List {
		terminal.Printf(t, "%v", all[0].List[i].Title)
		for _, m := range all {
			terminal.Printf(t, "\t%s", m.List[i].String())
		}
		terminal.Printf(t, "\t%d %s\n", all[0].List[i].Of, all[0].List[i].Why)
	}
	return t.Flush()
}
