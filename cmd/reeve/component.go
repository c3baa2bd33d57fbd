package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/audit/history"
	"github.com/reevehq/reeve/internal/audit/register"
	"github.com/reevehq/reeve/internal/evidence"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/statement"
)

func newComponentCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "component",
		Short: "The register of everything that touches credentials: what it can do, and whose it is",
		Long: "This estate's gateways, custodians, authorities and auditors are in it by the signed statements; gateways of other teams and vendors, agent hosts\n" +
			"and secret stores by records that an operations owner or a root holder signs. Nothing is overwritten: it can be asked as of any time.",
	}
	cmd.AddCommand(newComponentAddCmd(), newComponentListCmd(), newComponentShowCmd(), newComponentRetireCmd())
	return cmd
}

// moment is the time that a question about the register is about.
type moment struct {
	window
	at string
}

func (m *moment) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&m.at, "at", "", "the time that the answer is about (default: that of --as-of): RFC 3339, or a duration back from now")
	m.addAsOf(cmd)
}

// lacking ends an answer from a register that is known to lack records: status 3, after the answer.
func lacking(v *register.View, err error) error {
	if err == nil && v.Lacks != "" {
		err = &exitError{exitUndecided, errors.New(v.Lacks)}
	}
	return err
}

// look opens the books and reads the register.
func (m *moment) look(cmd *cobra.Command) (*register.View, error) {
	var recorded time.Time
	now := time.Now()
	valid := now
	var err error
	if cmd.Flags().Changed("as-of") {
		if recorded, err = instant(m.asOf, now); err != nil {
			return nil, &exitError{exitUsage, fmt.Errorf("--as-of: %w", err)}
		}
		valid = recorded
	}
	if m.at != "" {
		if valid, err = instant(m.at, now); err != nil {
			return nil, &exitError{exitUsage, fmt.Errorf("--at: %w", err)}
		}
	}
	_, b, err := openBooks(cmd)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	v, err := register.Look(b.History, b.Register, valid.UTC(), recorded)
	if errors.Is(err, history.ErrBefore) {
		return nil, &exitError{exitUndecided, err}
	}
	return v, failed(err)
}

func newComponentListCmd() *cobra.Command {
	var m moment
	var plane, orphans, asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List all components: flags, control plane, owners, verdicts, orphans",
		Long: "FLAGS are what a component has to be taken to be able to do: declared, and where it says so discovered by a probe or observed. Whatever can forward,\n" +
			"cache, retrieve or mint has had keys: it is in the identity control plane. A vendor's gateway without a live verdict counts as able to do everything.",
		Example: "  reeve component list\n  reeve component list --control-plane --as-of 2026-11-01T00:00:00Z\n  reeve component list --orphans --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v, err := m.look(cmd)
			if err != nil {
				return err
			}
			v.Components = slices.DeleteFunc(v.Components, func(c register.Judged) bool {
				return plane && !c.ControlPlane || orphans && len(c.Orphans) == 0
			})
			if asJSON {
				return lacking(v, printJSON(cmd, v))
			}
			return lacking(v, printComponents(cmd.OutOrStdout(), v))
		},
	}
	m.add(cmd)
	cmd.Flags().BoolVar(&plane, "control-plane", false, "only those that have had keys")
	cmd.Flags().BoolVar(&orphans, "orphans", false, "only those that somebody has to be found for")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printComponents(out io.Writer, v *register.View) error {
	t := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "COMPONENT\tKIND\tUNITS\tFLAGS\tCONTROL PLANE\tOPERATIONS\tPOLICY\tLIFECYCLE\tVERDICT\tRECORDED")
	for _, c := range v.Components {
		plane := "no"
		if c.ControlPlane {
			plane = "yes"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", c.ID, c.Kind, unitsShown(&c), flagsShown(&c), plane, ownerShown(c.Owners.Operations, c.Named.Operations),
			ofUnits(&c, func(o register.Owners) string { return o.Policy }), ofUnits(&c, func(o register.Owners) string { return o.Lifecycle }), verdictShown(&c, v.At), recorded(&c))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, c := range v.Components {
		for _, f := range c.Undeclared {
			fmt.Fprintf(out, "finding: %s can %s, and nobody declared it: declare it, or stop it\n", c.ID, f)
		}
		for _, d := range c.Orphans {
			fmt.Fprintf(out, "orphan: %s\n", orphanShown(&d))
		}
	}
	return nil
}

func orphanShown(d *register.Duty) string {
	of := ""
	if d.Of != "" {
		of = " of " + d.Of
	}
	return fmt.Sprintf("%s of %s%s: %s (%s)", d.Task, d.Component, of, d.Why, strings.Join(d.Escalated, ", "))
}

