package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/audit/books"
	"github.com/reevehq/reeve/internal/audit/contain"
	"github.com/reevehq/reeve/internal/audit/incident"
	"github.com/reevehq/reeve/internal/dispatch"
	"github.com/reevehq/reeve/internal/estate"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/table"
	"github.com/reevehq/reeve/internal/terminal"
)

// containment are the flags and parts of one.
type containment struct {
	s        signing
	v        delivery
	with     []string
	reason   string
	planOnly bool
	end      bool
	prove    time.Duration
	incident string
}

func newContainCmd() *cobra.Command {
	var c containment
	cmd := &cobra.Command{
		Use:   "contain workload|route|credential|unit|gateway|custodian|service|all [ID]",
		Short: "Stop what is captured: show what dies by it and who must sign, then do it and prove it",
		Long: "Show the plan: which signed records close the target, whose signatures each takes, which credentials can be used no more, who used them.\n" +
			"Then sign, send by every channel, and print from the custodians' own ledgers, in this order: they deny; leases and providers are\n" +
			"revoked; a harmless probe is refused twice. Last come what is proven dead and by which entry, what is not and why, for how many\n" +
			"credential-seconds something may still have worked at a provider, and the time to contain.\n\n" +
			"A route is a provider of the operations statement, or an alias; a service is an origin or host that credentials go to. Containing a\n" +
			"gateway also closes the workload keys that it has seen. A gateway, workload or route holds no secret: secrets stay unless --end is\n" +
			"given. A credential, unit, custodian, service, or all, ends them unless --end=false. Of a captured custodian the plan lists the keys and\n" +
			"logins besides that people have to rotate; what it says of itself proves nothing, so it is not contained before it is stopped and gone from\n" +
			"the statements (exit status 3).\n\n" +
			"An owner alone closes what is his. What takes somebody else's signature is closed as far as it can be and listed with what the other\n" +
			"one types. The same command again goes on where it was interrupted; what is done is not done twice. Which keys a gateway has seen the plan\n" +
			"knows up to what the auditor has verified, some seconds ago: give it once more after a minute, for the keys of the last uses.\n" +
			"Exit status 0: contained, and everything that was to end is proven dead; 3: not known of all.",
		Example: "  reeve contain gateway g1 --plan\n  reeve contain gateway g1 --as bea --with ada --reason 'malicious dependency'\n" +
			"  reeve contain unit research --as ada --with cora --reason incident --json\n  reeve contain service api.openai.com --as cora --reason 'provider breach'",
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(c.with) == 0 && c.incident != "" && !c.planOnly {
				return &exitError{exitUsage, errors.New("--incident: a step of an incident takes two people of two roles: name the second with --with")}
			}
			scope, err := contain.ParseScope(args...)
			if err != nil {
				return &exitError{exitUsage, err}
			}
			if !c.planOnly && (strings.TrimSpace(c.reason) == "" || c.s.as == "") {
				return &exitError{exitUsage, fmt.Errorf("say why with --reason and who signs with --as; --plan only shows what would be done")}
			}
			return c.run(cmd, scope)
		},
	}
	c.s.optional(cmd)
	c.v.flags(cmd)
	cmd.Flags().StringSliceVar(&c.with, "with", nil, "more `people` who sign on this machine too, each with DIR/people/PERSON.key")
	cmd.Flags().StringVar(&c.reason, "reason", "", "why, for the ledger and for whoever is refused")
	cmd.Flags().BoolVar(&c.planOnly, "plan", false, "only show what would be done")
	cmd.Flags().BoolVar(&c.end, "end", false, "end the secrets at their source, or with --end=false leave them (default: by the target)")
	cmd.Flags().StringVar(&c.incident, "incident", "", "record it as a step of this incident, by its `id`, and how it is contained by now as evidence")
	cmd.Flags().DurationVar(&c.prove, "prove", 3*time.Minute, "how long to wait for the proofs, once the custodians deny")
	return cmd
}

