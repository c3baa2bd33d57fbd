package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/reevehq/reeve/internal/admin"
	"github.com/reevehq/reeve/internal/custody"
	"github.com/reevehq/reeve/internal/dispatch"
	"github.com/reevehq/reeve/internal/host"
	"github.com/reevehq/reeve/internal/statement"
	"github.com/reevehq/reeve/internal/table"
	"github.com/reevehq/reeve/internal/terminal"
)

func newCredentialRevokeCmd() *cobra.Command {
	var s signing
	var v delivery
	var reason string
	var prove time.Duration
	cmd := &cobra.Command{
		Use:   "revoke NAME",
		Short: "Close a credential, end its secrets at their source, and prove that they are dead",
		Long: "Sign a revocation of the credential that asks for the end at the source too, send it by every channel, and print for each custodian,\n" +
			"from its own signed ledger: when it was frozen and nothing more was used; when its secrets had been ended at their source, or the\n" +
			"source was found to have no such call; whether the probe of the custody record then failed, twice and a minute apart; and until\n" +
			"when a secret may still have worked at the provider. What no probe can show, and has no end of its own, is unproven: end it at the\n" +
			"provider by hand. To use the credential again: reeve revoke credential NAME --open, by two owners, and a new secret.\n" +
			"Exit status 0: proven dead at every custodian; 3: frozen, and not proven, or not known of all.",
		Example: "  reeve credential revoke research-openai --reason 'seen in a public repository'\n  reeve credential revoke support-db --as cora --reason leaked --json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, set, err := openSet(cmd)
			if err != nil {
				return err
			}
			if err := named(set, "credential", args[0]); err != nil {
				return err
			}
			record, _, _ := set.Credential(args[0])
			if owner, live := set.Owner(args[0], time.Now()); live && s.as == "" {
				s.as = owner.ID
			}
			signer, err := s.open(d)
			if err != nil {
				return failed(err)
			}
			to, err := v.prepare(d, set)
			if err != nil {
				return failed(err)
			}
			to.Only(func(custodian string) bool { return set.Serves(custodian, args[0]) })
			empty := holdNone(cmd, d, args[0])
			target := statement.Target{Kind: "credential", ID: args[0]}
			env, err := estateDir(d).Revoke(set, statement.Revocation{Target: target, End: true, Reason: reason}, time.Now(), signer)
			if err != nil {
				return failed(err)
			}
			file, err := statement.Canonical(env)
			if err != nil {
				return failed(err)
			}
			e := &ending{Credential: args[0], Report: to.Run(cmd.Context(), env.ID(), file)}
			filled, err := custody.Read(*record)
			e.Probe = err == nil && filled.Probe.Method != ""
			e.wait(cmd, d, to, empty, prove)
			if v.asJSON {
				err = printJSON(cmd, e)
			} else {
				err = e.print(cmd.OutOrStdout(), set)
			}
			if err != nil {
				return failed(err)
			}
			return e.verdict()
		},
	}
	s.optional(cmd)
	v.flags(cmd)
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the ledger and for whoever is refused")
	cmd.Flags().DurationVar(&prove, "prove", 2*time.Minute, "how long to wait for the proof, once every custodian has frozen")
	_ = cmd.MarkFlagRequired("reason")
	return cmd
}

// ending is what became of a revocation at the source.
type ending struct {
	Credential string `json:"credential"`
	Probe      bool   `json:"probe"` // the record has one
	*dispatch.Report
	Ends  []*dispatch.End          `json:"ends"`
	Notes map[string]*admin.Ending `json:"notes,omitempty"` // what custodians of this host say, by id
}

// wait waits for the ends that custodians write of, and asks those of this host what is left.
func (e *ending) wait(cmd *cobra.Command, d *host.Dir, to *dispatch.Dispatch, empty []string, limit time.Duration) {
	ctx, cancel := context.WithTimeout(cmd.Context(), limit)
	defer cancel()
	e.Ends = to.Ends(ctx, e.Credential, func(end *dispatch.End) bool {
		return end.Proved() || !e.Probe && !end.Provider().IsZero() || len(end.Versions) == 0 && slices.Contains(empty, end.Custodian)
	})
	e.Notes = e.ask(cmd, d)
}

// holdNone are the custodians of this host that have no secret of the credential.
func holdNone(cmd *cobra.Command, d *host.Dir, credential string) (ids []string) {
	all, _ := statuses(cmd, d, nil)
	for _, s := range all {
		for _, a := range s.Credentials {
			if a.ID == credential && len(a.Versions) == 0 {
				ids = append(ids, s.ID)
			}
		}
	}
	return ids
}

// ask has what this host's custodians say of the record.
func (e *ending) ask(cmd *cobra.Command, d *host.Dir) map[string]*admin.Ending {
	all, _ := statuses(cmd, d, nil)
	notes := map[string]*admin.Ending{}
	for _, s := range all {
		i := slices.IndexFunc(s.Credentials, func(a admin.Credential) bool { return a.ID == e.Credential })
		if i >= 0 && s.Credentials[i].Ending != nil && s.Credentials[i].Ending.Record == e.Record {
			notes[s.ID] = s.Credentials[i].Ending
		}
	}
	return notes
}

func (e *ending) print(w io.Writer, set *statement.Set) error {
	if err := printDispatch(w, e.Report, set); err != nil {
		return err
	}
	t := table.New(w)
	fmt.Fprint(t, "\nCUSTODIAN\tVERSION\tFROZEN\tPROVIDER\tPROBE\tLAST POSSIBLE USE\n")
	at := func(x time.Time, otherwise string) string {
		if x.IsZero() {
			return otherwise
		}
		return x.UTC().Format("15:04:05.000Z")
	}
	for _, end := range e.Ends {
		if len(end.Versions) == 0 {
			terminal.Printf(t, "%s\tnone\t%s\t\t\tits ledger tells of no secret that it had\n", end.Custodian, at(end.Frozen, ""))
		}
		for _, v := range end.Versions {
			one := dispatch.End{Versions: []dispatch.Ended{v}}
			last, said := one.LastUse()
			until := "until it is ended at the provider by hand"
			if said {
				until = last.UTC().Format(time.RFC3339)
			}
			probe := "unproven"
			if !v.Proven.IsZero() {
				probe = "refused twice by " + at(v.Proven, "")
			}
			terminal.Printf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", end.Custodian, v.Lease, at(end.Frozen, ""), at(v.Provider, "not yet"), probe, until)
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for id, n := range e.Notes {
		if n.Note != "" {
			terminal.Printf(w, "%s: %s\n", id, n.Note)
		}
	}
	return nil
}

// verdict is the exit status.
func (e *ending) verdict() error {
	var open []string
	for _, end := range e.Ends {
		if !end.Proved() && len(end.Versions) > 0 {
			open = append(open, end.Custodian)
		}
	}
	switch {
	case !e.All():
		return &exitError{exitUndecided, fmt.Errorf("not every custodian is known to have record %.16s in force", e.Record)}
	case len(open) > 0:
		return &exitError{exitUndecided, fmt.Errorf("%s is frozen everywhere, and not proven dead at %s", e.Credential, strings.Join(open, ", "))}
	}
	return nil
}