func unitsShown(c *register.Judged) string {
	if len(c.Units) == 0 {
		return "all"
	}
	if len(c.Units) > 3 {
		return fmt.Sprintf("%s and %d more", strings.Join(c.Units[:2], ", "), len(c.Units)-2)
	}
	return strings.Join(c.Units, ", ")
}

// flagsShown says how each flag is known.
func flagsShown(c *register.Judged) string {
	if c.Unprobed {
		return "all: not probed"
	}
	var list []string
	for _, f := range c.Effective {
		how := ""
		switch {
		case slices.Contains(c.Declared, f):
		case slices.Contains(c.Observed, f):
			how = " (observed)"
		default:
			how = " (discovered)"
		}
		list = append(list, string(f)+how)
	}
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ", ")
}

func ownerShown(is, named string) string {
	switch {
	case is == "":
		return "ORPHAN"
	case is != named:
		return is + " for " + named
	}
	return is
}

// ofUnits is the owner, or of a custodian those of its units.
func ofUnits(c *register.Judged, of func(register.Owners) string) string {
	if c.UnitOwners == nil {
		return ownerShown(of(c.Owners), of(c.Named))
	}
	var all []string
	for _, u := range c.Units {
		all = append(all, ownerShown(of(c.UnitOwners[u]), of(c.UnitOwners[u])))
	}
	slices.Sort(all)
	if all = slices.Compact(all); len(all) > 3 {
		return fmt.Sprintf("%d people, by unit", len(all))
	}
	return strings.Join(all, ", ")
}

func verdictShown(c *register.Judged, at time.Time) string {
	switch {
	case c.Probed.IsZero() && c.Kind == register.Vendor:
		return "none"
	case c.Probed.IsZero():
		return ""
	case !c.Probing(at):
		return "over since " + c.Probed.Format(time.DateOnly)
	}
	return "until " + c.Probed.Format(time.DateOnly)
}

func recorded(c *register.Judged) string {
	s := c.Recorded.Format(time.RFC3339)
	if !c.Anchored {
		s += ", not anchored yet"
	}
	return s
}

func newComponentShowCmd() *cobra.Command {
	var m moment
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "show ID",
		Short:   "What one component can do and how that is known, its verdict, and who answers for what of it",
		Example: "  reeve component show acme-ai\n  reeve component show g1 --as-of 720h --json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			v, err := m.look(cmd)
			if err != nil {
				return err
			}
			c, duties, ok := v.Component(args[0])
			if !ok {
				return failed(noComponent(args[0], v))
			}
			if asJSON {
				return lacking(v, printJSON(cmd, struct {
					register.Judged
					Duties []register.Duty `json:"duties"`
				}{c, duties}))
			}
			return lacking(v, printComponent(cmd.OutOrStdout(), v, &c, duties))
		},
	}
	m.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func noComponent(id string, v *register.View) error {
	return fmt.Errorf("the register had no component %q at %s: see reeve component list", id, v.At.Format(time.RFC3339))
}

func printComponent(out io.Writer, v *register.View, c *register.Judged, duties []register.Duty) error {
	name := c.ID
	if c.Name != "" {
		name += " (" + c.Name + ")"
	}
	fmt.Fprintf(out, "%s is a %s for units: %s. So from %s; recorded %s, by %s.\n\n", name, c.Kind, unitsShown(c), c.Valid.Format(time.RFC3339), recorded(c), by(c))
	for _, f := range register.Flags {
		fmt.Fprintf(out, "%-10s %s\n", f, canShown(c, f, v.At))
	}
	plane := "It is not in the identity control plane: it can cause uses at most."
	if c.ControlPlane {
		plane = "It is in the identity control plane: keys have to be taken to have been in it."
	}
	fmt.Fprintf(out, "\n%s\n", plane)
	if len(c.Credentials) > 0 {
		fmt.Fprintf(out, "It is known to reach, beside what the statements say: %s\n", strings.Join(c.Credentials, ", "))
	}
	if c.Verdict != nil {
		fmt.Fprintf(out, "\nProbed at %s from %s to %s; the verdict holds until %s.\n", c.Verdict.URL, c.Verdict.Begun.Format(time.RFC3339), c.Verdict.Ended.Format(time.RFC3339), c.Probed.Format(time.RFC3339))
		for _, s := range c.Verdict.Cannot {
			fmt.Fprintf(out, "- cannot be told: %s\n", s)
		}
	}
	fmt.Fprintln(out)
	return printDuties(out, duties)
}

func by(c *register.Judged) string {
	if c.Kind.Own() && len(c.Signers) == 0 {
		return "the signed statements"
	}
	return strings.Join(c.Signers, ", ")
}

