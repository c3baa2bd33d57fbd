package control

import (
	"fmt"
	"strings"
)

// Markdown is docs/controls.md: the catalogue as a table, and what its ids mean.
func (c *Catalogue) Markdown() string {
	var b strings.Builder
	b.WriteString(`# Controls

` + "`reeve controls`" + ` judges these from live data: the ledgers, the signed statements in time, the register, and documents that people signed for. The table is made from the
catalogue (` + "`internal/audit/control/catalog.yaml`" + `), which is data: frameworks change.

| state | means |
|---|---|
| pass | its check found nothing wrong, and had what it needs |
| fail | it found something, and says whose it is, where the ledgers show it, and what to do |
| unknown | it lacks data. This never counts as satisfied |
| exempt | a person approved that it need not hold, until a date (` + "`reeve controls exempt`" + `). Nobody excuses what he has to put right himself |

| id | control | fails when | answers to |
|---|---|---|---|
`)
	for _, x := range c.Controls {
		var to []string
		for _, f := range c.Frameworks {
			if ids := x.Maps[f.ID]; len(ids) > 0 {
				to = append(to, f.ID+" "+strings.Join(ids, ", "))
			}
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", x.ID, x.Title, x.Fails, strings.Join(to, "; "))
	}
	b.WriteString("\n## Frameworks\n")
	for _, f := range c.Frameworks {
		fmt.Fprintf(&b, "\n### %s: %s\n\n<%s>", f.ID, f.Title, f.Source)
		if f.Note != "" {
			b.WriteString(" " + f.Note)
		}
		b.WriteString("\n\n| id | title | controls |\n|---|---|---|\n")
		ids, by := c.IDs(f.ID)
		for _, id := range ids {
			fmt.Fprintf(&b, "| %s | %s | %s |\n", id, strings.ReplaceAll(f.Titles[id], "|", `\|`), strings.Join(by[id], ", "))
		}
		if none := c.Uncovered(f.ID); len(none) > 0 {
			fmt.Fprintf(&b, "\nNo control here answers to %s.\n", strings.Join(none, ", "))
		}
	}
	return b.String()
}
