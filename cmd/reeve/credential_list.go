package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/admin"
	"github.com/reevehq/reeve/internal/admin/operator"
	"github.com/reevehq/reeve/internal/credential"
	"github.com/reevehq/reeve/internal/custody"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/table"
	"github.com/reevehq/reeve/internal/terminal"
)

func newCredentialListCmd() *cobra.Command {
	var sockets []string
	var asJSON, fromLedger bool
	var only selection
	var at window
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Every credential: its owner, source, age, uses, and when it is replaced",
		Long: "What every credential stands at, by the statements in force and by what this host's custodian says; further ones are asked by\n" +
			"--socket. LIVES is how long a secret is good for, AGE that of the one in use, NEXT when it is replaced. The uses of the last day,\n" +
			"or since the custodian started, are counted by how long the secret lived: static (a day and more), under a day, under an hour,\n" +
			"15 minutes and less. Below are the keys with which custodians can mint. With --orphaned, --stale or --static, only credentials that are any of\n" +
			"those. --from-ledger and --as-of ask no custodian: the answer comes from the auditor's books, as of a time.",
		Example: "  reeve credential list\n  reeve credential list --orphaned --stale --static\n  reeve credential list --from-ledger --stale=720h --as-of 2026-11-01T00:00:00Z --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if fromLedger || cmd.Flags().Changed("as-of") {
				return listFromLedger(cmd, &only, &at, asJSON)
			}
			d, set, err := openSet(cmd)
			if err != nil {
				return err
			}
			asked, silent := statuses(cmd, d, sockets)
			r, err := credential.List(estateDir(d), set, asked, time.Now())
			if err != nil {
				return failed(err)
			}
			if only.any() {
				now := time.Now()
				r.Credentials = slices.DeleteFunc(r.Credentials, func(p credential.Posture) bool {
					return !only.has(p.Orphan, !p.LastUse.After(now.Add(-only.stale)), p.Lives == credential.Static)
				})
				r.Keys = []credential.Key{}
			}
			if asJSON {
				return printJSON(cmd, r)
			}
			for _, err := range silent {
				terminal.Printf(cmd.ErrOrStderr(), "reeve: %v\n", err)
			}
			return printPosture(cmd.OutOrStdout(), r, time.Now())
		},
	}
	cmd.Flags().StringSliceVar(&sockets, "socket", nil, "admin socket `PATH` of another custodian on this host")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVar(&fromLedger, "from-ledger", false, "answer from the auditor's books, and ask no custodian")
	only.flags(cmd)
	at.addAsOf(cmd)
	return cmd
}

// statuses asks the custodians of this host. Those that do not answer are errors; none runs is none.
func statuses(cmd *cobra.Command, d *host.Dir, more []string) (all []*admin.Status, silent []error) {
	own := d.Socket(host.Custodian, "admin")
	if _, err := os.Stat(own); err == nil {
		more = append([]string{own}, more...)
	}
	for _, socket := range more {
		s, err := operator.New(socket).Status(cmd.Context())
		if err != nil {
			silent = append(silent, err)
			continue
		}
		all = append(all, s)
	}
	return all, silent
}

func printPosture(w io.Writer, r *credential.Report, now time.Time) error {
	t := table.New(w)
	fmt.Fprintln(t, "CREDENTIAL\tUNIT\tOWNER\tCLASS\tSOURCE\tVERSION\tLIVES\tAGE\tLAST USE\tSTATIC\t<24H\t<1H\t<15MIN\tNEXT\tSTATE")
	for _, p := range r.Credentials {
		owner, version := p.Owner, "none"
		if p.Orphan {
			owner = "ORPHANED"
		}
		if p.Version > 0 {
			version = fmt.Sprint(p.Version)
		} else if kind, ok := custody.FindKind(p.Source); ok && kind.Root == "" {
			version = "" // nothing is handed over
		}
		lives := p.Lives
		if p.Lifetime > 0 {
			lives = short(p.Lifetime)
		}
		if p.Standing && p.Source != "sealed" {
			lives = strings.TrimPrefix(lives+", root static", ", ")
		}
		uses := "\t?\t?\t?\t?"
		if p.Known {
			uses = fmt.Sprintf("\t%d\t%d\t%d\t%d", p.Uses.Static, p.Uses.Day, p.Uses.Hour, p.Uses.Quarters)
		}
		last, age, next := "", "", ""
		if !p.LastUse.IsZero() {
			last = short(int64(now.Sub(p.LastUse)/time.Second)) + " ago"
		}
		if p.Age > 0 || p.Known && p.State != "pending" || !p.Handed.IsZero() {
			age = short(p.Age)
		}
		if !p.Next.IsZero() {
			next = "in " + short(int64(p.Next.Sub(now)/time.Second))
			if !now.Before(p.Next) {
				next = "overdue"
			}
		}
		terminal.Printf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s%s\t%s\t%s\n", p.Credential, p.Unit, owner, p.Class, p.Source, version, lives, age, last, terminal.Lines(uses), next, state(&p))
	}
	if len(r.Keys) > 0 {
		fmt.Fprintln(t, "\nKEY\tUNIT\tCUSTODIAN\tCAN\tUNTIL")
		for _, k := range r.Keys {
			terminal.Printf(t, "%s\t%s\t%s\t%s\t%s\n", k.ID, k.Unit, k.Custodian, k.Can, k.NotAfter.UTC().Format(time.DateOnly))
		}
	}
	return t.Flush()
}

// state says in a word what may be used, and why not.
func state(p *credential.Posture) string {
	words := []string{}
	switch {
	case p.Unusable != "":
		words = append(words, "UNUSABLE: "+p.Unusable)
	case !p.Known:
		words = append(words, "not known")
	default:
		words = append(words, p.State)
	}
	if p.Honey != "" {
		words = append(words, "honey")
	}
	for _, why := range []string{p.Closed, p.Error} {
		if why != "" && p.Unusable == "" {
			words = append(words, why)
		}
	}
	return strings.Join(words, ", ")
}

// short writes seconds in one unit.
func short(seconds int64) string {
	switch {
	case seconds < 120:
		return fmt.Sprintf("%ds", seconds)
	case seconds < 2*3600:
		return fmt.Sprintf("%dm", seconds/60)
	case seconds < 2*86400:
		return fmt.Sprintf("%dh", seconds/3600)
	}
	return fmt.Sprintf("%dd", seconds/86400)
}
