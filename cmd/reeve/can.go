package main

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/reach"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/terminal"
)

func newCanCmd() *cobra.Command {
	var credential string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "can WORKLOAD",
		Short: "What a workload may use, under which policies, signed by whom",
		Long: "Every way that the set in force opens to a workload, found by partial evaluation of the policies: nothing is tried. WHEN is what\n" +
			"is left of their conditions and decides with each request. What a signed revocation closes is said. Exit status 1 when\n" +
			"nothing is open.",
		Example: "  reeve can research-agent\n  reeve can research-agent --credential research-openai --json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return printReach(cmd, asJSON, func(set *statement.Set) (string, string, error) {
				return args[0], credential, cmp.Or(named(set, "workload", args[0]), named(set, "credential", credential))
			})
		},
	}
	cmd.Flags().StringVar(&credential, "credential", "", "of this credential only")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func newWhoCanCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "who-can CREDENTIAL",
		Short: "Which workloads may use a credential, under which policies, signed by whom",
		Long: "Every way that the set in force opens to a credential, found by partial evaluation of the policies: nothing is tried. WHEN is\n" +
			"what is left of their conditions and decides with each request. What a signed revocation closes is said. Exit status 1 when\n" +
			"nothing is open.",
		Example: "  reeve who-can research-openai\n  reeve who-can research-openai --json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return printReach(cmd, asJSON, func(set *statement.Set) (string, string, error) {
				return "", args[0], named(set, "credential", args[0])
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// opened is what the set in force opens, and what that rests on.
type opened struct {
	Paths   []openPath      `json:"paths"`
	Grounds *estate.Grounds `json:"grounds"`
}

type openPath struct {
	reach.Path
	Closed []string `json:"closed"` // signed revocations in the store that close it all the same
}

// printReach answers for the workload and the credential that ask returns; an empty one stands for all.
func printReach(cmd *cobra.Command, asJSON bool, ask func(*statement.Set) (workload, credential string, err error)) error {
	d, set, err := openSet(cmd)
	if err != nil {
		return err
	}
	workload, credential, err := ask(set)
	if err != nil {
		return failed(err)
	}
	r, err := findReach(estateDir(d), set, workload, credential, time.Now())
	if err != nil {
		return failed(err)
	}
	if asJSON {
		err = printJSON(cmd, r)
	} else if len(r.Paths) > 0 {
		err = r.print(cmd.OutOrStdout())
	}
	if err == nil && len(r.Paths) == 0 {
		err = errors.New("nothing is open: no policy permits a use whose credential, gateway and owners the statements agree on. 'reeve doctor' says what a call lacks")
	}
	return failed(err)
}

func findReach(d estate.Dir, set *statement.Set, workload, credential string, now time.Time) (*opened, error) {
	paths, err := reach.Paths(set, now, workload, credential)
	if err != nil {
		return nil, err
	}
	closed, err := d.Closed(set, now)
	if err != nil {
		return nil, err
	}
	r := &opened{Paths: []openPath{}}
	var units, policies []string
	for _, p := range paths {
		_, home, _ := set.Workload(p.Workload)
		_, owning, _ := set.Credential(p.Credential)
		units = append(units, home.ID, owning.ID)
		for _, rule := range p.Rules {
			policies = append(policies, rule.ID)
		}
		one := openPath{Path: p, Closed: []string{}}
		for _, t := range []statement.Target{{Kind: "workload", ID: p.Workload}, {Kind: "credential", ID: p.Credential}, {Kind: "gateway", ID: p.Gateway},
			{Kind: "unit", ID: home.ID}, {Kind: "unit", ID: owning.ID}, {Kind: "tenant", ID: home.Tenant}, {Kind: "everything"}} {
			if c := closed[t]; c != nil {
				one.Closed = append(one.Closed, fmt.Sprintf("%s, by %s since %s", t, c.Signer, c.Time.Format(time.RFC3339)))
			}
		}
		one.Closed = slices.Compact(one.Closed)
		r.Paths = append(r.Paths, one)
	}
	slices.Sort(units)
	slices.Sort(policies)
	r.Grounds, err = d.Grounds(set, hex.EncodeToString(set.LockHash[:]), slices.Compact(units), slices.Compact(policies))
	return r, err
}

func (r *opened) print(out io.Writer) error {
	t := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "WORKLOAD\tCREDENTIAL\tTHROUGH\tMODEL\tAT\tPOLICY\tWHEN")
	for _, p := range r.Paths {
		model := p.Model
		if model == "" {
			model = "any"
		}
		for i, rule := range p.Rules {
			when := rule.When
			if rule.Effect == "forbid" {
				when = "not " + when
			}
			if i == 0 {
				terminal.Printf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", p.Workload, p.Credential, p.Gateway, model, p.Destination, rule.ID, when)
			} else {
				terminal.Printf(t, "\t\t\t\t\t%s\t%s\n", rule.ID, when)
			}
		}
		for _, c := range p.Closed {
			terminal.Printf(t, "\t\t\t\t\tCLOSED\t%s\n", c)
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(out)
	return printGrounds(out, r.Grounds)
}

// printGrounds says which versions were bound, and who signed them.
func printGrounds(out io.Writer, g *estate.Grounds) error {
	t := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "STATEMENT\tVERSION\tCREATED\tAUTHOR\tSIGNED BY")
	for _, s := range append([]estate.Signed{g.Lock}, g.Statements...) {
		terminal.Printf(t, "%s\t%d\t%s\t%s\t%s\n", s.Statement, s.Version.Version, s.Created.Format(time.RFC3339), s.Author, strings.Join(people(&s), ", "))
	}
	return t.Flush()
}

// people are who signed, each once.
func people(s *estate.Signed) (names []string) {
	for _, a := range s.Approvals {
		if !slices.Contains(names, a.Person) {
			names = append(names, a.Person)
		}
	}
	return names
}
