package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/terminal"
)

func newEstateDiffCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "diff",
		Short: "What the owners' files would open and close, in plain words, and who has to sign",
		Long: "Compare the owners' files with the set in force: which workloads gain or lose which credentials, models and destinations,\n" +
			"which items change, and whose signatures that takes besides the approvers of their statement. Nothing is signed or changed.",
		Example: "  reeve estate diff\n  reeve estate diff --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := openDir(cmd)
			if err != nil {
				return err
			}
			diff, err := estateDir(d).Diff(d.Pin(), time.Now())
			if err != nil {
				return failed(err)
			}
			if asJSON {
				return printJSON(cmd, diff)
			}
			out := cmd.OutOrStdout()
			for _, part := range []struct {
				title, none string
				lines       []string
			}{
				{"Opens:", "Opens nothing.", estate.Sentences(diff.Opens)},
				{"Narrows, from always to under conditions:", "", estate.Sentences(diff.Narrows)},
				{"Closes:", "Closes nothing.", estate.Sentences(diff.Closes)},
				{"Changes:", "Changes nothing.", changeLines(diff.Changes)},
			} {
				if len(part.lines) == 0 {
					if part.none != "" {
						terminal.Printf(out, "%v\n", part.none)
					}
					continue
				}
				terminal.Printf(out, "%s\n  %s\n", part.title, terminal.Lines(strings.Join(part.lines, "\n  ")))
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// changeLines says each change and who signs it.
func changeLines(changes []estate.DiffItem) (lines []string) {
	for _, ch := range changes {
		line := fmt.Sprintf("%s (%s)", ch, ch.Statement)
		for i, from := range ch.From {
			if len(from) > 0 {
				line += fmt.Sprintf("; %s signs it too (%s)", strings.Join(from, " or "), ch.Needs[i])
			}
		}
		lines = append(lines, line)
	}
	return lines
}
