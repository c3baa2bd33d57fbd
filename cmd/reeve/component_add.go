package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/audit/control"
	"github.com/reevehq/reeve/internal/audit/history"
	"github.com/reevehq/reeve/internal/audit/register"
	"github.com/reevehq/reeve/internal/evidence"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/terminal"
)

func newComponentAddCmd() *cobra.Command {
	var s signing
	var kind, valid, where string
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
			"  reeve component add old-proxy --kind foreign-gateway --discovered 'every host of the cluster' --as bea\n" +
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
			if err := a.write(cmd, next, authorities, asJSON); err != nil || where == "" {
				return err
			}
			return a.found(cmd, next, where, authorities)
		},
	}
	s.flags(cmd)
	cmd.Flags().StringVar(&where, "discovered", "", "`WHERE` a search found it, such as 'every host of the cluster': signed for as what that search found (RV-18, RV-19)")
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
	terminal.Printf(cmd.OutOrStdout(), "record %d of the register, %.16s, says it of %s from %s on\n", a.journal.Len()+1, record, said.ID, said.Valid.Format(time.RFC3339))
	printAnchored(cmd.OutOrStdout(), e)
	return nil
}

// found signs for a search that found the component, and nothing else that the register does not have.
func (a *addition) found(cmd *cobra.Command, said register.Said, where string, authorities []string) error {
	at := time.Now().UTC()
	e := &control.Evidence{Discoveries: []control.Discovery{{Where: where, Time: at.Truncate(time.Second), Found: []control.Found{{Component: said.ID, What: "a " + string(said.Kind), Place: where}}}}}
	name := "discovery-" + said.ID + "-" + at.Format("20060102T150405.000Z")
	b, err := e.Write(a.d.Path, name)
	if err != nil {
		return failed(err)
	}
	signer, err := a.signing.open(a.d)
	if err != nil {
		return failed(err)
	}
	kept, err := evidence.Anchor(cmd.Context(), anchorage(a.d, authorities), a.set, "document", name, b, signer)
	if err != nil {
		return failed(err)
	}
	out := cmd.ErrOrStderr()
	terminal.Printf(out, "%s signed for a search of %s that found it. ", a.signing.as, where)
	printAnchored(out, kept)
	return nil
}
