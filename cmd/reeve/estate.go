package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/table"
	"github.com/reevehq/reeve/internal/terminal"
)

func newEstateCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "estate",
		Short: "Look at what the owners decide: check, diff, log",
		Long: "An estate's statements are files under DIR/estate that its owners edit. A change takes effect when its author has drafted\n" +
			"it (reeve sign), the holders of its role have signed too (reeve approve), a new lock binds it, and it is published\n" +
			"(reeve publish).",
	}
	cmd.AddCommand(newEstateCheckCmd(), newEstateDiffCmd(), newEstateLogCmd(), newEstateRecoverCmd())
	return cmd
}

func newEstateCheckCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "check",
		Short:   "Verify what is published, check the owners' files, and say what waits and what ends soon",
		Long:    "Exit status 0 when a published set is in force and the owners' files hold, else 1.",
		Example: "  reeve estate check\n  reeve estate check --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := openDir(cmd)
			if err != nil {
				return err
			}
			r, err := estateDir(d).Report(d.Pin(), time.Now())
			if err != nil {
				return failed(err)
			}
			if asJSON {
				err = printJSON(cmd, r)
			} else {
				err = printEstate(cmd, r)
			}
			if err == nil && r.Refused+r.Draft != "" {
				err = errors.New(strings.Join(slices.DeleteFunc([]string{r.Refused, r.Draft}, func(s string) bool { return s == "" }), "\n"))
			}
			return failed(err)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printEstate(cmd *cobra.Command, r *estate.Report) error {
	out := cmd.OutOrStdout()
	if r.Lock > 0 {
		terminal.Printf(out, "The estate %s is at version %d of its lock, valid until %s.\n\n", r.Estate, r.Lock, r.Expires.Format(time.RFC3339))
		if r.Since > 1 {
			terminal.Printf(out, "What older versions than %d of the lock changed is not in the store: nobody can check whether its owners signed that.\n\n", r.Since)
		}
	}
	t := table.New(out)
	fmt.Fprintln(t, "STATEMENT\tVERSION\tEXPIRES\tSIGNED BY\tNEXT")
	for _, s := range r.Statements {
		version, expires, next := "none", "", ""
		if s.Version.Version > 0 {
			version, expires = fmt.Sprint(s.Version.Version), s.Expires.Format(time.DateOnly)
		}
		if s.Pending != nil {
			next = fmt.Sprintf("version %d waits, signed by %s", s.Pending.Version.Version, s.Pending.By())
		}
		if s.Changed {
			next = strings.TrimPrefix(next+"; the files were changed since", "; ")
		}
		if s.Version.Version == 0 && s.Pending == nil {
			next = "nobody has drafted it: reeve sign " + s.Statement
		}
		terminal.Printf(t, "%s\t%s\t%s\t%s\t%s\n", s.Statement, version, expires, s.By(), next)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, w := range r.Warnings {
		terminal.Printf(out, "warning: %s\n", w)
	}
	return nil
}

func newEstateLogCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "log STATEMENT",
		Short: "The published versions of a statement, the newest first, and who signed each with what",
		Long: "For each version, who signed it and what the signature shows of the authenticator: file (a key file, or an SSH key in a file or\n" +
			"agent), security-key, passkey or synced-passkey; touched; verified by PIN or fingerprint; and the assurance level of\n" +
			"NIST SP 800-63B that follows. A signature that holds under no charter of the estate is listed as void.",
		Example: "  reeve estate log policy-research\n  reeve estate log lock --json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, set, err := openSet(cmd)
			if err != nil {
				return err
			}
			list, err := estate.History(estateDir(d).Store(), set, args[0])
			if err != nil {
				return failed(err)
			}
			if len(list) == 0 {
				return noSuch("no version of %s is published", args[0])
			}
			if asJSON {
				return printJSON(cmd, list)
			}
			t := table.New(cmd.OutOrStdout())
			fmt.Fprintln(t, "VERSION\tCREATED\tEXPIRES\tAUTHOR\tSIGNED BY\tMANIFEST")
			for _, v := range list {
				terminal.Printf(t, "%d\t%s\t%s\t%s\t%s\t%s\n", v.Version.Version, v.Created.Format(time.RFC3339), v.Expires.Format(time.RFC3339), v.Author, shown(&v), v.SHA256)
			}
			return t.Flush()
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// shown says who signed, and how.
func shown(v *estate.Signed) string {
	var list []string
	for _, a := range v.Approvals {
		how := a.Authenticator
		switch {
		case a.UserVerified:
			how += " verified"
		case a.UserPresent:
			how += " touched"
		}
		list = append(list, fmt.Sprintf("%s (%s, AAL%d)", a.KeyID, how, a.AAL))
	}
	for _, id := range v.Void {
		list = append(list, id+" (void)")
	}
	return strings.Join(list, ", ")
}
