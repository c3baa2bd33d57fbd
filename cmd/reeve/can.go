package main

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/audit/register"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/reach"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/table"
	"github.com/reevehq/reeve/internal/terminal"
)

func newCanCmd() *cobra.Command {
	var credential string
	var q reachFlags
	cmd := &cobra.Command{
		Use:   "can WORKLOAD",
		Short: "What a workload may use, under which policies, signed by whom",
		Long: "Every way that the set in force opens to a workload, found by partial evaluation of the policies: nothing is tried. WHEN is what\n" +
			"is left of their conditions and decides with each request. What a signed revocation closes is said. Exit status 1 when\n" +
			"nothing is open.",
		Example: "  reeve can research-agent\n  reeve can research-agent --credential research-openai --json\n  reeve can research-agent --as-of 2026-11-01T00:00:00Z",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return q.printReach(cmd, func(set *statement.Set) (string, string, error) {
				return args[0], credential, cmp.Or(named(set, "workload", args[0]), named(set, "credential", credential))
			})
		},
	}
	cmd.Flags().StringVar(&credential, "credential", "", "of this credential only")
	q.add(cmd)
	return cmd
}

func newWhoCanCmd() *cobra.Command {
	var q reachFlags
	cmd := &cobra.Command{
		Use:   "who-can CREDENTIAL",
		Short: "Which workloads may use a credential, signed for by whom; who can read it",
		Long: "Every way that the set in force opens to a credential, found by partial evaluation of the policies: nothing is tried. WHEN is\n" +
			"what is left of their conditions and decides with each request. What a signed revocation closes is said. Then, who can read the\n" +
			"secret, or comes by it, without asking policy: what holds it, who operates that, who hands it over, to whom it can be\n" +
			"recovered, now or as a deputy. Root on their hosts, and the provider, can too. Exit status 1 when nothing is open.",
		Example: "  reeve who-can research-openai\n  reeve who-can research-openai --json\n  reeve who-can research-openai --as-of 720h",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return q.printReach(cmd, func(set *statement.Set) (string, string, error) {
				return "", args[0], named(set, "credential", args[0])
			})
		},
	}
	q.add(cmd)
	return cmd
}

// reachFlags are the flags of questions about what a set opens.
type reachFlags struct {
	inForce
	json bool
}

func (q *reachFlags) add(cmd *cobra.Command) {
	q.inForce.add(cmd)
	cmd.Flags().BoolVar(&q.json, "json", false, "print JSON")
}

// opened is what the set in force opens, who reads it besides, and what that rests on.
type opened struct {
	AsOf    time.Time       `json:"as_of"`
	Paths   []openPath      `json:"paths"`
	Hands   []register.Hand `json:"hands,omitempty"` // of one credential: who can read it
	Grounds *estate.Grounds `json:"grounds"`
}

type openPath struct {
	reach.Path
	Closed []string `json:"closed"` // signed revocations in the store that close it all the same
}

// printReach answers for the workload and the credential that ask returns; an empty one stands for all.
func (q *reachFlags) printReach(cmd *cobra.Command, ask func(*statement.Set) (workload, credential string, err error)) error {
	f, err := q.open(cmd)
	if err != nil {
		return err
	}
	workload, credential, err := ask(f.set)
	if err != nil {
		return failed(err)
	}
	r, err := findReach(f, workload, credential)
	if err == nil && workload == "" {
		r.Hands, err = f.hands(credential)
	}
	if err != nil {
		return failed(err)
	}
	if q.json {
		err = printJSON(cmd, r)
	} else {
		err = r.print(cmd.OutOrStdout())
	}
	if err == nil && len(r.Paths) == 0 {
		err = errors.New("nothing is open: no policy permits a use whose credential, gateway and owners the statements agree on. 'reeve doctor' says what a call lacks")
	}
	return failed(err)
}

func findReach(f *force, workload, credential string) (*opened, error) {
	set := f.set
	paths, err := reach.Paths(set, f.at, workload, credential)
	if err != nil {
		return nil, err
	}
	closed, err := f.closed()
	if err != nil {
		return nil, err
	}
	r := &opened{AsOf: f.at.UTC(), Paths: []openPath{}}
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
	r.Grounds, err = estateDir(f.dir).Grounds(set, hex.EncodeToString(set.LockHash[:]), slices.Compact(units), slices.Compact(policies))
	return r, err
}

func (r *opened) print(out io.Writer) error {
	if len(r.Paths) > 0 {
		if err := r.printPaths(out); err != nil {
			return err
		}
	}
	if len(r.Hands) > 0 {
		if err := printHands(out, r.Hands); err != nil {
			return err
		}
	}
	if len(r.Paths) == 0 {
		return nil
	}
	return printGrounds(out, r.Grounds)
}

// printHands says who reads the secret, whatever policy says.
func printHands(out io.Writer, hands []register.Hand) error {
	t := table.New(out)
	fmt.Fprintln(t, "CAN READ IT\tWHEN\tBECAUSE")
	for _, h := range hands {
		when := "now"
		if h.Latent {
			when = "as a deputy"
		}
		terminal.Printf(t, "%s\t%s\t%s\n", h.Who, when, strings.Join(h.Why, "; "))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(out)
	return err
}

func (r *opened) printPaths(out io.Writer) error {
	t := table.New(out)
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
	_, err := fmt.Fprintln(out)
	return err
}

// printGrounds says which versions were bound, and who signed them.
func printGrounds(out io.Writer, g *estate.Grounds) error {
	t := table.New(out)
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
