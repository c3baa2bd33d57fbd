package main

import (
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/process"
)

// group is a heading of the overview and its commands, so that a person finds the one that he needs.
type group struct {
	title    string
	commands []*cobra.Command
}

// groups has every command; each lives in the file that has its name.
func groups() []group {
	return []group{
		{"Run it:", []*cobra.Command{newUpCmd(), newDownCmd(), newStatusCmd(), newExecCmd(), newSidecarCmd(), newDemoCmd()}},
		{"Decide, and sign for it:", []*cobra.Command{newInitCmd(), newEstateCmd(), newSignCmd(), newApproveCmd(), newPublishCmd(), newKeyCmd(), newPeopleCmd(), newAttestCmd()}},
		{"Credentials, and who uses them:", []*cobra.Command{newCredentialCmd(), newWorkloadCmd(), newFederationCmd(), newCanCmd(), newWhoCanCmd()}},
		{"When something is wrong:", []*cobra.Command{newDoctorCmd(), newFreezeCmd(), newRevokeCmd(), newContainCmd(), newIncidentCmd(), newBreakGlassCmd(), newExtendCmd()}},
		{"Who answers, and what happened:", []*cobra.Command{newBlastCmd(), newUsesCmd(), newWhyCmd(), newDutiesCmd(), newComponentCmd(), newProbeCmd(), newReconcileCmd(), newAuditCmd()}},
		{"Prove it:", []*cobra.Command{newVerifyCmd(), newReceiptCmd(), newControlsCmd(), newEvidenceCmd(), newDrillCmd()}},
		{"Look after a host:", []*cobra.Command{newLedgerCmd(), newBackupCmd(), newRestoreCmd(), newHostCmd(), newEraseCmd()}},
	}
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "reeve",
		Short: "An AI gateway that answers for every credential it uses",
		Long: "reeve is an AI gateway that answers for every credential it uses.\n\n" +
			"Exit status of every command: 0 it holds or is done, 1 it does not, 2 wrong usage or a name that nothing has, 3 it cannot be decided.",
		Example:       "  reeve up                                     # a demo in ./demo, to try everything on\n  reeve doctor                                 # why a call is refused, and who mends it\n  reeve freeze everything --reason incident    # nothing is used any more, at once\n  reeve blast g1 --from 3h                     # what it meant that a gateway was captured",
		Version:       process.Version,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetVersionTemplate("{{.Name}} {{.Version}}\n") // as the processes print theirs
	root.PersistentFlags().String("dir", defaultDir(), "the estate's directory ($REEVE_DIR)")
	root.PersistentFlags().String("books", "", "answer from `DIR`, your own copy of the auditor's state: its ledgers are verified first, no index is believed")
	for _, g := range groups() {
		root.AddGroup(&cobra.Group{ID: g.title, Title: g.title})
		for _, c := range g.commands {
			c.GroupID = g.title
		}
		root.AddCommand(g.commands...)
	}
	root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), ".FlagUsages ", ".FlagUsagesWrapped 100 "))
	wrap(root)
	return root
}

// wrap breaks the text of each command's help at 100 columns. Indented lines, such as those of a list, stay as they are, and what
// it ends with begins a line.
func wrap(c *cobra.Command) {
	c.Long = wrapped(c.Long)
	for _, sub := range c.Commands() {
		wrap(sub)
	}
}

func wrapped(text string) string {
	var b strings.Builder
	column := 0
	for i, line := range strings.Split(text, "\n") {
		whole := line == "" || line[0] == ' '
		if i > 0 && (whole || column == 0 || strings.HasPrefix(line, "Exit status")) {
			b.WriteByte('\n')
			column = 0
		}
		if whole {
			b.WriteString(line)
			continue
		}
		for word := range strings.FieldsSeq(line) {
			n := utf8.RuneCountInString(word)
			switch {
			case column > 0 && column+1+n > 100:
				b.WriteByte('\n')
				column = 0
			case column > 0:
				b.WriteByte(' ')
				column++
			}
			b.WriteString(word)
			column += n
		}
	}
	return b.String()
}