// canShown says whether and how it is known that a component can do something.
func canShown(c *register.Judged, f register.Flag, at time.Time) string {
	var how []string
	if slices.Contains(c.Declared, f) {
		how = append(how, "declared")
	}
	if slices.Contains(c.Discovered, f) {
		why := "discovered"
		if c.Verdict != nil {
			for _, found := range c.Verdict.Found {
				if found.Flag == f {
					why += ": " + found.Why
				}
			}
		}
		how = append(how, why)
	}
	if slices.Contains(c.Observed, f) {
		how = append(how, "observed")
	}
	switch {
	case len(how) > 0:
		return "yes, " + strings.Join(how, "; ")
	case c.Unprobed:
		return "has to be assumed: no verdict of a probe holds (reeve probe " + c.ID + ")"
	case c.Probing(at):
		return "not seen by the probe"
	}
	return "no"
}

func newComponentAddCmd() *cobra.Command {
	var s signing
	var kind, valid string
	var authorities []string
	var said register.Said
	var declared, observed []string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "add ID",
		Short: "Sign what is known of a component from some time on",
		Long: "Add a signed record to the register and have it entered in the authority's ledger, so that nobody can say later that it was known sooner or was not.\n" +
			"An operations owner or a root holder signs. Of a component that is in the register, what no flag names stays as it is. Of this estate's own\n" +
			"processes only --observed can be said: the rest is the signed statements'. Owners are people of the charter; a role that nobody is named for is orphaned.\n\n" + withKeys,
		Example: "  reeve component add acme-ai --kind vendor-gateway --name 'Acme AI' --unit research --flags transport \\\n" +
			"      --policy ada --operations bea --lifecycle cora --contract bea --as bea\n" +
			"  reeve component add g1 --observed forward --as bea",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := openAddition(cmd, &s)
			if err != nil {
				return err
			}
			said.ID, said.Kind, said.Declared, said.Observed = args[0], register.Kind(kind), flagsOf(declared), flagsOf(observed)
			next, err := a.merge(cmd, said)
			if err != nil {
				return failed(err)
			}
			if valid != "" {
				if next.Valid, err = instant(valid, a.now); err != nil {
					return &exitError{exitUsage, fmt.Errorf("--valid: %w", err)}
				}
			}
			return a.write(cmd, next, authorities, asJSON)
		},
	}
	s.flags(cmd)
	cmd.Flags().StringVar(&kind, "kind", "", "foreign-gateway, vendor-gateway, agent-host or secret-store")
	cmd.Flags().StringVar(&said.Name, "name", "", "its name, for people")
	cmd.Flags().StringSliceVar(&said.Units, "unit", nil, "business units that it serves (default all)")
	cmd.Flags().StringSliceVar(&declared, "flags", nil, "what its owners say that it can do: transport, invoke, forward, cache, retrieve, mint")
	cmd.Flags().StringSliceVar(&observed, "observed", nil, "what was seen of it in ledgers, configurations or incidents")
	cmd.Flags().StringSliceVar(&said.Credentials, "credential", nil, "credentials that it is known to reach")
	cmd.Flags().StringVar(&said.Owners.Policy, "policy", "", "`person` who answers for the audit")
	cmd.Flags().StringVar(&said.Owners.Operations, "operations", "", "`person` who answers for containment")
	cmd.Flags().StringVar(&said.Owners.Lifecycle, "lifecycle", "", "`person` who answers for revocation")
	cmd.Flags().StringVar(&said.Owners.Contract, "contract", "", "`person` who answers for a vendor's contract, and for its being probed")
	cmd.Flags().StringVar(&valid, "valid", "", "from when it is so (default now): RFC 3339, or a duration back from now")
	cmd.Flags().StringSliceVar(&authorities, "authority", nil, "`URL` of an authority, in place of this directory's")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func flagsOf(words []string) (list []register.Flag) {
	for _, w := range words {
		list = append(list, register.Flag(w))
	}
	return list
}

func newComponentRetireCmd() *cobra.Command {
	var s signing
	var valid string
	var authorities []string
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "retire ID",
		Short:   "Sign that a component is gone; the register keeps what was",
		Example: "  reeve component retire acme-ai --as bea",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := openAddition(cmd, &s)
			if err != nil {
				return err
			}
			last := a.journal.Last(args[0])
			if last == nil || last.Said.Kind.Own() {
				return failed(fmt.Errorf("no record of the register says that there is a %q; a component of this estate goes when the statements do not name it any more", args[0]))
			}
			next := last.Said
			next.Valid = a.now
			if valid != "" {
				if next.Valid, err = instant(valid, a.now); err != nil {
					return &exitError{exitUsage, fmt.Errorf("--valid: %w", err)}
				}
			}
			next.Valid = next.Valid.UTC().Truncate(time.Second)
			next.Until = next.Valid
			return a.write(cmd, next, authorities, asJSON)
		},
	}
	s.flags(cmd)
	cmd.Flags().StringVar(&valid, "valid", "", "from when it is gone (default now): RFC 3339, or a duration back from now")
	cmd.Flags().StringSliceVar(&authorities, "authority", nil, "`URL` of an authority, in place of this directory's")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// addition is a record that is being added to the register.