func (c *containment) run(cmd *cobra.Command, scope contain.Scope) error {
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	d, set, err := openSet(cmd)
	if err != nil {
		return err
	}
	for _, person := range append([]string{c.s.as}, c.with...) {
		if err := named(set, "person", person); err != nil {
			return err
		}
	}
	_, b, err := openBooks(cmd)
	if err != nil {
		return err
	}
	defer b.Close()
	plan, err := c.plan(ctx, cmd, d, set, b, scope)
	if err != nil {
		return failed(err)
	}
	if c.planOnly {
		if c.v.asJSON {
			return printJSON(cmd, plan)
		}
		return printPlan(cmd.OutOrStdout(), plan)
	}
	if !c.v.asJSON {
		if err := printPlan(cmd.OutOrStdout(), plan); err != nil {
			return err
		}
	}
	signers, err := c.signers(d)
	if err != nil {
		return failed(err)
	}
	o, err := plan.Act(ctx, &contain.Means{Set: set, Estate: estateDir(d), Signers: signers, Index: b.Index, Prove: c.prove, Now: time.Now, Say: teller(cmd.ErrOrStderr()),
		Dispatch: func() (*dispatch.Dispatch, error) { return c.v.prepare(d, set) }})
	if err != nil {
		return failed(err)
	}
	if c.v.asJSON {
		err = printJSON(cmd, o)
	} else {
		err = printOutcome(cmd.OutOrStdout(), o)
	}
	if err == nil && c.incident != "" {
		err = c.record(cmd, o)
	}
	if err != nil || o.Done() {
		return err
	}
	return &exitError{exitUndecided, undone(o)}
}

// record has those who contained it sign a step of the incident for it. What it says goes beside the outcome.
func (c *containment) record(cmd *cobra.Command, o *contain.Outcome) error {
	out := cmd.OutOrStdout()
	cmd.SetOut(cmd.ErrOrStderr())
	defer cmd.SetOut(out)
	s := stepping{s: c.s, with: c.with[0], text: fmt.Sprintf("contained %s: %s", o.Scope, c.reason)}
	return s.record(cmd, incident.Step{Incident: c.incident, Kind: incident.KindNote, Contains: []contain.Scope{o.Scope}})
}

// plan makes the plan from what is signed and what the ledgers say.
func (c *containment) plan(ctx context.Context, cmd *cobra.Command, d *host.Dir, set *statement.Set, b *books.Books, scope contain.Scope) (*contain.Plan, error) {
	basis := &contain.Basis{Set: set, Index: b.Index, Now: time.Now()}
	var err error
	if basis.Records, err = estate.ReadRecords(estateDir(d).Store(), "revocation"); err != nil {
		return nil, err
	}
	if basis.Keys, err = estateDir(d).Keys(set, basis.Now); err != nil {
		return nil, err
	}
	var end *bool
	if cmd.Flags().Changed("end") {
		end = &c.end
	}
	return contain.New(ctx, basis, scope, end, c.reason)
}

// signers are those who sign on this machine.
func (c *containment) signers(d *host.Dir) ([]*estate.Signer, error) {
	first, err := c.s.open(d)
	all := []*estate.Signer{first}
	for _, person := range c.with {
		if err == nil {
			var s *estate.Signer
			s, err = (&signing{as: person, passphrase: c.s.passphrase}).open(d)
			all = append(all, s)
		}
	}
	return all, err
}

// teller prints progress, a line at a time.
func teller(w io.Writer) func(string, ...any) {
	var mu sync.Mutex
	return func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		terminal.Printf(w, "%s  %s\n", time.Now().UTC().Format("15:04:05"), fmt.Sprintf(format, args...))
	}
}

// undone says what is left.
func undone(o *contain.Outcome) error {
	switch {
	case len(o.Waiting) > 0:
		return fmt.Errorf("%s is not contained as planned: %d records wait for somebody else's signature", o.Scope, len(o.Waiting))
	case !o.Contained:
		return fmt.Errorf("not every custodian is known to deny %s", o.Scope)
	}
	return fmt.Errorf("%s is contained; %d secrets are not proven dead", o.Scope, len(o.Unproven))
}

func printPlan(w io.Writer, p *contain.Plan) error {
	t := table.New(w)
	terminal.Printf(t, "Containing %s.\n\nCLOSES\tENDS SECRETS\tTAKES\tBECAUSE\n", p.Scope)
	for _, s := range p.Steps {
		name, needs := s.Target.String(), s.Needs()
		if s.Name != "" {
			name = s.Target.Kind + " " + s.Name
		}
		if s.Record != "" {
			needs = "nothing: closed by " + strings.Join(s.By, " and ") + " at " + s.Signed.Format(time.RFC3339)
		}
		for _, x := range s.Opened {
			needs += fmt.Sprintf("; it was closed, and %s opened it at %s at %s", x.By, x.Custodian, x.At.Format(time.RFC3339))
		}
		terminal.Printf(t, "%s\t%s\t%s\t%s\n", name, yes(s.End), needs, s.Why)
	}
	fmt.Fprint(t, "\nCREDENTIAL\tUNIT\tOWNER\tENDS\tPROOF\tSECRETS NOW\n")
	for _, c := range p.Credentials {
		proof := "a probe"
		if !c.Probe {
			proof = "none: its record names no probe"
		}
		terminal.Printf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", c.ID, c.Unit, c.Owner, yes(c.Ends), proof, versions(c.Versions))
	}
	fmt.Fprint(t, "\nWHO LOSES WHAT\tUNIT\tUSED IN 30 DAYS\tUSES\tLAST\n")
	for _, b := range p.Breaks {
		terminal.Printf(t, "%s\t%s\t%s\t%d\t%s\n", b.Workload, b.Unit, strings.Join(b.Credentials, ", "), b.Uses, b.Last.Format(time.RFC3339))
	}
	if len(p.Breaks) == 0 {
		fmt.Fprintln(t, "nobody used any of it")
	}
	if len(p.Models) > 0 {
		terminal.Printf(t, "\nModels that go with it: %s.\n", strings.Join(p.Models, ", "))
	}
	if len(p.Keys) > 0 {
		fmt.Fprintln(t, "\nWhat more can be had with, which no record ends:")
	}
	if err := t.Flush(); err != nil {
		return err
	}
	return printKeys(w, p.Keys)
}

func yes(b bool) string { return map[bool]string{true: "yes", false: "no"}[b] }

func versions(list []contain.Version) string {
	var all []string
	for _, v := range list {
		one := v.Lease + " at " + v.Custodian
		if !v.Expires.IsZero() {
			one += " until " + v.Expires.Format(time.RFC3339)
		}
		all = append(all, one)
	}
	if len(all) == 0 {
		return "none held"
	}
	return strings.Join(slices.Compact(all), ", ")
}

func printOutcome(w io.Writer, o *contain.Outcome) error {
	t := table.New(w)
	fmt.Fprint(t, "\nCLOSED\tBY CUSTODIAN\tSINCE\tHEARD BY\tPROOF\n")
	for _, c := range o.Closed {
		terminal.Printf(t, "%s\t%s\t%s\t%s\tentry %d of log %s, %s\n", cut(c.Target), c.Custodian, c.At.Format("15:04:05.000Z"), c.Channel, c.Entry.Seq, c.Entry.Log, c.Level)
	}
	deaths(t, "PROVEN DEAD", o.Dead)
	deaths(t, "NOT PROVEN", o.Unproven)
	if len(o.Waiting) > 0 {
		fmt.Fprint(t, "\nWAITS FOR\tIS CLOSED MEANWHILE\tTAKES\tTYPE\n")
		for _, x := range o.Waiting {
			terminal.Printf(t, "%s\t%s\t%s\t%s\n", cut(x.Target), yes(x.Denied), x.Needs, x.Command)
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, warning := range o.Warnings {
		terminal.Printf(w, "warning: %v\n", warning)
	}
	residual := fmt.Sprintf("%.1f credential-seconds", o.Residual.Seconds)
	if o.Residual.NoEnd > 0 {
		residual += fmt.Sprintf(", and %d without an end: end them at their provider by hand", o.Residual.NoEnd)
	}
	if o.Residual.Keys > 0 {
		residual += fmt.Sprintf(", and %d keys and logins until they are rotated", o.Residual.Keys)
	}
	terminal.Printf(w, "\nContained: %s. Time to contain: %s. Time to proven dead: %s. Residual after the freeze: %s.\n", yes(o.Contained), seconds(o.Seconds), seconds(o.Provenly), residual)
	if o.Scope.Kind == contain.OfGateway {
		terminal.Printf(w, "The keys that it has seen are known up to what the auditor has verified: give the same command again in a minute, for those of its last uses.\n")
	}
	return nil
}

func deaths(w io.Writer, title string, list []contain.Death) {
	if len(list) == 0 {
		return
	}
	terminal.Printf(w, "\n%s\tUNIT\tCUSTODIAN\tSECRET\tFROZEN\tSTATE\tPROOF\tMAY HAVE WORKED UNTIL\tWHY\n", title)
	for _, d := range list {
		until := "no end"
		switch {
		case !d.Until.IsZero():
			until = d.Until.Format("15:04:05Z")
		case d.Lease == "":
			until = ""
		}
		terminal.Printf(w, "%s\t%s\t%s\t%s\t%s\t%s\tentry %d of log %s\t%s\t%s\n", d.Credential, d.Unit, d.Custodian, d.Lease, d.Frozen.Format("15:04:05.000Z"), d.State, d.Entry.Seq, d.Entry.Log, until, d.Why)
	}
}

// cut cuts a key's hash.
func cut(target string) string {
	if id, ok := strings.CutPrefix(target, "key "); ok && len(id) > 12 {
		return "key sha256:" + id[:12]
	}
	return target
}

func seconds(s float64) string {
	if s < 0 {
		return "not yet"
	}
	return fmt.Sprintf("%.3f s", s)
}