type addition struct {
	signing *signing
	d       *host.Dir
	set     *statement.Set
	history *history.History
	journal *register.Journal
	now     time.Time
}

func openAddition(cmd *cobra.Command, s *signing) (a *addition, err error) {
	a = &addition{signing: s, now: time.Now().UTC().Truncate(time.Second)}
	if a.d, a.set, err = openSet(cmd); err != nil {
		return nil, err
	}
	store := estateDir(a.d).Store()
	if a.history, err = history.Open(store, a.d.Pin(), time.Now()); err != nil {
		return nil, failed(err)
	}
	a.journal, err = register.Open(store, a.history, time.Now())
	return a, failed(err)
}

// merge lays what the flags say over what was said before of the component.
func (a *addition) merge(cmd *cobra.Command, said register.Said) (register.Said, error) {
	next := register.Said{ID: said.ID, Kind: said.Kind}
	if last := a.journal.Last(said.ID); last != nil && last.Said.Until.IsZero() {
		next = last.Said
	}
	if next.Kind == "" {
		next.Kind = a.own(said.ID)
	}
	given := cmd.Flags().Changed
	for flag, set := range map[string]func(){
		"kind": func() { next.Kind = said.Kind }, "name": func() { next.Name = said.Name }, "unit": func() { next.Units = said.Units },
		"flags": func() { next.Declared = said.Declared }, "observed": func() { next.Observed = said.Observed }, "credential": func() { next.Credentials = said.Credentials },
		"policy": func() { next.Owners.Policy = said.Owners.Policy }, "operations": func() { next.Owners.Operations = said.Owners.Operations },
		"lifecycle": func() { next.Owners.Lifecycle = said.Owners.Lifecycle }, "contract": func() { next.Owners.Contract = said.Owners.Contract },
	} {
		if given(flag) {
			set()
		}
	}
	next.Valid = a.now
	if next.Kind == "" {
		return next, &exitError{exitUsage, fmt.Errorf("%s is not in the register yet: say what it is, with --kind", said.ID)}
	}
	return next, nil
}

// own is the kind of a component of this estate, or empty.
func (a *addition) own(id string) register.Kind {
	all, err := register.New(a.history, nil).At(a.now, time.Time{})
	if err != nil {
		return ""
	}
	for _, c := range all {
		if c.ID == id {
			return c.Kind
		}
	}
	return ""
}

// addedRecord is a record that was added, as JSON.
type addedRecord struct {
	Record   string             `json:"record"`
	Evidence *evidence.Anchored `json:"evidence"`
	Said     register.Said      `json:"component"`
}

// write signs the record, adds it and has it entered in the ledger.
func (a *addition) write(cmd *cobra.Command, said register.Said, authorities []string, asJSON bool) error {
	signer, err := a.signing.open(a.d)
	if err != nil {
		return failed(err)
	}
	said.Valid = said.Valid.UTC().Truncate(time.Second)
	record, file, err := register.Append(estateDir(a.d), a.history, said, time.Now(), signer)
	if err != nil {
		return failed(err)
	}
	e, err := evidence.Anchor(cmd.Context(), anchorage(a.d, authorities), a.set, evidence.Component, said.ID, file, signer)
	if err != nil {
		return failed(err)
	}
	if asJSON {
		return printJSON(cmd, addedRecord{record, e, said})
	}
	fmt.Fprintf(cmd.OutOrStdout(), "record %d of the register, %.16s, says it of %s from %s on\n", a.journal.Len()+1, record, said.ID, said.Valid.Format(time.RFC3339))
	printAnchored(cmd.OutOrStdout(), e)
	return nil
}

// anchorage is where evidence goes: this directory's store, and its authority or those that are named.
func anchorage(d *host.Dir, authorities []string) evidence.Place {
	if authorities == nil {
		authorities = []string{"http://" + host.Local(d.Run.Ports.Authority)}
	}
	return evidence.Place{Dir: estateDir(d), Authorities: authorities}
}

func printAnchored(out io.Writer, e *evidence.Anchored) {
	if e.Waits != "" {
		fmt.Fprintf(out, "not anchored yet: %s; reeve audit anchor sends it again\n", e.Waits)
		return
	}
	fmt.Fprintf(out, "anchored: the authority entered evidence %.16s of it in its ledger\n", e.Record)
}
